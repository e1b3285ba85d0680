//! The XDP filter in the kernel against its twin in Rust, packet by packet (BPF_PROG_TEST_RUN), and both
//! against what the table in `ebpf/baton.bpf.c` promises.

mod steering_support;

use std::collections::HashMap;
use std::net::IpAddr;

use baton_dataplane::io::Side;
use baton_dataplane::next_hop::Mac;
use baton_dataplane::steering::{HashMode, Spi, classify, segment_of};
use baton_dataplane::xdp::{Action, DryRun, Verdict, XdpError};
use steering_support::packets::{
    ESP, ICMP, ICMPV6, OWN_MAC, UDP, esp, ethernet, extension, fragment_header, frame, icmp, ike, ip, ipv4,
    ipv6, random_frame, random_world, udp,
};
use steering_support::pair::{Pair, text};
use steering_support::random::Random;
use steering_support::{World, address, bits, prefix, privileged};

fn peer() -> IpAddr {
    address("198.51.100.7")
}

fn ours() -> IpAddr {
    address("203.0.113.2")
}

#[test]
fn random_packets_fare_alike_in_kernel_and_twin() {
    const WORLDS: usize = 60;
    const FRAMES: usize = 1_500;
    if !privileged("random_packets_fare_alike_in_kernel_and_twin") {
        return;
    }
    let mut random = Random(20_260_101);
    let mut pair = Pair::new(World::default());
    let mut seen: HashMap<(Side, Verdict), u64> = HashMap::new();
    for round in 0..WORLDS {
        pair.set_socket(round % 4 != 3);
        pair.retell(random_world(&mut random));
        for _ in 0..FRAMES {
            let frame = random_frame(&mut random, &pair.world);
            let side = if random.one_in(4) { Side::Inner } else { Side::Outer };
            *seen.entry((side, pair.verdict(side, &frame).verdict)).or_default() += 1;
        }
    }
    for side in Side::ALL {
        for verdict in Verdict::all().filter(|verdict| verdict.occurs_on(side)) {
            let count = seen.get(&(side, verdict)).copied().unwrap_or(0);
            assert!(
                count >= 10,
                "{side:?} {}: only {count} packets, the generator is too shy",
                verdict.name()
            );
        }
    }
    // Every packet is counted once, under the verdict that it got.
    for (side, name, count) in pair.filter.maps().verdicts().unwrap() {
        let verdict = Verdict::all().find(|verdict| verdict.name() == name).unwrap();
        assert_eq!(count, seen.remove(&(side, verdict)).unwrap_or(0), "{side:?} {name}");
    }
    assert!(seen.is_empty(), "verdicts on a side where they do not occur: {seen:?}");
}

#[test]
fn esp_goes_by_the_top_octet_of_its_spi() {
    if !privileged("esp_goes_by_the_top_octet_of_its_spi") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: bits([0x2a, 0]), ..World::default() });
    let esp_to_us = |spi| frame(peer(), ours(), ESP, &esp(spi));
    pair.expect(Side::Outer, &esp_to_us(0x2a00_0001), Verdict::EspOwned, Some(0x2a));
    pair.expect(Side::Outer, &esp_to_us(0x2b00_0001), Verdict::EspForeign, Some(0x2b));
    pair.expect(Side::Outer, &esp_to_us(0x0000_0100), Verdict::EspOwned, Some(0));
    let elsewhere = frame(peer(), address("203.0.113.3"), ESP, &esp(0x2a00_0001));
    // To be forwarded, and no policy is about its sender.
    pair.expect(Side::Outer, &elsewhere, Verdict::NoPolicy, None);
    let v6 = frame(address("2001:db8::7"), address("2001:db8::2"), ESP, &esp(0x2a00_0001));
    pair.expect(Side::Outer, &v6, Verdict::EspOwned, Some(0x2a));
    let short = frame(peer(), ours(), ESP, &esp(0x2a00_0001)[..7]);
    pair.expect(Side::Outer, &short, Verdict::MalformedEsp, None);
    // Ethernet padding is not ESP.
    let padded = [short, vec![0; 20]].concat();
    pair.expect(Side::Outer, &padded, Verdict::MalformedEsp, None);
}

