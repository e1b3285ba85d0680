//! The caretaker on a table in memory, with a clock of the tests' own.

use std::net::IpAddr;
use std::time::Duration;

use baton_sad::{
    AddressRange, Bounds, ClusterId, Counters, DfPolicy, DscpPolicy, Key, Lifetime, Mode, Name, NodeId,
    OWNED, Selector, Selectors, Senders, Suite, TableOptions, TfcPadding, UdpEncapsulation,
};

use super::*;
use crate::control::{Heard, Kind, Listening, Notice, Occurrence};

const SECOND: u64 = 1_000_000_000;
const OUR_SPI: u32 = 0x2a00_0001;
const PEER_SPI: u32 = 0x1100_0001;
const REQID: u32 = 7;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// An SA between 203.0.113.2 (we) and 203.0.113.1, in UDP, the peer's port being 4500.
fn sa(direction: Direction) -> Sa {
    let (we, peer) = (address("203.0.113.2"), address("203.0.113.1"));
    let range = |text| AddressRange::single(address(text));
    let (spi, source, destination) = match direction {
        Direction::Inbound => (OUR_SPI, peer, we),
        Direction::Outbound => (PEER_SPI, we, peer),
    };
    let suite = Suite::AES128_GCM16;
    Sa {
        name: Name::new("site-a").expect("a name"),
        direction,
        spi,
        peer_spi: 0,
        reqid: REQID,
        mode: Mode::Tunnel,
        segment: 42,
        suite,
        key: Key::new(&vec![(spi >> 24) as u8; suite.key_length()]).expect("a key"),
        source,
        destination,
        encapsulation: Some(UdpEncapsulation {
            source_port: 4500,
            destination_port: 4500,
            follows_peer: true,
            keepalive_seconds: 20,
        }),
        selectors: Selectors::new(vec![Selector::addresses(range("10.2.0.1"), range("10.1.0.1"))])
            .expect("selectors"),
        extended_sequence: true,
        replay_window: 64,
        dscp: DscpPolicy::Copy,
        df: DfPolicy::Copy,
        path_mtu: 0,
        clamp_mss: true,
        tfc_padding: TfcPadding::Off,
        lifetime: Lifetime::default(),
        senders: Senders::default(),
    }
}

struct World {
    _directory: tempfile::TempDir,
    table: Arc<Table>,
    caretaker: Caretaker,
    heard: Listening,
    spd: Spd,
    now: u64,
    unix_seconds: u64,
}

impl World {
    fn new(sas: &[Sa]) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let node = NodeId::new(1).expect("not 0");
        let options = TableOptions { capacity: 64, node, cluster: ClusterId::new(1) };
        let table = Arc::new(Table::create(&directory.path().join("sa-table"), &options).expect("a table"));
        table.set_lease(42, OWNED);
        let sent = Counters { sequence: 500, ..Counters::default() };
        let sas: Vec<_> = sas.iter().map(|sa| (sa.clone(), sent.clone())).collect();
        table.put(&sas).expect("installed");
        let listeners = Arc::new(Listeners::default());
        let heard = listeners.listen(&[]).expect("a seat");
        let (events, rings) = (Arc::new(Events::default()), Rings::new(1));
        let caretaker = Caretaker::new(Arc::clone(&table), events, rings, listeners, Arc::default());
        let (now, unix_seconds) = (1000 * SECOND, 1_800_000_000);
        Self { _directory: directory, table, caretaker, heard, spd: Spd::default(), now, unix_seconds }
    }

    fn tunnel() -> Self {
        Self::new(&[sa(Direction::Inbound), sa(Direction::Outbound)])
    }

    fn do_with(&mut self, work: impl FnOnce(&mut Caretaker, &Present<'_>)) {
        let own = [address("198.51.100.9")];
        let present = Present {
            now: self.now,
            unix_seconds: self.unix_seconds,
            spd: &self.spd,
            outer_mtu: 1500,
            learned_mtu_seconds: 600,
            own_addresses: &own,
        };
        work(&mut self.caretaker, &present);
    }

    fn tend(&mut self) {
        self.do_with(Caretaker::tend);
    }

    fn heed(&mut self, event: Event) {
        self.do_with(|caretaker, present| {
            let _ = caretaker.heed(&event, present);
        });
    }

    fn told(&self) -> Vec<Happening> {
        let line = || match self.heard.next(Duration::ZERO) {
            Heard::Line(line) => Some(serde_json::from_str::<Notice>(&line).expect("a notice").happening),
            _ => None,
        };
        std::iter::from_fn(line).collect()
    }

    fn kinds(&self) -> Vec<Kind> {
        self.told().iter().map(Occurrence::kind).collect()
    }

    fn installed(&self, direction: Direction, key: u32) -> (Sa, Counters) {
        let found = self.table.get(direction, key).expect("readable").expect("installed");
        (found.sa, found.counters)
    }

    /// Where the two SAs' peer is.
    fn places(&self) -> [(IpAddr, u16); 2] {
        let (inbound, outbound) =
            (self.installed(Direction::Inbound, OUR_SPI).0, self.installed(Direction::Outbound, REQID).0);
        let udp = |sa: &Sa| sa.encapsulation.expect("in UDP");
        [(inbound.source, udp(&inbound).source_port), (outbound.destination, udp(&outbound).destination_port)]
    }

    fn move_to(&mut self, to: &str, port: u16) {
        self.heed(Event::PeerMoved { spi: OUR_SPI, address: address(to), port });
    }

    fn count(&self, name: &str) -> u64 {
        let counts = self.caretaker.counts.read();
        counts.iter().find(|(known, ..)| *known == name).expect("a counter").1
    }
}

