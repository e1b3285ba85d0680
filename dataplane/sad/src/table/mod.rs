//! The table: a file on tmpfs that several processes map.

mod freeze;
mod memory;
mod open;
mod put;
mod read;
mod recovery;
mod reserve;
mod skip;
mod slots;
mod update;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use freeze::FreezeError;
pub(crate) use open::open_lock_file;
pub use open::{TableError, TableOptions};
pub use put::{PutError, PutKind, PutReceipt};
pub use read::{ConfigError, GetError, Snapshot};
pub use reserve::{Edge, Floor, Reservation, Reserve, SaKey};
pub use skip::SkipError;
pub use update::UpdateError;
pub use writer::WriteError;
use writer::WriterLock;

#[cfg(test)]
pub(crate) use slots::key_word;

use crate::layout::header;
use crate::layout::slot;
use crate::sa::{ClusterId, Direction, NodeId};
use crate::shared::Shared;
use crate::slot::{SaHandle, SlotState, SlotView};
use crate::sync::Ordering;
use crate::workers::{AttachError, DataplaneLease, DataplaneLock, WorkerSlot};

/// An SA table in shared memory, opened by this process.
#[derive(Debug)]
pub struct Table {
    shared: Arc<Shared>,
    path: PathBuf,
    writer: WriterLock,
    dataplane: DataplaneLock,
}

impl Table {
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How many SAs fit.
    pub fn capacity(&self) -> u32 {
        self.shared.layout().capacity
    }

    /// How many slots there are: more than SAs, since a replacement is filled before the old SA goes.
    pub fn slots(&self) -> u32 {
        self.shared.layout().slots
    }

    /// How many SAs are installed.
    pub fn installed(&self) -> u32 {
        self.shared.header(header::INSTALLED).load(Ordering::Acquire) as u32
    }

    /// The node that the table belongs to.
    pub fn node(&self) -> NodeId {
        // Checked when the table was opened.
        NodeId::new((self.shared.header_value(header::OWNER) >> 56) as u8)
            .unwrap_or(const { NodeId::new(1).unwrap() })
    }

    /// The cluster that the table belongs to.
    pub fn cluster(&self) -> ClusterId {
        ClusterId::new(self.shared.header_value(header::OWNER))
    }

    /// Counts changes of the set of SAs and of their configuration; workers that see it move check the
    /// handles and policies that they remember.
    #[inline]
    pub fn change_count(&self) -> u64 {
        self.shared.header(header::CHANGE_COUNT).load(Ordering::Acquire)
    }

    /// Finds an SA: an inbound one by SPI, an outbound one by reqid.
    ///
    /// The handle stays usable until the worker's next quiescent point.
    #[inline]
    pub fn lookup(&self, direction: Direction, key: u32) -> Option<SaHandle> {
        let number = self.shared.resolve(direction, key)?;
        let generation = self.shared.slot(number)?[slot::GENERATION].load(Ordering::Acquire);
        Some(SaHandle { slot: number, generation })
    }

    /// The counters of an SA; `None` if the handle is not that of the slot's content any more, because
    /// the SA was updated since, or the worker passed a quiescent point: look it up again.
    #[inline]
    pub fn slot(&self, handle: SaHandle) -> Option<SlotView<'_>> {
        let words = self.shared.slot(handle.slot)?;
        let current = words[slot::GENERATION].load(Ordering::Acquire) == handle.generation;
        current.then(|| SlotView::new(words))
    }

    /// As [`Self::slot`], for a worker that has found this handle since its last quiescent point: it is the same SA's slot
    /// even if the SA was updated meanwhile, as no slot is given to another SA before all workers have passed one. `None`
    /// if the SA was removed.
    pub fn slot_in_flight(&self, handle: SaHandle) -> Option<SlotView<'_>> {
        let view = SlotView::new(self.shared.slot(handle.slot)?);
        (view.state() != SlotState::Dead).then_some(view)
    }

    /// Becomes the table's data plane, until the lease is dropped or the process ends.
    ///
    /// # Errors
    /// [`AttachError::InUse`] if another data plane lives.
    pub fn attach(&self) -> Result<DataplaneLease, AttachError> {
        self.dataplane.attach(&self.shared, &self.path)
    }

    /// Registers a worker of the data plane that is attached. It is offline at first.
    ///
    /// # Panics
    /// If `index` is not below [`crate::MAX_WORKERS`].
    pub fn register_worker(&self, index: u16) -> WorkerSlot {
        WorkerSlot::register(Arc::clone(&self.shared), index)
    }
}
