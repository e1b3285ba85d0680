//! The protocol: many IKE SAs of both roles, without I/O.
//!
//! [`Ike`] is given datagrams, time and commands, and gives [`Output`]s. A tunnel is in one of a few states
//! (`tunnel.rs`), each consumed by what happens to it; one exchange is one file.

mod algorithms;
mod auth_answer;
mod auth_sent;
pub mod backoff;
mod child_answer;
mod child_offer;
mod child_rekey;
mod child_sa;
mod claims;
mod closed;
mod commanded;
mod commands;
pub mod configuration_payload;
pub mod context;
pub mod cookies;
mod core;
mod counters;
mod crash_detection;
mod delete;
mod dispatch;
mod dormant;
mod eap_answered;
mod eap_elsewhere;
mod eap_sent;
mod follow_up;
pub mod fragments;
pub mod half_open;
mod head;
mod ike_rekey;
mod ike_sa;
mod inbound;
mod informational;
mod init_answered;
mod init_sent;
mod inner;
mod intermediate;
mod lifetime;
mod lingering;
mod message;
mod mobility;
mod nat;
mod new_child;
mod order;
mod ownership;
mod pace;
mod pending;
mod ppk;
mod proof;
pub mod puzzles;
mod receive;
mod reconfigure;
mod redirect;
mod redirect_follow;
mod redirect_send;
mod replay_counters;
mod requests;
mod resumption;
mod session;
mod solve;
mod standby;
mod synchronization;
mod tasks;
mod traps;
mod tunnel;
mod unfinished;
mod up;
mod up_timer;
mod view;
mod waiting;
pub mod window;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

pub use context::{Heading, RestoreError, Restoring, heading};
pub use counters::Counters;
pub use standby::StandbyError;
pub use view::{ChildView, MobilityView, ResumptionView, TunnelState, TunnelView};

use self::claims::Claims;
use self::core::{Core, Cx, Id};
use self::tunnel::Tunnel;
use crate::auth::Credentials;
use crate::configuration::Configuration;
use crate::crypto::WrapKey;
use crate::host::{Host, Judgement, Now, Output, QuestionId};

/// When the lease of a segment has lapsed, its timers are looked at again after so long.
const LAPSE: Duration = Duration::from_secs(1);

/// All IKE SAs of a node.
pub struct Ike {
    core: Core,
    /// In the order in which they began, so that what happens follows from what came in alone.
    tunnels: BTreeMap<Id, Slot>,
    /// When which tunnel has something to do (monotonic).
    timers: BTreeSet<(Duration, Id)>,
}

/// A tunnel, and what is registered of it.
struct Slot {
    tunnel: Tunnel,
    claims: Claims,
    due: Option<Duration>,
}

impl Ike {
    /// No tunnels yet: [`Self::restore`] brings back those of before, [`Self::start`] sets up those that are to be.
    pub fn new(configuration: Arc<Configuration>, credentials: Arc<Credentials>, wrap: Arc<WrapKey>) -> Self {
        Self {
            core: Core::new(configuration, credentials, wrap),
            tunnels: BTreeMap::new(),
            timers: BTreeSet::new(),
        }
    }

