//! A table lives in memory, and no longer than the machine runs (I1): one that came back with a disk or
//! from another boot would hand out IVs again, and lay keys down where they outlive their SAs.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::fstatfs;

use crate::sa::fnv1a;

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of Linux's `linux/magic.h`.
const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Whether the file is on a file system that is lost with the machine's memory.
pub(super) fn is_in_memory(file: &File) -> io::Result<bool> {
    // The kernel's numbers have 32 bits; how wide the field is, and its sign, depend on the machine.
    #[allow(clippy::cast_sign_loss)]
    let kind = fstatfs(file)?.f_type as u32;
    Ok(IN_MEMORY.contains(&kind))
}

/// A number that is another one after each boot of the machine.
pub(super) fn boot() -> io::Result<u64> {
    fs::read(BOOT_ID).map(|id| fnv1a(id.trim_ascii()))
}

/// What [`boot`] reads.
pub(super) fn boot_id_path() -> &'static Path {
    Path::new(BOOT_ID)
}
