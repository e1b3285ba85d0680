//! A peer behind a NAT: scapy seals with the address that it has, a NAT in between writes another one.

use std::net::IpAddr;

use baton_dataplane::events::Event;
use baton_dataplane::packet::{checksum, udp};
use baton_sad::Mode;

use crate::forger::{Forger, with_forger};

fn private(is_ipv6: bool) -> IpAddr {
    if is_ipv6 { "fd00::5".parse().unwrap() } else { "192.168.0.5".parse().unwrap() }
}

/// What the NAT makes of a packet with UDP.
fn translate(packet: &mut [u8], source: IpAddr, port: u16) {
    let udp = match source {
        IpAddr::V4(source) => {
            packet[12..16].copy_from_slice(&source.octets());
            let length = usize::from(packet[0] & 15) * 4;
            packet[10..12].fill(0);
            let sum = checksum::checksum(&packet[..length]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            length
        }
        IpAddr::V6(source) => {
            packet[8..24].copy_from_slice(&source.octets());
            let ports = [udp::NAT_TRAVERSAL.to_be_bytes(); 2].concat();
            packet.windows(4).position(|window| window == ports).expect("UDP")
        }
    };
    packet[udp..udp + 2].copy_from_slice(&port.to_be_bytes());
}

/// The checksum inside covers the address that the sender had (RFC 3948 section 3.1.2): what goes on is what scapy
/// makes for the address that the NAT wrote.
#[test]
fn transport_checksums_follow_the_address() {
    with_forger("transport_checksums_follow_the_address", Mode::Transport, |forger| {
        if !forger.setup.encapsulated {
            return;
        }
        let ours = forger.setup.host(0);
        // Each kind of packet, and more.
        for number in 0..13 {
            let sent = forger.packet([private(forger.setup.outer_ipv6), ours], number);
            let mut sealed = forger.seal(&sent);
            translate(&mut sealed, forger.setup.host(1), udp::NAT_TRAVERSAL);
            let expected = forger.own_packet(number);
            assert_ne!(sent, expected);
            assert_eq!(forger.fate(&sealed), Ok(expected), "{number} {:?}", forger.setup);
        }
    });
}

/// An authentic packet from elsewhere tells where the peer is now; a forged or an old one does not.
#[test]
fn a_peer_that_moves_is_noticed() {
    with_forger("a_peer_that_moves_is_noticed", Mode::Tunnel, |forger| {
        if !forger.setup.encapsulated {
            return;
        }
        let elsewhere = private(forger.setup.outer_ipv6);
        let own = forger.datagram();
        let [mut old, mut moved] = [forger.seal(&own), forger.seal(&own)];
        translate(&mut old, elsewhere, 1027);
        translate(&mut moved, elsewhere, 1026);
        let mut forged = moved.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(forger.fate(&forged), Err("bad-icv"));
        assert!(moves(forger).is_empty());

        assert!(forger.fate(&moved).is_ok());
        assert_eq!(moves(forger), [(elsewhere, 1026)]);
        // It is late: the peer may be anywhere by now.
        assert!(forger.fate(&old).is_ok());
        assert!(moves(forger).is_empty());
    });
}

/// Where the peer was said to be since the last call.
fn moves(forger: &Forger) -> Vec<(IpAddr, u16)> {
    let events = std::iter::from_fn(|| forger.a.events.next());
    events
        .filter_map(|event| match event {
            Event::PeerMoved { address, port, .. } => Some((address, port)),
            _ => None,
        })
        .collect()
}
