//! I3 after a takeover, and yet the peer is soon heard: what the floor refuses is looked at and answered with echo
//! requests, whose replies carry the peer past it.

use std::sync::Arc;

use baton_dataplane::events::Event;
use baton_dataplane::io::Side;
use baton_dataplane::packet::{ipv4, ipv6};
use baton_dataplane::spd::{Action, Policy, Spd, Ways};
use baton_sad::{Counters, Direction, Floor, PutKind, ReplayWindow, SaKey, Selector};

use super::common::wire::{ETHERNET, shapes};
use super::common::{self, Gateway, Setup, clock, pair, sa};
use super::step;

const EDGE: u64 = 1000;
/// What was reserved beyond it.
const RESERVED: u64 = 300;
const MILLISECOND: u64 = clock::SECOND / 1000;

/// Gateway 0 after a takeover, and its peer, which has sent up to the edge.
fn taken_over(setup: &Setup) -> [Gateway; 2] {
    let [a, b] = pair(setup);
    for (gateway, direction) in [(&a, Direction::Inbound), (&b, Direction::Outbound)] {
        let window = match direction {
            Direction::Inbound => ReplayWindow::closed(EDGE, setup.window),
            Direction::Outbound => ReplayWindow::default(),
        };
        let counters = Counters { sequence: EDGE, window, ..Counters::default() };
        gateway.table.put_as(PutKind::Standby, &[(sa(setup, gateway.end, direction, 0), counters)]).unwrap();
    }
    let (direction, key) = step::key(0, Direction::Inbound);
    let name = SaKey { direction, key, spi: common::SPI[0] };
    assert_eq!(a.table.raise_floors(&[Floor { sa: name, floor: EDGE + RESERVED }]).unwrap(), []);
    [a, b]
}

fn still() -> Setup {
    Setup { clock: clock::still, ..Setup::default() }
}

/// So many packets of the host behind the peer, sealed.
fn sealed(b: &mut Gateway, setup: &Setup, packets: usize) -> Vec<Vec<u8>> {
    b.pass(Side::Inner, &vec![setup.packet(1, 100).frame(); packets])
}

/// What gateway 0 delivers of these, and what it sends to its peer.
fn receive(a: &mut Gateway, frames: &[Vec<u8>]) -> (usize, Vec<Vec<u8>>) {
    let delivered = a.pass(Side::Outer, frames).len();
    (delivered, a.sent(Side::Outer))
}

/// What a host answers to an echo request, if it is one.
fn reply(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let ip = &mut frame[ETHERNET..];
    let (addresses, size, message, kinds) =
        if ip[0] >> 4 == 6 { (8, 16, ipv6::HEADER, [128, 129]) } else { (12, 4, ipv4::HEADER, [8, 0]) };
    assert_eq!(ip[message], kinds[0], "an echo request");
    ip[message] = kinds[1];
    let (source, destination) = ip[addresses..addresses + 2 * size].split_at_mut(size);
    source.swap_with_slice(destination);
    frame
}

/// What the peer sends when the host behind it has answered these.
fn answered(b: &mut Gateway, requests: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let inside = b.pass(Side::Outer, requests);
    assert_eq!(inside.len(), requests.len(), "{:?}", b.drops());
    b.pass(Side::Inner, &inside.iter().map(|frame| reply(frame)).collect::<Vec<_>>())
}

fn solicited(a: &Gateway) -> u64 {
    a.counters.iter().map(|counters| counters.floor_solicited.get()).sum()
}

#[test]
fn i3_one_packet_is_enough_to_lead_a_peer_past_the_floor() {
    let several = shapes().enumerate().map(|(n, setup)| Setup { workers: 1 + n as u16 % 2, ..setup });
    for setup in several.map(|setup| Setup { clock: clock::still, ..setup }) {
        let [mut a, mut b] = taken_over(&setup);
        let mut packets = sealed(&mut b, &setup, 1);
        let (mut seen, mut rounds) = (Vec::new(), 0);
        loop {
            let (delivered, requests) = receive(&mut a, &packets);
            assert_eq!(delivered, 0, "{setup:?}");
            seen.append(&mut packets);
            if requests.is_empty() {
                break;
            }
            packets = answered(&mut b, &requests);
            rounds += 1;
        }
        assert!((4..=8).contains(&rounds), "{setup:?}: {rounds} rounds, {:?}", a.drops());
        // The last one is the first above the floor.
        assert_eq!((seen.len() as u64, solicited(&a)), (RESERVED + 1, RESERVED), "{setup:?} {:?}", a.drops());
        assert_eq!((a.dropped("reservation-floor"), a.dropped("echo-reply")), (RESERVED, 1), "{setup:?}");
        let (delivered, requests) = receive(&mut a, &sealed(&mut b, &setup, 3));
        assert_eq!((delivered, requests.len()), (3, 0), "{setup:?} {:?}", a.drops());
        // All of it once more.
        assert_eq!(receive(&mut a, &seen), (0, vec![]), "{setup:?}");
        clock::pass(5 * clock::SECOND);
        a.run();
        assert_eq!((a.sent(Side::Outer), a.events.next()), (vec![], None), "{setup:?}");
    }
}

