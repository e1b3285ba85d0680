//! Fragments, which do not show what policies want to see.

use std::sync::Arc;

use baton_dataplane::io::Side;
use baton_dataplane::spd::{Action, Policy, Spd, Ways};
use baton_sad::Selector;

use crate::common::{self, Gateway, HOST, Packet, Setup};
use crate::crafted::{correct, everything};

/// The first fragment of a datagram is shorter than its UDP header says; a policy that lets it in sees both alike.
#[test]
fn fragments_of_clear_datagrams_are_the_policys() {
    let mut b = Gateway::new(1, &Setup::default());
    let datagram = |more: u8, offset: u8| {
        let clear =
            Packet { source: [192, 0, 2, 5].into(), destination: HOST[1].into(), ..Packet::from(0, 60) };
        let mut octets = clear.octets();
        (octets[6], octets[7]) = (more, offset);
        octets[20..28].copy_from_slice(&[0, 53, 0x30, 0x39, 5, 0, 0, 0]);
        correct(&mut octets);
        common::ethernet(&octets)
    };
    b.receive(Side::Outer, &datagram(0x20, 0));
    b.receive(Side::Outer, &datagram(0, 5));
    assert_eq!(b.drops(), [("no-policy", 2)]);
}

/// I7: a policy protects one port and a later one lets the rest out in clear. Fragments that show no ports may be
/// parts of what is protected.
#[test]
fn i7_fragments_of_what_is_protected_do_not_leave_in_clear() {
    let setup = Setup::default();
    let https = Selector { protocol: Some(6), remote_ports: 443..=443, ..everything() };
    let policy =
        |name: &str, priority, selector, action| Policy { name: name.into(), priority, selector, action };
    let protect = Action::Protect { reqid: common::REQID };
    let bypass = Action::Bypass(Ways::Both);
    let mut a = Gateway::new(0, &setup);
    let policies = vec![policy("https", 1, https, protect), policy("rest", 2, everything(), bypass)];
    a.spd.store(Arc::new(Spd::new(policies)));
    // Of TCP: port 80, port 443, a later fragment, a first fragment too short for its ports; of UDP and ESP: later ones.
    for (protocol, fragment, ports, length, is_clear) in [
        (6, [0, 0], [0x30, 0x39, 0, 80], 60, true),
        (6, [0, 0], [0x30, 0x39, 1, 0xbb], 60, false),
        (6, [0x20, 0], [0x30, 0x39, 0, 80], 22, false),
        (6, [0, 9], [0x30, 0x39, 0, 80], 60, false),
        (17, [0, 9], [0; 4], 60, true),
        (50, [0, 9], [0; 4], 60, true),
    ] {
        let mut octets = Packet { protocol, ..Packet::from(0, length) }.octets();
        octets[6..8].copy_from_slice(&fragment);
        correct(&mut octets);
        let shown = octets.len().min(24) - 20;
        octets[20..20 + shown].copy_from_slice(&ports[..shown]);
        a.receive(Side::Inner, &common::ethernet(&octets));
        let clear = a.sent(Side::Outer).iter().filter(|frame| frame.ends_with(&octets[20..])).count();
        assert_eq!(clear, usize::from(is_clear), "{protocol} {fragment:?} {length}");
    }
    assert_eq!(a.drops(), [("hidden-ports", 2)]);
}
