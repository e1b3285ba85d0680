//! Reservations and floors against a simple model: two nodes that take turns with one SA (I2).

use std::time::Duration;

use proptest::prelude::*;

use super::{OUTBOUND, directory, new_table, seeded};
use crate::{Counters, Floor, PutKind, Reserve, Sa, SaKey, Table};

const KEY: u32 = 7;
const SEGMENTS: [u64; 4] = [u64::MAX; 4];

#[derive(Debug, Clone)]
enum Operation {
    /// The owner sends so many packets.
    Send(u8),
    /// The owner asks for so many numbers beyond its edge; the standby applies it, and the owner hears of it, or not.
    Reserve { ahead: u8, is_confirmed: bool },
    /// The standby gets the context again, as it was a while ago or is now.
    Copy { is_stale: bool },
    /// The owner skips numbers.
    Skip(u8),
    /// The owner dies.
    Takeover,
    /// The owner hands over.
    Move,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        6 => (1_u8..40).prop_map(Operation::Send),
        5 => (1_u8..60, prop::bool::weighted(0.7))
            .prop_map(|(ahead, is_confirmed)| Operation::Reserve { ahead, is_confirmed }),
        2 => any::<bool>().prop_map(|is_stale| Operation::Copy { is_stale }),
        1 => (1_u8..60).prop_map(Operation::Skip),
        2 => Just(Operation::Takeover),
        2 => Just(Operation::Move),
    ]
}

fn sa() -> Sa {
    let (sa, _) = seeded(OUTBOUND, KEY, 1);
    Sa { extended_sequence: true, ..sa }
}

fn name() -> SaKey {
    SaKey { direction: OUTBOUND, key: KEY, spi: sa().spi }
}

/// Two tables, which of them is the owner's, and all numbers that were ever sent.
struct Nodes {
    tables: [Table; 2],
    owner: usize,
    sent: Vec<u64>,
    /// A context as it was some time ago.
    stale: Counters,
}

impl Nodes {
    fn counters(&self, node: usize) -> Counters {
        self.tables[node].get(OUTBOUND, KEY).expect("got").expect("there").counters
    }

    fn put(&self, node: usize, kind: PutKind, counters: Counters) {
        self.tables[node].put_as(kind, &[(sa(), counters)]).expect("put");
    }

    /// As a worker does it.
    fn send(&mut self, packets: u8) {
        let table = &self.tables[self.owner];
        let handle = table.lookup(OUTBOUND, KEY).expect("found");
        let slot = table.slot(handle).expect("there");
        for _ in 0..packets {
            let limit = table.grant(handle, sa().segment, slot.sequence() + 1);
            self.sent.extend(slot.next_sequence(1, limit));
        }
    }

    fn reserve(&self, ahead: u8, is_confirmed: bool) {
        let reserved = self.counters(self.owner).sequence + u64::from(ahead);
        let missing = self.tables[1 - self.owner].raise_floors(&[Floor { sa: name(), floor: reserved }]);
        assert_eq!(missing.expect("raised"), []);
        if is_confirmed {
            let item = Reserve { sa: name(), reserved, mark: reserved - u64::from(ahead / 2) };
            assert_eq!(self.tables[self.owner].reserve(&[item]).expect("reserved"), 1);
        }
    }

    /// From now on contexts are this node's.
    fn own(&mut self, node: usize) {
        (self.owner, self.stale) = (node, self.counters(node));
    }

    fn happen(&mut self, operation: &Operation) {
        let standby = 1 - self.owner;
        match *operation {
            Operation::Send(packets) => self.send(packets),
            Operation::Reserve { ahead, is_confirmed } => self.reserve(ahead, is_confirmed),
            Operation::Copy { is_stale } => {
                let fresh = self.counters(self.owner);
                let stale = std::mem::replace(&mut self.stale, fresh.clone());
                self.put(standby, PutKind::Standby, if is_stale { stale } else { fresh });
            }
            Operation::Skip(by) => {
                self.tables[self.owner].skip_sequence(KEY, u64::from(by)).expect("skipped");
            }
            Operation::Takeover => self.own(standby),
            Operation::Move => {
                let keys = [(OUTBOUND, KEY)];
                let old = &self.tables[self.owner];
                let last = old.freeze(&keys, Duration::from_secs(5)).expect("frozen").remove(0).counters;
                self.put(standby, PutKind::Move, last);
                // Now the standby, from which it may have to come back at any time.
                assert_eq!(old.thaw(&keys).expect("thawed"), 1);
                self.own(standby);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]
    /// I2: the numbers of all owners together rise, whatever happens and is lost between them.
    #[test]
    fn numbers_rise_from_owner_to_owner(operations in prop::collection::vec(operation(), 1..60)) {
        let directories = [directory(), directory()];
        let tables = [0, 1].map(|node| new_table(&directories[node], 4));
        let mut nodes = Nodes { tables, owner: 0, sent: vec![], stale: Counters::default() };
        for (node, table) in nodes.tables.iter().enumerate() {
            table.enforce_reservations(&SEGMENTS, true);
            nodes.put(node, PutKind::Restore, Counters::default());
        }
        for operation in &operations {
            nodes.happen(operation);
            prop_assert!(nodes.sent.is_sorted_by(|earlier, later| earlier < later), "{:?}", nodes.sent);
        }
    }
}