#[test]
fn a_peer_that_moved_is_followed_with_keys_and_counters() {
    let mut world = World::tunnel();
    world.move_to("203.0.113.77", 61_000);
    assert_eq!(world.places(), [(address("203.0.113.77"), 61_000); 2]);
    let (outbound, counters) = world.installed(Direction::Outbound, REQID);
    assert_eq!((outbound.key, counters.edge()), (sa(Direction::Outbound).key, 500));
    assert_eq!(world.kinds(), [Kind::PeerMoved]);
    assert_eq!(world.count("peers-moved"), 1);
}

#[test]
fn a_nat_that_flaps_moves_the_peer_once_a_second() {
    let mut world = World::tunnel();
    world.move_to("203.0.113.77", 61_000);
    world.move_to("203.0.113.1", 4500);
    assert_eq!(world.places()[0].1, 61_000);
    world.now += SECOND;
    world.move_to("203.0.113.1", 4500);
    assert_eq!(world.places(), [(address("203.0.113.1"), 4500); 2]);
    assert_eq!((world.count("peers-moved"), world.count("moves-refused")), (2, 1));
}

#[test]
fn nobody_is_followed_to_where_no_peer_can_be() {
    let mut world = World::tunnel();
    for (to, port) in [
        ("203.0.113.77", 0),
        ("127.0.0.1", 4500),
        ("224.0.0.1", 4500),
        ("255.255.255.255", 4500),
        ("0.0.0.0", 4500),
        ("250.1.2.3", 4500),
        ("169.254.1.1", 4500),
        ("2001:db8::1", 4500),
        ("203.0.113.2", 4500),
        ("198.51.100.9", 4500),
    ] {
        world.move_to(to, port);
        assert_eq!(world.places(), [(address("203.0.113.1"), 4500); 2], "{to} {port}");
    }
    assert_eq!((world.count("moves-refused"), world.kinds()), (10, vec![]));
}

#[test]
fn only_what_follows_is_moved_and_only_from_where_the_peer_was() {
    let mut still = sa(Direction::Inbound);
    still.encapsulation = still.encapsulation.map(|udp| UdpEncapsulation { follows_peer: false, ..udp });
    let mut world = World::new(&[still, sa(Direction::Outbound)]);
    world.move_to("203.0.113.77", 61_000);
    assert_eq!(world.places(), [(address("203.0.113.1"), 4500); 2]);

    let mut elsewhere = sa(Direction::Outbound);
    elsewhere.destination = address("203.0.113.50");
    let mut world = World::new(&[sa(Direction::Inbound), elsewhere]);
    world.move_to("203.0.113.77", 61_000);
    assert_eq!(world.places(), [(address("203.0.113.77"), 61_000), (address("203.0.113.50"), 4500)]);
}

