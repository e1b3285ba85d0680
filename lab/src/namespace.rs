//! A network namespace: running code and commands in it.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread::JoinHandle;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::command;
use crate::error::{LabError, Result};

/// A named network namespace, as `ip netns` makes them.
#[derive(Clone, Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace, brings its loopback up and switches IPv6 off (no router solicitations in captures).
    ///
    /// # Errors
    /// If the namespace exists already or the kernel refuses.
    pub(crate) fn create(name: &str) -> Result<Self> {
        command::run(Command::new("ip").args(["netns", "add", name]))?;
        let namespace = Self { name: name.to_owned() };
        namespace.ip("link set lo up")?;
        namespace.set("net/ipv6/conf/all/disable_ipv6", "1")?;
        namespace.set("net/ipv6/conf/default/disable_ipv6", "1")?;
        Ok(namespace)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its file, which `nsenter --net=` takes.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that will run in this namespace.
    ///
    /// `nsenter` and not `ip netns exec`: the latter makes a private mount namespace, in which bpffs pins
    /// would vanish with the process.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Runs `ip` commands here, one a line.
    ///
    /// # Errors
    /// If one of them fails.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        command::run_with_input(&mut command, lines.as_bytes()).map(drop)
    }

    /// Writes a file below `/proc/sys` as this namespace sees it.
    ///
    /// # Errors
    /// If the kernel has no such setting.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let path = PathBuf::from("/proc/sys").join(key);
        let value = value.to_owned();
        self.run(move || std::fs::write(&path, value).map_err(LabError::path("write", &path)))?
    }

    /// Runs `work` in this namespace, in a thread of its own, and waits for it. Sockets that `work` opens
    /// stay in this namespace for ever.
    ///
    /// # Errors
    /// If the namespace cannot be entered.
    ///
    /// # Panics
    /// If `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| self.enter().map(|()| work()));
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts a thread in this namespace.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<JoinHandle<Result<T>>> {
        let namespace = self.clone();
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || namespace.enter().and_then(|()| work()))
            .map_err(LabError::io(format!("start thread {name}")))
    }

    fn enter(&self) -> Result<()> {
        let path = self.path();
        let file = File::open(&path).map_err(LabError::path("open", &path))?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| LabError::path("enter", &path)(error.into()))
    }
}
