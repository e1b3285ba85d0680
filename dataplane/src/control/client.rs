//! The asking end.

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use super::monitor::Notice;
use super::protocol::{CaptureRequest, MonitorRequest, PROTOCOL_VERSION, Refusal, Request};

/// A response line longer than this is not read; the policies of 100,000 tunnels fit.
const MAX_RESPONSE_OCTETS: u64 = 256 << 20;

/// Why a question has no answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("no data plane answers at {path}: {source}; is baton-dataplane running with this configuration?")]
    NotReachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The socket's permissions forbid it.
    #[error("this user may not use {0}; run as the user of the data plane (root)")]
    Permission(PathBuf),
    /// The connection broke, or the answer took too long.
    #[error("the data plane went away or does not answer: {0}; look at its log")]
    Broken(#[from] io::Error),
    /// Not an answer of this protocol.
    #[error("the data plane's answer cannot be read: {0}; use dpctl and baton-dataplane of one release")]
    Protocol(String),
    /// The data plane says no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A connection to a data plane.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    version: u32,
    ok: Option<T>,
    error: Option<Refusal>,
}

impl Client {
    /// Connects to the socket at `path`; each answer may take `timeout`.
    ///
    /// # Errors
    /// [`ClientError::NotReachable`] and [`ClientError::Permission`].
    pub fn connect(path: &Path, timeout: Duration) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|source| match source.kind() {
            ErrorKind::PermissionDenied => ClientError::Permission(path.to_owned()),
            _ => ClientError::NotReachable { path: path.to_owned(), source },
        })?;
        stream.set_read_timeout(Some(timeout))?;
        stream.set_write_timeout(Some(timeout))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    /// Asks, and reads the answer of the type that belongs to the request.
    ///
    /// # Errors
    /// [`ClientError`]; a refusal of the data plane is [`ClientError::Refused`].
    pub fn request<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        self.send(request)?;
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_RESPONSE_OCTETS).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        let protocol = |e: serde_json::Error| ClientError::Protocol(e.to_string());
        let envelope: Envelope<T> = serde_json::from_slice(&line).map_err(protocol)?;
        match envelope {
            Envelope { error: Some(refusal), .. } => Err(refusal.into()),
            Envelope { version: PROTOCOL_VERSION, ok: Some(answer), .. } => Ok(answer),
            Envelope { version, .. } => {
                Err(ClientError::Protocol(format!("version {version}, or no content")))
            }
        }
    }

    /// Starts a capture; the reader gives a pcap file, and dropping it ends the capture. Reading waits for packets as
    /// long as it takes.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn capture(mut self, request: &CaptureRequest) -> Result<impl Read + use<>, ClientError> {
        let _: serde_json::Value = self.request(&Request::Capture(request.clone()))?;
        self.stream.get_ref().set_read_timeout(None)?;
        Ok(self.stream)
    }

    /// Begins to listen; each item is what happened, when it happens, and the end comes with an error or with `None`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn monitor(
        mut self,
        request: &MonitorRequest,
    ) -> Result<impl Iterator<Item = Result<Notice, ClientError>> + use<>, ClientError> {
        let _: serde_json::Value = self.request(&Request::Monitor(request.clone()))?;
        self.stream.get_ref().set_read_timeout(None)?;
        Ok(std::iter::from_fn(move || self.next_notice().transpose()))
    }

    fn next_notice(&mut self) -> Result<Option<Notice>, ClientError> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_RESPONSE_OCTETS).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&line).map(Some).map_err(|e| ClientError::Protocol(e.to_string()))
    }

    fn send(&mut self, request: &Request) -> Result<(), ClientError> {
        let protocol = |e: serde_json::Error| ClientError::Protocol(e.to_string());
        let mut value = serde_json::to_value(request).map_err(protocol)?;
        value["version"] = PROTOCOL_VERSION.into();
        Ok(self.stream.get_mut().write_all(format!("{value}\n").as_bytes())?)
    }
}
