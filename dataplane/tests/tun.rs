//! TUN devices with the kernel's own TCP, UDP and ping on both ends: two gateways' inner sides, joined by a forwarder
//! that copies packets.

mod af_xdp_support;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use af_xdp_support::{Lab, address, eventually, host_mac, own_mac};
use baton_dataplane::io::af_xdp::{AfXdpError, AfXdpIo, AfXdpOptions};
use baton_dataplane::io::socket::SocketOptions;
use baton_dataplane::io::tun::{self, TunError, TunOptions};
use baton_dataplane::io::{Frame, Medium, PacketIo, Side};

const DEVICE: &str = "tun-inner";
const MTU: u32 = 1400;

fn privileged(test: &str) -> bool {
    if !std::path::Path::new("/dev/net/tun").exists() {
        writeln!(std::io::stderr(), "SKIPPED {test}: there is no /dev/net/tun").expect("stderr");
        return false;
    }
    af_xdp_support::privileged(test)
}

fn tun_options() -> TunOptions {
    TunOptions { name: DEVICE.to_owned(), mtu: Some(MTU) }
}

/// Opens a gateway in a namespace of the lab, where `interface` is.
fn open(lab: &Lab, name: &str, interface: &str, options: impl FnOnce(&mut AfXdpOptions)) -> Vec<AfXdpIo> {
    let mut all = AfXdpOptions::new(SocketOptions::new(interface, vec![]), tun_options(), 1);
    options(&mut all);
    lab.within(name, || AfXdpIo::open(&all)).expect("to open the device")
}

/// Two hosts whose only way to each other is by their TUN devices.
struct Ends {
    lab: Lab,
    workers: [Vec<AfXdpIo>; 2],
}

const NAMES: [&str; 2] = ["outer", "inner"];

impl Ends {
    fn new(workers: u16) -> Self {
        let lab = Lab::new(1);
        let interfaces = ["wan0", "lan0"];
        let ends = [0, 1].map(|end| {
            let workers = open(&lab, NAMES[end], interfaces[end], |options| options.workers = workers);
            for address in [format!("192.0.2.{}/24", end + 1), format!("2001:db8::{}/64 nodad", end + 1)] {
                lab.ip_in(NAMES[end], &format!("addr add {address} dev {DEVICE}"));
            }
            workers
        });
        Self { lab, workers: ends }
    }

    /// Packets that the device of an end gave to the kernel and got from it: a super-packet counts as one.
    fn seen_by_kernel(&self, end: usize) -> [u64; 2] {
        let text = self.lab.ip_in(NAMES[end], &format!("-s -j link show {DEVICE}"));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let packets = |way: &str| value[0]["stats64"][way]["packets"].as_u64();
        ["rx", "tx"].map(|way| packets(way).unwrap_or_else(|| panic!("{text}")))
    }

    fn sum(&self, end: usize, name: &str) -> u64 {
        self.workers[end].iter().map(|io| counter(io, Side::Inner, name)).sum()
    }
}

fn counter(io: &AfXdpIo, side: Side, name: &str) -> u64 {
    io.refresh_counters();
    io.counters().read().find(|(of, counter, _)| *of == side && *counter == name).expect("a counter").2
}

/// Copies packets from the inner side of one I/O to that of the other. Returns how many there were.
fn copy(from: &mut AfXdpIo, to: &mut AfXdpIo, batch: &mut Vec<Frame>, longest: &AtomicUsize) -> usize {
    let count = from.receive(Side::Inner, batch);
    let mut copies = Vec::with_capacity(batch.len());
    for frame in batch.drain(..) {
        let packet = from.buffer(&frame)[frame.range()].to_vec();
        longest.fetch_max(packet.len(), Ordering::Relaxed);
        from.release(frame);
        let mut copy = to.allocate().expect("a free frame");
        copy.length = packet.len() as u32;
        let range = copy.range();
        to.buffer(&copy)[range].copy_from_slice(&packet);
        copies.push(copy);
    }
    to.transmit(Side::Inner, &mut copies);
    from.flush();
    to.flush();
    count
}

