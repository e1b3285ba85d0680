//! What the operator, the data plane and the configuration want.

use std::sync::Arc;

use super::Ike;
use super::core::Id;
use super::head::{Attempt, Head, Wanted};
use super::mobility::Roaming;
use super::nat::Nat;
use super::order::Order;
use super::resumption;
use super::traps::Trap;
use super::tunnel::Tunnel;
use super::waiting::{self, Waiting, path_for_later, wanted};
use crate::configuration::{Connection, StartAction};
use crate::host::{Command, CommandError, DownReason, Host, Now, Path, Target};

impl Ike {
    /// Carries out a command; how many tunnels or Child SAs it is about.
    ///
    /// # Errors
    /// [`CommandError`]: nothing was done.
    pub fn command(
        &mut self,
        now: Now,
        command: Command,
        host: &mut dyn Host,
    ) -> Result<usize, CommandError> {
        let result = match command {
            Command::Initiate { connection, child } => {
                self.initiate(now, host, &connection, child.as_deref())
            }
            Command::Terminate(target) => self.terminate(now, host, &target),
            Command::RekeyIke(target) => self.rekey_ike(now, host, &target),
            Command::RekeyChild(target) => self.rekey_children(now, host, &target),
            Command::Acquire { reqid } => self.acquire(now, host, reqid),
            Command::SoftLimit { reqid, spi } => Ok(self.soft_limit(now, host, reqid, spi)),
            Command::HardLimit { reqid, spi } => Ok(self.hard_limit(now, host, reqid, spi)),
            Command::PeerMoved { spi, remote } => Ok(self.peer_moved(now, host, spi, remote)),
            Command::Solved { spi, solution } => Ok(self.on_solved(now, host, spi, solution)),
            Command::InstallFailed { reqid, spi } => Ok(self.install_failed(now, host, reqid, spi)),
            Command::Redirect { target, gateway } => self.redirect(now, host, target.as_ref(), &gateway),
            Command::AddressesChanged => Ok(self.addresses_changed(now, host)),
            Command::ChangeSession { tunnel, change } => self.change_session(now, host, &tunnel, change),
            Command::Synchronize(target) => self.synchronize(now, host, &target),
            Command::Advanced { tunnel, packets } => self.advanced(now, host, &tunnel, packets),
            Command::Freeze(name) => self.freeze(now, host, &name),
            Command::Thaw(name) => self.thaw(now, host, &name),
            Command::Release(name) => self.release(now, host, &name),
        };
        self.carry_out_orders(now, host);
        result
    }

    /// Carries out what `start_action` says for connections that have no tunnel and no trap yet: at a start after the
    /// contexts are restored, and after a change of the configuration.
    pub fn start(&mut self, now: Now, host: &mut dyn Host) {
        let configuration = Arc::clone(&self.core.configuration);
        for connection in &configuration.connections {
            self.set_traps(host, connection);
            let is_wanted = |child: &&Arc<_>| starts(child);
            let children: Vec<_> = connection.children.iter().filter(is_wanted).cloned().collect();
            let has_tunnel = self.ids_of_connection(&connection.name).next().is_some();
            if children.is_empty() || has_tunnel {
                continue;
            }
            let wanted = children.into_iter().map(|child| self.wanted(connection, child)).collect();
            if let Some(path) = path_for_later(host, connection, 0, None) {
                let attempt = Attempt { wanted, ..Attempt::default() };
                let _ = self.connect(now, host, connection, path, attempt);
            }
        }
        self.carry_out_orders(now, host);
    }

    fn wanted(&self, connection: &Connection, child: Arc<crate::configuration::Child>) -> Wanted {
        let reqid = self.core.traps.reqid_of(&connection.name, &child.name);
        Wanted { child, reqid }
    }

    fn connection(&self, name: &str) -> Result<Arc<Connection>, CommandError> {
        let mut connections = self.core.configuration.connections.iter();
        let found = connections.find(|connection| connection.name == name);
        found.cloned().ok_or_else(|| CommandError::NoConnection(name.to_owned()))
    }

