//! The serving end.

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

use super::protocol::{Code, Refusal};
use super::service::{Conversation, Next, Service, parse};

/// Connections served at once; one more is told that the server is busy.
pub const MAX_CLIENTS: usize = 16;

/// A request line to the data plane that is longer than this ends its connection.
pub const MAX_REQUEST_OCTETS: usize = 64 * 1024;

/// A client that says nothing for this long is let go.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// A client that does not read for this long is let go.
const WRITE_LIMIT: Duration = Duration::from_secs(5);
/// How often the accepting thread looks whether it should end.
const ACCEPT_TICK: Duration = Duration::from_millis(100);

/// Why there is no control socket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Somebody answers there.
    #[error("{0} is served by another process; stop that daemon or use another runtime_directory")]
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

/// A control socket that nobody serves yet: its clients wait.
#[derive(Debug)]
pub struct BoundSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl BoundSocket {
    /// Listens on `path` (mode 0600). A socket that a dead process left is replaced; one that is answered is not.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        remove_stale(path)?;
        let listener = listen(path).map_err(|source| BindError::System { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), listener })
    }

    /// The socket itself, for who speaks otherwise than in requests and answers.
    pub fn into_listener(self) -> UnixListener {
        self.listener
    }

    /// Begins to serve, in threads of its own.
    ///
    /// # Errors
    /// [`BindError::System`].
    pub fn serve<S: Service>(self, service: Arc<S>) -> Result<Server, BindError> {
        let Self { path, listener } = self;
        let system = |source| BindError::System { path: path.clone(), source };
        let inode = fs::symlink_metadata(&path).map_err(system)?.ino();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let acceptor = thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || accept_all(&listener, &service, &stopped))
            .map_err(system)?;
        Ok(Server { path, inode, stop, acceptor: Some(acceptor) })
    }
}

impl Server {
    /// Listens on `path` (mode 0600). A socket that a dead process left is replaced; one that is answered is not.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind<S: Service>(path: &Path, service: Arc<S>) -> Result<Self, BindError> {
        BoundSocket::bind(path)?.serve(service)
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

fn accept_all<S: Service>(listener: &UnixListener, service: &Arc<S>, stop: &Arc<AtomicBool>) {
    let clients = Arc::new(AtomicUsize::new(0));
    while !stop.load(Ordering::Acquire) {
        wait_readable(listener, ACCEPT_TICK);
        match listener.accept() {
            Ok((stream, _)) => admit(stream, service, stop, &clients),
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

fn admit<S: Service>(
    stream: UnixStream,
    service: &Arc<S>,
    stop: &Arc<AtomicBool>,
    clients: &Arc<AtomicUsize>,
) {
    let seat = Seat(Arc::clone(clients));
    if clients.fetch_add(1, Ordering::AcqRel) >= MAX_CLIENTS {
        let message = format!("{MAX_CLIENTS} clients are connected already");
        let refusal = Refusal::new(Code::Busy, message, "try again when one has left");
        let _ = stream.set_write_timeout(Some(ACCEPT_TICK));
        let _ = Conversation { stream: &stream, stop }.refuse(refusal);
        return;
    }
    let (service, stop) = (Arc::clone(service), Arc::clone(stop));
    let serve = move || {
        let _seat = seat;
        // A client that goes away in the middle is no event.
        let _ = serve(&Conversation { stream: &stream, stop: &stop }, &*service);
    };
    if let Err(error) = thread::Builder::new().name("control-client".to_owned()).spawn(serve) {
        tracing::warn!(%error, "the control socket cannot serve a client");
    }
}

fn serve<S: Service>(client: &Conversation<'_>, service: &S) -> io::Result<()> {
    client.stream.set_nonblocking(false)?;
    client.stream.set_read_timeout(Some(IDLE_LIMIT))?;
    client.stream.set_write_timeout(Some(WRITE_LIMIT))?;
    let mut reader = BufReader::new(client.stream);
    let mut line = Vec::new();
    while !client.is_stopping() {
        line.clear();
        (&mut reader).take(S::MAX_REQUEST_OCTETS as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() != Some(&b'\n') {
            let message = format!("a request is one line of at most {} octets", S::MAX_REQUEST_OCTETS);
            let refusal = Refusal::new(Code::BadRequest, message, "end each request with a newline");
            return client.refuse(refusal).map(drop);
        }
        let next = match parse::<S>(&line) {
            Ok(request) => service.answer(request, client)?,
            Err(refusal) => client.reply::<()>(Err(refusal))?,
        };
        if next == Next::End {
            return Ok(());
        }
    }
    Ok(())
}
