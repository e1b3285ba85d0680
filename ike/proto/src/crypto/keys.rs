//! The keys of an IKE SA (RFC 7296 sections 2.14, 2.15, 2.17 and 2.18).

use std::fmt;
use std::ops::Range;

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::prf::{Secret, prf, prf_plus};
use super::{AdditionalSecrets, ChildKeys, IkeSuite, Prf, Shared};
use crate::proposal::EspSuite;

/// An end of an IKE SA (the flag I of RFC 7296 section 3.1 says which one sent a message), or of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// It asked: with IKE_SA_INIT or, of a rekeyed IKE SA, with CREATE_CHILD_SA.
    Initiator,
    /// It answered.
    Responder,
}

impl Role {
    /// The other one.
    #[must_use]
    pub const fn peer(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }
}

/// SK_d, SK_ai, SK_ar, SK_ei, SK_er, SK_pi and SK_pr of an IKE SA, and what is done with them.
pub struct IkeKeys {
    suite: IkeSuite,
    /// In the order of RFC 7296 section 2.14.
    material: Secret,
}

impl IkeKeys {
    /// The keys of a new IKE SA from the nonces, the shared secret and the SPIs (RFC 7296 section 2.14).
    pub fn derive(
        suite: IkeSuite,
        initiator_nonce: &[u8],
        responder_nonce: &[u8],
        shared: &Shared,
        initiator_spi: u64,
        responder_spi: u64,
    ) -> Self {
        let nonces = [initiator_nonce, responder_nonce].concat();
        let seed = first_seed(suite.prf, &nonces, shared);
        Self::expand(suite, &seed, &nonces, initiator_spi, responder_spi)
    }

    /// The keys of the IKE SA that takes the place of this one (RFC 7296 section 2.18). Nonces and SPIs are those of
    /// the rekeying exchange: its initiator need not be this IKE SA's.
    #[must_use]
    pub fn rekey(
        &self,
        suite: IkeSuite,
        shared: &Shared,
        initiator_nonce: &[u8],
        responder_nonce: &[u8],
        initiator_spi: u64,
        responder_spi: u64,
    ) -> Self {
        let secrets = (shared, &AdditionalSecrets::default());
        self.rekey_additionally(
            suite,
            secrets,
            (initiator_nonce, responder_nonce),
            (initiator_spi, responder_spi),
        )
    }

    /// The same after additional key exchanges (RFC 9370 section 2.2.4).
    #[must_use]
    pub fn rekey_additionally(
        &self,
        suite: IkeSuite,
        (shared, additional): (&Shared, &AdditionalSecrets),
        nonces: (&[u8], &[u8]),
        spis: (u64, u64),
    ) -> Self {
        let nonces = [nonces.0, nonces.1].concat();
        let seed = self.next_seed(&nonces, shared, additional);
        Self::expand(suite, &seed, &nonces, spis.0, spis.1)
    }

    /// The keys after an IKE_INTERMEDIATE exchange with a key exchange in it (RFC 9370 section 2.2.2). Nonces and SPIs
    /// are those of IKE_SA_INIT.
    #[must_use]
    pub fn after_intermediate(&self, shared: &Shared, nonces: (&[u8], &[u8]), spis: (u64, u64)) -> Self {
        self.rekey(self.suite, shared, nonces.0, nonces.1, spis.0, spis.1)
    }

    /// The same with a postquantum preshared key mixed into SK_d, SK_pi and SK_pr (RFC 8784 section 3).
    #[must_use]
    pub fn with_postquantum_key(&self, key: &[u8]) -> Self {
        let layout = Layout::of(self.suite);
        let mut material = self.material.clone();
        let mixed = [
            layout.derivation(),
            layout.authentication(Role::Initiator),
            layout.authentication(Role::Responder),
        ];
        for range in mixed {
            let fresh = prf_plus(self.suite.prf, key, &[&self.material[range.clone()]], layout.prf);
            material[range].copy_from_slice(&fresh);
        }
        Self { suite: self.suite, material }
    }

    /// SKEYSEED of the IKE SA that takes the place of this one.
    pub(super) fn next_seed(&self, nonces: &[u8], shared: &Shared, additional: &AdditionalSecrets) -> Secret {
        let seed = [shared.expose(), nonces, additional.expose()];
        prf(self.suite.prf, self.derivation_key(), &seed)
    }

    pub(super) fn expand(
        suite: IkeSuite,
        seed: &[u8],
        nonces: &[u8],
        initiator_spi: u64,
        responder_spi: u64,
    ) -> Self {
        let spis = [initiator_spi.to_be_bytes(), responder_spi.to_be_bytes()].concat();
        let material = prf_plus(suite.prf, seed, &[nonces, &spis], Layout::of(suite).length());
        Self { suite, material }
    }

    /// The algorithms.
    pub fn suite(&self) -> IkeSuite {
        self.suite
    }

    /// Whether a message needs an IV that was never used with any key of ours, and not an unpredictable one.
    pub fn needs_explicit_iv(&self) -> bool {
        self.suite.encryption.is_aead()
    }

    /// The keys of a pair of Child SAs (RFC 7296 section 2.17), with a shared secret of their own for perfect forward
    /// secrecy.
    pub fn child_keys(
        &self,
        suite: &EspSuite,
        initiator_nonce: &[u8],
        responder_nonce: &[u8],
        shared: Option<&Shared>,
    ) -> ChildKeys {
        let nonces = (initiator_nonce, responder_nonce);
        self.child_keys_additionally(suite, nonces, (shared, &AdditionalSecrets::default()))
    }

