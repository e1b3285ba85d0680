//! In the steady state no packet, good or bad, makes the data plane allocate.
// A global allocator is an unsafe trait; this one counts and passes everything on to the system's.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use baton_dataplane::crypto::{Backend, Engine, Job, Outcome};
use baton_dataplane::io::Side;
use baton_sad::Suite;
use common::{Gateway, Packet, Setup, pair};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every method is the system allocator's, called with the caller's own arguments; counting touches a
// thread-local cell without a destructor and allocates nothing itself.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is this one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `GlobalAlloc::dealloc`, which is this one.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Gives a gateway the frames again and again and returns how often it allocated or freed after a first round.
fn allocations(gateway: &mut Gateway, side: Side, frames: &[Vec<u8>]) -> u64 {
    let mut round = || {
        let worker = &mut gateway.workers[0];
        for frame in frames {
            assert!(worker.io().inject(side, frame));
        }
        while worker.turn() > 0 {}
        for side in Side::ALL {
            while let Some(frame) = worker.io().take_transmitted(side) {
                baton_dataplane::io::PacketIo::release(worker.io(), frame);
            }
        }
    };
    round();
    let before = ALLOCATIONS.with(Cell::get);
    (0..50).for_each(|_| round());
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn good_packets_allocate_nothing() {
    let [mut a, mut b] = pair(&Setup::default());
    let plain: Vec<_> = (0..100).map(|i| Packet::from(0, 40 + i * 13).frame()).collect();
    assert_eq!(allocations(&mut a, Side::Inner, &plain), 0, "sealing");
    // The same frames again are replays: they run up to the window; new ones run to the end.
    let before = ALLOCATIONS.with(Cell::get);
    let sealed: Vec<_> = plain.iter().map(|frame| a.seal(frame)).collect();
    assert!(ALLOCATIONS.with(Cell::get) > before, "the counter counts");
    assert_eq!(allocations(&mut b, Side::Outer, &sealed), 0, "replays");
    let mut opened = 0;
    for _ in 0..20 {
        let sealed: Vec<_> = plain.iter().map(|frame| a.seal(frame)).collect();
        let worker = &mut b.workers[0];
        for frame in &sealed {
            assert!(worker.io().inject(Side::Outer, frame));
        }
        let before = ALLOCATIONS.with(Cell::get);
        while worker.turn() > 0 {}
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "opening");
        opened += b.sent(Side::Inner).len();
    }
    assert_eq!(opened, 2000);
}

#[test]
fn bad_packets_allocate_nothing() {
    let [mut a, mut b] = pair(&Setup { path_mtu: 1300, ..Setup::default() });
    let sealed = a.seal(&Packet::from(0, 100).frame());
    let mut bad: Vec<Vec<u8>> =
        (0..sealed.len()).step_by(3).map(|length| sealed[..length].to_vec()).collect();
    bad.extend((0..sealed.len()).map(|at| {
        let mut frame = sealed.clone();
        frame[at] ^= 0x11;
        frame
    }));
    assert_eq!(allocations(&mut b, Side::Outer, &bad), 0, "malformed, forged and foreign");
    let refused = [
        Packet { dont_fragment: true, ..Packet::from(0, 1400) },
        Packet::from(0, 1400),
        Packet { ttl: 1, ..Packet::from(0, 100) },
        Packet { destination: [192, 0, 2, 1].into(), ..Packet::from(0, 100) },
    ];
    let refused: Vec<_> = refused.iter().map(Packet::frame).collect();
    assert_eq!(allocations(&mut a, Side::Inner, &refused), 0, "refused and answered");
    let mut lonely = Gateway::new(0, &Setup { neighbours: false, ..Setup::default() });
    let held: Vec<_> = (0..140).map(|_| Packet::from(0, 100).frame()).collect();
    assert_eq!(allocations(&mut lonely, Side::Inner, &held), 0, "held for a neighbour");
}

#[test]
fn no_suite_allocates_per_packet() {
    for (backend, suite) in
        [Backend::AwsLc, Backend::RustCrypto].into_iter().flat_map(|b| Suite::ALL.map(|suite| (b, suite)))
    {
        let mut engine = Engine::new(backend).unwrap();
        let key = engine.prepare(suite, true, &vec![5; suite.key_length()]).unwrap();
        let mut packet = vec![0; key.front_length() + 1024 + key.icv_length()];
        let before = ALLOCATIONS.with(Cell::get);
        let mut run = |is_opening, sequence| {
            let mut job = Job::to_seal(&key, sequence, 1, &mut packet);
            let jobs = std::slice::from_mut(&mut job);
            if is_opening {
                engine.open(jobs);
            } else {
                engine.seal(jobs);
            }
            job.outcome
        };
        let outcomes = [run(false, 1 << 32), run(true, 1 << 32), run(true, 7)];
        assert_eq!(outcomes, [Outcome::Done, Outcome::Done, Outcome::BadIcv], "{backend:?} {suite}");
        assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "{backend:?} {suite}");
    }
}
