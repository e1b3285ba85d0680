//! After a start: tunnels from their contexts, and what the SA table has beside them.

use std::collections::HashSet;
use std::time::Duration;

use baton_ike_proto::machine::{Restoring, StandbyError, heading};
use baton_ike_proto::{Command, Now};
use baton_sad::{Direction, Table};
use tracing::{error, info, warn};

use super::turn::Loop;
use crate::clock;
use crate::effects::is_chosen;
use crate::store::{Store, StoreError};

/// When SAs that nobody knows are looked for, after the start: whoever installs SAs before their contexts, as a move
/// from another gateway does, is done by then, and so is an exchange that the end of the process interrupted between the
/// installation and the context: with the usual retransmissions the peer is given up after 150 s.
const FIRST_LOOK: Duration = Duration::from_mins(4);
/// They are removed if they are still nobody's after so long: an SA that was just replaced goes by itself.
const SECOND_LOOK: Duration = Duration::from_secs(10);

/// How far the reconciliation is.
#[derive(Debug)]
pub(super) enum Reconciliation {
    /// The first look comes at this time.
    Waiting(Duration),
    /// These are nobody's; the second look comes at this time.
    Suspecting(Duration, HashSet<(Direction, u32, u32)>),
    /// All is in line.
    Done,
}

impl Reconciliation {
    pub(super) fn begin() -> Self {
        Self::Waiting(clock::now().monotonic + FIRST_LOOK)
    }
}

impl Loop {
    /// Rebuilds every tunnel from its context. One that cannot be is set aside; its SAs go with the orphans.
    pub(super) fn restore_all(&mut self, store: &Store) -> Result<(), StoreError> {
        let (contexts, mut bad) = store.read_all()?;
        let mut restored = 0;
        for stored in contexts {
            match self.restore_one(&stored.context) {
                Ok(()) => restored += 1,
                Err(problem) => {
                    error!(tunnel = stored.name, %problem, "a stored context cannot be used and is set aside");
                    store.set_aside(&stored.name);
                    bad += 1;
                }
            }
            self.carry_out();
        }
        self.counted.bad_contexts.add(bad as u64);
        let sentence = || {
            format!(
                "{bad} stored contexts cannot be used; look at the files *.bad below {} and remove them",
                store.directory().display()
            )
        };
        self.alarms.set("contexts", (bad > 0).then(sentence));
        self.restore_tickets(store);
        if restored > 0 {
            info!(tunnels = restored, "restored from their contexts");
        }
        self.report_missing();
        Ok(())
    }

    /// What other nodes own is kept at rest.
    fn restore_one(&mut self, context: &[u8]) -> Result<(), StandbyError> {
        let (now, node) = (clock::now(), &mut self.node);
        if self.effects.is_clustered() && !self.owned.contains(&heading(context)?.segment) {
            self.ike.restore_standby(now, context, node)?;
        } else {
            self.ike.restore(now, context, Restoring::Restart, node)?;
        }
        Ok(())
    }

    /// Takes back the tickets of connections whose tunnels were lost. What is of no use is forgotten: without it the
    /// tunnel is set up in full.
    fn restore_tickets(&mut self, store: &Store) {
        for (connection, ticket) in store.tickets() {
            let restored = self.ike.restore_ticket(clock::now(), &ticket);
            if let Err(problem) = &restored {
                warn!(connection, %problem, "a kept ticket cannot be used and is forgotten");
            }
            if restored != Ok(Some(connection.clone()))
                && let Err(error) = store.remove_ticket(&connection)
            {
                warn!(connection, %error, "a ticket cannot be forgotten");
            }
        }
    }

    /// Tells the protocol of Child SAs that are not in the table.
    fn report_missing(&mut self) {
        let is_there = |direction, key, spi| {
            let found = self.table.get(direction, key);
            found.is_ok_and(|found| found.is_some_and(|found| found.sa.spi == spi))
        };
        let children = self.ike.tunnels(clock::now()).flat_map(|view| view.children);
        let missing = children.filter(|child| {
            !is_there(Direction::Inbound, child.inbound_spi, child.inbound_spi)
                || (child.is_sending && !is_there(Direction::Outbound, child.reqid, child.outbound_spi))
        });
        let missing: Vec<_> = missing.map(|child| (child.reqid, child.inbound_spi)).collect();
        for (reqid, spi) in missing {
            warn!(spi = format!("{spi:#010x}"), "a Child SA is missing in the SA table");
            self.heard(Command::InstallFailed { reqid, spi });
        }
    }

    /// Removes what a tunnel left that did not live to remove it.
    pub(super) fn reconcile(&mut self, now: Now) {
        match &self.reconciliation {
            Reconciliation::Waiting(at) if *at <= now.monotonic => {
                let suspects = self.orphans();
                self.reconciliation = Reconciliation::Suspecting(now.monotonic + SECOND_LOOK, suspects);
            }
            Reconciliation::Suspecting(at, suspects) if *at <= now.monotonic => {
                let orphans: Vec<_> = self.orphans().intersection(suspects).copied().collect();
                self.remove_orphans(&orphans);
                self.effects.settle_policies();
                self.reconciliation = Reconciliation::Done;
            }
            _ => {}
        }
    }

    /// SAs with numbers of the protocol's choice that it does not know.
    fn orphans(&self) -> HashSet<(Direction, u32, u32)> {
        let mut standby: (HashSet<u32>, HashSet<u32>) = Default::default();
        for (spis, reqids) in self.ike.standby_numbers() {
            standby.0.extend(spis);
            standby.1.extend(reqids);
        }
        let is_standby = |direction: Direction, key: u32| match direction {
            Direction::Inbound => standby.0.contains(&key),
            Direction::Outbound => standby.1.contains(&key),
        };
        let known: HashSet<_> = self
            .ike
            .tunnels(clock::now())
            .flat_map(|view| view.children)
            .flat_map(|child| {
                [
                    (Direction::Inbound, child.inbound_spi, child.inbound_spi),
                    (Direction::Outbound, child.reqid, child.outbound_spi),
                ]
            })
            .collect();
        let is_nobodys =
            |place: &(Direction, u32, u32)| !known.contains(place) && !is_standby(place.0, place.1);
        chosen(&self.table).filter(is_nobodys).collect()
    }

    fn remove_orphans(&self, orphans: &[(Direction, u32, u32)]) {
        let keys: Vec<_> = orphans.iter().map(|(direction, key, _)| (*direction, *key)).collect();
        for keys in keys.chunks(256) {
            match self.table.remove(keys) {
                Ok(removed) => {
                    info!(sas = removed, "removed SAs of tunnels that are no more");
                    self.counted.orphans_removed.add(removed as u64);
                }
                Err(error) => warn!(%error, "SAs of tunnels that are no more cannot be removed"),
            }
        }
    }
}

fn chosen(table: &Table) -> impl Iterator<Item = (Direction, u32, u32)> {
    let sas = table.iter().map(|found| found.sa);
    let chosen = sas.filter(|sa| is_chosen(sa.reqid, sa.segment));
    chosen.map(|sa| (sa.direction, sa.index_key(), sa.spi))
}
