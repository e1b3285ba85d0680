//! What the policies said about recent flows, and how they are asked.

use baton_sad::{Direction, SaHandle, SlotState, Table};

use crate::drop_reason::DropReason;
use crate::packet::transport::Flow;
use crate::spd::{Action, Spd, Way};

/// 4,096 sets of two entries.
const SET_BITS: u32 = 12;

/// What becomes of a flow's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// This SA carries them.
    Protect(SaHandle),
    /// This SA would, and belongs to another worker.
    HandOver(SaHandle),
    /// The policy wants them protected by this SA, whose selectors do not match them.
    Outside(SaHandle),
    /// The policy wants them protected, and there is no SA for its reqid: time for an acquire.
    NoSa {
        /// Links the policy with its SAs.
        reqid: u32,
    },
    /// They pass in clear.
    Bypass,
    /// The policies alone say no.
    Drop(DropReason),
}

/// Asks policies and SAs about a flow (RFC 4301 sections 5.1 and 5.2). `Way::Inbound` is for what arrived in clear;
/// what came out of an SA is checked against that SA's selectors instead.
///
/// `by_sa` says what becomes of a flow that is the SA's: [`Decision::Protect`], [`Decision::HandOver`] or
/// [`Decision::Outside`].
///
/// # Errors
/// Those of `by_sa`: they are not to be remembered.
pub fn decide(
    spd: &Spd,
    table: &Table,
    flow: &Flow,
    way: Way,
    by_sa: impl FnOnce(SaHandle) -> Result<Decision, DropReason>,
) -> Result<Decision, DropReason> {
    let Some(policy) = spd.lookup(flow, way) else { return Ok(Decision::Drop(DropReason::NoPolicy)) };
    match (policy.action, way) {
        // I7. RFC 4301 section 7.4 wants fragments beside port selectors told apart by state, which is not kept here.
        (Action::Bypass(_), Way::Outbound) if spd.may_hide_protected(flow) => {
            Ok(Decision::Drop(DropReason::HiddenPorts))
        }
        (Action::Bypass(_), _) => Ok(Decision::Bypass),
        (Action::Discard(_), _) => Ok(Decision::Drop(DropReason::PolicyDiscard)),
        (Action::Protect { .. }, Way::Inbound) => Ok(Decision::Drop(DropReason::Unprotected)),
        (Action::Protect { reqid }, Way::Outbound) => {
            let handle = table.lookup(Direction::Outbound, reqid);
            handle.map_or(Ok(Decision::NoSa { reqid }), by_sa)
        }
    }
}

/// Remembers decisions. Never stale, and a change forgets only what it may have changed:
///
/// - Everything rests on the policies: an entry of another SPD generation does not count.
/// - What rests on an SA too counts while its handle does: while the slot is in use and its generation is the
///   handle's. A PUT for the same reqid fills another slot and then retires the old one, a removal retires it, and an
///   update gives it another generation, all before they return; no slot gets a generation twice. So a handle that
///   still counts is the one that a lookup would find, and the SA's selectors are those that were asked. (While a
///   PUT is between its commit and the retirement, the old SA is used as by a worker that looked it up just before.)
///   SAs that come and go elsewhere in the table do not matter: under a thousand installations a second the other
///   flows stay.
/// - That there is no SA counts until the set of SAs changes in any way.
///
/// The generation of the SPD and the count of changes are looked at once per batch, the handle with each hit.
#[derive(Debug)]
pub struct FlowCache {
    sets: Vec<Set>,
    spd_generation: u64,
    sa_changes: u64,
    /// Goes up when policies or SAs have changed; entries bear it.
    stamp: u64,
    /// Entries from before this are from other policies.
    policies_since: u64,
    /// Those that say "no SA" from before this may be wrong.
    absence_since: u64,
}

/// Flows that meet in one place. Two of them do not displace each other.
#[derive(Clone, Copy, Debug)]
struct Set {
    entries: [Option<Entry>; 2],
    /// The entry that was used last; the other one is replaced.
    recent: u8,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    flow: Flow,
    stamp: u64,
    decision: Decision,
    way: Way,
}

impl Entry {
    #[inline]
    fn is_about(&self, flow: &Flow, way: Way) -> bool {
        self.flow == *flow && self.way == way
    }
}

impl Default for FlowCache {
    fn default() -> Self {
        Self {
            sets: vec![Set { entries: [None; 2], recent: 0 }; 1 << SET_BITS],
            spd_generation: 0,
            sa_changes: 0,
            stamp: 0,
            policies_since: 0,
            absence_since: 0,
        }
    }
}

impl FlowCache {
    /// Before each batch: with the generation of the policies and [`Table::change_count`].
    pub fn revalidate(&mut self, spd_generation: u64, sa_changes: u64) {
        let other_policies = self.spd_generation != spd_generation;
        if other_policies || self.sa_changes != sa_changes {
            self.stamp += 1;
            self.absence_since = self.stamp;
            (self.spd_generation, self.sa_changes) = (spd_generation, sa_changes);
        }
        if other_policies {
            self.policies_since = self.stamp;
        }
    }

    /// What was decided, if that still holds.
    #[inline]
    pub fn get(&mut self, table: &Table, flow: &Flow, way: Way) -> Option<Decision> {
        let set = &mut self.sets[flow.place(SET_BITS)];
        let about = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.is_about(flow, way));
        let index = set.entries.iter().position(about)?;
        set.recent = index as u8;
        let entry = set.entries[index].as_ref()?;
        let holds = match entry.decision {
            Decision::Protect(handle) | Decision::HandOver(handle) | Decision::Outside(handle) => {
                is_current(table, handle)
            }
            Decision::NoSa { .. } => entry.stamp >= self.absence_since,
            Decision::Bypass | Decision::Drop(_) => true,
        };
        (holds && entry.stamp >= self.policies_since).then_some(entry.decision)
    }

    /// Remembers what [`decide`] said, after the [`Self::revalidate`] of this batch.
    #[inline]
    pub fn put(&mut self, flow: &Flow, way: Way, decision: Decision) {
        let set = &mut self.sets[flow.place(SET_BITS)];
        let about = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.is_about(flow, way));
        let index = set.entries.iter().position(about).unwrap_or(usize::from(set.recent == 0));
        set.entries[index] = Some(Entry { flow: *flow, stamp: self.stamp, decision, way });
        set.recent = index as u8;
    }
}

/// Whether a lookup would still find this content. The state first: whoever fills the slot anew gives it another
/// generation before calling it live.
#[inline]
fn is_current(table: &Table, handle: SaHandle) -> bool {
    table
        .slot(handle)
        .is_some_and(|slot| slot.state() != SlotState::Dead && slot.generation() == handle.generation())
}
