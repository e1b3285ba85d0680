//! What the SPD means to the XDP filter: bypass policies, transport mode, traffic of this host itself. In the kernel and
//! in the twin at once, as in `steering.rs`.

mod steering_support;

use std::net::IpAddr;
use std::ops::RangeInclusive;

use baton_dataplane::io::Side;
use baton_dataplane::steering::LocalRule;
use baton_dataplane::xdp::{Verdict, XdpError};
use baton_sad::{AddressRange, Selector};
use steering_support::packets::{
    ESP, ICMP, ICMPV6, UDP, esp, ethernet, extension, fragment_header, frame, icmp, ike, ip, ipv4, udp,
};
use steering_support::pair::Pair;
use steering_support::{World, address, bits, prefix, privileged};

const TCP: u8 = 6;
const OSPF: u8 = 89;
const ANY: RangeInclusive<u16> = 0..=u16::MAX;

fn tcp(source: u16, destination: u16) -> Vec<u8> {
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &[0; 16]].concat()
}

fn range(text: &str) -> AddressRange {
    let prefix = prefix(text);
    AddressRange::new(prefix.first(), prefix.last()).unwrap()
}

fn rule(permits: bool, local: &str, remote: &str) -> LocalRule {
    LocalRule { selector: Selector::addresses(range(local), range(remote)), permits }
}

/// With a protocol and our ports.
fn narrowed(rule: LocalRule, protocol: u8, ports: RangeInclusive<u16>) -> LocalRule {
    let selector = Selector { protocol: Some(protocol), local_ports: ports, ..rule.selector };
    LocalRule { selector, ..rule }
}

/// Everything is behind a tunnel, of segment 5.
fn all_protected() -> World {
    World { protected: vec![(prefix("0.0.0.0/0"), 5), (prefix("::/0"), 5)], ..World::default() }
}

fn peer() -> IpAddr {
    address("198.51.100.7")
}

fn ours() -> IpAddr {
    address("203.0.113.2")
}

#[test]
fn clear_transit_goes_to_the_data_plane_where_a_bypass_policy_has_its_source() {
    if !privileged("clear_transit_goes_to_the_data_plane_where_a_bypass_policy_has_its_source") {
        return;
    }
    let bypassed = vec![
        (prefix("192.0.2.0/24"), 9),
        (prefix("192.0.2.128/25"), 130), // another node's
        (prefix("10.1.7.0/24"), 200),    // within a tunnel's 10.1.0.0/16
        (prefix("2001:db8:9::/48"), 9),
    ];
    let mut pair = Pair::with_socket(World { bypassed, ..World::default() });
    let from = |source: &str| {
        let destination = if source.contains(':') { "fd00:2::9" } else { "10.2.0.9" };
        frame(address(source), address(destination), TCP, &tcp(40_000, 443))
    };
    pair.expect(Side::Outer, &from("192.0.2.1"), Verdict::ClearOwned, Some(9));
    pair.expect(Side::Outer, &from("192.0.2.129"), Verdict::ClearForeign, Some(130));
    pair.expect(Side::Outer, &from("2001:db8:9::1"), Verdict::ClearOwned, Some(9));
    pair.expect(Side::Outer, &from("10.1.7.1"), Verdict::ClearForeign, Some(200));
    // A tunnel's longer prefix inherits what covers it.
    pair.expect(Side::Outer, &from("10.1.7.9"), Verdict::ClearOwned, Some(7));
    pair.expect(Side::Outer, &from("10.1.8.1"), Verdict::ClearProtected, None);
    pair.expect(Side::Outer, &from("192.0.3.1"), Verdict::NoPolicy, None);
    pair.expect(Side::Outer, &from("2001:db8:a::1"), Verdict::NoPolicy, None);
    // What we do not forward, the kernel keeps: the link's own traffic, frames for others.
    for destination in ["224.0.0.5", "255.255.255.255"] {
        let packet = frame(address("192.0.2.1"), address(destination), UDP, &udp(68, 67, &[0; 20]));
        pair.expect(Side::Outer, &packet, Verdict::NotOurs, None);
    }
    let mut subnet_broadcast = frame(address("192.0.2.1"), address("203.0.113.255"), UDP, &udp(1, 137, &[]));
    subnet_broadcast[..6].fill(0xff);
    pair.expect(Side::Outer, &subnet_broadcast, Verdict::NotOurs, None);
    // Its own node's SPD decides about ESP and IKE for others too.
    let through = frame(address("192.0.2.1"), address("10.2.0.9"), ESP, &esp(0x2a00_0001));
    pair.expect(Side::Outer, &through, Verdict::ClearOwned, Some(9));
    // All addresses of this host are its own, not only those that peers know.
    let management = frame(peer(), address("10.2.0.1"), TCP, &tcp(40_000, 22));
    pair.expect(Side::Outer, &management, Verdict::Local, None);
    pair.set_socket(false);
    pair.expect(Side::Outer, &from("192.0.2.1"), Verdict::NoSocket, Some(9));
}