#[test]
fn vlan_tags_and_ip_options_are_seen_through() {
    if !privileged("vlan_tags_and_ip_options_are_seen_through") {
        return;
    }
    let mut pair = Pair::with_socket(World::default());
    let packet = ip(peer(), ours(), ESP, &esp(0x2a00_0001));
    for tags in [&[0x8100_u16][..], &[0x88a8], &[0x88a8, 0x8100], &[0x8100, 0x8100]] {
        pair.expect(Side::Outer, &ethernet(tags, 0x0800, &packet), Verdict::EspOwned, Some(0x2a));
    }
    let three = ethernet(&[0x88a8, 0x8100, 0x8100], 0x0800, &packet);
    for side in Side::ALL {
        pair.expect(side, &three, Verdict::MalformedEthernet, None);
    }
    let options = ipv4([198, 51, 100, 7], [203, 0, 113, 2], ESP, 0, &[1; 40], &esp(0x2a00_0001));
    pair.expect(Side::Outer, &ethernet(&[], 0x0800, &options), Verdict::EspOwned, Some(0x2a));
}

#[test]
fn udp_4500_carries_esp_ike_and_keepalives() {
    if !privileged("udp_4500_carries_esp_ike_and_keepalives") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: bits([0x2a]), ..World::default() });
    let datagram = |payload: &[u8]| frame(peer(), ours(), UDP, &udp(61_000, 4500, payload));
    pair.expect(Side::Outer, &datagram(&esp(0x2a00_0001)), Verdict::UdpEspOwned, Some(0x2a));
    pair.expect(Side::Outer, &datagram(&esp(0x2b00_0001)), Verdict::UdpEspForeign, Some(0x2b));
    pair.expect(Side::Outer, &datagram(&[0xff]), Verdict::NatKeepalive, None);
    pair.expect(Side::Outer, &datagram(&[0xfe]), Verdict::MalformedUdp, None);
    pair.expect(Side::Outer, &datagram(&[]), Verdict::MalformedUdp, None);
    pair.expect(Side::Outer, &datagram(&[1, 2, 3, 4, 5]), Verdict::MalformedEsp, None);
    let message = [vec![0; 4], ike(1, 0x2a00_0000_0000_0001, 0x20, 0x08)].concat();
    pair.expect(Side::Outer, &datagram(&message), Verdict::IkeOwned, Some(0x2a));
    pair.expect(Side::Outer, &datagram(&message[..31]), Verdict::MalformedIke, None);
    // Another port is the kernel's, whatever is in it.
    let dns = frame(peer(), ours(), UDP, &udp(4500, 53, &esp(0x2a00_0001)));
    pair.expect(Side::Outer, &dns, Verdict::Local, None);
    // A length beyond the packet.
    let mut long = udp(61_000, 4500, &esp(0x2a00_0001));
    long[5] += 1;
    pair.expect(Side::Outer, &frame(peer(), ours(), UDP, &long), Verdict::MalformedUdp, None);
}

#[test]
fn ike_goes_by_our_half_of_the_spis() {
    const MINE: u64 = 0x2a00_0000_0000_0001;
    const THEIRS: u64 = 0x7700_0000_0000_0001;
    if !privileged("ike_goes_by_our_half_of_the_spis") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: bits([0x2a]), ..World::default() });
    let message = |i, r, flags| frame(peer(), ours(), UDP, &udp(500, 500, &ike(i, r, 0x20, flags)));
    // We are the responder: requests and responses of the original initiator.
    pair.expect(Side::Outer, &message(THEIRS, MINE, 0x08), Verdict::IkeOwned, Some(0x2a));
    pair.expect(Side::Outer, &message(THEIRS, MINE, 0x28), Verdict::IkeOwned, Some(0x2a));
    // We are the initiator: responses, and requests that the original responder makes.
    pair.expect(Side::Outer, &message(MINE, THEIRS, 0x20), Verdict::IkeOwned, Some(0x2a));
    pair.expect(Side::Outer, &message(MINE, THEIRS, 0x00), Verdict::IkeOwned, Some(0x2a));
    // A COOKIE response to our first message has no responder SPI yet.
    pair.expect(Side::Outer, &message(MINE, 0, 0x20), Verdict::IkeOwned, Some(0x2a));
    pair.expect(Side::Outer, &message(MINE, THEIRS, 0x08), Verdict::IkeForeign, Some(0x77));
    pair.expect(Side::Outer, &message(0, MINE, 0x08), Verdict::MalformedIke, None);
}

#[test]
fn a_first_ike_message_goes_by_the_clusterip_hash() {
    if !privileged("a_first_ike_message_goes_by_the_clusterip_hash") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: bits(0..=255), ..World::default() });
    let sources = [peer(), address("192.0.2.1"), address("10.255.0.9"), address("2001:db8:77::1")];
    for mode in HashMode::ALL {
        for seed in [0, 1, 0xdead_beef] {
            pair.retell(World { mode, seed, ..pair.world.clone() });
            for source in sources {
                let destination = if source.is_ipv4() { ours() } else { address("2001:db8::2") };
                for (sport, version) in [(500, 0x20), (61_000, 0x20), (500, 0x10)] {
                    let message = udp(sport, 500, &ike(0x77, 0, version, 0x08));
                    let segment = segment_of(source, sport, 500, mode, seed);
                    let packet = frame(source, destination, UDP, &message);
                    pair.expect(Side::Outer, &packet, Verdict::IkeOwned, Some(segment));
                }
            }
        }
    }
}

