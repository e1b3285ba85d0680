//! Which segment a packet belongs to and who gets it: the XDP filter's rules as a pure function.
//!
//! [`classify`] is the twin of `ebpf/baton.bpf.c`, whose head comment holds the table of verdicts and the
//! reasons. A test runs the loaded program against it on random packets. Userspace uses [`segment_of`] to tell
//! an operator which segment a peer has.

mod hash;
mod networks;
mod packet;
mod rules;

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::io::Side;
use crate::next_hop::Mac;
use crate::prefix::PrefixTable;
use crate::xdp::{Action, Owners, Resolution, Verdict};

pub use hash::{HashMode, UnknownHashMode, segment_of};
pub use networks::{Network, networks};
use packet::{Fragment, Packet, Parsed, be16, be32};
pub(crate) use rules::may_meet;
#[cfg(test)]
pub(crate) use rules::permit;
pub use rules::{LocalRule, needed};

const HOP_BY_HOP: u8 = 0;
const ICMP: u8 = 1;
const UDP: u8 = 17;
const ESP: u8 = 50;
const ICMPV6: u8 = 58;
const IKE_PORT: u16 = 500;
const NAT_T_PORT: u16 = 4500;

/// An SPI that an override can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Spi {
    /// Of an inbound ESP SA (RFC 4303 section 2.1).
    Esp(u32),
    /// Our half of an IKE SA's pair (RFC 7296 section 3.1).
    Ike(u64),
}

impl Spi {
    /// The segment that its top octet names.
    pub const fn segment(self) -> u8 {
        match self {
            Self::Esp(spi) => (spi >> 24) as u8,
            Self::Ike(spi) => (spi >> 56) as u8,
        }
    }
}

/// Everything that the filter knows on one side.
#[derive(Clone, Debug)]
pub struct SteeringView {
    /// The side whose entry point is meant.
    pub side: Side,
    /// Hash for packets without an SPI of ours.
    pub mode: HashMode,
    /// Its seed.
    pub seed: u32,
    /// Bit `segment & 63` of word `segment >> 6`: owned by this node.
    pub owned: [u64; 4],
    /// SPIs whose top octet is not their segment.
    pub overrides: HashMap<Spi, u8>,
    /// Our own addresses to which peers send IPsec.
    pub outer_addresses: HashSet<IpAddr>,
    /// All addresses of this host.
    pub own_addresses: HashSet<IpAddr>,
    /// The MAC addresses to which frames for us are addressed on this side: the interface's own first, then the one that
    /// is shared with other nodes.
    pub macs: Vec<Mac>,
    /// What is known of the other nodes.
    pub owners: Owners,
    /// Who answers for the shared addresses.
    pub resolution: Resolution,
    /// The addresses that are shared with other nodes on this side.
    pub shared_addresses: HashSet<IpAddr>,
    /// The remote networks of all policies: destinations on the inner side, sources of clear traffic on the outer one.
    pub networks: PrefixTable<Network>,
    /// What may be clear for ourselves, whoever sends it, in their order.
    pub rules: Vec<LocalRule>,
    /// Whether an AF_XDP socket stands behind the queue.
    pub socket: bool,
}

/// Where a packet goes, and the segment that decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The counter under which the packet falls.
    pub verdict: Verdict,
    /// Its segment, where the rules needed one.
    pub segment: Option<u8>,
}

/// The verdict for one Ethernet frame.
pub fn classify(frame: &[u8], view: &SteeringView) -> Decision {
    let mut decision = match view.side {
        Side::Outer => outer(frame, view),
        Side::Inner => inner(frame, view),
    };
    decision.verdict = unless_forwarded(frame, decision, view);
    if decision.verdict.action() == Action::Socket && !view.socket {
        decision.verdict = Verdict::NoSocket;
    }
    decision
}