    /// The same after additional key exchanges (RFC 9370 section 2.2.4).
    pub fn child_keys_additionally(
        &self,
        suite: &EspSuite,
        nonces: (&[u8], &[u8]),
        (shared, additional): (Option<&Shared>, &AdditionalSecrets),
    ) -> ChildKeys {
        let shared = shared.map_or(&[][..], Shared::expose);
        let seed = [shared, nonces.0, nonces.1, additional.expose()];
        let length = suite.key_length();
        ChildKeys::split(&prf_plus(self.suite.prf, self.derivation_key(), &seed, 2 * length))
    }

    /// What `side` signs or MACs to prove itself (RFC 7296 section 2.15): its first message as sent, the nonce of the
    /// other side, and the MAC of its Identification payload's body.
    pub fn auth_octets(&self, side: Role, message: &[u8], peer_nonce: &[u8], id_body: &[u8]) -> Vec<u8> {
        let maced_id = prf(self.suite.prf, self.authentication_key(side), &[id_body]);
        [message, peer_nonce, &maced_id].concat()
    }

    /// IntAuth_i or IntAuth_r after a message of `side` in an IKE_INTERMEDIATE exchange: the one before (empty at
    /// first), the message as it would be if its Encrypted payload had neither IV, padding nor ICV, its payloads
    /// (RFC 9242 section 3.3.2).
    pub fn intermediate_auth(&self, side: Role, before: &[u8], head: &[u8], payloads: &[u8]) -> Vec<u8> {
        prf(self.suite.prf, self.authentication_key(side), &[before, head, payloads]).to_vec()
    }

    /// The AUTH payload's data with a shared secret (RFC 7296 section 2.15).
    pub fn psk_auth(&self, octets: &[u8], secret: &[u8]) -> Vec<u8> {
        let padded = prf(self.suite.prf, secret, &[b"Key Pad for IKEv2"]);
        prf(self.suite.prf, &padded, &[octets]).to_vec()
    }

    /// Whether `data` is what [`Self::psk_auth`] says; takes the same time for every wrong one.
    pub fn verify_psk_auth(&self, octets: &[u8], secret: &[u8], data: &[u8]) -> bool {
        verify_slices_are_equal(&self.psk_auth(octets, secret), data).is_ok()
    }

    /// The AUTH payload's data after EAP: by the method's key or, of a method that gives none, by SK_pi or SK_pr (RFC
    /// 7296 section 2.16).
    pub fn eap_auth(&self, side: Role, octets: &[u8], key: Option<&[u8; 64]>) -> Vec<u8> {
        let key = key.map_or(self.authentication_key(side), |key| &key[..]);
        self.psk_auth(octets, key)
    }

    /// Whether `data` is what [`Self::eap_auth`] says; takes the same time for every wrong one.
    pub fn verify_eap_auth(&self, side: Role, octets: &[u8], key: Option<&[u8; 64]>, data: &[u8]) -> bool {
        verify_slices_are_equal(&self.eap_auth(side, octets, key), data).is_ok()
    }

    pub(super) fn derivation_key(&self) -> &[u8] {
        &self.material[Layout::of(self.suite).derivation()]
    }

    /// SK_pi or SK_pr.
    pub(super) fn authentication_key(&self, side: Role) -> &[u8] {
        &self.material[Layout::of(self.suite).authentication(side)]
    }

    /// SK_ai or SK_ar; empty with an AEAD.
    pub(super) fn integrity_key(&self, sender: Role) -> &[u8] {
        &self.material[Layout::of(self.suite).integrity(sender)]
    }

    /// SK_ei or SK_er, with the salt behind it.
    pub(super) fn encryption_key(&self, sender: Role) -> &[u8] {
        &self.material[Layout::of(self.suite).encryption(sender)]
    }

    pub(super) fn from_material(suite: IkeSuite, material: Secret) -> Option<Self> {
        (material.len() == Layout::of(suite).length()).then_some(Self { suite, material })
    }

    pub(super) fn material(&self) -> &[u8] {
        &self.material
    }
}

impl fmt::Debug for IkeKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IkeKeys({}, redacted)", self.suite)
    }
}

/// SKEYSEED of an IKE SA that has no predecessor.
pub(super) fn first_seed(algorithm: Prf, nonces: &[u8], shared: &Shared) -> Secret {
    prf(algorithm, nonces, &[shared.expose()])
}

/// Where each key stands in the material.
struct Layout {
    /// Of SK_d and each SK_p.
    prf: usize,
    /// Of each SK_a.
    integrity: usize,
    /// Of each SK_e.
    encryption: usize,
}

impl Layout {
    fn of(suite: IkeSuite) -> Self {
        Self {
            prf: suite.prf.length(),
            integrity: suite.integrity.map_or(0, super::Integrity::key_length),
            encryption: suite.encryption.key_length() + suite.encryption.salt_length(),
        }
    }

    fn length(&self) -> usize {
        3 * self.prf + 2 * self.integrity + 2 * self.encryption
    }

    fn derivation(&self) -> Range<usize> {
        0..self.prf
    }

    fn integrity(&self, side: Role) -> Range<usize> {
        pick(self.prf, self.integrity, side)
    }

    fn encryption(&self, side: Role) -> Range<usize> {
        pick(self.prf + 2 * self.integrity, self.encryption, side)
    }

    fn authentication(&self, side: Role) -> Range<usize> {
        pick(self.prf + 2 * self.integrity + 2 * self.encryption, self.prf, side)
    }
}

/// One of two neighbours of the same length, the initiator's first.
fn pick(start: usize, length: usize, side: Role) -> Range<usize> {
    match side {
        Role::Initiator => start..start + length,
        Role::Responder => start + length..start + 2 * length,
    }
}
