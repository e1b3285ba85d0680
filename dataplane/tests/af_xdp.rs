//! AF_XDP sockets on veth pairs with the real filter: a forwarder that changes nothing but the link addresses.

mod af_xdp_support;

use std::collections::HashSet;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use af_xdp_support::{BEHIND, ESP, EXPERIMENT, GATEWAY, Lab, eventually, host_mac, own_mac, privileged};
use baton_dataplane::io::af_xdp::{AfXdpError, AfXdpIo, AfXdpOptions, Census, MAX_MTU, Waker};
use baton_dataplane::io::{Frame, PacketIo, Side};
use socket2::Socket;

/// Outer hosts, so that flows spread over the queues.
const SOURCES: u8 = 16;

fn options(workers: u16) -> AfXdpOptions {
    AfXdpOptions { ring_size: 256, ..AfXdpOptions::new("wan0", "lan0", workers) }
}

fn open(lab: &Lab, options: &AfXdpOptions) -> Vec<AfXdpIo> {
    lab.within("gw", || AfXdpIo::open(options)).expect("to open sockets")
}

/// Sends what was received on one side out of the other.
fn forward(io: &mut AfXdpIo, batch: &mut Vec<Frame>) -> usize {
    let mut count = 0;
    for side in Side::ALL {
        count += io.receive(side, batch);
        readdress(io, batch, side.opposite());
        io.transmit(side.opposite(), batch);
    }
    io.flush();
    count
}

fn readdress(io: &mut AfXdpIo, batch: &mut Vec<Frame>, to: Side) {
    // All of a batch are lent at once.
    let mut packets: Vec<_> = batch.drain(..).map(|frame| io.lend(frame)).collect();
    for packet in &mut packets {
        let link = &mut packet.buffer[packet.start as usize..][..12];
        link[..6].copy_from_slice(&host_mac(to).0);
        link[6..].copy_from_slice(&own_mac(to).0);
    }
    batch.extend(packets.into_iter().map(|packet| io.take_back(packet)));
}

/// Stops the workers' threads however a test ends: a test that fails must not wait for them for ever.
struct Stop<'a>(&'a AtomicBool, Vec<Waker>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.iter().for_each(Waker::wake);
    }
}

/// Turns the workers, one thread each, while `work` runs.
fn while_forwarding<T>(workers: &mut [AfXdpIo], work: impl FnOnce() -> T) -> T {
    let stop = AtomicBool::new(false);
    let wakers = workers.iter().map(AfXdpIo::waker).collect();
    thread::scope(|scope| {
        for io in workers {
            let stop = &stop;
            scope.spawn(move || {
                let mut batch = Vec::with_capacity(32);
                while !stop.load(Ordering::Acquire) {
                    if forward(io, &mut batch) == 0 {
                        io.wait(Duration::from_millis(100));
                    }
                }
            });
        }
        let _stop = Stop(&stop, wakers);
        work()
    })
}

/// A payload that tells its number; it begins like ESP of an owned segment.
fn payload(number: u32) -> Vec<u8> {
    let mut octets = vec![0x2a, 0, 0, 1];
    octets.extend(number.to_be_bytes());
    octets.extend((0..64 + number % 900).map(|i| (i ^ number) as u8));
    octets
}

/// Sends payloads of these numbers, from all sources in turn.
fn send(sources: &[Socket], to: Ipv4Addr, numbers: Range<u32>) {
    let to = SocketAddrV4::new(to, 0).into();
    for number in numbers {
        let socket = &sources[number as usize % sources.len()];
        socket.send_to(&payload(number), &to).expect("to send");
    }
}

