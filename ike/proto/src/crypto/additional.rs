//! Additional key exchanges (RFC 9370): those that come after the one of RFC 7296, of which each has a secret of its
//! own. Whoever has to break the keys has to break all of them.

use std::fmt;

use zeroize::Zeroizing;

use super::kem::{self, MlKem};
use super::key_exchange::{KeyShare, Shared};
use super::{Group, KeyExchangeError};

/// How a secret is agreed: a group, or a key encapsulation mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyExchangeMethod {
    /// Diffie-Hellman.
    Group(Group),
    /// ML-KEM (FIPS 203).
    MlKem(MlKem),
}

impl KeyExchangeMethod {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        MlKem::ALL.map(Self::MlKem).into_iter().chain(Group::ALL.map(Self::Group))
    }

    /// The transform's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::Group(group) => group.id(),
            Self::MlKem(kem) => kem.id(),
        }
    }

    /// The method with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::all().find(|method| method.id() == id)
    }

    /// strongSwan's keyword, without the place in front.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Group(group) => group.keyword(),
            Self::MlKem(kem) => kem.keyword(),
        }
    }
}

/// The additional key exchanges of an SA by their places 1 to 7, which are the order in which they are done; a place may
/// be left empty (RFC 9370 section 2.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct AdditionalMethods([Option<KeyExchangeMethod>; Self::PLACES]);

impl AdditionalMethods {
    /// How many there may be.
    pub const PLACES: usize = 7;

    /// With these methods in these places.
    pub const fn new(places: [Option<KeyExchangeMethod>; Self::PLACES]) -> Self {
        Self(places)
    }

    /// By place.
    pub const fn places(&self) -> &[Option<KeyExchangeMethod>; Self::PLACES] {
        &self.0
    }

    /// In their order.
    pub fn iter(&self) -> impl Iterator<Item = KeyExchangeMethod> {
        self.0.iter().copied().flatten()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }
}

/// As strongSwan spells it, with a dash in front of each: `-ke1_mlkem768`.
impl fmt::Display for AdditionalMethods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = (1..).zip(self.0);
        places
            .filter_map(|(place, method)| Some((place, method?)))
            .try_for_each(|(place, method)| write!(f, "-ke{place}_{}", method.keyword()))
    }
}

/// Our half of an additional key exchange that we ask for.
pub struct AdditionalShare(Half);

enum Half {
    Group(KeyShare),
    MlKem(kem::Share),
}

impl AdditionalShare {
    /// A new one. `random` is for groups; AWS-LC draws the keys of ML-KEM from its own generator.
    ///
    /// # Errors
    /// [`KeyExchangeError`]: AWS-LC has no randomness to give.
    pub fn generate(
        method: KeyExchangeMethod,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Self, KeyExchangeError> {
        Ok(Self(match method {
            KeyExchangeMethod::Group(group) => Half::Group(KeyShare::generate(group, random)),
            KeyExchangeMethod::MlKem(kem) => Half::MlKem(kem::Share::generate(kem)?),
        }))
    }

    /// The method.
    pub fn method(&self) -> KeyExchangeMethod {
        match &self.0 {
            Half::Group(share) => KeyExchangeMethod::Group(share.group()),
            Half::MlKem(share) => KeyExchangeMethod::MlKem(share.kem()),
        }
    }

    /// The data of the Key Exchange payload of the request.
    pub fn public(&self) -> &[u8] {
        match &self.0 {
            Half::Group(share) => share.public(),
            Half::MlKem(share) => share.public(),
        }
    }

    /// The secret, from the data of the Key Exchange payload of the response.
    ///
    /// # Errors
    /// [`KeyExchangeError`]: it is not what the method wants.
    pub fn agree(&self, peer: &[u8]) -> Result<Shared, KeyExchangeError> {
        match &self.0 {
            Half::Group(share) => share.agree(peer),
            Half::MlKem(share) => share.agree(peer),
        }
    }

    pub(super) fn private(&self) -> &[u8] {
        match &self.0 {
            Half::Group(share) => share.private(),
            Half::MlKem(share) => share.private(),
        }
    }

    /// The share with this private value, if it is one.
    pub(super) fn from_private(method: KeyExchangeMethod, octets: &[u8]) -> Option<Self> {
        Some(Self(match method {
            KeyExchangeMethod::Group(group) => Half::Group(KeyShare::from_private(group, octets)?),
            KeyExchangeMethod::MlKem(kem) => Half::MlKem(kem::Share::from_private(kem, octets)?),
        }))
    }
}

impl fmt::Debug for AdditionalShare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdditionalShare({}, redacted)", self.method().keyword())
    }
}

/// Answers an additional key exchange: the data of the response's Key Exchange payload, and the secret.
///
/// # Errors
/// [`KeyExchangeError`]: the data of the request is not what the method wants.
pub fn answer(
    method: KeyExchangeMethod,
    peer: &[u8],
    random: &mut dyn FnMut(&mut [u8]),
) -> Result<(Vec<u8>, Shared), KeyExchangeError> {
    match method {
        KeyExchangeMethod::Group(group) => {
            let share = KeyShare::generate(group, random);
            let shared = share.agree(peer)?;
            Ok((share.public().to_vec(), shared))
        }
        KeyExchangeMethod::MlKem(kem) => kem::answer(kem, peer),
    }
}

/// The secrets of additional key exchanges so far, in their order (SK(1), SK(2)... of RFC 9370 section 2.2.4).
#[derive(Default)]
pub struct AdditionalSecrets(Zeroizing<Vec<u8>>);

impl AdditionalSecrets {
    /// Adds that of the next one.
    pub fn push(&mut self, shared: &Shared) {
        // Octets that grow leave copies behind.
        let mut longer = Zeroizing::new(Vec::with_capacity(self.0.len() + shared.expose().len()));
        longer.extend_from_slice(&self.0);
        longer.extend_from_slice(shared.expose());
        self.0 = longer;
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn from_octets(octets: &[u8]) -> Self {
        Self(Zeroizing::new(octets.to_vec()))
    }
}

impl fmt::Debug for AdditionalSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdditionalSecrets(redacted)")
    }
}
