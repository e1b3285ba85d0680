//! Datagrams in numbers: sent at a rate, and counted where they arrive.

use std::net::{SocketAddr, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::error::{LabError, Result};
use crate::namespace::Namespace;

/// Room for datagrams while the counting thread waits for its turn on a busy machine, in octets.
const ROOM: usize = 32 << 20;

/// Sends `count` datagrams of `octets` octets from `namespace` to `target`, `rate` a second.
///
/// # Errors
/// If the target cannot be reached.
pub fn send(namespace: &Namespace, target: SocketAddr, count: u32, octets: usize, rate: u32) -> Result<()> {
    let payload = vec![0; octets];
    let pause = Duration::from_secs(1) / rate;
    let work = || {
        let socket = UdpSocket::bind(any(target))?;
        socket.connect(target)?;
        let start = Instant::now();
        for number in 0..count {
            std::thread::sleep((pause * number).saturating_sub(start.elapsed()));
            socket.send(&payload)?;
        }
        Ok(())
    };
    namespace.run(work)?.map_err(LabError::io(format!("send datagrams to {target}")))
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
        let prepare = || {
            let socket = UdpSocket::bind(address)?;
            set_socket_recv_buffer_size_force(&socket, ROOM)?;
            socket.set_read_timeout(Some(patience))?;
            Ok(socket)
        };
        let socket = namespace.run(prepare)?.map_err(LabError::io(format!("listen on {address}")))?;
        Ok(Self(std::thread::spawn(move || count(&socket, wanted))))
    }

    /// How many came.
    pub fn finish(self) -> u32 {
        self.0.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn count(socket: &UdpSocket, wanted: u32) -> u32 {
    let mut buffer = [0; 2048];
    (0..wanted).take_while(|_| socket.recv(&mut buffer).is_ok()).count() as u32
}

/// Any address and port of the target's family.
fn any(target: SocketAddr) -> SocketAddr {
    let text = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    text.parse().unwrap_or(target)
}