/// Receives `count` packets; every packet must be as it was sent.
fn collect(mut socket: &Socket, numbers: &mut HashSet<u32>, count: usize) {
    let mut packet = [0; 2048];
    let deadline = Instant::now() + Duration::from_secs(20);
    for received in 0..count {
        let length = loop {
            match socket.read(&mut packet) {
                Ok(length) => break length,
                Err(_) => assert!(Instant::now() < deadline, "{received} of {count} packets arrived"),
            }
        };
        let body = &packet[usize::from(packet[0] & 15) * 4..length];
        let number = u32::from_be_bytes(body[4..8].try_into().expect("four octets"));
        assert_eq!(body, payload(number), "packet {number} was changed on its way");
        assert!(numbers.insert(number), "packet {number} came twice");
    }
}

/// Sends packets 0 to `count` and receives them all. Never more than a ring holds is under way: however late a
/// loaded machine runs the workers, nothing may be lost.
fn pass(sources: &[Socket], to: Ipv4Addr, receiver: &Socket, count: u32) {
    let mut numbers = HashSet::new();
    for first in (0..count).step_by(128) {
        let burst = first..count.min(first + 128);
        send(sources, to, burst.clone());
        collect(receiver, &mut numbers, burst.len());
    }
    assert_eq!(numbers, (0..count).collect());
}

/// The outer host's senders of ESP, each from an address of its own.
fn outer_senders(lab: &Lab) -> Vec<Socket> {
    (0..SOURCES)
        .map(|source| {
            let own = Ipv4Addr::new(203, 0, 113, 100 + source);
            lab.ip_in("outer", &format!("addr add {own}/32 dev wan0"));
            lab.raw_socket("outer", ESP, own)
        })
        .collect()
}

/// The inner host's receiver of the ESP packets that are forwarded as they are.
fn inner_receiver(lab: &Lab) -> Socket {
    lab.ip_in("inner", &format!("addr add {GATEWAY}/32 dev lo"));
    lab.raw_socket("inner", ESP, GATEWAY)
}

fn counter(workers: &[AfXdpIo], side: Side, name: &str) -> u64 {
    workers.iter().for_each(AfXdpIo::refresh_counters);
    let all = workers.iter().flat_map(|io| io.counters().read().collect::<Vec<_>>());
    all.filter(|(of, counter, _)| *of == side && *counter == name).map(|(.., value)| value).sum()
}

/// Every frame is back with the kernel's fill rings or a free list.
fn assert_frames_conserved(workers: &mut [AfXdpIo], before: Option<Census>) {
    let Some(before) = before else { return };
    let settled = eventually(Duration::from_secs(2), || {
        workers.iter_mut().for_each(PacketIo::flush);
        let now = workers[0].census().expect("a census");
        now.user == 0 && now.transmit == 0
    });
    let now = workers[0].census().expect("a census");
    assert!(settled, "frames are missing: {now:?}");
    assert_eq!(now.free + now.fill, before.free + before.fill + before.user + before.transmit);
}

#[test]
fn forwards_both_ways_over_two_queues_without_loss_or_change() {
    if !privileged("forwards_both_ways_over_two_queues_without_loss_or_change") {
        return;
    }
    let lab = Lab::new(2);
    let mut workers = open(&lab, &AfXdpOptions::new("wan0", "lan0", 2));
    assert_eq!(workers.iter().map(|io| io.sockets().count()).collect::<Vec<_>>(), [2, 2]);
    let before = workers[0].census();
    let _filter = lab.attach(&workers);
    let (senders, receiver) = (outer_senders(&lab), inner_receiver(&lab));
    let back = (
        lab.raw_socket("inner", EXPERIMENT, [10, 2, 0, 9].into()),
        lab.raw_socket("outer", EXPERIMENT, BEHIND),
    );
    while_forwarding(&mut workers, || {
        pass(&senders, GATEWAY, &receiver, 20_000);
        pass(std::slice::from_ref(&back.0), BEHIND, &back.1, 5_000);
    });
    for io in &workers {
        assert!(counter(std::slice::from_ref(io), Side::Outer, "received") > 0, "a queue was idle");
    }
    assert_eq!(counter(&workers, Side::Outer, "received"), 20_000);
    assert_eq!(counter(&workers, Side::Inner, "transmitted"), 20_000);
    assert_frames_conserved(&mut workers, before);
}

