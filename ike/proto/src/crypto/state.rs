//! Keys at rest: sealed, for contexts.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use thiserror::Error;
use zeroize::Zeroizing;

use super::crash::CrashSecret;
use super::prf::Secret;
use super::ticket::TicketKey;
use super::{
    AdditionalMethods, AdditionalSecrets, AdditionalShare, ChildKeys, Encryption, Group, IkeKeys, IkeSuite,
    Integrity, KeyExchangeMethod, KeyShare, Prf,
};

/// What keys are sealed under. Every seal has a key of its own, made from this one and a random salt, so that the
/// number of seals is not bounded by the 96-bit nonces of AES-GCM.
pub struct WrapKey(Zeroizing<[u8; 32]>);

impl fmt::Debug for WrapKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrapKey(redacted)")
    }
}

/// Sealed keys that do not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum OpenStateError {
    /// Another wrap key, another context around it, or damage.
    #[error(
        "the keys were not sealed under this key and for this context, or are damaged; use the key file of the gateway that wrote them"
    )]
    Refused,
    /// Authentic, of a version or with algorithms that this one does not know.
    #[error("the keys are of another version of this program; use one at least as new as the writer's")]
    Unknown,
}

/// The length of a key for HKDF.
struct Octets32;

impl KeyType for Octets32 {
    fn len(&self) -> usize {
        32
    }
}

const SALT: usize = 32;
const TAG: usize = 16;
/// What the octets inside begin with, so that one kind is never taken for the other.
const IKE_KEYS: u8 = 1;
const KEY_SHARE: u8 = 2;
const CHILD_KEYS: u8 = 3;
/// As the first, of a suite with additional key exchanges.
const ADDITIONAL_IKE_KEYS: u8 = 4;
const ADDITIONAL_SHARE: u8 = 5;
const ADDITIONAL_SECRETS: u8 = 6;

impl WrapKey {
    /// A key of full entropy.
    pub fn new(key: [u8; 32]) -> Self {
        Self(Zeroizing::new(key))
    }

    /// A key for one purpose from a secret of full entropy (HKDF-SHA256, RFC 5869).
    ///
    /// # Panics
    /// Never: 32 octets are within what HKDF gives.
    pub fn derive(secret: &[u8], purpose: &str) -> Self {
        Self(expand(&[], secret, purpose.as_bytes()))
    }

    pub(super) fn octets(&self) -> &[u8; 32] {
        &self.0
    }

    /// What tickets are sealed under where no keys are configured for that: whoever has this key opens them.
    pub fn ticket_key(&self) -> TicketKey {
        TicketKey::new(&*self.0)
    }

    /// What tokens of quick crash detection are made from: whoever has the key makes the same ones (RFC 6290 section 6).
    ///
    /// # Panics
    /// Never: 32 octets are within what HKDF gives.
    pub fn crash_secret(&self) -> CrashSecret {
        CrashSecret::new(expand(&[], &*self.0, b"baton ike crash token"))
    }

    /// `salt | ciphertext | tag`.
    pub(super) fn seal(
        &self,
        associated: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
        mut inside: Secret,
    ) -> Vec<u8> {
        let mut salt = [0; SALT];
        random(&mut salt);
        let tag = self
            .cipher(&salt)
            .seal_in_place_separate_tag(zero_nonce(), Aad::from(associated), &mut inside)
            .expect("short");
        [&salt[..], &inside, tag.as_ref()].concat()
    }

    pub(super) fn open(&self, associated: &[u8], sealed: &[u8]) -> Result<Secret, OpenStateError> {
        let (salt, rest) = sealed.split_at_checked(SALT).ok_or(OpenStateError::Refused)?;
        let mut inside = Zeroizing::new(rest.to_vec());
        let length = rest.len().saturating_sub(TAG);
        self.cipher(salt)
            .open_in_place(zero_nonce(), Aad::from(associated), &mut inside)
            .map_err(|_| OpenStateError::Refused)?;
        inside.truncate(length);
        Ok(inside)
    }

