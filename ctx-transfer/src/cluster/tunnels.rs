//! The tunnels that this node owns or holds for others.

use std::collections::BTreeMap;

use baton_sad::{Name, NodeId};

use super::event::SaKey;
use super::segments::Segments;

/// A tunnel of a segment that we own.
#[derive(Debug)]
pub(crate) struct Tunnel {
    pub(crate) segment: u8,
    pub(crate) version: u64,
    /// Its SAs, as its context said when it was read last.
    pub(crate) sas: Vec<SaKey>,
}

/// A tunnel that we hold for another owner, or held when we lost its segment.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) segment: u8,
    pub(crate) version: u64,
    /// Who put it, in which session; `None` if it was ours.
    pub(crate) source: Option<(NodeId, u64)>,
}

/// What the driver was told to do for another owner, and has not done yet.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) tunnel: Name,
    /// How the tunnel is held then; `None` if it is gone.
    pub(crate) held: Option<Held>,
}

/// A tunnel that a complete session of its segment's owner did not mention.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Swept {
    pub(crate) tunnel: Name,
    pub(crate) segment: u8,
}

/// A tunnel of which changes are under way.
#[derive(Debug, Default)]
struct Changing {
    count: usize,
    /// Where it was, and where they put it.
    segments: Segments,
    /// The last one that was done.
    done: u64,
    /// As it was put last.
    put: Option<(u8, NodeId)>,
}

/// All tunnels of this node, as many as the configuration allows.
#[derive(Debug)]
pub(crate) struct Tunnels {
    most: usize,
    /// Segments that were gained and whose tunnels stand among those that are held yet: a takeover does not wait for them.
    pub(crate) gained: Segments,
    pub(crate) own: BTreeMap<Name, Tunnel>,
    pub(crate) held: BTreeMap<Name, Held>,
    /// By whose wish, and its number. What was refused leaves no trace.
    changes: BTreeMap<(NodeId, u64), (u64, Change)>,
    /// The tunnels that they are about.
    changing: BTreeMap<Name, Changing>,
    /// What is being removed because a session did not mention it, by our number of that, and what could not be.
    sweeping: BTreeMap<u64, Swept>,
    unswept: Vec<Swept>,
    serial: u64,
}