#[test]
fn a_flood_beyond_the_rings_is_counted_and_loses_no_frame() {
    if !privileged("a_flood_beyond_the_rings_is_counted_and_loses_no_frame") {
        return;
    }
    let lab = Lab::new(1);
    let small = AfXdpOptions { ring_size: 64, ..options(1) };
    let mut workers = open(&lab, &small);
    let before = workers[0].census();
    let _filter = lab.attach(&workers);
    let senders = outer_senders(&lab);
    let mut batch = Vec::with_capacity(32);
    for round in 0..20 {
        send(&senders, GATEWAY, round * 500..(round + 1) * 500);
        while forward(&mut workers[0], &mut batch) > 0 {}
    }
    let dropped: u64 = ["receive-ring-full", "fill-ring-empty", "receive-dropped"]
        .map(|name| counter(&workers, Side::Outer, name))
        .iter()
        .sum();
    let received = counter(&workers, Side::Outer, "received");
    assert!(received >= 20 * 64, "{received} received");
    assert!(dropped > 0, "nothing was counted as dropped");
    assert_eq!(received + dropped, 10_000, "{:?}", workers[0].counters());
    assert_frames_conserved(&mut workers, before);
}

#[test]
fn a_full_transmit_ring_and_impossible_frames_are_counted() {
    if !privileged("a_full_transmit_ring_and_impossible_frames_are_counted") {
        return;
    }
    let lab = Lab::new(1);
    let mut workers = open(&lab, &AfXdpOptions { ring_size: 64, ..options(1) });
    let before = workers[0].census();
    let io = &mut workers[0];
    let mut frames: Vec<_> = std::iter::from_fn(|| io.allocate()).take(100).collect();
    for frame in &mut frames {
        frame.length = 60;
        let range = frame.range();
        io.buffer(frame)[range].fill(0);
    }
    frames[3].length = 13;
    frames[4].start = 4090;
    io.transmit(Side::Outer, &mut frames);
    assert!(frames.is_empty());
    assert_eq!(counter(&workers, Side::Outer, "transmitted"), 64);
    assert_eq!(counter(&workers, Side::Outer, "transmit-invalid"), 2);
    assert_eq!(counter(&workers, Side::Outer, "transmit-ring-full"), 34);
    assert_frames_conserved(&mut workers, before);
}

#[test]
fn what_one_worker_received_another_sends_by_the_queue_of_the_first() {
    if !privileged("what_one_worker_received_another_sends_by_the_queue_of_the_first") {
        return;
    }
    let lab = Lab::new(1);
    let mut workers = open(&lab, &options(2));
    assert_eq!(workers[1].sockets().count(), 0);
    let before = workers[0].census();
    let _filter = lab.attach(&workers);
    let (senders, receiver) = (outer_senders(&lab), inner_receiver(&lab));
    let stop = AtomicBool::new(false);
    let wakers = workers.iter().map(AfXdpIo::waker).collect();
    let (hand_over, handed_over) = std::sync::mpsc::channel();
    thread::scope(|scope| {
        let (mut second, mut first) = (workers.pop().expect("two"), workers.pop().expect("two"));
        let stop = &stop;
        let receiving = scope.spawn(move || {
            let mut batch = Vec::with_capacity(32);
            while !stop.load(Ordering::Acquire) {
                if first.receive(Side::Outer, &mut batch) == 0 {
                    first.wait(Duration::from_millis(100));
                }
                batch.drain(..).for_each(|frame| hand_over.send(frame).expect("the other worker"));
                first.flush();
            }
            first
        });
        let sending = scope.spawn(move || {
            let mut batch = Vec::with_capacity(32);
            while let Ok(frame) = handed_over.recv() {
                batch.push(frame);
                readdress(&mut second, &mut batch, Side::Inner);
                second.transmit(Side::Inner, &mut batch);
                second.flush();
            }
            second
        });
        let stopping = Stop(stop, wakers);
        pass(&senders, GATEWAY, &receiver, 5_000);
        drop(stopping);
        workers.push(receiving.join().expect("the first worker"));
        workers.push(sending.join().expect("the second worker"));
    });
    assert_eq!(counter(&workers[..1], Side::Inner, "transmitted"), 5_000);
    assert_frames_conserved(&mut workers, before);
}