/// What another node owns goes on to it, where its address is known and the frame was sent to ours alone; but not what
/// a member of the cluster has sent on already.
fn unless_forwarded(frame: &[u8], Decision { verdict, segment }: Decision, view: &SteeringView) -> Verdict {
    let forwarded = match verdict {
        Verdict::EspForeign => Verdict::EspForwarded,
        Verdict::UdpEspForeign => Verdict::UdpEspForwarded,
        Verdict::IkeForeign => Verdict::IkeForwarded,
        Verdict::ClearForeign => Verdict::ClearForwarded,
        Verdict::PlaintextForeign => Verdict::PlaintextForwarded,
        other => return other,
    };
    let known = |mac: &Mac| *mac != Mac::default();
    let owner = segment.map(|segment| view.owners.macs[view.side.index()][usize::from(segment)]);
    let (Some([destination, source]), Some(own)) = (macs(frame), view.macs.first().filter(|mac| known(mac)))
    else {
        return verdict;
    };
    match owner.filter(known) {
        Some(_) if destination == *own && view.owners.members.contains(&source) => Verdict::ForwardLoop,
        Some(_) if destination == *own => forwarded,
        _ => verdict,
    }
}

/// Destination and source.
fn macs(frame: &[u8]) -> Option<[Mac; 2]> {
    let header = frame.first_chunk::<14>()?;
    let mac = |at: usize| Mac([0, 1, 2, 3, 4, 5].map(|octet| header[at + octet]));
    Some([mac(0), mac(6)])
}

/// Whether somebody asks for the MAC address of an address that is shared, and what becomes of that.
fn resolution(frame: &[u8], parsed: &Parsed<'_>, view: &SteeringView) -> Option<Decision> {
    let (answered, silent, can_be_answered) = match parsed {
        Parsed::NotIp => {
            let (sender, target) = packet::arp_request(frame)?;
            if sender == target || !view.shared_addresses.contains(&target.into()) {
                return None;
            }
            (Verdict::ArpAnswered, Verdict::ArpSilent, true)
        }
        Parsed::Ip(packet) => {
            let target = packet.solicited()?;
            if !view.shared_addresses.contains(&target.into()) {
                return None;
            }
            let is_complete = packet.payload.len() >= 32 && !packet.source.is_unspecified();
            (Verdict::NdAnswered, Verdict::NdSilent, is_complete)
        }
        _ => return None,
    };
    let has_mac = view.macs.get(1).is_some_and(|mac| *mac != Mac::default());
    match view.resolution {
        Resolution::Kernel => None,
        Resolution::SharedMac if has_mac && can_be_answered => Some(plain(answered)),
        Resolution::SharedMac | Resolution::Silent => Some(plain(silent)),
    }
}

fn plain(verdict: Verdict) -> Decision {
    Decision { verdict, segment: None }
}

fn refused(parsed: &Parsed<'_>) -> Option<Decision> {
    match parsed {
        Parsed::Ip(_) => None,
        Parsed::NotIp => Some(plain(Verdict::NotIp)),
        Parsed::MalformedEthernet => Some(plain(Verdict::MalformedEthernet)),
        Parsed::MalformedIp => Some(plain(Verdict::MalformedIp)),
        Parsed::TooManyHeaders => Some(plain(Verdict::ExtensionHeaders)),
    }
}

impl SteeringView {
    fn by_owner(&self, segment: u8, ours: Verdict, theirs: Verdict) -> Decision {
        let owned = self.owned[usize::from(segment >> 6)] >> (segment & 63) & 1 == 1;
        Decision { verdict: if owned { ours } else { theirs }, segment: Some(segment) }
    }

    fn is_addressed_to_us(&self, frame: &[u8]) -> bool {
        let destination = frame.first_chunk().copied().map(Mac);
        destination.is_some_and(|mac| mac != Mac::default() && self.macs.contains(&mac))
    }

    fn spi_segment(&self, spi: Spi) -> u8 {
        self.overrides.get(&spi).copied().unwrap_or(spi.segment())
    }
}

fn outer(frame: &[u8], view: &SteeringView) -> Decision {
    let parsed = packet::parse(frame);
    if let Some(decision) = resolution(frame, &parsed, view).or_else(|| refused(&parsed)) {
        return decision;
    }
    let Parsed::Ip(packet) = parsed else { return plain(Verdict::MalformedIp) };
    let destination = packet.destination;
    let is_query = is_multicast(destination) && is_listener_query(&packet);
    let source = packet.source;
    let is_for_ipsec = view.outer_addresses.contains(&destination);
    let verdict = if view.own_addresses.contains(&destination) {
        Verdict::Local
    } else if is_multicast(destination) || !view.is_addressed_to_us(frame) {
        Verdict::NotOurs
    } else if !is_for_ipsec {
        return transit(source, view);
    } else {
        Verdict::Local
    };
    let parsed = packet.without_extension_headers();
    let decision = match (&parsed, refused(&parsed)) {
        (Parsed::Ip(packet), _) if is_for_ipsec => to_us(packet, view),
        (_, Some(decision)) if is_for_ipsec => decision,
        _ => plain(verdict),
    };
    if is_query && !is_for_ipsec { decision } else { unless_protected(source, &parsed, view, decision) }
}