impl Tunnels {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            most,
            gained: Segments::NONE,
            own: BTreeMap::new(),
            held: BTreeMap::new(),
            changes: BTreeMap::new(),
            changing: BTreeMap::new(),
            sweeping: BTreeMap::new(),
            unswept: Vec::new(),
            serial: 0,
        }
    }

    /// Segments of which any tunnel is held.
    pub(crate) fn held_segments(&self) -> Segments {
        self.held.values().map(|held| held.segment).collect()
    }

    /// Whether there is room for a tunnel, which may be there already.
    pub(crate) fn has_room(&self, tunnel: &Name) -> bool {
        let known = self.own.contains_key(tunnel) || self.held.contains_key(tunnel);
        known || self.own.len() + self.held.len() + self.changes.len() < self.most
    }

    /// Segments in which the driver is changing something.
    pub(crate) fn changing_segments(&self) -> Segments {
        let changing = self.changing.values().map(|changing| changing.segments);
        let sweeping = self.sweeping.values().map(|swept| swept.segment).collect();
        changing.fold(sweeping, |all, segments| all | segments)
    }

    /// Segments in which tunnels that are over may still be.
    pub(crate) fn not_swept(&self) -> Segments {
        self.sweeping.values().chain(&self.unswept).map(|swept| swept.segment).collect()
    }

    /// Segments in which tunnels that are over could not be removed.
    pub(crate) fn unswept(&self) -> Segments {
        self.unswept.iter().map(|swept| swept.segment).collect()
    }

    /// Where a tunnel of which changes are under way is, and is being put.
    pub(crate) fn changing(&self, tunnel: &Name) -> Segments {
        self.changing.get(tunnel).map_or(Segments::NONE, |changing| changing.segments)
    }

    /// The segment of a tunnel and who put it, by the last message.
    pub(crate) fn put_by(&self, tunnel: &Name) -> Option<(u8, NodeId)> {
        let held = || self.held.get(tunnel).and_then(|held| Some((held.segment, held.source?.0)));
        self.changing.get(tunnel).and_then(|changing| changing.put).or_else(held)
    }

    /// The driver is told to do something for another owner.
    pub(crate) fn begin_change(&mut self, from: NodeId, number: u64, change: Change) {
        self.serial += 1;
        let place = self.held.get(&change.tunnel).map(|held| held.segment);
        let changing = self.changing.entry(change.tunnel).or_default();
        changing.count += 1;
        let put = change.held.as_ref().and_then(|held| Some((held.segment, held.source?.0)));
        changing.put = put.or(changing.put);
        let target = change.held.as_ref().map(|held| held.segment);
        changing.segments |= place.into_iter().chain(target).collect();
        if let Some((_, Change { tunnel, .. })) = self.changes.insert((from, number), (self.serial, change)) {
            self.count_down(&tunnel);
        }
    }

    /// The driver has done it, or could not. Gives what it was, unless something later has come of the tunnel already.
    pub(crate) fn end_change(&mut self, from: NodeId, number: u64, done: bool) -> Option<Change> {
        let (serial, change) = self.changes.remove(&(from, number))?;
        let changing = self.changing.get_mut(&change.tunnel)?;
        let counts = done && serial > changing.done;
        changing.done = if counts { serial } else { changing.done };
        self.count_down(&change.tunnel);
        counts.then_some(change)
    }

    /// The driver is told to remove a tunnel that nobody has mentioned; gives our number of that.
    pub(crate) fn begin_sweep(&mut self, swept: Swept) -> u64 {
        self.serial += 1;
        self.sweeping.insert(self.serial, swept);
        self.serial
    }

    /// The driver has removed it, or could not.
    pub(crate) fn end_sweep(&mut self, number: u64, done: bool) {
        let Some(swept) = self.sweeping.remove(&number) else { return };
        if !done {
            self.unswept.push(swept);
        } else if self.held.get(&swept.tunnel).is_some_and(|held| held.source.is_none()) {
            // The IKE daemon has told of it meanwhile.
            self.held.remove(&swept.tunnel);
        }
    }

    /// What could not be removed, and that nobody has put again, but what is `claimed`: that stays, and is no good order.
    pub(crate) fn take_unswept(&mut self, claimed: Segments) -> Vec<Swept> {
        let mut unswept = std::mem::take(&mut self.unswept);
        unswept.retain(|swept| {
            let (tunnel, own) = (&swept.tunnel, &self.own);
            !own.contains_key(tunnel) && self.put_by(tunnel).is_none()
        });
        let is_claimed = |swept: &Swept| claimed.contains(swept.segment);
        let (kept, again) = unswept.into_iter().partition(is_claimed);
        self.unswept = kept;
        again
    }

    fn count_down(&mut self, tunnel: &Name) {
        if let Some(changing) = self.changing.get_mut(tunnel) {
            changing.count -= 1;
            if changing.count == 0 {
                self.changing.remove(tunnel);
            }
        }
    }

    /// What was held of the segments that were gained is owned.
    pub(crate) fn take_gained(&mut self) {
        let segments = std::mem::take(&mut self.gained);
        if segments.is_empty() {
            return;
        }
        for (name, held) in self.held.extract_if(.., |_, held| segments.contains(held.segment)) {
            self.own.insert(name, Tunnel { segment: held.segment, version: held.version, sas: Vec::new() });
        }
    }

    /// What was owned is held, until the new owner puts it or says that it is gone.
    pub(crate) fn yield_up(&mut self, segments: Segments) {
        for (name, own) in self.own.extract_if(.., |_, own| segments.contains(own.segment)) {
            self.held.insert(name, Held { segment: own.segment, version: own.version, source: None });
        }
    }

    /// What a complete session did not mention is gone.
    pub(crate) fn sweep(&mut self, from: NodeId, session: u64, segments: Segments) -> Vec<Swept> {
        let gone = |_: &Name, held: &mut Held| {
            segments.contains(held.segment) && held.source != Some((from, session))
        };
        self.held.extract_if(.., gone).map(|(tunnel, held)| Swept { tunnel, segment: held.segment }).collect()
    }
}
