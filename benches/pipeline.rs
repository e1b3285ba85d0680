//! The pipeline on memory I/O against the bare crypto call on the same buffers.
//!
//! One worker, one SA, AES-128-GCM with 16-octet ICVs, batches of 32. Each round times both, one after the other,
//! so that a noisy neighbour disturbs both alike; medians over the rounds, and the spread from the 10th to the
//! 90th percentile. `cargo bench --bench pipeline [-- --quick]`

#[path = "../dataplane/tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::Instant;

use baton_dataplane::crypto::{Backend, Engine, Job, Outcome, PreparedKey};
use baton_dataplane::io::{Frame, PacketIo, Side};
use baton_sad::{Direction, Suite};
use common::{Gateway, Packet, Setup, pair};

const BATCH: usize = 32;
/// Octets in front of the ESP packet in a sealed frame: Ethernet, outer IPv4.
const FRONT: usize = 14 + 20;

/// Times of one measurement, in ns per packet.
struct Series(Vec<f64>);

impl Series {
    fn percentile(&mut self, percent: usize) -> f64 {
        self.0.sort_by(f64::total_cmp);
        self.0[(self.0.len() - 1) * percent / 100]
    }
}

/// Times one turn of a worker that has these frames waiting; the sent frames go back to the pool.
fn turn(gateway: &mut Gateway, from: Side, frames: &[Vec<u8>]) -> f64 {
    let (nanoseconds, sent) = time_turn(gateway, from, frames);
    assert_eq!(sent, BATCH, "drops: {:?}", gateway.drops());
    nanoseconds
}

/// The same, whatever becomes of the frames; ns per packet, and how many were sent.
fn time_turn(gateway: &mut Gateway, from: Side, frames: &[Vec<u8>]) -> (f64, usize) {
    let worker = &mut gateway.workers[0];
    for frame in frames {
        assert!(worker.io().inject(from, frame));
    }
    let start = Instant::now();
    let handled = worker.turn();
    let elapsed = start.elapsed().as_secs_f64();
    assert_eq!(handled, BATCH);
    let mut sent = 0;
    while let Some(frame) = worker.io().take_transmitted(from.opposite()) {
        worker.io().release(frame);
        sent += 1;
    }
    (elapsed * 1e9 / BATCH as f64, sent)
}

/// Times the bare call on the same kind of frames in the same pool.
fn bare(
    gateway: &mut Gateway,
    (engine, key): (&mut Engine, &PreparedKey),
    open: bool,
    sealed: &[Vec<u8>],
) -> f64 {
    let io = gateway.workers[0].io();
    let mut frames: Vec<Frame> = Vec::with_capacity(BATCH);
    for octets in sealed {
        assert!(io.inject(Side::Outer, octets));
    }
    assert_eq!(io.receive(Side::Outer, &mut frames), BATCH);
    let start = Instant::now();
    for (iv, frame) in (0..).zip(&frames) {
        let range = frame.range();
        let packet = &mut io.buffer(frame)[range][FRONT..];
        // Without extended numbers the authenticated data stand in the packet itself.
        let mut job = Job::to_seal(key, 0, iv, packet);
        let jobs = std::slice::from_mut(&mut job);
        if open {
            engine.open(jobs);
        } else {
            engine.seal(jobs);
        }
        assert_eq!(black_box(job.outcome), Outcome::Done);
    }
    let elapsed = start.elapsed().as_secs_f64();
    frames.drain(..).for_each(|frame| io.release(frame));
    elapsed * 1e9 / BATCH as f64
}

