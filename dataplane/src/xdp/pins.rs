//! What outlives the process: the bpffs, the pinned maps and the pinned links on it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_programs;
use rustix::fs::{Mode, chmod, statfs};
use rustix::mount::{MountFlags, mount};

use super::error::{XdpError, chain, os_error};
use crate::io::Side;

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;

/// The paths in a pin directory.
#[derive(Clone, Debug)]
pub(super) struct PinDirectory(PathBuf);

impl PinDirectory {
    /// The directory as it stands, without changing anything.
    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The directory, on a bpffs, for our eyes only.
    pub(super) fn prepare(path: &Path) -> Result<Self, XdpError> {
        ensure(path).map_err(|error| XdpError::pin_directory(path, &error))?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn map(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn link(&self, side: Side) -> PathBuf {
        self.0.join(format!("{}_link", side.name()))
    }

    /// The link pinned for `side`, if there is one.
    pub(super) fn open_link(&self, side: Side) -> Result<Option<FdLink>, XdpError> {
        let path = self.link(side);
        if !exists(&path) {
            return Ok(None);
        }
        match PinnedLink::from_pin(&path) {
            Ok(link) => Ok(Some(link.into())),
            Err(error) if os_error(&error) == Some(libc::EPERM) => {
                Err(XdpError::pin_directory(&path, &error))
            }
            Err(error) => Err(XdpError::damaged(&self.0, format!("{}: {}", path.display(), chain(&error)))),
        }
    }

    /// Pins a new link. Dropping the result unpins, and so detaches it, unless it is [kept](NewPin::keep).
    pub(super) fn pin_link(&self, side: Side, link: FdLink) -> Result<NewPin, XdpError> {
        let path = self.link(side);
        link.pin(&path).map_err(|error| XdpError::pin_directory(&path, &error))?;
        Ok(NewPin(Some(path)))
    }

    /// Removes the pin of a link and so detaches it.
    pub(super) fn remove_link(&self, side: Side) -> Result<(), XdpError> {
        remove(&self.link(side))
    }

    /// Removes a map's pin.
    pub(super) fn remove_map(&self, name: &str) -> Result<(), XdpError> {
        remove(&self.map(name))
    }

    /// Promises to remove the pins of those of `names` that are not there yet.
    pub(super) fn guard_new_maps(&self, names: &[&str]) -> Vec<NewPin> {
        let paths = names.iter().map(|name| self.map(name));
        paths.filter(|path| !exists(path)).map(|path| NewPin(Some(path))).collect()
    }

    /// Removes the directory, if nothing foreign is in it.
    pub(super) fn remove(&self) -> Result<(), XdpError> {
        match fs::remove_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // A mount point of its own, or somebody else's pins: neither is ours to remove.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::ENOTEMPTY)) => Ok(()),
            result => result.map_err(|error| XdpError::pin_directory(&self.0, &error)),
        }
    }
}

/// A pin that this process made and takes back unless all goes well.
#[must_use = "dropping a new pin removes it"]
pub(super) struct NewPin(Option<PathBuf>);

impl NewPin {
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for NewPin {
    fn drop(&mut self) {
        if let Some(path) = self.0.take()
            && let Err(error) = remove(&path)
        {
            tracing::error!(%error, "a pin of a failed installation stays behind");
        }
    }
}

fn exists(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

fn remove(path: &Path) -> Result<(), XdpError> {
    let link = PinnedLink::from_pin(path).ok().and_then(|link| FdLink::from(link).info().ok());
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(XdpError::pin_directory(path, &error)),
        Ok(()) => {
            if let Some(link) = link {
                wait_until_gone(link.program_id());
            }
            Ok(())
        }
    }
}

/// The kernel detaches a link some milliseconds after its pin went (the inode is freed behind RCU), and whoever
/// attaches again at once would meet the old program. The program's number goes after the detachment.
fn wait_until_gone(program: u32) {
    const PATIENCE: Duration = Duration::from_secs(2);
    let start = Instant::now();
    while loaded_programs().flatten().any(|info| info.id() == program) {
        if start.elapsed() > PATIENCE {
            tracing::warn!(program, "an unpinned XDP program is still loaded: another process holds it");
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Makes `directory` a directory on a bpffs. Where there is none, one is mounted: on the parent if that is empty
/// (so that several nodes can share it, as under /sys/fs/bpf), else on the directory itself, so that no file
/// of anybody's disappears under the mount.
fn ensure(directory: &Path) -> io::Result<()> {
    let parent = directory.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.ok_or_else(|| io::Error::other("it has no parent directory"))?;
    if !is_bpffs(directory) {
        fs::create_dir_all(parent)?;
        if is_bpffs(parent) {
            // Whoever mounted it, there is room for us.
        } else if fs::read_dir(parent)?.next().is_none() {
            mount_bpffs(parent)?;
        } else {
            create(directory)?;
            mount_bpffs(directory)?;
        }
    }
    create(directory)?;
    Ok(chmod(directory, Mode::RWXU)?)
}

fn create(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

fn mount_bpffs(target: &Path) -> io::Result<()> {
    if fs::read_dir(target)?.next().is_some() {
        return Err(io::Error::other("it holds files that are no pins, so no bpffs is mounted over it"));
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("bpf", target, "bpf", flags, c"mode=0700")?;
    tracing::info!(path = %target.display(), "mounted a bpffs");
    Ok(())
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|stat| stat.f_type == BPF_FS_MAGIC)
}

/// Where a link is attached: `Some(0)` when its interface is gone. aya does not say, /proc does: the entry of
/// the link's descriptor holds its number and the interface's.
pub(super) fn interface_of(link: &FdLink) -> Option<u32> {
    let wanted = link.info().ok()?.id();
    let entries = fs::read_dir("/proc/self/fdinfo").ok()?;
    entries.flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        (field(&text, "link_id:")? == wanted).then(|| field(&text, "ifindex:")).flatten()
    })
}

fn field(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| line.strip_prefix(name)).and_then(|value| value.trim().parse().ok())
}
