//! The serving end.

use std::fs;
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::capture::{CaptureNext, CaptureStream, write_header, write_packet};
use super::monitor::{Heard, Listening};
use super::protocol::{
    CaptureRequest, Code, Counters, DummyReport, FreezeReport, MonitorRequest, PROTOCOL_VERSION, Policies,
    PolicyReport, Refusal, ReloadReport, Request, Segments, Status,
};
use crate::config::PolicySpec;

/// Connections served at once; one more is told that the server is busy.
pub const MAX_CLIENTS: usize = 16;

/// A request line longer than this ends its connection.
pub const MAX_REQUEST_OCTETS: usize = 64 * 1024;

/// A client that says nothing for this long is let go.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// A client that does not read for this long is let go.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How often the accepting thread and an idle capture look whether they should end.
const ACCEPT_TICK: Duration = Duration::from_millis(100);
const CAPTURE_TICK: Duration = Duration::from_millis(5);
/// How often a monitor without events looks whether it should end.
const MONITOR_TICK: Duration = Duration::from_millis(100);

/// The data plane's answers. Each is called from a thread of the server, several at once.
///
/// A [`Refusal`] means that nothing was changed.
pub trait Handler: Send + Sync + 'static {
    /// How the data plane is.
    ///
    /// # Errors
    /// A [`Refusal`], as for all of these.
    fn status(&self) -> Result<Status, Refusal>;
    /// All counters.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn counters(&self) -> Result<Counters, Refusal>;
    /// The SPD in use.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn policies(&self) -> Result<Policies, Refusal>;
    /// Ownership of segments.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn segments(&self) -> Result<Segments, Refusal>;
    /// Takes segments: their packets are handled from the return on.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn segment_take(&self, segments: &[u8]) -> Result<Segments, Refusal>;
    /// Drops segments: none of their packets is sent after the return.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn segment_drop(&self, segments: &[u8]) -> Result<Segments, Refusal>;
    /// Reads the configuration again.
    ///
    /// # Errors
    /// A [`Refusal`] with the configuration's problems; the running configuration stays.
    fn reload(&self) -> Result<ReloadReport, Refusal>;
    /// Stops using a tunnel's SAs; no worker uses them when it returns.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn freeze(&self, name: &str) -> Result<FreezeReport, Refusal>;
    /// Uses a tunnel's SAs again.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn thaw(&self, name: &str) -> Result<FreezeReport, Refusal>;
    /// Starts a capture.
    ///
    /// # Errors
    /// [`Code::Busy`] if one runs.
    fn capture(&self, request: &CaptureRequest) -> Result<Box<dyn CaptureStream>, Refusal>;
    /// Installs policies, or replaces those of the same names.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn policy_add(&self, policies: &[PolicySpec]) -> Result<PolicyReport, Refusal>;
    /// Removes policies that were installed that way.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn policy_remove(&self, names: &[String], keep_prohibited: bool) -> Result<PolicyReport, Refusal>;
    /// Sends dummy packets.
    ///
    /// # Errors
    /// A [`Refusal`].
    fn send_dummy(&self, name: &str, count: u32) -> Result<DummyReport, Refusal>;
    /// Begins to listen to what happens.
    ///
    /// # Errors
    /// [`Code::Busy`] if too many do.
    fn monitor(&self, request: &MonitorRequest) -> Result<Listening, Refusal>;
}

/// Why there is no control socket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody answers there.
    #[error("{0} is served by another process; stop that data plane or use another runtime_directory")]
    InUse(PathBuf),
    /// Something else is in the way.
    #[error("{0} exists and is not a socket; remove it or use another runtime_directory")]
    NotASocket(PathBuf),
    /// The system refused.
    #[error("cannot listen on {path}: {source}; check that its directory exists and is writable")]
    System {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A control socket being served; dropping it ends the service and removes the socket.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    inode: u64,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens on `path` (mode 0600). A socket that a dead process left is replaced; one that is answered is not.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: &Path, handler: Arc<dyn Handler>) -> Result<Self, BindError> {
        remove_stale(path)?;
        let system = |source| BindError::System { path: path.to_owned(), source };
        let listener = listen(path).map_err(system)?;
        let inode = fs::symlink_metadata(path).map_err(system)?.ino();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let acceptor = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || accept_all(&listener, &handler, &stopped))
            .map_err(system)?;
        Ok(Self { path: path.to_owned(), inode, stop, acceptor: Some(acceptor) })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        // Not a successor's socket.
        if fs::symlink_metadata(&self.path).is_ok_and(|m| m.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn remove_stale(path: &Path) -> Result<(), BindError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|source| BindError::System { path: path.to_owned(), source })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BindError::System { path: path.to_owned(), source }),
        Ok(_) => Err(BindError::InUse(path.to_owned())),
    }
}

