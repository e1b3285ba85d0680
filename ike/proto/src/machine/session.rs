//! Sessions of users who were judged elsewhere: how long they may last, and what is told of them (RFC 2866).

use std::net::IpAddr;
use std::time::Duration;

use super::child_sa::{ChildSa, Outbound};
use super::core::{Cx, Id};
use super::message::notify;
use super::order::Order;
use super::up::Up;
use crate::host::{
    Account, DownReason, Grant, Moment, Now, Output, SessionChange, SessionView, Traffic, Volume,
};
use crate::wire::{NotifyType, Payload};

/// The shortest interval of interim records, and of looks for traffic.
const SHORTEST: Duration = Duration::from_secs(1);
/// A session without traffic is found within so many parts of its idle time.
const LOOKS: u32 = 4;

/// What a user was granted, until its tunnel stands.
pub(super) struct Granted {
    pub(super) grant: Box<Grant>,
    pub(super) session: String,
    /// What the user called itself.
    pub(super) told: Vec<u8>,
}

/// A user's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) user: Vec<u8>,
    pub(super) class: Vec<Vec<u8>>,
    /// Inner addresses that the user was assigned, and name servers.
    pub(super) addresses: Vec<IpAddr>,
    pub(super) dns: Vec<IpAddr>,
    /// When it ends (monotonic).
    pub(super) ends_at: Option<Duration>,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) interim_interval: Option<Duration>,
    /// What SAs have carried that are not in the table any more.
    pub(super) past: Traffic,
    interim_at: Option<Duration>,
    look_at: Option<Duration>,
    /// When there was traffic last, and how many packets there were.
    active: (Duration, u64),
}

impl Session {
    fn begin(now: Now, granted: Granted) -> Self {
        let Granted { grant, session, told } = granted;
        let Grant { user, class, session_timeout, idle_timeout, interim_interval, addresses, dns, .. } =
            *grant;
        let mut session = Self {
            id: session,
            user: user.unwrap_or(told),
            class,
            addresses,
            dns,
            ends_at: session_timeout.map(|timeout| now.monotonic.saturating_add(timeout)),
            idle_timeout,
            interim_interval,
            past: Traffic::default(),
            interim_at: None,
            look_at: None,
            active: (now.monotonic, 0),
        };
        session.resume(now);
        session
    }

    /// As it was stored, with its timers not set.
    pub(super) fn stored(view: SessionView, ends_at: Option<Duration>, past: Traffic, now: Now) -> Self {
        let SessionView { id, user, class, idle_timeout, interim_interval, .. } = view;
        let (addresses, dns) = (Vec::new(), Vec::new());
        let (interim_at, look_at, active) = (None, None, (now.monotonic, 0));
        let mut session = Self {
            id,
            user,
            class,
            addresses,
            dns,
            ends_at,
            idle_timeout,
            interim_interval,
            past,
            interim_at,
            look_at,
            active,
        };
        session.resume(now);
        session
    }

    /// Sets its timers.
    fn resume(&mut self, now: Now) {
        let after = |time: Duration| now.monotonic.saturating_add(time.max(SHORTEST));
        self.interim_at = self.interim_interval.map(after);
        self.look_at = self.idle_timeout.map(|time| after(time / LOOKS));
    }

    /// Its timers are none of those that many tunnels set at once.
    pub(super) fn spread(&mut self, by_chance: &mut impl FnMut(Duration) -> Duration) {
        self.interim_at = self.interim_interval.map(|time| by_chance(time.max(SHORTEST)));
        self.look_at = self.idle_timeout.map(|time| by_chance((time / LOOKS).max(SHORTEST)));
    }

    /// When something is due (monotonic).
    pub(super) fn due(&self) -> Option<Duration> {
        [self.ends_at, self.interim_at, self.look_at].into_iter().flatten().min()
    }

    fn change(&mut self, now: Now, established: Duration, change: SessionChange) {
        let bound = |time: Duration| Some(time).filter(|time| !time.is_zero());
        if let Some(timeout) = change.timeout {
            let ends = bound(timeout).map(|timeout| established.saturating_add(timeout));
            self.ends_at = ends.map(|at| super::lifetime::from_unix(now, at));
        }
        if let Some(interval) = change.interim_interval {
            self.interim_interval = bound(interval);
        }
        self.resume(now);
    }

    pub(super) fn view(&self, now: Now) -> SessionView {
        SessionView {
            id: self.id.clone(),
            user: self.user.clone(),
            class: self.class.clone(),
            ends: self.ends_at.map(|at| super::lifetime::to_unix(now, at)),
            idle_timeout: self.idle_timeout,
            interim_interval: self.interim_interval,
        }
    }
}

impl Up {
    /// The user's session begins. How long it may last is told to the peer, which may authenticate again in time (RFC
    /// 4478).
    pub(super) fn begin_session(&mut self, cx: &mut Cx, granted: Option<Granted>) -> Option<Payload> {
        let granted = granted?;
        let timeout = granted.grant.session_timeout;
        cx.core.counters.sessions += 1;
        self.session = Some(Session::begin(cx.now, granted));
        let seconds = u32::try_from(timeout?.as_secs()).ok()?;
        Some(notify(NotifyType::AUTH_LIFETIME, seconds.to_be_bytes()))
    }

