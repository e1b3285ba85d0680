//! Cookies for IKE_SA_INIT (RFC 7296 section 2.6): whoever sends one back receives at the address that it claims. We
//! keep nothing of those that we ask.

use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use zeroize::Zeroizing;

use super::puzzles::{Asked, Given};
use crate::crypto::{Prf, cookie_mac};

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
    /// The cookie to ask for, with or without a puzzle.
    pub fn issue(
        &mut self,
        now: Duration,
        claim: Claim<'_>,
        given: Given,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Vec<u8> {
        if self.current.as_ref().is_none_or(|secret| secret.age(now) >= SECRET_TIME) {
            self.version = self.version.wrapping_add(1);
            let fresh = Secret::new(self.version, now, random);
            self.previous = self.current.replace(fresh);
        }
        self.current.as_ref().map(|secret| secret.cookie(claim, &write(given))).unwrap_or_default()
    }

    /// What was given with this cookie, if we made it for this claim a short while ago.
    pub fn check(&self, now: Duration, claim: Claim<'_>, cookie: &[u8]) -> Option<Given> {
        let (version, rest) = cookie.split_first()?;
        let about = rest.first_chunk::<ABOUT>()?;
        let secrets = [&self.current, &self.previous].into_iter().flatten();
        let mut secrets = secrets.filter(|secret| secret.age(now) < 2 * SECRET_TIME);
        let secret = secrets.find(|secret| secret.version == *version)?;
        verify_slices_are_equal(&secret.cookie(claim, about), cookie).ok()?;
        read(about)
    }
}

/// Octets that say what was asked for.
const ABOUT: usize = 9;
const COOKIE_ALONE: u8 = 0;
const WITH_PUZZLE: u8 = 1;

fn write(given: Given) -> [u8; ABOUT] {
    let mut octets = [COOKIE_ALONE; ABOUT];
    if let Given::Puzzle(Asked { prf, difficulty, round, at }) = given {
        octets[0] = WITH_PUZZLE;
        octets[1..3].copy_from_slice(&prf.id().to_be_bytes());
        octets[3..5].copy_from_slice(&[difficulty, round]);
        octets[5..].copy_from_slice(&at.to_be_bytes());
    }
    octets
}

fn read(octets: &[u8; ABOUT]) -> Option<Given> {
    let [kind, high, low, difficulty, round, at @ ..] = *octets;
    match kind {
        COOKIE_ALONE => Some(Given::CookieAlone),
        WITH_PUZZLE => {
            let prf = Prf::from_id(u16::from_be_bytes([high, low]))?;
            Some(Given::Puzzle(Asked { prf, difficulty, round, at: u32::from_be_bytes(at) }))
        }
        _ => None,
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

    /// The secret's version, what was asked for, and a MAC of that and of what is claimed. Only the last part of it has no
    /// fixed length.
    fn cookie(&self, claim: Claim<'_>, about: &[u8; ABOUT]) -> Vec<u8> {
        let source = match claim.source {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        let spi = claim.initiator_spi.to_be_bytes();
        let mac = cookie_mac(&self.octets, &[&source.octets(), &spi, about, claim.nonce]);
        [&[self.version], &about[..], mac.as_slice()].concat()
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
        let cookie = cookies.issue(seconds(1), CLAIM, Given::CookieAlone, &mut counter());
        let holds = |claim| cookies.check(seconds(2), claim, &cookie).is_some();
        assert!(holds(CLAIM) && cookie.len() <= 64);
        assert!(!holds(Claim { source: "192.0.2.2".parse().unwrap(), ..CLAIM }));
        assert!(!holds(Claim { source: "::1".parse().unwrap(), ..CLAIM }));
        assert!(!holds(Claim { initiator_spi: 8, ..CLAIM }));
        assert!(!holds(Claim { nonce: &[1; 33], ..CLAIM }));
    }

    #[test]
    fn no_octet_of_a_cookie_may_change() {
        let mut cookies = Cookies::default();
        let cookie = cookies.issue(seconds(1), CLAIM, Given::CookieAlone, &mut counter());
        for at in 0..cookie.len() {
            let mut other = cookie.clone();
            other[at] ^= 1;
            assert!(cookies.check(seconds(1), CLAIM, &other).is_none());
            assert!(cookies.check(seconds(1), CLAIM, &cookie[..at]).is_none());
        }
    }

    #[test]
    fn a_cookie_outlives_one_change_of_the_secret_and_not_two() {
        let (mut cookies, mut random) = (Cookies::default(), counter());
        let first = cookies.issue(seconds(0), CLAIM, Given::CookieAlone, &mut random);
        assert_eq!(cookies.issue(seconds(59), CLAIM, Given::CookieAlone, &mut random), first);
        let second = cookies.issue(seconds(60), CLAIM, Given::CookieAlone, &mut random);
        assert_ne!(second, first);
        assert!(cookies.check(seconds(119), CLAIM, &first).is_some());
        assert!(cookies.check(seconds(120), CLAIM, &first).is_none());
        cookies.issue(seconds(120), CLAIM, Given::CookieAlone, &mut random);
        assert!(cookies.check(seconds(121), CLAIM, &second).is_some());
    }

    #[test]
    fn a_cookie_says_which_puzzle_went_with_it_and_nobody_else_can() {
        let mut cookies = Cookies::default();
        let asked = Asked { prf: Prf::HmacSha2_256, difficulty: 18, round: 2, at: 77 };
        let with = cookies.issue(seconds(1), CLAIM, Given::Puzzle(asked), &mut counter());
        let without = cookies.issue(seconds(1), CLAIM, Given::CookieAlone, &mut counter());
        assert_eq!(cookies.check(seconds(2), CLAIM, &with), Some(Given::Puzzle(asked)));
        assert_eq!(cookies.check(seconds(2), CLAIM, &without), Some(Given::CookieAlone));
        assert!(with.len() <= 64 && with != without);
        let later =
            cookies.issue(seconds(1), CLAIM, Given::Puzzle(Asked { at: 78, ..asked }), &mut counter());
        assert_ne!(with, later, "a puzzle is another one each time");
        for at in 0..with.len() {
            let mut other = with.clone();
            other[at] ^= 1;
            assert_eq!(cookies.check(seconds(2), CLAIM, &other), None);
        }
        let easier = [&with[..4], &[1], &with[5..]].concat();
        assert_eq!(cookies.check(seconds(2), CLAIM, &easier), None);
    }
}