/// Joins the ends, one thread per worker, while `work` runs. Returns the longest packet.
fn while_joined(ends: &mut Ends, work: impl FnOnce(&Lab)) -> usize {
    let (stop, longest) = (AtomicBool::new(false), AtomicUsize::new(0));
    let [left, right] = &mut ends.workers;
    let lab = &ends.lab;
    thread::scope(|scope| {
        for (a, b) in left.iter_mut().zip(right) {
            let (stop, longest) = (&stop, &longest);
            scope.spawn(move || {
                let mut batch = Vec::with_capacity(32);
                while !stop.load(Ordering::Acquire) {
                    if copy(a, b, &mut batch, longest) + copy(b, a, &mut batch, longest) == 0 {
                        a.wait(Duration::from_micros(200));
                    }
                }
            });
        }
        let work = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(lab)));
        stop.store(true, Ordering::Release);
        work.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
    longest.load(Ordering::Relaxed)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

/// A TCP connection from the first end to the second: what is sent must come back whole.
fn echo_tcp(lab: &Lab, server: IpAddr, octets: usize) {
    let limit = Some(Duration::from_secs(30));
    let listener = lab.within("inner", || TcpListener::bind((server, 7000))).expect("to listen");
    let data = pattern(octets);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().expect("a connection");
            stream.set_read_timeout(limit).expect("a limit");
            let mut received = vec![0; octets];
            stream.read_exact(&mut received).expect("all octets");
            stream.write_all(&received).expect("to send all back");
        });
        let address = SocketAddr::new(server, 7000);
        let stream = lab.within("outer", || TcpStream::connect_timeout(&address, Duration::from_secs(10)));
        let mut stream = stream.expect("to connect");
        stream.set_read_timeout(limit).expect("a limit");
        stream.write_all(&data).expect("to send");
        let mut back = vec![0; octets];
        stream.read_exact(&mut back).expect("all octets back");
        assert!(back == data, "the octets came back changed");
    });
}

