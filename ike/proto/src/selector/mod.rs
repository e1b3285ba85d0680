//! Traffic selectors (RFC 7296 section 2.9): as configured, as the peer offers them, and what both want.

mod configured;
mod narrow;
mod range;

use configured::Fields;
pub use configured::{ConfiguredSelector, SelectorError};
pub use narrow::{MAX_PAIRS, Narrowed, Sides, is_subset, narrow, pairs};

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::wire;

/// All ports, and packets in which none can be seen.
pub const ANY_PORTS: RangeInclusive<u16> = 0..=u16::MAX;
/// Packets whose ports cannot be seen (RFC 7296 section 3.13.1).
pub const OPAQUE_PORTS: RangeInclusive<u16> = RangeInclusive::new(u16::MAX, 0);

/// One side of a packet: addresses of one family, a protocol, ports (RFC 7296 section 3.13.1).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TrafficSelector {
    /// IP protocol; 0 is any.
    pub protocol: u8,
    /// Ports of this side, [`ANY_PORTS`] or [`OPAQUE_PORTS`]. With ICMP, type (upper octet) and code; with Mobility,
    /// the header's type in the upper octet.
    pub ports: RangeInclusive<u16>,
    /// The lowest address.
    pub first: IpAddr,
    /// The highest address.
    pub last: IpAddr,
}

impl TrafficSelector {
    /// Everything from or to one address.
    pub const fn host(address: IpAddr) -> Self {
        Self::range(address, address)
    }

    /// Everything from or to a range of addresses.
    pub const fn range(first: IpAddr, last: IpAddr) -> Self {
        Self { protocol: 0, ports: ANY_PORTS, first, last }
    }

    /// Whether a packet could match it: no family mixed, no range upside down, no ports without a protocol.
    pub fn is_possible(&self) -> bool {
        let ports = self.ports.start() <= self.ports.end() || self.ports == OPAQUE_PORTS;
        let has_protocol = self.protocol != 0 || self.ports == ANY_PORTS;
        self.first.is_ipv4() == self.last.is_ipv4() && self.first <= self.last && ports && has_protocol
    }

    /// Whether it names a single packet's address, protocol and port: the packet that made the peer ask
    /// (RFC 7296 section 2.9).
    pub fn is_single_packet(&self) -> bool {
        self.first == self.last && self.protocol != 0 && self.ports.start() == self.ports.end()
    }

    /// What matches both; `None` if nothing does.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        if self.first.is_ipv4() != other.first.is_ipv4() {
            return None;
        }
        let protocol = both_protocols(self.protocol, other.protocol)?;
        let ports = both_ports(&self.ports, &other.ports)?;
        let (first, last) = (self.first.max(other.first), self.last.min(other.last));
        (first <= last).then_some(Self { protocol, ports, first, last })
    }

    /// Whether all that matches the other matches this one.
    pub fn covers(&self, other: &Self) -> bool {
        self.intersection(other).as_ref() == Some(other)
    }

    /// Whether packets exist that have this selector on one side and the other one on the other side. A packet has
    /// both ports or none.
    pub fn pairs_with(&self, other: &Self) -> bool {
        let Some(protocol) = both_protocols(self.protocol, other.protocol) else { return false };
        let split = |a: &RangeInclusive<u16>, b: &RangeInclusive<u16>| {
            *a == OPAQUE_PORTS && *b != OPAQUE_PORTS && *b != ANY_PORTS
        };
        let splits = split(&self.ports, &other.ports) || split(&other.ports, &self.ports);
        let has_ports = Fields::of(protocol) == Fields::Ports;
        self.first.is_ipv4() == other.first.is_ipv4() && !(has_ports && splits)
    }

    /// As a peer wrote it; `None` if no packet can match it.
    pub fn from_wire(selector: &wire::TrafficSelector) -> Option<Self> {
        let &wire::TrafficSelector { protocol, start_port, end_port, first, last } = selector;
        Some(Self { protocol, ports: start_port..=end_port, first, last }).filter(Self::is_possible)
    }

    /// As it is written to the peer.
    pub const fn to_wire(&self) -> wire::TrafficSelector {
        let (start_port, end_port) = (*self.ports.start(), *self.ports.end());
        wire::TrafficSelector {
            protocol: self.protocol,
            start_port,
            end_port,
            first: self.first,
            last: self.last,
        }
    }
}

fn both_protocols(a: u8, b: u8) -> Option<u8> {
    match (a, b) {
        (0, protocol) | (protocol, 0) => Some(protocol),
        _ => (a == b).then_some(a),
    }
}

fn both_ports(a: &RangeInclusive<u16>, b: &RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    if *a == ANY_PORTS {
        return Some(b.clone());
    }
    if *b == ANY_PORTS || a == b {
        return Some(a.clone());
    }
    let (first, last) = (*a.start().max(b.start()), *a.end().min(b.end()));
    let neither_opaque = *a != OPAQUE_PORTS && *b != OPAQUE_PORTS;
    (first <= last && neither_opaque).then_some(first..=last)
}

/// As it is configured: `10.1.0.0/16[tcp/443]`, with a prefix where the addresses are one.
impl fmt::Display for TrafficSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&range::show(self.first, self.last))?;
        configured::show_layer(f, self.protocol, &self.ports)
    }
}

#[cfg(test)]
mod tests;
