//! The walk over options and extension headers.

use proptest::prelude::*;

use super::linux::{FRAGMENTS_IPV6, SYN_IPV4, UDP_IPV4_OPTIONS, UDP_IPV6, UDP_IPV6_CHAIN, octets, padded};
use super::{DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING, extension, fragment, ipv4, ipv6};
use crate::packet::Malformed;
use crate::packet::ip::{Fragment, Insertion, IpHeader};
use crate::packet::ipv4::{TCP, UDP};
use crate::xdp::shared::{MAX_EXTENSION_HEADERS, MAX_EXTENSION_OCTETS};

const PORTS: [u8; 20] = [1, 2, 3, 4, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn parse(extensions: &[(u8, Vec<u8>)], protocol: u8) -> Result<IpHeader, Malformed> {
    IpHeader::parse(&ipv6(extensions, protocol, &PORTS))
}

#[test]
fn linux_packets_are_understood() {
    let cases = [
        (SYN_IPV4, false, 20, TCP, (0xbf9e, 80)),
        (UDP_IPV4_OPTIONS, false, 28, UDP, (4500, 4500)),
        (UDP_IPV6, true, 40, UDP, (4500, 4500)),
        (UDP_IPV6_CHAIN, true, 56, UDP, (4500, 4500)),
    ];
    for (packet, is_ipv6, header_length, protocol, ports) in cases {
        let packet = octets(packet);
        let header = IpHeader::parse(&packet).unwrap();
        assert_eq!(
            (header.is_ipv6(), header.header_length, header.protocol),
            (is_ipv6, header_length, protocol)
        );
        assert_eq!((header.total_length, header.hop_limit), (packet.len(), 64));
        let flow = header.flow(&packet);
        assert_eq!((flow.protocol(), flow.ports()), (protocol, Some(ports)));
        assert_eq!((flow.source(), flow.destination()), (header.source(), header.destination()));
        assert!(header.is_between(flow.source(), flow.destination()));
        assert!(!header.is_between(flow.destination(), flow.source()));
    }
    let chain = IpHeader::parse(&octets(UDP_IPV6_CHAIN)).unwrap();
    assert_eq!(chain.insertion, Insertion { offset: 48, next_header_at: 40 });
    assert_eq!(chain.protocol_at, 48);
    assert_eq!(chain.source(), "2001:db8:1::1".parse::<std::net::IpAddr>().unwrap());
}

#[test]
fn fragments_show_ports_only_in_the_first() {
    let [first, later] = FRAGMENTS_IPV6.map(padded);
    let header = IpHeader::parse(&first).unwrap();
    assert_eq!((header.fragment, header.flow(&first).ports()), (Fragment::First, Some((4500, 4500))));
    let header = IpHeader::parse(&later).unwrap();
    assert_eq!((header.fragment, header.protocol, header.flow(&later).ports()), (Fragment::Later, UDP, None));
    // RFC 6946: the first and last part at once is whole.
    let atomic = parse(&[(FRAGMENT, fragment(0))], UDP).unwrap();
    assert_eq!((atomic.fragment, atomic.header_length), (Fragment::Whole, 48));

    for (field, expected) in [(0x2000, Fragment::First), (0x2001, Fragment::Later), (0x0001, Fragment::Later)]
    {
        let mut packet = ipv4(UDP, &[], &PORTS);
        packet[6..8].copy_from_slice(&u16::to_be_bytes(field));
        super::sum_ipv4(&mut packet[..20]);
        let header = IpHeader::parse(&packet).unwrap();
        assert_eq!(
            (header.fragment, header.flow(&packet).ports().is_some()),
            (expected, expected == Fragment::First)
        );
    }
}

#[test]
fn behind_a_later_fragments_header_nothing_is_read() {
    // What follows is the middle of something, whatever it looks like.
    let later = parse(&[(FRAGMENT, fragment(8)), (DESTINATION_OPTIONS, extension(3))], UDP).unwrap();
    assert_eq!((later.header_length, later.protocol), (48, DESTINATION_OPTIONS));
}

/// RFC 4303 section 3.1.1's places, with both kinds of destination options.
#[test]
fn esp_goes_behind_what_every_router_reads() {
    let all = [
        (HOP_BY_HOP, extension(1)),
        (DESTINATION_OPTIONS, extension(2)),
        (ROUTING, extension(3)),
        (FRAGMENT, fragment(0)),
        (DESTINATION_OPTIONS, extension(1)),
    ];
    let cases: [(&[usize], Insertion); 7] = [
        (&[], Insertion { offset: 40, next_header_at: 6 }),
        (&[4], Insertion { offset: 40, next_header_at: 6 }),
        (&[0], Insertion { offset: 48, next_header_at: 40 }),
        (&[0, 4], Insertion { offset: 48, next_header_at: 40 }),
        (&[1, 2], Insertion { offset: 80, next_header_at: 56 }),
        (&[3, 4], Insertion { offset: 48, next_header_at: 40 }),
        (&[0, 1, 2, 3, 4], Insertion { offset: 96, next_header_at: 88 }),
    ];
    for (chosen, expected) in cases {
        let extensions: Vec<_> = chosen.iter().map(|i| all[*i].clone()).collect();
        assert_eq!(parse(&extensions, UDP).unwrap().insertion, expected, "{chosen:?}");
    }
}

#[test]
fn what_is_not_known_is_an_upper_layer() {
    // AH and ESP among them (RFC 4301 section 4.4.1.1), and 59, which says that there is none.
    for protocol in [50, 51, 59, 135, 139, 140, 253] {
        let header = parse(&[(HOP_BY_HOP, extension(1))], protocol).unwrap();
        assert_eq!((header.protocol, header.header_length), (protocol, 48));
    }
    assert!(IpHeader::parse(&ipv6(&[], 59, &[])).unwrap().payload(&[0; 40]).is_empty());
}

#[test]
fn limits_are_those_of_the_filter() {
    let options = |count: u32, units: u8| vec![(DESTINATION_OPTIONS, extension(units)); count as usize];
    assert!(parse(&options(MAX_EXTENSION_HEADERS, 1), UDP).is_ok());
    assert_eq!(parse(&options(MAX_EXTENSION_HEADERS + 1, 1), UDP), Err(Malformed::ExtensionHeaders));
    let units = (MAX_EXTENSION_OCTETS / 8) as u8;
    assert!(parse(&options(1, units), UDP).is_ok());
    assert_eq!(parse(&options(1, units + 1), UDP), Err(Malformed::ExtensionHeaders));
    assert_eq!(parse(&options(8000, 1), UDP), Err(Malformed::ExtensionHeaders));
}

#[test]
fn places_that_hide_things_are_refused() {
    let mut routing_0 = extension(3);
    assert!(parse(&[(ROUTING, routing_0.clone())], UDP).is_ok(), "no hops left: RFC 5095 ignores it");
    routing_0[3] = 1;
    let mut routing_4 = routing_0.clone();
    routing_4[2] = 4;
    assert!(parse(&[(ROUTING, routing_4)], UDP).is_ok());
    let refused = [
        vec![(ROUTING, routing_0)],
        vec![(DESTINATION_OPTIONS, extension(1)), (HOP_BY_HOP, extension(1))],
        vec![(HOP_BY_HOP, extension(1)), (HOP_BY_HOP, extension(1))],
        vec![(FRAGMENT, fragment(0)), (FRAGMENT, fragment(0))],
        vec![(FRAGMENT, fragment(1)), (FRAGMENT, fragment(0))],
    ];
    for extensions in refused {
        assert_eq!(parse(&extensions, UDP), Err(Malformed::ExtensionHeaders), "{extensions:?}");
    }
}

#[test]
fn headers_that_run_out_of_the_packet_are_refused() {
    let packet = octets(UDP_IPV6_CHAIN);
    for length in 0..packet.len() {
        assert_eq!(IpHeader::parse(&packet[..length]), Err(Malformed::Truncated), "{length}");
    }
    for payload_length in 0..16 {
        let mut short = packet.clone();
        short[5] = payload_length;
        assert_eq!(IpHeader::parse(&short), Err(Malformed::Truncated), "{payload_length}");
    }
    assert_eq!(IpHeader::parse(&[0x55; 60]), Err(Malformed::Version));
}

#[test]
fn only_addresses_of_hosts_beyond_the_link_are_forwardable() {
    let with = |source: &str, destination: &str| {
        let mut packet = if source.contains(':') { ipv6(&[], UDP, &PORTS) } else { ipv4(UDP, &[], &PORTS) };
        match (source.parse().unwrap(), destination.parse().unwrap()) {
            (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
                packet[12..16].copy_from_slice(&source.octets());
                packet[16..20].copy_from_slice(&destination.octets());
                super::sum_ipv4(&mut packet[..20]);
            }
            (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
                packet[8..24].copy_from_slice(&source.octets());
                packet[24..40].copy_from_slice(&destination.octets());
            }
            _ => unreachable!(),
        }
        IpHeader::parse(&packet).unwrap().is_forwardable()
    };
    assert!(with("10.1.0.1", "10.2.0.1") && with("10.1.0.1", "239.1.1.1"));
    assert!(with("2001:db8::1", "fd00::1") && with("2001:db8::1", "ff05::1"));
    for source in ["0.0.0.0", "0.1.2.3", "127.0.0.1", "169.254.1.1", "224.0.0.9", "255.255.255.255"] {
        assert!(!with(source, "10.2.0.1"), "{source}");
    }
    for destination in ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.9", "255.255.255.255"] {
        assert!(!with("10.1.0.1", destination), "{destination}");
    }
    for source in ["::", "::1", "fe80::1", "ff05::1"] {
        assert!(!with(source, "2001:db8::1"), "{source}");
    }
    for destination in ["::", "::1", "fe80::1", "ff02::1", "ff11::1"] {
        assert!(!with("2001:db8::1", destination), "{destination}");
    }
}

