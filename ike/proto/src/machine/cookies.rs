//! Cookies for IKE_SA_INIT (RFC 7296 section 2.6): whoever sends one back receives at the address that it claims. We
//! keep nothing of those that we ask.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use crate::crypto::cookie_mac;

/// A secret is replaced after so long, and accepted for as long again.
const SECRET_TIME: Duration = Duration::from_mins(1);

/// What a cookie vouches for.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The address that the request came from.
    pub source: IpAddr,
    /// The initiator's SPI.
    pub initiator_spi: u64,
    /// The initiator's nonce.
    pub nonce: &'a [u8],
}

/// The secrets that cookies are made with.
#[derive(Default)]
pub struct Cookies {
    current: Option<Secret>,
    previous: Option<Secret>,
    /// Tells the cookies of the two secrets apart; it is no secret itself.
    version: u8,
}

struct Secret {
    octets: Zeroizing<[u8; 32]>,
    version: u8,
    since: Duration,
}

impl Cookies {
    /// The cookie to ask for.
    pub fn issue(&mut self, now: Duration, claim: Claim<'_>, random: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
        if self.current.as_ref().is_none_or(|secret| secret.age(now) >= SECRET_TIME) {
            self.version = self.version.wrapping_add(1);
            let fresh = Secret::new(self.version, now, random);
            self.previous = self.current.replace(fresh);
        }
        self.current.as_ref().map(|secret| secret.cookie(claim)).unwrap_or_default()
    }

    /// Whether we made this cookie for this claim, a short while ago.
    pub fn is_ours(&self, now: Duration, claim: Claim<'_>, cookie: &[u8]) -> bool {
        let secrets = [&self.current, &self.previous].into_iter().flatten();
        let made_it = |secret: &&Secret| Some(&secret.version) == cookie.first();
        secrets
            .filter(|secret| secret.age(now) < 2 * SECRET_TIME)
            .find(made_it)
            .is_some_and(|secret| verify_slices_are_equal(&secret.cookie(claim), cookie).is_ok())
    }
}

impl Secret {
    fn new(version: u8, since: Duration, random: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut octets = Zeroizing::new([0; 32]);
        random(octets.as_mut_slice());
        Self { octets, version, since }
    }

    const fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.since)
    }

    /// The secret's version, and a MAC of what is claimed. Only the last part has no fixed length.
    fn cookie(&self, claim: Claim<'_>) -> Vec<u8> {
        let source = match claim.source {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let spi = claim.initiator_spi.to_be_bytes();
        let mac = cookie_mac(&self.octets, &[&source.octets(), &spi, claim.nonce]);
        [&[self.version], mac.as_slice()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLAIM: Claim<'_> = Claim {
        source: IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        initiator_spi: 7,
        nonce: &[1; 32],
    };

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    /// Other octets with each call.
    fn counter() -> impl FnMut(&mut [u8]) {
        let mut next = 0;
        move |octets| {
            next += 1;
            octets.fill(next);
        }
    }

    #[test]
    fn a_cookie_holds_for_its_claim_alone() {
        let mut cookies = Cookies::default();
        let cookie = cookies.issue(seconds(1), CLAIM, &mut counter());
        let holds = |claim| cookies.is_ours(seconds(2), claim, &cookie);
        assert!(holds(CLAIM) && cookie.len() <= 64);
        assert!(!holds(Claim { source: "192.0.2.2".parse().unwrap(), ..CLAIM }));
        assert!(!holds(Claim { source: "::1".parse().unwrap(), ..CLAIM }));
        assert!(!holds(Claim { initiator_spi: 8, ..CLAIM }));
        assert!(!holds(Claim { nonce: &[1; 33], ..CLAIM }));
    }

    #[test]
    fn no_octet_of_a_cookie_may_change() {
        let mut cookies = Cookies::default();
        let cookie = cookies.issue(seconds(1), CLAIM, &mut counter());
        for at in 0..cookie.len() {
            let mut other = cookie.clone();
            other[at] ^= 1;
            assert!(!cookies.is_ours(seconds(1), CLAIM, &other));
            assert!(!cookies.is_ours(seconds(1), CLAIM, &cookie[..at]));
        }
    }

    #[test]
    fn a_cookie_outlives_one_change_of_the_secret_and_not_two() {
        let (mut cookies, mut random) = (Cookies::default(), counter());
        let first = cookies.issue(seconds(0), CLAIM, &mut random);
        assert_eq!(cookies.issue(seconds(59), CLAIM, &mut random), first);
        let second = cookies.issue(seconds(60), CLAIM, &mut random);
        assert_ne!(second, first);
        assert!(cookies.is_ours(seconds(119), CLAIM, &first));
        assert!(!cookies.is_ours(seconds(120), CLAIM, &first));
        cookies.issue(seconds(120), CLAIM, &mut random);
        assert!(cookies.is_ours(seconds(121), CLAIM, &second));
    }
}
