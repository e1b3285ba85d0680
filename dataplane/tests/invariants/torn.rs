//! I5: no packet is made with, or opened by, half of one SA and half of another.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use baton_dataplane::crypto::{Backend, Engine, Job, Outcome};
use baton_dataplane::io::Side;
use baton_dataplane::packet::ip::IpHeader;
use baton_sad::{
    Counters, Direction, DscpPolicy, Key, Mode, PutError, Sa, Suite, Table, UdpEncapsulation, UpdateError,
};

use super::common::wire::{ETHERNET, every_kind};
use super::common::{self, Gateway, Packet, REQID, SPI, Setup};

/// Packets in a batch.
const BATCH: usize = 64;
/// Octets of each inner packet.
const LENGTH: u16 = 100;
/// Between two changes, so that some packets meet each of them.
const PAUSE: Duration = Duration::from_micros(100);
/// How long a loaded machine may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// The kinds of SAs that carry IPv4 in a tunnel, in an order in which neighbours differ in everything.
fn kinds() -> Vec<Setup> {
    let kinds: Vec<Setup> =
        every_kind().filter(|kind| kind.mode == Mode::Tunnel && !kind.inner_ipv6).collect();
    // A step that shares no factor with their number visits all of them.
    (0..kinds.len()).map(|n| Setup { batch: BATCH, ..kinds[n * 53 % kinds.len()].clone() }).collect()
}

fn key(suite: Suite, n: u64) -> Key {
    let octets: Vec<u8> =
        (0..suite.key_length() as u64).map(|i| (i * 11 + n.wrapping_mul(0x9e37) + (n >> 8)) as u8).collect();
    Key::new(&octets).unwrap()
}

/// SA number `n` of one direction at one end: its key says which it is.
fn sa(kinds: &[Setup], n: u64, end: usize, direction: Direction) -> Sa {
    let kind = &kinds[n as usize % kinds.len()];
    Sa { key: key(kind.suite, n), ..common::sa(kind, end, direction, 0) }
}

/// How often a change waits for the workers to let go of earlier SAs, a quarter of a second each time: a test that
/// fails must end, though its worker has stopped.
const TRIES: usize = 20;

fn put(table: &Table, sa: &Sa) {
    let tried = (0..TRIES).map(|_| table.put(&[(sa.clone(), Counters::default())]));
    let refused = tried.take_while(Result::is_err).inspect(|refused| {
        assert!(matches!(refused, Err(PutError::WorkerBusy(_))), "{refused:?}");
    });
    assert!(refused.count() < TRIES, "the worker holds up all changes");
}

fn update(table: &Table, sa: &Sa) {
    let refused = (0..TRIES).map(|_| table.update(sa)).take_while(Result::is_err).inspect(|refused| {
        assert!(matches!(refused, Err(UpdateError::NoSlot(PutError::WorkerBusy(_)))), "{refused:?}");
    });
    assert!(refused.count() < TRIES, "the worker holds up all changes");
}

/// Changes a table in another thread until it is dropped; knows how many changes were made.
struct Changer {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Changer {
    fn start(table: &Arc<Table>, mut change: impl FnMut(&Table, u64) + Send + 'static) -> Self {
        let (table, stop, done) =
            (Arc::clone(table), Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&done));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let n = count.load(Ordering::Relaxed) + 1;
                change(&table, n);
                count.store(n, Ordering::Release);
                std::thread::sleep(PAUSE);
            }
        });
        Self { stop, done, thread: Some(thread) }
    }

    fn done(&self) -> u64 {
        self.done.load(Ordering::Acquire)
    }
}

impl Drop for Changer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(std::thread::JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))), "the changes went on");
    }
}

/// A's SA number `n`, whose SPI says which it is too.
fn outbound(kinds: &[Setup], n: u64) -> Sa {
    let dscp = DscpPolicy::Set((n % 63) as u8);
    Sa { spi: SPI[1] + n as u32, dscp, ..sa(kinds, n, 0, Direction::Outbound) }
}

