//! What clients would see: datagrams at a steady pace with numbers on them, and a download.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use baton_lab::Namespace;
use baton_lab::site::now;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use crate::stage::Result;

const RECEIVE_ROOM: usize = 8 << 20;
const POLL: Duration = Duration::from_millis(50);
const CONNECT: Duration = Duration::from_secs(20);
/// Of the moments at which a download came on.
const RESOLUTION: Duration = Duration::from_millis(1);

/// How fast a stream is.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// One in this time; several at once, when the machine lets a sender sleep for longer.
    Every(Duration),
    /// As fast as they arrive: so many may be on their way, so that no queue overflows and what is lost was lost by a gateway.
    Window(u64),
}

/// After this time without an arrival a sender at full rate tries another datagram.
const STALLED: Duration = Duration::from_millis(1);

/// Datagrams with running numbers, until dropped.
pub struct Stream {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    arrived: Arc<Mutex<Vec<(Duration, u64)>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Sends datagrams of `octets` octets from `sender` to `target` in `receiver`.
    pub fn start(
        sender: &Namespace,
        receiver: &Namespace,
        target: SocketAddr,
        octets: usize,
        pace: Pace,
    ) -> Result<Self> {
        let into = receiver.run(|| UdpSocket::bind(target))??;
        into.set_read_timeout(Some(POLL))?;
        set_socket_recv_buffer_size_force(&into, RECEIVE_ROOM)?;
        let from = sender.run(|| UdpSocket::bind("0.0.0.0:0"))??;
        let (stop, sent): (Arc<AtomicBool>, Arc<AtomicU64>) = (Arc::default(), Arc::default());
        let arrived: Arc<Mutex<Vec<(Duration, u64)>>> = Arc::default();
        let newest: Arc<AtomicU64> = Arc::default();
        let sending =
            Sending { stop: Arc::clone(&stop), sent: Arc::clone(&sent), newest: Arc::clone(&newest), pace };
        let sending = std::thread::spawn(move || sending.run(&from, target, octets));
        let (ended, kept) = (Arc::clone(&stop), Arc::clone(&arrived));
        let receiving = std::thread::spawn(move || receive(&into, &kept, &newest, &ended));
        Ok(Self { stop, sent, arrived, threads: vec![sending, receiving] })
    }

    /// Datagrams that have arrived.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Duration, u64)>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it: when which number arrived, since the Unix epoch, in the order of arrival; and how many were sent.
    pub fn finish(mut self) -> (Vec<(Duration, u64)>, u64) {
        self.end();
        (std::mem::take(&mut *self.lock()), self.sent.load(Ordering::Relaxed))
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.end();
    }
}

/// What a sender shares with others.
struct Sending {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// The highest number that arrived, plus one.
    newest: Arc<AtomicU64>,
    pace: Pace,
}

impl Sending {
    fn run(&self, socket: &UdpSocket, target: SocketAddr, octets: usize) {
        let mut payload = vec![0x55; octets.max(8)];
        let mut due = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            let number = self.sent.load(Ordering::Relaxed);
            payload[..8].copy_from_slice(&number.to_be_bytes());
            // A full queue of our own is not the network's loss.
            if socket.send_to(&payload, target).is_ok() {
                self.sent.store(number + 1, Ordering::Relaxed);
            }
            match self.pace {
                Pace::Every(time) => {
                    due += time;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                Pace::Window(window) => self.wait_for_room(number + 1, window),
            }
        }
    }

    fn wait_for_room(&self, sent: u64, window: u64) {
        let since = Instant::now();
        while sent >= self.newest.load(Ordering::Relaxed) + window && since.elapsed() < STALLED {
            std::thread::yield_now();
        }
    }
}

fn receive(socket: &UdpSocket, arrived: &Mutex<Vec<(Duration, u64)>>, newest: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    loop {
        match socket.recv(&mut buffer) {
            Ok(8..) => {
                let number = buffer[..8].try_into().map_or(0, u64::from_be_bytes);
                newest.fetch_max(number + 1, Ordering::Relaxed);
                arrived.lock().unwrap_or_else(PoisonError::into_inner).push((now(), number));
            }
            // What is on its way has arrived by then.
            Err(_) if stop.load(Ordering::Relaxed) => return,
            _ => {}
        }
    }
}

/// The longest time in which nothing arrived, of all that ended between two moments; what did not end ends with them.
pub fn longest_gap(arrivals: &[Duration], from: Duration, to: Duration) -> Duration {
    let within = arrivals.iter().copied().filter(|at| *at < to);
    let pauses = within.clone().zip(within.skip(1).chain([to])).filter(|(_, end)| *end >= from);
    pauses.map(|(start, end)| end.saturating_sub(start)).max().unwrap_or(to.saturating_sub(from))
}

/// Numbers that never came, of those between the newest of two moments.
pub fn lost(arrived: &[(Duration, u64)], from: Duration, to: Duration) -> u64 {
    let newest = |by: Duration| arrived.iter().filter(|(at, _)| *at <= by).map(|(_, number)| *number).max();
    let (Some(first), Some(last)) = (newest(from), newest(to)) else { return 0 };
    let came = arrived.iter().filter(|(_, number)| *number > first && *number <= last).count() as u64;
    (last - first).saturating_sub(came)
}

/// A download, and the moments at which it came on.
pub struct Download {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Vec<Duration>>>,
}

impl Download {
    /// Starts fetching from `server` until told to stop.
    pub fn start(client: &Namespace, server: SocketAddr) -> Result<Self> {
        let connection = client.run(|| TcpStream::connect_timeout(&server, CONNECT))??;
        connection.set_read_timeout(Some(POLL))?;
        let stop: Arc<AtomicBool> = Arc::default();
        let ended = Arc::clone(&stop);
        Ok(Self { stop, thread: std::thread::spawn(move || fetch(connection, &ended)) })
    }

    /// Ends it: the moments, to a millisecond, since the Unix epoch.
    pub fn finish(self) -> Result<Vec<Duration>> {
        self.stop.store(true, Ordering::Relaxed);
        let moments = self.thread.join().map_err(|_| "the download's thread died")?;
        Ok(moments?)
    }
}

fn fetch(mut connection: TcpStream, stop: &AtomicBool) -> io::Result<Vec<Duration>> {
    connection.write_all(b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n")?;
    let (mut moments, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    while !stop.load(Ordering::Relaxed) {
        match connection.read(&mut buffer) {
            Ok(0) => break,
            Ok(_) if moments.last().is_none_or(|last| now() > *last + RESOLUTION) => moments.push(now()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(moments)
}