/// The mode is set between `bind` and `listen`: before `listen` nobody can connect.
fn listen(path: &Path) -> io::Result<UnixListener> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    socket.listen(64)?;
    socket.set_nonblocking(true)?;
    Ok(UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

fn accept_all(listener: &UnixListener, handler: &Arc<dyn Handler>, stop: &Arc<AtomicBool>) {
    let clients = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::Acquire) {
        wait_readable(listener, ACCEPT_TICK);
        match listener.accept() {
            Ok((stream, _)) => admit(stream, handler, stop, &clients),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            // No file descriptors left, for instance: do not spin.
            Err(error) => {
                tracing::warn!(%error, "the control socket cannot accept a client");
                thread::sleep(ACCEPT_TICK);
            }
        }
    }
}

fn wait_readable(socket: &impl AsFd, limit: Duration) {
    let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(limit.subsec_nanos()) };
    // A signal or an error only makes the caller look earlier.
    let _ = poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&limit));
}

/// Counts a client for as long as it lives, whatever ends its thread.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn admit(stream: UnixStream, handler: &Arc<dyn Handler>, stop: &Arc<AtomicBool>, clients: &Arc<AtomicUsize>) {
    let seat = Seat(Arc::clone(clients));
    if clients.fetch_add(1, Ordering::AcqRel) >= MAX_CLIENTS {
        let message = format!("{MAX_CLIENTS} clients are connected already");
        let refusal = Refusal::new(Code::Busy, message, "try again when one has left");
        let _ = stream.set_write_timeout(Some(ACCEPT_TICK));
        let _ = respond(&mut &stream, &Answer::<()>::Error(refusal));
        return;
    }
    let (handler, stop) = (Arc::clone(handler), Arc::clone(stop));
    let serve = move || {
        let _seat = seat;
        // A client that goes away in the middle is no event.
        let _ = serve(&stream, &*handler, &stop);
    };
    if let Err(error) = thread::Builder::new().name("control-client".to_owned()).spawn(serve) {
        tracing::warn!(%error, "the control socket cannot serve a client");
    }
}

/// A response line.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Answer<T> {
    Ok(T),
    Error(Refusal),
}

#[derive(Serialize)]
struct Envelope<'a, T> {
    version: u32,
    #[serde(flatten)]
    answer: &'a Answer<T>,
}

fn respond<T: Serialize>(out: &mut impl Write, answer: &Answer<T>) -> io::Result<()> {
    let mut line = serde_json::to_vec(&Envelope { version: PROTOCOL_VERSION, answer })?;
    line.push(b'\n');
    out.write_all(&line)
}

fn serve(stream: &UnixStream, handler: &dyn Handler, stop: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE_LIMIT))?;
    stream.set_write_timeout(Some(WRITE_LIMIT))?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    while !stop.load(Ordering::Acquire) {
        line.clear();
        (&mut reader).take(MAX_REQUEST_OCTETS as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let message = format!("a request is one line of at most {MAX_REQUEST_OCTETS} octets");
            let refusal = Refusal::new(Code::BadRequest, message, "end each request with a newline");
            return respond(&mut &*stream, &Answer::<()>::Error(refusal));
        }
        match parse(&line) {
            Err(refusal) => respond(&mut &*stream, &Answer::<()>::Error(refusal))?,
            Ok(Request::Monitor(request)) => return monitor(stream, handler, &request, stop),
            Ok(Request::Capture(request)) => return capture(stream, handler, &request, stop),
            Ok(request) => dispatch(&mut &*stream, handler, &request)?,
        }
    }
    Ok(())
}

