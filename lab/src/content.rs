//! A file that needs no disk: pseudo-random octets that both ends make, and check, by themselves.

use aws_lc_rs::digest::{Context, SHA256};

/// Octets made per step.
const CHUNK: usize = 64 * 1024;

/// The octets of a file of any size, in order (SplitMix64, little-endian words).
#[derive(Clone, Debug)]
pub struct Content {
    state: u64,
    left: u64,
    chunk: Vec<u8>,
}

impl Content {
    /// The file of `size` octets that `seed` stands for.
    pub fn new(seed: u64, size: u64) -> Self {
        Self { state: seed, left: size, chunk: vec![0; CHUNK] }
    }

    /// The next octets, or `None` at the end of the file.
    pub fn next_chunk(&mut self) -> Option<&[u8]> {
        let length = CHUNK.min(usize::try_from(self.left).unwrap_or(CHUNK));
        self.left -= length as u64;
        for word in self.chunk.chunks_exact_mut(8) {
            word.copy_from_slice(&split_mix(&mut self.state).to_le_bytes());
        }
        (length > 0).then(|| &self.chunk[..length])
    }

    /// The SHA-256 of what is left of the file, in hex.
    pub fn sha256(mut self) -> String {
        let mut digest = Context::new(&SHA256);
        while let Some(chunk) = self.next_chunk() {
            digest.update(chunk);
        }
        hex(digest.finish().as_ref())
    }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Octets as lower-case hex.
pub fn hex(octets: &[u8]) -> String {
    use std::fmt::Write;
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_is_the_same_file() {
        assert_eq!(Content::new(1, 200_001).sha256(), Content::new(1, 200_001).sha256());
        assert_ne!(Content::new(1, 200_001).sha256(), Content::new(2, 200_001).sha256());
        let mut length = 0;
        let mut content = Content::new(1, 200_001);
        while let Some(chunk) = content.next_chunk() {
            length += chunk.len();
        }
        assert_eq!(length, 200_001);
    }

    #[test]
    fn the_empty_file_has_the_known_digest() {
        let known = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Content::new(1, 0).sha256(), known);
    }
}
