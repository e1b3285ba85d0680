//! Every shape that an SA of a test may have, and what its packets show to everybody.

use baton_dataplane::crypto::{Backend, Engine, Job};
use baton_dataplane::packet::ip::IpHeader;
use baton_dataplane::packet::{checksum, ipv4, ipv6, udp};
use baton_sad::{Direction, Mode, Suite};

use super::{Packet, SPI, Setup, sa};

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

    /// A frame for gateway 1 whose ESP text (trailer included) is exactly this, authentic under gateway 0's key.
    pub fn crafted(&self, sequence: u32, text: &[u8]) -> Vec<u8> {
        let sa = sa(self, 0, Direction::Outbound, 0);
        let header = [SPI[1].to_be_bytes(), sequence.to_be_bytes()].concat();
        let around = [self.suite.iv_length(), self.suite.icv_length()].map(|length| vec![0; length]);
        let mut esp = [&header[..], &around[0], text, &around[1]].concat();
        let mut engine = Engine::new(Backend::RustCrypto).unwrap();
        let key = engine.prepare(sa.suite, sa.extended_sequence, sa.key.expose()).unwrap();
        engine.seal(&mut [Job::to_seal(&key, u64::from(sequence), u64::from(sequence), &mut esp)]);
        self.datagram(0, ipv4::ESP, &esp)
    }

    /// A frame from one gateway to the other with this behind its IP header.
    pub fn datagram(&self, from: usize, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let header = if self.outer_ipv6 { ipv6::HEADER } else { ipv4::HEADER };
        let (source, destination) = (self.outer(from), self.outer(1 - from));
        let length = (header + payload.len()) as u16;
        let packet = Packet { source, destination, protocol, length, ..Packet::from(from, length) };
        [&packet.frame()[..ETHERNET + header], payload].concat()
    }

    /// A router's word to gateway 0 that the packet `quoted`, which it sent, is larger than `mtu`.
    pub fn too_big(&self, quoted: &[u8], mtu: u16) -> Vec<u8> {
        let (kind, protocol) = if self.outer_ipv6 { ([2, 0], ipv6::ICMP) } else { ([3, 4], ipv4::ICMP) };
        let word = u32::from(mtu).to_be_bytes();
        let mut message = [&kind[..], &[0, 0], &word, &quoted[..quoted.len().min(100)]].concat();
        let frame = self.datagram(1, protocol, &message);
        let header = IpHeader::parse(&frame[ETHERNET..]).unwrap();
        let pseudo = if self.outer_ipv6 { header.pseudo_header(protocol, message.len()) } else { 0 };
        let sum = !checksum::fold(pseudo + u64::from(checksum::sum(&message)));
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        self.datagram(1, protocol, &message)
    }
}

/// Corrects the checksum of a frame's IPv4 header.
pub fn sum_ipv4(frame: &mut [u8]) {
    let header = &mut frame[ETHERNET..ETHERNET + ipv4::HEADER];
    header[10..12].fill(0);
    let sum = checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}
