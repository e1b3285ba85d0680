//! The outer side on plain sockets: a gateway that sends ESP back where it came from, by every way it can come.

mod af_xdp_support;

use std::io::Read as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use af_xdp_support::{GATEWAY, Lab, address, eventually, privileged};
use baton_dataplane::divert;
use baton_dataplane::io::af_xdp::{AfXdpIo, AfXdpOptions, Outer, Waker};
use baton_dataplane::io::socket::{SocketError, SocketOptions};
use baton_dataplane::io::{Frame, Medium, PacketIo, Side};
use baton_dataplane::packet::checksum::checksum;
use baton_dataplane::prefix::Prefix;
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use socket2::{Domain, Protocol, Socket, Type};

const PEER: [u8; 4] = [203, 0, 113, 1];
const GATEWAY_6: &str = "2001:db8::2";
const PEER_6: &str = "2001:db8::1";

struct Gateway {
    lab: Lab,
    workers: Vec<AfXdpIo>,
}

fn options() -> SocketOptions {
    SocketOptions::new("wan0", vec![IpAddr::V4(GATEWAY), address(GATEWAY_6)])
}

fn lab() -> Lab {
    let lab = Lab::new(1);
    lab.ip_in("gw", &format!("addr add {GATEWAY_6}/64 dev wan0 nodad"));
    lab.ip_in("outer", &format!("addr add {PEER_6}/64 dev wan0 nodad"));
    // Neighbours are known, so that the first packets do not wait.
    lab.run_in("outer", "ping", "-c 1 -W 2 203.0.113.2");
    lab.run_in("outer", "ping", &format!("-c 1 -W 2 {GATEWAY_6}"));
    lab
}

fn open(lab: &Lab, workers: u16) -> Vec<AfXdpIo> {
    let options = AfXdpOptions::new(options(), "lan0", workers);
    lab.within("gw", || AfXdpIo::open(&options)).expect("to open sockets")
}

impl Gateway {
    fn new(workers: u16) -> Self {
        let lab = lab();
        let workers = open(&lab, workers);
        Self { lab, workers }
    }

    fn counter(&self, name: &str) -> u64 {
        self.workers.iter().map(|io| counter(io, name)).sum()
    }
}

fn counter(io: &AfXdpIo, name: &str) -> u64 {
    io.refresh_counters();
    io.counters().read().find(|(side, counter, _)| *side == Side::Outer && *counter == name).expect("one").2
}

/// Sends what came back where it came from. Returns how many packets.
fn send_back(io: &mut AfXdpIo, batch: &mut Vec<Frame>) -> usize {
    let count = io.receive(Side::Outer, batch);
    for frame in batch.iter() {
        let range = frame.range();
        turn_round(&mut io.buffer(frame)[range]);
    }
    io.transmit(Side::Outer, batch);
    io.flush();
    count
}

/// Exchanges addresses and ports; sums stay as they are. The hops left are set to 33, to be seen on the other side.
fn turn_round(packet: &mut [u8]) {
    let is_ipv4 = packet[0] >> 4 == 4;
    let (hops, protocol, addresses, length) = if is_ipv4 { (8, 9, 12, 4) } else { (7, 6, 8, 16) };
    packet[hops] = 33;
    let udp = packet[protocol] == 17;
    let (source, destination) = packet[addresses..addresses + 2 * length].split_at_mut(length);
    source.swap_with_slice(destination);
    let transport = addresses + 2 * length;
    if is_ipv4 {
        packet[10..12].fill(0);
        let value = checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&value.to_be_bytes());
    }
    if udp {
        let (source, destination) = packet[transport..transport + 4].split_at_mut(2);
        source.swap_with_slice(destination);
        // The kernel of the peer may have left the sum to its device, so it is made anew.
        let (pseudo, segment) = packet[addresses..].split_at_mut(2 * length);
        segment[6..8].fill(0);
        let mut covered = [&*pseudo, &(segment.len() as u32).to_be_bytes(), &[0, 0, 0, 17]].concat();
        covered.extend_from_slice(segment);
        segment[6..8].copy_from_slice(&checksum(&covered).to_be_bytes());
    }
}

struct Stop<'a>(&'a AtomicBool, Vec<Waker>);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.iter().for_each(Waker::wake);
    }
}