#[test]
fn plaintext_for_a_bypass_policy_goes_to_the_data_plane_too() {
    if !privileged("plaintext_for_a_bypass_policy_goes_to_the_data_plane_too") {
        return;
    }
    let bypassed = vec![(prefix("0.0.0.0/0"), 9), (prefix("192.0.2.0/24"), 130)];
    let mut pair = Pair::with_socket(World { bypassed, ..World::default() });
    let to = |destination: &str| frame(address("10.2.0.9"), address(destination), TCP, &tcp(1, 443));
    pair.expect(Side::Inner, &to("9.9.9.9"), Verdict::PlaintextOwned, Some(9));
    pair.expect(Side::Inner, &to("192.0.2.1"), Verdict::PlaintextForeign, Some(130));
    pair.expect(Side::Inner, &to("10.1.2.3"), Verdict::PlaintextOwned, Some(42));
    pair.expect(Side::Inner, &to("10.2.0.1"), Verdict::Local, None);
    let v6 = frame(address("fd00:2::9"), address("2001:db8:9::1"), TCP, &tcp(1, 443));
    pair.expect(Side::Inner, &v6, Verdict::NoPolicy, None);
    // A bypass alone protects nothing: whoever is only bypassed reaches our own services.
    let service = frame(address("9.9.9.9"), ours(), TCP, &tcp(1, 22));
    pair.expect(Side::Outer, &service, Verdict::Local, None);
}