/// Each number is looked at once, and none below it; nothing forged is.
#[test]
fn i3_recorded_packets_cause_nothing_twice() {
    let setup = still();
    let [mut a, mut b] = taken_over(&setup);
    let recorded = sealed(&mut b, &setup, 200);
    let mut forged = recorded.clone();
    for frame in &mut forged {
        *frame.last_mut().unwrap() ^= 1;
    }
    assert_eq!(receive(&mut a, &forged), (0, vec![]));
    assert_eq!(a.drops(), [("bad-icv", 200)]);
    let mut requests = 0;
    for packet in &recorded {
        let (delivered, sent) = receive(&mut a, std::slice::from_ref(packet));
        assert_eq!(delivered, 0);
        requests += sent.len() as u64;
    }
    assert!((200..=RESERVED).contains(&requests), "{requests}");
    for _ in 0..3 {
        assert_eq!(receive(&mut a, &recorded), (0, vec![]));
        let backwards: Vec<_> = recorded.iter().rev().cloned().collect();
        assert_eq!(receive(&mut a, &backwards), (0, vec![]));
    }
    assert_eq!(solicited(&a), requests);
    // Those below the first that is seen are not even opened.
    let [mut a, _] = taken_over(&setup);
    let mut forged = recorded[..199].to_vec();
    for frame in &mut forged {
        *frame.last_mut().unwrap() ^= 1;
    }
    assert_ne!(receive(&mut a, &recorded[199..]).1, Vec::<Vec<u8>>::new());
    assert_eq!(receive(&mut a, &forged), (0, vec![]));
    assert_eq!(a.drops(), [("reservation-floor", 200)]);
}

/// Requests that nobody answers are repeated some times; then the control plane is told, once.
#[test]
fn a_peer_whose_host_does_not_answer_is_told_of_once() {
    let setup = still();
    let [mut a, mut b] = taken_over(&setup);
    let (delivered, first) = receive(&mut a, &sealed(&mut b, &setup, 1));
    assert_eq!((delivered, first.len()), (0, 16));
    let (mut repeated, mut told) = (0, Vec::new());
    for step in 1..=300_u64 {
        clock::pass(50 * MILLISECOND);
        a.run();
        repeated += a.sent(Side::Outer).len();
        told.extend(std::iter::from_fn(|| a.events.next()).map(|event| (step, event)));
    }
    assert_eq!(repeated, 4 * 16);
    let [(step, Event::Unheard(name))] = told[..] else { panic!("{told:?}") };
    assert_eq!((step, name.direction, name.spi), (20, Direction::Inbound, common::SPI[0]));
}

/// Nobody is told of a peer that was heard by itself meanwhile.
#[test]
fn a_peer_that_is_past_the_floor_by_itself_is_left_alone() {
    let setup = still();
    let [mut a, mut b] = taken_over(&setup);
    let all = sealed(&mut b, &setup, RESERVED as usize + 5);
    let (delivered, requests) = receive(&mut a, &all);
    assert_eq!(delivered, 5, "{:?}", a.drops());
    assert!(requests.len() <= RESERVED as usize / 2 + 16, "{}", requests.len());
    for _ in 0..100 {
        clock::pass(50 * MILLISECOND);
        a.run();
    }
    assert_eq!((a.sent(Side::Outer), a.events.next()), (vec![], None));
}

/// Requests go where the policies let the local host's packets go, which is into the tunnel or nowhere.
#[test]
fn i7_requests_go_by_the_policies_and_never_in_clear() {
    let setup = still();
    let everything: Selector = Selector::addresses(
        baton_sad::AddressRange::new([0, 0, 0, 0].into(), [255; 4].into()).unwrap(),
        baton_sad::AddressRange::new([0, 0, 0, 0].into(), [255; 4].into()).unwrap(),
    );
    let all = |action| Policy { name: "all".into(), priority: 0, selector: everything.clone(), action };
    let policies = [vec![], vec![all(Action::Bypass(Ways::Both))], vec![all(Action::Discard(Ways::Both))]];
    for policies in policies {
        let [mut a, mut b] = taken_over(&setup);
        a.spd.store(Arc::new(Spd::new(policies)));
        assert_eq!(receive(&mut a, &sealed(&mut b, &setup, 1)), (0, vec![]));
        clock::pass(clock::SECOND);
        a.run();
        assert_eq!((solicited(&a), a.sent(Side::Outer)), (0, vec![]));
        assert!(matches!(a.events.next(), Some(Event::Unheard(_))));
    }
}