/// The quoted packet was the last one or so that the tunnel's outbound SA sent.
fn too_big(world: &mut World, sequence: u32, mtu: u16) -> Option<u16> {
    let destination = address("203.0.113.1");
    world.heed(Event::TooBig { spi: PEER_SPI, sequence, destination, mtu });
    let handle = world.table.lookup(Direction::Outbound, REQID).expect("installed");
    world.table.slot(handle).expect("live").learned_path_mtu(world.now)
}

#[test]
fn a_path_mtu_is_learned_of_packets_that_were_sent_and_forgotten_after_a_while() {
    let mut world = World::tunnel();
    world.tend();
    assert_eq!(too_big(&mut world, 501, 1400), None, "not sent yet");
    assert_eq!(too_big(&mut world, 500, 1500), None, "no smaller");
    assert_eq!(too_big(&mut world, 500, 575), None, "too small to be true");
    assert_eq!(world.count("path-mtus-refused"), 3);
    assert_eq!(too_big(&mut world, 498, 1400), Some(1400));
    assert_eq!(too_big(&mut world, 499, 1450), Some(1400), "larger again is not news");
    assert_eq!(too_big(&mut world, 500, 576), Some(576));
    assert_eq!(world.kinds(), [Kind::PathMtu; 2]);
    world.now += 600 * SECOND;
    let handle = world.table.lookup(Direction::Outbound, REQID).expect("installed");
    assert_eq!(world.table.slot(handle).expect("live").learned_path_mtu(world.now), None);
}

#[test]
fn a_path_mtu_is_that_of_one_peer() {
    let mut world = World::tunnel();
    world.tend();
    let destination = address("203.0.113.3");
    world.heed(Event::TooBig { spi: PEER_SPI, sequence: 500, destination, mtu: 1400 });
    assert_eq!((world.count("path-mtus-refused"), world.kinds()), (1, vec![]));
    too_big(&mut world, 500, 1400);
    world.move_to("203.0.113.77", 61_000);
    let handle = world.table.lookup(Direction::Outbound, REQID).expect("installed");
    assert_eq!(world.table.slot(handle).expect("live").learned_path_mtu(world.now), None, "another path");
}

#[test]
fn an_idle_sa_behind_a_nat_is_kept_alive() {
    let mut world = World::tunnel();
    let handle = world.table.lookup(Direction::Outbound, REQID).expect("installed");
    world.table.slot(handle).expect("live").touch(world.now);
    for (later, expected) in [(0, 0), (19, 0), (1, 1), (0, 1), (19, 1), (1, 2)] {
        world.now += later * SECOND;
        world.tend();
        assert_eq!(world.count("keep-alives"), expected);
    }
    world.table.slot(handle).expect("live").touch(world.now + 10 * SECOND);
    world.now += 20 * SECOND;
    world.tend();
    assert_eq!(world.count("keep-alives"), 2, "it was used in between");
    world.table.set_lease(42, world.now);
    world.now += 20 * SECOND;
    world.tend();
    assert_eq!(world.count("keep-alives"), 2, "i4: another node sends for it");
}

#[test]
fn keep_alives_that_find_no_room_come_later() {
    let many = (0..60).map(|n| Sa { reqid: REQID + n, spi: PEER_SPI + n, ..sa(Direction::Outbound) });
    let mut world = World::new(&many.collect::<Vec<_>>());
    let room = |world: &World| {
        let handle = world.table.handle_at(0).expect("installed");
        (0..1000).take_while(|_| world.caretaker.rings.command(crate::worker::Command::Dummy(handle))).count()
    };
    assert!((60..1000).contains(&room(&world)), "the ring is full");
    world.tend();
    assert_eq!((world.count("keep-alives"), world.count("keep-alives-late")), (0, 60));
}

/// SAs that end at so many seconds from now.
fn mortal(world: &World, soft: u64, hard: u64) -> Sa {
    let at = |seconds| Bounds { expires_at: world.unix_seconds + seconds, ..Bounds::default() };
    Sa { lifetime: Lifetime { soft: at(soft), hard: at(hard) }, ..sa(Direction::Inbound) }
}

