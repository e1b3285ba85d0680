//! Offers, choices and answers (RFC 7296 sections 2.7, 3.3 and 3.3.6).

use super::{Additional, AnswerError, EspEncryption, EspIntegrity, EspProposal, EspSuite, IkeProposal};
use crate::crypto::{AdditionalMethods, Encryption, Group, IkeSuite, Integrity, KeyExchangeMethod, Prf};
use crate::wire::{Proposal, ProtocolId, Transform, TransformType};

/// "No algorithm" of the types that know it: integrity, key exchange.
const NONE: u16 = 0;
const NO_EXTENDED_SEQUENCE: u16 = 0;
const EXTENDED_SEQUENCE: u16 = 1;
/// Types of additional key exchanges, by their places (RFC 9370 section 2.2.1).
const ADDITIONAL: [TransformType; AdditionalMethods::PLACES] = [
    TransformType::ADDKE1,
    TransformType::ADDKE2,
    TransformType::ADDKE3,
    TransformType::ADDKE4,
    TransformType::ADDKE5,
    TransformType::ADDKE6,
    TransformType::ADDKE7,
];

/// What was chosen from an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected<S> {
    /// The algorithms.
    pub suite: S,
    /// The answer; its SPI is empty and for the caller to fill in.
    pub proposal: Proposal,
}

/// The offer of these proposals, in their order.
pub fn offer_ike(configured: &[IkeProposal], spi: &[u8]) -> Vec<Proposal> {
    offer(ProtocolId::IKE, configured.iter().map(IkeProposal::transforms), spi)
}

/// The offer of these proposals, in their order. In IKE_AUTH (without `with_group`) no key exchange is offered
/// (RFC 7296 section 1.2).
pub fn offer_esp(configured: &[EspProposal], spi: &[u8], with_group: bool) -> Vec<Proposal> {
    offer(ProtocolId::ESP, configured.iter().map(|proposal| proposal.transforms(with_group)), spi)
}

/// The first configured proposal that the offer has something of, with its most preferred algorithms; `None` is
/// NO_PROPOSAL_CHOSEN.
pub fn select_ike(configured: &[IkeProposal], offered: &[Proposal]) -> Option<Selected<IkeSuite>> {
    let configured = configured.iter().map(IkeProposal::transforms);
    select(ProtocolId::IKE, configured, offered, true, ike_suite)
}

/// As [`select_ike`]; in IKE_AUTH (without `with_group`) offered key exchanges are passed over.
pub fn select_esp(
    configured: &[EspProposal],
    offered: &[Proposal],
    with_group: bool,
) -> Option<Selected<EspSuite>> {
    let configured = configured.iter().map(|proposal| proposal.transforms(with_group));
    select(ProtocolId::ESP, configured, offered, with_group, esp_suite)
}

/// What the peer chose from [`offer_ike`] of the same proposals.
///
/// # Errors
/// [`AnswerError`]: it was not offered.
pub fn accept_ike(configured: &[IkeProposal], answer: &[Proposal]) -> Result<IkeSuite, AnswerError> {
    let answer = only(answer)?;
    let offered = configured.get(usize::from(answer.number).wrapping_sub(1));
    let offered = offered.map(IkeProposal::transforms);
    accept(ProtocolId::IKE, offered, answer, ike_suite)
}

/// What the peer chose from [`offer_esp`] of the same proposals.
///
/// # Errors
/// [`AnswerError`]: it was not offered.
pub fn accept_esp(
    configured: &[EspProposal],
    answer: &[Proposal],
    with_group: bool,
) -> Result<EspSuite, AnswerError> {
    let answer = only(answer)?;
    let offered = configured.get(usize::from(answer.number).wrapping_sub(1));
    let offered = offered.map(|proposal| proposal.transforms(with_group));
    accept(ProtocolId::ESP, offered, answer, esp_suite)
}

/// Whether one of these proposals would give these algorithms.
pub fn accepts_ike(configured: &[IkeProposal], suite: IkeSuite) -> bool {
    configured.iter().any(|proposal| proposal.gives(suite))
}

impl IkeProposal {
    fn gives(&self, suite: IkeSuite) -> bool {
        let integrity = match suite.integrity {
            Some(integrity) => self.integrity.contains(&integrity),
            None => self.integrity.is_empty(),
        };
        let mut places = self.additional.iter().zip(suite.additional.places());
        let additional = |(ours, chosen): (&Vec<Option<KeyExchangeMethod>>, &Option<KeyExchangeMethod>)| {
            ours.contains(chosen) || (ours.is_empty() && chosen.is_none())
        };
        self.encryption.contains(&suite.encryption)
            && integrity
            && self.prf.contains(&suite.prf)
            && self.groups.contains(&suite.group)
            && places.all(additional)
    }

