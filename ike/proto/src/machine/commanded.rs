//! Commands as they reach one tunnel, or one of its Child SAs.

use std::net::SocketAddr;
use std::time::Duration;

use super::Ike;
use super::child_sa::ChildSa;
use super::core::Cx;
use super::head::Wanted;
use super::tasks::Task;
use super::tunnel::Tunnel;
use super::up::Up;
use crate::configuration::Connection;
use crate::host::{CommandError, DownReason, Event, Host, Movement, Now, Path, SessionChange, Target};

/// A peer that was heard since lives.
const SILENCE: Duration = Duration::from_secs(10);

impl Tunnel {
    /// Whether it stands or is to stand.
    pub(super) fn is_alive(&self) -> bool {
        match self {
            Self::Up(up) => !up.is_ending(),
            Self::Waiting(_)
            | Self::InitSent(_)
            | Self::ResumeSent(_)
            | Self::IntermediateSent(_)
            | Self::AuthSent(_)
            | Self::Dormant(_) => true,
            Self::InitAnswered(_) | Self::EapAnswered(_) | Self::Lingering(_) => false,
        }
    }

    /// Whether further Child SAs can be asked for.
    pub(super) fn can_join(&self) -> bool {
        self.is_alive() && !self.is_frozen() && !matches!(self, Self::Dormant(_))
    }

    /// Whether it is, or is to be, with the peer that an initiator finds on this path: at that address or at another one
    /// of the connection's, or where we were sent.
    pub(super) fn is_with(&self, connection: &Connection, path: Path) -> bool {
        let peer = self.head().peer();
        let was_sent = matches!(self, Self::Up(up) if up.redirection.is_follower);
        was_sent || peer == path.remote.ip() || connection.peers().any(|other| other == peer)
    }

    /// Asks for Child SAs, at once or when it stands; not for those that it has, or is setting up.
    pub(super) fn want(mut self, cx: &mut Cx, wanted: Vec<Wanted>) -> Self {
        match &mut self {
            Self::Waiting(state) => state.attempt.add(wanted),
            Self::InitSent(state) => state.attempt.add(wanted),
            Self::ResumeSent(state) => state.attempt.add(wanted),
            Self::IntermediateSent(state) => state.attempt.add(wanted),
            Self::AuthSent(state) => state.attempt.add(wanted),
            Self::InitAnswered(_) | Self::EapAnswered(_) | Self::Dormant(_) | Self::Lingering(_) => {}
            Self::Up(up) => {
                let is_missing = |wanted: &Wanted| !up.has_child(&wanted.child.name);
                let missing: Vec<_> = wanted.into_iter().filter(is_missing).collect();
                up.want(missing.into_iter());
            }
        }
        self.proceed(cx)
    }

    /// The operator does not wait for the next attempt.
    pub(super) fn hurry(mut self, cx: &mut Cx) -> Self {
        if let Self::Waiting(state) = &mut self {
            state.until = cx.now.monotonic;
            (state.attempt.failures, state.attempt.short_lived) = (0, 0);
        }
        self
    }

    fn proceed(self, cx: &mut Cx) -> Self {
        match self {
            Self::Up(up) => up.proceed(cx),
            other => other,
        }
    }

    /// The reqid of a pair of that configured name.
    pub(super) fn reqid_of(&self, name: &str) -> Option<u32> {
        let Self::Up(up) = self else { return None };
        up.children.iter().find(|child| child.is_live() && child.child.name == name).map(|child| child.reqid)
    }

    pub(super) fn has_child(&self, name: &str) -> bool {
        matches!(self, Self::Up(up) if up.has_child(name))
    }

    /// Ends it, telling the peer, or not: then, and if there is nobody to tell, at once.
    pub(super) fn terminate(mut self, cx: &mut Cx, reason: DownReason, silent: bool) -> Option<Self> {
        if let Self::InitSent(state) = &mut self {
            state.stop_solving(cx);
        }
        match self {
            Self::Up(up) if silent => up.end(cx, reason, None),
            Self::Up(mut up) => {
                up.doom(reason);
                Some(up.proceed(cx))
            }
            Self::InitAnswered(_) | Self::Dormant(_) | Self::Lingering(_) => Some(self),
            Self::EapAnswered(_) => None,
            Self::Waiting(_)
            | Self::InitSent(_)
            | Self::ResumeSent(_)
            | Self::IntermediateSent(_)
            | Self::AuthSent(_) => {
                cx.event(Event::IkeDown { tunnel: self.head().name(), reason });
                None
            }
        }
    }

