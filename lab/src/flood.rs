//! Datagrams in numbers: sent as fast as they are counted where they arrive.
//!
//! A sink answers every so many datagrams, and a flood waits when answers are missing: no queue on the way overflows
//! on a machine of any speed, so that a lost datagram is a fault. `tests/kernel/peer.c` does the same in the guest.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::error::{LabError, Result};
use crate::namespace::Namespace;

/// Datagrams that a sink answers with one.
const DATAGRAMS_AN_ANSWER: u32 = 64;
/// Answers that may be outstanding.
const WINDOW: u32 = 4;
/// Room for what may be outstanding, in octets.
const RECEIVE_ROOM: usize = 8 << 20;
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);

/// Sends `count` datagrams of `octets` octets from `namespace` to a sink.
///
/// # Errors
/// If the sink cannot be reached, or stops answering.
pub fn send(namespace: &Namespace, sink: SocketAddr, count: u32, octets: usize) -> Result<()> {
    namespace
        .run(|| flood(sink, count, octets))?
        .map_err(LabError::io(format!("send {count} datagrams to {sink}")))
}

fn flood(sink: SocketAddr, count: u32, octets: usize) -> io::Result<()> {
    let socket = UdpSocket::bind(any(sink))?;
    socket.connect(sink)?;
    socket.set_read_timeout(Some(ANSWER_PATIENCE))?;
    let (payload, mut answers) = (vec![0; octets], 0);
    for sent in 0..count {
        while sent / DATAGRAMS_AN_ANSWER >= answers + WINDOW {
            let late =
                |error| io::Error::other(format!("no answer {answers} after {sent} datagrams: {error}"));
            socket.recv(&mut [0]).map_err(late)?;
            answers += 1;
        }
        socket.send(&payload)?;
    }
    Ok(())
}

/// A counter of datagrams.
#[derive(Debug)]
pub struct Sink(JoinHandle<u32>);

impl Sink {
    /// Counts datagrams to `address` until `wanted` have come, or none has for `patience`.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        wanted: u32,
        patience: Duration,
    ) -> Result<Self> {
        let socket =
            namespace.run(|| UdpSocket::bind(address))?.map_err(LabError::io(format!("bind {address}")))?;
        let ready = socket
            .set_read_timeout(Some(patience))
            .and_then(|()| Ok(set_socket_recv_buffer_size_force(&socket, RECEIVE_ROOM)?));
        ready.map_err(LabError::io("set up a socket"))?;
        Ok(Self(std::thread::spawn(move || count(&socket, wanted))))
    }

    /// How many came.
    pub fn finish(self) -> u32 {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn count(socket: &UdpSocket, wanted: u32) -> u32 {
    for count in 0..wanted {
        // Their number matters, not what is in them.
        let Ok((_, source)) = socket.recv_from(&mut [0]) else { return count };
        if (count + 1) % DATAGRAMS_AN_ANSWER == 0 {
            // A flood that has ended needs no answer; one that misses it says so.
            let _ = socket.send_to(&[0], source);
        }
    }
    wanted
}

/// Any address and port of the other end's family.
fn any(other: SocketAddr) -> SocketAddr {
    if other.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_counts_what_a_flood_sends() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback");
        let address = socket.local_addr().expect("address");
        let counter = std::thread::spawn(move || count(&socket, 5000));
        flood(address, 5000, 64).expect("sent");
        assert_eq!(counter.join().expect("counted"), 5000);
    }
}