fn while_sending_back<T>(gateway: &mut Gateway, work: impl FnOnce(&Lab) -> T) -> T {
    let stop = AtomicBool::new(false);
    let wakers = gateway.workers.iter().map(AfXdpIo::waker).collect();
    let lab = &gateway.lab;
    thread::scope(|scope| {
        for io in &mut gateway.workers {
            let stop = &stop;
            scope.spawn(move || {
                let mut batch = Vec::with_capacity(64);
                while !stop.load(Ordering::Acquire) {
                    if send_back(io, &mut batch) == 0 {
                        io.wait(Duration::from_secs(1));
                    }
                }
            });
        }
        let _stop = Stop(&stop, wakers);
        work(lab)
    })
}

/// A socket on the peer that sends and receives ESP of one IP version.
fn peer_esp(lab: &Lab, own: IpAddr) -> Socket {
    let domain = Domain::for_address(SocketAddr::new(own, 0));
    let socket = lab.within("outer", || {
        let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(50))).expect("a raw socket");
        socket.bind(&SocketAddr::new(own, 0).into()).expect("to bind");
        socket
    });
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 64 << 20).expect("a large buffer");
    socket
}

fn esp(spi: u32, number: u32, length: usize) -> Vec<u8> {
    let mut octets = [spi.to_be_bytes(), number.to_be_bytes()].concat();
    octets.extend((0..length).map(|i| (i as u32 ^ number) as u8));
    octets
}

fn receive(mut socket: &Socket) -> Vec<u8> {
    let mut packet = vec![0; 4096];
    let length = socket.read(&mut packet).expect("a packet came back");
    packet.truncate(length);
    packet
}

#[test]
fn esp_of_both_versions_comes_back_unchanged_with_its_traffic_class() {
    if !privileged("esp_of_both_versions_comes_back_unchanged_with_its_traffic_class") {
        return;
    }
    let mut gateway = Gateway::new(1);
    assert_eq!(Side::ALL.map(|side| gateway.workers[0].medium(side)), [Medium::Ip, Medium::Ethernet]);
    while_sending_back(&mut gateway, |lab| {
        let v4 = peer_esp(lab, PEER.into());
        let to = SocketAddr::new(GATEWAY.into(), 0).into();
        for ecn in 0..4 {
            v4.set_tos_v4(0xb8 | ecn).expect("a traffic class");
            let sent = esp(7, ecn, 1300 + ecn as usize);
            v4.send_to(&sent, &to).expect("to send");
            let packet = receive(&v4);
            assert_eq!((u32::from(packet[1]), packet[8]), (0xb8 | ecn, 33), "traffic class, hops left");
            assert_eq!(checksum(&packet[..20]), 0);
            assert_eq!(&packet[20..], sent);
        }
        let (v6, wire) = (peer_esp(lab, address(PEER_6)), peer_wire(lab));
        let to = SocketAddr::new(address(GATEWAY_6), 0).into();
        for ecn in 0..4 {
            v6.set_tclass_v6(0x28 | ecn).expect("a traffic class");
            let sent = esp(8, ecn, 1200);
            v6.send_to(&sent, &to).expect("to send");
            let packet = next_sent_back(&wire);
            let class = u32::from(packet[0] & 15) << 4 | u32::from(packet[1]) >> 4;
            assert_eq!(class, 0x28 | ecn);
            assert_eq!(&packet[40..], sent);
        }
    });
    assert_eq!((gateway.counter("received"), gateway.counter("transmitted")), (8, 8));
}

/// A socket on the peer that sees whole IPv6 packets, which raw sockets do not.
fn peer_wire(lab: &Lab) -> Socket {
    let every_ipv6 = Protocol::from(i32::from(0x86dd_u16.to_be()));
    let socket = lab.within("outer", || Socket::new(Domain::PACKET, Type::DGRAM, Some(every_ipv6)));
    let socket = socket.expect("a packet socket");
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    socket
}

/// The next packet that the gateway sent back.
fn next_sent_back(wire: &Socket) -> Vec<u8> {
    loop {
        let packet = receive(wire);
        if packet[7] == 33 {
            return packet;
        }
    }
}

#[test]
fn encapsulated_esp_comes_back_and_the_kernel_tells_nobody_that_nobody_is_there() {
    if !privileged("encapsulated_esp_comes_back_and_the_kernel_tells_nobody_that_nobody_is_there") {
        return;
    }
    let mut gateway = Gateway::new(1);
    while_sending_back(&mut gateway, |lab| {
        for (own, to) in [(PEER.into(), GATEWAY.into()), (address(PEER_6), address(GATEWAY_6))] {
            let socket = lab.within("outer", || UdpSocket::bind((own, 4500))).expect("to bind");
            // Connected, it would hear of an unreachable port.
            socket.connect((to, 4500)).expect("to connect");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
            for number in 0..3 {
                // A keepalive and an IKE message that nobody answers.
                socket.send(&[0xff]).expect("no refusal");
                socket.send(&[0; 40]).expect("no refusal");
                let sent = esp(9, number, 600);
                socket.send(&sent).expect("no refusal");
                let mut back = [0; 2000];
                let length = socket.recv(&mut back).expect("the datagram comes back, and no refusal");
                assert_eq!(&back[..length], sent);
            }
        }
    });
    assert_eq!(gateway.counter("received"), 6, "neither IKE nor keepalives are taken");
}