#[test]
fn fragments_without_an_spi_reach_every_node() {
    if !privileged("fragments_without_an_spi_reach_every_node") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: bits([0x2a]), ..World::default() });
    let v4 = |protocol, field, payload: &[u8]| {
        ethernet(&[], 0x0800, &ipv4([198, 51, 100, 7], [203, 0, 113, 2], protocol, field, &[], payload))
    };
    pair.expect(Side::Outer, &v4(ESP, 0x2000, &esp(0x2a00_0001)), Verdict::EspOwned, Some(0x2a));
    pair.expect(Side::Outer, &v4(ESP, 0x2000, &esp(0x2b00_0001)), Verdict::EspForeign, Some(0x2b));
    pair.expect(Side::Outer, &v4(ESP, 0x0005, &[7; 16]), Verdict::EspFragment, None);
    pair.expect(Side::Outer, &v4(UDP, 0x0005, &[7; 16]), Verdict::Fragment, None);
    // The first part of a large IKE message promises more than it holds.
    let whole = udp(500, 500, &[ike(1, 0x2a00_0000_0000_0001, 0x20, 0x08), vec![0; 3000]].concat());
    pair.expect(Side::Outer, &v4(UDP, 0x2000, &whole[..1480]), Verdict::IkeOwned, Some(0x2a));
    pair.expect(Side::Outer, &v4(UDP, 0x0000, &whole[..1480]), Verdict::MalformedUdp, None);
    // Too little to tell ESP from IKE.
    let encapsulated = udp(500, 4500, &esp(0x2a00_0001));
    pair.expect(Side::Outer, &v4(UDP, 0x2000, &encapsulated[..8]), Verdict::MalformedUdp, None);
    let v6 = |headers: &[u8], next, payload: &[u8]| {
        let (source, destination) =
            ([0x20; 16], "2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        ethernet(&[], 0x86dd, &ipv6(source, destination, next, &[headers, payload].concat()))
    };
    let atomic = v6(&fragment_header(ESP, 0), 44, &esp(0x2a00_0001));
    pair.expect(Side::Outer, &atomic, Verdict::EspOwned, Some(0x2a));
    pair.expect(Side::Outer, &v6(&fragment_header(ESP, 0x0100), 44, &[9; 32]), Verdict::EspFragment, None);
    pair.expect(Side::Outer, &v6(&fragment_header(60, 0x0100), 44, &[9; 32]), Verdict::Fragment, None);
}

#[test]
fn ipv6_extension_headers_are_walked_up_to_a_bound() {
    if !privileged("ipv6_extension_headers_are_walked_up_to_a_bound") {
        return;
    }
    let mut pair = Pair::with_socket(World::default());
    for count in 0..=9_usize {
        for extra in [0, 1, 31] {
            let mut next = ESP;
            let mut payload = esp(0x2a00_0001);
            for _ in 0..count {
                payload = [extension(next, extra), payload].concat();
                next = 60;
            }
            let packet = frame(address("2001:db8::7"), address("2001:db8::2"), next, &payload);
            if count <= 6 && count * 8 * (usize::from(extra) + 1) <= 1024 {
                pair.expect(Side::Outer, &packet, Verdict::EspOwned, Some(0x2a));
            } else {
                pair.expect(Side::Outer, &packet, Verdict::ExtensionHeaders, None);
            }
        }
    }
}

#[test]
fn icmp_errors_about_esp_reach_every_data_plane() {
    if !privileged("icmp_errors_about_esp_reach_every_data_plane") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: [0; 4], ..World::default() });
    let error = |kind, quoted: &[u8]| frame(address("192.0.2.9"), ours(), ICMP, &icmp(kind, quoted));
    let sent = ip(ours(), peer(), ESP, &esp(0x1100_0001));
    for kind in [3, 11, 12] {
        // Routers may quote as little as 8 octets behind the IP header (RFC 792).
        pair.expect(Side::Outer, &error(kind, &sent[..28]), Verdict::IcmpEsp, None);
    }
    pair.expect(Side::Outer, &error(8, &sent), Verdict::Local, None);
    pair.expect(Side::Outer, &error(3, &sent[..19]), Verdict::Local, None);
    let encapsulated = ip(ours(), peer(), UDP, &udp(4500, 4500, &esp(0x1100_0001)));
    pair.expect(Side::Outer, &error(3, &encapsulated), Verdict::IcmpEsp, None);
    let negotiation = ip(ours(), peer(), UDP, &udp(4500, 4500, &[0; 40]));
    pair.expect(Side::Outer, &error(3, &negotiation), Verdict::Local, None);
    let (router, mine) = (address("2001:db8::9"), address("2001:db8::2"));
    let sent = ip(mine, address("2001:db8::7"), ESP, &esp(0x1100_0001));
    let too_big = frame(router, mine, ICMPV6, &icmp(2, &sent));
    pair.expect(Side::Outer, &too_big, Verdict::IcmpEsp, None);
    let solicitation = frame(router, mine, ICMPV6, &icmp(135, &[0; 16]));
    pair.expect(Side::Outer, &solicitation, Verdict::Local, None);
}