/// The limit that a remote network of 0.0.0.0/0 once was: the gateway itself is reached where a policy says so.
#[test]
fn our_own_services_are_reached_in_clear_where_a_bypass_policy_says_so() {
    if !privileged("our_own_services_are_reached_in_clear_where_a_bypass_policy_says_so") {
        return;
    }
    let rules = vec![
        narrowed(rule(false, "203.0.113.2/32", "192.0.2.66/32"), TCP, 22..=22),
        narrowed(rule(true, "203.0.113.2/32", "0.0.0.0/0"), TCP, 22..=22),
        narrowed(rule(true, "224.0.0.5/32", "203.0.113.0/24"), OSPF, ANY),
        narrowed(rule(true, "203.0.113.2/32", "203.0.113.0/24"), UDP, 67..=68),
        narrowed(rule(true, "::/0", "2001:db8::/32"), TCP, 179..=179),
    ];
    let mut pair = Pair::with_socket(World { rules, ..all_protected() });
    let to = |source: &str, destination: &str, protocol, payload: &[u8]| {
        frame(address(source), address(destination), protocol, payload)
    };
    let us = "203.0.113.2";
    for (packet, verdict) in [
        (to("198.51.100.7", us, TCP, &tcp(50_000, 22)), Verdict::ClearBypass),
        (to("198.51.100.7", us, TCP, &tcp(22, 50_000)), Verdict::ClearProtected),
        (to("198.51.100.7", us, TCP, &tcp(50_000, 23)), Verdict::ClearProtected),
        (to("198.51.100.7", us, UDP, &udp(50_000, 22, &[])), Verdict::ClearProtected),
        // A discard policy comes first.
        (to("192.0.2.66", us, TCP, &tcp(50_000, 22)), Verdict::ClearProtected),
        (to("192.0.2.67", us, TCP, &tcp(50_000, 22)), Verdict::ClearBypass),
        // Not our address: forwarded by nobody but the data plane, whatever rules say.
        (to("198.51.100.7", "10.2.0.9", TCP, &tcp(50_000, 22)), Verdict::ClearProtected),
        (to("203.0.113.1", "224.0.0.5", OSPF, &[2, 1, 0, 44]), Verdict::ClearBypass),
        (to("203.0.113.1", "224.0.0.6", OSPF, &[2, 1, 0, 44]), Verdict::ClearProtected),
        (to("203.0.113.1", us, UDP, &udp(67, 68, &[0; 20])), Verdict::ClearBypass),
        (to("198.51.100.7", us, UDP, &udp(67, 68, &[0; 20])), Verdict::ClearProtected),
        (to("2001:db8::7", "2001:db8::2", TCP, &tcp(50_000, 179)), Verdict::ClearBypass),
        (to("2001:db9::7", "2001:db8::2", TCP, &tcp(50_000, 179)), Verdict::ClearProtected),
        (to("2001:db8::7", "fd00:2::9", TCP, &tcp(50_000, 179)), Verdict::ClearProtected),
        // Too short for ports, which are then not to be seen.
        (to("198.51.100.7", us, TCP, &tcp(50_000, 22)[..3]), Verdict::ClearProtected),
    ] {
        pair.expect(Side::Outer, &packet, verdict, None);
    }
    let behind = [extension(60, 0), extension(TCP, 2), tcp(50_000, 179)].concat();
    let packet = to("2001:db8::7", "2001:db8::2", 0, &behind);
    pair.expect(Side::Outer, &packet, Verdict::ClearBypass, None);
    let fragment = |field| {
        let packet = ipv4([198, 51, 100, 7], [203, 0, 113, 2], TCP, field, &[], &tcp(50_000, 22));
        ethernet(&[], 0x0800, &packet)
    };
    pair.expect(Side::Outer, &fragment(0x2000), Verdict::ClearBypass, None);
    pair.expect(Side::Outer, &fragment(0x2005), Verdict::ClearProtected, None);
    // Who has all ports has those that are not to be seen too, and OPAQUE has those alone (RFC 4301 section 4.4.1.1).
    let ssh = fragment(0);
    for (ports, verdicts) in [
        (ANY, [Verdict::ClearBypass, Verdict::ClearBypass]),
        (Selector::OPAQUE, [Verdict::ClearProtected, Verdict::ClearBypass]),
        (0..=65_534, [Verdict::ClearBypass, Verdict::ClearProtected]),
    ] {
        let rules = vec![narrowed(rule(true, "203.0.113.2/32", "0.0.0.0/0"), TCP, ports)];
        pair.retell(World { rules, ..all_protected() });
        pair.expect(Side::Outer, &ssh, verdicts[0], None);
        pair.expect(Side::Outer, &fragment(0x2005), verdicts[1], None);
    }
}

/// Of ICMP, the sender's selector has the type (RFC 4301 section 4.4.1.3).
#[test]
fn icmp_rules_go_by_the_type_that_the_sender_sends() {
    if !privileged("icmp_rules_go_by_the_type_that_the_sender_sends") {
        return;
    }
    let mut echo = narrowed(rule(true, "203.0.113.2/32", "0.0.0.0/0"), ICMP, ANY);
    echo.selector.remote_ports = 0x0800..=0x08ff;
    let mut pair = Pair::with_socket(World { rules: vec![echo.clone()], ..all_protected() });
    let message = |kind| frame(peer(), ours(), ICMP, &icmp(kind, &[0; 8]));
    pair.expect(Side::Outer, &message(8), Verdict::ClearBypass, None);
    pair.expect(Side::Outer, &message(0), Verdict::ClearProtected, None);
    // Our own types are for what we send.
    echo.selector.local_ports = 0x0300..=0x0300;
    pair.retell(World { rules: vec![echo], ..all_protected() });
    pair.expect(Side::Outer, &message(8), Verdict::ClearBypass, None);
}

