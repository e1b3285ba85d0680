//! ESP in UDP: where it ends, and whom it follows.

use std::net::Ipv4Addr;

use baton_dataplane::events::Event;
use baton_dataplane::io::Side;
use baton_sad::{Direction, Sa};

use crate::ETH;
use crate::common::{Gateway, Packet, SPI, Setup, pair};
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

fn sa_of(gateway: &Gateway, direction: Direction) -> Sa {
    gateway.table.iter().map(|found| found.sa).find(|sa| sa.direction == direction).expect("an SA")
}

/// Both ends of a tunnel may have moved while a packet was on its way (RFC 4555): its integrity says whose it is, and
/// where it has come from moves nothing.
#[test]
fn a_peer_that_roams_is_taken_from_anywhere() {
    for encapsulated in [true, false] {
        let [mut a, mut b] = pair(&Setup { encapsulated, ..Setup::default() });
        let mut sa = sa_of(&b, Direction::Inbound);
        (sa.source, sa.destination) = (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into());
        sa.encapsulation.iter_mut().for_each(|udp| udp.follows_peer = false);
        b.table.update(&sa).expect("updated");
        let mut elsewhere = |source: [u8; 4]| {
            let mut frame = a.seal(&Packet::from(0, 60).frame());
            frame[ETH + 12..ETH + 16].copy_from_slice(&source);
            correct(&mut frame[ETH..]);
            frame
        };
        for source in [[192, 0, 2, 7], [198, 51, 100, 9]] {
            b.receive(Side::Outer, &elsewhere(source));
        }
        assert_eq!((b.sent(Side::Inner).len(), b.drops(), b.events.next()), (2, vec![], None));
        let mut forged = elsewhere([192, 0, 2, 7]);
        *forged.last_mut().expect("octets") ^= 1;
        b.receive(Side::Outer, &forged);
        assert_eq!((b.sent(Side::Inner).len(), b.drops().len(), b.events.next()), (0, 1, None));
    }
}

/// RFC 6311 section 5.2: what a peer that goes on with an older copy refuses is skipped, and it takes the next packet;
/// what it would have taken before is too old then (I2, I3). With extended sequence numbers that would be a number of
/// the next 2^32 (RFC 4303 appendix A2), which its ICV does not know.
#[test]
fn a_worker_goes_on_beyond_what_is_skipped() {
    let [mut a, mut b] = pair(&Setup { extended: false, ..Setup::default() });
    let held_back = a.seal(&Packet::from(0, 60).frame());
    let before = a.table.iter().find(|found| found.sa.direction == Direction::Outbound).expect("an SA");
    let floor = a.table.skip_sequence(before.sa.reqid, 100_000).expect("skipped");
    assert_eq!(floor, before.counters.sequence + 100_000);
    for ahead in 1..=3 {
        let frame = a.seal(&Packet::from(0, 60).frame());
        b.receive(Side::Outer, &frame);
        let inbound = b.table.iter().find(|found| found.sa.direction == Direction::Inbound).expect("an SA");
        assert_eq!((b.sent(Side::Inner).len(), inbound.counters.edge()), (1, floor + ahead));
    }
    b.receive(Side::Outer, &held_back);
    assert_eq!((b.sent(Side::Inner).len(), b.drops()), (0, vec![("too-old", 1)]));
}
