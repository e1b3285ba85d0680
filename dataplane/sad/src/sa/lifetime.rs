//! How long an SA may be used (RFC 4301 section 4.4.2.1: soft and hard lifetimes).

use super::SaError;

/// What ends, or announces the end of, an SA: whichever comes first. 0 in a field is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bounds {
    /// Octets of inner packets.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Sequence numbers: outbound the last one sent, inbound the highest received.
    pub sequence: u64,
    /// Unix time in seconds: it is meant on every gateway that the SA moves to.
    pub expires_at: u64,
}

impl Bounds {
    /// Whether any of them is reached.
    #[inline]
    pub fn are_reached(&self, octets: u64, packets: u64, sequence: u64, unix_seconds: u64) -> bool {
        let reached = |bound: u64, value: u64| bound != 0 && value >= bound;
        reached(self.octets, octets)
            || reached(self.packets, packets)
            || reached(self.sequence, sequence)
            || reached(self.expires_at, unix_seconds)
    }

    fn fields(&self) -> [u64; 4] {
        [self.octets, self.packets, self.sequence, self.expires_at]
    }
}

/// Soft bounds are told, once; hard bounds end the SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lifetime {
    /// From here on a new SA should be negotiated.
    pub soft: Bounds,
    /// From here on nothing is sent or accepted.
    pub hard: Bounds,
}

impl Lifetime {
    pub(crate) const WORDS: usize = 8;

    pub(crate) fn to_words(self) -> [u64; Self::WORDS] {
        let mut words = [0; Self::WORDS];
        words[..4].copy_from_slice(&self.soft.fields());
        words[4..].copy_from_slice(&self.hard.fields());
        words
    }

    pub(crate) fn from_words(words: &[u64; Self::WORDS]) -> Self {
        let bounds = |at: usize| Bounds {
            octets: words[at],
            packets: words[at + 1],
            sequence: words[at + 2],
            expires_at: words[at + 3],
        };
        Self { soft: bounds(0), hard: bounds(4) }
    }

    pub(super) fn validate(&self) -> Result<(), SaError> {
        let pairs = self.soft.fields().into_iter().zip(self.hard.fields());
        let is_late = |(soft, hard): (u64, u64)| hard != 0 && soft > hard;
        if pairs.into_iter().any(is_late) { Err(SaError::SoftAboveHard) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_comes_first() {
        let bounds = Bounds { octets: 100, packets: 0, sequence: 7, expires_at: 50 };
        assert!(!bounds.are_reached(99, 1 << 40, 6, 49));
        assert!(bounds.are_reached(100, 0, 0, 0) && bounds.are_reached(0, 0, 7, 0));
        assert!(bounds.are_reached(0, 0, 0, 50) && !Bounds::default().are_reached(9, 9, 9, 9));
    }
}
