//! The tables of RFC 4301 section 5.1.2 and of RFC 6040, for all four mixes of families.

use proptest::prelude::*;

use super::*;
use crate::packet::udp::UdpHeader;
use crate::packet::{checksum, transport};

/// Room in front of the ESP packet, and its octets.
const FRONT: usize = 64;
const ESP_LENGTH: usize = 52;
const SPI: [u8; 4] = [0x2a, 0, 0, 1];

const ENCAPSULATION: UdpEncapsulation = UdpEncapsulation {
    source_port: 4500,
    destination_port: 40_001,
    follows_peer: false,
    keepalive_seconds: 0,
};

fn ends(is_ipv6: bool) -> [IpAddr; 2] {
    let ends = if is_ipv6 { ["2001:db8::1", "2001:db8::2"] } else { ["192.0.2.1", "192.0.2.2"] };
    ends.map(|end| end.parse().unwrap())
}

/// A packet to be protected, with an option or a hop-by-hop header, and in IPv6 a flow label.
fn inner(is_ipv6: bool, class: u8, dont_fragment: bool) -> Vec<u8> {
    let payload = [0x11; 12];
    if is_ipv6 {
        let template = Ipv6Template::new([1; 16].into(), [2; 16].into(), 0, 33);
        let header = template.emit(8 + 12, class, 0xabcde);
        [&header[..], &[17, 0, 1, 4, 0, 0, 0, 0], &payload].concat()
    } else {
        let template = Ipv4Template::new([10, 1, 0, 1].into(), [10, 2, 0, 1].into(), ipv4::UDP, 33);
        let fields = Ipv4Fields { total_length: 36, traffic_class: class, identification: 99, dont_fragment };
        let mut header = [&template.emit(fields)[..], &[1; 4]].concat();
        header[0] += 1;
        header[10..12].fill(0);
        let sum = checksum::checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        [&header[..], &payload].concat()
    }
}

/// The packet with an outer header around it, from that on.
fn encapsulate(outer: &OuterHeader, inner: &[u8]) -> Vec<u8> {
    let mut buffer = [&[0xee; FRONT][..], &SPI, &[0x5a; ESP_LENGTH - 4]].concat();
    let header = IpHeader::parse(inner).unwrap();
    let start = outer.emit_before(&mut buffer, FRONT, ESP_LENGTH, &header, 0x1234).unwrap();
    assert_eq!(start, FRONT - outer.overhead());
    assert_eq!(buffer[..start], vec![0xee; start], "nothing in front");
    assert_eq!(buffer[FRONT..FRONT + 8], [0x2a, 0, 0, 1, 0x5a, 0x5a, 0x5a, 0x5a], "nothing behind");
    buffer.split_off(start)
}

fn outer(is_ipv6: bool, in_udp: bool, dscp: DscpPolicy, df: DfPolicy) -> OuterHeader {
    let [source, destination] = ends(is_ipv6);
    OuterHeader::new(source, destination, in_udp.then_some(ENCAPSULATION), dscp, df).unwrap()
}

/// What a table says about the outer header's field.
enum Outer {
    /// "Copied from inner hdr".
    Copied,
    /// "Constructed": what it must be for this test's packets.
    Constructed(u32),
    /// "Never copied": options and extension headers; what says that there are none.
    NeverCopied(u32),
}

/// What a table says about the inner header's field at the decapsulator.
#[derive(PartialEq, Eq)]
enum Inner {
    NoChange,
    Constructed,
    /// By the router that the gateway is, not by the decapsulation.
    Decremented,
}

/// A row: the field's name, how it is read, what becomes of it at the encapsulator, and at the decapsulator.
type Row = (&'static str, fn(&[u8]) -> u32, Outer, Inner);

fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(*packet[at..].first_chunk().unwrap())
}

fn half(packet: &[u8], at: usize) -> u32 {
    word(packet, at & !3) >> (if at.is_multiple_of(4) { 16 } else { 0 }) & 0xffff
}