    fn cipher(&self, salt: &[u8]) -> LessSafeKey {
        let key = expand(salt, &*self.0, b"baton ike keys");
        LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*key).expect("32 octets"))
    }
}

fn expand(salt: &[u8], secret: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    let made = Salt::new(HKDF_SHA256, salt).extract(secret);
    let made = made.expand(&[info], Octets32).and_then(|okm| okm.fill(&mut *key));
    made.expect("32 octets are within HKDF's bounds");
    key
}

/// Each key seals once.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

/// What is sealed. Out of others' reach: keys leave [`super`] sealed only.
mod plain {
    use super::Secret;

    pub trait PlainState {
        /// A kind, that no other keys have, and the keys.
        fn plain(&self) -> Secret;

        /// What [`Self::plain`] gave; `None` of anything else.
        fn from_plain(octets: &[u8]) -> Option<Self>
        where
            Self: Sized;
    }
}
pub(super) use plain::PlainState;

/// Keys that contexts have, sealed.
pub trait SealedState: PlainState {
    /// The keys, sealed together with `associated`, which has to be there again to open them.
    fn seal_state(&self, wrap: &WrapKey, associated: &[u8], random: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
        wrap.seal(associated, random, self.plain())
    }

    /// Opens what [`Self::seal_state`] gave.
    ///
    /// # Errors
    /// [`OpenStateError`].
    fn open_state(wrap: &WrapKey, associated: &[u8], sealed: &[u8]) -> Result<Self, OpenStateError>
    where
        Self: Sized,
    {
        let inside = wrap.open(associated, sealed)?;
        Self::from_plain(&inside).ok_or(OpenStateError::Unknown)
    }
}

impl<T: PlainState> SealedState for T {}

impl PlainState for IkeKeys {
    fn plain(&self) -> Secret {
        let suite = self.suite();
        let kind = if suite.additional.is_empty() { IKE_KEYS } else { ADDITIONAL_IKE_KEYS };
        let mut head = vec![kind];
        head.extend_from_slice(&suite_octets(suite));
        if kind == ADDITIONAL_IKE_KEYS {
            head.extend_from_slice(&additional_octets(suite.additional));
        }
        joined(&[&head, self.material()])
    }

    fn from_plain(octets: &[u8]) -> Option<Self> {
        let (head, rest) = octets.split_first_chunk::<11>()?;
        let suite = suite_from(&head[1..])?;
        let (additional, material) = match head[0] {
            IKE_KEYS => (AdditionalMethods::default(), rest),
            ADDITIONAL_IKE_KEYS => {
                let (additional, material) = rest.split_first_chunk::<ADDITIONAL>()?;
                (additional_from(additional)?, material)
            }
            _ => return None,
        };
        Self::from_material(IkeSuite { additional, ..suite }, Zeroizing::new(material.to_vec()))
    }
}

impl PlainState for KeyShare {
    fn plain(&self) -> Secret {
        joined(&[&[KEY_SHARE], &self.group().id().to_be_bytes(), self.private()])
    }

    fn from_plain(octets: &[u8]) -> Option<Self> {
        let (group, private) = numbered(KEY_SHARE, octets)?;
        Self::from_private(Group::from_id(group)?, private)
    }
}

impl PlainState for ChildKeys {
    fn plain(&self) -> Secret {
        joined(&[&[CHILD_KEYS], self.initiator_to_responder.expose(), self.responder_to_initiator.expose()])
    }

    fn from_plain(octets: &[u8]) -> Option<Self> {
        let material = of_kind(CHILD_KEYS, octets)?;
        material.len().is_multiple_of(2).then(|| Self::split(material))
    }
}

impl PlainState for AdditionalShare {
    fn plain(&self) -> Secret {
        joined(&[&[ADDITIONAL_SHARE], &self.method().id().to_be_bytes(), self.private()])
    }

    fn from_plain(octets: &[u8]) -> Option<Self> {
        let (method, private) = numbered(ADDITIONAL_SHARE, octets)?;
        Self::from_private(KeyExchangeMethod::from_id(method)?, private)
    }
}