    /// Tells of the session, if there is one.
    pub(super) fn account(&self, cx: &mut Cx, moment: Moment) {
        let Some(session) = &self.session else { return };
        let account = Account {
            tunnel: self.head.name(),
            connection: self.head.connection.name.clone(),
            session: session.view(cx.now),
            path: self.head.path,
            virtual_addresses: self.virtual_addresses.clone(),
            moment,
            time: cx.now.unix.saturating_sub(self.established),
            traffic: self.traffic(cx, session),
        };
        // That it is over is told before the tunnel is forgotten: twice, if need be, rather than never.
        match moment {
            Moment::Start | Moment::Interim => cx.then(Output::Account(Box::new(account))),
            Moment::Stop(_) => cx.install(Output::Account(Box::new(account))),
        }
    }

    /// The session is over; one that has moved goes on elsewhere.
    pub(super) fn stop_session(&mut self, cx: &mut Cx, reason: DownReason) {
        if reason != DownReason::Moved {
            self.account(cx, Moment::Stop(reason));
        }
        self.session = None;
    }

    /// Other rules for the session; false if there is none.
    pub(super) fn change_session(&mut self, cx: &mut Cx, change: SessionChange) -> bool {
        let Some(session) = &mut self.session else { return false };
        session.change(cx.now, self.established, change);
        cx.store();
        true
    }

    /// Ends it when its time is over, and tells of it when that is due.
    pub(super) fn on_session_due(&mut self, cx: &mut Cx) {
        let now = cx.now.monotonic;
        let Some(session) = &mut self.session else { return };
        if session.ends_at.take_if(|at| *at <= now).is_some() {
            self.end_session(cx, DownReason::SessionTimeout);
        }
        let Some(session) = &mut self.session else { return };
        if session.interim_at.take_if(|at| *at <= now).is_some() {
            session.interim_at = session.interim_interval.map(|time| now.saturating_add(time.max(SHORTEST)));
            self.account(cx, Moment::Interim);
        }
        self.look_for_traffic(cx);
    }

    fn end_session(&mut self, cx: &mut Cx, reason: DownReason) {
        if self.ending.is_none() {
            cx.core.counters.sessions_timed_out += 1;
            self.doom(reason);
            cx.store();
        }
    }

    fn look_for_traffic(&mut self, cx: &mut Cx) {
        let now = cx.now.monotonic;
        let Some(session) = &self.session else { return };
        if session.look_at.is_none_or(|at| at > now) {
            return;
        }
        let traffic = self.traffic(cx, session);
        let packets = traffic.inbound.packets.saturating_add(traffic.outbound.packets);
        let Some(session) = &mut self.session else { return };
        if session.active.1 != packets {
            session.active = (now, packets);
        }
        let timeout = session.idle_timeout.unwrap_or(Duration::MAX);
        let is_idle = now.saturating_sub(session.active.0) >= timeout;
        session.look_at = session.idle_timeout.map(|time| now.saturating_add((time / LOOKS).max(SHORTEST)));
        if is_idle {
            self.end_session(cx, DownReason::Idle);
        }
    }

    /// What the session has carried so far.
    fn traffic(&self, cx: &Cx, session: &Session) -> Traffic {
        let mut all = session.past;
        for child in &self.children {
            all.inbound += cx.host.inbound_volume(child.inbound_spi);
            all.outbound += outbound_volume(cx, child);
        }
        for (_, spi) in &self.remnants {
            all.inbound += cx.host.inbound_volume(*spi);
        }
        all
    }

    /// An inbound SA leaves the table: what it has carried is kept.
    pub(super) fn keep_inbound(&mut self, cx: &Cx, spi: u32) {
        if let Some(session) = &mut self.session {
            session.past.inbound += cx.host.inbound_volume(spi);
        }
    }

    /// The same of an outbound SA, once: it may be replaced in the table before its pair is gone.
    pub(super) fn keep_outbound(&mut self, cx: &Cx, child: &mut ChildSa) {
        if let Some(session) = &mut self.session {
            session.past.outbound += outbound_volume(cx, child);
            child.is_counted |= matches!(child.outbound, Outbound::Installed);
        }
    }

    /// The outbound SA of a reqid is about to be replaced in the table.
    pub(super) fn keep_outbound_of(&mut self, cx: &Cx, reqid: u32) {
        let mut children = std::mem::take(&mut self.children);
        for child in children.iter_mut().filter(|child| child.reqid == reqid) {
            self.keep_outbound(cx, child);
        }
        self.children = children;
    }

    /// Takes an address that the user was assigned. Another tunnel of the same user that has it ends: the user is here
    /// now.
    pub(super) fn take_assigned(&self, cx: &mut Cx, address: IpAddr) -> Result<(), String> {
        let who = self.peers.proved();
        let others = cx.core.index.peers.get(who).into_iter().flatten().copied();
        let has_it = |id: &Id| cx.core.leases.get(id).is_some_and(|leases| leases.contains(&address));
        let others: Vec<Id> = others.filter(|id| *id != cx.id && has_it(id)).collect();
        for id in others {
            cx.core.release_addresses(id, cx.now.monotonic);
            cx.core.orders.push_back(Order::End { id, reason: DownReason::Replaced, silent: false });
        }
        cx.core.pools.taken(&[address], who).map_err(|error| error.to_string())
    }
}

/// Of a pair that sends; one that does not yet, or no longer, has none.
fn outbound_volume(cx: &Cx, child: &ChildSa) -> Volume {
    match child.outbound {
        Outbound::Installed if !child.is_counted => cx.host.outbound_volume(child.reqid, child.outbound_spi),
        _ => Volume::default(),
    }
}
