//! The ClusterIP hash: which segment a peer has before it knows an SPI of ours.
//!
//! Same results as Linux's `ipt_CLUSTERIP` (`clusterip_hashfn` in `net/ipv4/netfilter/ipt_CLUSTERIP.c`) with 256
//! nodes, numbered from 0. The hash is Bob Jenkins' lookup3 (2006, public domain) as Linux's `jhash` applies it
//! to words. The twin in C is `ebpf/segment.h`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use thiserror::Error;

/// Which fields of a packet the hash covers, as in `iptables -j CLUSTERIP --hashmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum HashMode {
    /// The source address.
    #[default]
    SourceIp,
    /// The source address and port.
    SourceIpSourcePort,
    /// The source address and port and the destination port.
    SourceIpSourcePortDestinationPort,
}

/// A text that names no hash mode.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a hash mode; choose sourceip, sourceip-sourceport or sourceip-sourceport-destport")]
pub struct UnknownHashMode(String);

impl HashMode {
    /// All modes.
    pub const ALL: [Self; 3] =
        [Self::SourceIp, Self::SourceIpSourcePort, Self::SourceIpSourcePortDestinationPort];

    /// The name that CLUSTERIP's users know.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SourceIp => "sourceip",
            Self::SourceIpSourcePort => "sourceip-sourceport",
            Self::SourceIpSourcePortDestinationPort => "sourceip-sourceport-destport",
        }
    }
}

impl fmt::Display for HashMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for HashMode {
    type Err = UnknownHashMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| UnknownHashMode(text.to_owned()))
    }
}

/// The segment of a peer that sends from `source` (outer address) and `source_port` to our `destination_port`.
/// Ports that `mode` does not cover are ignored.
pub fn segment_of(source: IpAddr, source_port: u16, destination_port: u16, mode: HashMode, seed: u32) -> u8 {
    let address = source_word(source, seed);
    let hash = match mode {
        HashMode::SourceIp => jhash_words(&[address], seed),
        HashMode::SourceIpSourcePort => jhash_words(&[address, source_port.into()], seed),
        HashMode::SourceIpSourcePortDestinationPort => {
            jhash_words(&[address, source_port.into(), destination_port.into()], seed)
        }
    };
    reciprocal_scale(hash, 256) as u8
}

/// Linux's `reciprocal_scale`: maps a uniform 32-bit value to `0..limit` without a division.
fn reciprocal_scale(value: u32, limit: u32) -> u32 {
    ((u64::from(value) * u64::from(limit)) >> 32) as u32
}

/// An IPv6 source is folded to a word first; ClusterIP itself knows only IPv4.
fn source_word(source: IpAddr, seed: u32) -> u32 {
    match source {
        IpAddr::V4(address) => address.to_bits(),
        IpAddr::V6(address) => jhash_words(&words(address), seed),
    }
}

fn words(address: Ipv6Addr) -> [u32; 4] {
    let bits = address.to_bits();
    [(bits >> 96) as u32, (bits >> 64) as u32, (bits >> 32) as u32, bits as u32]
}

/// Linux's `jhash2` (and `jhash_1word` to `jhash_3words`, which are the same for so many words).
fn jhash_words(words: &[u32], seed: u32) -> u32 {
    let initial = 0xdead_beef_u32.wrapping_add((words.len() as u32) << 2).wrapping_add(seed);
    let mut state = Lookup3([initial; 3]);
    let mut rest = words;
    while rest.len() > 3 {
        let (block, tail) = rest.split_at(3);
        state.add(block);
        state.mix();
        rest = tail;
    }
    if rest.is_empty() {
        return state.0[2];
    }
    state.add(rest);
    state.finish()
}

/// The three words of lookup3's state.
struct Lookup3([u32; 3]);

impl Lookup3 {
    fn add(&mut self, block: &[u32]) {
        for (word, addend) in self.0.iter_mut().zip(block) {
            *word = word.wrapping_add(*addend);
        }
    }

