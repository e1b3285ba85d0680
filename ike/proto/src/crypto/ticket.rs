//! Session resumption (RFC 5723): what is kept of an IKE SA's keys, and the tickets that hold it.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use thiserror::Error;
use zeroize::Zeroizing;

use super::prf::{Secret, prf};
use super::state::{PlainState, WrapKey, joined, of_kind, read_suite, write_suite};
use super::{IkeKeys, IkeSuite, Role};

/// What the hash of SK_d and nonces begins with (RFC 5723 section 5.1).
const LABEL: &[u8] = b"Resumption";
/// What the octets inside of a seal begin with.
const RESUMPTION_SECRET: u8 = 7;

/// The version of our tickets' format.
const VERSION: u8 = 1;
/// Octets of a key's name.
const KEY_ID: usize = 8;
/// Version, three octets for later, the key's name.
const HEAD: usize = 4 + KEY_ID;
/// A ticket of ours is never longer: identities of a few hundred octets each.
const MAX_TICKET: usize = 8192;

/// What an IKE SA leaves for the one that resumes it: SK_d, and the algorithms.
#[derive(Clone)]
pub struct ResumptionSecret {
    suite: IkeSuite,
    derivation: Secret,
}

impl fmt::Debug for ResumptionSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResumptionSecret({}, redacted)", self.suite)
    }
}

impl IkeKeys {
    /// What is to be kept to resume this IKE SA.
    pub fn resumption_secret(&self) -> ResumptionSecret {
        ResumptionSecret { suite: self.suite(), derivation: Zeroizing::new(self.derivation_key().to_vec()) }
    }

    /// The AUTH payload's data of `side` in a resumed IKE SA: by SK_pi or SK_pr alone (RFC 5723 section 4.3.3).
    pub fn resumption_auth(&self, side: Role, octets: &[u8]) -> Vec<u8> {
        prf(self.suite().prf, self.authentication_key(side), &[octets]).to_vec()
    }

    /// Whether `data` is what [`Self::resumption_auth`] says; takes the same time for every wrong one.
    pub fn verify_resumption_auth(&self, side: Role, octets: &[u8], data: &[u8]) -> bool {
        verify_slices_are_equal(&self.resumption_auth(side, octets), data).is_ok()
    }
}

impl ResumptionSecret {
    /// The algorithms, which the resumed IKE SA has as well.
    pub fn suite(&self) -> IkeSuite {
        self.suite
    }

    /// The keys of the resumed IKE SA (RFC 5723 section 5.1): nonces and SPIs are those of IKE_SESSION_RESUME.
    #[must_use]
    pub fn resume(&self, nonces: (&[u8], &[u8]), spis: (u64, u64)) -> IkeKeys {
        let seed = self.seed(nonces);
        IkeKeys::expand(self.suite, &seed, &[nonces.0, nonces.1].concat(), spis.0, spis.1)
    }

    /// SKEYSEED.
    fn seed(&self, nonces: (&[u8], &[u8])) -> Secret {
        prf(self.suite.prf, &self.derivation, &[LABEL, nonces.0, nonces.1])
    }

    /// Algorithms, SK_d, and what else there is.
    fn inside(&self, contents: &[u8]) -> Secret {
        joined(&[&[RESUMPTION_SECRET], &write_suite(self.suite), &self.derivation, contents])
    }

    fn read(inside: &[u8]) -> Option<(Self, &[u8])> {
        let (suite, rest) = read_suite(of_kind(RESUMPTION_SECRET, inside)?)?;
        let (derivation, rest) = rest.split_at_checked(suite.prf.length())?;
        Some((Self { suite, derivation: Zeroizing::new(derivation.to_vec()) }, rest))
    }
}

impl PlainState for ResumptionSecret {
    fn plain(&self) -> Secret {
        self.inside(&[])
    }

