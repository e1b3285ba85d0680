//! The ESP header (RFC 4303 section 2): SPI and sequence number, in front of what is encrypted.

use super::{Malformed, be32};

/// Octets of SPI and sequence number.
pub const HEADER: usize = 8;

/// A checked header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspHeader {
    /// Security parameters index.
    pub spi: u32,
    /// The sequence number's lower 32 bits.
    pub sequence: u32,
}

impl EspHeader {
    /// Parses the header at the start of `bytes` (an IP payload).
    ///
    /// # Errors
    /// [`Malformed::Truncated`].
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        Ok(Self { spi: be32(bytes, 0)?, sequence: be32(bytes, 4)? })
    }

    /// The header's octets.
    #[inline]
    pub fn emit(self) -> [u8; HEADER] {
        (u64::from(self.spi) << 32 | u64::from(self.sequence)).to_be_bytes()
    }
}