    /// On a tunnel of the connection that stands, if there is one; otherwise on a new one.
    fn initiate(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        name: &str,
        child: Option<&str>,
    ) -> Result<usize, CommandError> {
        let connection = self.connection(name)?;
        let wanted = wanted(&self.core.traps, &connection, child);
        if let (true, Some(child)) = (wanted.is_empty(), child) {
            return Err(CommandError::NoChild(name.to_owned(), child.to_owned()));
        }
        let count = wanted.len();
        let path = path_for_later(host, &connection, 0, None)
            .ok_or_else(|| CommandError::NoRemoteAddress(name.to_owned()))?;
        if let Some(id) = self.join(now, host, &connection, path, &wanted) {
            self.with_tunnel(now, host, id, |tunnel, cx| Some(tunnel.hurry(cx)));
        } else {
            self.connect(now, host, &connection, path, Attempt { wanted, ..Attempt::default() })?;
        }
        Ok(count)
    }

    /// Asks for Child SAs on a tunnel to that peer that stands or is being set up.
    fn join(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        connection: &Connection,
        path: Path,
        wanted: &[Wanted],
    ) -> Option<Id> {
        let is_there = |tunnel: &Tunnel| tunnel.is_with(connection, path) && tunnel.can_join();
        let id = self.ids_of_connection(&connection.name).find(|id| is_there(&self.tunnels[id].tunnel));
        let (id, wanted) = (id?, wanted.to_vec());
        self.with_tunnel(now, host, id, |tunnel, cx| Some(tunnel.want(cx, wanted)));
        Some(id)
    }

    /// Begins a tunnel.
    pub(super) fn connect(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        connection: &Arc<Connection>,
        path: Path,
        attempt: Attempt,
    ) -> Result<Id, CommandError> {
        let segment = host.segment_of(path.remote.ip());
        if !self.core.acts(host, segment) {
            return Err(CommandError::Foreign(segment));
        }
        let most = self.core.configuration.limits.max_ike_sas;
        if self.tunnels.len() >= most {
            return Err(CommandError::Full(most));
        }
        let (connection, mut attempt) = (Arc::clone(connection), attempt);
        attempt.skip_to(&connection, path.remote.ip());
        Ok(self.begin(now, host, |cx| {
            let (nat, roaming) = (Nat::default(), Roaming::default());
            let head = Head { number: cx.number(segment), connection, path, nat, roaming };
            Some(if attempt.short_lived > 1 {
                let pause = waiting::pause(cx, attempt.short_lived - 2);
                Waiting::begin(cx, head, attempt, pause)
            } else if path.local.ip().is_unspecified() {
                waiting::without_way(cx, head, attempt)
            } else {
                resumption::begin(cx, head, attempt)
            })
        }))
    }

    /// Traffic waits: the Child SA is set up, unless that is under way.
    fn acquire(&mut self, now: Now, host: &mut dyn Host, reqid: u32) -> Result<usize, CommandError> {
        let no_match = || CommandError::NoMatch(format!("reqid {reqid:#x}"));
        let trap = self.core.traps.get(reqid).cloned().ok_or_else(no_match)?;
        // A tunnel with another gateway, where we were sent, may have it.
        let is_carried = self.reqid_in_use(&trap.connection.name, &trap.child.name).is_some();
        if self.core.index.reqids.contains_key(&reqid) || is_carried {
            return Ok(0);
        }
        let wanted = vec![Wanted { child: Arc::clone(&trap.child), reqid: Some(reqid) }];
        if self.join(now, host, &trap.connection, trap.path, &wanted).is_none() {
            self.connect(now, host, &trap.connection, trap.path, Attempt { wanted, ..Attempt::default() })?;
        }
        Ok(1)
    }

