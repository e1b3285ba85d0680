//! Another configuration, while tunnels stand.

use std::sync::Arc;

use super::Ike;
use super::closed::opening;
use super::core::Id;
use super::tunnel::Tunnel;
use crate::auth::Credentials;
use crate::configuration::{Configuration, Connection};
use crate::host::{DownReason, Host, Now, Output};

impl Ike {
    /// From now on another configuration and other credentials hold. Tunnels of connections that are no longer there
    /// end; all others stay as they are, and what is negotiated from now on follows the new configuration.
    pub fn reconfigure(
        &mut self,
        now: Now,
        configuration: Arc<Configuration>,
        credentials: Arc<Credentials>,
        host: &mut dyn Host,
    ) {
        self.core.pools.reconfigure(&configuration.pools, configuration.slicing);
        self.core.configuration = configuration;
        self.core.credentials = credentials;
        self.core.forget_tickets();
        self.withdraw_traps();
        let gone = self.core.closed.take_others(&self.core.configuration.connections);
        self.core.outputs.extend(gone.into_iter().flat_map(opening));
        let ids: Vec<Id> = self.tunnels.keys().copied().collect();
        for id in ids {
            self.adapt(now, host, id);
        }
        self.start(now, host);
    }

    /// Traps of children that are no longer there, or changed; those that changed are set again by
    /// [`Self::start`]. A policy that has SAs stays with them.
    fn withdraw_traps(&mut self) {
        let gone: Vec<u32> =
            self.core.traps.iter().filter(|trap| !self.is_configured(trap)).map(|t| t.reqid).collect();
        for reqid in gone {
            let Some(trap) = self.core.traps.remove(reqid) else { continue };
            if !self.core.index.reqids.contains_key(&reqid) {
                let names = vec![trap.policy().name];
                // One that is set again, because its peer is elsewhere, leaves no gap (I7).
                let keep_prohibited = self.is_trapped(&trap);
                self.core.outputs.push_back(Output::RemovePolicies { names, keep_prohibited });
            }
        }
    }

    fn is_trapped(&self, trap: &super::traps::Trap) -> bool {
        let connection = self.configured(&trap.connection.name);
        connection.is_some_and(|connection| connection.children.contains(&trap.child))
    }

    fn is_configured(&self, trap: &super::traps::Trap) -> bool {
        let connection = self.configured(&trap.connection.name);
        connection.is_some_and(|connection| {
            let has_same_path = connection.remote_addresses == trap.connection.remote_addresses
                && connection.local_addresses == trap.connection.local_addresses;
            has_same_path && connection.children.contains(&trap.child)
        })
    }

    pub(super) fn configured(&self, name: &str) -> Option<&Arc<Connection>> {
        self.core.configuration.connections.iter().find(|connection| connection.name == name)
    }

    fn adapt(&mut self, now: Now, host: &mut dyn Host, id: Id) {
        let Some(slot) = self.tunnels.get(&id) else { return };
        let connection = self.configured(&slot.tunnel.head().connection.name).cloned();
        match connection {
            // They are read anew when they wake up.
            _ if matches!(slot.tunnel, Tunnel::Dormant(_)) => {}
            Some(connection) if connection == slot.tunnel.head().connection => {}
            Some(connection) if !matches!(slot.tunnel, Tunnel::EapAnswered(_)) => {
                self.with_tunnel(now, host, id, |tunnel, _| Some(tunnel.adapted(connection)));
            }
            // Neither may a user go on who was asked by what no longer holds.
            Some(_) | None => self.end(now, host, id, DownReason::Reconfigured, false),
        }
    }
}

impl Tunnel {
    /// The same under another configuration of its connection. Child SAs keep theirs until they are rekeyed.
    fn adapted(mut self, connection: Arc<Connection>) -> Self {
        match &mut self {
            Self::Up(up) => {
                for child in &mut up.children {
                    let new = connection.children.iter().find(|new| new.name == child.child.name);
                    child.child = new.cloned().unwrap_or_else(|| Arc::clone(&child.child));
                }
                up.head.connection = connection;
            }
            // The next attempt follows it.
            Self::Waiting(state) => state.head.connection = connection,
            Self::InitSent(_)
            | Self::ResumeSent(_)
            | Self::IntermediateSent(_)
            | Self::AuthSent(_)
            | Self::InitAnswered(_)
            | Self::EapAnswered(_)
            | Self::Dormant(_)
            | Self::Lingering(_) => {}
        }
        self
    }
}