    /// lookup3's `mix()`.
    fn mix(&mut self) {
        let [mut a, mut b, mut c] = self.0;
        a = a.wrapping_sub(c) ^ c.rotate_left(4);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(6);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(8);
        b = b.wrapping_add(a);
        a = a.wrapping_sub(c) ^ c.rotate_left(16);
        c = c.wrapping_add(b);
        b = b.wrapping_sub(a) ^ a.rotate_left(19);
        a = a.wrapping_add(c);
        c = c.wrapping_sub(b) ^ b.rotate_left(4);
        b = b.wrapping_add(a);
        self.0 = [a, b, c];
    }

    /// lookup3's `final()`.
    fn finish(self) -> u32 {
        let [mut a, mut b, mut c] = self.0;
        c = (c ^ b).wrapping_sub(b.rotate_left(14));
        a = (a ^ c).wrapping_sub(c.rotate_left(11));
        b = (b ^ a).wrapping_sub(a.rotate_left(25));
        c = (c ^ b).wrapping_sub(b.rotate_left(16));
        a = (a ^ c).wrapping_sub(c.rotate_left(4));
        b = (b ^ a).wrapping_sub(a.rotate_left(14));
        (c ^ b).wrapping_sub(b.rotate_left(24))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lookup3's `hashlittle` over octets, on the same state: it has published results, the word forms have not.
    fn hashlittle(octets: &[u8], seed: u32) -> u32 {
        let mut state = Lookup3([0xdead_beef_u32.wrapping_add(octets.len() as u32).wrapping_add(seed); 3]);
        let mut rest = octets;
        if rest.is_empty() {
            return state.0[2];
        }
        while rest.len() > 12 {
            let (block, tail) = rest.split_at(12);
            state.add(&little_endian_words(block));
            state.mix();
            rest = tail;
        }
        state.add(&little_endian_words(rest));
        state.finish()
    }

    fn little_endian_words(octets: &[u8]) -> Vec<u32> {
        octets
            .chunks(4)
            .map(|chunk| chunk.iter().rev().fold(0, |word, octet| word << 8 | u32::from(*octet)))
            .collect()
    }

    /// The values that lookup3.c's own `driver5` states in its comments.
    #[test]
    fn lookup3_published_values() {
        let speech = b"Four score and seven years ago";
        assert_eq!(hashlittle(b"", 0), 0xdead_beef);
        assert_eq!(hashlittle(b"", 0xdead_beef), 0xbd5b_7dde);
        assert_eq!(hashlittle(speech, 0), 0x1777_0551);
        assert_eq!(hashlittle(speech, 1), 0xcd62_8161);
    }

    /// lookup3.c: `hashword` of words equals `hashlittle` of their little-endian octets.
    #[test]
    fn words_hash_like_their_octets() {
        let words = [0xc000_0201_u32, 4500, 500, 0x1234_5678, 0xffff_ffff, 7, 8];
        for length in 0..=words.len() {
            let octets: Vec<u8> = words[..length].iter().flat_map(|word| word.to_le_bytes()).collect();
            for seed in [0, 1, 0xffff_ffff] {
                assert_eq!(jhash_words(&words[..length], seed), hashlittle(&octets, seed), "{length} words");
            }
        }
    }

    #[test]
    fn scaling_keeps_the_top_octet() {
        assert_eq!(reciprocal_scale(0, 256), 0);
        assert_eq!(reciprocal_scale(0xffff_ffff, 256), 255);
        assert_eq!(reciprocal_scale(0x2a00_0001, 256), 0x2a);
    }

    #[test]
    fn modes_ignore_what_they_do_not_cover() {
        let source: IpAddr = "198.51.100.7".parse().unwrap();
        let of = |sport, dport, mode| segment_of(source, sport, dport, mode, 1);
        assert_eq!(of(500, 500, HashMode::SourceIp), of(4500, 4500, HashMode::SourceIp));
        assert_eq!(of(1, 500, HashMode::SourceIpSourcePort), of(1, 4500, HashMode::SourceIpSourcePort));
        let all = HashMode::SourceIpSourcePortDestinationPort;
        assert!((0..64).any(|port| of(1, port, all) != of(1, 500, all)));
    }

    #[test]
    fn names_are_clusterips() {
        for mode in HashMode::ALL {
            assert_eq!(mode.name().parse(), Ok(mode));
        }
        assert!("source-ip".parse::<HashMode>().unwrap_err().to_string().contains("choose sourceip"));
    }
}