/// Lets the kernel divide what is sent by one call into datagrams of this many octets (udp(7)).
#[allow(unsafe_code, reason = "no safe wrapper has this option")]
fn set_udp_segment(socket: &UdpSocket, octets: i32) {
    let length = size_of::<i32>() as libc::socklen_t;
    let value = (&raw const octets).cast();
    // SAFETY: the kernel reads one integer.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, value, length) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Sends 20 datagrams by one call, which the kernel leaves to the device to divide.
fn segmented_udp(lab: &Lab, server: IpAddr) {
    let receiver = lab.within("inner", || UdpSocket::bind((server, 7001))).expect("to bind");
    receiver.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    let any: IpAddr = if server.is_ipv4() { address("0.0.0.0") } else { address("::") };
    let sender = lab.within("outer", || UdpSocket::bind((any, 0))).expect("to bind");
    set_udp_segment(&sender, 1000);
    let data = pattern(19_500);
    assert_eq!(sender.send_to(&data, (server, 7001)).expect("to send"), data.len());
    for piece in data.chunks(1000) {
        let mut datagram = [0; 2000];
        let length = receiver.recv(&mut datagram).expect("a datagram");
        assert_eq!(&datagram[..length], piece);
    }
}

#[test]
fn ping_tcp_and_udp_pass_both_ways_in_packets_that_fit() {
    if !privileged("ping_tcp_and_udp_pass_both_ways_in_packets_that_fit") {
        return;
    }
    let mut ends = Ends::new(2);
    let [v4, v6] = ["192.0.2.2", "2001:db8::2"].map(address);
    let longest = while_joined(&mut ends, |lab| {
        for server in [v4, v6] {
            lab.run_in("outer", "ping", &format!("-c 3 -i 0.05 -W 2 -s 1000 {server}"));
            echo_tcp(lab, server, 8 << 20);
            segmented_udp(lab, server);
        }
    });
    assert_eq!(longest, MTU as usize, "full packets, and none longer");
    for end in 0..2 {
        let [given, taken] = ends.seen_by_kernel(end);
        let (transmitted, received) = (ends.sum(end, "transmitted"), ends.sum(end, "received"));
        assert!(received > 2 * taken, "{received} packets of {taken}: the kernel left little to segment");
        assert!(transmitted > 2 * given, "{transmitted} packets in {given}: little was joined");
        let lost =
            |io: &AfXdpIo| ["fill-ring-empty", "receive-dropped"].map(|name| counter(io, Side::Inner, name));
        assert!(ends.workers[end].iter().all(|io| lost(io) == [0, 0]), "packets were lost");
        let census = ends.workers[end][0].census();
        assert!(
            census.is_none_or(|census| census.user == 0 && census.fill == 0),
            "frames are missing: {census:?}"
        );
    }
}

/// New devices get no IPv6, so that the kernel sends nothing of its own.
fn without_ipv6(lab: &Lab) {
    let path = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    lab.within("gw", || std::fs::write(path, "1")).expect("to disable IPv6");
}

#[test]
fn packets_without_a_free_frame_are_counted_by_segment() {
    if !privileged("packets_without_a_free_frame_are_counted_by_segment") {
        return;
    }
    let lab = Lab::new(1);
    without_ipv6(&lab);
    let mut workers = open(&lab, "gw", "wan0", |options| options.frames = Some(4));
    lab.ip_in("gw", &format!("addr add 192.0.2.1/24 dev {DEVICE}"));
    let sender = lab.within("gw", || UdpSocket::bind("192.0.2.1:0")).expect("to bind");
    set_udp_segment(&sender, 1000);
    sender.send_to(&[7; 9500], "192.0.2.9:9").expect("to send");
    let io = &mut workers[0];
    let mut batch = Vec::with_capacity(32);
    assert!(eventually(Duration::from_secs(2), || io.receive(Side::Inner, &mut batch) > 0));
    assert_eq!(batch.len(), 4);
    assert_eq!(counter(io, Side::Inner, "fill-ring-empty"), 6);
    // Nothing is free: the next packet is read and counted, or the worker could not sleep.
    sender.send_to(&[7; 2000], "192.0.2.9:9").expect("to send");
    assert!(eventually(Duration::from_secs(2), || {
        io.receive(Side::Inner, &mut batch);
        counter(io, Side::Inner, "fill-ring-empty") == 7
    }));
    // A flood keeps no worker in one call: it would never come to release a frame.
    for _ in 0..100 {
        sender.send_to(&[7; 100], "192.0.2.9:9").expect("to send");
    }
    io.receive(Side::Inner, &mut batch);
    assert_eq!(counter(io, Side::Inner, "fill-ring-empty"), 7 + 32 - 4);
    while counter(io, Side::Inner, "fill-ring-empty") < 107 {
        io.receive(Side::Inner, &mut batch);
    }
    batch.drain(..).for_each(|frame| io.release(frame));
    sender.send_to(&[7; 500], "192.0.2.9:9").expect("to send");
    assert!(eventually(Duration::from_secs(2), || io.receive(Side::Inner, &mut batch) == 1));
    batch.drain(..).for_each(|frame| io.release(frame));
}

#[test]
fn a_batch_that_is_full_leaves_the_other_segments_for_the_next() {
    if !privileged("a_batch_that_is_full_leaves_the_other_segments_for_the_next") {
        return;
    }
    let lab = Lab::new(1);
    let mut workers = open(&lab, "gw", "wan0", |_| {});
    lab.ip_in("gw", &format!("addr add 192.0.2.1/24 dev {DEVICE}"));
    let sender = lab.within("gw", || UdpSocket::bind("192.0.2.1:0")).expect("to bind");
    set_udp_segment(&sender, 100);
    let data = pattern(950);
    sender.send_to(&data, "192.0.2.9:9").expect("to send");
    let io = &mut workers[0];
    let mut batch = Vec::with_capacity(3);
    let mut payload = Vec::new();
    while payload.len() < data.len() {
        // The rest announces itself by no descriptor.
        let start = std::time::Instant::now();
        io.wait(Duration::from_secs(5));
        assert!(start.elapsed() < Duration::from_secs(4), "the worker slept on segments");
        io.receive(Side::Inner, &mut batch);
        for frame in batch.drain(..) {
            let packet = &io.buffer(&frame)[frame.range()];
            // Router solicitations and the like are not what was sent.
            if packet[0] == 0x45 && packet[9] == 17 {
                payload.extend_from_slice(&packet[28..]);
            }
            io.release(frame);
        }
    }
    assert_eq!(payload, data);
}

#[test]
fn the_device_outlives_the_process_and_is_taken_again_until_it_is_removed() {
    if !privileged("the_device_outlives_the_process_and_is_taken_again_until_it_is_removed") {
        return;
    }
    let lab = Lab::new(1);
    lab.within("gw", || tun::prepare(&tun_options())).expect("to make the device");
    lab.ip_in("gw", &format!("addr add 192.0.2.1/24 dev {DEVICE}"));
    lab.ip_in("gw", &format!("route add 10.1.0.0/24 dev {DEVICE}"));
    let is_routed = || lab.ip_in("gw", "route get 10.1.0.5").contains(DEVICE);
    for round in 0..2 {
        let mut workers = open(&lab, "gw", "wan0", |options| options.workers = 2);
        assert_eq!(workers[0].medium(Side::Inner), Medium::Ip);
        assert!(is_routed());
        let sender = lab.within("gw", || UdpSocket::bind("192.0.2.1:0")).expect("to bind");
        sender.send_to(&[round; 64], "10.1.0.5:9").expect("to send");
        let mut batch = Vec::with_capacity(32);
        assert!(eventually(Duration::from_secs(2), || {
            workers
                .iter_mut()
                .map(|io| {
                    let count = io.receive(Side::Inner, &mut batch);
                    let wanted = |io: &mut AfXdpIo, frame: &Frame| {
                        io.buffer(frame)[frame.range()].ends_with(&[round; 64])
                    };
                    let found = batch.iter().any(|frame| wanted(io, frame));
                    batch.drain(..).for_each(|frame| io.release(frame));
                    usize::from(count > 0 && found)
                })
                .sum::<usize>()
                == 1
        }));
        drop(workers);
        // Nobody reads any more, and still nothing takes another way.
        assert!(is_routed(), "the route went with the process");
        let text = lab.ip_in("gw", &format!("link show {DEVICE}"));
        assert!(text.contains(&format!("mtu {MTU}")), "{text}");
    }
    assert!(lab.within("gw", || tun::remove(DEVICE)).expect("to remove"));
    // A process that another test starts holds a copy of the queue for a moment.
    assert!(eventually(Duration::from_secs(2), || !lab
        .within("gw", || tun::remove(DEVICE))
        .expect("to remove")));
    assert!(!lab.ip_in("gw", "link").contains(DEVICE));
}

#[test]
fn a_device_that_is_removed_keeps_no_worker_awake() {
    if !privileged("a_device_that_is_removed_keeps_no_worker_awake") {
        return;
    }
    let lab = Lab::new(1);
    let mut workers = open(&lab, "gw", "wan0", |_| {});
    let io = &mut workers[0];
    lab.ip_in("gw", &format!("link del {DEVICE}"));
    let mut batch = Vec::with_capacity(32);
    while io.receive(Side::Inner, &mut batch) > 0 {
        batch.drain(..).for_each(|frame| io.release(frame));
    }
    let start = std::time::Instant::now();
    for _ in 0..20 {
        io.wait(Duration::from_secs(1));
    }
    assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    let mut lost = vec![io.allocate().expect("a free frame")];
    lost[0].length = 20;
    let range = lost[0].range();
    io.buffer(&lost[0])[range][0] = 0x45;
    io.transmit(Side::Inner, &mut lost);
    assert_eq!(counter(io, Side::Inner, "transmit-refused"), 1);
}

#[test]
fn what_cannot_be_attached_is_refused_with_a_reason() {
    if !privileged("what_cannot_be_attached_is_refused_with_a_reason") {
        return;
    }
    let lab = Lab::new(1);
    let refusal = |name: &str, mtu| {
        let options = TunOptions { name: name.to_owned(), mtu };
        let error = lab.within("gw", || tun::prepare(&options)).expect_err("to be refused");
        println!("{error}");
        error
    };
    assert!(matches!(refusal("lan0", None), TunError::AnotherKind(_)));
    lab.ip_in("gw", "tuntap add single mode tun");
    assert!(matches!(refusal("single", None), TunError::AnotherKind(_)));
    assert!(matches!(refusal("tun%d", None), TunError::Name(_)));
    assert!(matches!(refusal("large", Some(9000)), TunError::MtuTooLarge { mtu: 9000, .. }));
    assert!(matches!(lab.within("gw", || tun::remove("lan0")), Err(TunError::AnotherKind(_))));
    assert!(lab.ip_in("gw", "link").contains("lan0"));
    let both = AfXdpOptions::new("wan0", TunOptions { name: "wan0".to_owned(), mtu: None }, 1);
    assert!(matches!(lab.within("gw", || AfXdpIo::open(&both)), Err(AfXdpError::SameInterface(_))));
    let powerless = lab.within("gw", || {
        let none = rustix::thread::CapabilitySet::empty();
        let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).expect("to give up privileges");
        tun::prepare(&tun_options())
    });
    assert!(matches!(powerless, Err(TunError::NotPermitted(_))), "{powerless:?}");
}