    pub(super) fn rekey_ike(self, cx: &mut Cx, count: &mut usize) -> Self {
        match self {
            Self::Up(mut up) if !up.is_ending() => {
                up.tasks.add(Task::RekeyIke);
                *count += 1;
                up.proceed(cx)
            }
            other => other,
        }
    }

    pub(super) fn rekey_children(self, cx: &mut Cx, target: &Target, count: &mut usize) -> Self {
        let Self::Up(mut up) = self else { return self };
        for spi in up.spis_of(target) {
            *count += usize::from(up.rekey_child(spi));
        }
        up.proceed(cx)
    }

    /// Deletes some of its Child SAs; the IKE SA stays.
    pub(super) fn delete_children(self, cx: &mut Cx, target: &Target, count: &mut usize) -> Self {
        let Self::Up(mut up) = self else { return self };
        for spi in up.spis_of(target) {
            *count += usize::from(up.doom_child(spi, DownReason::Command));
        }
        up.proceed(cx)
    }
}

impl Up {
    /// Whether there is such a pair, or it is being set up.
    pub(super) fn has_child(&self, name: &str) -> bool {
        let is_asked = self.sas.iter().flat_map(|sa| &sa.pending).any(|(_, pending)| pending.asks_for(name));
        is_asked || self.children.iter().any(|child| child.is_live() && child.child.name == name)
    }

    fn spis_of(&self, target: &Target) -> Vec<u32> {
        let is_meant = |child: &&ChildSa| match target {
            Target::Connection(_) | Target::Tunnel(_) => true,
            Target::Child(_, name) => child.child.name == *name,
            Target::Spi(spi) => child.inbound_spi == *spi,
        };
        let live = self.children.iter().filter(|child| child.is_live());
        live.filter(is_meant).map(|child| child.inbound_spi).collect()
    }

    fn doom_child(&mut self, spi: u32, reason: DownReason) -> bool {
        let child = self.children.iter_mut().find(|child| child.inbound_spi == spi && child.is_live());
        child.map(|child| child.doom(reason)).is_some()
    }

    fn live_spi(&self, reqid: u32, spi: u32) -> Option<u32> {
        let is_it = |child: &&ChildSa| {
            child.reqid == reqid && (child.inbound_spi == spi || child.outbound_spi == spi)
        };
        self.children.iter().find(is_it).map(|child| child.inbound_spi)
    }
}

impl Ike {
    fn with_child(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        (reqid, spi): (u32, u32),
        handle: impl FnOnce(&mut Up, &mut Cx, u32) -> bool,
    ) -> usize {
        let Some(id) = self.core.index.reqids.get(&reqid).copied() else { return 0 };
        let mut is_done = false;
        self.with_tunnel(now, host, id, |tunnel, cx| {
            let Tunnel::Up(mut up) = tunnel else { return Some(tunnel) };
            if let Some(spi) = up.live_spi(reqid, spi) {
                is_done = handle(&mut up, cx, spi);
            }
            Some(up.proceed(cx))
        });
        usize::from(is_done)
    }

    /// A pair is used up soon.
    pub(super) fn soft_limit(&mut self, now: Now, host: &mut dyn Host, reqid: u32, spi: u32) -> usize {
        self.with_child(now, host, (reqid, spi), |up, _, spi| up.rekey_child(spi))
    }

    /// A pair is used up: the peer is told, and it is set up anew if it is to be.
    pub(super) fn hard_limit(&mut self, now: Now, host: &mut dyn Host, reqid: u32, spi: u32) -> usize {
        self.with_child(now, host, (reqid, spi), |up, _, spi| up.doom_child(spi, DownReason::Expired))
    }

    /// What the peer was told stands here is not there: the peer is told.
    pub(super) fn install_failed(&mut self, now: Now, host: &mut dyn Host, reqid: u32, spi: u32) -> usize {
        self.with_child(now, host, (reqid, spi), |up, cx, spi| {
            let problem = format!("the data plane did not take the SAs of SPI {spi:#010x}; look at its log");
            up.head.failed(cx, problem);
            up.doom_child(spi, DownReason::Failed)
        })
    }