/// RFC 4301 section 5.2: what claims to be from behind a tunnel and is not sealed never reaches the kernel.
#[test]
fn clear_traffic_from_a_protected_prefix_is_dropped_on_the_outer_side() {
    if !privileged("clear_traffic_from_a_protected_prefix_is_dropped_on_the_outer_side") {
        return;
    }
    let mut pair = Pair::with_socket(World::default());
    let (inner_host, ours6, inner_host6) =
        (address("10.2.0.9"), address("2001:db8::2"), address("fd00:2::9"));
    let dns = udp(61_000, 53, &[0; 20]);
    let clear = |source: &str, destination, payload: &[u8]| frame(address(source), destination, UDP, payload);
    for (source, destination) in [("10.1.0.5", inner_host), ("fd00:1::5", inner_host6)] {
        pair.expect(Side::Outer, &clear(source, destination, &dns), Verdict::ClearProtected, None);
    }
    for (source, destination) in [("10.1.7.9", ours()), ("fd00:1:9::5", ours6)] {
        pair.expect(Side::Outer, &clear(source, destination, &dns), Verdict::ClearProtected, None);
        let syn = frame(address(source), destination, 6, &[0; 20]);
        pair.expect(Side::Outer, &syn, Verdict::ClearProtected, None);
    }
    let multicast = clear("10.1.0.5", address("224.0.0.5"), &dns);
    pair.expect(Side::Outer, &multicast, Verdict::ClearProtected, None);
    let fragment = |to, protocol, field| {
        ethernet(&[0x8100], 0x0800, &ipv4([10, 1, 0, 5], to, protocol, field, &[], &[7; 16]))
    };
    let (us, them) = ([203, 0, 113, 2], [10, 2, 0, 9]);
    pair.expect(Side::Outer, &fragment(us, 6, 0x0005), Verdict::ClearProtected, None);
    pair.expect(Side::Outer, &fragment(us, UDP, 0x2000), Verdict::ClearProtected, None);
    pair.expect(Side::Outer, &fragment(them, UDP, 0x0005), Verdict::ClearProtected, None);
    // The peer's own gateway may stand behind the tunnel's selector: IPsec and IKE go on, in fragments too.
    pair.expect(Side::Outer, &fragment(us, UDP, 0x0005), Verdict::Fragment, None);
    pair.expect(Side::Outer, &fragment(us, ESP, 0x0005), Verdict::EspFragment, None);
    let sealed = frame(address("10.1.0.5"), ours(), ESP, &esp(0x2a00_0001));
    pair.expect(Side::Outer, &sealed, Verdict::EspOwned, Some(0x2a));
    let message = udp(500, 500, &ike(1, 0x2a00_0000_0000_0001, 0x20, 0x08));
    pair.expect(Side::Outer, &clear("10.1.0.5", ours(), &message), Verdict::IkeOwned, Some(0x2a));
    // For somebody else it is plaintext like any other.
    pair.expect(Side::Outer, &clear("10.1.0.5", inner_host, &message), Verdict::ClearProtected, None);
    // Neighbours of the prefixes.
    pair.expect(Side::Outer, &clear("10.2.0.5", inner_host, &dns), Verdict::NoPolicy, None);
    pair.expect(Side::Outer, &clear("198.51.100.7", ours(), &dns), Verdict::Local, None);
    pair.expect(Side::Outer, &clear("fd00:2::5", ours6, &dns), Verdict::Local, None);
    pair.retell(World { protected: vec![], ..World::default() });
    pair.expect(Side::Outer, &clear("10.1.0.5", inner_host, &dns), Verdict::NoPolicy, None);
    pair.expect(Side::Outer, &clear("10.1.0.5", ours(), &dns), Verdict::Local, None);
}