/// The same SA after an update: everything that shows in the outer header is another.
fn updated(sa: Sa) -> Sa {
    let destination = match sa.destination {
        IpAddr::V4(_) => IpAddr::from([203, 0, 113, 77]),
        IpAddr::V6(_) => "2001:db8:a::77".parse().unwrap(),
    };
    let encapsulation = sa.encapsulation.map(|udp| UdpEncapsulation { destination_port: 40_077, ..udp });
    Sa { dscp: DscpPolicy::Set(63), destination, encapsulation, ..sa }
}

/// What a packet's outer header shows of its SA: DSCP, destination, UDP port.
type Shown = (DscpPolicy, IpAddr, Option<u16>);

fn outside(kind: &Setup, frame: &[u8]) -> Shown {
    let header = IpHeader::parse(&frame[ETHERNET..]).unwrap();
    let port = kind.esp_at() - 6;
    let port = kind.encapsulated.then(|| u16::from_be_bytes([frame[port], frame[port + 1]]));
    (DscpPolicy::Set(header.traffic_class >> 2), header.destination(), port)
}

fn shown(sa: &Sa) -> Shown {
    (sa.dscp, sa.destination, sa.encapsulation.map(|udp| udp.destination_port))
}

/// Who it is for and which SA it belongs to, where every kind shows it.
fn spi_of(frame: &[u8]) -> u32 {
    let header = IpHeader::parse(&frame[ETHERNET..]).unwrap();
    let at = ETHERNET + header.header_length + if header.protocol == 17 { 8 } else { 0 };
    u32::from_be_bytes(frame[at..at + 4].try_into().unwrap())
}

/// Opens a frame with the key of SA number `n` on the other back end; gives the inner packet.
fn open(engine: &mut Engine, kind: &Setup, n: u64, frame: &[u8]) -> Option<Vec<u8>> {
    let mut esp = frame[kind.esp_at()..].to_vec();
    let prepared = engine.prepare(kind.suite, kind.extended, key(kind.suite, n).expose()).unwrap();
    let mut job = Job::to_open(&prepared, u64::from(kind.on_wire(frame).sequence), &mut esp);
    engine.open(std::slice::from_mut(&mut job));
    let text = 8 + kind.suite.iv_length();
    (job.outcome == Outcome::Done).then(|| esp[text..text + usize::from(LENGTH)].to_vec())
}

/// A's SA is replaced, updated, removed and put back all the time while A sends. Whatever SA a packet names, it is
/// that SA's in all: suite, key, encapsulation, and the outer header of one of its configurations.
#[test]
fn i5_what_is_sent_belongs_to_one_sa_in_all_its_parts() {
    let kinds = kinds();
    let mut a = Gateway::new(0, &kinds[0]);
    let mut engine = Engine::new(Backend::RustCrypto).unwrap();
    let expected = Packet { ttl: 63, ..Packet::from(0, LENGTH) }.octets();
    let frames = vec![Packet::from(0, LENGTH).frame(); BATCH];
    put(&a.table, &outbound(&kinds, 0));
    let all = kinds.clone();
    // Version 2n is SA number n as it was put, 2n + 1 the same after its update.
    let changer = Changer::start(&a.table, move |table, version| {
        let sa = outbound(&all, version / 2);
        match version % 2 {
            0 => put(table, &sa),
            _ => update(table, &updated(sa)),
        }
        if version % 6 == 1 {
            table.remove(&[(Direction::Outbound, REQID)]).unwrap();
        }
    });
    let (mut last, mut versions, start) = (HashMap::new(), HashSet::new(), Instant::now());
    while versions.len() < 300 {
        assert!(start.elapsed() < PATIENCE, "{} versions of {}", versions.len(), changer.done());
        // Long batches meet changes in their middle, short ones follow each other between two changes.
        let pass = |packets: usize| {
            let done = changer.done();
            a.pass(Side::Inner, &frames[..packets]).into_iter().map(move |frame| (done, frame))
        };
        let sent: Vec<_> = [BATCH, 8, 8, 8, 8, 8, 8].into_iter().flat_map(pass).collect();
        for (done, frame) in sent {
            let n = u64::from(spi_of(&frame) - SPI[1]);
            let kind = &kinds[n as usize % kinds.len()];
            let inner = open(&mut engine, kind, n, &frame);
            assert_eq!(inner.as_ref(), Some(&expected), "I5 broken: SA {n}, {kind:?}");
            let version = version_of(n, &outbound(&kinds, n), &outside(kind, &frame));
            assert!(version >= done, "version {version} was used after {done} had taken its place");
            versions.insert(version);
            let sequence = kind.on_wire(&frame).sequence;
            let earlier = last.insert(n, sequence).unwrap_or(0);
            assert!(sequence > earlier, "I2 broken: SA {n}: {sequence} after {earlier}");
        }
    }
    let updated = versions.iter().filter(|version| *version % 2 == 1).count();
    assert!(updated > 50 && versions.len() - updated > 50, "{updated} of {}", versions.len());
    let reasons = ["sa-unusable", "no-sa"];
    assert!(a.drops().iter().all(|(reason, _)| reasons.contains(reason)), "{:?}", a.drops());
}