    /// By type, then by preference.
    fn transforms(&self) -> Vec<Transform> {
        let encryption = self.encryption.iter().map(|a| encryption(a.id(), a.key_length_attribute()));
        let integrity = self.integrity.iter().map(|a| Transform::new(TransformType::INTEG, a.id(), None));
        let prf = self.prf.iter().map(|a| Transform::new(TransformType::PRF, a.id(), None));
        let groups = self.groups.iter().map(|a| key_exchange(Some(*a)));
        let additional = additional(&self.additional);
        encryption.chain(integrity).chain(prf).chain(groups).chain(additional).collect()
    }
}

/// By place, then by preference.
fn additional(methods: &Additional) -> impl Iterator<Item = Transform> {
    let of_place = |(kind, methods): (TransformType, &Vec<Option<KeyExchangeMethod>>)| {
        let id = |method: &Option<KeyExchangeMethod>| method.map_or(NONE, KeyExchangeMethod::id);
        methods.iter().map(|method| Transform::new(kind, id(method), None)).collect::<Vec<_>>()
    };
    ADDITIONAL.into_iter().zip(methods).flat_map(of_place)
}

impl EspProposal {
    fn transforms(&self, with_group: bool) -> Vec<Transform> {
        let encryption =
            self.encryption.iter().map(|a| encryption(a.cipher().id(), a.key_length_attribute()));
        let integrity = self.integrity.iter().map(|a| Transform::new(TransformType::INTEG, a.id(), None));
        let groups = self.groups.iter().filter(|_| with_group).map(|a| key_exchange(*a));
        let sequence = self.extended_sequence.iter().map(|a| {
            let id = if *a { EXTENDED_SEQUENCE } else { NO_EXTENDED_SEQUENCE };
            Transform::new(TransformType::ESN, id, None)
        });
        let additional = additional(&self.additional).filter(|_| with_group);
        encryption.chain(integrity).chain(groups).chain(additional).chain(sequence).collect()
    }
}

fn encryption(id: u16, key_length: Option<u16>) -> Transform {
    Transform::new(TransformType::ENCR, id, key_length)
}

fn key_exchange(group: Option<Group>) -> Transform {
    Transform::new(TransformType::KE, group.map_or(NONE, Group::id), None)
}

fn is_none(transform: Transform) -> bool {
    (transform.kind == TransformType::INTEG || is_key_exchange(transform.kind)) && transform.id == NONE
}

/// Key exchanges, the additional ones included.
fn is_key_exchange(kind: TransformType) -> bool {
    kind == TransformType::KE || ADDITIONAL.contains(&kind)
}

fn offer(
    protocol: ProtocolId,
    configured: impl Iterator<Item = Vec<Transform>>,
    spi: &[u8],
) -> Vec<Proposal> {
    let proposal = |(number, mut transforms): (u8, Vec<Transform>)| {
        // Where there is nothing but "none" to choose, the type is left out (RFC 7296 section 3.3.3).
        let of: Vec<_> = transforms.iter().filter(|t| !is_none(**t)).map(|t| t.kind).collect();
        transforms.retain(|t| !is_key_exchange(t.kind) || of.contains(&t.kind));
        Proposal { number, protocol, spi: spi.to_vec(), transforms }
    };
    (1..=u8::MAX).zip(configured).map(proposal).collect()
}

fn select<S>(
    protocol: ProtocolId,
    configured: impl Iterator<Item = Vec<Transform>>,
    offered: &[Proposal],
    with_group: bool,
    suite: fn(&[Transform]) -> Option<S>,
) -> Option<Selected<S>> {
    let of = |ours: &[Transform], theirs: &Proposal| {
        let transforms =
            (theirs.protocol == protocol).then(|| choose(ours, &theirs.transforms, with_group))??;
        let proposal = Proposal { number: theirs.number, protocol, spi: Vec::new(), transforms };
        Some(Selected { suite: suite(&proposal.transforms)?, proposal })
    };
    configured.into_iter().find_map(|ours| offered.iter().find_map(|theirs| of(&ours, theirs)))
}

/// Nothing that both sides have.
struct Disagreement;

