//! Bad input that is made in quantity: each kind has its counter, and none costs the control plane or other traffic
//! more than its share.

mod common;

use std::sync::Arc;

use baton_dataplane::events::Event;
use baton_dataplane::io::Side;
use baton_dataplane::packet::checksum;
use baton_dataplane::packet::ip::IpHeader;
use baton_dataplane::spd::{Action, Policy, Spd};
use baton_dataplane::worker::Command;
use baton_sad::{AddressRange, Bounds, Counters, Direction, Lifetime, Selector, Selectors, Suite};
use common::clock::{self, SECOND};
use common::wire::{ETHERNET, shapes, sum_ipv4};
use common::{Gateway, Packet, REQID, SPI, Setup, pair};

/// Packets of a flood.
const FLOOD: usize = 2000;
/// Events of one worker at once (`EventSender`).
const BURST: usize = 50;

/// Shapes on a clock that tests move.
fn timed() -> impl Iterator<Item = Setup> {
    shapes().map(|shape| Setup { clock: clock::still, unix_clock: clock::unix, ..shape })
}

/// Sends a flood in batches that the pool holds; gives how many frames came out on the other side.
fn flood<'f>(gateway: &mut Gateway, from: Side, frames: impl IntoIterator<Item = &'f Vec<u8>>) -> usize {
    let frames: Vec<_> = frames.into_iter().collect();
    frames.chunks(256).map(|some| gateway.pass(from, some.iter().copied()).len()).sum()
}

fn events(gateway: &Gateway) -> Vec<Event> {
    std::iter::from_fn(|| gateway.events.next()).collect()
}

/// Traffic goes on in both directions.
fn assert_flows(gateways: &mut [Gateway; 2], setup: &Setup) {
    for end in [0, 1] {
        let sealed = gateways[end].seal(&setup.packet(end, 100).frame());
        gateways[1 - end].receive(Side::Outer, &sealed);
        assert_eq!(gateways[1 - end].sent(Side::Inner).len(), 1, "{:?}", gateways[1 - end].drops());
    }
}

/// A chain of extension headers of eight octets each: options that only pad, or the first one of many fragments.
fn chain(kind: u8, headers: usize, last: u8) -> Vec<u8> {
    let next = |place| if place + 1 == headers { last } else { kind };
    let [third, fourth] = if kind == 44 { [0, 1] } else { [1, 4] };
    (0..headers).flat_map(|place| [next(place), 0, third, fourth, 0, 0, 0, 0]).collect()
}

#[test]
fn extension_headers_without_end_are_refused_wherever_they_stand() {
    let setup = Setup { outer_ipv6: true, inner_ipv6: true, ..Setup::default() };
    let most = (baton_dataplane::io::FRAME_SIZE - 1024) / 8;
    // Kind of the first header, and what stands behind the base header.
    let chains = [
        ("without end", 60, chain(60, most, 60)),
        ("to ESP at its far end", 60, chain(60, most, 50)),
        ("of fragments", 44, chain(44, 9, 50)),
        ("hop-by-hop again", 0, chain(0, 9, 50)),
        ("long", 60, [&[50, 255, 1, 4][..], &[0; 2044]].concat()),
    ];
    for (what, first, headers) in chains {
        let mut gateways = pair(&setup);
        let frame = setup.datagram(0, first, &[&headers[..], &[0; 40]].concat());
        let [a, b] = &mut gateways;
        assert_eq!(flood(b, Side::Outer, vec![&frame; FLOOD]), 0);
        assert_eq!(b.drops(), [("ipv6-extension-headers", FLOOD as u64)], "{what}, from outside");
        let inner = Packet { protocol: first, length: 40 + headers.len() as u16, ..setup.packet(0, 100) };
        let inner = [&inner.octets()[..40], &headers].concat();
        assert_eq!(flood(a, Side::Inner, vec![&common::ethernet(&inner); FLOOD]), 0);
        assert_eq!(a.drops(), [("ipv6-extension-headers", FLOOD as u64)], "{what}, from inside");
        // Padding that ends the text on a multiple of four.
        let padding = (2 - inner.len() as u8 % 4) % 4;
        let padding: Vec<u8> = (1..=padding).chain([padding, 41]).collect();
        b.receive(Side::Outer, &setup.crafted(1, &[&inner[..], &padding].concat()));
        assert_eq!(
            (b.sent(Side::Inner).len(), b.dropped("inner-malformed")),
            (0, 1),
            "{what}, in the tunnel"
        );
        let [mut a, mut b] = gateways;
        a.seal(&setup.packet(0, 100).frame());
        b.receive(Side::Outer, &a.seal(&setup.packet(0, 100).frame()));
        assert_eq!(b.sent(Side::Inner).len(), 1, "{what}: {:?}", b.drops());
    }
}

