//! What tunnels and transport mode carry, and what not.

use baton_dataplane::io::Side;
use baton_sad::Mode;

use crate::IPIP;
use crate::common::{self, Gateway, HOST, Packet, Setup, pair};
use crate::crafted::{authentic, open_pair, widen, with_options};

/// RFC 1812 section 5.3.7: a router passes on neither what is loopback's nor what is one link's, whatever the selectors
/// of a tunnel allow: neither into it nor out of it.
#[test]
fn a_tunnel_carries_nothing_that_no_router_forwards() {
    let near: [[u8; 4]; 5] = [[127, 0, 0, 1], [169, 254, 0, 1], [0, 0, 0, 0], [255; 4], [224, 0, 0, 5]];
    for address in near {
        let [mut a, mut b] = open_pair();
        let to = Packet { destination: address.into(), ..Packet::from(0, 60) };
        let from = Packet { source: address.into(), ..Packet::from(0, 60) };
        for (sequence, packet) in (1..).zip([&to, &from]) {
            a.receive(Side::Inner, &packet.frame());
            b.receive(Side::Outer, &authentic(&Setup::default(), sequence, &packet.octets(), IPIP));
        }
        assert!(a.sent(Side::Outer).is_empty() && b.sent(Side::Inner).is_empty(), "{address:?}");
        assert_eq!((a.drops(), b.drops()), (vec![("not-forwardable", 2)], vec![("not-forwardable", 2)]));
    }
    let [mut a, _] = open_pair();
    a.seal(&Packet { destination: [239, 1, 2, 3].into(), ..Packet::from(0, 60) }.frame());
}

/// A source route leads elsewhere than the selectors saw.
#[test]
fn source_routes_are_refused_on_both_sides() {
    for kind in [131, 137] {
        let [mut a, mut b] = pair(&Setup::default());
        let route = [kind, 7, 4, 192, 0, 2, 99, 0];
        let packet = with_options(&Packet::from(0, 60), &route);
        a.receive(Side::Inner, &common::ethernet(&packet));
        b.receive(Side::Outer, &authentic(&Setup::default(), 1, &packet, IPIP));
        assert!(a.sent(Side::Outer).is_empty() && b.sent(Side::Inner).is_empty());
        assert_eq!((a.drops(), b.drops()), (vec![("ip-options", 1)], vec![("inner-malformed", 1)]));
    }
    let [mut a, _] = pair(&Setup::default());
    let record_route = [7, 7, 4, 0, 0, 0, 0, 0];
    a.seal(&common::ethernet(&with_options(&Packet::from(0, 60), &record_route)));
}

/// RFC 4303 section 3.1.1: transport mode is for whole packets; here ESP hides a fragment header.
#[test]
fn transport_mode_brings_no_fragments() {
    let setup = Setup { mode: Mode::Transport, outer_ipv6: true, inner_ipv6: true, ..Setup::default() };
    for (offset_and_flag, passes) in [([0, 0], true), ([0, 1], false), ([0, 8], false)] {
        let mut b = Gateway::new(1, &setup);
        let fragment = [&[17, 0][..], &offset_and_flag, &[0, 0, 0, 9], &[0, 9, 0, 9, 0, 8, 0, 0]].concat();
        b.receive(Side::Outer, &authentic(&setup, 1, &fragment, 44));
        let expected = if passes { vec![] } else { vec![("fragment", 1)] };
        assert_eq!((b.sent(Side::Inner).len(), b.drops()), (usize::from(passes), expected));
    }
}

/// Transport mode is between the SA's own ends, even if its selectors say more.
#[test]
fn transport_mode_seals_for_its_ends_only() {
    let setup = Setup { mode: Mode::Transport, ..Setup::default() };
    let mut a = Gateway::new(0, &setup);
    widen(&a, &setup);
    a.seal(&setup.packet(0, 60).frame());
    a.receive(Side::Inner, &Packet { destination: HOST[1].into(), ..setup.packet(0, 60) }.frame());
    a.receive(Side::Inner, &Packet { source: HOST[0].into(), ..setup.packet(0, 60) }.frame());
    assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("selectors", 2)]));
}