impl PlainState for AdditionalSecrets {
    fn plain(&self) -> Secret {
        joined(&[&[ADDITIONAL_SECRETS], self.expose()])
    }

    fn from_plain(octets: &[u8]) -> Option<Self> {
        of_kind(ADDITIONAL_SECRETS, octets).map(Self::from_octets)
    }
}

/// What follows the kind, if it is this one.
pub(super) fn of_kind(kind: u8, octets: &[u8]) -> Option<&[u8]> {
    octets.split_first().filter(|(first, _)| **first == kind).map(|(_, rest)| rest)
}

/// As [`of_kind`], a number of 16 bits, and what follows that.
fn numbered(kind: u8, octets: &[u8]) -> Option<(u16, &[u8])> {
    let (number, rest) = of_kind(kind, octets)?.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), rest))
}

/// Of their final length from the start: growing would leave copies of the secrets behind.
pub(super) fn joined(parts: &[&[u8]]) -> Secret {
    let mut inside = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len()).sum()));
    for part in parts {
        inside.extend_from_slice(part);
    }
    inside
}

/// Octets of the additional key exchanges.
const ADDITIONAL: usize = 2 * AdditionalMethods::PLACES;

/// By place, 0 where there is none: 16 bits each.
fn additional_octets(additional: AdditionalMethods) -> Vec<u8> {
    let id = |method: &Option<KeyExchangeMethod>| method.map_or(0, KeyExchangeMethod::id).to_be_bytes();
    additional.places().iter().flat_map(id).collect()
}

fn additional_from(octets: &[u8; ADDITIONAL]) -> Option<AdditionalMethods> {
    let mut places = [None; AdditionalMethods::PLACES];
    for (place, octets) in places.iter_mut().zip(octets.chunks_exact(2)) {
        let id = u16::from_be_bytes([octets[0], octets[1]]);
        *place = if id == 0 { None } else { Some(KeyExchangeMethod::from_id(id)?) };
    }
    Some(AdditionalMethods::new(places))
}

/// All algorithms of an IKE SA.
pub(super) fn write_suite(suite: IkeSuite) -> Vec<u8> {
    [&suite_octets(suite)[..], &additional_octets(suite.additional)].concat()
}

/// What [`write_suite`] wrote, and the octets behind it.
pub(super) fn read_suite(octets: &[u8]) -> Option<(IkeSuite, &[u8])> {
    let (suite, rest) = octets.split_at_checked(10)?;
    let (additional, rest) = rest.split_first_chunk::<ADDITIONAL>()?;
    Some((IkeSuite { additional: additional_from(additional)?, ..suite_from(suite)? }, rest))
}

/// Encryption, its key length, integrity (0 is none), PRF, group: 16 bits each.
fn suite_octets(suite: IkeSuite) -> [u8; 10] {
    let integrity = suite.integrity.map_or(0, Integrity::id);
    let key_length = suite.encryption.key_length_attribute().unwrap_or(0);
    let numbers = [suite.encryption.id(), key_length, integrity, suite.prf.id(), suite.group.id()];
    let mut octets = [0; 10];
    octets
        .chunks_exact_mut(2)
        .zip(numbers)
        .for_each(|(to, number)| to.copy_from_slice(&number.to_be_bytes()));
    octets
}

fn suite_from(octets: &[u8]) -> Option<IkeSuite> {
    let number = |at: usize| Some(u16::from_be_bytes([*octets.get(2 * at)?, *octets.get(2 * at + 1)?]));
    let key_length = Some(number(1)?).filter(|length| *length != 0);
    let encryption = Encryption::from_id(number(0)?, key_length)?;
    let integrity = match number(2)? {
        0 => None,
        id => Some(Integrity::from_id(id)?),
    };
    let is_whole = integrity.is_none() == encryption.is_aead();
    let (prf, group) = (Prf::from_id(number(3)?)?, Group::from_id(number(4)?)?);
    let additional = AdditionalMethods::default();
    is_whole.then_some(IkeSuite { encryption, integrity, prf, group, additional })
}