    fn from_plain(octets: &[u8]) -> Option<Self> {
        Self::read(octets).filter(|(_, rest)| rest.is_empty()).map(|(secret, _)| secret)
    }
}

/// What tickets are sealed under, and the name by which it is found among others.
pub struct TicketKey {
    id: [u8; KEY_ID],
    wrap: WrapKey,
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey(redacted)")
    }
}

/// A ticket that is not ours, or not any more: which of the reasons it is does not matter to who presents it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the ticket is none of this cluster's; see that all gateways have the same ticket_keys")]
pub struct NoTicket;

impl TicketKey {
    /// From a secret of full entropy. The same secret gives the same key, and the same name, on every gateway.
    pub fn new(secret: &[u8]) -> Self {
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&WrapKey::derive(secret, "baton ike ticket key name").octets()[..KEY_ID]);
        Self { id, wrap: WrapKey::derive(secret, "baton ike ticket") }
    }

    /// A ticket: version, name of the key, and sealed with both as associated data the secret and `contents`.
    pub fn seal(
        &self,
        secret: &ResumptionSecret,
        contents: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Vec<u8> {
        let mut head = [0; HEAD];
        head[0] = VERSION;
        head[4..].copy_from_slice(&self.id);
        let sealed = self.wrap.seal(&head, random, secret.inside(contents));
        [&head[..], &sealed].concat()
    }

    /// Opens a ticket that one of these keys has sealed.
    ///
    /// # Errors
    /// [`NoTicket`].
    pub fn open<'a>(
        keys: impl IntoIterator<Item = &'a Self>,
        ticket: &[u8],
    ) -> Result<(ResumptionSecret, Zeroizing<Vec<u8>>), NoTicket> {
        let (head, sealed) = ticket.split_first_chunk::<HEAD>().ok_or(NoTicket)?;
        if head[0] != VERSION || ticket.len() > MAX_TICKET {
            return Err(NoTicket);
        }
        let is_named = |key: &&Self| key.id == head[4..];
        let key = keys.into_iter().find(is_named).ok_or(NoTicket)?;
        let inside = key.wrap.open(head, sealed).map_err(|_| NoTicket)?;
        let (secret, contents) = ResumptionSecret::read(&inside).ok_or(NoTicket)?;
        Ok((secret, Zeroizing::new(contents.to_vec())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::SealedState as _;
    use crate::crypto::{AdditionalMethods, Encryption, Group, Integrity, Prf};

    const SUITE: IkeSuite = IkeSuite {
        encryption: Encryption::AesCbc128,
        integrity: Some(Integrity::HmacSha2_256_128),
        prf: Prf::HmacSha2_256,
        group: Group::Curve25519,
        additional: AdditionalMethods::new([None; AdditionalMethods::PLACES]),
    };

    const MATERIAL: &str = concat!(
        "b76e4aad3813e878b28ca5cb6cc13833cbaf03a84d0aa69752ab32133f32b6933c312a955e98a791a14ccbe0ffde3bae",
        "2b5f59b912d8f635d5b8aabf346f5a431817627d015f7a32e1d0a6104bb06aae0bcfd6165e8e762eccced07d0ea26802",
        "681b540f13231088ccd76df2dff3c67f36a892ef93b0031c3ce5994f71d5915be9ba75e33c46d659488e6b29910ece78",
        "54504c8e48bee59c0f613558283849039ee18082182901ec344d05c2d9fb20219b7209c0ed43833430deea40b56eac35",
    );
    const AUTH_I: &str = "d62a218e51d4334427c27280d44f5a2333947d13ed946001b4d7f9d6dd17d9ea";
    const AUTH_R: &str = "0ea73a975125feaeb76ebf9b19aa6c0a34aa7a27dfcbb363b6d5234d37f52e48";

    fn secret() -> ResumptionSecret {
        ResumptionSecret { suite: SUITE, derivation: Zeroizing::new((0..32).collect()) }
    }

    fn random() -> impl FnMut(&mut [u8]) {
        let mut next = 0;
        move |octets| {
            next += 1;
            octets.fill(next);
        }
    }

    /// RFC 5723 has no vectors. These were computed from its formulas with Python's hmac.
    #[test]
    fn keys_follow_the_formulas_of_the_rfc() {
        let (ni, nr) = ([0xaa; 16], [0xbb; 16]);
        let seed = secret().seed((&ni, &nr));
        assert_eq!(hex::encode(&seed), "f1ca21ed6c1cc20e9677ceff6e0cd6e3d73503c3663ae4a33902d5720b13f386");
        let keys = secret().resume((&ni, &nr), (0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210));
        assert_eq!(hex::encode(keys.material()), MATERIAL);
        assert_eq!(hex::encode(keys.resumption_auth(Role::Initiator, b"octets")), AUTH_I);
        assert!(keys.verify_resumption_auth(Role::Responder, b"octets", &hex::decode(AUTH_R).unwrap()));
        assert!(!keys.verify_resumption_auth(Role::Initiator, b"octets", &hex::decode(AUTH_R).unwrap()));
    }

    #[test]
    fn only_the_keys_of_the_cluster_open_a_ticket() {
        let (old, new, foreign) =
            (TicketKey::new(b"old"), TicketKey::new(b"new"), TicketKey::new(b"foreign"));
        let ticket = old.seal(&secret(), b"contents", &mut random());
        assert_eq!((ticket[0], &ticket[4..12]), (1, &old.id[..]));
        for keys in [vec![&old], vec![&new, &old], vec![&old, &new]] {
            let (opened, contents) = TicketKey::open(keys, &ticket).unwrap();
            assert_eq!((&opened.derivation, &contents[..]), (&secret().derivation, &b"contents"[..]));
            assert_eq!(opened.suite, SUITE);
        }
        assert_eq!(TicketKey::open([&new, &foreign], &ticket).map(|_| ()), Err(NoTicket));
        assert_eq!(TicketKey::open([], &ticket).map(|_| ()), Err(NoTicket));
    }

    #[test]
    fn no_octet_of_a_ticket_may_change() {
        let key = TicketKey::new(b"secret");
        let ticket = key.seal(&secret(), b"contents", &mut random());
        for at in 0..ticket.len() {
            let mut forged = ticket.clone();
            forged[at] ^= 1;
            assert_eq!(TicketKey::open([&key], &forged).map(|_| ()), Err(NoTicket), "octet {at}");
            assert_eq!(TicketKey::open([&key], &ticket[..at]).map(|_| ()), Err(NoTicket));
        }
        assert_eq!(TicketKey::open([&key], &[1; MAX_TICKET + 1]).map(|_| ()), Err(NoTicket));
    }

    #[test]
    fn a_ticket_shows_nothing_of_what_is_in_it() {
        let key = TicketKey::new(b"secret");
        let ticket = key.seal(&secret(), b"contents of a ticket", &mut random());
        let has = |part: &[u8]| ticket.windows(part.len()).any(|octets| octets == part);
        assert!(!has(b"contents") && !has(&secret().derivation[..8]));
        assert_eq!(format!("{:?} {key:?}", secret()).matches("redacted").count(), 2);
    }

    #[test]
    fn what_is_kept_comes_back_only_where_it_belongs() {
        let wrap = WrapKey::new([1; 32]);
        let sealed = secret().seal_state(&wrap, b"place", &mut random());
        let opened = ResumptionSecret::open_state(&wrap, b"place", &sealed).unwrap();
        assert_eq!((opened.suite, &opened.derivation), (SUITE, &secret().derivation));
        assert!(ResumptionSecret::open_state(&wrap, b"other", &sealed).is_err());
        assert!(ResumptionSecret::open_state(&WrapKey::new([2; 32]), b"place", &sealed).is_err());
    }
}
