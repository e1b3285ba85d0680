//! What the protocol wants done, in its order: SAs into the table, policies into force, contexts onto tmpfs, datagrams
//! onto the wire.

mod policies;
mod sa;

use std::path::PathBuf;
use std::sync::Arc;

use baton_dataplane::control::Listeners;
use baton_ike_proto::host::{Install, OuterEnds};
use baton_ike_proto::{Command, Event, Output, Path};
use baton_sad::{Counters, Direction, GetError, PutError, Sa, Table, UpdateError, WriteError};
use thiserror::Error;
use tracing::{debug, error, warn};

use crate::alarms::Alarms;
use crate::control::{Kind, Occurred};
use crate::counters::Counted;
use crate::reports::Reports;
use crate::sockets::Sockets;
use crate::store::Store;

pub(crate) use policies::is_chosen;
use policies::{Change, Policies};
pub use sa::ChildError;

/// Why SAs are not in the table.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EffectError {
    /// They cannot be.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// Another tunnel has their number.
    #[error(
        "{direction} SA {key:#x} belongs to {owner}, which IKE does not know; remove it with `dpctl sa remove`"
    )]
    Taken {
        /// Its direction.
        direction: Direction,
        /// Its SPI or reqid.
        key: u32,
        /// Its tunnel.
        owner: String,
    },
    /// The table cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The table does not take them.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The table does not take their change.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The table cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The hands of the protocol.
#[derive(Debug)]
pub struct Effects {
    table: Arc<Table>,
    store: Store,
    policies: Policies,
    sockets: Arc<Sockets>,
    listeners: Arc<Listeners<Kind>>,
    counted: Arc<Counted>,
    alarms: Alarms,
}

/// What [`Effects`] work on.
#[derive(Debug)]
pub(crate) struct Tools {
    pub(crate) table: Arc<Table>,
    pub(crate) store: Store,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) listeners: Arc<Listeners<Kind>>,
    pub(crate) counted: Arc<Counted>,
    pub(crate) alarms: Alarms,
}

impl Effects {
    pub(crate) fn start(tools: Tools, control_socket: PathBuf, reports: Reports) -> std::io::Result<Self> {
        let Tools { table, store, sockets, listeners, counted, alarms } = tools;
        let policies = Policies::start(control_socket, reports)?;
        Ok(Self { table, store, policies, sockets, listeners, counted, alarms })
    }

    /// Policies that the data plane has not confirmed yet.
    pub(crate) fn policies_waiting(&self) -> u64 {
        self.policies.waiting()
    }

    /// All tunnels that there were have been told of: policies of others may go.
    pub(crate) fn settle_policies(&self) {
        self.policies.change(Change::Settle);
    }

    /// Does one thing; what the protocol is to know of it comes back.
    pub(crate) fn perform(&self, output: Output) -> Option<Command> {
        match output {
            Output::Transmit { path, datagram } => self.transmit(&path, &datagram),
            Output::KeepAlive { path } => self.count_sent(&path, self.sockets.keep_alive(&path)),
            Output::Install(install) => return self.install(&install),
            Output::Remove { inbound, outbound } => self.remove(&inbound, &outbound),
            Output::Trap(policy) => {
                self.policies.change(Change::Add { policy: policies::spec(&policy), spi: None });
            }
            Output::RemovePolicies { names, keep_prohibited } => {
                self.policies.change(Change::Remove { names, keep_prohibited });
            }
            Output::MovePeer { inbound, outbound, ends } => self.move_peer(&inbound, &outbound, &ends),
            Output::Store { tunnel, context } => {
                self.note_stored(self.store.put(tunnel.as_str(), &context));
            }
            Output::Forget { tunnel } => self.note_stored(self.store.remove(tunnel.as_str())),
            Output::Event(event) => self.tell(&event),
        }
        None
    }

    fn transmit(&self, path: &Path, datagram: &[u8]) {
        self.count_sent(path, self.sockets.transmit(path, datagram));
    }