    /// The data plane saw authentic packets from elsewhere. Only a peer behind a NAT moves so, and only if we are not
    /// behind one (RFC 7296 section 2.23).
    pub(super) fn peer_moved(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        spi: u32,
        remote: SocketAddr,
    ) -> usize {
        let Some(id) = self.core.index.esp_spis.get(&spi).copied() else { return 0 };
        let mut has_moved = false;
        self.with_tunnel(now, host, id, |tunnel, cx| {
            let Tunnel::Up(mut up) = tunnel else { return Some(tunnel) };
            let follows = up.head.ends().movement == Movement::FollowsPackets;
            if follows && up.head.path.remote != remote && !up.is_frozen {
                up.move_to(cx, Path { remote, ..up.head.path });
                has_moved = true;
            }
            Some(up.proceed(cx))
        });
        usize::from(has_moved)
    }

    pub(super) fn with_named(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        name: &str,
        handle: impl FnOnce(Box<Up>, &mut Cx) -> Option<Tunnel>,
    ) -> Result<usize, CommandError> {
        let no_match = || CommandError::NoMatch(format!("tunnel {name}"));
        let id = self.id_of_tunnel(name).ok_or_else(no_match)?;
        // What is done by name needs no lease: a tunnel is frozen, restored and thawed around the moment at which its
        // segment changes sides.
        if let Tunnel::Dormant(dormant) = &self.tunnels[&id].tunnel {
            return Err(CommandError::Foreign(dormant.head.segment()));
        }
        let mut is_done = false;
        self.handle(now, host, id, |tunnel, cx| {
            let Tunnel::Up(up) = tunnel else { return Some(tunnel) };
            is_done = true;
            handle(up, cx)
        });
        is_done.then_some(1).ok_or_else(no_match)
    }

    /// From now on nothing is sent, answered or repeated.
    pub(super) fn freeze(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        name: &str,
    ) -> Result<usize, CommandError> {
        self.with_named(now, host, name, |mut up, cx| {
            up.is_frozen = true;
            cx.store();
            Some(Tunnel::Up(up))
        })
    }

    /// The session of a tunnel's user goes on under other rules.
    pub(super) fn change_session(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        name: &str,
        change: SessionChange,
    ) -> Result<usize, CommandError> {
        let mut has_session = false;
        self.with_named(now, host, name, |mut up, cx| {
            has_session = up.change_session(cx, change);
            Some(up.proceed(cx))
        })?;
        if has_session { Ok(1) } else { Err(CommandError::NoMatch(format!("session of {name}"))) }
    }

    /// Goes on. The peer was not silent meanwhile, we were.
    pub(super) fn thaw(&mut self, now: Now, host: &mut dyn Host, name: &str) -> Result<usize, CommandError> {
        self.with_named(now, host, name, |mut up, cx| {
            up.is_frozen = false;
            up.heard = cx.now.monotonic;
            for sa in &mut up.sas {
                sa.window.requests.resume(cx.now.monotonic);
            }
            up.reconsider(cx);
            Some(up.proceed(cx))
        })
    }

    /// Forgets a frozen tunnel without a word.
    pub(super) fn release(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        name: &str,
    ) -> Result<usize, CommandError> {
        let is_frozen = self.id_of_tunnel(name).is_some_and(|id| self.tunnels[&id].tunnel.is_frozen());
        if !is_frozen {
            return Err(CommandError::NoMatch(format!("frozen tunnel {name}")));
        }
        self.with_named(now, host, name, |up, cx| up.end(cx, DownReason::Moved, None))
    }
}

impl Tunnel {
    /// Asks the peer whether it lives, if it was not heard for a while.
    pub(super) fn suspect(self, cx: &mut Cx, path: Path) -> Self {
        match self {
            Self::Up(mut up)
                if up.head.peer() == path.remote.ip() && up.heard + SILENCE <= cx.now.monotonic =>
            {
                up.tasks.add(Task::Liveness);
                up.proceed(cx)
            }
            other => other,
        }
    }

    pub(super) fn is_frozen(&self) -> bool {
        matches!(self, Self::Up(up) if up.is_frozen)
    }
}
