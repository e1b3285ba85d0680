//! What the core wants done: at once where it takes no time, by other threads where it may.

use std::sync::atomic::Ordering;
use std::time::Duration;

use baton_ike::clock;
use baton_sad::NodeId;
use tracing::{debug, info, warn};

use super::backlog::Share;
use super::counters;
use super::driver::Driver;
use super::hands::Work;
use super::words;
use crate::cluster::wire::write_as;
use crate::cluster::{Lane, Octets, Output, Segments};
use crate::control::Occurred;

impl Driver {
    /// Does all of it.
    pub(super) fn perform(&mut self) {
        while let Some(output) = self.cluster.poll() {
            match self.backlog.admit(&output) {
                Ok(share) => self.perform_one(output, share),
                Err(refusal) => self.cluster.handle(clock::now().monotonic, refusal),
            }
        }
    }

    fn perform_one(&mut self, output: Output, share: Option<Share>) {
        match output {
            Output::Send { to, lane, octets } => self.send(to, lane, octets),
            Output::SetLease { segments, until } => self.set_lease(segments, until),
            Output::Took { segments, cause } => {
                info!(segments = segments.len(), cause = words::cause(cause), "took");
                self.owned |= segments;
                self.parts.owner.own(self.owned, self.cluster.status().term, Some((segments, cause)));
            }
            Output::Lost { segments } => {
                info!(segments = segments.len(), "lost");
                self.owned -= segments;
                self.parts.owner.own(self.owned, self.cluster.status().term, None);
            }
            Output::Alarm { alarm, raised } => {
                let alarm = words::alarm(&alarm);
                if raised {
                    warn!(alarm, "alarm");
                } else {
                    info!(alarm, "alarm is over");
                }
                self.parts.listeners.tell(Occurred::Alarm { raised, alarm });
            }
            Output::Notice(notice) => {
                debug!(?notice, "notice");
                self.parts.listeners.tell(words::occurred(&notice));
            }
            // On tmpfs that takes microseconds, and it is rare: an owner has changed. What follows depends on it.
            Output::Remember(remembered) => {
                if let Err(error) = self.parts.memory.store(&remembered) {
                    warn!(%error, "votes are not remembered over a restart of this daemon; is the disk full?");
                }
            }
            Output::Synced(synced) => self.parts.synced.store(synced, Ordering::Release),
            Output::Reserve(items) => self.parts.counters.work(counters::Work::Reserve(items)),
            Output::RaiseFloors { from, number, floors, within } => {
                self.parts.counters.work(counters::Work::RaiseFloors { from, number, floors, within, share });
            }
            work => self.parts.hands.work(Work::Output(Box::new(work), share)),
        }
    }

    fn send(&self, to: NodeId, lane: Lane, mut octets: Octets) {
        let mut octets = std::mem::take(&mut *octets.0);
        let heartbeats = self.parts.channel.sender();
        let sender = if lane == Lane::Heartbeat { &heartbeats } else { &self.parts.bulk };
        if let Some(version) = sender.version(to) {
            write_as(version, &mut octets);
        }
        let sent = sender.send(to, lane, octets);
        // What is lost of a datagram is noticed by who waits for an answer; of a stream, the end of its connection is told.
        if let Err(error) = sent {
            debug!(to = to.get(), ?lane, %error, "not sent");
        }
    }

    /// A lease that has ended meanwhile ends nothing that the data plane has not ended itself.
    fn set_lease(&self, segments: Segments, until: Duration) {
        let Some(table) = &self.table else { return };
        let until = u64::try_from(until.as_nanos()).unwrap_or(baton_sad::NOT_OWNED);
        for segment in segments.iter() {
            table.set_lease(segment, until);
        }
        // What is frozen the filter leaves to its next owner, whom the sharer tells it.
        if until == baton_sad::NOT_OWNED {
            self.parts.owner.look_again();
        }
    }
}
