//! Selectors as boxes: five spans of numbers, so that "matches" is "meets" in all five.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use baton_sad::{AddressRange, Selector};

use super::Way;
use crate::packet::transport::{Flow, bits};

/// The number behind the last port: OPAQUE, a field that cannot be seen (RFC 4301 section 4.4.1.1). ANY reaches up
/// to it, and no range of ports does.
const OPAQUE: u32 = 1 << 16;
const ANY_PORTS: Span<u32> = Span { first: 0, last: OPAQUE };
const OPAQUE_PORTS: Span<u32> = Span { first: OPAQUE, last: OPAQUE };

const ANY_PROTOCOL: Span<u8> = Span { first: 0, last: u8::MAX };

/// The protocols that have one field instead of two ports: ICMP, ICMPv6 and the Mobility Header.
const ONE_FIELD: [u8; 3] = [1, 58, 135];
/// The protocols that have ports: TCP, UDP, DCCP, SCTP and UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// IPv6's extension headers, behind which a later fragment has its protocol.
const EXTENSION_HEADERS: [u8; 4] = [0, 43, 44, 60];

/// Numbers from `first` to `last`, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span<T> {
    first: T,
    last: T,
}

impl<T: Copy + Ord> Span<T> {
    const fn one(value: T) -> Self {
        Self { first: value, last: value }
    }

    #[inline]
    #[allow(clippy::needless_bitwise_bool)] // See `Bounds::meets`.
    fn meets(self, other: Self) -> bool {
        (self.first <= other.last) & (other.first <= self.last)
    }

    fn hull(self, other: Self) -> Self {
        Self { first: self.first.min(other.first), last: self.last.max(other.last) }
    }
}

/// An address as the trees compare it: narrow for IPv4, so that more of them fit a cache line.
pub(super) trait Address: Copy + Ord {
    /// Whether this is IPv6's.
    const IS_IPV6: bool;
    /// The lowest and the highest.
    const ENDS: (Self, Self);

    /// From the form that has an IPv4 address in the lowest 32 bits.
    fn of(bits: u128) -> Self;

    /// The number halfway to one that is not lower.
    fn halfway(self, last: Self) -> Self;
}

impl Address for u32 {
    const IS_IPV6: bool = false;
    const ENDS: (Self, Self) = (Self::MIN, Self::MAX);

    #[inline]
    fn of(bits: u128) -> Self {
        bits as u32
    }

    fn halfway(self, last: Self) -> Self {
        self.midpoint(last)
    }
}

impl Address for u128 {
    const IS_IPV6: bool = true;
    const ENDS: (Self, Self) = (Self::MIN, Self::MAX);

    #[inline]
    fn of(bits: u128) -> Self {
        bits
    }

    fn halfway(self, last: Self) -> Self {
        self.midpoint(last)
    }
}

/// What a selector selects, or a flow as the one box that it meets selectors with; local and remote as this
/// gateway sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds<A> {
    remote: Span<A>,
    local: Span<A>,
    remote_ports: Span<u32>,
    local_ports: Span<u32>,
    protocol: Span<u8>,
}

/// One of the five numbers that selectors are about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Dimension {
    Remote,
    Local,
    RemotePorts,
    LocalPorts,
    Protocol,
}

impl Dimension {
    pub(super) const ALL: [Self; 5] =
        [Self::Remote, Self::Local, Self::RemotePorts, Self::LocalPorts, Self::Protocol];
}

impl<A: Address> Bounds<A> {
    /// The box of the lowest numbers.
    pub(super) const ORIGIN: Self = Self {
        remote: Span::one(A::ENDS.0),
        local: Span::one(A::ENDS.0),
        remote_ports: Span::one(0),
        local_ports: Span::one(0),
        protocol: Span::one(0),
    };

    /// `None` for selectors of the other family, of two families, or with ends the wrong way round: no packet
    /// of this family matches those.
    pub(super) fn of_selector(selector: &Selector) -> Option<Self> {
        Some(Self {
            remote: addresses(&selector.remote)?,
            local: addresses(&selector.local)?,
            remote_ports: ports(&selector.remote_ports)?,
            local_ports: ports(&selector.local_ports)?,
            protocol: selector.protocol.map_or(ANY_PROTOCOL, Span::one),
        })
    }

