//! The data plane's end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pcap_file::DataLink;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::protocol::{CaptureRequest, Refusal, Request, VERSION};

/// Octets of one request at most.
const LONGEST_REQUEST: u64 = 65_536;
/// Connections at one time.
const CLIENTS: usize = 16;
/// How long a client may take to send the rest of a request, or to read an answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds that one capture may last at most.
const LONGEST_CAPTURE: u64 = 86_400;

/// What carries requests out.
pub trait Handler: Send + Sync + 'static {
    /// Carries one request out; [`Request::Capture`] goes to [`capture`](Self::capture) instead.
    ///
    /// # Errors
    /// A [`Refusal`]; then nothing has changed.
    fn handle(&self, request: &Request) -> Result<Value, Refusal>;

    /// Starts a capture.
    ///
    /// # Errors
    /// A [`Refusal`], for example because one is running already.
    fn capture(&self, request: &CaptureRequest) -> Result<Box<dyn Captures>, Refusal>;
}

/// A running capture; it ends when dropped.
pub trait Captures {
    /// The next packet, if there is one now.
    fn next(&mut self) -> Option<CapturedFrame>;
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedFrame {
    /// When it passed.
    pub at: SystemTime,
    /// From the Ethernet header on.
    pub octets: Box<[u8]>,
}

/// Why the socket cannot be served.
#[derive(Debug, Error)]
pub enum ServerError {
    /// Someone listens there.
    #[error("another data plane answers on {0}; stop it first, or give this one a runtime directory of its own")]
    InUse(PathBuf),
    /// The operating system refused.
    #[error("cannot open the control socket {path}: {source}; check that its directory exists and is writable")]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

/// A served socket. Dropping it stops the service and removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `path`, mode 0600, and serves it from threads of its own. A socket that nobody listens on any
    /// more, left by a killed process, is replaced.
    ///
    /// # Errors
    /// [`ServerError`].
    pub fn bind(path: &Path, handler: Arc<dyn Handler>) -> Result<Self, ServerError> {
        let error = |source| ServerError::Io { path: path.to_owned(), source };
        if UnixStream::connect(path).is_ok() {
            return Err(ServerError::InUse(path.to_owned()));
        }
        // Bound aside, restricted, then renamed: at no moment is the socket open to others.
        let aside = path.with_extension("sock.new");
        let _ = std::fs::remove_file(&aside);
        let listener = UnixListener::bind(&aside).map_err(error)?;
        std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600)).map_err(error)?;
        std::fs::rename(&aside, path).map_err(error)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || accept(&listener, &handler, &stopped))
            .map_err(error)?;
        Ok(Self { path: path.to_owned(), stop, thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the listener.
        let _ = UnixStream::connect(&self.path);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

fn accept(listener: &UnixListener, handler: &Arc<dyn Handler>, stop: &Arc<AtomicBool>) {
    let clients = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Ok(stream) = stream else {
            // Out of descriptors, for example: give it time rather than spin.
            std::thread::sleep(Duration::from_millis(50));
            continue;
        };
        let served = Served::new(&clients);
        if served.too_many() {
            let refusal = Refusal::new("busy", "too many control connections are open", "Close some and try again");
            let _ = answer(&stream, &Err(refusal));
            continue;
        }
        let (handler, stop) = (Arc::clone(handler), Arc::clone(stop));
        let _ = std::thread::Builder::new().name("control-client".to_owned()).spawn(move || {
            let _served = served;
            if let Err(error) = serve(stream, handler.as_ref(), &stop) {
                tracing::debug!(%error, "a control connection ended");
            }
        });
    }
}

/// Counts an open connection for as long as it lives.
struct Served(Arc<AtomicUsize>);

impl Served {
    fn new(clients: &Arc<AtomicUsize>) -> Self {
        clients.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(clients))
    }

    fn too_many(&self) -> bool {
        self.0.load(Ordering::Relaxed) > CLIENTS
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn serve(stream: UnixStream, handler: &dyn Handler, stop: &AtomicBool) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    while !stop.load(Ordering::Relaxed) {
        let mut line = Vec::new();
        reader.by_ref().take(LONGEST_REQUEST + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.len() as u64 > LONGEST_REQUEST {
            let refusal = Refusal::new("malformed", "the request is longer than 65,536 octets", "Send less");
            return answer(&stream, &Err(refusal));
        }
        match parse(&line) {
            Ok(Request::Capture(request)) => return capture(stream, handler, &request, stop),
            Ok(request) => answer(&stream, &handler.handle(&request))?,
            Err(refusal) => answer(&stream, &Err(refusal))?,
        }
    }
    Ok(())
}

/// The version is read first, so that a newer client is told of it rather than of a field that we don't know.
fn parse(line: &[u8]) -> Result<Request, Refusal> {
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let malformed = |error: serde_json::Error| {
        Refusal::new("malformed", format!("not a request: {error}"), "See docs/CONTROL.md for what can be asked")
    };
    let mut value: Value = serde_json::from_slice(line).map_err(malformed)?;
    let Versioned { version } = Versioned::deserialize(&value).map_err(malformed)?;
    if version != VERSION {
        return Err(Refusal::new(
            "version",
            format!("the request speaks version {version} of the control protocol, this data plane speaks {VERSION}"),
            "Use the dpctl of the data plane's own release",
        ));
    }
    if let Some(fields) = value.as_object_mut() {
        fields.remove("version");
    }
    Request::deserialize(value).map_err(malformed)
}

fn answer(mut stream: &UnixStream, result: &Result<Value, Refusal>) -> io::Result<()> {
    let value = match result {
        Ok(value) => json!({ "version": VERSION, "ok": value }),
        Err(refusal) => json!({ "version": VERSION, "error": refusal }),
    };
    let mut line = serde_json::to_vec(&value)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn capture(
    stream: UnixStream,
    handler: &dyn Handler,
    request: &CaptureRequest,
    stop: &AtomicBool,
) -> io::Result<()> {
    if request.count == 0 || request.seconds == 0 || request.seconds > LONGEST_CAPTURE {
        let remedy = format!("Ask for at least one packet, and for 1 to {LONGEST_CAPTURE} seconds");
        return answer(&stream, &Err(Refusal::new("refused", "a capture needs bounds", remedy)));
    }
    let mut captures = match handler.capture(request) {
        Ok(captures) => captures,
        Err(refusal) => return answer(&stream, &Err(refusal)),
    };
    answer(&stream, &Ok(json!({ "capture": "pcap follows" })))?;
    let end = Instant::now() + Duration::from_secs(request.seconds);
    let header = PcapHeader { datalink: DataLink::ETHERNET, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(stream.try_clone()?, header).map_err(io::Error::other)?;
    let mut left = request.count;
    while left > 0 && Instant::now() < end && !stop.load(Ordering::Relaxed) {
        let Some(frame) = captures.next() else {
            if is_closed(&stream) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
            continue;
        };
        write_packet(&mut writer, &frame)?;
        left -= 1;
    }
    Ok(())
}

fn write_packet(writer: &mut PcapWriter<UnixStream>, frame: &CapturedFrame) -> io::Result<()> {
    let at = frame.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let length = u32::try_from(frame.octets.len()).unwrap_or(u32::MAX);
    writer.write_packet(&PcapPacket::new(at, length, &frame.octets)).map_err(io::Error::other)?;
    Ok(())
}

/// A client that went away while nothing is captured shows only here.
fn is_closed(mut stream: &UnixStream) -> bool {
    if stream.set_nonblocking(true).is_err() {
        return true;
    }
    let closed = match stream.read(&mut [0; 16]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    };
    closed || stream.set_nonblocking(false).is_err()
}