#[test]
fn an_sa_whose_time_is_over_is_told_once_and_stays() {
    let mut world = World::tunnel();
    world.table.update(&mortal(&world, 10, 20)).expect("updated");
    for (later, expected) in
        [(9, vec![]), (1, vec![Kind::SoftLimit]), (5, vec![]), (5, vec![Kind::HardLimit]), (9, vec![])]
    {
        world.unix_seconds += later;
        world.tend();
        world.tend();
        assert_eq!(world.kinds(), expected, "{later}");
    }
    assert_eq!(world.installed(Direction::Inbound, OUR_SPI).1.edge(), 500);
}

#[test]
fn i4_only_the_owner_tells_of_limits_and_follows_peers() {
    let mut world = World::tunnel();
    world.table.update(&mortal(&world, 10, 20)).expect("updated");
    world.table.set_lease(42, world.now);
    world.unix_seconds += 10;
    world.tend();
    world.move_to("203.0.113.77", 61_000);
    assert_eq!((world.kinds(), world.places()[0].1), (vec![], 4500));
    world.table.set_lease(42, OWNED);
    world.table.freeze(&[(Direction::Inbound, OUR_SPI)], Duration::from_secs(1)).expect("frozen");
    world.tend();
    world.move_to("203.0.113.77", 61_000);
    assert_eq!((world.kinds(), world.places()[0].1), (vec![], 4500), "it is being moved away");
    world.table.thaw(&[(Direction::Inbound, OUR_SPI)]).expect("thawed");
    world.tend();
    assert_eq!(world.kinds(), [Kind::SoftLimit], "now it is ours to tell");
}

#[test]
fn a_limit_is_told_once_whoever_notices_it() {
    let mut world = World::tunnel();
    world.table.update(&mortal(&world, 10, 20)).expect("updated");
    let name = SaName { direction: Direction::Inbound, spi: OUR_SPI, reqid: REQID };
    world.unix_seconds += 10;
    world.heed(Event::SoftLimit(name));
    world.tend();
    world.heed(Event::SoftLimit(name));
    assert_eq!(world.kinds(), [Kind::SoftLimit]);
    // An update that leaves its bounds is no news; one that moves them is.
    world.move_to("203.0.113.77", 61_000);
    world.heed(Event::SoftLimit(name));
    assert_eq!(world.kinds(), [Kind::PeerMoved]);
    world.table.update(&mortal(&world, 0, 30)).expect("updated");
    world.tend();
    assert_eq!(world.kinds(), [Kind::SoftLimit]);
}

/// A peer that is not heard after a takeover is heard again with another SA.
#[test]
fn an_unheard_peer_is_told_of_as_a_soft_limit_once() {
    let mut world = World::tunnel();
    let name = SaName { direction: Direction::Inbound, spi: OUR_SPI, reqid: REQID };
    world.heed(Event::Unheard(name));
    world.heed(Event::Unheard(name));
    assert_eq!((world.kinds(), world.count("floor-rekeys")), (vec![Kind::SoftLimit], 1));
    world.heed(Event::SoftLimit(name));
    assert_eq!((world.kinds(), world.count("floor-rekeys")), (vec![Kind::SoftLimit], 1));
}

#[test]
fn the_successor_in_a_slot_is_another_sa() {
    let mut world = World::tunnel();
    let name = SaName { direction: Direction::Inbound, spi: OUR_SPI, reqid: REQID };
    world.heed(Event::SoftLimit(name));
    world.table.remove(&[(Direction::Inbound, OUR_SPI)]).expect("removed");
    let successor = Sa { spi: OUR_SPI + 1, ..sa(Direction::Inbound) };
    world.table.put(&[(successor, Counters::default())]).expect("installed");
    world.heed(Event::SoftLimit(SaName { spi: OUR_SPI + 1, ..name }));
    world.heed(Event::SoftLimit(name));
    assert_eq!(world.kinds(), [Kind::SoftLimit; 2]);
}