    /// Of a flow of this family.
    #[inline]
    pub(super) fn of_flow(flow: &Flow, way: Way) -> Self {
        let source = Span::one(A::of(flow.source_bits()));
        let destination = Span::one(A::of(flow.destination_bits()));
        let protocol = Span::one(flow.protocol());
        let (sender, receiver) = fields(flow);
        let (local, remote, local_ports, remote_ports) = match way {
            Way::Outbound => (source, destination, sender, receiver),
            Way::Inbound => (destination, source, receiver, sender),
        };
        Self { remote, local, remote_ports, local_ports, protocol }
    }

    /// Of all the outbound flows that a packet without ports to see may be a part of; `None` if it shows what it is.
    pub(super) fn of_hidden(flow: &Flow) -> Option<Self> {
        let protocol = match flow.protocol() {
            _ if flow.ports().is_some() => return None,
            one if WITH_PORTS.contains(&one) || ONE_FIELD.contains(&one) => Span::one(one),
            extension if A::IS_IPV6 && EXTENSION_HEADERS.contains(&extension) => ANY_PROTOCOL,
            _ => return None,
        };
        let (remote_ports, local_ports) = (ANY_PORTS, ANY_PORTS);
        Some(Self { remote_ports, local_ports, protocol, ..Self::of_flow(flow, Way::Outbound) })
    }

    /// Whether no packet without ports to see matches.
    pub(super) fn wants_ports(&self) -> bool {
        !(self.remote_ports.meets(OPAQUE_PORTS) && self.local_ports.meets(OPAQUE_PORTS))
    }

    /// Without a branch between the comparisons: which of them fails is as good as random, and a search among
    /// policies that overlap takes a quarter longer with them (benches/spd.rs).
    #[inline]
    pub(super) fn meets(&self, other: &Self) -> bool {
        self.remote.meets(other.remote)
            & self.local.meets(other.local)
            & self.remote_ports.meets(other.remote_ports)
            & self.local_ports.meets(other.local_ports)
            & self.protocol.meets(other.protocol)
    }

    /// The smallest box around both.
    pub(super) fn hull(&self, other: &Self) -> Self {
        Self {
            remote: self.remote.hull(other.remote),
            local: self.local.hull(other.local),
            remote_ports: self.remote_ports.hull(other.remote_ports),
            local_ports: self.local_ports.hull(other.local_ports),
            protocol: self.protocol.hull(other.protocol),
        }
    }

    /// First and last number in one dimension.
    pub(super) fn along(&self, dimension: Dimension) -> (A, A) {
        let wide = |span: Span<u32>| (A::of(span.first.into()), A::of(span.last.into()));
        match dimension {
            Dimension::Remote => (self.remote.first, self.remote.last),
            Dimension::Local => (self.local.first, self.local.last),
            Dimension::RemotePorts => wide(self.remote_ports),
            Dimension::LocalPorts => wide(self.local_ports),
            Dimension::Protocol => (A::of(self.protocol.first.into()), A::of(self.protocol.last.into())),
        }
    }

    /// The number in the middle of one dimension.
    pub(super) fn middle(&self, dimension: Dimension) -> A {
        let (first, last) = self.along(dimension);
        first.halfway(last)
    }
}

fn addresses<A: Address>(range: &AddressRange) -> Option<Span<A>> {
    let family = |address: IpAddr| (address.is_ipv6() == A::IS_IPV6).then(|| A::of(bits(address)));
    let (first, last) = (family(range.start())?, family(range.end())?);
    (first <= last).then_some(Span { first, last })
}

fn ports(range: &RangeInclusive<u16>) -> Option<Span<u32>> {
    let (first, last) = (u32::from(*range.start()), u32::from(*range.end()));
    match (first, last) {
        _ if *range == Selector::OPAQUE => Some(OPAQUE_PORTS),
        (0, 0xffff) => Some(ANY_PORTS),
        _ => (first <= last).then_some(Span { first, last }),
    }
}

/// The sender's and the receiver's port.
///
/// Where a protocol has one field for both, the sender's selector says what may be sent, and the receiver's says
/// nothing about this packet: it is for the answers (RFC 4301 section 4.4.1.3 B to D).
#[inline]
fn fields(flow: &Flow) -> (Span<u32>, Span<u32>) {
    match flow.ports() {
        None => (OPAQUE_PORTS, OPAQUE_PORTS),
        Some((kind, _)) if ONE_FIELD.contains(&flow.protocol()) => (Span::one(kind.into()), ANY_PORTS),
        Some((source, destination)) => (Span::one(source.into()), Span::one(destination.into())),
    }
}