#[test]
fn a_wait_ends_by_a_packet_a_waker_or_its_time() {
    if !privileged("a_wait_ends_by_a_packet_a_waker_or_its_time") {
        return;
    }
    let lab = Lab::new(1);
    let mut workers = open(&lab, &options(1));
    let _filter = lab.attach(&workers);
    let senders = outer_senders(&lab);
    let io = &mut workers[0];
    let mut timed = |limit| {
        let start = Instant::now();
        io.wait(limit);
        start.elapsed()
    };
    assert!(timed(Duration::from_millis(50)) >= Duration::from_millis(50));
    let long = Duration::from_secs(20);
    send(&senders, GATEWAY, 0..1);
    assert!(timed(long) < long, "a packet did not end the wait");
    let mut batch = Vec::with_capacity(32);
    assert_eq!(workers[0].receive(Side::Outer, &mut batch), 1);
    batch.drain(..).for_each(|frame| workers[0].release(frame));
    let waker = workers[0].waker();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(50));
            waker.wake();
            waker.wake();
        });
        let start = Instant::now();
        workers[0].wait(long);
        assert!(start.elapsed() < long, "a waker did not end the wait");
    });
    waker.wake();
    let start = Instant::now();
    workers[0].wait(long);
    assert!(start.elapsed() < long, "a wake before the wait was lost");
}

#[test]
fn what_cannot_be_opened_is_refused_with_a_reason() {
    if !privileged("what_cannot_be_opened_is_refused_with_a_reason") {
        return;
    }
    let lab = Lab::new(1);
    let refusal = |options: &AfXdpOptions| {
        let error = lab.within("gw", || AfXdpIo::open(options)).expect_err("to be refused");
        println!("{error}");
        error
    };
    let absent = AfXdpOptions::new("wan0", "lan7", 1);
    assert!(matches!(refusal(&absent), AfXdpError::NoSuchInterface(name) if name == "lan7"));
    let long = AfXdpOptions::new("wan0", "an-interface-name-too-long", 1);
    assert!(matches!(refusal(&long), AfXdpError::NoSuchInterface(_)));
    assert!(matches!(refusal(&AfXdpOptions::new("wan0", "wan0", 1)), AfXdpError::SameInterface(_)));
    assert!(matches!(refusal(&options(0)), AfXdpError::Option(_)));
    let odd = AfXdpOptions { ring_size: 100, ..options(1) };
    assert!(matches!(refusal(&odd), AfXdpError::Option(_)));
    lab.ip_in("gw", &format!("link set lan0 mtu {}", MAX_MTU + 1));
    assert!(matches!(refusal(&options(1)), AfXdpError::MtuTooLarge { mtu, .. } if mtu == MAX_MTU + 1));
    lab.ip_in("gw", &format!("link set lan0 mtu {MAX_MTU}"));
    let workers = open(&lab, &options(1));
    assert!(matches!(refusal(&options(1)), AfXdpError::QueueBusy { queue: 0, .. }));
    drop(workers);
    drop(open(&lab, &options(1)));
    let powerless = lab.within("gw", || {
        let none = rustix::thread::CapabilitySet::empty();
        let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).expect("to give up privileges");
        AfXdpIo::open(&options(1))
    });
    assert!(matches!(powerless, Err(AfXdpError::NotPermitted)), "{powerless:?}");
}
