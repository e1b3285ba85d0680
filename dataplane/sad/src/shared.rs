//! The mapping with its layout: where readers and writers alike find their words.

use crate::index::Index;
use crate::layout::{Layout, SLOT_WORDS, header, slot};
use crate::mapping::Mapping;
use crate::sa::Direction;
use crate::sync::{AtomicU64, Ordering};

/// The words of one slot.
pub(crate) type SlotWords = [AtomicU64; SLOT_WORDS];

/// A mapped table.
#[derive(Debug)]
pub(crate) struct Shared {
    mapping: Mapping,
    layout: Layout,
}

impl Shared {
    /// `mapping` must be `layout.words` long.
    pub(crate) fn new(mapping: Mapping, layout: Layout) -> Self {
        debug_assert_eq!(mapping.words().len(), layout.words);
        Self { mapping, layout }
    }

    #[inline]
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A word of the header.
    #[inline]
    pub(crate) fn header(&self, word: usize) -> &AtomicU64 {
        debug_assert!(word < header::WORDS);
        &self.mapping.words()[word]
    }

    /// A word of the header that only the holder of the writer lock changes.
    pub(crate) fn header_value(&self, word: usize) -> u64 {
        self.header(word).load(Ordering::Relaxed)
    }

    /// The word of a worker.
    #[inline]
    pub(crate) fn worker(&self, index: usize) -> &AtomicU64 {
        self.header(header::WORKER_LINES + index * 8)
    }

    /// The leases of the 256 segments.
    #[inline]
    pub(crate) fn leases(&self) -> &[AtomicU64] {
        &self.mapping.words()[header::LEASES..header::LEASES + 256]
    }

    /// Whether the 256 segments enforce reservations.
    #[inline]
    pub(crate) fn enforced(&self) -> &[AtomicU64] {
        &self.mapping.words()[header::ENFORCED..header::ENFORCED + 256]
    }

    /// Until when packets of the 256 segments are held.
    #[inline]
    pub(crate) fn holds(&self) -> &[AtomicU64] {
        &self.mapping.words()[header::HOLDS..header::HOLDS + 256]
    }

    /// The slots that ask for attention, a bit each.
    #[inline]
    pub(crate) fn attention(&self) -> &[AtomicU64] {
        &self.mapping.words()[self.layout.attention..][..(self.layout.slots as usize).div_ceil(64)]
    }

    /// The name tags of all slots.
    pub(crate) fn tags(&self) -> &[AtomicU64] {
        &self.mapping.words()[self.layout.tags..][..self.layout.slots as usize]
    }

    /// The index of one direction.
    #[inline]
    pub(crate) fn index(&self, direction: Direction) -> Index<'_> {
        let (first, version) = match direction {
            Direction::Inbound => (self.layout.inbound, header::INBOUND_VERSION),
            Direction::Outbound => (self.layout.outbound, header::OUTBOUND_VERSION),
        };
        let entries = &self.mapping.words()[first..first + self.layout.index_entries];
        Index::new(entries, self.header(version))
    }

    /// A slot; `None` for a number that no slot has (only a damaged table or a foreign handle says so).
    #[inline]
    pub(crate) fn slot(&self, number: u32) -> Option<&SlotWords> {
        if number >= self.layout.slots {
            return None;
        }
        let first = self.layout.first_slot + number as usize * SLOT_WORDS;
        self.mapping.words()[first..first + SLOT_WORDS].try_into().ok()
    }

    /// The slot that readers have to see under this key: the published one.
    #[inline]
    pub(crate) fn resolve(&self, direction: Direction, key: u32) -> Option<u32> {
        let number = self.index(direction).find(key)?;
        let words = self.slot(number)?;
        let committed = self.header(header::COMMITTED);
        crate::publication::resolve(number, &words[slot::TRANSACTION], &words[slot::PREDECESSOR], committed)
    }
}