    /// What is not sent is lost like any other datagram: it is sent again, or the peer asks again.
    fn count_sent(&self, path: &Path, sent: std::io::Result<()>) {
        match sent {
            Ok(()) => self.counted.sent.add(1),
            Err(error) => {
                self.counted.send_failures.add(1);
                debug!(remote = %path.remote, %error, "a datagram cannot be sent");
            }
        }
    }

    /// I6 suffers while contexts cannot be stored; the tunnels live on.
    fn note_stored(&self, stored: Result<(), crate::store::StoreError>) {
        self.alarms
            .set("store", stored.err().map(|error| format!("a tunnel would not survive a restart: {error}")));
    }

    fn install(&self, install: &Install) -> Option<Command> {
        match self.put(install) {
            Ok(()) => {
                if let Some(policy) = &install.policy {
                    let (policy, spi) = (policies::spec(policy), Some(install.inbound_spi));
                    self.policies.change(Change::Add { policy, spi });
                }
                None
            }
            Err(error) => {
                self.counted.install_failures.add(1);
                error!(tunnel = %install.tunnel, %error, "a Child SA cannot be installed");
                Some(Command::InstallFailed { reqid: install.reqid, spi: install.inbound_spi })
            }
        }
    }

    /// Installs both halves at one instant. One that is there already, by SPI and key, keeps its counters: the protocol
    /// may have asked before a crash.
    fn put(&self, install: &Install) -> Result<(), EffectError> {
        let mut news = Vec::new();
        for mut sa in sa::pair(install)? {
            match self.table.get(sa.direction, sa.index_key())? {
                Some(found) if found.sa.spi == sa.spi && found.sa.key == sa.key => {
                    sa.senders = found.sa.senders.clone();
                    if sa != found.sa {
                        self.table.update(&sa)?;
                    }
                }
                Some(found) if found.sa.name != sa.name => {
                    let (direction, key, owner) = (sa.direction, sa.index_key(), found.sa.name.to_string());
                    return Err(EffectError::Taken { direction, key, owner });
                }
                _ => news.push((sa, Counters::default())),
            }
        }
        self.table.put(&news)?;
        Ok(())
    }

    fn remove(&self, inbound: &[u32], outbound: &[(u32, u32)]) {
        let inbound = inbound.iter().map(|spi| (Direction::Inbound, *spi));
        // A successor in the same place is not theirs to remove.
        let is_there = |&&(reqid, spi): &&(u32, u32)| {
            let found = self.table.get(Direction::Outbound, reqid);
            found.is_ok_and(|found| found.is_some_and(|found| found.sa.spi == spi))
        };
        let outbound = outbound.iter().filter(is_there).map(|(reqid, _)| (Direction::Outbound, *reqid));
        let keys: Vec<_> = inbound.chain(outbound).collect();
        if let Err(error) = self.table.remove(&keys) {
            error!(%error, "Child SAs that are over cannot be removed");
        }
    }

    fn move_peer(&self, inbound: &[u32], outbound: &[u32], ends: &OuterEnds) {
        let inbound = inbound.iter().map(|spi| (Direction::Inbound, *spi));
        let outbound = outbound.iter().map(|reqid| (Direction::Outbound, *reqid));
        for (direction, key) in inbound.chain(outbound) {
            if let Err(error) = self.move_one(direction, key, ends) {
                warn!(%direction, key, %error, "an SA cannot follow its peer");
            }
        }
    }

    fn move_one(&self, direction: Direction, key: u32, ends: &OuterEnds) -> Result<(), EffectError> {
        let Some(found) = self.table.get(direction, key)? else { return Ok(()) };
        let mut sa: Sa = found.sa.clone();
        sa::place(&mut sa, ends);
        if sa != found.sa {
            self.table.update(&sa)?;
        }
        Ok(())
    }

    fn tell(&self, event: &Event) {
        crate::log::event(event, &self.counted);
        if let Some(occurred) = Occurred::of(event) {
            self.listeners.tell(occurred);
        }
    }
}

#[cfg(test)]
mod tests;