/// With ::/0 behind a tunnel too, IPv6's ARP must work.
#[test]
fn neighbour_discovery_passes_whatever_is_protected() {
    if !privileged("neighbour_discovery_passes_whatever_is_protected") {
        return;
    }
    let world = World { protected: vec![(prefix("::/0"), 5), (prefix("0.0.0.0/0"), 5)], ..World::default() };
    let mut pair = Pair::with_socket(world);
    let message = |destination: &str, kind, hop_limit| {
        let mut frame = frame(address("2001:db8::9"), address(destination), ICMPV6, &icmp(kind, &[0; 16]));
        frame[14 + 7] = hop_limit;
        frame
    };
    for kind in 133..=137 {
        pair.expect(Side::Outer, &message("2001:db8::2", kind, 255), Verdict::Local, None);
        pair.expect(Side::Outer, &message("ff02::1:ff00:2", kind, 255), Verdict::NotOurs, None);
        pair.expect(Side::Outer, &message("fe80::2", kind, 255), Verdict::NotOurs, None);
        // A router forwarded it, or the kernel would.
        pair.expect(Side::Outer, &message("2001:db8::2", kind, 254), Verdict::ClearProtected, None);
        pair.expect(Side::Outer, &message("fd00:2::9", kind, 255), Verdict::ClearProtected, None);
    }
    for kind in [128, 132, 138] {
        pair.expect(Side::Outer, &message("2001:db8::2", kind, 255), Verdict::ClearProtected, None);
    }
    pair.expect(Side::Outer, &message("2001:db8::2", 135, 255)[..61], Verdict::MalformedIp, None);
    let dns = frame(peer(), ours(), UDP, &udp(61_000, 53, &[0; 20]));
    pair.expect(Side::Outer, &dns, Verdict::ClearProtected, None);
    pair.expect(Side::Outer, &ethernet(&[], 0x0806, &[0; 28]), Verdict::NotIp, None);
}

/// A switch that hears no answer to its queries stops sending us neighbour solicitations (RFC 4541).
#[test]
fn listener_queries_of_the_link_pass_whatever_is_protected() {
    if !privileged("listener_queries_of_the_link_pass_whatever_is_protected") {
        return;
    }
    let protected = vec![(prefix("::/0"), 5), (prefix("0.0.0.0/0"), 5)];
    let mut pair = Pair::with_socket(World { protected, ..World::default() });
    let alert = [ICMPV6, 0, 5, 2, 0, 0, 1, 0];
    let message = |source: &str, destination: &str, hop_limit, options: &[u8], kind| {
        let payload = [options, &icmp(kind, &[0; 16])].concat();
        let mut frame = frame(address(source), address(destination), 0, &payload);
        frame[14 + 7] = hop_limit;
        frame
    };
    for destination in ["ff02::1", "ff02::1:ff00:2"] {
        let query = message("fe80::9", destination, 1, &alert, 130);
        pair.expect(Side::Outer, &query, Verdict::NotOurs, None);
    }
    let long = [&[ICMPV6, 1][..], &alert[2..], &[1, 6, 0, 0, 0, 0, 0, 0]].concat();
    let other = [&[UDP, 0][..], &alert[2..]].concat();
    for refused in [
        message("2001:db8::9", "ff02::1", 1, &alert, 130),
        message("fec0::9", "ff02::1", 1, &alert, 130),
        message("fe80::9", "ff02::1", 2, &alert, 130),
        message("fe80::9", "ff02::1", 255, &alert, 130),
        message("fe80::9", "ff02::1", 1, &alert, 131),
        message("fe80::9", "ff02::1", 1, &long, 130),
        message("fe80::9", "ff02::1", 1, &other, 130),
        message("fe80::9", "fd00:2::9", 1, &alert, 130),
        message("fe80::9", "2001:db8::2", 1, &alert, 130),
    ] {
        pair.expect(Side::Outer, &refused, Verdict::ClearProtected, None);
    }
    // Cut short, by the packet's own length.
    let mut short = message("fe80::9", "ff02::1", 1, &alert, 130);
    short[14 + 5] = 15;
    pair.expect(Side::Outer, &short, Verdict::ClearProtected, None);
}