/// Plaintext that a host behind an Ethernet leaves on one side comes out of the device on the other, in the same
/// frames, and back.
#[test]
fn frames_pass_between_af_xdp_and_the_device() {
    if !privileged("frames_pass_between_af_xdp_and_the_device") {
        return;
    }
    let lab = Lab::new(1);
    let options = AfXdpOptions::new("wan0", tun_options(), 1);
    let mut workers = lab.within("gw", || AfXdpIo::open(&options)).expect("to open");
    let _filter = lab.attach(&workers);
    lab.ip_in("gw", &format!("addr add 192.0.2.1/24 dev {DEVICE}"));
    // The filter takes ESP to the gateway's address; what comes out of the device is to another one of ours.
    let esp = |name: &str, own: [u8; 4]| lab.raw_socket(name, af_xdp_support::ESP, own.into());
    let (peer, local) = (esp("outer", [203, 0, 113, 1]), esp("gw", [192, 0, 2, 1]));
    let io = &mut workers[0];
    assert_eq!(Side::ALL.map(|side| io.medium(side)), [Medium::Ethernet, Medium::Ip]);
    let payload = [[0x2a, 0, 0, 1].as_slice(), &pattern(900)].concat();
    let to = std::net::SocketAddrV4::new(af_xdp_support::GATEWAY, 0).into();
    peer.send_to(&payload, &to).expect("to send");
    let mut batch = Vec::with_capacity(4);
    assert!(eventually(Duration::from_secs(2), || io.receive(Side::Outer, &mut batch) > 0));
    for frame in &mut batch {
        (frame.start, frame.length) = (frame.start + 14, frame.length - 14);
        let range = frame.range();
        readdress(&mut io.buffer(frame)[range], [192, 0, 2, 9], [192, 0, 2, 1]);
    }
    io.transmit(Side::Inner, &mut batch);
    io.flush();
    assert_eq!(received(&local), payload);

    local.send_to(&payload, &std::net::SocketAddrV4::new([192, 0, 2, 9].into(), 0).into()).expect("to send");
    assert!(eventually(Duration::from_secs(2), || {
        io.receive(Side::Inner, &mut batch);
        keep_esp(io, &mut batch)
    }));
    for frame in &mut batch {
        let range = frame.range();
        readdress(&mut io.buffer(frame)[range], [192, 0, 2, 1], [203, 0, 113, 1]);
        (frame.start, frame.length) = (frame.start - 14, frame.length + 14);
        let range = frame.range();
        let link = &mut io.buffer(frame)[range];
        link[..6].copy_from_slice(&host_mac(Side::Outer).0);
        link[6..12].copy_from_slice(&own_mac(Side::Outer).0);
        link[12..14].copy_from_slice(&[8, 0]);
    }
    io.transmit(Side::Outer, &mut batch);
    io.flush();
    assert_eq!(received(&peer), payload);
    assert!(eventually(Duration::from_secs(2), || {
        io.flush();
        io.census().is_none_or(|census| census.user == 0 && census.transmit == 0)
    }));
}

fn keep_esp(io: &mut AfXdpIo, batch: &mut Vec<Frame>) -> bool {
    for frame in std::mem::replace(batch, Vec::with_capacity(4)) {
        if io.buffer(&frame)[frame.range()][9] == 50 {
            batch.push(frame);
        } else {
            io.release(frame);
        }
    }
    !batch.is_empty()
}

fn received(mut socket: &socket2::Socket) -> Vec<u8> {
    let mut packet = [0; 2048];
    let length = socket.read(&mut packet).expect("a packet");
    packet[20..length].to_vec()
}

fn readdress(packet: &mut [u8], source: [u8; 4], destination: [u8; 4]) {
    packet[12..16].copy_from_slice(&source);
    packet[16..20].copy_from_slice(&destination);
    packet[10..12].fill(0);
    let checksum = baton_dataplane::packet::checksum::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}
