//! UDP probes: marked packets sent all the time, and an echo that answers them.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{LabError, Result};
use crate::namespace::Namespace;

const ECHO_POLL: Duration = Duration::from_millis(50);

/// Marked datagrams sent at a steady pace until dropped.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    quiet: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Prober {
    /// Sends `marker` and a running number to `target` every `interval`, and counts the answers.
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn start(
        namespace: &Namespace,
        source: SocketAddr,
        target: SocketAddr,
        marker: &[u8],
        interval: Duration,
    ) -> Result<Self> {
        let socket = namespace.run(|| UdpSocket::bind(source))?.map_err(LabError::io("bind"))?;
        socket.set_nonblocking(true).map_err(LabError::io("set nonblocking"))?;
        let (stop, paused, quiet) = (Arc::default(), Arc::default(), Arc::default());
        let (sent, answered) = (Arc::default(), Arc::default());
        let shared = Shared {
            stop: Arc::clone(&stop),
            paused: Arc::clone(&paused),
            quiet: Arc::clone(&quiet),
            sent: Arc::clone(&sent),
            answered: Arc::clone(&answered),
        };
        let marker = marker.to_vec();
        let thread = std::thread::spawn(move || {
            probe(&socket, target, &marker, interval, &shared);
            Ok(())
        });
        Ok(Self { stop, paused, quiet, sent, answered, thread: Some(thread) })
    }

    /// Sends nothing more, and has counted what it sent, but keeps its port: late answers meet no ICMP error.
    pub fn pause(&self) {
        self.paused.store(true, Ordering::Relaxed);
        while !self.quiet.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Datagrams sent so far, and answers received.
    pub fn counts(&self) -> (u64, u64) {
        (self.sent.load(Ordering::Relaxed), self.answered.load(Ordering::Relaxed))
    }

    /// Waits until `more` further answers have come.
    ///
    /// # Errors
    /// If they do not within `timeout`.
    pub fn wait_for_answers(&self, more: u64, timeout: Duration) -> Result<()> {
        let (deadline, wanted) = (Instant::now() + timeout, self.counts().1 + more);
        while self.counts().1 < wanted {
            if Instant::now() > deadline {
                let detail = format!("; (sent, answered) is {:?}", self.counts());
                let what = format!("{more} answers to probes");
                return Err(LabError::Timeout { what, seconds: timeout.as_secs(), detail });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What a prober and its thread share.
struct Shared {
    stop: Arc<AtomicBool>,
    paused: Arc<AtomicBool>,
    quiet: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
}

fn probe(socket: &UdpSocket, target: SocketAddr, marker: &[u8], interval: Duration, shared: &Shared) {
    let Shared { stop, paused, quiet, sent, answered } = shared;
    let mut payload = marker.to_vec();
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        let number = sent.load(Ordering::Relaxed);
        payload.truncate(marker.len());
        payload.extend(number.to_be_bytes());
        if paused.load(Ordering::Relaxed) {
            quiet.store(true, Ordering::Release);
        } else {
            // A refusal (no route, prohibited) is an answer of the network too: keep sending.
            let _ = socket.send_to(&payload, target);
            sent.store(number + 1, Ordering::Relaxed);
        }
        std::thread::sleep(interval);
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            if from == target && buffer[..length].starts_with(marker) {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Sends every datagram back to where it came from, until dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    received: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Answers at `address`.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn start(namespace: &Namespace, address: SocketAddr) -> Result<Self> {
        let socket = namespace.run(|| UdpSocket::bind(address))?.map_err(LabError::io("bind"))?;
        socket.set_read_timeout(Some(ECHO_POLL)).map_err(LabError::io("set timeout"))?;
        let (stop, received): (Arc<AtomicBool>, Arc<AtomicU64>) = (Arc::default(), Arc::default());
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&received));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut buffer) {
                    count.fetch_add(1, Ordering::Relaxed);
                    let _ = socket.send_to(&buffer[..length], from);
                }
            }
        });
        Ok(Self { stop, received, thread: Some(thread) })
    }

    /// Datagrams that have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
