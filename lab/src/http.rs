//! A file server and a download, small enough to trust: HTTP/1.1, GET only.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{Context, SHA256};

use crate::content::{Content, hex};
use crate::error::{LabError, Result};
use crate::namespace::Namespace;

/// A peer that says nothing for so long is given up.
const PATIENCE: Duration = Duration::from_secs(30);
const BUFFER: usize = 256 * 1024;

/// A server of one pseudo-random file in a namespace.
///
/// It answers until the process ends: its only thread waits in accept(2), in a namespace that goes with the lab.
#[derive(Debug)]
pub struct FileServer {
    address: SocketAddr,
}

impl FileServer {
    /// Serves the file (`seed`, `size`) at `address`.
    ///
    /// # Errors
    /// If the address is taken.
    pub fn start(namespace: &Namespace, address: SocketAddr, seed: u64, size: u64) -> Result<Self> {
        let listener = namespace.run(|| TcpListener::bind(address))?.map_err(LabError::io("listen"))?;
        let address = listener.local_addr().map_err(LabError::io("read own address"))?;
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                std::thread::spawn(move || answer(connection, Content::new(seed, size), size));
            }
        });
        Ok(Self { address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

fn answer(mut connection: TcpStream, mut content: Content, size: u64) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(connection.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    lines.take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty())).for_each(drop);
    if !request.starts_with("GET ") {
        return connection.write_all(b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n");
    }
    write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {size}\r\nconnection: close\r\n\r\n")?;
    while let Some(chunk) = content.next_chunk() {
        connection.write_all(chunk)?;
    }
    Ok(())
}

/// What a download brought.
#[derive(Clone, Debug, PartialEq)]
pub struct Downloaded {
    /// Octets of the file.
    pub octets: u64,
    /// SHA-256 of the octets as they arrived, in hex.
    pub sha256: String,
    /// From the connection's first packet to the last octet.
    pub duration: Duration,
}

/// A download in progress.
#[derive(Debug)]
pub struct Download {
    received: Arc<AtomicU64>,
    thread: JoinHandle<Result<Downloaded>>,
}

impl Download {
    /// Starts fetching the file from `server`.
    ///
    /// # Errors
    /// If no thread can be started; the network's failures come out of [`Download::finish`].
    pub fn start(namespace: &Namespace, server: SocketAddr) -> Result<Self> {
        let received = Arc::new(AtomicU64::new(0));
        let progress = Arc::clone(&received);
        let thread = namespace.spawn("download", move || {
            fetch(server, &progress).map_err(LabError::io(format!("download from {server}")))
        })?;
        Ok(Self { received, thread })
    }

    /// Octets received so far.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether it is over, well or badly.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If the connection failed, stalled, or ended early.
    pub fn finish(self) -> Result<Downloaded> {
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn fetch(server: SocketAddr, progress: &AtomicU64) -> std::io::Result<Downloaded> {
    let start = Instant::now();
    let connection = TcpStream::connect_timeout(&server, PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    write!(&connection, "GET / HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\r\n")?;
    let mut body = BufReader::with_capacity(BUFFER, connection);
    let size = read_head(&mut body)?;
    let mut digest = Context::new(&SHA256);
    let mut octets = 0;
    while octets < size {
        let chunk = body.fill_buf()?;
        if chunk.is_empty() {
            return Err(std::io::Error::other(format!(
                "the connection ended after {octets} of {size} octets"
            )));
        }
        digest.update(chunk);
        let length = chunk.len();
        octets += length as u64;
        progress.store(octets, Ordering::Relaxed);
        body.consume(length);
    }
    Ok(Downloaded { octets, sha256: hex(digest.finish().as_ref()), duration: start.elapsed() })
}

/// Reads the status line and the headers; returns the length of the body.
fn read_head(input: &mut impl BufRead) -> std::io::Result<u64> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if input.by_ref().take(4096).read_line(&mut head)? == 0 || head.len() > 16_384 {
            return Err(std::io::Error::other("the server's answer is not HTTP"));
        }
    }
    let ok = head.starts_with("HTTP/1.1 200 ");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length = length.filter(|_| ok).and_then(|length| length.trim().parse().ok());
    length.ok_or_else(|| std::io::Error::other("the server did not answer 200 with a length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_has_the_checksum_of_the_file() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("address");
        let server = std::thread::spawn(move || {
            let (connection, _) = listener.accept().expect("connection");
            answer(connection, Content::new(7, 1_000_003), 1_000_003)
        });
        let progress = AtomicU64::new(0);
        let downloaded = fetch(address, &progress).expect("downloaded");
        server.join().expect("server").expect("answered");
        assert_eq!((downloaded.octets, progress.into_inner()), (1_000_003, 1_000_003));
        assert_eq!(downloaded.sha256, Content::new(7, 1_000_003).sha256());
    }
}
