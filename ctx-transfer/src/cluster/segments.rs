//! Sets of the 256 segments.

use std::fmt;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Sub, SubAssign};

/// Segments that there are.
pub const SEGMENTS: usize = 256;

/// A set of segments: segment `s` is bit `s % 64` of word `s / 64`, as in the SA table.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segments([u64; 4]);

impl Segments {
    /// No segment.
    pub const NONE: Self = Self([0; 4]);
    /// All segments.
    pub const ALL: Self = Self([u64::MAX; 4]);
    /// Octets of a set in a message.
    pub const OCTETS: usize = 32;

    /// One segment.
    pub const fn one(segment: u8) -> Self {
        let mut set = Self::NONE;
        set.0[segment as usize / 64] = 1 << (segment % 64);
        set
    }

    /// From the words of the SA table.
    pub const fn from_words(words: [u64; 4]) -> Self {
        Self(words)
    }

    /// The words of the SA table.
    pub const fn words(self) -> [u64; 4] {
        self.0
    }

    /// Adds a segment.
    pub const fn insert(&mut self, segment: u8) {
        self.0[segment as usize / 64] |= 1 << (segment % 64);
    }

    /// Takes a segment out.
    pub const fn remove(&mut self, segment: u8) {
        self.0[segment as usize / 64] &= !(1 << (segment % 64));
    }

    /// Whether a segment is in it.
    pub const fn contains(self, segment: u8) -> bool {
        self.0[segment as usize / 64] >> (segment % 64) & 1 != 0
    }

    /// Whether there is none in it.
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// How many are in it.
    pub fn len(self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Its segments, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        let mut words = self.0;
        std::iter::from_fn(move || {
            let at = words.iter().position(|word| *word != 0)?;
            let bit = words[at].trailing_zeros();
            words[at] &= words[at] - 1;
            Some((at * 64) as u8 + bit as u8)
        })
    }

    /// Its first segments, `most` of them at most.
    #[must_use]
    pub fn first(self, most: usize) -> Self {
        self.iter().take(most).collect()
    }

    /// As in a message: segment 0 is the lowest bit of the first octet.
    pub fn to_octets(self) -> [u8; Self::OCTETS] {
        let mut octets = [0; Self::OCTETS];
        for (place, word) in octets.chunks_exact_mut(8).zip(self.0) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        octets
    }

    /// From a message.
    pub fn from_octets(octets: &[u8; Self::OCTETS]) -> Self {
        let (words, _) = octets.as_chunks::<8>();
        Self(std::array::from_fn(|at| u64::from_le_bytes(words[at])))
    }

    fn zip(self, other: Self, with: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|at| with(self.0[at], other.0[at])))
    }
}

impl BitAnd for Segments {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        self.zip(other, |a, b| a & b)
    }
}

impl BitOr for Segments {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.zip(other, |a, b| a | b)
    }
}

impl Sub for Segments {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }
}

impl BitAndAssign for Segments {
    fn bitand_assign(&mut self, other: Self) {
        *self = *self & other;
    }
}

impl BitOrAssign for Segments {
    fn bitor_assign(&mut self, other: Self) {
        *self = *self | other;
    }
}

impl SubAssign for Segments {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl FromIterator<u8> for Segments {
    fn from_iter<I: IntoIterator<Item = u8>>(segments: I) -> Self {
        let mut set = Self::NONE;
        segments.into_iter().for_each(|segment| set.insert(segment));
        set
    }
}

/// Ranges: `0-127,200`.
impl fmt::Display for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u8, u8)> = Vec::new();
        for segment in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == segment => *last = segment,
                _ => ranges.push((segment, segment)),
            }
        }
        let text = ranges.iter().map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") });
        f.pad(&text.collect::<Vec<_>>().join(","))
    }
}

impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_like_ranges() {
        let set: Segments = (0..=127).chain([200, 254, 255]).collect();
        assert_eq!(set.to_string(), "0-127,200,254-255");
        assert_eq!(Segments::from_octets(&set.to_octets()), set);
        assert_eq!((set.len(), set.first(2).to_string()), (131, "0-1".to_owned()));
        assert_eq!(set.to_octets()[25], 1);
    }
}
