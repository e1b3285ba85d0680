//! A process of the lab: its log kept in a file, killed by pid when dropped.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::command;
use crate::error::{LabError, Result};

const POLL: Duration = Duration::from_millis(2);
const LOG_TAIL: usize = 30;

/// A running process whose stdout and stderr are appended to a log file.
#[derive(Debug)]
pub struct Process {
    child: Child,
    description: String,
    log: PathBuf,
    /// Where this process's part of the log begins.
    log_start: u64,
}

impl Process {
    /// Starts `command` with its output appended to `log`.
    ///
    /// # Errors
    /// If the log cannot be opened or the command not started.
    pub(crate) fn start(mut command: Command, log: &Path) -> Result<Self> {
        command.stdin(Stdio::null()).stdout(open_log(log)?);
        Self::start_logged(command, log)
    }

    /// Starts `command` with pipes to its stdin and from its stdout; its stderr is appended to `log`.
    ///
    /// # Errors
    /// If the log cannot be opened or the command not started.
    pub(crate) fn start_with_pipes(
        mut command: Command,
        log: &Path,
    ) -> Result<(Self, ChildStdin, ChildStdout)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Self::start_logged(command, log)?;
        let pipes = process.child.stdin.take().zip(process.child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| LabError::Unexpected("a process without pipes".into()))?;
        Ok((process, input, output))
    }

    fn start_logged(mut command: Command, log: &Path) -> Result<Self> {
        let file = open_log(log)?;
        let log_start = file.metadata().map_err(LabError::path("read", log))?.len();
        let description = command::describe(&command);
        let child = command.stderr(file).spawn().map_err(LabError::io(format!("start `{description}`")))?;
        Ok(Self { child, description, log: log.to_owned(), log_start })
    }

    /// Its pid. `nsenter` replaces itself by the command, so this is the command's own.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        let octets = std::fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0).min(octets.len());
        String::from_utf8_lossy(&octets[start..]).into_owned()
    }

    /// Waits until a line of its output satisfies `wanted`.
    ///
    /// # Errors
    /// If the process ends first or `timeout` passes; the error quotes the end of the log.
    pub fn wait_for_line(
        &mut self,
        what: &str,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            if self.log().lines().any(&wanted) {
                return Ok(());
            }
            if let Some(status) = self.exited()? {
                let detail = format!("{status}, before {what}{}", self.log_tail());
                return Err(LabError::Command { command: self.description.clone(), detail });
            }
            if Instant::now() > deadline {
                let (what, detail) = (format!("`{}`: {what}", self.description), self.log_tail());
                return Err(LabError::Timeout { what, seconds: timeout.as_secs(), detail });
            }
            std::thread::sleep(POLL);
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the kernel does not say.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().map_err(LabError::io(format!("wait for `{}`", self.description)))
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// If it does not end within `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let (what, detail) = (format!("the end of `{}`", self.description), self.log_tail());
                return Err(LabError::Timeout { what, seconds: timeout.as_secs(), detail });
            }
            std::thread::sleep(POLL);
        }
    }

    /// Sends it `signal`; one that has ended already is left in peace.
    pub fn signal(&mut self, signal: Signal) {
        // try_wait first: a pid that was reaped may belong to someone else by now.
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), Pid::from_raw(self.id().cast_signed())) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Kills it (SIGKILL) and reaps it.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.child.wait();
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(LOG_TAIL)..];
        if tail.is_empty() {
            "; it printed nothing".to_owned()
        } else {
            format!("; its last lines:\n{}", tail.join("\n"))
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn open_log(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).map_err(LabError::path("open", path))
}
