//! Recovery after a writer died with the lock: what was committed is completed, the rest is undone.
//!
//! The first to take the lock runs it. Each step may be repeated: who recovers may die as well.

use super::slots::split_key_word;
use super::writer::Writer;
use crate::layout::{header, slot};
use crate::publication::SETTLED;
use crate::sa::Direction;
use crate::slot::{is_installed, state};
use crate::sync::{Ordering, store};

impl Writer<'_> {
    pub(super) fn recover(&self) {
        self.recover_update();
        for direction in [Direction::Inbound, Direction::Outbound] {
            // Half a deletion first, so that each key has one entry.
            self.shared.index(direction).repair(|_, _| true);
        }
        for number in self.used() {
            self.settle_or_undo(number);
        }
        self.take_away();
        self.rebuild_lists();
        self.end();
    }

    /// The slots that were ever used.
    fn used(&self) -> std::ops::Range<u32> {
        0..(self.value(header::FRESH) as u32).min(self.shared.layout().slots)
    }

    /// Settles a slot whose PUT was committed; takes back one whose PUT was not.
    fn settle_or_undo(&self, number: u32) {
        let words = self.words(number);
        let transaction = words[slot::TRANSACTION].load(Ordering::Relaxed);
        if transaction == SETTLED || !is_installed(self.state(number)) {
            return;
        }
        if transaction == self.value(header::COMMITTED) {
            store(&words[slot::TRANSACTION], SETTLED, Ordering::Release);
            return;
        }
        let (direction, key) = split_key_word(words[slot::KEY].load(Ordering::Relaxed));
        let index = self.shared.index(direction);
        if index.find(key) == Some(number) {
            match (words[slot::PREDECESSOR].load(Ordering::Relaxed) as u32).checked_sub(1) {
                Some(old) => index.set(key, old),
                None => drop(index.remove(key)),
            }
        }
        self.retire(number);
    }

    /// Takes from the workers what they must not use any more, and tells them: all of it before the grace
    /// period starts, so that who passes a quiescent point in it has no way left to what is freed then.
    fn take_away(&self) {
        let unreachable = |number: &u32| is_installed(self.state(*number)) && !self.is_reachable(*number);
        for number in self.used().filter(unreachable) {
            self.retire(number);
        }
        for direction in [Direction::Inbound, Direction::Outbound] {
            self.shared.index(direction).repair(|key, number| self.belongs(direction, key, number));
        }
        self.add(header::CHANGE_COUNT, 1);
    }

    /// Sorts all slots into installed, retired and free again.
    fn rebuild_lists(&self) {
        for word in [
            header::FREE_HEAD,
            header::FREE_COUNT,
            header::RETIRED_HEAD,
            header::RETIRED_TAIL,
            header::RETIRED_COUNT,
            header::INSTALLED,
        ] {
            self.set(word, 0);
        }
        let period = self.start_grace_period();
        for number in self.used() {
            match self.state(number) {
                state::LIVE | state::FROZEN => self.add(header::INSTALLED, 1),
                state::DEAD => {
                    self.wipe(number);
                    self.queue_retired(number, period);
                }
                // Nobody ever saw what was being filled.
                _ => {
                    self.wipe(number);
                    self.release(number);
                }
            }
        }
    }

    fn is_reachable(&self, number: u32) -> bool {
        let (direction, key) = split_key_word(self.words(number)[slot::KEY].load(Ordering::Relaxed));
        self.shared.index(direction).find(key) == Some(number)
    }

    fn belongs(&self, direction: Direction, key: u32, number: u32) -> bool {
        let Some(words) = self.shared.slot(number) else { return false };
        is_installed(self.state(number))
            && split_key_word(words[slot::KEY].load(Ordering::Relaxed)) == (direction, key)
    }
}
