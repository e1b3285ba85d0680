//! I1 as a property: whatever happens to a node, no epoch and no IV comes twice.

use std::collections::HashSet;
use std::path::Path;

use proptest::prelude::*;

use super::machine::{NOW, Shared, Words};
use crate::epoch::{START, maintain};
use crate::{EpochClock, LEAD, UNIT, fault};

#[derive(Debug, Clone)]
enum Event {
    Maintain,
    MaintainDyingAt(u64),
    MaintainFailingAt(u32),
    Draw(u32),
    DrawTheRest,
    Pass(i64),
    JumpClock(i64),
    RollBack(usize),
    NewTable,
    Reboot { seconds: i64, keep_unsynced: bool, roll_back: Option<usize> },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => Just(Event::Maintain),
        4 => (1_u64..40).prop_map(Event::MaintainDyingAt),
        2 => (1_u32..40).prop_map(Event::MaintainFailingAt),
        4 => (1_u32..100).prop_map(Event::Draw),
        5 => Just(Event::DrawTheRest),
        4 => (1_i64..60).prop_map(Event::Pass),
        2 => (-400_i64..400).prop_map(Event::JumpClock),
        2 => (0_usize..50).prop_map(Event::RollBack),
        3 => Just(Event::NewTable),
        2 => (0_i64..300, any::<bool>(), prop::option::of(0_usize..50))
            .prop_map(|(seconds, keep_unsynced, roll_back)| Event::Reboot { seconds, keep_unsynced, roll_back }),
    ]
}

/// The world that events happen to.
struct World {
    machine: Shared,
    table: Words,
    /// Blocks that were drawn: (epoch, first, count).
    drawn: Vec<(u32, u32, u32)>,
    /// Epochs that came into a table, each with the table's number.
    used: HashSet<u32>,
    known: (Option<u32>, Option<u32>),
}

impl World {
    fn new() -> Self {
        let (machine, table) = (Shared::at(NOW, 1000), Words::default());
        let (drawn, used, known) = (Vec::new(), HashSet::new(), (None, None));
        Self { machine, table, drawn, used, known }
    }

    fn maintain(&mut self) {
        let _ = maintain(self.table.source(), &self.machine.keeper());
    }

    /// Does something to the machine, unless it is more than a node alone can know: the file rolled
    /// back, the mark gone with the power, and the clock set back, all at once. That is for the node's
    /// neighbours to remember.
    fn try_to(&mut self, promised: bool, event: impl FnOnce(&Shared)) -> bool {
        let before = self.machine.lock().clone();
        event(&self.machine);
        let possible = promised
            || self.remembers("/disk/epoch")
            || self.remembers("/tmpfs/epoch-mark")
            || self.clock_tells();
        if !possible {
            *self.machine.lock() = before;
        }
        possible
    }

    /// Whether this file is at or above every epoch in use so far.
    fn remembers(&self, file: &str) -> bool {
        self.is_above_all(self.machine.lock().files.get(Path::new(file)))
    }

    /// Whether the file would be so without power: one that was rolled back, and could not be synced since, is not.
    fn remembers_durably(&self) -> bool {
        self.is_above_all(self.machine.lock().durable.get(Path::new("/disk/epoch")))
    }

    fn is_above_all(&self, file: Option<&Vec<u8>>) -> bool {
        let text = file.map(|octets| String::from_utf8_lossy(octets).into_owned());
        let epoch = text.and_then(|text| text.split(' ').nth(5)?.parse::<u32>().ok()).unwrap_or(0);
        self.used.iter().all(|used| *used <= epoch)
    }

    /// Whether the clock, at the machine's start, was where the grants so far were allowed.
    fn clock_tells(&self) -> bool {
        let start = self.machine.unix_seconds() - self.machine.seconds_since_boot();
        let limit = (start - START).div_euclid(UNIT) + LEAD;
        self.used.iter().all(|used| i64::from(*used) <= limit)
    }

    /// Every epoch that newly shows in the table must never have been in one before.
    fn note_epochs(&mut self) {
        let state = self.table.source().state();
        let (known_current, known_spare) = self.known;
        if state.current != known_current && state.current != known_spare {
            state
                .current
                .into_iter()
                .for_each(|epoch| assert!(self.used.insert(epoch), "granted twice: {epoch}"));
        }
        if state.spare != known_spare {
            state
                .spare
                .into_iter()
                .for_each(|epoch| assert!(self.used.insert(epoch), "granted twice: {epoch}"));
        }
        self.known = (state.current, state.spare);
    }

    fn new_table(&mut self) {
        self.table = Words::default();
        self.known = (None, None);
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Maintain => self.maintain(),
            Event::MaintainDyingAt(step) => {
                fault::survive(step, || self.maintain());
            }
            Event::MaintainFailingAt(operation) => {
                self.machine.lock().fail_in = operation;
                self.maintain();
                self.machine.lock().fail_in = 0;
            }
            Event::Draw(count) => self.drawn.extend(self.table.draw(count)),
            Event::DrawTheRest => self.drawn.extend(self.table.draw_the_rest()),
            Event::Pass(seconds) => self.machine.pass(seconds),
            Event::JumpClock(seconds) => {
                self.try_to(false, |machine| machine.lock().clock += seconds);
            }
            Event::RollBack(choice) => {
                self.try_to(false, |machine| machine.roll_back(choice));
            }
            Event::NewTable => self.new_table(),
            Event::Reboot { seconds, keep_unsynced, roll_back } => {
                // What was granted is durable, whatever the clock says then.
                let promised = roll_back.is_none() && self.remembers_durably();
                let rebooted = self.try_to(promised, |machine| {
                    machine.reboot(seconds, keep_unsynced);
                    if let Some(choice) = roll_back {
                        machine.roll_back(choice);
                    }
                });
                if rebooted {
                    self.new_table();
                }
            }
        }
        self.note_epochs();
    }

    fn assert_no_iv_twice(&mut self) {
        self.drawn.sort_unstable();
        for pair in self.drawn.windows(2) {
            let ((epoch, first, count), (next_epoch, next, _)) = (pair[0], pair[1]);
            let apart = next_epoch > epoch || u64::from(first) + u64::from(count) <= u64::from(next);
            assert!(apart, "IVs drawn twice: {pair:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn no_epoch_is_granted_twice_whatever_happens(events in prop::collection::vec(event(), 1..80)) {
        let mut world = World::new();
        for event in events {
            world.happen(&event);
        }
        world.assert_no_iv_twice();
    }
}