    /// Does what handlers have asked for.
    pub(super) fn carry_out_orders(&mut self, now: Now, host: &mut dyn Host) {
        while let Some(order) = self.core.orders.pop_front() {
            match order {
                Order::End { id, reason, silent } => self.end(now, host, id, reason, silent),
                Order::Again { connection, path, attempt } => {
                    self.again(now, host, &connection, path, attempt);
                }
                Order::Trap { connection, wanted, path } => self.trap(host, &connection, &wanted, path),
                Order::Follow { head, attempt } => self.follow(now, host, head, attempt),
                Order::Stay { id } => self.stay(now, host, id),
            }
        }
    }

    /// Ends a tunnel, telling the peer or not.
    pub(super) fn end(&mut self, now: Now, host: &mut dyn Host, id: Id, reason: DownReason, silent: bool) {
        self.with_tunnel(now, host, id, |tunnel, cx| tunnel.terminate(cx, reason, silent));
    }

    /// `close_action` and `dpd_action` of a connection that may have been removed meanwhile.
    fn again(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        connection: &Connection,
        path: Path,
        attempt: Attempt,
    ) {
        let Ok(connection) = self.connection(&connection.name) else { return };
        let Some(path) = path_for_later(host, &connection, attempt.turn, Some(path)) else { return };
        if self.join(now, host, &connection, path, &attempt.wanted).is_none() {
            let _ = self.connect(now, host, &connection, path, attempt);
        }
    }

    fn set_traps(&mut self, host: &mut dyn Host, connection: &Arc<Connection>) {
        for child in connection.children.iter().filter(|child| traps(child)) {
            let is_set = self.core.traps.reqid_of(&connection.name, &child.name).is_some();
            let path = path_for_later(host, connection, 0, None).filter(|_| !is_set);
            if let Some(path) = path {
                let wanted = Wanted { child: Arc::clone(child), reqid: None };
                self.trap(host, connection, &wanted, path);
            }
        }
    }

    /// Puts a trap into force: the same again if the child has one.
    pub(super) fn trap(
        &mut self,
        host: &mut dyn Host,
        connection: &Arc<Connection>,
        wanted: &Wanted,
        path: Path,
    ) {
        // The last one may have been with a gateway where we were sent.
        let path = path_for_later(host, connection, 0, Some(path)).unwrap_or(path);
        let segment = host.segment_of(path.remote.ip());
        if !self.core.acts(host, segment) {
            return;
        }
        let known = self.core.traps.reqid_of(&connection.name, &wanted.child.name);
        // After a restart the pair may be there before the trap.
        let known = known.or_else(|| self.reqid_in_use(&connection.name, &wanted.child.name));
        let reqid = known.unwrap_or_else(|| self.core.trap_reqid(host, segment));
        let trap = Trap { connection: Arc::clone(connection), child: Arc::clone(&wanted.child), reqid, path };
        if !self.core.index.reqids.contains_key(&reqid) {
            let is_carried = self.reqid_in_use(&connection.name, &wanted.child.name).is_some();
            self.core.outputs.push_back(trap.output(is_carried));
        }
        self.core.traps.insert(trap);
    }

    fn reqid_in_use(&self, connection: &str, child: &str) -> Option<u32> {
        self.ids_of_connection(connection).find_map(|id| self.tunnels[&id].tunnel.reqid_of(child))
    }

    /// Tunnels of a connection that stand or are to stand.
    pub(super) fn ids_of_connection(&self, name: &str) -> impl Iterator<Item = Id> {
        self.core.index.connections.get(name).into_iter().flatten().copied()
    }

    fn ids_of(&self, target: &Target) -> Vec<Id> {
        match target {
            Target::Connection(name) => self.ids_of_connection(name).collect(),
            Target::Tunnel(name) => self.id_of_tunnel(name).into_iter().collect(),
            Target::Spi(spi) => self.core.index.esp_spis.get(spi).copied().into_iter().collect(),
            Target::Child(connection, child) => {
                let is_of =
                    |tunnel: &Tunnel| connection.as_ref().is_none_or(|c| *c == tunnel.head().connection.name);
                let all = self.tunnels.iter();
                let has = all.filter(|(_, slot)| is_of(&slot.tunnel) && slot.tunnel.has_child(child));
                has.map(|(id, _)| *id).collect()
            }
        }
    }

