//! What keeps requests of many tunnels apart that all want to ask at once, as after a takeover.

use std::time::Duration;

use super::Ike;
use super::core::{Cx, Id};
use super::tunnel::Tunnel;
use super::up::Up;
use crate::host::{Host, Now};

/// Between two tunnels that ask again, or agree about Message IDs: 500 in a second.
pub(super) const ASKING: Duration = Duration::from_millis(2);
/// Between two that are rekeyed, which costs both ends far more: 100 in a second.
pub(super) const REKEYING: Duration = Duration::from_millis(10);

/// When the next tunnel may begin to ask (monotonic).
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Duration,
}

impl Pace {
    /// A time of its own for one tunnel; the next one's is later by `interval`.
    pub(super) fn slot(&mut self, now: Duration, interval: Duration) -> Duration {
        let slot = self.next.max(now);
        self.next = slot.saturating_add(interval);
        slot
    }
}

impl Ike {
    /// The edges of all SAs of these segments were advanced when they were taken over: both ends of each tunnel agree
    /// about what comes next (RFC 6311), if they know how, a few at a time; how many will.
    pub fn advance(&mut self, now: Now, segments: &[u8], packets: u64, host: &mut dyn Host) -> usize {
        let mut ids: Vec<Id> = Vec::new();
        for segment in segments {
            let (first, last) = (u32::from(*segment) << 24, u32::from(*segment) << 24 | 0x00ff_ffff);
            ids.extend(self.core.index.numbers.range(first..=last).map(|(_, id)| *id));
            // Those that are asleep yet do so when they wake up.
            self.core.ownership.advance(*segment, packets);
        }
        self.one_by_one(now, host, &ids, ASKING, |up| up.wants_agreement(packets))
    }

    /// Replaces the keys of all Child SAs of these tunnels, a few at a time, because an SA may have gone further than
    /// this node knows (I2); how many tunnels.
    pub fn rekey_slowly(&mut self, now: Now, names: &[String], host: &mut dyn Host) -> usize {
        let ids: Vec<Id> = names.iter().filter_map(|name| self.id_of_tunnel(name)).collect();
        self.one_by_one(now, host, &ids, REKEYING, Up::rekey_all)
    }

    /// Lets tunnels that stand want something, and begin it each at a time of its own.
    fn one_by_one(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        ids: &[Id],
        interval: Duration,
        mut want: impl FnMut(&mut Up) -> bool,
    ) -> usize {
        let mut count = 0;
        for id in ids {
            let is_up = self.tunnels.get(id).is_some_and(|slot| matches!(slot.tunnel, Tunnel::Up(_)));
            if is_up {
                self.with_tunnel(now, host, *id, |tunnel, cx| {
                    Some(wait(tunnel, cx, interval, &mut want, &mut count))
                });
            }
        }
        count
    }
}

fn wait(
    tunnel: Tunnel,
    cx: &mut Cx,
    interval: Duration,
    want: &mut impl FnMut(&mut Up) -> bool,
    count: &mut usize,
) -> Tunnel {
    let Tunnel::Up(mut up) = tunnel else { return tunnel };
    if !up.is_frozen && want(&mut up) {
        *count += 1;
        let slot = cx.core.pace.slot(cx.now.monotonic, interval);
        up.wait_until(slot);
        cx.store();
    }
    Tunnel::Up(up)
}

impl Up {
    /// Replaces the keys of all Child SAs.
    pub(super) fn rekey_all(&mut self) -> bool {
        let spis: Vec<u32> = self.children.iter().map(|child| child.inbound_spi).collect();
        spis.into_iter().filter(|spi| self.rekey_child(*spi)).count() > 0
    }
}
