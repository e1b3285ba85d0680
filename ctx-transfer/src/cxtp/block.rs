//! Context Data Blocks (RFC 4067 section 2.4).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |  Feature Profile Type (FPT)   |    Length     |P|  Reserved   |
//! |                 Presence Vector (if P = 1)                    |
//! |                             Data                              |
//! ```

use std::fmt;

use zeroize::Zeroizing;

use super::reader::{CxtpError, Reader};

/// Octets of data in one block at most: 255 words of 8 octets.
pub const MAX_BLOCK_OCTETS: usize = 255 * WORD;

/// The unit of a block's length, in octets.
const WORD: usize = 8;
/// The bit that says that a presence vector follows.
const PRESENCE: u8 = 0x80;

/// What a block is about (RFC 4067 section 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeatureProfile(pub u16);

impl FeatureProfile {
    /// A piece of an IKEv2/IPsec context. IANA has assigned 1 alone (RFC 4065); this number is the project's own.
    pub const IPSEC: Self = Self(0xba70);
}

/// One block. Its data may be keys: it is zeroized and not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// What it is about.
    pub profile: FeatureProfile,
    /// Which parts of the profile it holds, if it says so.
    pub presence: Option<u32>,
    data: Zeroizing<Vec<u8>>,
}

impl Block {
    /// A block of at most [`MAX_BLOCK_OCTETS`] octets of data, filled up with zeros to a multiple of 8; `None` if there
    /// are more.
    pub fn new(profile: FeatureProfile, presence: Option<u32>, data: &[u8]) -> Option<Self> {
        let length = data.len().next_multiple_of(WORD);
        (length <= MAX_BLOCK_OCTETS).then(|| {
            let mut padded = Zeroizing::new(vec![0; length]);
            padded[..data.len()].copy_from_slice(data);
            Self { profile, presence, data: padded }
        })
    }

    /// Its data, padding included.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// How many octets it has when written.
    pub(super) fn octets(&self) -> usize {
        4 + self.presence.map_or(0, |_| 4) + self.data.len()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.profile.0.to_be_bytes());
        out.push((self.data.len() / WORD) as u8);
        out.push(if self.presence.is_some() { PRESENCE } else { 0 });
        if let Some(presence) = self.presence {
            out.extend_from_slice(&presence.to_be_bytes());
        }
        out.extend_from_slice(&self.data);
    }

    /// Reads one block. Reserved bits are not looked at (RFC 4067 section 2.4).
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, CxtpError> {
        let profile = FeatureProfile(reader.u16()?);
        let [words, flags] = reader.array()?;
        let presence = if flags & PRESENCE == 0 { None } else { Some(reader.u32()?) };
        let data = reader.take(usize::from(words) * WORD)?;
        Ok(Self { profile, presence, data: Zeroizing::new(data.to_vec()) })
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Block({:#06x}, {} octets)", self.profile.0, self.data.len())
    }
}