fn class(packet: &[u8]) -> u32 {
    IpHeader::parse(packet).unwrap().traffic_class.into()
}

/// RFC 4301 section 5.1.2.1, less the addresses, with no UDP; DF by policy is another test.
fn ipv4_table() -> Vec<Row> {
    let total_length = (20 + ESP_LENGTH) as u32;
    vec![
        ("version", |p| u32::from(p[0] >> 4), Outer::Constructed(4), Inner::NoChange),
        ("header length", |p| u32::from(p[0] & 15), Outer::Constructed(5), Inner::NoChange),
        ("DS field", |p| class(p) >> 2, Outer::Copied, Inner::NoChange),
        ("ECN field", |p| class(p) & 3, Outer::Copied, Inner::Constructed),
        ("total length", |p| half(p, 2), Outer::Constructed(total_length), Inner::NoChange),
        ("ID", |p| half(p, 4), Outer::Constructed(0x1234), Inner::NoChange),
        ("fragment offset", |p| half(p, 6) & 0x3fff, Outer::Constructed(0), Inner::NoChange),
        ("TTL", |p| u32::from(p[8]), Outer::Constructed(64), Inner::Decremented),
        ("protocol", |p| u32::from(p[9]), Outer::Constructed(50), Inner::NoChange),
        (
            "checksum",
            |p| checksum::sum(&p[..usize::from(p[0] & 15) * 4]).into(),
            Outer::Constructed(0xffff),
            Inner::Constructed,
        ),
        ("options", |p| u32::from(p[0] & 15) - 5, Outer::NeverCopied(0), Inner::NoChange),
    ]
}

/// RFC 4301 section 5.1.2.2, in the same way.
fn ipv6_table() -> Vec<Row> {
    let label = flow_label(&SPI);
    vec![
        ("version", |p| u32::from(p[0] >> 4), Outer::Constructed(6), Inner::NoChange),
        ("DS field", |p| class(p) >> 2, Outer::Copied, Inner::NoChange),
        ("ECN field", |p| class(p) & 3, Outer::Copied, Inner::Constructed),
        ("flow label", |p| word(p, 0) & 0xf_ffff, Outer::Constructed(label), Inner::NoChange),
        ("payload length", |p| half(p, 4), Outer::Constructed(ESP_LENGTH as u32), Inner::NoChange),
        ("next header", |p| u32::from(p[6]), Outer::Constructed(50), Inner::NoChange),
        ("hop limit", |p| u32::from(p[7]), Outer::Constructed(64), Inner::Decremented),
        (
            "extension headers",
            |p| IpHeader::parse(p).unwrap().header_length as u32,
            Outer::NeverCopied(40),
            Inner::NoChange,
        ),
    ]
}

#[test]
fn the_encapsulators_columns_hold() {
    for (outer_ipv6, inner_ipv6) in [(false, false), (false, true), (true, false), (true, true)] {
        let inner = inner(inner_ipv6, 0b1011_1001, true);
        let sent = encapsulate(&outer(outer_ipv6, false, DscpPolicy::Copy, DfPolicy::Copy), &inner);
        for (field, read, rule, _) in if outer_ipv6 { ipv6_table() } else { ipv4_table() } {
            let expected = match rule {
                Outer::Copied if field == "DS field" => class(&inner) >> 2,
                Outer::Copied => class(&inner) & 3,
                Outer::Constructed(value) | Outer::NeverCopied(value) => value,
            };
            assert_eq!(read(&sent), expected, "{field}, outer IPv6 {outer_ipv6}, inner IPv6 {inner_ipv6}");
        }
        let header = IpHeader::parse(&sent).unwrap();
        let [source, destination] = ends(outer_ipv6);
        assert!(header.is_between(source, destination));
        assert_eq!(header.total_length, sent.len());
    }
}