/// One transform of each type that either side has, by our preference; none of a type for which that means none. Types
/// that we do not know make a proposal unacceptable (RFC 7296 section 3.3.6).
fn choose(ours: &[Transform], theirs: &[Transform], with_group: bool) -> Option<Vec<Transform>> {
    if theirs.iter().any(|transform| transform.kind.name().is_none()) {
        return None;
    }
    let mut kinds: Vec<TransformType> = ours.iter().chain(theirs).map(|transform| transform.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut chosen = Vec::new();
    for kind in kinds {
        let of_kind = |transforms: &[Transform]| -> Vec<Transform> {
            transforms.iter().filter(|transform| transform.kind == kind).copied().collect()
        };
        match kind {
            kind if is_key_exchange(kind) && !with_group => {}
            // No method serves twice: breaking it once would be enough.
            kind if is_key_exchange(kind) => {
                let ours = of_kind(ours);
                let new: Vec<_> =
                    ours.iter().filter(|t| is_none(**t) || !has_method(&chosen, t.id)).copied().collect();
                if new.is_empty() && !ours.is_empty() {
                    return None;
                }
                chosen.extend(choose_one(&new, &of_kind(theirs)).ok()?);
            }
            // Next to an AEAD of ours any offered integrity algorithm is passed over: some peers offer both kinds of
            // ciphers in one proposal, against RFC 7296 section 3.3.
            TransformType::INTEG if of_kind(ours).is_empty() => {}
            _ => chosen.extend(choose_one(&of_kind(ours), &of_kind(theirs)).ok()?),
        }
    }
    Some(chosen)
}

fn has_method(chosen: &[Transform], id: u16) -> bool {
    chosen.iter().any(|transform| is_key_exchange(transform.kind) && transform.id == id)
}

/// `None` is agreement on none.
fn choose_one(ours: &[Transform], theirs: &[Transform]) -> Result<Option<Transform>, Disagreement> {
    let allows_none = |list: &[Transform]| list.is_empty() || list.iter().copied().any(is_none);
    let agreed =
        |transform: &&Transform| theirs.contains(transform) || (is_none(**transform) && allows_none(theirs));
    match ours.iter().find(agreed) {
        Some(transform) => Ok((!is_none(*transform)).then_some(*transform)),
        None if ours.is_empty() && allows_none(theirs) => Ok(None),
        None => Err(Disagreement),
    }
}

fn only(answer: &[Proposal]) -> Result<&Proposal, AnswerError> {
    match answer {
        [answer] => Ok(answer),
        _ => Err(AnswerError::Count(answer.len())),
    }
}

/// One transform of each type, each of them ours.
fn accept<S>(
    protocol: ProtocolId,
    offered: Option<Vec<Transform>>,
    answer: &Proposal,
    suite: fn(&[Transform]) -> Option<S>,
) -> Result<S, AnswerError> {
    let mut rest: Vec<Transform> = answer.transforms.clone();
    rest.retain(|transform| !is_none(*transform));
    let offered = offered.filter(|_| answer.protocol == protocol).ok_or(AnswerError::NotOffered)?;
    let chosen = choose(&offered, &rest, true).ok_or(AnswerError::NotOffered)?;
    if chosen.len() != rest.len() {
        return Err(AnswerError::NotOffered);
    }
    suite(&chosen).ok_or(AnswerError::NotOffered)
}

/// The one transform of a type.
fn one(transforms: &[Transform], kind: TransformType) -> Option<Transform> {
    transforms.iter().find(|transform| transform.kind == kind).copied()
}

fn ike_suite(transforms: &[Transform]) -> Option<IkeSuite> {
    let encryption = one(transforms, TransformType::ENCR)?;
    let encryption = Encryption::from_id(encryption.id, encryption.key_length)?;
    let integrity = one(transforms, TransformType::INTEG).and_then(|t| Integrity::from_id(t.id));
    let prf = Prf::from_id(one(transforms, TransformType::PRF)?.id)?;
    let group = Group::from_id(one(transforms, TransformType::KE)?.id)?;
    let additional = additional_methods(transforms)?;
    let is_whole = integrity.is_none() == encryption.is_aead();
    is_whole.then_some(IkeSuite { encryption, integrity, prf, group, additional })
}

fn esp_suite(transforms: &[Transform]) -> Option<EspSuite> {
    let encryption = one(transforms, TransformType::ENCR)?;
    let encryption = EspEncryption::from_id(encryption.id, encryption.key_length)?;
    let integrity = one(transforms, TransformType::INTEG).and_then(|t| EspIntegrity::from_id(t.id));
    let extended_sequence = one(transforms, TransformType::ESN)?.id == EXTENDED_SEQUENCE;
    let group = one(transforms, TransformType::KE).and_then(|t| Group::from_id(t.id));
    let is_whole = integrity.is_none() == encryption.cipher().is_aead();
    let additional = additional_methods(transforms)?;
    let is_whole = is_whole && (group.is_some() || additional.is_empty());
    is_whole.then_some(EspSuite { encryption, integrity, extended_sequence, group, additional })
}

fn additional_methods(transforms: &[Transform]) -> Option<AdditionalMethods> {
    let mut places = [None; AdditionalMethods::PLACES];
    for (place, kind) in places.iter_mut().zip(ADDITIONAL) {
        *place = match one(transforms, kind) {
            Some(transform) => Some(KeyExchangeMethod::from_id(transform.id)?),
            None => None,
        };
    }
    Some(AdditionalMethods::new(places))
}
