//! Every shape that an SA of a test may have, and what its packets show to everybody.

use baton_dataplane::packet::{ipv4, ipv6, udp};
use baton_sad::{Mode, Suite};

use super::Setup;

/// Octets in front of the outer IP header.
pub const ETHERNET: usize = 14;

/// Tunnel mode in all mixes of families, transport mode in both; each in UDP and not.
pub fn shapes() -> impl Iterator<Item = Setup> {
    let families = [
        (Mode::Tunnel, false, false),
        (Mode::Tunnel, false, true),
        (Mode::Tunnel, true, false),
        (Mode::Tunnel, true, true),
        (Mode::Transport, false, false),
        (Mode::Transport, true, true),
    ];
    families.into_iter().flat_map(|(mode, outer_ipv6, inner_ipv6)| {
        [false, true].map(|encapsulated| Setup {
            mode,
            outer_ipv6,
            inner_ipv6,
            encapsulated,
            ..Setup::default()
        })
    })
}

/// Every suite in every shape. Half of each have extended sequence numbers.
pub fn every_kind() -> impl Iterator<Item = Setup> {
    Suite::ALL.into_iter().enumerate().flat_map(|(number, suite)| {
        let is_extended = move |place| (number + place) % 2 == 0;
        shapes().enumerate().map(move |(place, shape)| Setup { suite, extended: is_extended(place), ..shape })
    })
}

/// What an ESP packet shows without its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnWire {
    pub spi: u32,
    /// The lower half, which is all that is sent.
    pub sequence: u32,
    pub iv: Vec<u8>,
    /// What follows the IV.
    pub rest: Vec<u8>,
}

impl Setup {
    /// Where ESP begins in a frame on the outer side.
    pub fn esp_at(&self) -> usize {
        let ip = if self.outer_ipv6 { ipv6::HEADER } else { ipv4::HEADER };
        ETHERNET + ip + if self.encapsulated { udp::HEADER } else { 0 }
    }

    /// Reads a frame of this set-up.
    pub fn on_wire(&self, frame: &[u8]) -> OnWire {
        let esp = &frame[self.esp_at()..];
        let word = |at: usize| u32::from_be_bytes(esp[at..at + 4].try_into().unwrap());
        let (iv, rest) = esp[8..].split_at(self.suite.iv_length());
        OnWire { spi: word(0), sequence: word(4), iv: iv.to_vec(), rest: rest.to_vec() }
    }
}