#[test]
fn the_first_of_64_rules_decides_and_no_more_are_taken() {
    if !privileged("the_first_of_64_rules_decides_and_no_more_are_taken") {
        return;
    }
    let mut pair = Pair::with_socket(all_protected());
    let packet = frame(peer(), ours(), TCP, &tcp(50_000, 22));
    pair.expect(Side::Outer, &packet, Verdict::ClearProtected, None);
    let other = rule(true, "203.0.113.2/32", "192.0.2.0/24");
    for place in [0, 1, 31, 63] {
        let mut rules = vec![other.clone(); 64];
        rules[place] = rule(true, "203.0.113.2/32", "198.51.100.0/24");
        pair.retell(World { rules: rules.clone(), ..all_protected() });
        pair.expect(Side::Outer, &packet, Verdict::ClearBypass, None);
        if place > 0 {
            rules[place - 1] = rule(false, "0.0.0.0/0", "198.51.100.7/32");
            pair.retell(World { rules, ..all_protected() });
            pair.expect(Side::Outer, &packet, Verdict::ClearProtected, None);
        }
    }
    let refused = pair.filter.maps().set_rules(&vec![rule(true, "0.0.0.0/0", "0.0.0.0/0"); 65]);
    assert!(matches!(refused, Err(XdpError::TooManyRules { count: 65 })), "{refused:?}");
    pair.expect(Side::Outer, &packet, Verdict::ClearProtected, None);
}

/// In transport mode the peer's own address is the remote network: its IPsec goes on, and nothing else of it is clear.
#[test]
fn of_a_transport_mode_peer_only_ipsec_and_ike_come_in() {
    if !privileged("of_a_transport_mode_peer_only_ipsec_and_ike_come_in") {
        return;
    }
    let message = ike(1, 0x2a00_0000_0000_0001, 0x20, 0x08);
    let marked = [&[0; 4], &message[..]].concat();
    for (peer, us, inside, errors) in [
        ("198.51.100.7", "203.0.113.2", "10.2.0.9", (ICMP, 3)),
        ("2001:db8::7", "2001:db8::2", "fd00:2::9", (ICMPV6, 2)),
    ] {
        let host = if peer.contains(':') { format!("{peer}/128") } else { format!("{peer}/32") };
        let mut pair =
            Pair::with_socket(World { protected: vec![(prefix(&host), 0x2a)], ..World::default() });
        let (peer, us) = (address(peer), address(us));
        let from_peer = |protocol, payload: &[u8]| frame(peer, us, protocol, payload);
        let sent = ip(us, peer, ESP, &esp(0x1100_0001));
        for (packet, verdict, segment) in [
            (from_peer(ESP, &esp(0x2a00_0001)), Verdict::EspOwned, Some(0x2a)),
            (from_peer(UDP, &udp(4500, 4500, &esp(0x2a00_0001))), Verdict::UdpEspOwned, Some(0x2a)),
            (from_peer(UDP, &udp(500, 500, &message)), Verdict::IkeOwned, Some(0x2a)),
            (from_peer(UDP, &udp(4500, 4500, &marked)), Verdict::IkeOwned, Some(0x2a)),
            (from_peer(UDP, &udp(4500, 4500, &[0xff])), Verdict::NatKeepalive, None),
            (from_peer(errors.0, &icmp(errors.1, &sent)), Verdict::IcmpEsp, None),
            (from_peer(errors.0, &icmp(128, &[0; 8])), Verdict::ClearProtected, None),
            (from_peer(TCP, &tcp(50_000, 22)), Verdict::ClearProtected, None),
            (from_peer(UDP, &udp(50_000, 53, &[0; 20])), Verdict::ClearProtected, None),
            (frame(peer, address(inside), TCP, &tcp(50_000, 22)), Verdict::ClearProtected, None),
        ] {
            pair.expect(Side::Outer, &packet, verdict, segment);
        }
        // The other way: what goes to the peer is sealed, from wherever inside it comes.
        let to_peer = frame(address(inside), peer, TCP, &tcp(22, 50_000));
        pair.expect(Side::Inner, &to_peer, Verdict::PlaintextOwned, Some(0x2a));
        let to_neighbour = match peer {
            IpAddr::V4(_) => frame(address(inside), address("198.51.100.8"), TCP, &tcp(22, 50_000)),
            IpAddr::V6(_) => frame(address(inside), address("2001:db8::8"), TCP, &tcp(22, 50_000)),
        };
        pair.expect(Side::Inner, &to_neighbour, Verdict::NoPolicy, None);
    }
}