#[test]
fn plaintext_goes_by_the_longest_prefix() {
    if !privileged("plaintext_goes_by_the_longest_prefix") {
        return;
    }
    let mut pair = Pair::with_socket(World::default());
    let to = |destination: &str| {
        let destination = address(destination);
        let source = if destination.is_ipv4() { address("10.2.0.5") } else { address("fd00:2::5") };
        frame(source, destination, UDP, &udp(1, 4500, &esp(1)))
    };
    pair.expect(Side::Inner, &to("10.1.2.3"), Verdict::PlaintextOwned, Some(42));
    pair.expect(Side::Inner, &to("10.1.7.1"), Verdict::PlaintextForeign, Some(200));
    pair.expect(Side::Inner, &to("10.1.7.9"), Verdict::PlaintextOwned, Some(7));
    pair.expect(Side::Inner, &to("10.9.0.1"), Verdict::NoPolicy, None);
    pair.expect(Side::Inner, &to("10.2.0.1"), Verdict::Local, None);
    pair.expect(Side::Inner, &to("224.0.0.5"), Verdict::Multicast, None);
    pair.expect(Side::Inner, &to("255.255.255.255"), Verdict::Multicast, None);
    pair.expect(Side::Inner, &to("fd00:1::1"), Verdict::PlaintextOwned, Some(43));
    pair.expect(Side::Inner, &to("fd00:1:9::1"), Verdict::PlaintextForeign, Some(201));
    pair.expect(Side::Inner, &to("fd00:9::1"), Verdict::NoPolicy, None);
    pair.expect(Side::Inner, &to("fe80::1"), Verdict::Multicast, None);
    pair.expect(Side::Inner, &to("ff02::1"), Verdict::Multicast, None);
    pair.expect(Side::Inner, &ethernet(&[], 0x0806, &[0; 28]), Verdict::NotIp, None);
    // A default route of one family says nothing about the other.
    pair.retell(World { protected: vec![(prefix("::/0"), 5)], ..World::default() });
    pair.expect(Side::Inner, &to("10.1.2.3"), Verdict::NoPolicy, None);
    pair.expect(Side::Inner, &to("fd00:9::1"), Verdict::PlaintextOwned, Some(5));
}

/// RFC 1812 sections 3.3 and 5.3.4: what the link carries for others is not forwarded through a tunnel.
#[test]
fn frames_for_other_hosts_never_reach_the_data_plane_from_the_inner_side() {
    if !privileged("frames_for_other_hosts_never_reach_the_data_plane_from_the_inner_side") {
        return;
    }
    let mut pair = Pair::with_socket(World::default());
    let to = |mac: [u8; 6], destination: &str, tags: &[u16]| {
        let packet = ip(address("10.2.0.5"), address(destination), 6, &[0; 20]);
        let mut frame = ethernet(tags, 0x0800, &packet);
        frame[..6].copy_from_slice(&mac);
        frame
    };
    let shared = [1, 0, 0x5e, 0x7f, 0, 1];
    let others = [[0; 6], [0xff; 6], shared, [2, 0, 0, 0, 0, 2], [3, 0, 0, 0, 0, 1], [2, 0, 0, 0, 1, 1]];
    for mac in others {
        for tags in [&[][..], &[0x8100]] {
            pair.expect(Side::Inner, &to(mac, "10.1.2.3", tags), Verdict::OtherHost, None);
        }
        // What does not go to the data plane fares as ever.
        pair.expect(Side::Inner, &to(mac, "10.1.7.1", &[]), Verdict::PlaintextForeign, Some(200));
        pair.expect(Side::Inner, &to(mac, "10.2.0.1", &[]), Verdict::Local, None);
        pair.expect(Side::Inner, &to(mac, "224.0.0.5", &[]), Verdict::Multicast, None);
        pair.expect(Side::Inner, &to(mac, "10.9.0.1", &[]), Verdict::NoPolicy, None);
        // Nodes of a cluster share an outer address, whatever the frame says.
        let mut sealed = frame(peer(), ours(), ESP, &esp(0x2a00_0001));
        sealed[..6].copy_from_slice(&mac);
        pair.expect(Side::Outer, &sealed, Verdict::EspOwned, Some(0x2a));
    }
    // Up to four addresses are ours.
    let macs = vec![Mac([2, 0, 0, 0, 0, 7]), Mac([2, 0, 0, 0, 0, 8]), Mac(shared), OWN_MAC];
    pair.retell(World { macs: macs.clone(), ..World::default() });
    for mac in &macs {
        pair.expect(Side::Inner, &to(mac.0, "10.1.2.3", &[]), Verdict::PlaintextOwned, Some(42));
    }
    let refused = pair.filter.maps().set_own_macs(Side::Inner, &[macs, vec![Mac([6; 6])]].concat());
    assert!(matches!(refused, Err(XdpError::TooManyMacs { count: 5, .. })), "{refused:?}");
    pair.expect(Side::Inner, &to(shared, "10.1.2.3", &[]), Verdict::PlaintextOwned, Some(42));
    // A filter that knows none of its addresses forwards nothing, not even to no address.
    pair.retell(World { macs: vec![], ..World::default() });
    for mac in [OWN_MAC.0, [0; 6]] {
        pair.expect(Side::Inner, &to(mac, "10.1.2.3", &[]), Verdict::OtherHost, None);
    }
}

