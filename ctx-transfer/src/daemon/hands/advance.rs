//! Segments that were taken over from an owner that may have gone further than is known here (I2, I3).
//!
//! What it has used above what this node knows nobody can say. So outbound SAs go on so far above that it cannot have
//! come there, and inbound ones count everything as received: they accept nothing any more. The IKE daemon rekeys these
//! tunnels as soon as they have woken up. Nobody rekeys tunnels with configured keys.

use std::collections::BTreeSet;
use std::thread;

use baton_sad::{Direction, Edge, Floor, Name, Table, WriteError};
use tracing::error;

use super::{AGAIN, Bench};
use crate::cluster::Segments;

/// How far outbound SAs with extended sequence numbers go on: as far as a peer can tell for sure which of the upper 32
/// bits were left out of the packet (RFC 4303, appendix A2), and more than a gateway sends within half an hour.
const BEYOND: u64 = 1 << 31;
/// Tries to change the table.
const TRIES: u32 = 20;

impl Bench {
    /// Moves the counters of all SAs of segments out of reach; whether they are.
    pub(super) fn advance(&self, segments: Segments) -> bool {
        let Some(table) = self.table.clone().filter(|_| !segments.is_empty()) else { return true };
        let Some(shut) = persist(|| advance(&table, segments)) else { return false };
        let shut: Vec<&str> =
            shut.iter().filter(|name| !self.is_negotiated(**name)).map(Name::as_str).collect();
        if !shut.is_empty() {
            error!(
                tunnels = shut.join(", "),
                "tunnels with configured keys were taken over from an owner that may have used more numbers than is \
                 known: they drop packets, as replayed or exhausted, until both ends have new keys"
            );
        }
        true
    }
}

/// The table's other writers are done soon.
fn persist<T>(attempt: impl Fn() -> Result<T, WriteError>) -> Option<T> {
    for _ in 0..TRIES {
        match attempt() {
            Ok(done) => return Some(done),
            Err(problem) => error!(%problem, "counters cannot be moved out of reach"),
        }
        thread::sleep(AGAIN);
    }
    None
}

/// Gives the tunnels that cannot go on without new keys.
fn advance(table: &Table, segments: Segments) -> Result<BTreeSet<Name>, WriteError> {
    let (mut floors, mut shut) = (Vec::new(), BTreeSet::new());
    for edge in table.edges(&segments.words()) {
        // One that was removed meanwhile needs none.
        let Ok(Some(found)) = table.get(edge.sa.direction, edge.sa.key) else { continue };
        let floor = beyond(&edge, found.sa.extended_sequence);
        if floor >= last(found.sa.extended_sequence) {
            shut.insert(found.sa.name);
        }
        floors.push(Floor { sa: edge.sa, floor });
    }
    table.raise_floors(&floors)?;
    Ok(shut)
}

/// The last number of an SA (RFC 4303, sections 2.2 and 2.2.1).
const fn last(extended: bool) -> u64 {
    if extended { u64::MAX } else { u32::MAX as u64 }
}

fn beyond(edge: &Edge, extended: bool) -> u64 {
    match edge.sa.direction {
        Direction::Outbound if extended => edge.edge.saturating_add(BEYOND),
        _ => last(extended),
    }
}

#[cfg(test)]
mod tests {
    use baton_sad::{ClusterId, Counters, NodeId, Sa, TableOptions};

    use super::*;
    use crate::daemon::enforcing::tests::{EDGE, SEGMENT, sa};

    /// Of an SA in the segment that was taken over, and of one in another.
    fn floors(of: impl Fn() -> Sa) -> ([u64; 2], bool) {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let options =
            TableOptions { capacity: 8, node: NodeId::new(1).expect("not 0"), cluster: ClusterId::new(1) };
        let table = Table::create(&directory.path().join("table"), &options).expect("created");
        let counters = || match of().direction {
            Direction::Outbound => Counters { sequence: EDGE, ..Counters::default() },
            Direction::Inbound => Counters::default(),
        };
        let other = Sa { segment: SEGMENT + 1, spi: 0x4700_0001, reqid: 8, ..of() };
        table.put(&[(of(), counters())]).expect("put");
        table.put(&[(other, counters())]).expect("put");
        let shut = advance(&table, Segments::one(SEGMENT)).expect("advanced");
        let edges = table.edges(&Segments::ALL.words());
        let floor = |segment| edges.iter().find(|edge| edge.segment == segment).expect("there").edge;
        ([floor(SEGMENT), floor(SEGMENT + 1)], !shut.is_empty())
    }

    /// I2, I3.
    #[test]
    fn what_was_taken_over_goes_on_out_of_reach_or_not_at_all() {
        assert_eq!(floors(sa), ([EDGE + BEYOND, EDGE], false));
        let short = || Sa { extended_sequence: false, ..sa() };
        assert_eq!(floors(short), ([u64::from(u32::MAX), EDGE], true));
        let inbound = || Sa { direction: Direction::Inbound, ..sa() };
        assert_eq!(floors(inbound), ([u64::MAX, 0], true));
        let both = || Sa { extended_sequence: false, ..inbound() };
        assert_eq!(floors(both), ([u64::from(u32::MAX), 0], true));
    }
}