/// What somebody who sees nothing of us may send as the word of a router: about other SPIs and sequence numbers, with
/// MTUs that are none, from wherever.
fn forged(setup: &Setup, sealed: &[u8]) -> Vec<Vec<u8>> {
    let quoted = &sealed[ETHERNET..];
    let esp = setup.esp_at() - ETHERNET;
    let with = |at: usize, octets: &[u8]| {
        let mut quoted = quoted.to_vec();
        quoted[at..at + octets.len()].copy_from_slice(octets);
        quoted
    };
    let about = [
        quoted.to_vec(),
        with(esp, &[0x2a, 0xff, 0xff, 1]),
        with(esp + 4, &[0x80, 0, 0, 0]),
        with(if setup.outer_ipv6 { 24 } else { 16 }, &[0x20, 1, 0xd, 0xb8]),
    ];
    let mtus = [0, 68, 575, 1279, 1300, u16::MAX];
    about.iter().flat_map(|quoted| mtus.map(|mtu| setup.too_big(quoted, mtu))).collect()
}

#[test]
fn forged_icmp_changes_no_path_mtu_in_the_pipeline_and_bothers_nobody_beyond_a_rate() {
    for setup in timed() {
        let mut gateways = pair(&setup);
        let sealed = gateways[0].seal(&setup.packet(0, 1300).frame());
        let forged = forged(&setup, &sealed);
        let mut told = 0;
        for second in 0..3 {
            let a = &mut gateways[0];
            assert_eq!(flood(a, Side::Outer, forged.iter().cycle().take(FLOOD)), 0);
            let heard = events(a);
            assert_eq!(heard.len(), BURST, "{second}: {setup:?}");
            for event in &heard {
                let Event::TooBig { mtu, .. } = event else { panic!("{event:?}") };
                let least = if setup.outer_ipv6 { 1280 } else { 576 };
                assert!((least..1400).contains(mtu), "{mtu} is no path MTU: {setup:?}");
            }
            told += heard.len() as u64;
            clock::pass(SECOND);
        }
        let a = &gateways[0];
        let heeded = a.dropped("icmp-heeded");
        let others = a.dropped("unprotected") + a.dropped("no-policy");
        assert_eq!(heeded + others, 3 * FLOOD as u64, "{:?} {setup:?}", a.drops());
        assert_eq!(a.events.lost(), heeded - told, "each is heard or counted");
        let handle = a.table.lookup(Direction::Outbound, REQID).unwrap();
        assert_eq!(a.table.slot(handle).unwrap().learned_path_mtu(clock::still()), None);
        assert_flows(&mut gateways, &setup);
    }
}