#[test]
fn an_acquire_names_the_policy_that_asks() {
    let mut world = World::new(&[]);
    let host = |text| AddressRange::single(address(text));
    let policy = crate::spd::Policy {
        name: "site-a".to_owned(),
        priority: 1,
        selector: Selector::addresses(host("10.2.0.1"), host("10.1.0.1")),
        action: Action::Protect { reqid: REQID },
    };
    world.spd = Spd::new(vec![policy]);
    let flow = Flow::new(address("10.2.0.1"), address("10.1.0.1"), 6, Some((40_000, 443)));
    world.heed(Event::Acquire { reqid: REQID, flow });
    world.heed(Event::Acquire { reqid: REQID + 1, flow });
    let [Happening::Acquire { policy, reqid, flow }] = &world.told()[..] else { panic!("one event") };
    assert_eq!((policy.as_str(), *reqid, flow.destination_port), ("site-a", REQID, Some(443)));
}

#[test]
fn violations_are_told_and_their_log_is_limited() {
    let mut world = World::tunnel();
    let flow = Flow::new(address("10.9.0.1"), address("10.2.0.1"), 17, None);
    for _ in 0..100 {
        world.heed(Event::SelectorViolation { spi: OUR_SPI, flow });
    }
    assert_eq!(world.told().len(), 100);
    assert_eq!(world.caretaker.violations_not_logged, 90);
}

#[test]
fn a_call_does_so_much_and_no_more() {
    let mut world = World::tunnel();
    world.tend();
    let events = Arc::clone(&world.caretaker.events);
    let mut sender = crate::events::EventSender::new(Arc::clone(&events));
    let moved = Event::PeerMoved { spi: OUR_SPI, address: address("127.0.0.1"), port: 1 };
    let sent = (0..300).filter(|i| sender.send(moved, (1000 + i) * SECOND)).count();
    assert_eq!(sent, 300);
    world.tend();
    let unheeded = (EVENTS - COSTLY_EVENTS) as u64;
    assert_eq!(
        (world.count("moves-refused"), world.count("events-unheeded")),
        (COSTLY_EVENTS as u64, unheeded)
    );
    assert!(events.next().is_some(), "the rest waits for the next call");
}

#[test]
fn forged_path_mtus_do_not_keep_a_peer_from_being_followed() {
    let mut world = World::tunnel();
    world.tend();
    let mut sender = crate::events::EventSender::new(Arc::clone(&world.caretaker.events));
    let forged =
        Event::TooBig { spi: PEER_SPI, sequence: 501, destination: address("203.0.113.1"), mtu: 1400 };
    let moved = Event::PeerMoved { spi: OUR_SPI, address: address("203.0.113.77"), port: 61_000 };
    let events = std::iter::repeat_n(forged, 3 * COSTLY_EVENTS).chain([moved]);
    assert!((1000..).zip(events).all(|(at, event)| sender.send(event, at * SECOND)));
    world.tend();
    assert_eq!(world.places(), [(address("203.0.113.77"), 61_000); 2]);
    assert_eq!(world.count("events-unheeded"), 2 * COSTLY_EVENTS as u64);
}

/// Who holds the lock of the table keeps the main thread waiting once, not for each peer that moves.
#[test]
fn a_busy_table_is_waited_for_once() {
    let sas: Vec<Sa> = (0..8)
        .map(|number| Sa { spi: OUR_SPI + number, reqid: REQID + number, ..sa(Direction::Inbound) })
        .collect();
    let mut world = World::new(&sas);
    let lock = std::fs::File::options().write(true).open(world.table.path().with_extension("lock"));
    let lock = lock.expect("the table's lock file");
    lock.lock().expect("locked");
    let mut sender = crate::events::EventSender::new(Arc::clone(&world.caretaker.events));
    for number in 0..8 {
        let event =
            Event::PeerMoved { spi: OUR_SPI + number, address: address("198.51.100.7"), port: 61_000 };
        assert!(sender.send(event, world.now));
    }
    let start = std::time::Instant::now();
    world.tend();
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    assert_eq!(world.caretaker.counts.unheeded.load(Ordering::Relaxed), 7);
}
