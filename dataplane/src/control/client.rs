//! The asking end of the control socket.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use super::protocol::{Refusal, Request, VERSION};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Octets of one answer at most.
const LONGEST_ANSWER: u64 = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("the data plane does not answer on {path} ({source}); start baton-dataplane, or check runtime_directory")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The connection broke.
    #[error("the connection to the data plane broke: {0}; look into its log, then try again")]
    Broken(#[from] io::Error),
    /// The answer is none.
    #[error("the data plane's answer is not understood ({0}); use the dpctl of its own release")]
    Malformed(String),
    /// The data plane said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`].
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let unreachable = |source| ClientError::Unreachable { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).map_err(unreachable)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(unreachable)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(unreachable)?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        let value = self.ask_value(request)?;
        serde_json::from_value(value).map_err(|error| ClientError::Malformed(error.to_string()))
    }

    /// Asks for a capture ([`Request::Capture`]); what can be read from the result is a pcap stream.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn capture(mut self, request: &Request) -> Result<impl Read, ClientError> {
        self.ask_value(request)?;
        // Until the next packet passes there is nothing to read, however long that takes; the server keeps the bound.
        self.reader.get_ref().set_read_timeout(None)?;
        Ok(self.reader)
    }

    fn ask_value(&mut self, request: &Request) -> Result<Value, ClientError> {
        let malformed = |error: serde_json::Error| ClientError::Malformed(error.to_string());
        let mut value = serde_json::to_value(request).map_err(malformed)?;
        value["version"] = VERSION.into();
        let mut line = serde_json::to_vec(&value).map_err(malformed)?;
        line.push(b'\n');
        self.reader.get_mut().write_all(&line)?;
        let mut answer = Vec::new();
        self.reader.by_ref().take(LONGEST_ANSWER).read_until(b'\n', &mut answer)?;
        if answer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut answer: Value = serde_json::from_slice(&answer).map_err(malformed)?;
        if let Some(error) = answer.get_mut("error") {
            let refusal: Refusal = serde_json::from_value(error.take()).map_err(malformed)?;
            return Err(refusal.into());
        }
        answer.get_mut("ok").map(Value::take).ok_or_else(|| ClientError::Malformed("neither ok nor error".to_owned()))
    }
}