/// Damaged packets between good ones: all good ones arrive, and the window and the peer stay where they are.
#[test]
fn a_flood_of_bad_icvs_takes_nothing_from_good_packets() {
    for suite in Suite::ALL {
        for shape in timed().filter(|shape| shape.encapsulated) {
            let setup = Setup { suite, ..shape };
            let [mut a, mut b] = pair(&setup);
            let mut expected = 0;
            for round in 0..3_u8 {
                let sealed = a.pass(Side::Inner, &vec![setup.packet(0, 68).frame(); 4]);
                let bad = sealed.iter().flat_map(|frame| {
                    (0..20_u8).map(|n| {
                        let mut bad = frame.clone();
                        let ahead = setup.esp_at() + 5;
                        bad[ahead] ^= n % 4;
                        let last = bad.len() - 1;
                        bad[last - usize::from(n % 8)] ^= 1 << round;
                        // As if from another port, too.
                        bad[setup.esp_at() - 8] ^= n;
                        bad
                    })
                });
                let bad: Vec<_> = bad.collect();
                assert_eq!(b.pass(Side::Outer, &bad).len(), 0, "{setup:?}");
                expected += bad.len() as u64;
                assert_eq!(b.drops(), [("bad-icv", expected)], "{setup:?}");
                assert_eq!(b.pass(Side::Outer, &sealed).len(), 4, "{setup:?}");
            }
            let counters = b.table.get(Direction::Inbound, SPI[1]).unwrap().unwrap().counters;
            assert_eq!((counters.edge(), counters.integrity_failures), (12, expected));
            assert_eq!(b.events.next(), None, "forgeries move no peer");
        }
    }
}

/// A's SA and policy allow what B's SA does not.
fn widen(a: &Gateway, setup: &Setup) {
    let sa = common::sa(setup, 0, Direction::Outbound, 0);
    let all = |v6: bool| {
        let ends: [std::net::IpAddr; 2] =
            if v6 { [[0; 16].into(), [0xff; 16].into()] } else { [[0; 4].into(), [0xff; 4].into()] };
        AddressRange::new(ends[0], ends[1]).unwrap()
    };
    let all = Selector::addresses(all(setup.inner_ipv6), all(setup.inner_ipv6));
    let policy = Policy {
        name: "wide".into(),
        priority: 0,
        selector: all.clone(),
        action: Action::Protect { reqid: REQID },
    };
    a.spd.store(Arc::new(Spd::new(vec![policy])));
    a.table.update(&baton_sad::Sa { selectors: Selectors::new(vec![all]).unwrap(), ..sa }).unwrap();
}

/// A host behind no gateway.
fn foreign_host(setup: &Setup) -> std::net::IpAddr {
    if setup.inner_ipv6 { common::OUTER6[0].into() } else { common::OUTER[0].into() }
}

#[test]
fn violated_selectors_are_dropped_counted_and_told_of_at_a_rate() {
    for setup in timed().filter(|setup| setup.mode == baton_sad::Mode::Tunnel) {
        let mut gateways = pair(&setup);
        let [a, b] = &mut gateways;
        widen(a, &setup);
        for second in 1..=2 {
            let foreign = Packet { source: foreign_host(&setup), ..setup.packet(0, 100) }.frame();
            let mut sealed = vec![];
            for _ in 0..FLOOD / 200 {
                sealed.extend(a.pass(Side::Inner, &vec![foreign.clone(); 200]));
            }
            assert_eq!(flood(b, Side::Outer, &sealed), 0, "{setup:?}");
            assert_eq!(b.drops(), [("selectors", second * FLOOD as u64)]);
            let heard = events(b);
            assert_eq!(heard.len(), BURST);
            let is_it =
                |event: &Event| matches!(event, Event::SelectorViolation { spi, .. } if *spi == SPI[1]);
            assert!(heard.iter().all(is_it), "{heard:?}");
            assert_eq!(b.events.lost(), second * (FLOOD - BURST) as u64);
            clock::pass(SECOND);
        }
        assert_flows(&mut gateways, &setup);
    }
}

