//! The notes of one run: who owns it and what it made, so that all of it can be removed by anyone.
//!
//! A run's directory lives in `/dev/shm/baton-lab/` (tmpfs on every Linux, as SA tables need it) and holds
//! `owner` (pid and start time), `namespaces`, `mounts` and `processes`, one entry a line, written before
//! the thing itself exists.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, Once};

use rustix::process::{Pid, Signal};

use crate::command;
use crate::error::{LabError, Result};

const BASE: &str = "/dev/shm/baton-lab";

/// The runs of this process, for the signal handler.
static LIVE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
static SIGNALS: Once = Once::new();

/// A process, told apart from a later one with the same pid by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ProcessId {
    pid: i32,
    start: u64,
}

impl ProcessId {
    fn of(pid: i32) -> Option<Self> {
        let line = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The command name in parentheses may hold spaces; the start time is the 20th field after it (proc(5)).
        let start = line.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        Some(Self { pid, start })
    }

    fn parse(line: &str) -> Option<Self> {
        let (pid, start) = line.split_once(' ')?;
        Some(Self { pid: pid.parse().ok()?, start: start.parse().ok()? })
    }

    fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    fn kill(self) {
        if self.is_alive()
            && let Some(pid) = Pid::from_raw(self.pid)
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

impl std::fmt::Display for ProcessId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.start)
    }
}

/// The directory of one run; removing it removes all that the run made.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
}

impl RunDirectory {
    /// Makes the directory of the run `tag`, after removing what dead runs left behind.
    ///
    /// # Errors
    /// If a living run has the same tag, or the directory cannot be made.
    pub fn create(tag: &str) -> Result<Self> {
        let base = base()?;
        remove_stale(&base);
        let path = base.join(tag);
        let aside = base.join(format!(".{tag}.{}", std::process::id()));
        make_directory(&aside)?;
        let owner = ProcessId::of(std::process::id().cast_signed())
            .ok_or_else(|| LabError::Missing("/proc is not mounted: mount it first".into()))?;
        fs::write(aside.join("owner"), owner.to_string()).map_err(LabError::path("write", &aside))?;
        if fs::rename(&aside, &path).is_err() {
            let _ = fs::remove_dir_all(&aside);
            return Err(LabError::Missing(format!(
                "another run owns {}: let it end, or end it, and try again",
                path.display()
            )));
        }
        LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(path.clone());
        remove_on_signal();
        Ok(Self { path })
    }

    /// Where the run keeps its files.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Notes a namespace that is about to be made.
    ///
    /// # Errors
    /// If the note cannot be written.
    pub fn note_namespace(&self, name: &str) -> Result<()> {
        self.note("namespaces", name)
    }

    /// Notes a mount that is about to be made.
    ///
    /// # Errors
    /// If the note cannot be written.
    pub fn note_mount(&self, path: &Path) -> Result<()> {
        self.note("mounts", &path.display().to_string())
    }

    /// Notes a process that was started.
    ///
    /// # Errors
    /// If the note cannot be written.
    pub fn note_process(&self, pid: u32) -> Result<()> {
        // A process that has ended already needs no note.
        ProcessId::of(pid.cast_signed()).map_or(Ok(()), |id| self.note("processes", &id.to_string()))
    }

    fn note(&self, file: &str, line: &str) -> Result<()> {
        let path = self.path.join(file);
        let mut notes = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(LabError::path("open", &path))?;
        writeln!(notes, "{line}").map_err(LabError::path("write", &path))
    }
}

impl Drop for RunDirectory {
    fn drop(&mut self) {
        LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner).retain(|path| path != &self.path);
        remove(&self.path);
    }
}

/// The folder of all runs: ours alone, because its notes say what will be killed and removed.
fn base() -> Result<PathBuf> {
    let base = PathBuf::from(BASE);
    if !base.exists() {
        make_directory(&base).or_else(|error| if base.exists() { Ok(()) } else { Err(error) })?;
    }
    let metadata = fs::symlink_metadata(&base).map_err(LabError::path("read", &base))?;
    if !metadata.is_dir() || metadata.uid() != 0 || metadata.mode() & 0o077 != 0 {
        return Err(LabError::Missing(format!("{BASE} is not root's alone: remove it and try again")));
    }
    Ok(base)
}

fn make_directory(path: &Path) -> Result<()> {
    DirBuilder::new().mode(0o700).create(path).map_err(LabError::path("make", path))
}

fn remove_stale(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let owner = fs::read_to_string(path.join("owner")).ok().and_then(|line| ProcessId::parse(&line));
        if owner.is_some_and(|owner| !owner.is_alive()) {
            remove(&path);
        }
    }
}

/// Removes everything that the notes in `path` name, then the notes.
fn remove(path: &Path) {
    let lines = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
    for process in lines("processes").lines().rev().filter_map(ProcessId::parse) {
        process.kill();
    }
    for mount in lines("mounts").lines().rev() {
        // Lazily, because a process that was just killed may hold it for another moment.
        let _ = command::output(Command::new("umount").args(["--lazy", mount]));
    }
    for name in lines("namespaces").lines().rev() {
        let _ = command::output(Command::new("ip").args(["netns", "delete", name]));
    }
    let _ = fs::remove_dir_all(path);
}

fn remove_on_signal() {
    SIGNALS.call_once(|| {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]) else { return };
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                let live = LIVE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                live.iter().for_each(|path| remove(path));
                eprintln!("\ninterrupted: namespaces, mounts and processes of this run are removed");
                std::process::exit(128 + signal);
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_pid_and_start() {
        let me = ProcessId::of(std::process::id().cast_signed()).expect("own process");
        assert!(me.is_alive());
        assert!(!ProcessId { start: me.start + 1, ..me }.is_alive());
        assert_eq!(ProcessId::parse(&me.to_string()), Some(me));
    }
}