#[test]
fn the_decapsulators_columns_hold() {
    for (is_ipv6, outer_class) in [(false, 0b1100_0011), (true, 0b1100_0011), (false, 0), (true, 0)] {
        let before = inner(is_ipv6, 0b1011_1010, true);
        let mut after = before.clone();
        combine_ecn(&mut after, 0b1011_1010, outer_class).unwrap();
        ip::decrement_hop_limit(&mut after);
        for (field, read, _, rule) in if is_ipv6 { ipv6_table() } else { ipv4_table() } {
            let expected = match (rule, field) {
                (Inner::Decremented, _) => read(&before) - 1,
                (Inner::Constructed, "ECN field") if outer_class != 0 => u32::from(ecn::CE),
                _ => read(&before),
            };
            assert_eq!(read(&after), expected, "{field}, IPv6 {is_ipv6}");
        }
        let addresses = if is_ipv6 { 8..before.len() } else { 12..before.len() };
        assert_eq!(after[addresses.clone()], before[addresses], "addresses, options and payload");
    }
}

/// RFC 4301 section 5.1.2.1 note 4 and section 8.1; IPv6 has no DF to copy.
#[test]
fn the_df_bit_follows_the_policy() {
    use DfPolicy::{Clear, Copy, Set};
    let table = [
        // Policy, inner IPv4 without and with DF, inner IPv6.
        (Copy, [false, true, true]),
        (Set, [true, true, true]),
        (Clear, [false, false, false]),
    ];
    for (df, row) in table {
        let inners = [inner(false, 0, false), inner(false, 0, true), inner(true, 0, true)];
        for (inner, expected) in inners.iter().zip(row) {
            let sent = encapsulate(&outer(false, false, DscpPolicy::Copy, df), inner);
            assert_eq!(IpHeader::parse(&sent).unwrap().dont_fragment, expected, "{df:?}");
        }
    }
}

/// Figure 3 of RFC 6040, the column of the normal mode, and figure 4: rows are inner fields, columns outer ones, both in
/// this order. `None` is a drop; the flag marks what must be reported.
const FIELDS: [u8; 4] = [ecn::NOT_ECT, ecn::ECT_0, ecn::ECT_1, ecn::CE];
const FIGURE_3: [u8; 4] = [ecn::NOT_ECT, ecn::ECT_0, ecn::ECT_1, ecn::CE];
const FIGURE_4: [[Option<(u8, bool)>; 4]; 4] = {
    use ecn::{CE, ECT_0, ECT_1, NOT_ECT};
    [
        [Some((NOT_ECT, false)), Some((NOT_ECT, true)), Some((NOT_ECT, true)), None],
        [Some((ECT_0, false)), Some((ECT_0, false)), Some((ECT_1, false)), Some((CE, false))],
        [Some((ECT_1, false)), Some((ECT_1, false)), Some((ECT_1, false)), Some((CE, false))],
        [Some((CE, false)), Some((CE, false)), Some((CE, true)), Some((CE, false))],
    ]
};

proptest! {
    #[test]
    fn figures_3_and_4_of_rfc_6040_hold(
        dscp in 0_u8..64,
        outer_dscp in 0_u8..64,
        policy in prop_oneof![Just(DscpPolicy::Copy), (0_u8..64).prop_map(DscpPolicy::Set)],
        families: [bool; 2],
        in_udp: bool,
    ) {
        let [inner_ipv6, outer_ipv6] = families;
        for (row, inner_ecn) in FIELDS.into_iter().enumerate() {
            let before = inner(inner_ipv6, dscp << 2 | inner_ecn, false);
            let sent = encapsulate(&outer(outer_ipv6, in_udp, policy, DfPolicy::Copy), &before);
            let expected = match policy { DscpPolicy::Copy => dscp, DscpPolicy::Set(dscp) => dscp };
            prop_assert_eq!(class(&sent), u32::from(expected << 2 | FIGURE_3[row]));

            for (column, outer_ecn) in FIELDS.into_iter().enumerate() {
                let mut after = before.clone();
                let result = combine_ecn(&mut after, dscp << 2 | inner_ecn, outer_dscp << 2 | outer_ecn);
                match FIGURE_4[row][column] {
                    None => prop_assert_eq!(result, Err(DropReason::EcnDrop)),
                    Some((field, reported)) => {
                        prop_assert_eq!(result, Ok(reported));
                        prop_assert_eq!(class(&after), u32::from(dscp << 2 | field));
                    }
                }
            }
        }
    }
}