#[test]
fn ipsec_over_ipv6_is_steered_behind_extension_headers() {
    if !privileged("ipsec_over_ipv6_is_steered_behind_extension_headers") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: bits([0x2a]), ..World::default() });
    let (peer, us) = (address("2001:db8::7"), address("2001:db8::2"));
    // Hop-by-hop options, a routing header, then the one that names what follows.
    let chain = |next, payload: &[u8]| {
        let headers = [extension(43, 0), extension(60, 1), extension(next, 3)].concat();
        frame(peer, us, 0, &[&headers[..], payload].concat())
    };
    pair.expect(Side::Outer, &chain(ESP, &esp(0x2a00_0001)), Verdict::EspOwned, Some(0x2a));
    pair.expect(Side::Outer, &chain(ESP, &esp(0x2b00_0001)), Verdict::EspForeign, Some(0x2b));
    let datagram = |content: &[u8]| chain(UDP, &udp(61_000, 4500, content));
    pair.expect(Side::Outer, &datagram(&esp(0x2a00_0001)), Verdict::UdpEspOwned, Some(0x2a));
    pair.expect(Side::Outer, &datagram(&esp(0x2b00_0001)), Verdict::UdpEspForeign, Some(0x2b));
    pair.expect(Side::Outer, &datagram(&[0xff]), Verdict::NatKeepalive, None);
    let message = [vec![0; 4], ike(1, 0x2a00_0000_0000_0001, 0x20, 0x08)].concat();
    pair.expect(Side::Outer, &datagram(&message), Verdict::IkeOwned, Some(0x2a));
    let plain = frame(peer, us, UDP, &udp(61_000, 4500, &[0xff]));
    pair.expect(Side::Outer, &plain, Verdict::NatKeepalive, None);
}

/// In transport mode our ESP stands behind the extension headers of what it protects (RFC 4303 section 3.1.1), and so
/// it does in what a Packet Too Big quotes of it.
#[test]
fn icmpv6_errors_about_esp_behind_extension_headers_reach_every_data_plane() {
    if !privileged("icmpv6_errors_about_esp_behind_extension_headers_reach_every_data_plane") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: [0; 4], ..all_protected() });
    let (router, us, peer) = (address("2001:db8::9"), address("2001:db8::2"), address("2001:db8::7"));
    let about = |next, headers: &[Vec<u8>], payload: &[u8], kept: usize| {
        let sent = ip(us, peer, next, &[&headers.concat()[..], payload].concat());
        frame(router, us, ICMPV6, &icmp(2, &sent[..sent.len().min(kept)]))
    };
    let options = [extension(60, 0), extension(ESP, 1)];
    pair.expect(Side::Outer, &about(0, &options, &esp(1), 1232), Verdict::IcmpEsp, None);
    // Cut in the options: nobody knows what followed.
    pair.expect(Side::Outer, &about(0, &options, &esp(1), 40 + 23), Verdict::ClearProtected, None);
    let in_udp = [extension(UDP, 0)];
    let natted = udp(4500, 4500, &esp(1));
    pair.expect(Side::Outer, &about(60, &in_udp, &natted, 1232), Verdict::IcmpEsp, None);
    pair.expect(
        Side::Outer,
        &about(60, &in_udp, &udp(4500, 4500, &[0; 40]), 1232),
        Verdict::ClearProtected,
        None,
    );
    let fragments = |field| [fragment_header(ESP, field)];
    pair.expect(Side::Outer, &about(44, &fragments(1), &esp(1), 1232), Verdict::IcmpEsp, None);
    pair.expect(Side::Outer, &about(44, &fragments(0x0100), &esp(1), 1232), Verdict::IcmpEsp, None);
    let later = [fragment_header(UDP, 0x0100)];
    pair.expect(Side::Outer, &about(44, &later, &natted, 1232), Verdict::ClearProtected, None);
    let tcp_alone = [extension(TCP, 0)];
    pair.expect(Side::Outer, &about(60, &tcp_alone, &tcp(1, 2), 1232), Verdict::ClearProtected, None);
}