/// ICMP errors that arrive at the peer: "unreachable" of either version and "parameter problem".
fn icmp_errors(lab: &Lab) -> impl Fn() -> usize {
    let open = |domain, protocol| {
        let socket =
            lab.within("outer", || Socket::new(domain, Type::RAW, Some(protocol))).expect("a socket");
        socket.set_nonblocking(true).expect("not to wait");
        socket
    };
    let v4 = open(Domain::IPV4, Protocol::ICMPV4);
    let v6 = open(Domain::IPV6, Protocol::ICMPV6);
    move || {
        let mut packet = [0; 2048];
        let mut count = 0;
        while let Ok(length) = (&v4).read(&mut packet) {
            count += usize::from(length > 20 && packet[20] == 3);
        }
        while let Ok(length) = (&v6).read(&mut packet) {
            count += usize::from(length > 0 && matches!(packet[0], 1 | 4));
        }
        count
    }
}

#[test]
fn esp_is_answered_by_no_icmp_error_while_the_sockets_are_open() {
    if !privileged("esp_is_answered_by_no_icmp_error_while_the_sockets_are_open") {
        return;
    }
    let lab = lab();
    let errors = icmp_errors(&lab);
    let senders = [(PEER.into(), GATEWAY.into()), (address(PEER_6), address(GATEWAY_6))]
        .map(|(own, to)| (peer_esp(&lab, own), SocketAddr::new(to, 0)));
    let send = || {
        for (socket, to) in &senders {
            socket.send_to(&esp(1, 1, 64), &(*to).into()).expect("to send");
        }
    };
    // Without a gateway the kernel does answer: or the test could not fail.
    send();
    let mut seen = 0;
    assert!(eventually(Duration::from_secs(3), || {
        seen += errors();
        seen == 2
    }));
    let mut workers = open(&lab, 1);
    for _ in 0..20 {
        send();
    }
    let mut batch = Vec::with_capacity(64);
    assert!(eventually(Duration::from_secs(3), || {
        workers[0].receive(Side::Outer, &mut batch);
        batch.len() == 40
    }));
    thread::sleep(Duration::from_millis(200));
    assert_eq!(errors(), 0);
    batch.drain(..).for_each(|frame| workers[0].release(frame));
}

#[test]
fn an_ike_daemon_has_the_port_whether_it_comes_before_or_after() {
    if !privileged("an_ike_daemon_has_the_port_whether_it_comes_before_or_after") {
        return;
    }
    let lab = lab();
    let daemon = |any: &str| {
        let any = address(any);
        let socket = lab.within("gw", || {
            let socket = Socket::new(Domain::for_address(SocketAddr::new(any, 0)), Type::DGRAM, None);
            let socket = socket.expect("a socket");
            if any.is_ipv6() {
                socket.set_only_v6(true).expect("IPv6 alone");
            }
            socket.set_reuse_address(true).expect("to share");
            socket.bind(&SocketAddr::new(any, 4500).into()).expect("to bind");
            socket
        });
        socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
        socket
    };
    let hears = |socket: &Socket, to: &str| {
        let any = if to.contains(':') { "::" } else { "0.0.0.0" };
        let peer = lab.within("outer", || UdpSocket::bind((address(any), 0))).expect("to bind");
        let message = [[0; 4].as_slice(), b"an IKE message"].concat();
        peer.send_to(&message, (address(to), 4500)).expect("to send");
        assert_eq!(receive(socket), message);
    };
    let gateway = GATEWAY.to_string();
    for (any, to) in [("0.0.0.0", gateway.as_str()), ("::", GATEWAY_6)] {
        let before = daemon(any);
        let workers = open(&lab, 1);
        hears(&before, to);
        drop((before, workers));
        let _workers = open(&lab, 1);
        hears(&daemon(any), to);
    }
}

const PACKETS: u32 = 3000;

