//! Packets per second and CPU time per packet on veth pairs, one worker on one core, the generator on another.
//!
//! ```text
//! generator -- AF_XDP -- worker -- AF_XDP -- a host that drops
//! ```
//! The measure of all I/O here is a forwarder that only swaps link addresses: what a gateway costs beyond it is
//! the gateway's own. Needs root, clang and two CPUs.

#[path = "../dataplane/tests/af_xdp_support/mod.rs"]
mod af_xdp_support;
#[path = "../dataplane/tests/common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use af_xdp_support::{BEHIND, GATEWAY, Lab, host_mac, own_mac, privileged};
use aya::programs::{TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use baton_dataplane::io::af_xdp::{AfXdpIo, AfXdpOptions, IoCounters};
use baton_dataplane::io::{Frame, PacketIo, Side};
use baton_dataplane::next_hop::{Mac, NextHops, SideHops, Via};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

const WORKER_CPU: usize = 0;
const GENERATOR_CPU: usize = 1;
/// Before the figures count.
const WARM_UP: Duration = Duration::from_millis(300);
const DURATION: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;
const SIZES: [usize; 3] = [64, 512, 1400];
const BATCH: usize = 32;
/// Where everything is sent: the host at the other end drops what is not addressed to it at the first look, so that
/// its stack, which runs within the worker's system calls, adds as little as possible.
const NOBODY: [u8; 6] = [2, 0, 0, 0xff, 0xff, 0xff];

/// One measurement.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Packets sent per second.
    rate: f64,
    /// CPU nanoseconds of the worker's thread per packet sent.
    cpu: f64,
    /// Packets that reached the worker's socket, those dropped for want of room included, for one sent: above 1 the
    /// worker is what limits.
    offered: f64,
}

fn main() {
    if !std::env::args().any(|argument| argument == "--bench") {
        eprintln!("SKIPPED veth: a benchmark; run it with `cargo bench --bench veth`");
        return;
    }
    if !privileged("veth") {
        return;
    }
    if thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("SKIPPED veth: worker and generator need a CPU each");
        return;
    }
    println!("veth, one worker on one CPU, {ROUNDS} rounds of {DURATION:?}: median (lowest to highest)");
    for size in SIZES {
        // In turns, so that what else happens on this machine meets both alike.
        let (mut swap, mut seal): (Vec<_>, Vec<_>) = (0..ROUNDS)
            .map(|_| {
                let packet = plaintext(size);
                (measure(Side::Inner, &packet, forwarder), measure(Side::Inner, &packet, gateway))
            })
            .unzip();
        print("swap, inner to outer", size, &mut swap);
        print("gateway, seal", size, &mut seal);
        let median = |rounds: &[Measured], of: fn(&Measured) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!(
            "  gateway / swap: {:.2} of its packets per second, {:+.0} CPU ns per packet",
            median(&seal, |m| m.rate) / median(&swap, |m| m.rate),
            median(&seal, |m| m.cpu) - median(&swap, |m| m.cpu),
        );
        // The generator repeats one packet, which a gateway opens once: opening is measured in memory.
        let mut swap: Vec<_> =
            (0..ROUNDS).map(|_| measure(Side::Outer, &ciphertext(size), forwarder)).collect();
        print("swap, outer to inner", size, &mut swap);
    }
}

fn print(name: &str, size: usize, rounds: &mut [Measured]) {
    let mut column = |of: fn(&Measured) -> f64| {
        rounds.sort_by(|a, b| of(a).total_cmp(&of(b)));
        (of(&rounds[rounds.len() / 2]), of(&rounds[0]), of(&rounds[rounds.len() - 1]))
    };
    let (rate, cpu, offered) = (column(|m| m.rate / 1e6), column(|m| m.cpu), column(|m| m.offered));
    println!(
        "{name:<22} {size:>5} octets  {:.3} Mpps ({:.3} to {:.3})  {:.0} CPU ns/packet ({:.0} to {:.0})  \
         {:.2} offered per sent",
        rate.0, rate.1, rate.2, cpu.0, cpu.1, cpu.2, offered.0
    );
}

/// Floods one side of a gateway with `packet` and measures the worker that `make` builds on its sockets: a closure
/// that turns once and returns how many packets it handled. What it sends on the other side counts.
fn measure<W: FnMut() -> usize>(
    from: Side,
    packet: &[u8],
    make: impl FnOnce(AfXdpIo) -> W + Send,
) -> Measured {
    let lab = Lab::new(1);
    let mut workers =
        lab.within("gw", || AfXdpIo::open(&AfXdpOptions::new("wan0", "lan0", 1))).expect("sockets");
    let _filter = lab.attach(&workers);
    let io = workers.pop().expect("one worker");
    let counters = io.counters();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| generate(&lab, from, packet, &stop));
        let worker = scope.spawn(|| {
            pin(WORKER_CPU);
            let turn = make(io);
            let measured = run(turn, &counters, from);
            stop.store(true, Ordering::Release);
            measured
        });
        worker.join().expect("the worker")
    })
}