/// One row of the table.
fn measure(backend: Backend, length: u16, open: bool, rounds: usize) {
    let setup = Setup { crypto: backend, extended: false, window: 1024, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    let sa = common::sa(&setup, 0, Direction::Outbound, 0);
    let mut engine = Engine::new(backend).expect("random octets");
    let key =
        engine.prepare(sa.suite, sa.extended_sequence, sa.key.expose()).expect("the suite's own length");
    let plain: Vec<_> = (0..BATCH).map(|_| Packet::from(0, length).frame()).collect();
    let (mut pipeline, mut crypto, mut overhead) = (Series(vec![]), Series(vec![]), Series(vec![]));
    for round in 0..rounds {
        let sealed: Vec<_> = plain.iter().map(|frame| a.seal(frame)).collect();
        let (with, without) = if open {
            (turn(&mut b, Side::Outer, &sealed), bare(&mut b, (&mut engine, &key), true, &sealed))
        } else {
            (turn(&mut a, Side::Inner, &plain), bare(&mut a, (&mut engine, &key), false, &sealed))
        };
        // The first rounds fill caches.
        if round >= rounds / 10 {
            pipeline.0.push(with);
            crypto.0.push(without);
            overhead.0.push(with - without);
        }
    }
    let median = pipeline.percentile(50);
    println!(
        "{:<10} {:<4} {length:>5} {median:>9.0} ({:>4.0}-{:>4.0}) {:>6.2} {:>9.0} ({:>4.0}-{:>4.0}) {:>6.2} {:>8.0} ({:>3.0}-{:>3.0})",
        match backend {
            Backend::AwsLc => "aws-lc",
            Backend::RustCrypto => "rustcrypto",
        },
        if open { "open" } else { "seal" },
        pipeline.percentile(10),
        pipeline.percentile(90),
        f64::from(length) * 8.0 / median,
        crypto.percentile(50),
        crypto.percentile(10),
        crypto.percentile(90),
        median / crypto.percentile(50),
        overhead.percentile(50),
        overhead.percentile(10),
        overhead.percentile(90),
    );
}

type Spoil = fn(&mut Vec<u8>);

/// Bad input, made of a good frame.
const REFUSED: [(&str, Spoil); 4] = [
    ("bad-icv", |frame| *frame.last_mut().expect("octets") ^= 1),
    // In front of the first packet, where nothing was received.
    ("replayed", |frame| frame[FRONT + 4..FRONT + 8].fill(0)),
    ("unknown-spi", |frame| frame[FRONT] ^= 0x80),
    ("ipv6-extension-headers", |frame| *frame = endless_chain(frame.len())),
];

/// An IPv6 packet of nothing but extension headers.
fn endless_chain(length: usize) -> Vec<u8> {
    let headers = (length - 14 - 40) / 8;
    let chain = [60, 0, 1, 4, 0, 0, 0, 0].repeat(headers);
    let setup = Setup { outer_ipv6: true, ..Setup::default() };
    setup.datagram(0, 60, &chain)
}

/// One row per kind of bad input, against good packets of the same length.
fn measure_refused(suite: &str, length: u16, rounds: usize) {
    let suite = Suite::from_name(suite).expect("a suite");
    let setup = Setup { suite, extended: false, window: 1024, ..Setup::default() };
    let plain: Vec<_> = (0..BATCH).map(|_| Packet::from(0, length).frame()).collect();
    for (reason, spoil) in REFUSED {
        let [mut a, mut b] = pair(&setup);
        let (mut good, mut bad) = (Series(vec![]), Series(vec![]));
        for _ in 0..rounds {
            let mut sealed: Vec<_> = plain.iter().map(|frame| a.seal(frame)).collect();
            good.0.push(turn(&mut b, Side::Outer, &sealed));
            sealed = plain.iter().map(|frame| a.seal(frame)).collect();
            sealed.iter_mut().for_each(spoil);
            let (nanoseconds, sent) = time_turn(&mut b, Side::Outer, &sealed);
            assert_eq!(sent, 0);
            bad.0.push(nanoseconds);
        }
        assert_eq!(b.drops(), [(reason, (rounds * BATCH) as u64)]);
        let (good, bad) = (good.percentile(50), bad.percentile(50));
        println!("{suite:<18} {reason:<24} {length:>5} {bad:>9.0} {good:>9.0} {:>6.2}", bad / good);
    }
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let rounds = if quick { 200 } else { 3000 };
    println!(
        "Pipeline on memory I/O, AES-128-GCM-16, batch {BATCH}, one worker, one SA; ns per packet: median (10%-90%)"
    );
    println!(
        "{:<10} {:<4} {:>5} {:>21} {:>6} {:>21} {:>6} {:>18}",
        "back end", "", "inner", "pipeline ns", "Gbit/s", "bare crypto ns", "ratio", "difference ns"
    );
    for backend in [Backend::AwsLc, Backend::RustCrypto] {
        for length in [64, 512, 1400] {
            for open in [false, true] {
                measure(backend, length, open, rounds);
            }
        }
    }
    println!("\nRefused packets against good ones, aws-lc; ns per packet, medians");
    println!(
        "{:<18} {:<24} {:>5} {:>9} {:>9} {:>6}",
        "suite", "refused as", "inner", "bad ns", "good ns", "ratio"
    );
    for suite in ["aes128gcm16", "aes256-sha256", "aes128ccm16", "chacha20poly1305"] {
        for length in [64, 1400] {
            measure_refused(suite, length, rounds / 4);
        }
    }
}