/// Every packet comes from another port than the one before it.
#[test]
fn a_nat_that_flaps_costs_events_at_a_rate_and_no_packet() {
    for setup in timed().filter(|setup| setup.encapsulated) {
        let mut gateways = pair(&setup);
        let [a, b] = &mut gateways;
        for second in 1..=2 {
            let mut flapping = vec![];
            for _ in 0..FLOOD / 200 {
                flapping.extend(a.pass(Side::Inner, &vec![setup.packet(0, 100).frame(); 200]));
            }
            for (number, frame) in flapping.iter_mut().enumerate() {
                set_source_port(&setup, frame, 1024 + (number % 3) as u16);
            }
            assert_eq!(flood(b, Side::Outer, &flapping), FLOOD, "{:?}", b.drops());
            let heard = events(b);
            assert_eq!((heard.len(), b.events.lost()), (BURST, second * (FLOOD - BURST) as u64));
            let is_it = |event: &Event| matches!(event, Event::PeerMoved { port: 1024..=1026, .. });
            assert!(heard.iter().all(is_it), "{heard:?}");
            clock::pass(SECOND);
        }
        assert_eq!(b.drops(), []);
        assert_flows(&mut gateways, &setup);
    }
}

/// As a NAT does: IPv6's checksum is kept right, IPv4's is none.
fn set_source_port(setup: &Setup, frame: &mut [u8], port: u16) {
    let udp = setup.esp_at() - 8;
    frame[udp..udp + 2].copy_from_slice(&port.to_be_bytes());
    if !setup.outer_ipv6 {
        return;
    }
    frame[udp + 6..udp + 8].fill(0);
    let header = IpHeader::parse(&frame[ETHERNET..]).unwrap();
    let datagram = header.payload(&frame[ETHERNET..]);
    let sum = checksum::fold(header.pseudo_header(17, datagram.len()) + u64::from(checksum::sum(datagram)));
    frame[udp + 6..udp + 8].copy_from_slice(&(!sum).to_be_bytes());
}

/// Which bound, and how many packets of 100 octets pass below the soft and below the hard one.
const BOUNDS: [(&str, Bounds, Bounds); 4] = {
    const NONE: Bounds = Bounds { octets: 0, packets: 0, sequence: 0, expires_at: 0 };
    const START: u64 = common::UNIX_SECONDS + 1_000_000;
    [
        ("packets", Bounds { packets: 3, ..NONE }, Bounds { packets: 6, ..NONE }),
        ("octets", Bounds { octets: 300, ..NONE }, Bounds { octets: 600, ..NONE }),
        ("sequence", Bounds { sequence: 3, ..NONE }, Bounds { sequence: 6, ..NONE }),
        ("time", Bounds { expires_at: START + 3, ..NONE }, Bounds { expires_at: START + 6, ..NONE }),
    ]
};

/// A second per packet, from 1,000,000 seconds behind [`common::UNIX_SECONDS`] on.
fn until_start() {
    let start = (common::UNIX_SECONDS + 1_000_000 - clock::unix()) * SECOND;
    clock::pass(start);
}

#[test]
fn lifetimes_are_told_of_once_and_stop_both_directions() {
    for shape in timed() {
        for (what, soft, hard) in BOUNDS {
            for limited in [0, 1] {
                std::thread::scope(|scope| {
                    // Each thread has its own time.
                    let test = scope.spawn(|| assert_ends(&shape, (what, soft, hard), limited));
                    test.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                });
            }
        }
    }
}

/// The SA ends at the sender (end 0) or at the receiver (end 1).
fn assert_ends(shape: &Setup, (what, soft, hard): (&str, Bounds, Bounds), limited: usize) {
    until_start();
    let mortal = Setup { lifetime: Lifetime { soft, hard }, ..shape.clone() };
    let mut gateways = [0, 1].map(|end| Gateway::new(end, if end == limited { &mortal } else { shape }));
    let [a, b] = &mut gateways;
    let (mut passed, mut soft_after) = (0, None);
    for number in 0..12 {
        let sealed = a.pass(Side::Inner, [&shape.packet(0, 100).frame()]);
        passed += b.pass(Side::Outer, &sealed).len();
        clock::pass(SECOND);
        let told = events(if limited == 0 { a } else { b });
        if told.iter().any(|event| matches!(event, Event::SoftLimit(_))) {
            assert_eq!(soft_after.replace(number), None, "{what} at {limited}: the soft bound once");
        }
        let is_hard = |event: &Event| matches!(event, Event::HardLimit(name) if name.reqid == REQID);
        assert_eq!(told.iter().any(is_hard), number == 6, "{what} at {limited}: {told:?}");
    }
    assert_eq!((passed, soft_after), (6, Some(3)), "{what} at {limited}: {shape:?}");
    assert_eq!(gateways[limited].drops(), [("lifetime-over", 6)], "{what}");
    // Another process finds it over too.
    gateways[limited].restart(&mortal);
    let [a, b] = &mut gateways;
    let sealed = a.pass(Side::Inner, [&shape.packet(0, 100).frame()]);
    assert_eq!(b.pass(Side::Outer, &sealed).len(), 0, "{what}");
    assert_eq!(gateways[limited].drops(), [("lifetime-over", 7)], "{what}");
}

