//! Sockets on the loopback interface, on ports of the system's choice.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;

fn open(addresses: &[&str]) -> Sockets {
    let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
    Sockets::open(&Listening { addresses, port: 0, nat_port: 0 }).expect("sockets")
}

/// Everything that arrives at one socket within a second, until there are `wanted`.
fn heard(sockets: &Sockets, number: usize, wanted: usize) -> Vec<(Path, Vec<u8>)> {
    let (mut messages, mut inbox, start) = (Vec::new(), Inbox::new(), Instant::now());
    while messages.len() < wanted && start.elapsed() < Duration::from_secs(1) {
        sockets.receive(number, &mut inbox, 8, |path, octets| messages.push((path, octets.to_vec())));
    }
    messages
}

fn peer(ip: &str) -> UdpSocket {
    let socket = UdpSocket::bind((ip, 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut octets = [0; 100];
    let (length, from) = socket.recv_from(&mut octets).expect("a datagram");
    (octets[..length].to_vec(), from)
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    for (ours, theirs) in [(["127.0.0.2", "127.0.0.3"], "127.0.0.1"), (["::1", "::1"], "::1")] {
        let sockets = open(&[]);
        let number = usize::from(theirs.contains(':')) * 2;
        let port = sockets.bound().nth(number).expect("a socket").port();
        let peer = peer(theirs);
        for local in ours {
            peer.send_to(b"hello", (local, port)).expect("sent");
            let heard = heard(&sockets, number, 1);
            let [(path, octets)] = &heard[..] else { panic!("{heard:?}") };
            let local = SocketAddr::new(local.parse().expect("an address"), port);
            assert_eq!(
                (path.local, path.remote, path.marked),
                (local, peer.local_addr().expect("bound"), false)
            );
            assert_eq!(octets, b"hello");
            sockets.transmit(path, b"welcome").expect("sent");
            assert_eq!(receive(&peer), (b"welcome".to_vec(), local));
        }
    }
}

#[test]
fn the_second_port_has_markers_and_hears_nothing_else() {
    let sockets = open(&["127.0.0.1"]);
    let bound = sockets.bound().nth(1).expect("a socket");
    let peer = peer("127.0.0.1");
    for datagram in [&b"\xff"[..], b"\x12\x34\x56\x78ESP", b"\0\0", b"", b"\0\0\0\0message", b"\0\0\0\0"] {
        peer.send_to(datagram, bound).expect("sent");
    }
    let heard = heard(&sockets, 1, 2);
    let octets: Vec<_> = heard.iter().map(|(_, octets)| octets.as_slice()).collect();
    assert_eq!(octets, [&b"message"[..], b""]);
    let path = heard[0].0;
    assert!(path.marked);
    sockets.transmit(&path, b"answer").expect("sent");
    sockets.keep_alive(&path).expect("sent");
    assert_eq!([receive(&peer).0, receive(&peer).0], [b"\0\0\0\0answer".to_vec(), b"\xff".to_vec()]);
}

#[test]
fn a_round_is_bounded() {
    let sockets = open(&["127.0.0.1"]);
    let bound = sockets.bound().next().expect("a socket");
    let peer = peer("127.0.0.1");
    for number in 0..100_u8 {
        peer.send_to(&[number], bound).expect("sent");
    }
    let (mut seen, mut inbox) = (Vec::new(), Inbox::new());
    let round = sockets.receive(0, &mut inbox, 8, |_, octets| seen.push(octets[0]));
    assert_eq!((round, seen.len()), (Round { messages: 8, ignored: 0, more: true }, 8));
    while sockets.receive(0, &mut inbox, 1000, |_, octets| seen.push(octets[0])).more {}
    assert_eq!(seen, (0..100).collect::<Vec<u8>>());
}

#[test]
fn only_a_port_that_is_lent_is_taken() {
    let ours = open(&["127.0.0.1"]);
    let port = ours.bound().next().expect("a socket").port();
    let again = Listening { addresses: vec!["127.0.0.1".parse().expect("an address")], port, nat_port: 0 };
    assert!(matches!(Sockets::open(&again), Err(SocketsError::InUse(_))), "another IKE daemon's");
    drop(ours);
    // As the data plane holds a port for whoever comes.
    let guard = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("a socket");
    guard.bind(&SocketAddr::from(([0, 0, 0, 0], port)).into()).expect("bound");
    guard.set_reuse_address(true).expect("lent");
    let sockets = Sockets::open(&again).expect("lent ports are to be had");
    peer("127.0.0.1").send_to(b"for the newcomer", ("127.0.0.1", port)).expect("sent");
    assert_eq!(heard(&sockets, 0, 1).len(), 1);
}

#[test]
fn the_kernel_says_where_we_send_from() {
    let routes = Routes::open();
    let source = |peer: &str| routes.source_for(peer.parse().expect("an address"));
    assert_eq!(source("127.0.0.9"), Some("127.0.0.1".parse().expect("an address")));
    assert_eq!(source("::1"), Some("::1".parse().expect("an address")));
    assert_eq!(source("127.0.0.10"), Some("127.0.0.1".parse().expect("an address")));
}
