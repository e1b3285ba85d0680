//! What a voter remembers over a restart of its process. It is on tmpfs: after a restart of the machine there is nothing
//! to remember.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use baton_sad::NodeId;
use serde::{Deserialize, Serialize};

use crate::cluster::wire::TERMS;
use crate::cluster::{MAX_MEMBERS, Remembered, Segments};

/// In a directory of its own, the only one that the daemon writes to.
pub(super) const DIRECTORY: &str = "cluster";
const FILE: &str = "votes";
/// 256 segments of as many owners need less.
const MAX_OCTETS: u64 = 1 << 20;

/// One entry, as it is stored.
#[derive(Serialize, Deserialize)]
struct Entry {
    segments: [u64; 4],
    owner: u8,
    term: u64,
    intact: bool,
    alone: bool,
    ready: Vec<u8>,
}

/// The file.
#[derive(Clone, Debug)]
pub(super) struct Memory(PathBuf);

impl Memory {
    pub(super) fn new(directory: &Path) -> Self {
        Self(directory.join(FILE))
    }

    /// What was remembered; what cannot be read counts as nothing, and the voter is careful for one lease. So does what could
    /// not be replaced now: it may be older than what was to take its place.
    pub(super) fn recall(&self) -> Vec<Remembered> {
        let remembered = self.read();
        if remembered.is_empty() || self.store(&remembered).is_ok() { remembered } else { Vec::new() }
    }

    fn read(&self) -> Vec<Remembered> {
        let mut text = String::new();
        let read = fs::File::open(&self.0).and_then(|file| file.take(MAX_OCTETS).read_to_string(&mut text));
        let entries: Vec<Entry> =
            read.ok().and_then(|_| serde_json::from_str(&text).ok()).unwrap_or_default();
        let remembered = |entry: Entry| {
            let Entry { segments, owner, term, intact, alone, ready } = entry;
            (term < TERMS && ready.len() <= MAX_MEMBERS).then_some(())?;
            let (segments, owner) = (Segments::from_words(segments), NodeId::new(owner)?);
            let mut nodes = ready.into_iter().map(NodeId::new);
            let ready = std::array::from_fn(|_| nodes.next().flatten());
            Some(Remembered { segments, owner, term, intact, alone, ready })
        };
        entries.into_iter().filter_map(remembered).collect()
    }

    /// It appears whole or not at all; on tmpfs there is nothing to be written further. Where it cannot appear, on a full
    /// disk, nothing is remembered: to go by an older memory could be to use numbers again (I2).
    pub(super) fn store(&self, remembered: &[Remembered]) -> io::Result<()> {
        self.replace(remembered).inspect_err(|_| {
            // If even that fails, reading it finds that it cannot be replaced.
            let _ = fs::remove_file(&self.0);
        })
    }

    fn replace(&self, remembered: &[Remembered]) -> io::Result<()> {
        let entry = |it: &Remembered| {
            let Remembered { segments, owner, term, intact, alone, ready } = *it;
            let ready = ready.iter().flatten().map(|node| node.get()).collect();
            Entry { segments: segments.words(), owner: owner.get(), term, intact, alone, ready }
        };
        let entries: Vec<Entry> = remembered.iter().map(entry).collect();
        let aside = self.0.with_extension("new");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.write_all(&serde_json::to_vec(&entries)?)?;
        fs::rename(&aside, &self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64) -> [Remembered; 1] {
        let owner = NodeId::new(7).expect("not 0");
        let mut ready = [None; MAX_MEMBERS];
        (ready[0], ready[1]) = (Some(owner), NodeId::new(9));
        [Remembered { segments: Segments::one(200), owner, term, intact: true, alone: false, ready }]
    }

    /// Such as on a full disk.
    #[test]
    fn what_could_not_be_replaced_is_forgotten() {
        let directory = tempfile::tempdir().expect("a directory");
        let memory = Memory::new(directory.path());
        memory.store(&vote(1)).expect("stored");
        let aside = directory.path().join("votes.new");
        fs::create_dir(&aside).expect("in the way");
        assert!(memory.store(&vote(2)).is_err());
        assert!(!memory.0.exists(), "it would be the older one");
        fs::remove_dir(&aside).expect("removed");
        memory.store(&vote(1)).expect("stored");
        fs::create_dir(&aside).expect("in the way");
        assert!(memory.recall().is_empty(), "what is there may not be the latest");
    }

    #[test]
    fn votes_are_remembered_and_damage_is_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let memory = Memory::new(directory.path());
        assert!(memory.recall().is_empty());
        let votes = vote(TERMS - 1);
        memory.store(&votes).expect("stored");
        assert_eq!(memory.recall(), votes);
        fs::write(&memory.0, b"[{\"segments\":[1").expect("written");
        assert!(memory.recall().is_empty());
        memory.store(&votes.map(|vote| Remembered { term: TERMS, ..vote })).expect("stored");
        assert!(memory.recall().is_empty(), "nobody has such a term");
        memory.store(&votes).expect("stored again");
        assert_eq!(memory.recall(), votes);
    }
}
