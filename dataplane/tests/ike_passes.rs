//! An IKE daemon beside the data plane: it gets the IKE messages and nothing else, and reaches its peers, whatever is
//! protected.

mod af_xdp_support;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use af_xdp_support::{GATEWAY, Lab, address, eventually, prefix, privileged};
use baton_dataplane::divert;
use baton_dataplane::io::af_xdp::{AfXdpIo, AfXdpOptions};
use baton_dataplane::io::socket::SocketOptions;
use baton_dataplane::io::{PacketIo, Side};
use baton_dataplane::prohibit;
use rustix::net::netdevice::name_to_index;
use socket2::{Domain, SockFilter, Socket, Type};

const PEER: &str = "203.0.113.1";
const GATEWAY_6: &str = "2001:db8::2";
const PEER_6: &str = "2001:db8::1";

/// A gateway on which everything is protected, its peers' own addresses among it: a full tunnel, seen from either end;
/// and a peer in transport mode.
fn lab() -> Lab {
    let lab = Lab::new(1);
    lab.ip_in("gw", &format!("addr add {GATEWAY_6}/64 dev wan0 nodad"));
    lab.ip_in("outer", &format!("addr add {PEER_6}/64 dev wan0 nodad"));
    for name in ["all", "wan0"] {
        lab.run_in("gw", "sysctl", &format!("-qw net.ipv4.conf.{name}.rp_filter=0"));
    }
    let protected = ["0.0.0.0/0", "::/0", "203.0.113.1/32", "2001:db8::1/128"].map(prefix);
    lab.within("gw", || {
        prohibit::install(&protected).expect("to prohibit");
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
        let index = name_to_index(socket.expect("a socket"), "lan0").expect("lan0");
        divert::install(&protected, index).expect("to divert");
    });
    lab
}

/// An IKE_SA_INIT request (RFC 7296 section 3.1).
fn ike(port: u16) -> Vec<u8> {
    let marker: &[u8] = if port == 4500 { &[0; 4] } else { &[] };
    let spis = [&[7; 8][..], &[0; 8]].concat();
    [marker, &spis, &[33, 0x20, 34, 0x08, 0, 0, 0, 0, 0, 0, 0, 28]].concat()
}

/// ESP in UDP.
fn esp() -> Vec<u8> {
    [&0x2a00_0001_u32.to_be_bytes()[..], &[1; 60]].concat()
}

fn udp(lab: &Lab, name: &str, local: SocketAddr, is_shared: bool, mark: u32) -> UdpSocket {
    let socket = lab.within(name, || {
        let socket = Socket::new(Domain::for_address(local), Type::DGRAM, None).expect("a socket");
        if local.is_ipv6() {
            socket.set_only_v6(true).expect("IPv6 alone");
        }
        socket.set_reuse_address(is_shared).expect("to share");
        socket.set_mark(mark).expect("to mark");
        socket.bind(&local.into()).expect("to bind");
        socket
    });
    socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a limit");
    socket.into()
}

/// A socket filter for port 4500: what begins, behind the UDP header, with four octets of zero (RFC 3948 section 2.2).
fn marked_only() -> [SockFilter; 4] {
    let code = |parts: &[u32]| parts.iter().sum::<u32>() as u16;
    let (load_word, if_equal) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ);
    [
        SockFilter::new(code(&[load_word]), 0, 0, 8),
        SockFilter::new(code(&[if_equal]), 0, 1, 0),
        SockFilter::new(code(&[libc::BPF_RET]), 0, 0, u32::MAX),
        SockFilter::new(code(&[libc::BPF_RET]), 0, 0, 0),
    ]
}

/// The daemon's socket.
fn daemon(lab: &Lab, local: SocketAddr, is_shared: bool) -> UdpSocket {
    let socket = udp(lab, "gw", local, is_shared, prohibit::MARK);
    if local.port() == 4500 {
        socket2::SockRef::from(&socket).attach_filter(&marked_only()).expect("to filter");
    }
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
    (buffer[..length].to_vec(), from)
}

/// How many packets a worker has received.
fn taken(worker: &mut AfXdpIo) -> usize {
    let mut batch = Vec::with_capacity(64);
    let count = worker.receive(Side::Outer, &mut batch);
    batch.drain(..).for_each(|frame| worker.release(frame));
    count
}

