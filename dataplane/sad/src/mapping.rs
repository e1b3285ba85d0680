//! The one place that turns a shared file mapping into words.
// A memory mapping is raw memory: making a slice of it is what needs `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

use memmap2::{Advice, MmapOptions, MmapRaw};

use crate::sync::AtomicU64;

/// A shared, writable mapping of a whole table file.
#[derive(Debug)]
pub(crate) struct Mapping {
    raw: MmapRaw,
    words: usize,
}

impl Mapping {
    /// Maps the first `words` words of `file`, which must be at least that long.
    pub(crate) fn new(file: &File, words: usize) -> io::Result<Self> {
        let raw = MmapOptions::new().len(words * size_of::<u64>()).map_raw(file)?;
        // Keys stand in it: keep them out of core dumps. Refused only by kernels built without dumps.
        let _ = raw.advise(Advice::DontDump);
        Ok(Self { raw, words })
    }

    // The pointer is to octets, but a mapping starts on a page.
    #[allow(clippy::cast_ptr_alignment)]
    #[inline]
    pub(crate) fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is page-aligned, `words * 8` octets long, readable and writable, and lives
        // as long as `self`, to which the slice is bound. Any bit pattern is a valid `AtomicU64`. Other
        // threads and processes change the memory only through atomics of the same size, and Rust code
        // never sees it but through this slice. The file is on tmpfs with all its pages allocated, ours
        // alone (mode 0600, checked at open) and never truncated by us, so that no access can fault.
        unsafe { std::slice::from_raw_parts(self.raw.as_mut_ptr().cast::<AtomicU64>(), self.words) }
    }
}
