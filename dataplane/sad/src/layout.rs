//! Where everything stands in the table, in 64-bit words of the machine's byte order.
//!
//! | part | words |
//! |---|---|
//! | header | identity, IV counter, counts, intent, 256 leases, 256 words of enforcement, 256 holds, 256 worker lines |
//! | name tags | one per slot |
//! | attention | one bit per slot |
//! | inbound index, outbound index | a power of two each, at most half full |
//! | slots | [`SLOT_WORDS`] each |
//!
//! Every part starts on a cache line. At 1,000,000 SAs an SA costs 1,426 octets, all included.

/// Octets `BATONSAD` read as a big-endian number.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"BATONSAD");
/// The version of this layout; another one is refused.
pub(crate) const VERSION: u64 = 6;
/// The largest capacity: memory for it must exist, and slot numbers are 32 bits.
pub(crate) const MAX_CAPACITY: u32 = 16 * 1024 * 1024;
/// Words per cache line.
const LINE: usize = 8;

/// Word numbers within the header. Words that different threads write stand on different lines.
pub(crate) mod header {
    use super::LINE;
    // Line 0: identity, written once before the file gets its name.
    pub(crate) const MAGIC: usize = 0;
    pub(crate) const VERSION: usize = 1;
    pub(crate) const FILE_WORDS: usize = 2;
    pub(crate) const CAPACITY: usize = 3;
    pub(crate) const SLOTS: usize = 4;
    /// The boot of the machine that it was made in.
    pub(crate) const BOOT: usize = 5;
    pub(crate) const INDEX_ENTRIES: usize = 6;
    /// Node id in the top octet, cluster id in the other seven.
    pub(crate) const OWNER: usize = 7;
    /// Line 1: epoch << 40 | next counter. All workers draw blocks from it.
    pub(crate) const IV: usize = LINE;
    /// Line 2: the epoch granted ahead.
    pub(crate) const SPARE_EPOCH: usize = 2 * LINE;
    // Line 3: read by every worker once per batch.
    pub(crate) const CHANGE_COUNT: usize = 3 * LINE;
    pub(crate) const COMMITTED: usize = 3 * LINE + 1;
    pub(crate) const GRACE_PERIOD: usize = 3 * LINE + 2;
    /// Counts changes of which segments enforce reservations.
    pub(crate) const ENFORCEMENT_COUNT: usize = 3 * LINE + 3;
    // Line 4: counts moved index entries.
    pub(crate) const INBOUND_VERSION: usize = 4 * LINE;
    pub(crate) const OUTBOUND_VERSION: usize = 4 * LINE + 1;
    // Line 5: what the holder of the writer lock is doing.
    pub(crate) const INTENT: usize = 5 * LINE;
    pub(crate) const INTENT_SLOT: usize = 5 * LINE + 1;
    pub(crate) const INTENT_UNDO: usize = 5 * LINE + 2;
    pub(crate) const TRANSACTION: usize = 5 * LINE + 3;
    // Line 6: slots not in use. Rebuilt by recovery.
    pub(crate) const FREE_HEAD: usize = 6 * LINE;
    pub(crate) const FREE_COUNT: usize = 6 * LINE + 1;
    /// Slots from this number on were never used.
    pub(crate) const FRESH: usize = 6 * LINE + 2;
    pub(crate) const RETIRED_HEAD: usize = 6 * LINE + 3;
    pub(crate) const RETIRED_TAIL: usize = 6 * LINE + 4;
    pub(crate) const RETIRED_COUNT: usize = 6 * LINE + 5;
    pub(crate) const INSTALLED: usize = 6 * LINE + 6;
    // Line 7: the data plane.
    pub(crate) const DATAPLANE_PID: usize = 7 * LINE;
    pub(crate) const WORKERS: usize = 7 * LINE + 1;
    /// Ownership leases of the 256 segments.
    pub(crate) const LEASES: usize = 8 * LINE;
    /// Whether the reservations of a segment are enforced: 0 is no.
    pub(crate) const ENFORCED: usize = LEASES + 256;
    /// Until when packets of a segment are held that is not owned yet.
    pub(crate) const HOLDS: usize = ENFORCED + 256;
    /// One line per worker.
    pub(crate) const WORKER_LINES: usize = HOLDS + 256;
    pub(crate) const WORDS: usize = WORKER_LINES + super::MAX_WORKERS * LINE;
}

/// The most SAs in one PUT: a replacement of as many always finds slots.
pub const MAX_BATCH: usize = 1024;
/// The most workers that can register.
pub const MAX_WORKERS: usize = 256;