fn run(mut turn: impl FnMut() -> usize, counters: &IoCounters, from: Side) -> Measured {
    let mut turn_for = |time: Duration| {
        let start = Instant::now();
        while start.elapsed() < time {
            for _ in 0..64 {
                if turn() == 0 {
                    std::hint::spin_loop();
                }
            }
        }
    };
    turn_for(WARM_UP);
    let count = || {
        let read = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        let (into, out) = (counters.side(from), counters.side(from.opposite()));
        let offered = read(&into.received) + read(&into.receive_ring_full) + read(&into.fill_ring_empty);
        (offered, read(&out.transmitted))
    };
    let (start, cpu, before) = (Instant::now(), cpu_time(), count());
    turn_for(DURATION);
    let (time, cpu, after) = (start.elapsed(), cpu_time().saturating_sub(cpu), count());
    let sent = after.1 - before.1;
    Measured {
        rate: sent / time.as_secs_f64(),
        cpu: cpu.as_nanos() as f64 / sent,
        offered: (after.0 - before.0) / sent,
    }
}

/// CPU time of the calling thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_nanos(time.tv_nsec.unsigned_abs())
}

fn pin(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).expect("to pin a thread");
}

/// The forwarder that only swaps link addresses.
fn forwarder(mut io: AfXdpIo) -> impl FnMut() -> usize {
    let mut batch: Vec<Frame> = Vec::with_capacity(BATCH);
    move || {
        let mut count = 0;
        for side in Side::ALL {
            count += io.receive(side, &mut batch);
            for frame in &batch {
                let start = frame.start as usize;
                let header = &mut io.buffer(frame)[start..start + 12];
                header[..6].copy_from_slice(&NOBODY);
                header[6..].copy_from_slice(&own_mac(side.opposite()).0);
            }
            io.transmit(side.opposite(), &mut batch);
        }
        io.flush();
        count
    }
}

/// A gateway with one SA, AES-128-GCM with a 16-octet ICV, extended sequence numbers.
fn gateway(io: AfXdpIo) -> impl FnMut() -> usize {
    let setup = common::Setup { window: 1024, ..common::Setup::default() };
    let mut gateway = common::Gateway::new(1, &setup);
    let router = IpAddr::from([192, 0, 2, 254]);
    let side = |side: Side| {
        let everything = "0.0.0.0/0".parse().expect("a prefix");
        let neighbours = HashMap::from([(router, Mac(NOBODY))]);
        SideHops::new(Mac(own_mac(side).0), 1500, vec![(everything, Via::Router(router))], neighbours)
    };
    gateway.hops.store(Arc::new(NextHops::new(side(Side::Outer), side(Side::Inner))));
    let mut worker = gateway.worker_on(&setup, io);
    move || {
        // Its table lives as long as the worker.
        let _table = &gateway.table;
        worker.turn()
    }
}

/// A UDP packet from the inner host to the protected prefix; `size` octets of IP.
fn plaintext(size: usize) -> Vec<u8> {
    let mut frame = ethernet(Side::Inner, size);
    let udp = size - 20;
    frame.extend(ipv4(17, size, [10, 2, 0, 9], BEHIND.octets()));
    frame.extend([0x30, 0x39, 0x30, 0x39]);
    frame.extend((udp as u16).to_be_bytes());
    // No checksum (RFC 768).
    frame.extend([0, 0]);
    frame.resize(14 + size, 0x55);
    frame
}

/// An ESP packet to the gateway, of an owned segment; `size` octets of IP.
fn ciphertext(size: usize) -> Vec<u8> {
    let mut frame = ethernet(Side::Outer, size);
    frame.extend(ipv4(50, size, [203, 0, 113, 1], GATEWAY.octets()));
    frame.extend([0x2a, 0, 0, 1, 0, 0, 0, 1]);
    frame.resize(14 + size, 0x55);
    frame
}

fn ethernet(side: Side, octets: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + octets);
    frame.extend(own_mac(side).0);
    frame.extend(host_mac(side).0);
    frame.extend([8, 0]);
    frame
}

fn ipv4(protocol: u8, size: usize, source: [u8; 4], destination: [u8; 4]) -> [u8; 20] {
    let mut header = [0; 20];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&(size as u16).to_be_bytes());
    header[8..10].copy_from_slice(&[64, protocol]);
    header[12..16].copy_from_slice(&source);
    header[16..].copy_from_slice(&destination);
    let sum: u32 = header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
    header
}

/// Sends `packet` from the host on `side` as fast as it can, until told to stop.
fn generate(lab: &Lab, side: Side, packet: &[u8], stop: &AtomicBool) {
    let (host, interface) = match side {
        Side::Outer => ("outer", "wan0"),
        Side::Inner => ("inner", "lan0"),
    };
    lab.within(host, || {
        pin(GENERATOR_CPU);
        let mut program = load_generator(interface);
        let generate: &mut Xdp =
            program.program_mut("generate").expect("the program").try_into().expect("an XDP program");
        generate.load().expect("to load the generator");
        let options = || TestRunOptions {
            data_in: Some(packet),
            repeat: 300_000,
            attrs: TestRunAttrs::new().xdp_live_frames(64),
            ..TestRunOptions::new()
        };
        while !stop.load(Ordering::Acquire) {
            generate.test_run(options()).expect("to generate");
        }
    });
}

fn load_generator(interface: &str) -> Ebpf {
    use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None).expect("a socket");
    let index = name_to_index(any, interface).expect("the interface");
    let object = compile_generator();
    EbpfLoader::new()
        .override_global("generator_interface", &index, true)
        .load(&object)
        .expect("to read the generator")
}

fn compile_generator() -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/generate.bpf.c");
    let directory = tempfile::tempdir().expect("a directory");
    let object = directory.path().join("generate.bpf.o");
    let status = Command::new("clang")
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-c"])
        .arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH))
        .arg(source)
        .arg("-o")
        .arg(&object)
        .status()
        .expect("to run clang");
    assert!(status.success(), "clang refused the generator");
    std::fs::read(object).expect("the generator")
}
