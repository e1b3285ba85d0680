//! A pair of Child SAs that we ask for (RFC 7296 sections 1.2, 1.3.1, 1.3.3, 2.9).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::child_sa::{ChildSa, Outbound, Stage};
use super::core::Cx;
use super::head::{Head, Wanted};
use super::ike_rekey::wanted_group;
use super::init_sent::key_exchange;
use super::lifetime;
use super::message::{Message, flag};
use crate::configuration::{Child, Mode};
use crate::crypto::{AdditionalSecrets, ChildKeys, Group, IkeKeys, KeyShare, Role, Shared};
use crate::proposal::{accept_esp, offer_esp};
use crate::selector::{self, ConfiguredSelector, TrafficSelector};
use crate::wire::{NotifyType, Payload, Proposal};

/// Answers that ask for another group, before the offer is given up.
const MAX_DETOURS: u32 = 2;
/// A peer has no reason to delete more pairs that we do not know.
const MAX_GONE: usize = 8;

/// What `dynamic` stands for on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dynamic {
    pub(super) local: Vec<IpAddr>,
    pub(super) remote: Vec<IpAddr>,
}

/// A pair of Child SAs that we ask for.
pub(super) struct ChildOffer {
    pub(super) child: Arc<Child>,
    pub(super) reqid: u32,
    pub(super) spi: u32,
    /// Ours in this exchange.
    pub(super) nonce: Vec<u8>,
    /// For perfect forward secrecy; never in IKE_AUTH.
    pub(super) share: Option<KeyShare>,
    pub(super) local: Vec<TrafficSelector>,
    pub(super) remote: Vec<TrafficSelector>,
    pub(super) mode: Mode,
    /// Whether it is part of IKE_AUTH, where no group is offered.
    pub(super) is_first: bool,
    /// How often the peer has asked for another group.
    pub(super) detours: u32,
    /// SPIs that the peer has deleted meanwhile and that we do not know: one of them may be the answer's, which is
    /// still on its way.
    pub(super) gone: Vec<u32>,
    /// Of its additional key exchanges.
    pub(super) additional: AdditionalSecrets,
}

/// An answer to an offer that cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// The peer has refused.
    Refused(NotifyType),
    /// The peer has made a pair that we do not want: it has to be deleted.
    Delete(String),
    /// The peer has made a pair and deleted it before we heard of it.
    Gone,
}

/// A pair that the peer has agreed to, and its keys.
pub(super) type Agreed = (ChildSa, ChildKeys);

impl ChildOffer {
    /// An offer of what is configured.
    pub(super) fn new(
        cx: &mut Cx,
        segment: u8,
        child: &Arc<Child>,
        reqid: u32,
        sides: (Vec<TrafficSelector>, Vec<TrafficSelector>),
    ) -> Self {
        Self {
            child: Arc::clone(child),
            reqid,
            spi: cx.esp_spi(segment),
            nonce: cx.nonce(),
            share: None,
            local: sides.0,
            remote: sides.1,
            mode: child.mode,
            is_first: false,
            detours: 0,
            gone: Vec::new(),
            additional: AdditionalSecrets::default(),
        }
    }

    /// With a key exchange, if one is configured.
    pub(super) fn with_key_exchange(mut self, cx: &mut Cx) -> Self {
        let group = self.child.esp_proposals.first().and_then(|proposal| *proposal.groups().first()?);
        self.share = group.map(|group| KeyShare::generate(group, &mut |octets| cx.host.random(octets)));
        self
    }

    /// The same with the group that the peer asks for by INVALID_KE_PAYLOAD, if we offer it and the peer has not asked
    /// too often; otherwise the offer as it was.
    pub(super) fn with_other_group(mut self, cx: &mut Cx, message: &Message) -> Result<Self, Box<Self>> {
        let is_offered =
            |group: &Group| self.child.esp_proposals.iter().any(|p| p.groups().contains(&Some(*group)));
        let is_new = |group: &Group| self.share.as_ref().is_none_or(|share| share.group() != *group);
        let group = wanted_group(message).filter(|group| is_offered(group) && is_new(group));
        let Some(group) = group.filter(|_| self.detours < MAX_DETOURS) else { return Err(Box::new(self)) };
        self.detours += 1;
        self.nonce = cx.nonce();
        self.share = Some(KeyShare::generate(group, &mut |octets| cx.host.random(octets)));
        Ok(self)
    }