/// What nobody asked for by a packet ends with the SA too.
#[test]
fn a_hard_limit_stops_dummies() {
    let lifetime = Lifetime { hard: Bounds { packets: 2, ..Bounds::default() }, ..Lifetime::default() };
    let setup = Setup { lifetime, ..Setup::default() };
    let mut a = Gateway::new(0, &setup);
    let handle = a.table.lookup(Direction::Outbound, REQID).unwrap();
    a.rings.command(Command::Dummy(handle));
    a.run();
    assert_eq!(a.sent(Side::Outer).len(), 1);
    a.seal(&setup.packet(0, 100).frame());
    a.rings.command(Command::Dummy(handle));
    a.run();
    assert_eq!((a.sent(Side::Outer).len(), a.drops()), (0, vec![("lifetime-over", 1)]));
}

/// A gateway of this many tunnels without an outbound SA.
fn without_sas(setup: &Setup) -> Gateway {
    let a = Gateway::new(0, setup);
    let all: Vec<_> = (0..setup.tunnels).map(|n| (Direction::Outbound, REQID + n)).collect();
    all.chunks(16).for_each(|some| assert_eq!(a.table.remove(some).unwrap(), some.len()));
    a
}

#[test]
fn packets_that_wait_for_an_sa_are_few_and_do_not_wait_for_ever() {
    for setup in timed() {
        let mut a = without_sas(&setup);
        let frame = setup.packet(0, 100).frame();
        assert_eq!(flood(&mut a, Side::Inner, vec![&frame; FLOOD]), 0);
        assert_eq!(a.drops(), [("no-sa", FLOOD as u64 - 16)], "{setup:?}");
        let heard = events(&a);
        assert!(matches!(heard[..], [Event::Acquire { reqid: REQID, .. }]), "{heard:?}");
        let sa = common::sa(&setup, 0, Direction::Outbound, 0);
        a.table.put(&[(sa, Counters::default())]).unwrap();
        a.run();
        assert_eq!(a.sent(Side::Outer).len(), 16, "those that waited, no more");
        a.table.remove(&[(Direction::Outbound, REQID)]).unwrap();
        a.receive(Side::Inner, &frame);
        clock::pass(4 * SECOND);
        a.run();
        assert_eq!((a.sent(Side::Outer).len(), a.dropped("no-sa")), (0, FLOOD as u64 - 15));
    }
}

/// A scan over 200 tunnels that have no SA.
#[test]
fn packets_that_wait_for_many_sas_are_few_too() {
    let setup = Setup { tunnels: 200, clock: clock::still, ..Setup::default() };
    let mut a = without_sas(&setup);
    for _ in 0..4 {
        let scan: Vec<_> = (0..200)
            .map(|tunnel| {
                let mut frame = Packet::from(0, 60).frame();
                frame[ETHERNET + 14] = tunnel;
                frame[ETHERNET + 18] = tunnel;
                sum_ipv4(&mut frame);
                frame
            })
            .collect();
        flood(&mut a, Side::Inner, &scan);
    }
    assert_eq!(a.drops(), [("no-sa", 800 - 256)], "256 wait");
    let heard = events(&a);
    assert_eq!(heard.len(), BURST);
    assert!(heard.iter().all(|event| matches!(event, Event::Acquire { .. })));
}
