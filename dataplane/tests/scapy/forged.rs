//! Authentic packets by a peer who does not keep to the protocol, and what is no ESP: each ends for its own reason.

use std::net::IpAddr;
use std::sync::Arc;

use baton_dataplane::packet::ip;
use baton_dataplane::spd::{Action, Policy, Spd, Ways};
use baton_sad::{Counters, Direction, Mode, Selectors};
use serde_json::json;

use crate::common::sa;
use crate::forger::{Forger, with_forger};

/// Next headers.
const IPV4: u8 = 4;
const TCP: u8 = 6;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const FRAGMENT: u8 = 44;
const DUMMY: u8 = 59;
const OPTIONS: u8 = 60;

fn foreign(is_ipv6: bool) -> IpAddr {
    if is_ipv6 { "2001:db8:f::1".parse().unwrap() } else { "198.51.100.1".parse().unwrap() }
}

/// As the router that the gateway is sends it on.
fn forwarded(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    ip::decrement_hop_limit(&mut packet);
    packet
}

#[test]
fn tunnel_mode_refuses_wrong_insides() {
    with_forger("tunnel_mode_refuses_wrong_insides", Mode::Tunnel, |forger| {
        let is_ipv6 = forger.setup.inner_ipv6;
        let [kind, other_kind] = if is_ipv6 { [IPV6, IPV4] } else { [IPV4, IPV6] };
        let own = forger.datagram();
        let arrives = forwarded(&own);
        let hosts = [1, 0].map(|end| forger.setup.host(end));
        let stranger = forger.packet([foreign(is_ipv6), hosts[1]], 0);
        let elsewhere = forger.packet([hosts[0], foreign(is_ipv6)], 0);
        let other_family = forger.packet([foreign(!is_ipv6), foreign(!is_ipv6)], 0);
        let mut expiring = own.clone();
        while ip::IpHeader::parse(&expiring).unwrap().hop_limit > 1 {
            ip::decrement_hop_limit(&mut expiring);
        }
        let with_tfc = [&own[..], &[0xcc; 77]].concat();
        let text = |payload: &[u8], next_header| forger.text(payload, next_header);
        let mut cases = vec![
            (text(&own, kind), Ok(arrives.clone())),
            (text(&with_tfc, kind), Ok(arrives.clone())),
            (text(&stranger, kind), Err("selectors")),
            (text(&elsewhere, kind), Err("selectors")),
            (text(&other_family, other_kind), Err("selectors")),
            (text(&own, other_kind), Err("inner-malformed")),
            (text(&own[..own.len() - 1], kind), Err("inner-malformed")),
            (text(&own[..7], kind), Err("inner-malformed")),
            (text(&[], kind), Err("inner-malformed")),
            (text(&own[20..], UDP), Err("next-header")),
            (text(&own, 0), Err("next-header")),
            (text(&[], DUMMY), Err("dummy")),
            (text(&[0xa5; 100], DUMMY), Err("dummy")),
            (text(&expiring, kind), Err("ttl-expired")),
        ];
        cases.extend(forger.paddings(&own, kind, &arrives));
        cases.extend(forger.misaligned(&own, kind));
        forger.hold(&cases, &[]);
    });
}

/// What a packet of transport mode becomes if ESP carries these extension headers in front of what it carried anyway.
fn with_extension(packet: &[u8], kind: u8, extension: &[u8]) -> Vec<u8> {
    let mut packet = [&packet[..40], extension, &packet[40..]].concat();
    packet[6] = kind;
    packet[5] += extension.len() as u8;
    packet
}

#[test]
fn transport_mode_refuses_wrong_insides() {
    with_forger("transport_mode_refuses_wrong_insides", Mode::Transport, |forger| {
        let own = forger.datagram();
        let payload = &own[if forger.setup.outer_ipv6 { 40 } else { 20 }..];
        let text = |payload: &[u8], next_header| forger.text(payload, next_header);
        let mut cases = vec![
            (text(payload, UDP), Ok(own.clone())),
            (text(&[], DUMMY), Err("dummy")),
            (text(&[0xa5; 100], DUMMY), Err("dummy")),
        ];
        cases.extend(forger.paddings(payload, UDP, &own));
        cases.extend(forger.misaligned(payload, UDP));
        forger.hold(&cases, &own);
    });
}

#[test]
fn extension_headers_inside_esp_are_looked_at() {
    with_forger("extension_headers_inside_esp_are_looked_at", Mode::Transport, |forger| {
        if !forger.setup.outer_ipv6 {
            return;
        }
        let own = forger.datagram();
        let payload = own[40..].to_vec();
        let options = [UDP, 0, 1, 4, 0, 0, 0, 0];
        let text = |extension: &[u8], next_header| forger.text(&[extension, &payload].concat(), next_header);
        let routed = [UDP, 2, 0, 1].into_iter().chain([0; 20]).collect::<Vec<_>>();
        let cases = [
            (text(&options, OPTIONS), Ok(with_extension(&own, OPTIONS, &options))),
            (text(&options, 0), Ok(with_extension(&own, 0, &options))),
            // It is longer than what there is; a second one names the upper layer's octets as options.
            (forger.text(&[UDP, 9, 0, 0, 0, 0, 0, 0], OPTIONS), Err("inner-malformed")),
            // A routing header of type 0 (RFC 5095).
            (text(&routed, 43), Err("inner-malformed")),
            // A part of a packet, which transport mode does not carry (RFC 4303 section 3.1.1).
            (text(&[UDP, 0, 0, 1, 0, 0, 0, 9], FRAGMENT), Err("fragment")),
            (text(&[UDP, 0, 0, 8, 0, 0, 0, 9], FRAGMENT), Err("fragment")),
        ];
        forger.hold(&cases, &own);
        // Hop-by-hop options that are not in front.
        let behind = forger.own_packet(4);
        let cases = [(forger.text(&[&options, &payload[..]].concat(), 0), Err("inner-malformed"))];
        forger.hold(&cases, &behind);
    });
}