/// The twin alone, so that it runs without privileges too: it survives every frame, and no state of the maps lets
/// protected plaintext or ESP reach the kernel.
#[test]
fn i7_protected_packets_never_pass_whatever_the_maps_say() {
    let mut random = Random(7);
    for _ in 0..200 {
        let mut world = random_world(&mut random);
        world.protected.retain(|_| random.one_in(2));
        let socket = random.one_in(2);
        let views = Side::ALL.map(|side| world.view(side, socket));
        for _ in 0..200 {
            let any = random_frame(&mut random, &world);
            let _ = views.each_ref().map(|view| classify(&any, view));
            let tags = random.pick(&[&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100; 3]]);
            let [a, b, c, d] = random.octets(4)[..] else { unreachable!("four octets") };
            let payload = random.octets(40);
            let plain = ipv4([10, 2, 0, 5], [10, 1, c, d], c, 0x2000 & u16::from(d) << 8, &[], &payload);
            let inner = classify(&ethernet(tags, 0x0800, &plain), &views[1]);
            assert_ne!(inner.verdict.action(), Action::Pass, "{}", text(&plain));
            let sealed = match random.below(2) {
                0 => ip(peer(), ours(), ESP, &payload),
                _ => ip(peer(), ours(), UDP, &udp(4500, 4500, &[&[1], &payload[..]].concat())),
            };
            let outer = classify(&ethernet(tags, 0x0800, &sealed), &views[0]);
            assert_ne!(outer.verdict.action(), Action::Pass, "{}", text(&sealed));
            // What the kernel could forward inwards, whoever sends it.
            let clear = ipv4([a, b, c, d], [10, 2, 0, 9], c, 0x2000 & u16::from(d) << 8, &[], &payload);
            let transit = classify(&ethernet(tags, 0x0800, &clear), &views[0]);
            let ours = views[0].macs.contains(&OWN_MAC);
            assert!(!ours || transit.verdict.action() != Action::Pass, "{}", text(&clear));
        }
    }
}

#[test]
fn i7_without_a_socket_nothing_owned_passes() {
    if !privileged("i7_without_a_socket_nothing_owned_passes") {
        return;
    }
    let mut pair = Pair::new(World { owned: bits(0..=255), ..World::default() });
    let frames = [
        (Side::Outer, frame(peer(), ours(), ESP, &esp(0x2a00_0001)), Some(0x2a)),
        (Side::Outer, frame(peer(), ours(), UDP, &udp(4500, 4500, &esp(0x2a00_0001))), Some(0x2a)),
        (Side::Inner, frame(address("10.2.0.5"), address("10.1.0.5"), 6, &[0; 20]), Some(42)),
    ];
    for (side, packet, segment) in frames {
        pair.expect(side, &packet, Verdict::NoSocket, segment);
    }
}

/// An empty filter is what a crash in the middle of an installation could leave.
#[test]
fn i7_a_filter_that_was_told_nothing_forwards_nothing() {
    if !privileged("i7_a_filter_that_was_told_nothing_forwards_nothing") {
        return;
    }
    let mut filter = DryRun::load().unwrap();
    let packet = frame(address("10.2.0.5"), address("10.1.0.5"), 6, &[0; 20]);
    let result = filter.run(Side::Inner, &packet).unwrap();
    assert_eq!((result.action, result.decision.verdict), (1, Verdict::NoPolicy));
}

/// The headers of one packet of each kind, cut at every length: with the lengths in them as they were, and
/// with an IP length that fits.
#[test]
fn truncation_at_every_length_is_defined() {
    if !privileged("truncation_at_every_length_is_defined") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: bits(0..=255), ..World::default() });
    let (peer6, ours6) = (address("2001:db8::7"), address("2001:db8::2"));
    let message = ike(1, 0x2a00_0000_0000_0001, 0x20, 0x08);
    let chain = [extension(44, 1), fragment_header(ESP, 1), esp(0x2a00_0001)].concat();
    let quoted = ip(ours(), peer(), UDP, &udp(4500, 4500, &esp(0x1100_0001)));
    let packets = [
        ip(peer(), ours(), ESP, &esp(0x2a00_0001)),
        ipv4([198, 51, 100, 7], [203, 0, 113, 2], ESP, 0, &[1; 24], &esp(0x2a00_0001)),
        ip(peer(), ours(), UDP, &udp(4500, 4500, &esp(0x2a00_0001))),
        ip(peer(), ours(), UDP, &udp(4500, 4500, &[&[0; 4], &message[..]].concat())),
        ip(peer(), ours(), UDP, &udp(500, 500, &message)),
        ip(peer(), ours(), ICMP, &icmp(3, &quoted)),
        ip(peer6, ours6, 0, &chain),
        ip(address("10.2.0.5"), address("10.1.0.5"), 6, &[0; 20]),
    ];
    for packet in packets {
        for tags in [&[][..], &[0x88a8, 0x8100]] {
            for length in 0..=packet.len() {
                for cut in [packet[..length].to_vec(), shortened(&packet, length)] {
                    let protocol = if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd };
                    let frame = ethernet(tags, protocol, &cut);
                    let outer = pair.verdict(Side::Outer, &frame).verdict;
                    let inner = pair.verdict(Side::Inner, &frame).verdict;
                    let cut_in_header = length < 20;
                    assert!(
                        !cut_in_header || outer == Verdict::MalformedIp && inner == outer,
                        "{}",
                        text(&frame)
                    );
                }
            }
        }
    }
    // Less than an Ethernet header: the twin alone, the kernel refuses to run it.
    for length in 0..14 {
        pair.expect(Side::Outer, &vec![0; length], Verdict::MalformedEthernet, None);
    }
}

