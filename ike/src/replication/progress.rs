//! How far the standby is, tunnel by tunnel.

use std::collections::HashMap;
use std::time::Duration;

/// A state that is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) version: u64,
    /// Not beyond that (monotonic).
    pub(crate) until: Duration,
}

/// Which changes the standby does not have yet.
#[derive(Debug)]
pub(super) struct Progress {
    bound: Duration,
    /// Tunnels, by number, of which the standby does not have all.
    missing: HashMap<u32, Missing>,
    /// Nobody waits: somebody did so in vain, or there is nobody who could answer.
    is_behind: bool,
}

/// How far the standby is with one tunnel.
#[derive(Debug, Clone, Copy, Default)]
struct Missing {
    newest: u64,
    /// What it has said last; 0 if nothing.
    replicated: u64,
}

impl Progress {
    pub(super) fn new(bound: Duration) -> Self {
        Self { bound, missing: HashMap::new(), is_behind: true }
    }

    pub(super) const fn is_behind(&self) -> bool {
        self.is_behind
    }

    pub(super) fn changed(&mut self, number: u32, version: u64) {
        self.missing.entry(number).or_default().newest = version;
    }

    /// What waits for a tunnel's newest state, if it is not there.
    pub(super) fn wait(&self, now: Duration, number: u32) -> Option<Wait> {
        let missing = self.missing.get(&number).filter(|_| !self.is_behind)?;
        Some(Wait { version: missing.newest, until: now + self.bound })
    }

    /// Whether this state or a newer one is replicated, or nobody waits for it any more.
    pub(super) fn is_replicated(&self, number: u32, version: u64) -> bool {
        self.is_behind || self.missing.get(&number).is_none_or(|missing| missing.replicated >= version)
    }

    /// The standby has this version; whether it has all of the tunnel by that.
    pub(super) fn replicated(&mut self, number: u32, version: u64) -> bool {
        let Some(missing) = self.missing.get_mut(&number) else { return false };
        missing.replicated = missing.replicated.max(version);
        let has_all = missing.replicated >= missing.newest;
        if has_all {
            self.missing.remove(&number);
        }
        has_all
    }

    /// Somebody has waited in vain; whether that is new.
    pub(super) fn is_late(&mut self) -> bool {
        !std::mem::replace(&mut self.is_behind, true)
    }

    pub(super) fn caught_up(&mut self) {
        self.is_behind = false;
    }

    /// Whoever is to answer begins anew.
    pub(super) fn forget_all(&mut self) {
        self.missing.clear();
        self.is_behind = true;
    }
}