/// Clear traffic that is to be forwarded: only where some bypass policy has its source, the SPD is asked.
fn transit(source: IpAddr, view: &SteeringView) -> Decision {
    match view.networks.lookup(source) {
        None => plain(Verdict::NoPolicy),
        Some(network) if !network.is_bypassed => plain(Verdict::ClearProtected),
        Some(network) => view.by_owner(network.segment, Verdict::ClearOwned, Verdict::ClearForeign),
    }
}

/// `decision`, unless it lets the kernel have in clear what must come through a tunnel (RFC 4301 section 5.2).
fn unless_protected(
    source: IpAddr,
    parsed: &Parsed<'_>,
    view: &SteeringView,
    decision: Decision,
) -> Decision {
    let exempt = match (decision.verdict, parsed) {
        (verdict, _) if verdict.action() != Action::Pass => true,
        (Verdict::IkeOwned, _) => true,
        // Of IKE, or of what a rule permits: no other first fragment of such a source passes.
        (Verdict::Fragment, Parsed::Ip(packet)) if packet.protocol == UDP => true,
        (Verdict::Local, Parsed::Ip(packet)) => is_neighbour_discovery(packet),
        (Verdict::NotOurs, Parsed::Ip(packet)) => {
            is_multicast(packet.destination) && is_neighbour_discovery(packet)
        }
        _ => false,
    };
    if exempt || !view.networks.lookup(source).is_some_and(|network| network.is_protected) {
        return decision;
    }
    match parsed {
        Parsed::Ip(packet) if rules::permit(&view.rules, &packet.flow()) => plain(Verdict::ClearBypass),
        _ => plain(Verdict::ClearProtected),
    }
}

/// Router solicitation to redirect, from this link by its hop limit (RFC 4861 section 4).
fn is_neighbour_discovery(packet: &Packet<'_>) -> bool {
    packet.destination.is_ipv6()
        && packet.protocol == ICMPV6
        && packet.hop_limit == 255
        && packet.fragment == Fragment::Whole
        && packet.payload.first_chunk::<8>().is_some_and(|header| matches!(header[0], 133..=137))
}

/// A multicast listener query of this link, behind its router alert (RFC 3810 section 5.1).
fn is_listener_query(packet: &Packet<'_>) -> bool {
    let IpAddr::V6(source) = packet.source else { return false };
    source.is_unicast_link_local()
        && packet.protocol == HOP_BY_HOP
        && packet.hop_limit == 1
        && packet
            .payload
            .first_chunk::<16>()
            .is_some_and(|head| matches!(head, [ICMPV6, 0, _, _, _, _, _, _, 130, ..]))
}

fn to_us(packet: &Packet<'_>, view: &SteeringView) -> Decision {
    let v4 = packet.destination.is_ipv4();
    match packet.protocol {
        ESP if packet.fragment == Fragment::Later => plain(Verdict::EspFragment),
        _ if packet.fragment == Fragment::Later => plain(Verdict::Fragment),
        ESP => esp(packet.payload, view, Verdict::EspOwned, Verdict::EspForeign),
        UDP => udp(packet, view),
        ICMP if v4 => icmp(packet.payload, |kind| matches!(kind, 3 | 11 | 12), quotes_esp4),
        ICMPV6 if !v4 => icmp(packet.payload, |kind| matches!(kind, 1..=4), quotes_esp6),
        _ => plain(Verdict::Local),
    }
}

fn esp(payload: &[u8], view: &SteeringView, ours: Verdict, theirs: Verdict) -> Decision {
    let Some(header) = payload.first_chunk::<8>() else { return plain(Verdict::MalformedEsp) };
    view.by_owner(view.spi_segment(Spi::Esp(be32(header, 0))), ours, theirs)
}

