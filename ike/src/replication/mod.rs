//! Replicating before sending: `baton-cluster` hears of each change of a tunnel's context, and what a peer is told
//! because of it waits until the standby has it, for a bounded time. A standby that is slow delays IKE by that bound
//! once and never stops it: after that nothing waits until `baton-cluster` says that it has caught up.

mod progress;
mod socket;

use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use baton_ike_proto::host::TunnelName;

use crate::alarms::Alarms;
use crate::control::{ReplicationNotice, ReplicationReply, TunnelVersion};
use crate::counters::Counted;

use progress::Progress;
pub(crate) use progress::Wait;
use socket::Socket;

/// The socket's name below the runtime directory.
pub const SOCKET: &str = "ike-replication.sock";

/// What baton-cluster is told, and what it has answered.
#[derive(Debug)]
pub(crate) struct Replication {
    socket: Socket,
    progress: Progress,
    /// Of tunnels whose changes are not replicated, by their numbers.
    names: HashMap<u32, TunnelName>,
    /// Changes of which the table may not have all yet.
    unsaid: Vec<ReplicationNotice>,
    alarms: Alarms,
    counted: Arc<Counted>,
}

impl Replication {
    /// Nobody is connected yet. What is sent waits for `bound` at most.
    pub(crate) fn new(
        listener: UnixListener,
        bound: Duration,
        alarms: Alarms,
        counted: Arc<Counted>,
    ) -> Self {
        let (socket, progress) = (Socket::new(listener), Progress::new(bound));
        let replication =
            Self { socket, progress, names: HashMap::new(), unsaid: Vec::new(), alarms, counted };
        replication.raise("baton-cluster is not connected");
        replication
    }

    /// Where somebody may want to connect.
    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.socket.listener()
    }

    /// Takes a new client in the place of the one before; what is to be waited for from now on.
    pub(crate) fn accept(&mut self) -> Option<BorrowedFd<'_>> {
        if !self.socket.accept() {
            return None;
        }
        self.forget_all();
        self.raise("baton-cluster has not said yet that its standby has all");
        self.socket.client()
    }

    /// A tunnel's context has changed. It is told by [`Self::announce`].
    pub(crate) fn changed(&mut self, tunnel: &TunnelName, version: u64) {
        self.tell(tunnel, version, ReplicationNotice::Changed);
    }

    /// A tunnel is over. The same.
    pub(crate) fn deleted(&mut self, tunnel: &TunnelName, version: u64) {
        self.tell(tunnel, version, ReplicationNotice::Deleted);
    }

    fn tell(
        &mut self,
        tunnel: &TunnelName,
        version: u64,
        notice: impl Fn(TunnelVersion) -> ReplicationNotice,
    ) {
        let Some((_, number)) = TunnelName::parse(tunnel.as_str()) else { return };
        if self.socket.has_client() || !self.progress.is_behind() {
            self.progress.changed(number, version);
            self.names.insert(number, tunnel.clone());
        }
        if self.socket.has_client() {
            let (name, segment) = (tunnel.to_string(), number.to_be_bytes()[0]);
            self.unsaid.push(notice(TunnelVersion { name, segment, version }));
        }
    }

    /// Tells of all changes so far: now the table has what belongs to them, and whoever reads both has them as they are.
    pub(crate) fn announce(&mut self) {
        for notice in std::mem::take(&mut self.unsaid) {
            self.socket.send(&notice);
        }
        self.look_at_client();
    }

    /// What a datagram about a tunnel has to wait for, if anything.
    pub(crate) fn wait(&self, now: Duration, number: u32) -> Option<Wait> {
        let wait = self.progress.wait(now, number);
        if wait.is_none() && self.progress.is_behind() {
            self.counted.replication_skipped.add(1);
        }
        wait
    }

    /// Whether a datagram need not wait any more.
    pub(crate) fn is_over(&mut self, now: Duration, number: u32, wait: Wait) -> bool {
        if self.progress.is_replicated(number, wait.version) {
            return true;
        }
        if wait.until > now {
            return false;
        }
        self.counted.replication_late.add(1);
        if self.progress.is_late() {
            self.raise("the standby has not got a change in time");
        }
        if !self.socket.has_client() {
            self.forget_all();
        }
        true
    }

    /// Reads what the client says, and writes what it has not taken yet.
    pub(crate) fn look(&mut self) {
        for reply in self.socket.receive() {
            match reply {
                ReplicationReply::Replicated { name, version } => self.replicated(&name, version),
                ReplicationReply::CaughtUp => {
                    self.progress.caught_up();
                    self.alarms.set("replication", None);
                }
            }
        }
        self.socket.flush();
        self.look_at_client();
    }

    /// Whether octets wait for the client.
    pub(crate) fn is_stuck(&self) -> bool {
        self.socket.is_stuck()
    }

    fn replicated(&mut self, name: &str, version: u64) {
        let Some((_, number)) = TunnelName::parse(name) else { return };
        let is_it = self.names.get(&number).is_some_and(|tunnel| tunnel.as_str() == name);
        if is_it && self.progress.replicated(number, version) {
            self.names.remove(&number);
        }
    }

    /// Without a client there is nobody who could answer. What waits does so to its bound all the same: the leases that
    /// the client has left behind end before that, and somebody else may have taken over without this change (I6).
    fn look_at_client(&mut self) {
        if self.socket.has_left() {
            self.unsaid.clear();
            self.raise("baton-cluster has left");
        }
    }

    fn forget_all(&mut self) {
        self.progress.forget_all();
        self.names.clear();
        self.unsaid.clear();
    }

    fn raise(&self, why: &str) {
        let sentence = format!(
            "{why}: tunnels go on, but a takeover now may lose their latest exchanges; look at baton-cluster"
        );
        self.alarms.set("replication", Some(sentence));
    }
}

#[cfg(test)]
mod tests;