/// A request comes to the daemon, its answer goes back, and ESP on the same port is the data plane's.
fn converse(lab: &Lab, worker: &mut AfXdpIo, daemon: &UdpSocket, (gateway, peer): (IpAddr, IpAddr)) {
    let port = daemon.local_addr().expect("bound").port();
    let wire = udp(lab, "outer", SocketAddr::new(peer, port), false, 0);
    for _ in 0..3 {
        wire.send_to(&ike(port), (gateway, port)).expect("to send");
        let (request, from) = receive(daemon);
        assert_eq!((request, from), (ike(port), SocketAddr::new(peer, port)));
        daemon.send_to(b"an answer", from).expect("a way past what is protected");
        assert_eq!(receive(&wire), (b"an answer".to_vec(), SocketAddr::new(gateway, port)));
    }
    if port != 4500 {
        return;
    }
    wire.send_to(&esp(), (gateway, port)).expect("to send");
    assert!(eventually(Duration::from_secs(5), || taken(worker) == 1), "ESP is the data plane's");
    wire.send_to(&ike(port), (gateway, port)).expect("to send");
    assert_eq!(receive(daemon).0, ike(port), "and not the daemon's");
    assert_eq!(taken(worker), 0, "IKE is not the data plane's");
}

/// All ways to bind, in both IP versions and on both ports.
fn converse_in_all_ways(lab: &Lab, worker: &mut AfXdpIo, is_shared: bool) {
    let ends = [(IpAddr::V4(GATEWAY), address(PEER)), (address(GATEWAY_6), address(PEER_6))];
    for (gateway, peer) in ends {
        let any = if gateway.is_ipv6() { "::" } else { "0.0.0.0" };
        for local in [address(any), gateway] {
            for port in [500, 4500] {
                // An answer from the wildcard has the address that the route wants, which is the gateway's only one.
                let daemon = daemon(lab, SocketAddr::new(local, port), is_shared);
                converse(lab, worker, &daemon, (gateway, peer));
            }
        }
        let unmarked = udp(lab, "gw", SocketAddr::new(gateway, 0), false, 0);
        let wire = udp(lab, "outer", SocketAddr::new(peer, 9), false, 0);
        wire.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit");
        // It is led into the inner device, and would be refused without that.
        let _ = unmarked.send_to(b"in clear", (peer, 9));
        assert!(wire.recv(&mut [0; 9]).is_err(), "what is not the daemon's does not leave");
    }
}

#[test]
fn beside_af_xdp_an_ike_daemon_has_its_messages_and_reaches_its_peers() {
    if !privileged("beside_af_xdp_an_ike_daemon_has_its_messages_and_reaches_its_peers") {
        return;
    }
    let lab = lab();
    let options = AfXdpOptions { ring_size: 256, ..AfXdpOptions::new("wan0", "lan0", 1) };
    let mut workers = lab.within("gw", || AfXdpIo::open(&options)).expect("to open sockets");
    let addresses = vec![IpAddr::V4(GATEWAY), address(GATEWAY_6)];
    let protected = ["0.0.0.0/0", "::/0"].map(|network| (prefix(network), 0)).to_vec();
    let _filter = lab.attach_with(&workers, addresses, protected);
    for is_shared in [false, true] {
        converse_in_all_ways(&lab, &mut workers[0], is_shared);
    }
}

#[test]
fn beside_plain_sockets_an_ike_daemon_has_its_messages_and_reaches_its_peers() {
    if !privileged("beside_plain_sockets_an_ike_daemon_has_its_messages_and_reaches_its_peers") {
        return;
    }
    let lab = lab();
    let outer = SocketOptions::new("wan0", vec![IpAddr::V4(GATEWAY), address(GATEWAY_6)]);
    let options = AfXdpOptions::new(outer, "lan0", 1);
    let mut workers = lab.within("gw", || AfXdpIo::open(&options)).expect("to open sockets");
    // The data plane holds port 4500 for whoever shares it.
    converse_in_all_ways(&lab, &mut workers[0], true);
}
