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

    /// Connects to the running cluster daemon of `gateway`.
    ///
    /// # Errors
    /// If none runs.
    pub fn connect_cluster(gateway: &Gateway) -> Result<Self> {
        Self::open(gateway, "cluster.sock")
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

/// An open connection on which a daemon tells what happens, a line of JSON each.
#[derive(Debug)]
pub struct Monitor(ControlSocket);

impl Monitor {
    /// Asks the IKE daemon of `gateway` for events of these kinds; for all if there is none.
    ///
    /// # Errors
    /// If none runs, or it refuses.
    pub fn of_ike(gateway: &Gateway, kinds: &[&str]) -> Result<Self> {
        let mut socket = ControlSocket::connect_ike(gateway)?;
        socket.ask(serde_json::json!({"request": "monitor", "kinds": kinds}))?;
        Ok(Self(socket))
    }

    /// The next event.
    ///
    /// # Errors
    /// If none comes within `patience`.
    pub fn next_within(&mut self, patience: Duration) -> Result<Value> {
        let stream = self.0.0.get_ref();
        stream.set_read_timeout(Some(patience)).map_err(LabError::io("wait for an event"))?;
        let mut line = String::new();
        self.0.0.read_line(&mut line).map_err(LabError::io("hear of an event"))?;
        serde_json::from_str(&line)
            .map_err(|error| LabError::Unexpected(format!("{line:?} is not an event: {error}")))
    }
}
