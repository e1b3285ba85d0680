//! Tokens of quick crash detection (RFC 6290).

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use zeroize::Zeroizing;

use super::Role;
use super::hash::cookie_mac;

/// Octets that a token may have (RFC 6290 section 5).
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=128;

/// What our tokens are made from: of the cluster, and the same after a crash.
pub struct CrashSecret(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for CrashSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CrashSecret(redacted)")
    }
}

impl CrashSecret {
    pub(super) fn new(secret: Zeroizing<[u8; 32]>) -> Self {
        Self(secret)
    }

    /// The token of an IKE SA in which `ours` is our role, from its SPIs alone (RFC 6290 section 5.1; HMAC in the place
    /// of a plain hash). Which of the SPIs is ours is part of it: who says that the other one is gets another token, and
    /// so cannot get that of an IKE SA that lives by asking for one that does not.
    pub fn token(&self, ours: Role, initiator_spi: u64, responder_spi: u64) -> [u8; 32] {
        let spis = [initiator_spi.to_be_bytes(), responder_spi.to_be_bytes()];
        cookie_mac(&self.0, &[&[u8::from(ours == Role::Responder)], &spis[0], &spis[1]])
    }
}

/// What is kept of a peer's token: enough to know it, too little to present it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of a token; `None` if it is shorter or longer than any.
    pub fn of(token: &[u8]) -> Option<Self> {
        LENGTHS.contains(&token.len()).then(|| Self(hash(token)))
    }

    /// As [`Self::octets`] gave it.
    pub const fn restored(octets: [u8; 32]) -> Self {
        Self(octets)
    }

    /// To be kept.
    pub const fn octets(&self) -> [u8; 32] {
        self.0
    }

    /// Whether this is the token.
    pub fn is_of(&self, token: &[u8]) -> bool {
        LENGTHS.contains(&token.len()) && verify_slices_are_equal(&self.0, &hash(token)).is_ok()
    }
}

fn hash(token: &[u8]) -> [u8; 32] {
    let mut octets = [0; 32];
    octets.copy_from_slice(digest::digest(&digest::SHA256, token).as_ref());
    octets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::WrapKey;

    #[test]
    fn a_token_follows_from_the_secret_and_the_spis() {
        let secret = |octet| WrapKey::new([octet; 32]).crash_secret();
        let token = secret(1).token(Role::Initiator, 2, 3);
        assert_eq!(token, secret(1).token(Role::Initiator, 2, 3));
        let others = [(1, Role::Initiator, 3, 2), (1, Role::Initiator, 2, 4), (2, Role::Initiator, 2, 3)];
        for (of, ours, initiator, responder) in others.into_iter().chain([(1, Role::Responder, 2, 3)]) {
            let other = secret(of).token(ours, initiator, responder);
            assert_ne!(token, other);
        }
        let digest = TokenDigest::of(&token).expect("of the right length");
        assert!(digest.is_of(&token) && TokenDigest::restored(digest.octets()).is_of(&token));
        assert!(!digest.is_of(&token[..31]) && !digest.is_of(&digest.octets()) && !digest.is_of(&[]));
    }

    #[test]
    fn tokens_have_16_to_128_octets() {
        for (length, is_one) in [(0, false), (15, false), (16, true), (128, true), (129, false)] {
            assert_eq!(TokenDigest::of(&vec![7; length]).is_some(), is_one, "{length}");
        }
    }
}
