//! A client of a gateway's control socket (docs/CONTROL.md), for what must not wait for a process to start.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::error::{LabError, Result};
use crate::gateway::Gateway;

const PATIENCE: Duration = Duration::from_secs(10);

/// An open connection.
#[derive(Debug)]
pub struct ControlSocket(BufReader<UnixStream>);

impl ControlSocket {
    /// Connects to the running data plane of `gateway`.
    ///
    /// # Errors
    /// If none runs.
    pub fn connect(gateway: &Gateway) -> Result<Self> {
        Self::open(gateway, "control.sock")
    }

    /// Connects to the running IKE daemon of `gateway`.
    ///
    /// # Errors
    /// If none runs.
    pub fn connect_ike(gateway: &Gateway) -> Result<Self> {
        Self::open(gateway, "ike.sock")
    }

    fn open(gateway: &Gateway, name: &str) -> Result<Self> {
        let path = gateway.runtime_directory().join(name);
        let stream = UnixStream::connect(&path).map_err(LabError::path("connect to", &path))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(LabError::path("set up", &path))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// Sends one request, an object without its version, and returns the answer's `ok`.
    ///
    /// # Errors
    /// If the data plane refuses or goes away.
    pub fn ask(&mut self, mut request: Value) -> Result<Value> {
        request["version"] = 1.into();
        let mut line = String::new();
        let exchange = writeln!(self.0.get_mut(), "{request}").and_then(|()| self.0.read_line(&mut line));
        exchange.map_err(LabError::io("speak with the daemon"))?;
        let mut answer: Value = serde_json::from_str(&line).unwrap_or_default();
        match answer["ok"].take() {
            Value::Null => Err(LabError::Unexpected(format!("to {request} the daemon said {line}"))),
            ok => Ok(ok),
        }
    }
}
