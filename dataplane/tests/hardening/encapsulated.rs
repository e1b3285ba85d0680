//! ESP in UDP: where it ends, and whom it follows.

use baton_dataplane::events::Event;
use baton_dataplane::io::Side;

use crate::ETH;
use crate::common::{Packet, SPI, Setup, pair};
use crate::crafted::correct;

/// What follows a datagram in its IP packet is not the datagram's (RFC 768), so not ESP's either.
#[test]
fn octets_behind_a_datagram_are_no_part_of_its_esp() {
    let setup = Setup { encapsulated: true, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    let mut frame = a.seal(&Packet::from(0, 60).frame());
    frame.extend([0; 3]);
    let length = (frame.len() - ETH) as u16;
    frame[ETH + 2..ETH + 4].copy_from_slice(&length.to_be_bytes());
    correct(&mut frame[ETH..]);
    b.receive(Side::Outer, &frame);
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (1, vec![]));
}

/// Replaces the outer source of an IPv4 frame.
fn from_elsewhere(frame: &[u8], source: [u8; 4], port: u16) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[ETH + 12..ETH + 16].copy_from_slice(&source);
    frame[ETH + 20..ETH + 22].copy_from_slice(&port.to_be_bytes());
    correct(&mut frame[ETH..]);
    frame
}

/// Who can hold a packet back on its way can send it on from any source; ours then go there.
#[test]
fn a_peer_does_not_move_to_where_no_host_is() {
    let [mut a, mut b] = pair(&Setup { encapsulated: true, ..Setup::default() });
    let sealed = a.seal(&Packet::from(0, 60).frame());
    for (source, port) in [
        ([127, 0, 0, 1], 4500),
        ([255; 4], 4500),
        ([224, 0, 0, 1], 4500),
        ([239, 1, 1, 1], 4500),
        ([192, 0, 2, 7], 0),
    ] {
        b.receive(Side::Outer, &from_elsewhere(&sealed, source, port));
    }
    assert_eq!(
        (b.sent(Side::Inner).len(), b.drops(), b.events.next()),
        (0, vec![("outer-address", 5)], None)
    );
    b.receive(Side::Outer, &from_elsewhere(&sealed, [192, 0, 2, 7], 4501));
    assert_eq!(b.sent(Side::Inner).len(), 1);
    let moved = Event::PeerMoved { spi: SPI[1], address: [192, 0, 2, 7].into(), port: 4501 };
    assert_eq!(b.events.next(), Some(moved));
}