    /// The next thing to do. All are to be done before time or datagrams are given again; their order matters.
    pub fn poll(&mut self) -> Option<Output> {
        self.core.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called, on [`Now::monotonic`].
    pub fn next_timeout(&self) -> Option<Duration> {
        let at_once = self.core.ownership.is_unsettled().then_some(Duration::ZERO);
        at_once.or_else(|| self.timers.first().map(|(due, _)| *due))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Now, host: &mut dyn Host) {
        let last = (now.monotonic, Id::MAX);
        let due: Vec<Id> = self.timers.range(..=last).map(|(_, id)| *id).collect();
        for id in due {
            if self.rouse(now, host, id) {
                self.handle(now, host, id, Tunnel::on_timeout);
            } else {
                self.put_off(now, host, id);
            }
        }
        self.settle_ownership(now, host);
        self.carry_out_orders(now, host);
    }

    /// Nothing is done without the lease (I4), which has lapsed for a moment, or for good.
    fn put_off(&mut self, now: Now, host: &mut dyn Host, id: Id) {
        let Some(slot) = self.tunnels.get_mut(&id) else { return };
        if !self.core.ownership.has(slot.tunnel.head().segment()) {
            return self.doze(now, host, id);
        }
        let (before, after) = (slot.due, Some(now.monotonic + LAPSE));
        slot.due = after;
        self.set_timer(id, before, after);
    }

    /// All tunnels, in no order.
    pub fn tunnels(&self, now: Now) -> impl Iterator<Item = TunnelView> {
        self.tunnels.values().filter_map(move |slot| slot.tunnel.view(now))
    }

    /// Responders' IKE SAs whose peer is not authenticated.
    pub fn half_open(&self) -> usize {
        self.core.half_open.len()
    }

    /// The tunnel of that name. It costs the same among many.
    pub fn tunnel(&self, now: Now, name: &str) -> Option<TunnelView> {
        self.tunnels[&self.id_of_tunnel(name)?].tunnel.view(now)
    }

    /// What an authenticator elsewhere says to an [`Output::Ask`].
    pub fn judged(&mut self, now: Now, question: QuestionId, judgement: Judgement, host: &mut dyn Host) {
        let tunnel = question.0 >> 8;
        self.with_tunnel(now, host, tunnel, |tunnel, cx| Some(tunnel.on_judgement(cx, question, judgement)));
        self.carry_out_orders(now, host);
    }

    /// What happened, in numbers.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// Lets a tunnel that this node acts for be handled.
    fn with_tunnel(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        id: Id,
        handle: impl FnOnce(Tunnel, &mut Cx) -> Option<Tunnel>,
    ) {
        if self.rouse(now, host, id) {
            self.handle(now, host, id, handle);
        }
    }

    /// Lets a tunnel, taken out of its place, be handled, and settles what follows from its new state.
    fn handle(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        id: Id,
        handle: impl FnOnce(Tunnel, &mut Cx) -> Option<Tunnel>,
    ) {
        let Some(Slot { tunnel, claims, due }) = self.tunnels.remove(&id) else { return };
        let mut cx = Cx::new(now, host, &mut self.core, id);
        let next = handle(tunnel, &mut cx);
        let (effects, claimed) = (cx.effects, cx.claimed);
        self.settle(now, host, id, next, (claims, claimed, due), effects);
    }

    /// A tunnel that begins.
    fn begin(&mut self, now: Now, host: &mut dyn Host, make: impl FnOnce(&mut Cx) -> Option<Tunnel>) -> Id {
        let id = self.core.next_id;
        self.core.next_id += 1;
        let mut cx = Cx::new(now, host, &mut self.core, id);
        let next = make(&mut cx);
        let (effects, claimed) = (cx.effects, cx.claimed);
        self.settle(now, host, id, next, (Claims::default(), claimed, None), effects);
        id
    }

    /// Registers the new state, and gives the outputs in their order: SAs, context, what depends on both.
    fn settle(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        id: Id,
        mut next: Option<Tunnel>,
        (before, claimed, was_due): (Claims, Claims, Option<Duration>),
        effects: self::core::Effects,
    ) {
        let claims = next.as_ref().map(Tunnel::claims).unwrap_or_default();
        self.core.index.settle(id, &before, &claimed, &claims);
        self.core.count_half_open(&before, &claims);
        let due = next.as_ref().and_then(|tunnel| tunnel.due(now.monotonic));
        self.set_timer(id, was_due, due);
        self.core.outputs.extend(effects.first);
        if let Some(Tunnel::Up(up)) = next.as_mut().filter(|_| effects.store) {
            // Above what the owner of an earlier term may have kept meanwhile.
            let first = u64::from(self.core.ownership.share(up.head.segment()).term) << 32;
            up.version = (up.version + 1).max(first);
            let context = up.context(&mut Cx::new(now, host, &mut self.core, id));
            let (tunnel, version) = (up.head.name(), up.version);
            self.core.outputs.push_back(Output::Store { tunnel, version, context });
        }
        let number = claims.standing().or_else(|| before.standing());
        let (places, then): (Vec<_>, Vec<_>) = effects.then.into_iter().partition(is_of_table);
        self.core.outputs.extend(places);
        self.core.outputs.extend(then.into_iter().map(|output| about(output, number)));
        if let Some(tunnel) = next {
            self.tunnels.insert(id, Slot { tunnel, claims, due });
        }
    }

    fn set_timer(&mut self, id: Id, before: Option<Duration>, after: Option<Duration>) {
        if before == after {
            return;
        }
        if let Some(before) = before {
            self.timers.remove(&(before, id));
        }
        if let Some(after) = after {
            self.timers.insert((after, id));
        }
    }
}

/// What changes the table comes before what a peer hears: a standby has it as it is then.
const fn is_of_table(output: &Output) -> bool {
    matches!(output, Output::Remove { .. } | Output::MovePeer { .. })
}

/// What a tunnel wants done; its datagrams say whose they are.
fn about(output: Output, number: Option<u32>) -> Output {
    match output {
        Output::Transmit { path, datagram, .. } => Output::Transmit { path, datagram, tunnel: number },
        other => other,
    }
}