#[test]
fn workers_divide_packets_by_spi_and_lose_none() {
    if !privileged("workers_divide_packets_by_spi_and_lose_none") {
        return;
    }
    let mut gateway = Gateway::new(2);
    while_sending_back(&mut gateway, |lab| {
        let socket = peer_esp(lab, PEER.into());
        let to = SocketAddr::new(GATEWAY.into(), 0).into();
        let mut missing: std::collections::HashSet<_> = (0..PACKETS).collect();
        for first in (0..PACKETS).step_by(100) {
            let burst = first..first + 100;
            for number in burst.clone() {
                socket.send_to(&esp(100 + number % 2, number, 200), &to).expect("to send");
            }
            for _ in burst {
                let packet = receive(&socket);
                let number = u32::from_be_bytes(packet[24..28].try_into().expect("four octets"));
                assert!(missing.remove(&number), "packet {number} came twice");
                assert_eq!(packet[20..], esp(100 + number % 2, number, 200));
            }
        }
        assert!(missing.is_empty());
    });
    let half = u64::from(PACKETS / 2);
    let received: Vec<_> = gateway.workers.iter().map(|io| counter(io, "received")).collect();
    assert_eq!(received, [half, half]);
    assert_eq!(gateway.counter("transmitted"), u64::from(PACKETS));
    let census = gateway.workers[0].census();
    assert!(census.is_none_or(|census| census.user == 0), "frames are missing: {census:?}");
}

#[test]
fn addresses_change_while_workers_run() {
    if !privileged("addresses_change_while_workers_run") {
        return;
    }
    let lab = lab();
    lab.ip_in("gw", "addr add 203.0.113.77/24 dev wan0");
    let mut workers = open(&lab, 1);
    let io = &mut workers[0];
    let socket = peer_esp(&lab, PEER.into());
    let mut batch = Vec::with_capacity(64);
    let mut taken = |io: &mut AfXdpIo, last: u8| {
        socket.send_to(&esp(1, 1, 64), &SocketAddr::from(([203, 0, 113, last], 0)).into()).expect("to send");
        let limit = Duration::from_millis(300);
        let taken = eventually(limit, || io.receive(Side::Outer, &mut batch) > 0);
        batch.drain(..).for_each(|frame| io.release(frame));
        taken
    };
    assert!(taken(io, 2) && !taken(io, 77));
    let filter = io.outer_filter().expect("a filter");
    filter.set_addresses(&[[203, 0, 113, 77].into()]).expect("to change the filter");
    assert!(!taken(io, 2) && taken(io, 77));
    filter.set_addresses(&[]).expect("to change the filter");
    assert!(taken(io, 2) && taken(io, 77));
}

fn frame_of(io: &mut AfXdpIo, packet: &[u8]) -> Frame {
    let mut frame = io.allocate().expect("a free frame");
    frame.length = packet.len() as u32;
    let range = frame.range();
    io.buffer(&frame)[range].copy_from_slice(packet);
    frame
}

fn packet_to(destination: IpAddr, length: usize) -> Vec<u8> {
    let mut packet = vec![0; length];
    match destination {
        IpAddr::V4(to) => {
            packet[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 7, 0x40, 0, 64, 50, 0, 0]);
            packet[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            packet[12..16].copy_from_slice(&GATEWAY.octets());
            packet[16..20].copy_from_slice(&to.octets());
        }
        IpAddr::V6(to) => {
            packet[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 50, 33]);
            packet[4..6].copy_from_slice(&((length - 40) as u16).to_be_bytes());
            packet[8..24].copy_from_slice(&GATEWAY_6.parse::<Ipv6Addr>().expect("an address").octets());
            packet[24..40].copy_from_slice(&to.octets());
        }
    }
    packet
}

#[test]
fn icmp_errors_about_esp_arrive() {
    if !privileged("icmp_errors_about_esp_arrive") {
        return;
    }
    let lab = lab();
    let mut workers = open(&lab, 1);
    let io = &mut workers[0];
    // Nobody at the peer speaks ESP: its kernel says so.
    let mut batch: Vec<_> = [packet_to(PEER.into(), 100), packet_to(address(PEER_6), 100)]
        .iter()
        .map(|packet| frame_of(io, packet))
        .collect();
    batch.reserve(64);
    io.transmit(Side::Outer, &mut batch);
    assert!(eventually(Duration::from_secs(3), || {
        io.receive(Side::Outer, &mut batch);
        batch.len() == 2
    }));
    for frame in batch.drain(..) {
        let packet = &io.buffer(&frame)[frame.range()];
        let what = if packet[0] >> 4 == 4 {
            [packet[9], packet[20], packet[37]]
        } else {
            [packet[6], packet[40], packet[54]]
        };
        assert!(matches!(what, [1, 3, 50] | [58, 4, 50]), "{what:?}");
        io.release(frame);
    }
    // About ICMP itself the kernel hears alone.
    lab.run_in("outer", "ping", "-c 2 -i 0.05 -W 2 203.0.113.2");
    assert_eq!(io.receive(Side::Outer, &mut batch), 0);
}