    pub(super) fn id_of_tunnel(&self, name: &str) -> Option<Id> {
        let (_, number) = crate::host::TunnelName::parse(name)?;
        let id = *self.core.index.numbers.get(&number)?;
        let is_it = self.tunnels.get(&id)?.tunnel.head().name().as_str() == name;
        is_it.then_some(id)
    }

    /// Applies a command to all tunnels of a target, or all there are; how many took it.
    pub(super) fn for_each<'t>(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        target: impl Into<Option<&'t Target>>,
        mut handle: impl FnMut(Tunnel, &mut super::core::Cx, &mut usize) -> Option<Tunnel>,
    ) -> Result<usize, CommandError> {
        let target = target.into();
        let ids = target.map_or_else(|| self.tunnels.keys().copied().collect(), |target| self.ids_of(target));
        if let Some(id) = ids.iter().find(|id| self.tunnels[id].tunnel.is_frozen()) {
            return Err(CommandError::Frozen(self.tunnels[id].tunnel.head().name().to_string()));
        }
        if target.is_some() && !ids.is_empty() && ids.iter().all(|id| !self.acts_for(host, *id)) {
            return Err(CommandError::Foreign(self.tunnels[&ids[0]].tunnel.head().segment()));
        }
        let mut count = 0;
        for id in ids {
            self.with_tunnel(now, host, id, |tunnel, cx| handle(tunnel, cx, &mut count));
        }
        if count == 0 { Err(CommandError::NoMatch(target.map_or_else(all, describe))) } else { Ok(count) }
    }

    pub(super) fn acts_for(&self, host: &dyn Host, id: Id) -> bool {
        self.tunnels.get(&id).is_some_and(|slot| self.core.acts(host, slot.tunnel.head().segment()))
    }

    fn terminate(&mut self, now: Now, host: &mut dyn Host, target: &Target) -> Result<usize, CommandError> {
        let stood = self.ids_of(target).iter().any(|id| matches!(self.tunnels[id].tunnel, Tunnel::Up(_)));
        let ended = self.for_each(now, host, target, |tunnel, cx, count| match target {
            Target::Connection(_) | Target::Tunnel(_) => {
                *count += 1;
                tunnel.terminate(cx, DownReason::Command, false)
            }
            target => Some(tunnel.delete_children(cx, target, count)),
        });
        match (ended, self.open(host, target, stood)) {
            (Err(CommandError::NoMatch(_)), opened @ 1..) => Ok(opened),
            (ended, _) => ended,
        }
    }

    fn rekey_ike(&mut self, now: Now, host: &mut dyn Host, target: &Target) -> Result<usize, CommandError> {
        self.for_each(now, host, target, |tunnel, cx, count| Some(tunnel.rekey_ike(cx, count)))
    }

    fn rekey_children(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        target: &Target,
    ) -> Result<usize, CommandError> {
        self.for_each(now, host, target, |tunnel, cx, count| Some(tunnel.rekey_children(cx, target, count)))
    }
}

fn starts(child: &crate::configuration::Child) -> bool {
    matches!(child.start_action, StartAction::Start | StartAction::TrapStart)
}

fn traps(child: &crate::configuration::Child) -> bool {
    matches!(child.start_action, StartAction::Trap | StartAction::TrapStart)
}

fn all() -> String {
    "any tunnel".to_owned()
}

fn describe(target: &Target) -> String {
    match target {
        Target::Connection(name) => format!("connection {name}"),
        Target::Tunnel(name) => format!("tunnel {name}"),
        Target::Child(Some(connection), child) => format!("child {child} of connection {connection}"),
        Target::Child(None, child) => format!("child {child}"),
        Target::Spi(spi) => format!("SPI {spi:#010x}"),
    }
}
