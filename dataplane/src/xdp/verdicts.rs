//! The filter's verdicts, generated from `ebpf/verdicts.def`: names, actions and counters have one list.

use crate::io::Side;

/// What happens to a packet of some verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To the kernel.
    Pass,
    /// Nowhere.
    Drop,
    /// To the AF_XDP socket of the receive queue; dropped without one (I7).
    Socket,
    /// Out of the interface that it came from, to the node that owns its segment.
    Forward,
    /// Out of the interface that it came from, as the answer to its sender.
    Answer,
}

struct Row {
    verdict: Verdict,
    name: &'static str,
    action: Action,
    outer: bool,
    inner: bool,
    meaning: &'static str,
}

include!(concat!(env!("OUT_DIR"), "/filter_verdicts.rs"));

impl Verdict {
    /// All verdicts, by counter index.
    pub fn all() -> impl Iterator<Item = Self> {
        ROWS.iter().map(|row| row.verdict)
    }

    /// The verdict with the counter index `index`.
    pub fn from_index(index: u32) -> Option<Self> {
        ROWS.get(index as usize).map(|row| row.verdict)
    }

    /// Index of the counter within its side.
    pub const fn index(self) -> u32 {
        self as u32
    }

    /// The operator's name.
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// What happens to the packet.
    pub fn action(self) -> Action {
        self.row().action
    }

    /// One phrase for help texts.
    pub fn meaning(self) -> &'static str {
        self.row().meaning
    }

    /// Whether it can occur on `side`.
    pub fn occurs_on(self, side: Side) -> bool {
        match side {
            Side::Outer => self.row().outer,
            Side::Inner => self.row().inner,
        }
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn rows_stand_at_their_index_and_names_are_unique() {
        for (index, verdict) in (0..).zip(Verdict::all()) {
            assert_eq!(verdict.index(), index);
            assert_eq!(Verdict::from_index(index), Some(verdict));
        }
        let names: HashSet<_> = Verdict::all().map(Verdict::name).collect();
        assert_eq!(names.len(), Verdict::all().count());
        assert!(names.len() <= crate::xdp::shared::VERDICTS_PER_SIDE as usize);
    }

    #[test]
    fn nothing_protected_has_a_verdict_that_passes() {
        for verdict in Verdict::all().filter(|v| v.name().contains("esp") || v.name().contains("plaintext")) {
            assert_ne!(verdict.action(), Action::Pass, "{}", verdict.name());
        }
    }
}