fn udp(packet: &Packet<'_>, view: &SteeringView) -> Decision {
    let Some(header) = packet.payload.first_chunk::<8>() else { return plain(Verdict::MalformedUdp) };
    let ports = (be16(header, 0), be16(header, 2));
    if !matches!(ports.1, IKE_PORT | NAT_T_PORT) {
        return plain(Verdict::Local);
    }
    let length = usize::from(be16(header, 4));
    let datagram = match packet.payload.get(..length) {
        Some(datagram) => datagram,
        // The first fragment of a datagram that is longer than it.
        None if packet.fragment == Fragment::First => packet.payload,
        None => return plain(Verdict::MalformedUdp),
    };
    let Some(content) = datagram.get(8..) else { return plain(Verdict::MalformedUdp) };
    if ports.1 == IKE_PORT {
        return ike(content, packet.source, ports, view);
    }
    // RFC 3948 sections 2.2 and 2.3.
    match content {
        [0xff] => plain(Verdict::NatKeepalive),
        [0, 0, 0, 0, message @ ..] => ike(message, packet.source, ports, view),
        [_, _, _, _, ..] => esp(content, view, Verdict::UdpEspOwned, Verdict::UdpEspForeign),
        _ => plain(Verdict::MalformedUdp),
    }
}

fn ike(message: &[u8], source: IpAddr, ports: (u16, u16), view: &SteeringView) -> Decision {
    let Some(header) = message.first_chunk::<28>() else { return plain(Verdict::MalformedIke) };
    let spi = |at| u64::from(be32(header, at)) << 32 | u64::from(be32(header, at + 4));
    let version_2 = header[17] >> 4 == 2;
    if version_2 && spi(0) == 0 {
        return plain(Verdict::MalformedIke);
    }
    let from_initiator = header[19] & 0x08 != 0;
    let ours = match (version_2, from_initiator) {
        (false, _) => 0,
        (true, true) => spi(8),
        (true, false) => spi(0),
    };
    let segment = match ours {
        0 => segment_of(source, ports.0, ports.1, view.mode, view.seed),
        spi => view.spi_segment(Spi::Ike(spi)),
    };
    view.by_owner(segment, Verdict::IkeOwned, Verdict::IkeForeign)
}

fn icmp(message: &[u8], is_error: impl Fn(u8) -> bool, quotes_esp: impl Fn(&[u8]) -> bool) -> Decision {
    let about_esp = message.get(8..).is_some_and(|quoted| is_error(message[0]) && quotes_esp(quoted));
    plain(if about_esp { Verdict::IcmpEsp } else { Verdict::Local })
}

fn quotes_esp4(quoted: &[u8]) -> bool {
    let Some(header) = quoted.first_chunk::<20>() else { return false };
    let length = usize::from(header[0] & 0x0f) * 4;
    let later_fragment = be16(header, 6) & 0x1fff != 0;
    header[0] >> 4 == 4
        && length >= 20
        && match header[9] {
            ESP => true,
            UDP => !later_fragment && quoted.get(length..).is_some_and(quotes_udp_esp),
            _ => false,
        }
}

fn quotes_esp6(quoted: &[u8]) -> bool {
    let Some(Parsed::Ip(packet)) = packet::quoted_ipv6(quoted).map(Packet::without_extension_headers) else {
        return false;
    };
    let later_fragment = packet.fragment == Fragment::Later;
    packet.protocol == ESP || packet.protocol == UDP && !later_fragment && quotes_udp_esp(packet.payload)
}

fn quotes_udp_esp(quoted: &[u8]) -> bool {
    quoted.first_chunk::<12>().is_some_and(|head| be16(head, 0) == NAT_T_PORT && be32(head, 8) != 0)
}

fn inner(frame: &[u8], view: &SteeringView) -> Decision {
    let parsed = packet::parse(frame);
    if let Some(decision) = resolution(frame, &parsed, view).or_else(|| refused(&parsed)) {
        return decision;
    }
    let Parsed::Ip(packet) = parsed else { return plain(Verdict::MalformedIp) };
    if is_multicast(packet.destination) {
        return plain(Verdict::Multicast);
    }
    if view.own_addresses.contains(&packet.destination) {
        return plain(Verdict::Local);
    }
    let Some(network) = view.networks.lookup(packet.destination) else { return plain(Verdict::NoPolicy) };
    let decision = view.by_owner(network.segment, Verdict::PlaintextOwned, Verdict::PlaintextForeign);
    if decision.verdict.action() == Action::Socket && !view.is_addressed_to_us(frame) {
        return plain(Verdict::OtherHost);
    }
    decision
}

fn is_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}
