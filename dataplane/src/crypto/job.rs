//! What an engine is asked to do.

use super::key::PreparedKey;

/// How a job ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// Not run.
    #[default]
    Pending,
    /// Sealed, or opened and found authentic.
    Done,
    /// The ICV is wrong. The text is wiped.
    BadIcv,
    /// Shorter than the suite's shortest packet, or the text does not end on the suite's alignment (RFC 4303
    /// section 2.4). Nothing was computed.
    Malformed,
}

/// One ESP packet to seal or open in place.
#[derive(Debug)]
pub struct Job<'a> {
    /// The SA's prepared key.
    pub key: &'a PreparedKey,
    /// The sequence number, all 64 bits. With extended sequence numbers the upper half is authenticated though not
    /// sent (RFC 4303 section 2.2.1); the lower half is the one in the packet.
    pub sequence: u64,
    /// A number that is never given twice to seal with one key. It becomes the IV of the suites with a counter, and
    /// the seed of an unpredictable one with CBC. Opening ignores it.
    pub iv: u64,
    /// From the SPI to the end of the ICV: SPI, sequence number, IV, text (payload, padding, pad length and next
    /// header), ICV. To be sealed it has its SPI, sequence number and plain text; sealing writes IV and ICV.
    pub packet: &'a mut [u8],
    /// How it ended.
    pub outcome: Outcome,
}

impl<'a> Job<'a> {
    /// Seals `packet` with this `sequence` number and `iv`.
    pub fn to_seal(key: &'a PreparedKey, sequence: u64, iv: u64, packet: &'a mut [u8]) -> Self {
        Self { key, sequence, iv, packet, outcome: Outcome::Pending }
    }

    /// Opens `packet`, whose whole number is `sequence`.
    pub fn to_open(key: &'a PreparedKey, sequence: u64, packet: &'a mut [u8]) -> Self {
        Self { key, sequence, iv: 0, packet, outcome: Outcome::Pending }
    }
}