/// Which version of SA number `n` an outer header is of.
fn version_of(n: u64, sa: &Sa, seen: &Shown) -> u64 {
    let is_updated = *seen == shown(&updated(sa.clone()));
    assert!(is_updated || *seen == shown(sa), "I5 broken: SA {n}: {seen:?}");
    2 * n + u64::from(is_updated)
}

/// Frames of SA number `n` under one SPI, each with its number inside.
fn sealed(kinds: &[Setup], n: u64) -> Vec<Vec<u8>> {
    let mut a = Gateway::new(0, &kinds[n as usize % kinds.len()]);
    a.table.put(&[(sa(kinds, n, 0, Direction::Outbound), Counters::default())]).unwrap();
    let mut frame = Packet::from(0, LENGTH).frame();
    frame.extend(n.to_be_bytes());
    frame.drain(ETHERNET + usize::from(LENGTH) - 8..ETHERNET + usize::from(LENGTH));
    a.pass(Side::Inner, &vec![frame; BATCH / 4])
}

/// B's SA is replaced all the time by one of three others under the same SPI, while packets of all four come. What
/// is accepted is whole, and nothing fails for a reason behind the integrity check.
#[test]
fn i5_what_is_accepted_was_opened_by_one_sa_in_all_its_parts() {
    let kinds = kinds();
    let mut b = Gateway::new(1, &kinds[0]);
    let expected = Packet { ttl: 62, ..Packet::from(0, LENGTH) }.octets();
    for first in (0..kinds.len() as u64).step_by(4).take(24) {
        let of_each: Vec<_> = (first..first + 4).map(|n| sealed(&kinds, n)).collect();
        let mixed: Vec<_> = (0..BATCH).map(|place| of_each[place % 4][place / 4].clone()).collect();
        let all = kinds.clone();
        let changer = Changer::start(&b.table, move |table, n| {
            put(table, &sa(&all, first + n % 4, 1, Direction::Inbound));
        });
        let (mut accepted, start) = (HashMap::<u64, usize>::new(), Instant::now());
        while accepted.len() < 4 || accepted.values().sum::<usize>() < 100 {
            assert!(start.elapsed() < PATIENCE, "{accepted:?} {:?}", b.drops());
            let done = changer.done();
            let arrived = b.pass(Side::Outer, &mixed);
            // The last change may be under way.
            let installed: Vec<u64> = (done..=changer.done() + 1).map(|n| first + n % 4).collect();
            for frame in arrived {
                let (inner, number) = frame[ETHERNET..].split_at(usize::from(LENGTH) - 8);
                assert_eq!(inner, &expected[..inner.len()], "I5 broken");
                let n = u64::from_be_bytes(number.try_into().unwrap());
                assert!(done == 0 || installed.contains(&n), "I5 broken: {n} of {installed:?}");
                *accepted.entry(n).or_default() += 1;
            }
        }
    }
    let reasons = ["bad-icv", "esp-length", "outer-address", "sa-unusable", "replayed", "too-old"];
    assert!(b.drops().iter().all(|(reason, _)| reasons.contains(reason)), "{:?}", b.drops());
}
