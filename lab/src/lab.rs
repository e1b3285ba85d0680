//! One run of the lab: its namespaces, its folder, its processes.

use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command;
use crate::error::{LabError, Result};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::run_directory::RunDirectory;

static RUNS: AtomicU32 = AtomicU32::new(0);

/// One run: whatever it made is gone when it is dropped, interrupted, or found dead by a later run.
#[derive(Debug)]
pub struct Lab {
    directory: RunDirectory,
    prefix: String,
}

impl Lab {
    /// A run with names of its own (`baton-<pid>x<n>-client`), so that tests run side by side.
    ///
    /// # Errors
    /// If the machine lacks what a lab needs.
    pub fn new() -> Result<Self> {
        let tag = format!("{}x{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        Ok(Self { directory: RunDirectory::create(&tag)?, prefix: format!("baton-{tag}-") })
    }

    /// The run whose namespaces have the plain names (`baton-client`), to be looked at by people.
    ///
    /// # Errors
    /// If another such run is alive, or the machine lacks what a lab needs.
    pub fn with_plain_names() -> Result<Self> {
        Ok(Self { directory: RunDirectory::create("plain")?, prefix: "baton-".to_owned() })
    }

    /// The run's folder, on tmpfs, removed with it.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Makes a namespace called after `role`.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn namespace(&self, role: &str) -> Result<Namespace> {
        let name = format!("{}{role}", self.prefix);
        self.directory.note_namespace(&name)?;
        Namespace::create(&name)
    }

    /// Mounts a bpffs in the run's folder (the first time) and returns it.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn bpffs(&self) -> Result<PathBuf> {
        let path = self.path().join("bpf");
        if !path.exists() {
            std::fs::create_dir(&path).map_err(LabError::path("make", &path))?;
            self.directory.note_mount(&path)?;
            command::run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(&path))?;
        }
        Ok(path)
    }

    /// Starts `command`, with its output in the run's folder as `<name>.log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self, name: &str, command: Command) -> Result<Process> {
        let process = Process::start(command, &self.path().join(format!("{name}.log")))?;
        self.directory.note_process(process.id())?;
        Ok(process)
    }

    /// Starts `command` with pipes to its stdin and from its stdout, and its stderr in the run's folder as
    /// `<name>.log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_with_pipes(
        &self,
        name: &str,
        command: Command,
    ) -> Result<(Process, ChildStdin, ChildStdout)> {
        let started = Process::start_with_pipes(command, &self.path().join(format!("{name}.log")))?;
        self.directory.note_process(started.0.id())?;
        Ok(started)
    }
}