/// One packet that the kernel refuses costs none of those around it.
#[test]
fn what_cannot_be_sent_is_counted_alone() {
    if !privileged("what_cannot_be_sent_is_counted_alone") {
        return;
    }
    let mut gateway = Gateway::new(1);
    gateway.lab.ip_in("gw", "route add prohibit 10.1.0.0/24");
    let (v4, wire) = (peer_esp(&gateway.lab, PEER.into()), peer_wire(&gateway.lab));
    let io = &mut gateway.workers[0];
    let peer = IpAddr::from(PEER);
    let mut batch: Vec<_> = [
        packet_to(peer, 100),
        packet_to([10, 1, 0, 5].into(), 100),
        packet_to(address(PEER_6), 1000),
        packet_to(address("2001:db9::1"), 1000),
        packet_to(peer, 1501),
        vec![0x45; 19],
        vec![0x60; 39],
        vec![0x15; 100],
        packet_to(peer, 1500),
    ]
    .iter()
    .map(|packet| frame_of(io, packet))
    .collect();
    io.transmit(Side::Outer, &mut batch);
    assert!(batch.is_empty());
    assert_eq!([100, 1500], [receive(&v4).len(), receive(&v4).len()]);
    assert_eq!(next_sent_back(&wire).len(), 1000);
    let counts = ["transmitted", "transmit-refused", "transmit-invalid"].map(|name| gateway.counter(name));
    assert_eq!(counts, [3, 3, 3]);
    let census = gateway.workers[0].census();
    assert!(census.is_none_or(|census| census.user == 0), "frames are missing: {census:?}");
}

/// A peer within the network that it protects: ESP to it must not be led into the TUN device, where it came from.
#[test]
fn esp_passes_by_the_routes_that_lead_protected_traffic_into_a_device() {
    if !privileged("esp_passes_by_the_routes_that_lead_protected_traffic_into_a_device") {
        return;
    }
    let mut gateway = Gateway::new(1);
    let everything: Vec<Prefix> = ["0.0.0.0/0", "::/0"].map(|text| text.parse().expect("a prefix")).to_vec();
    gateway.lab.within("gw", || {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
        let index = rustix::net::netdevice::name_to_index(socket.expect("a socket"), "lan0").expect("lan0");
        divert::install(&everything, index).expect("to install");
    });
    let (v4, wire) = (peer_esp(&gateway.lab, PEER.into()), peer_wire(&gateway.lab));
    let io = &mut gateway.workers[0];
    let packets = [packet_to(PEER.into(), 100), packet_to(address(PEER_6), 1000)];
    let mut batch: Vec<_> = packets.iter().map(|packet| frame_of(io, packet)).collect();
    io.transmit(Side::Outer, &mut batch);
    assert_eq!((receive(&v4).len(), next_sent_back(&wire).len()), (100, 1000));
    gateway.lab.within("gw", divert::remove).expect("to remove");
}

#[test]
fn net_raw_and_net_admin_are_enough_and_less_is_refused() {
    if !privileged("net_raw_and_net_admin_are_enough_and_less_is_refused") {
        return;
    }
    let lab = lab();
    let open_with = |set: CapabilitySet| {
        let tun = baton_dataplane::io::tun::TunOptions { name: "tun-inner".to_owned(), mtu: None };
        let options = AfXdpOptions::new(options(), tun, 2);
        lab.within("gw", || {
            let sets = CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
            set_capabilities(None, sets).expect("to give up privileges");
            AfXdpIo::open(&options).map(|workers| workers.len()).map_err(|error| error.to_string())
        })
    };
    assert_eq!(open_with(CapabilitySet::NET_RAW | CapabilitySet::NET_ADMIN), Ok(2));
    let refusal = open_with(CapabilitySet::NET_ADMIN).expect_err("to be refused");
    assert!(refusal.contains("CAP_NET_RAW"), "{refusal}");
    let absent = AfXdpOptions::new(Outer::Sockets(SocketOptions::new("wan7", vec![])), "lan0", 1);
    let error = lab.within("gw", || AfXdpIo::open(&absent)).expect_err("to be refused");
    assert!(error.to_string().contains("no interface `wan7`"), "{error}");
    let no_interface = SocketError::NoSuchInterface("wan7".to_owned());
    assert_eq!(error.to_string(), no_interface.to_string());
}