/// A request of this protocol version, or why it is none.
pub(super) fn parse(line: &[u8]) -> Result<Request, Refusal> {
    let bad = |e: serde_json::Error| {
        Refusal::new(Code::BadRequest, format!("not a request: {e}"), "see docs/CONTROL.md for the messages")
    };
    let value: serde_json::Value = serde_json::from_slice(line).map_err(bad)?;
    let serde_json::Value::Object(mut object) = value else {
        return Err(Refusal::new(Code::BadRequest, "a request is a JSON object", "see docs/CONTROL.md"));
    };
    if object.remove("version").and_then(|v| v.as_u64()) != Some(u64::from(PROTOCOL_VERSION)) {
        let message = format!("this data plane speaks version {PROTOCOL_VERSION} of the protocol");
        let remedy = format!("send \"version\":{PROTOCOL_VERSION}, or use the dpctl of the same release");
        return Err(Refusal::new(Code::UnsupportedVersion, message, remedy));
    }
    serde_json::from_value(serde_json::Value::Object(object)).map_err(bad)
}

fn dispatch(out: &mut impl Write, handler: &dyn Handler, request: &Request) -> io::Result<()> {
    match request {
        Request::Status => reply(out, handler.status()),
        Request::Counters => reply(out, handler.counters()),
        Request::Policies => reply(out, handler.policies()),
        Request::Segments => reply(out, handler.segments()),
        Request::SegmentTake { segments } => reply(out, handler.segment_take(segments)),
        Request::SegmentDrop { segments } => reply(out, handler.segment_drop(segments)),
        Request::Reload => reply(out, handler.reload()),
        Request::Freeze { name } => reply(out, handler.freeze(name)),
        Request::Thaw { name } => reply(out, handler.thaw(name)),
        Request::PolicyAdd { policies } => reply(out, handler.policy_add(policies)),
        Request::PolicyRemove { names, keep_prohibited } => {
            reply(out, handler.policy_remove(names, *keep_prohibited))
        }
        Request::SendDummy { name, count } => reply(out, handler.send_dummy(name, *count)),
        // These end their connection, so `serve` handles them.
        Request::Capture(_) | Request::Monitor(_) => Ok(()),
    }
}

fn reply<T: Serialize>(out: &mut impl Write, result: Result<T, Refusal>) -> io::Result<()> {
    respond(out, &result.map_or_else(Answer::Error, Answer::Ok))
}

fn capture(
    stream: &UnixStream,
    handler: &dyn Handler,
    request: &CaptureRequest,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut out = BufWriter::new(stream);
    if !(1..=CaptureRequest::MAX_LIMIT).contains(&request.limit) {
        let message = format!("a capture has 1 to {} packets", CaptureRequest::MAX_LIMIT);
        let refusal = Refusal::new(Code::BadRequest, message, "choose another limit");
        return respond(&mut out, &Answer::<()>::Error(refusal));
    }
    let mut packets = match handler.capture(request) {
        Ok(packets) => packets,
        Err(refusal) => return respond(&mut out, &Answer::<()>::Error(refusal)),
    };
    respond(&mut out, &Answer::Ok(serde_json::Map::new()))?;
    write_header(&mut out)?;
    out.flush()?;
    let mut left = request.limit;
    while left > 0 && !stop.load(Ordering::Acquire) {
        match packets.next() {
            CaptureNext::Packet(packet) => {
                write_packet(&mut out, &packet)?;
                left -= 1;
            }
            CaptureNext::Idle => {
                out.flush()?;
                if has_left(stream, CAPTURE_TICK) {
                    break;
                }
            }
            CaptureNext::End => break,
        }
    }
    out.flush()
}

/// Until the reader goes away, or does not read for [`WRITE_LIMIT`], or is cut off for being too slow.
fn monitor(
    stream: &UnixStream,
    handler: &dyn Handler,
    request: &MonitorRequest,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut out = stream;
    let listening = match handler.monitor(request) {
        Ok(listening) => listening,
        Err(refusal) => return respond(&mut out, &Answer::<()>::Error(refusal)),
    };
    respond(&mut out, &Answer::Ok(serde_json::Map::new()))?;
    while !stop.load(Ordering::Acquire) && !has_left(stream, Duration::ZERO) {
        match listening.next(MONITOR_TICK) {
            Heard::Line(line) => out.write_all(line.as_bytes())?,
            Heard::Silence => {}
            Heard::End => break,
        }
    }
    Ok(())
}

/// Waits a moment and says whether a reader is gone (it has nothing to say, so whatever it sends or its end of file
/// means that).
fn has_left(stream: &UnixStream, moment: Duration) -> bool {
    let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(moment.subsec_nanos()) };
    poll(&mut [PollFd::new(stream, PollFlags::IN)], Some(&limit)).is_ok_and(|ready| ready > 0)
}
