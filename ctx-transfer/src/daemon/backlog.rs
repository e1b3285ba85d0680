//! What members have the other threads do, bounded for each of them: what goes beyond is refused, and asked for again by
//! whoever still wants it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use baton_sad::NodeId;

use crate::cluster::{Event, Octets, Output, Refusal, Reserved};

/// Octets that wait for one member at most: the largest window of contexts, twice.
const MOST: usize = 16 << 20;
/// What anything costs beside its octets.
const OVERHEAD: usize = 512;

/// What waits, by whose wish.
#[derive(Debug, Default)]
pub(super) struct Backlog(HashMap<NodeId, Arc<AtomicUsize>>);

/// Some of it; dropped when it is done.
#[derive(Debug)]
pub(super) struct Share {
    all: Arc<AtomicUsize>,
    octets: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.all.fetch_sub(self.octets, Ordering::AcqRel);
    }
}

impl Backlog {
    /// Takes it in, or gives the answer to who wants too much at once. What this node wants itself has no share.
    pub(super) fn admit(&mut self, output: &Output) -> Result<Option<Share>, Event> {
        let Some((from, octets)) = wish(output) else { return Ok(None) };
        let all = self.0.entry(from).or_default();
        if all.fetch_add(octets, Ordering::AcqRel) + octets > MOST {
            all.fetch_sub(octets, Ordering::AcqRel);
            return Err(refusal(output, from));
        }
        Ok(Some(Share { all: Arc::clone(all), octets }))
    }
}

/// Who wants it, and what it takes. A move to us is bounded by the core.
fn wish(output: &Output) -> Option<(NodeId, usize)> {
    let floors = |floors: &[Reserved]| size_of_val(floors);
    let (from, octets) = match output {
        Output::Apply { from, octets: Octets(octets), floors: all, .. } => (from, octets.len() + floors(all)),
        Output::Remove { from, number: 1.., .. } => (from, 0),
        Output::RaiseFloors { from, floors: all, .. } => (from, floors(all)),
        _ => return None,
    };
    Some((*from, octets + OVERHEAD))
}

fn refusal(output: &Output, from: NodeId) -> Event {
    match output {
        Output::RaiseFloors { number, floors, .. } => {
            let missing = floors.iter().map(|floor| floor.key).collect();
            Event::FloorsRaised { from, number: *number, missing, foreign: crate::cluster::Segments::NONE }
        }
        Output::Apply { number, .. } | Output::Remove { number, .. } => {
            Event::Applied { from, number: *number, result: Err(Refusal::Unavailable) }
        }
        _ => Event::Applied { from, number: 0, result: Err(Refusal::Unavailable) },
    }
}

#[cfg(test)]
mod tests {
    use baton_sad::Name;

    use super::*;

    fn apply(from: u8, number: u64, octets: usize) -> Output {
        Output::Apply {
            from: NodeId::new(from).expect("not 0"),
            number,
            tunnel: Name::new("site-a").expect("short"),
            segment: 1,
            version: 1,
            octets: vec![0; octets].into(),
            floors: Vec::new(),
            supersedes: false,
        }
    }

    #[test]
    fn a_member_that_wants_too_much_at_once_is_refused_and_the_others_are_not() {
        let mut backlog = Backlog::default();
        let mut shares = Vec::new();
        let refused = (1..).find_map(|number| match backlog.admit(&apply(1, number, 1 << 20)) {
            Ok(share) => {
                shares.extend(share);
                None
            }
            Err(event) => Some((number, event)),
        });
        let (number, event) = refused.expect("bounded");
        assert_eq!(number, 16, "15 MiB and what they cost");
        let from = NodeId::new(1).expect("not 0");
        assert_eq!(event, Event::Applied { from, number, result: Err(Refusal::Unavailable) });
        assert!(backlog.admit(&apply(2, 1, 1 << 20)).is_ok(), "another member");
        shares.pop();
        assert!(backlog.admit(&apply(1, 17, 1 << 20)).is_ok(), "one is done");
        assert!(
            backlog
                .admit(&Output::Thaw { segments: crate::cluster::Segments::ALL })
                .is_ok_and(|s| s.is_none())
        );
    }
}
