//! Tokens by which the receiver of a context sees that its sender may ask for it (RFC 4067 section 2.5.1).

use std::fmt;
use std::net::IpAddr;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use super::block::Block;
use super::reader::{CxtpError, write_address};

/// Octets of a key at most.
const MAX_KEY: usize = 64;

/// The first 32 bits of an HMAC-SHA1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token(pub [u8; 4]);

/// The key of tokens. Zeroized, not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey(Zeroizing<Vec<u8>>);

impl TokenKey {
    /// A key of 1 to 64 octets.
    ///
    /// # Errors
    /// [`CxtpError::Key`] for another length.
    pub fn new(octets: &[u8]) -> Result<Self, CxtpError> {
        if !(1..=MAX_KEY).contains(&octets.len()) {
            return Err(CxtpError::Key(octets.len()));
        }
        Ok(Self(Zeroizing::new(octets.to_vec())))
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.0
    }

    /// The token over the peer's previous address, the sequence number and the blocks that are asked for.
    pub fn token(&self, previous: IpAddr, sequence: u32, blocks: &[Block]) -> Token {
        let tag = hmac::sign(&self.key(), &signed(previous, sequence, blocks));
        Token(std::array::from_fn(|index| tag.as_ref()[index]))
    }

    /// Whether a token is that of these. Takes the same time whatever the token is.
    pub fn verify(&self, token: Token, previous: IpAddr, sequence: u32, blocks: &[Block]) -> bool {
        let expected = self.token(previous, sequence, blocks);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected.0, &token.0).is_ok()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0)
    }
}

fn signed(previous: IpAddr, sequence: u32, blocks: &[Block]) -> Zeroizing<Vec<u8>> {
    let octets = blocks.iter().map(Block::octets).sum::<usize>();
    let mut signed = Zeroizing::new(Vec::with_capacity(16 + 4 + octets));
    write_address(&mut signed, previous);
    signed.extend_from_slice(&sequence.to_be_bytes());
    for block in blocks {
        block.write(&mut signed);
    }
    signed
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("TokenKey(redacted)")
    }
}
