//! The asking end.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::monitor::Notice;
use super::protocol::{CaptureRequest, MonitorRequest, PROTOCOL_VERSION, Refusal, Request};
use super::service::Daemon;

/// A response line longer than this is not read; the policies of 100,000 tunnels fit.
const MAX_RESPONSE_OCTETS: u64 = 256 << 20;

/// Why a question has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("no {daemon} answers at {path}: {source}; is {} running with this configuration?", daemon.program())]
    NotReachable {
        /// Whom we looked for.
        daemon: Daemon,
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket's permissions forbid it.
    #[error("this user may not use {0}; run as the daemon's user (root)")]
    Permission(PathBuf),
    /// The connection broke, or the answer took too long.
    #[error("the {0} went away or does not answer: {1}; look at its log")]
    Broken(Daemon, #[source] io::Error),
    /// Not an answer of this protocol.
    #[error("the {0}'s answer cannot be read: {1}; use dpctl and the daemon of one release")]
    Protocol(Daemon, String),
    /// The daemon says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    daemon: Daemon,
    stream: BufReader<UnixStream>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    version: u32,
    ok: Option<T>,
    error: Option<Refusal>,
}

impl Client {
    /// Connects to the data plane's socket at `path`; each answer may take `timeout`.
    ///
    /// # Errors
    /// [`ClientError::NotReachable`] and [`ClientError::Permission`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        Self::connect_to(Daemon::DataPlane, path, timeout)
    }

    /// Connects to a daemon's socket at `path`; each answer may take `timeout`.
    ///
    /// # Errors
    /// [`ClientError::NotReachable`] and [`ClientError::Permission`].
    pub fn connect_to(daemon: Daemon, path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            ErrorKind::PermissionDenied => ClientError::Permission(path.to_owned()),
            _ => ClientError::NotReachable { daemon, path: path.to_owned(), source },
        })?;
        let broken = |error| ClientError::Broken(daemon, error);
        stream.set_read_timeout(Some(timeout)).map_err(broken)?;
        stream.set_write_timeout(Some(timeout)).map_err(broken)?;
        Ok(Self { daemon, stream: BufReader::new(stream) })
    }

    /// Asks, and reads the answer of the type that belongs to the request.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal of the daemon is [`ClientError::Refused`].
    pub fn request<T: DeserializeOwned>(&mut self, request: &impl Serialize) -> Result<T, ClientError> {
        self.send(request)?;
        let Some(line) = self.line()? else {
            return Err(self.broken(ErrorKind::UnexpectedEof.into()));
        };
        let envelope: Envelope<T> = serde_json::from_slice(&line).map_err(|e| self.unreadable(&e))?;
        match envelope {
            Envelope { error: Some(refusal), .. } => Err(refusal.into()),
            Envelope { version: PROTOCOL_VERSION, ok: Some(answer), .. } => Ok(answer),
            Envelope { version, .. } => Err(self.unreadable(&format!("version {version}, or no content"))),
        }
    }

    /// Starts a capture; the reader gives a pcap file, and dropping it ends the capture. Reading waits for packets as
    /// long as it takes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn capture(mut self, request: &CaptureRequest) -> Result<impl Read + use<>, ClientError> {
        self.begin(&Request::Capture(request.clone()))?;
        Ok(self.stream)
    }

    /// Begins to listen; each item is what happened, when it happens, and the end comes with an error or with `None`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn monitor(
        self,
        request: &MonitorRequest,
    ) -> Result<impl Iterator<Item = Result<Notice, ClientError>> + use<>, ClientError> {
        self.lines(&Request::Monitor(request.clone()))
    }

    /// Asks for something that is answered by a stream of lines; each item is one, when it comes, and the end comes
    /// with an error or with `None`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn lines<T: DeserializeOwned, R: Serialize>(
        mut self,
        request: &R,
    ) -> Result<impl Iterator<Item = Result<T, ClientError>> + use<T, R>, ClientError> {
        self.begin(request)?;
        Ok(std::iter::from_fn(move || self.next_line().transpose()))
    }

    /// Asks for a stream, whose parts may take as long as they do.
    fn begin(&mut self, request: &impl Serialize) -> Result<(), ClientError> {
        let _: serde_json::Value = self.request(request)?;
        self.stream.get_ref().set_read_timeout(None).map_err(|e| self.broken(e))
    }

    fn next_line<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ClientError> {
        let Some(line) = self.line()? else { return Ok(None) };
        serde_json::from_slice(&line).map(Some).map_err(|e| self.unreadable(&e))
    }

    /// `None` at the end of the stream.
    fn line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(MAX_RESPONSE_OCTETS).read_until(b'\n', &mut line);
        read.map_err(|e| self.broken(e))?;
        Ok((!line.is_empty()).then_some(line))
    }

    fn send(&mut self, request: &impl Serialize) -> Result<(), ClientError> {
        let mut value = serde_json::to_value(request).map_err(|e| self.unreadable(&e))?;
        value["version"] = PROTOCOL_VERSION.into();
        let sent = self.stream.get_mut().write_all(format!("{value}\n").as_bytes());
        sent.map_err(|e| self.broken(e))
    }

    fn broken(&self, error: io::Error) -> ClientError {
        ClientError::Broken(self.daemon, error)
    }

    fn unreadable(&self, error: &impl ToString) -> ClientError {
        ClientError::Protocol(self.daemon, error.to_string())
    }
}