    /// The peer has deleted a pair that we do not know.
    pub(super) fn note_gone(&mut self, spi: u32) {
        if self.gone.len() < MAX_GONE {
            self.gone.push(spi);
        }
    }

    /// What it was for.
    pub(super) fn wanted(&self) -> Wanted {
        Wanted { child: Arc::clone(&self.child), reqid: Some(self.reqid) }
    }

    /// SA, TSi, TSr and what belongs to them, as IKE_AUTH has them (RFC 7296 section 1.2).
    pub(super) fn first_payloads(&self) -> Vec<Payload> {
        let mut payloads = vec![Payload::SecurityAssociation(offer_esp(
            &self.child.esp_proposals,
            &self.spi.to_be_bytes(),
            false,
        ))];
        payloads.extend(self.selectors());
        payloads
    }

    /// The same with nonce and key exchange, as CREATE_CHILD_SA has them (RFC 7296 section 1.3).
    pub(super) fn payloads(&self) -> Vec<Payload> {
        let mut payloads = vec![Payload::SecurityAssociation(offer_esp(
            &self.child.esp_proposals,
            &self.spi.to_be_bytes(),
            true,
        ))];
        payloads.push(Payload::Nonce(self.nonce.clone()));
        payloads.extend(self.share.iter().map(key_exchange));
        payloads.extend(self.selectors());
        payloads
    }

    fn selectors(&self) -> Vec<Payload> {
        let mut payloads = vec![
            Payload::TrafficSelectorsInitiator(to_wire(&self.local)),
            Payload::TrafficSelectorsResponder(to_wire(&self.remote)),
        ];
        if self.mode == Mode::Transport {
            payloads.push(flag(NotifyType::USE_TRANSPORT_MODE));
        }
        payloads
    }

    /// The pair that the answer makes. `keys` are the IKE SA's, `nonces` those of the exchange.
    pub(super) fn accept(
        &self,
        cx: &mut Cx,
        keys: &IkeKeys,
        message: &Message,
        nonces: (&[u8], &[u8]),
        (head, dynamic): (&Head, &Dynamic),
    ) -> Result<Agreed, Unusable> {
        let Some(proposals) = &message.proposals else {
            let kind = message.error().map_or(NotifyType::NO_PROPOSAL_CHOSEN, |error| error.kind);
            return Err(Unusable::Refused(kind));
        };
        let unusable = |problem: &str| Unusable::Delete(problem.to_owned());
        let suite = accept_esp(&self.child.esp_proposals, proposals, !self.is_first)
            .map_err(|error| Unusable::Delete(error.to_string()))?;
        let outbound_spi =
            proposals.first().and_then(esp_spi).ok_or_else(|| unusable("its SPI is impossible"))?;
        if self.gone.contains(&outbound_spi) {
            return Err(Unusable::Gone);
        }
        let shared = self.agree(suite.group, message)?;
        let mode = match message.has(NotifyType::USE_TRANSPORT_MODE) {
            true if self.mode == Mode::Tunnel => {
                return Err(unusable("it chose transport mode, which we did not offer"));
            }
            true => Mode::Transport,
            false => Mode::Tunnel,
        };
        let (local, remote) = self.narrowed(message, mode, (head, dynamic))?;
        let secrets = (shared.as_ref(), &self.additional);
        let child_keys = keys.child_keys_additionally(&suite, nonces, secrets);
        let agreed =
            Made { suite, mode, local, remote, inbound_spi: self.spi, outbound_spi, reqid: self.reqid };
        Ok((agreed.child_sa(cx, &self.child, Role::Initiator, message), child_keys))
    }

    /// The secret of the key exchange, if the chosen algorithms have one.
    fn agree(&self, group: Option<Group>, message: &Message) -> Result<Option<Shared>, Unusable> {
        let Some(group) = group else { return Ok(None) };
        let share = self.share.as_ref().filter(|share| share.group() == group);
        let public = message.key_exchange.as_ref().filter(|(id, _)| *id == group.id());
        let shared = share.zip(public).and_then(|(share, (_, public))| share.agree(public).ok());
        shared
            .map(Some)
            .ok_or_else(|| Unusable::Delete("its key exchange is not of the group it chose".to_owned()))
    }

