//! The IKE daemon of a gateway: its process, its files, its tunnels.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::control::ControlSocket;
use crate::error::{LabError, Result};
use crate::gateway::{Gateway, START, STOP, is_ready};
use crate::lab::Lab;
use crate::negotiation::{Negotiation, Side};

const FOLDERS: [&str; 4] = ["x509", "x509ca", "x509crl", "private"];

impl Gateway {
    /// Writes the gateway's side of a negotiation, with its certificates, in the place of the earlier one. A running
    /// daemon reads it when it is reloaded or started again.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn set_negotiation(&mut self, case: &Negotiation, side: Side) -> Result<()> {
        let directory = self.credentials_directory();
        for folder in FOLDERS {
            let path = directory.join(folder);
            let _ = fs::remove_dir_all(&path);
            fs::create_dir_all(&path).map_err(LabError::path("make", &path))?;
        }
        if let Some(certified) = &case.party(side).certified {
            self.add_credential("x509", &certified.certificate)?;
            self.add_credential("private", &certified.key)?;
            self.add_credential("x509ca", &certified.authority)?;
        }
        self.set_ike(case.toml(side))?;
        Ok(())
    }

    /// Puts a file into one of the folders of certificates and keys.
    ///
    /// # Errors
    /// If it cannot be copied.
    pub fn add_credential(&self, folder: &str, path: &Path) -> Result<()> {
        let target = self.credentials_directory().join(folder).join(path.file_name().unwrap_or_default());
        fs::copy(path, &target).map(drop).map_err(LabError::path("copy", path))
    }

    /// Starts the IKE daemon and waits until it answers peers.
    ///
    /// # Errors
    /// If it ends or is not ready in time; the error quotes its log.
    pub fn start_ike(&mut self, lab: &Lab) -> Result<()> {
        self.ike = None;
        let mut daemon = self.launch_program(lab, "baton-ike", &format!("{}-ike", self.spec().name))?;
        daemon.wait_for_line("ready", START, is_ready)?;
        self.ike = Some(daemon);
        Ok(())
    }

    /// Kills the IKE daemon as a crash would (SIGKILL).
    pub fn kill_ike(&mut self) {
        self.ike = None;
    }

    /// Ends the IKE daemon as a service manager would (SIGTERM).
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn stop_ike(&mut self) -> Result<()> {
        let Some(mut daemon) = self.ike.take() else { return Ok(()) };
        daemon.signal(Signal::TERM);
        daemon.wait(STOP).map(drop)
    }

    /// Lets the IKE daemon stand still (SIGSTOP), or go on (SIGCONT).
    pub fn pause_ike(&mut self, pause: bool) {
        if let Some(daemon) = &mut self.ike {
            daemon.signal(if pause { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Whether the IKE daemon runs.
    pub fn runs_ike(&self) -> bool {
        self.ike.is_some()
    }

    /// The IKE daemon's pid while it runs.
    pub fn ike_pid(&self) -> Option<u32> {
        self.ike.as_ref().map(crate::Process::id)
    }

    /// The IKE daemon's output since it was last started.
    pub fn ike_log(&self) -> String {
        self.ike.as_ref().map(crate::Process::log).unwrap_or_default()
    }

    /// Waits until a line of the IKE daemon's output holds `text`.
    ///
    /// # Errors
    /// If none does within `timeout`; the error quotes the end of the log.
    pub fn wait_for_ike_log(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let daemon = self.ike.as_mut().ok_or_else(|| LabError::Unexpected("no IKE daemon runs".into()))?;
        daemon.wait_for_line(text, timeout, |line| line.contains(text))
    }

    /// Asks the IKE daemon's control socket (docs/CONTROL.md).
    ///
    /// # Errors
    /// If it refuses.
    pub fn ask_ike(&self, request: Value) -> Result<Value> {
        ControlSocket::connect_ike(self)?.ask(request)
    }

    /// The tunnels, as the control socket lists them.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn tunnels(&self) -> Result<Vec<Value>> {
        let mut answer = self.ask_ike(json!({"request": "ike-list"}))?;
        match answer["tunnels"].take() {
            Value::Array(tunnels) => Ok(tunnels),
            _ => Err(LabError::Unexpected(format!("no list of tunnels: {answer}"))),
        }
    }
}
