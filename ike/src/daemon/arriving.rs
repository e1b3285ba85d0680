//! IKE messages of segments that are about to become this node's. Their old owner is silent already, and a peer that gets
//! no answer asks again only after some seconds.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use baton_ike_proto::host::Path;
use baton_ike_proto::wire::Header;
use baton_sad::Table;

use crate::host::{holds, owns};

/// Messages that wait at most, and their octets in all: the latest count.
const MOST: usize = 256;
const OCTETS: usize = 1 << 20;
/// As long as a planned move may take.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Held {
    segment: u8,
    since: Duration,
    path: Path,
    datagram: Vec<u8>,
}

/// What waits, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    held: VecDeque<Held>,
    octets: usize,
}

impl Arriving {
    /// Keeps a message if it is of a segment that is on its way to this node: whether it has.
    pub(super) fn keep(
        &mut self,
        (table, owned): (&Table, &BTreeSet<u8>),
        now: Duration,
        path: Path,
        datagram: &[u8],
    ) -> bool {
        // Of a lease that is here already nobody may have told yet.
        let is_coming =
            |segment: &u8| !owned.contains(segment) && (holds(table, *segment) || owns(table, *segment));
        let Some(segment) = segment_of(datagram).filter(is_coming) else { return false };
        self.octets += datagram.len();
        self.held.push_back(Held { segment, since: now, path, datagram: datagram.to_vec() });
        while self.held.len() > MOST || self.octets > OCTETS {
            self.pop();
        }
        true
    }

    /// What has arrived; the rest goes on waiting, and what has waited too long is gone.
    pub(super) fn take(&mut self, now: Duration, owned: &BTreeSet<u8>) -> Vec<(Path, Vec<u8>)> {
        while self.held.front().is_some_and(|held| held.since + PATIENCE < now) {
            self.pop();
        }
        let (arrived, rest) =
            std::mem::take(&mut self.held).into_iter().partition(|held| owned.contains(&held.segment));
        self.held = rest;
        let arrived: VecDeque<Held> = arrived;
        self.octets = self.held.iter().map(|held| held.datagram.len()).sum();
        arrived.into_iter().map(|held| (held.path, held.datagram)).collect()
    }

    fn pop(&mut self) {
        self.octets -= self.held.pop_front().map_or(0, |held| held.datagram.len());
    }
}

/// The segment of an IKE SA is the top octet of our SPI. A first message has none of ours yet.
fn segment_of(datagram: &[u8]) -> Option<u8> {
    let header = Header::parse(datagram).ok()?;
    let ours = if header.flags.initiator { header.responder_spi } else { header.initiator_spi };
    (ours != 0).then(|| ours.to_be_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use baton_sad::{ClusterId, NOT_OWNED, NodeId, OWNED, TableOptions};

    const SEGMENT: u8 = 42;

    fn datagram(segment: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut octets = vec![0; length.max(28)];
        let (ours, theirs) = (if flags == 0 { 0 } else { 8 }, if flags == 0 { 8 } else { 0 });
        octets[ours] = segment;
        octets[theirs] = 1;
        (octets[17], octets[18], octets[19]) = (0x20, 37, flags);
        octets
    }

    fn path() -> Path {
        let end = "203.0.113.1:500".parse().expect("an end");
        Path { local: end, remote: end, marked: false }
    }

    #[test]
    fn what_comes_for_a_segment_that_is_on_its_way_waits_for_it() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let options =
            TableOptions { capacity: 4, node: NodeId::new(1).expect("not 0"), cluster: ClusterId::new(1) };
        let table = Table::create(&directory.path().join("sa-table"), &options).expect("created");
        let (mut arriving, none, ours) = (Arriving::default(), BTreeSet::new(), BTreeSet::from([SEGMENT]));
        let keep = |arriving: &mut Arriving, owned: &BTreeSet<u8>, second: u64, datagram: &[u8]| {
            arriving.keep((&table, owned), Duration::from_secs(second), path(), datagram)
        };
        // Flags: the peer is the original initiator, or we are.
        let messages = [datagram(SEGMENT, 0x08, 28), datagram(SEGMENT, 0, 30)];
        assert!(!keep(&mut arriving, &none, 1, &messages[0]), "nothing is coming");
        table.set_hold(SEGMENT, OWNED);
        assert!(messages.iter().all(|message| keep(&mut arriving, &none, 1, message)));
        assert!(!keep(&mut arriving, &ours, 1, &messages[0]), "it is here");
        assert!(!keep(&mut arriving, &none, 1, &datagram(7, 0x08, 28)), "another one");
        assert!(!keep(&mut arriving, &none, 1, &messages[0][..27]));
        assert_eq!(arriving.take(Duration::from_secs(1), &none), []);
        let came = arriving.take(Duration::from_secs(1), &ours);
        assert_eq!(came, messages.map(|message| (path(), message)));
        assert_eq!(arriving.octets, 0);
        table.set_hold(SEGMENT, NOT_OWNED);
        table.set_lease(SEGMENT, OWNED);
        assert!(keep(&mut arriving, &none, 1, &datagram(SEGMENT, 0x08, 28)), "its lease is here");
        assert_eq!(arriving.take(Duration::from_secs(3), &ours), [], "too late");
        for _ in 0..=MOST {
            assert!(keep(&mut arriving, &none, 3, &datagram(SEGMENT, 0x08, 28)));
        }
        assert_eq!(arriving.held.len(), MOST);
        for _ in 0..17 {
            keep(&mut arriving, &none, 3, &datagram(SEGMENT, 0x08, 65_535));
        }
        assert!(arriving.octets <= OCTETS, "{}", arriving.octets);
    }
}