/// Word numbers within a slot.
pub(crate) mod slot {
    use super::LINE;
    // Line 0: control. Writers only, except that workers read it.
    pub(crate) const VERSION: usize = 0;
    pub(crate) const GENERATION: usize = 1;
    pub(crate) const STATE: usize = 2;
    /// The PUT that filled the slot, until it is settled; then 0.
    pub(crate) const TRANSACTION: usize = 3;
    /// The slot (+ 1) that this one replaces while its PUT is not committed.
    pub(crate) const PREDECESSOR: usize = 4;
    /// The next slot (+ 1) in the list of free or retired slots.
    pub(crate) const LINK: usize = 5;
    /// The grace period after which a retired slot is free.
    pub(crate) const RETIRED_AT: usize = 6;
    /// Direction << 32 | index key.
    pub(crate) const KEY: usize = 7;
    /// Line 1: the SA's worker writes it with every packet. An SA has one direction, so one such line.
    pub(crate) const HOT: usize = LINE;
    pub(crate) const SEQUENCE: usize = HOT;
    pub(crate) const PACKETS: usize = HOT + 1;
    pub(crate) const OCTETS: usize = HOT + 2;
    pub(crate) const REPLAY_DROPS: usize = HOT + 3;
    pub(crate) const INTEGRITY_FAILURES: usize = HOT + 4;
    /// When the last packet was protected or accepted.
    pub(crate) const LAST_USED: usize = HOT + 5;
    /// Learned path MTU << 48 | when it ends in ms. The control plane writes it.
    pub(crate) const PATH_MTU: usize = HOT + 6;
    /// Outbound: no sequence number up to this one is sent any more. Inbound: all up to this one count as received.
    /// The control plane writes it.
    pub(crate) const FLOOR: usize = HOT + 7;
    /// The replay bitmap: a ring of 65 words (RFC 6479), on nine lines.
    pub(crate) const REPLAY: usize = 2 * LINE;
    // What is left of the ring's last line: the worker comes to it once per 4,160 numbers for the ring, and for these
    // when its packets pass the mark.
    /// The highest sequence number that may be sent or accepted. The control plane writes it.
    pub(crate) const RESERVED: usize = REPLAY + super::REPLAY_WORDS;
    /// From this sequence number on the worker asks for attention. The control plane writes it.
    pub(crate) const MARK: usize = RESERVED + 1;
    /// The highest sequence number that was wanted and is not reserved. The worker writes it.
    pub(crate) const WANTED: usize = RESERVED + 2;
    /// Configuration and keys.
    pub(crate) const CONFIG: usize = 11 * LINE;
}

/// Words of the replay ring: the largest window of 4,096 and one word more (RFC 6479 section 2).
pub const REPLAY_WORDS: usize = 65;
/// Words of configuration and keys in a slot.
pub(crate) const CONFIG_WORDS: usize = 10 * LINE;
/// Words of a slot: 21 cache lines.
pub(crate) const SLOT_WORDS: usize = slot::CONFIG + CONFIG_WORDS;

/// The sizes and offsets of one table, all in words except the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) capacity: u32,
    pub(crate) slots: u32,
    pub(crate) index_entries: usize,
    pub(crate) tags: usize,
    pub(crate) attention: usize,
    pub(crate) inbound: usize,
    pub(crate) outbound: usize,
    pub(crate) first_slot: usize,
    pub(crate) words: usize,
}

impl Layout {
    /// The layout for `capacity` SAs. A PUT that replaces fills new slots before it frees the old ones,
    /// and workers hold those for one more batch, so there are some slots more than SAs.
    pub(crate) fn new(capacity: u32) -> Self {
        let slots = capacity + (capacity / 32).max(capacity.min(MAX_BATCH as u32)) + 64;
        let index_entries = (capacity as usize * 2).next_power_of_two();
        let tags = header::WORDS;
        let attention = tags + (slots as usize).next_multiple_of(LINE);
        let inbound = attention + (slots as usize).div_ceil(64).next_multiple_of(LINE);
        let outbound = inbound + index_entries.next_multiple_of(LINE);
        let first_slot = outbound + index_entries.next_multiple_of(LINE);
        let words = first_slot + slots as usize * SLOT_WORDS;
        Self { capacity, slots, index_entries, tags, attention, inbound, outbound, first_slot, words }
    }

    pub(crate) fn octets(&self) -> u64 {
        self.words as u64 * 8
    }
}