    /// Before our inner address was known, everything was offered: of the answer we keep what is configured.
    fn within(
        &self,
        local: Vec<TrafficSelector>,
        dynamic: &Dynamic,
    ) -> Result<Vec<TrafficSelector>, Unusable> {
        if !self.is_first {
            return Ok(local);
        }
        let configured = resolve(&self.child.local, &dynamic.local);
        let common = |selector: &TrafficSelector| {
            configured.iter().filter_map(|other| selector.intersection(other)).collect::<Vec<_>>()
        };
        let local: Vec<_> = local.iter().flat_map(common).collect();
        let none = || {
            Unusable::Delete(
                "it gave no inner address, and no traffic of ours is left without one".to_owned(),
            )
        };
        if local.is_empty() { Err(none()) } else { Ok(local) }
    }

    /// The answer's selectors, if they are a part of ours; those of transport mode as they are on this side of NATs.
    fn narrowed(
        &self,
        message: &Message,
        mode: Mode,
        (head, dynamic): (&Head, &Dynamic),
    ) -> Result<(Vec<TrafficSelector>, Vec<TrafficSelector>), Unusable> {
        let local = from_wire(message.initiator_selectors.as_deref());
        let remote = from_wire(message.responder_selectors.as_deref());
        let (local, remote) = match mode {
            Mode::Transport => head.beyond_nat(local, remote),
            Mode::Tunnel => (local, remote),
        };
        let is_subset =
            |answer: &[_], offered: &[_]| !answer.is_empty() && selector::is_subset(answer, offered);
        if is_subset(&local, &self.local) && is_subset(&remote, &self.remote) {
            return self.within(local, dynamic).map(|local| (local, remote));
        }
        Err(Unusable::Delete("its traffic selectors are no part of ours".to_owned()))
    }
}

/// The SPI of a proposal for ESP; those up to 255 are reserved (RFC 4303 section 2.1).
pub(super) fn esp_spi(proposal: &Proposal) -> Option<u32> {
    let spi = u32::from_be_bytes(proposal.spi.as_slice().try_into().ok()?);
    (spi > 255).then_some(spi)
}

/// What two sides have agreed on.
pub(super) struct Made {
    pub(super) suite: crate::proposal::EspSuite,
    pub(super) mode: Mode,
    pub(super) local: Vec<TrafficSelector>,
    pub(super) remote: Vec<TrafficSelector>,
    pub(super) inbound_spi: u32,
    pub(super) outbound_spi: u32,
    pub(super) reqid: u32,
}

impl Made {
    pub(super) fn child_sa(self, cx: &mut Cx, child: &Arc<Child>, role: Role, message: &Message) -> ChildSa {
        ChildSa {
            reqid: self.reqid,
            inbound_spi: self.inbound_spi,
            outbound_spi: self.outbound_spi,
            suite: self.suite,
            mode: self.mode,
            local: self.local,
            remote: self.remote,
            role,
            no_tfc: message.has(NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED),
            outbound: Outbound::Installed,
            is_counted: false,
            stage: Stage::Live,
            ending: None,
            established: cx.now.unix,
            rekey_at: lifetime::randomized(cx, child.rekey_time, child.rand_time),
            expires_at: lifetime::after(cx, child.life_time),
            gap: 0,
            child: Arc::clone(child),
        }
    }
}

/// What is configured for one side, with what `dynamic` stands for; nothing configured is `dynamic`.
pub(super) fn resolve(configured: &[ConfiguredSelector], dynamic: &[IpAddr]) -> Vec<TrafficSelector> {
    if configured.is_empty() {
        return dynamic.iter().copied().map(TrafficSelector::host).collect();
    }
    configured.iter().flat_map(|selector| selector.resolve(dynamic)).collect()
}

/// Everything, in the families of addresses that are asked for but not known yet (RFC 7296 section 2.19).
pub(super) fn everything(asked: &[IpAddr]) -> Vec<TrafficSelector> {
    let v4 = TrafficSelector::range(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into());
    let v6 = TrafficSelector::range(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from([0xff; 16]).into());
    let has = |is_v4: bool| asked.iter().any(|address| address.is_ipv4() == is_v4);
    [(has(true), v4), (has(false), v6)].into_iter().filter(|(asked, _)| *asked).map(|(_, all)| all).collect()
}

pub(super) fn to_wire(selectors: &[TrafficSelector]) -> Vec<crate::wire::TrafficSelector> {
    selectors.iter().map(TrafficSelector::to_wire).collect()
}

/// Impossible ones are left out.
pub(super) fn from_wire(selectors: Option<&[crate::wire::TrafficSelector]>) -> Vec<TrafficSelector> {
    selectors.unwrap_or_default().iter().filter_map(TrafficSelector::from_wire).collect()
}