/// RFC 3948 section 2.1; in IPv6 with a checksum that holds.
#[test]
fn udp_stands_in_between() {
    for is_ipv6 in [false, true] {
        let outer = outer(is_ipv6, true, DscpPolicy::Copy, DfPolicy::Copy);
        let sent = encapsulate(&outer, &inner(!is_ipv6, 0, false));
        let header = IpHeader::parse(&sent).unwrap();
        assert_eq!((header.protocol, header.header_length + 8), (ipv4::UDP, outer.overhead()));
        let datagram = header.payload(&sent);
        let udp = UdpHeader::parse(datagram).unwrap();
        assert_eq!((udp.source, udp.destination, udp.payload.len()), (4500, 40_001, ESP_LENGTH));
        if is_ipv6 {
            assert_eq!(word(&sent, 0) & 0xf_ffff, flow_label(&SPI), "the label is the SPI's here too");
            let mut repaired = sent.clone();
            assert!(transport::repair_checksum(&mut repaired, &header));
            assert_eq!(repaired, sent);
        } else {
            assert_eq!(datagram[6..8], [0, 0]);
        }
    }
}

#[test]
fn keep_alives_are_one_octet() {
    for is_ipv6 in [false, true] {
        let outer = outer(is_ipv6, true, DscpPolicy::Copy, DfPolicy::Copy);
        let mut buffer = [0; FRONT + 1];
        let start = outer.emit_keep_alive(&mut buffer, FRONT).unwrap();
        let header = IpHeader::parse(&buffer[start..]).unwrap();
        assert_eq!(UdpHeader::parse(header.payload(&buffer[start..])).unwrap().payload, [0xff]);
        assert_eq!(outer.emit_keep_alive(&mut buffer, FRONT + 1), Err(DropReason::Oversized));
    }
}

#[test]
fn labels_differ_between_sas_and_fit_their_field() {
    let labels: std::collections::HashSet<u32> =
        (0..1000_u32).map(|n| flow_label(&(0x2a00_0000 + n).to_be_bytes())).collect();
    assert!(labels.len() > 990);
    assert!(labels.iter().all(|label| *label < 1 << 20));
}

#[test]
fn what_has_no_room_is_refused() {
    let [v4, v6] = [false, true].map(|is_ipv6| ends(is_ipv6)[0]);
    assert!(OuterHeader::new(v4, v6, None, DscpPolicy::Copy, DfPolicy::Copy).is_none());
    let about = IpHeader::parse(&inner(false, 0, false)).unwrap();
    for (is_ipv6, in_udp) in [(false, false), (false, true), (true, false), (true, true)] {
        let outer = outer(is_ipv6, in_udp, DscpPolicy::Copy, DfPolicy::Copy);
        let emit =
            |buffer: usize, esp, length| outer.emit_before(&mut vec![0; buffer], esp, length, &about, 0);
        assert_eq!(emit(200, outer.overhead(), 100), Ok(0));
        assert_eq!(emit(200, outer.overhead() - 1, 100), Err(DropReason::Oversized));
        assert_eq!(emit(99 + outer.overhead(), outer.overhead(), 100), Err(DropReason::Oversized));
        assert_eq!(emit(70_000, 100, 65_536), Err(DropReason::Oversized));
        assert_eq!(emit(200, 100, usize::MAX), Err(DropReason::Oversized));
    }
}