/// The first `length` octets of an IP packet, with a length field that says so.
fn shortened(packet: &[u8], length: usize) -> Vec<u8> {
    let mut cut = packet[..length].to_vec();
    if packet[0] >> 4 == 4 && length >= 4 {
        cut[2..4].copy_from_slice(&(length as u16).to_be_bytes());
    } else if packet[0] >> 4 == 6 && length >= 40 {
        cut[4..6].copy_from_slice(&(length as u16 - 40).to_be_bytes());
    }
    cut
}

#[test]
fn contradicting_headers_are_malformed() {
    if !privileged("contradicting_headers_are_malformed") {
        return;
    }
    let mut pair = Pair::with_socket(World::default());
    let good = ip(peer(), ours(), ESP, &esp(0x2a00_0001));
    let changed = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        ethernet(&[], 0x0800, &packet)
    };
    let damaged = [
        changed(0, 0x44), // a header of 16 octets
        changed(0, 0x40),
        changed(0, 0x65), // version 6 behind IPv4's EtherType
        changed(2, 0xff), // longer than the frame
        changed(3, 19),   // shorter than its header
    ];
    for frame in damaged {
        for side in Side::ALL {
            pair.expect(side, &frame, Verdict::MalformedIp, None);
        }
    }
}

#[test]
fn ownership_flips_whole_and_overrides_win() {
    if !privileged("ownership_flips_whole_and_overrides_win") {
        return;
    }
    let mut pair = Pair::with_socket(World { owned: [0; 4], ..World::default() });
    for segment in (0..=255).step_by(5) {
        let owned = bits([segment]);
        pair.retell(World { owned, ..pair.world.clone() });
        for spi_segment in 0..=255_u8 {
            let packet = frame(peer(), ours(), ESP, &esp(u32::from(spi_segment) << 24 | 1));
            let verdict = if spi_segment == segment { Verdict::EspOwned } else { Verdict::EspForeign };
            pair.expect(Side::Outer, &packet, verdict, Some(spi_segment));
        }
    }
    let overrides = HashMap::from([(Spi::Esp(0x2a00_0001), 9), (Spi::Ike(0x2a00_0000_0000_0001), 8)]);
    pair.retell(World { owned: bits([9]), overrides, ..World::default() });
    let moved = frame(peer(), ours(), ESP, &esp(0x2a00_0001));
    let neighbour = frame(peer(), ours(), ESP, &esp(0x2a00_0002));
    let ike = frame(peer(), ours(), UDP, &udp(500, 500, &ike(1, 0x2a00_0000_0000_0001, 0x20, 0x08)));
    pair.expect(Side::Outer, &moved, Verdict::EspOwned, Some(9));
    pair.expect(Side::Outer, &neighbour, Verdict::EspForeign, Some(0x2a));
    pair.expect(Side::Outer, &ike, Verdict::IkeForeign, Some(8));
    pair.retell(World { owned: bits([9]), ..World::default() });
    pair.expect(Side::Outer, &moved, Verdict::EspForeign, Some(0x2a));
}

/// A frame larger than one buffer: its headers are in the first.
#[test]
fn jumbo_frames_are_steered() {
    if !privileged("jumbo_frames_are_steered") {
        return;
    }
    let mut pair = Pair::with_socket(World::default());
    let packet = frame(peer(), ours(), ESP, &[esp(0x2a00_0001), vec![0; 8_800]].concat());
    pair.expect(Side::Outer, &packet, Verdict::EspOwned, Some(0x2a));
    let mut long = packet;
    long[17] = long[17].wrapping_add(1);
    pair.expect(Side::Outer, &long, Verdict::MalformedIp, None);
}