/// What a chain should come to, by its construction: the rules in the words of [`ipv6::walk`](crate::packet::ipv6::walk).
fn expected(extensions: &[(u8, Vec<u8>)]) -> Result<(usize, Fragment), Malformed> {
    let mut end = 40;
    let mut fragments = 0;
    for (index, (kind, octets)) in extensions.iter().enumerate() {
        fragments += usize::from(*kind == FRAGMENT);
        let misplaced = *kind == HOP_BY_HOP && index > 0 || fragments > 1;
        end += octets.len();
        if misplaced || index >= MAX_EXTENSION_HEADERS as usize || end - 40 > MAX_EXTENSION_OCTETS as usize {
            return Err(Malformed::ExtensionHeaders);
        }
        if *kind == FRAGMENT && octets[2..4] >= [0, 8][..] {
            return Ok((end, Fragment::Later));
        }
    }
    let first = extensions.iter().any(|(kind, octets)| *kind == FRAGMENT && octets[3] == 1);
    Ok((end, if first { Fragment::First } else { Fragment::Whole }))
}

fn any_extension() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let options = (prop_oneof![Just(HOP_BY_HOP), Just(ROUTING), Just(DESTINATION_OPTIONS)], 1_u8..40);
    let part = prop_oneof![Just(0_u16), Just(1), Just(8), Just(9), Just(0xfff8)];
    prop_oneof![
        5 => options.prop_map(|(kind, units)| (kind, extension(units))),
        1 => part.prop_map(|field| (FRAGMENT, fragment(field))),
    ]
}

proptest! {
    #[test]
    fn every_chain_comes_to_what_it_was_made_of(extensions in proptest::collection::vec(any_extension(), 0..9)) {
        let packet = ipv6(&extensions, UDP, &PORTS);
        let header = IpHeader::parse(&packet);
        prop_assert_eq!(header.map(|h| (h.header_length, h.fragment)), expected(&extensions));
        if let Ok(header) = header {
            let ports = (header.fragment != Fragment::Later).then_some((0x0102, 0x0304));
            prop_assert_eq!(header.flow(&packet).ports(), ports);
            prop_assert_eq!(packet[header.protocol_at], header.protocol);
            prop_assert!(header.insertion.offset <= header.header_length);
            prop_assert!(header.insertion.next_header_at < header.insertion.offset);
        }
    }
}