/// The SA's selectors are checked on what was inside (RFC 4301 section 5.2 step 4).
#[test]
fn selectors_hold_in_transport_mode() {
    with_forger("selectors_hold_in_transport_mode", Mode::Transport, |forger| {
        let mut narrow = sa(&forger.setup, 0, Direction::Inbound, 0);
        let mut selector = narrow.selectors.iter().next().expect("one").clone();
        (selector.protocol, selector.local_ports) = (Some(TCP), 7..=7);
        narrow.selectors = Selectors::new(vec![selector]).unwrap();
        forger.a.table.put(&[(narrow, Counters::default())]).unwrap();
        let own = forger.own_packet(1);
        let payload = own[if forger.setup.outer_ipv6 { 40 } else { usize::from(own[0] & 15) * 4 }..].to_vec();
        let mut other_port = payload.clone();
        other_port[3] = 8;
        let cases = [
            (forger.text(&payload, TCP), Ok(own.clone())),
            (forger.text(&other_port, TCP), Err("selectors")),
            (forger.text(&payload, UDP), Err("selectors")),
            (forger.text(&payload[..3], TCP), Err("selectors")),
        ];
        forger.hold(&cases, &own);
    });
}

/// Before any key is used.
fn outsides(forger: &mut Forger) {
    let own = forger.datagram();
    let (next_header, payload) = match (forger.setup.mode, forger.setup.inner_ipv6) {
        (Mode::Tunnel, false) => (IPV4, &own[..]),
        (Mode::Tunnel, true) => (IPV6, &own[..]),
        (Mode::Transport, false) => (UDP, &own[20..]),
        (Mode::Transport, true) => (UDP, &own[40..]),
    };
    let text = forger.text(payload, next_header);
    let sealed = forger.forge(&text, &own);
    let encapsulated = forger.setup.encapsulated;

    // Without ports, a later part of a datagram is not known for ESP: a policy has to let it in, and none does.
    let clear = if forger.setup.mode == Mode::Tunnel { "no-policy" } else { "unprotected" };
    for (number, part) in forger.fragments(&sealed).iter().enumerate() {
        let expected = if encapsulated && number > 0 { clear } else { "fragment" };
        assert_eq!(forger.fate(part), Err(expected), "{:?}", forger.setup);
    }

    let [source, destination] = [1, 0].map(|end| forger.setup.outer(end));
    for (kind, expected) in [("keep-alive", "keep-alive"), ("ike", clear)] {
        let question = json!({"ask": "datagram", "source": source, "destination": destination, "kind": kind});
        let datagram = hex::decode(forger.scapy.ask::<String>(&question)).unwrap();
        assert_eq!(forger.fate(&datagram), Err(expected), "{:?}", forger.setup);
    }

    assert!(forger.fate(&sealed).is_ok(), "none of this used its sequence number up");
    assert_eq!(forger.fate(&sealed), Err("replayed"));

    // With UDP though the SA has none, and the other way round: as good as the other, and as often.
    let text = forger.text(payload, next_header);
    let setup = forger.setup.clone();
    forger.setup.encapsulated = !encapsulated;
    let otherwise = forger.forge(&text, &own);
    forger.setup = setup;
    assert!(forger.fate(&otherwise).is_ok(), "{:?}", forger.setup);
    assert_eq!(forger.fate(&otherwise), Err("replayed"));
}

#[test]
fn what_is_not_whole_esp_ends_early() {
    for mode in [Mode::Tunnel, Mode::Transport] {
        with_forger("what_is_not_whole_esp_ends_early", mode, outsides);
    }
}

/// A first fragment states the length of the whole datagram, of which it has a part.
#[test]
fn fragments_in_clear_pass_where_a_policy_lets_them() {
    with_forger("fragments_in_clear_pass_where_a_policy_lets_them", Mode::Tunnel, |forger| {
        let datagram = forger.own_packet(12);
        let all = Policy {
            name: "all".into(),
            priority: 1,
            selector: sa(&forger.setup, 0, Direction::Inbound, 0).selectors.iter().next().unwrap().clone(),
            action: Action::Bypass(Ways::Both),
        };
        forger.a.spd.store(Arc::new(Spd::new(vec![all])));
        for part in forger.fragments(&datagram) {
            assert_eq!(forger.fate(&part), Ok(forwarded(&part)), "{:?}", forger.setup);
        }
    });
}
