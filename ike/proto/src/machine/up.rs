//! A tunnel that stands: an IKE SA, while it is rekeyed several, and its Child SAs.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::child_answer::Refusal;
use super::child_offer::{Agreed, ChildOffer, Dynamic, Unusable};
use super::child_sa::{ChildSa, Parts};
use super::core::Cx;
use super::head::{Head, Wanted};
use super::ike_sa::{Fate, IkeSa};
use super::lifetime;
use super::message::{Message, notify};
use super::mobility::Mobility;
use super::redirect::Redirection;
use super::resumption::Resumption;
use super::session::Session;
use super::tasks::{Task, Tasks};
use super::tunnel::Tunnel;
use super::unfinished::Unfinished;
use crate::host::{DownReason, Event};
use crate::identity::Identity;
use crate::wire::{ExchangeType, Notify, NotifyType, Payload};

/// A NAT keeps a mapping of UDP for at least so long (RFC 3948 section 4).
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Who is at both ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peers {
    pub(super) local: Identity,
    pub(super) remote: Identity,
    /// Whom EAP has found the peer to be.
    pub(super) user: Option<Identity>,
}

impl Peers {
    /// Whom the peer has proved to be: inner addresses and other tunnels are this one's. What a user calls itself in
    /// IKE may be anything (RFC 7296 section 2.16).
    pub(super) fn proved(&self) -> &Identity {
        self.user.as_ref().unwrap_or(&self.remote)
    }
}

/// A tunnel that stands.
pub(super) struct Up {
    pub(super) head: Head,
    pub(super) peers: Peers,
    /// The first one is used for what we ask; others are candidates, or on their way out.
    pub(super) sas: Vec<IkeSa>,
    pub(super) children: Vec<ChildSa>,
    pub(super) tasks: Tasks,
    pub(super) dynamic: Dynamic,
    /// If both ends speak RFC 4555.
    pub(super) mobility: Option<Mobility>,
    /// Inner addresses that the peer was given, or that we were given.
    pub(super) virtual_addresses: Vec<IpAddr>,
    /// DNS servers that we were told of.
    pub(super) dns: Vec<IpAddr>,
    /// Inbound SPIs that stay in the table until then, for packets that are late.
    pub(super) remnants: Vec<(Duration, u32)>,
    /// Since when it stands (unix time).
    pub(super) established: Duration,
    pub(super) rekey_at: Option<Duration>,
    pub(super) expires_at: Option<Duration>,
    /// When the peer was last heard.
    pub(super) heard: Duration,
    pub(super) keep_alive_at: Option<Duration>,
    /// Why it is being deleted, if it is.
    pub(super) ending: Option<DownReason>,
    pub(super) is_frozen: bool,
    /// SAs that the peer asks for and that are not made yet.
    pub(super) unfinished: Vec<Unfinished>,
    /// The postquantum preshared key in its keys (RFC 8784).
    pub(super) ppk: Option<Identity>,
    pub(super) redirection: Redirection,
    /// Both sides agree about Message IDs after a failover (RFC 6311).
    pub(super) can_synchronize: bool,
    /// Both sides skip sequence numbers after one (RFC 6311).
    pub(super) can_synchronize_counters: bool,
    pub(super) resumption: Resumption,
    /// Of a user who was judged elsewhere.
    pub(super) session: Option<Session>,
    /// Tunnels in a row, before this one, that ended soon after they stood.
    pub(super) short_lived: u32,
    /// Of its newest context.
    pub(super) version: u64,
}

impl Up {
    pub(super) fn new(cx: &mut Cx, head: Head, sa: IkeSa, peers: Peers) -> Self {
        let dynamic = Dynamic { local: vec![head.path.local.ip()], remote: vec![head.peer()] };
        let mut up = Self {
            peers,
            sas: vec![sa],
            children: Vec::new(),
            tasks: Tasks::default(),
            dynamic,
            mobility: None,
            virtual_addresses: Vec::new(),
            dns: Vec::new(),
            remnants: Vec::new(),
            established: cx.now.unix,
            rekey_at: None,
            expires_at: None,
            heard: cx.now.monotonic,
            keep_alive_at: head.nat.ours.then(|| cx.now.monotonic + KEEP_ALIVE),
            ending: None,
            is_frozen: false,
            unfinished: Vec::new(),
            ppk: None,
            redirection: Redirection::default(),
            can_synchronize: false,
            can_synchronize_counters: false,
            resumption: Resumption::default(),
            session: None,
            short_lived: 0,
            version: 0,
            head,
        };
        up.start_lifetime(cx);
        cx.core.counters.ike_established += 1;
        up
    }

    /// The times of an IKE SA that begins now (RFC 7296 section 2.8).
    pub(super) fn start_lifetime(&mut self, cx: &mut Cx) {
        let connection = Arc::clone(&self.head.connection);
        self.rekey_at = lifetime::randomized(cx, connection.rekey_time, connection.rand_time);
        let over = connection.rekey_time.saturating_add(connection.over_time);
        self.expires_at = if connection.rekey_time.is_zero() { None } else { lifetime::after(cx, over) };
    }

    /// Both ends speak RFC 4555.
    pub(super) fn roam(&mut self, mobility: Mobility) {
        self.head.roaming.is_on = true;
        self.mobility = Some(mobility);
    }

    /// Tells that it stands.
    pub(super) fn announce(&self, cx: &mut Cx) {
        cx.event(Event::IkeUp {
            tunnel: self.head.name(),
            connection: self.head.connection.name.clone(),
            remote: self.peers.proved().clone(),
            path: self.head.path,
            virtual_addresses: self.virtual_addresses.clone(),
            dns: self.dns.clone(),
        });
    }

    /// Child SAs to be set up in their turn.
    pub(super) fn want(&mut self, wanted: impl Iterator<Item = Wanted>) {
        for wanted in wanted {
            self.tasks.add(Task::NewChild(wanted));
        }
    }

    /// Puts a new pair into force.
    pub(super) fn add_child(&mut self, cx: &mut Cx, (child, keys): Agreed) {
        cx.install(child.install(cx, &self.head, Parts::ALL, Some(&keys)));
        cx.core.counters.children_established += 1;
        self.announce_child(cx, &child, None);
        self.children.push(child);
    }

    pub(super) fn announce_child(&self, cx: &mut Cx, child: &ChildSa, replaces: Option<u32>) {
        cx.event(Event::ChildUp {
            tunnel: self.head.name(),
            child: child.child.name.clone(),
            inbound_spi: child.inbound_spi,
            outbound_spi: child.outbound_spi,
            replaces,
        });
    }

    /// The answer that refuses a pair.
    pub(super) fn refused(&self, cx: &mut Cx, refusal: Refusal) -> Payload {
        cx.core.counters.children_failed += 1;
        self.head.failed(cx, refusal.problem);
        notify(refusal.kind, refusal.data)
    }

    /// The part of the IKE_AUTH response that is about the first pair (RFC 7296 section 2.21.2: the IKE SA stands
    /// without it).
    pub(super) fn on_first_child(
        &mut self,
        cx: &mut Cx,
        offer: &ChildOffer,
        message: &Message,
        nonces: (&[u8], &[u8]),
    ) {
        match offer.accept(cx, &self.sas[0].keys, message, nonces, (&self.head, &self.dynamic)) {
            Ok(agreed) => self.add_child(cx, agreed),
            Err(unusable) => self.on_unusable(cx, offer, &unusable),
        }
    }

    /// A pair that did not come to stand.
    pub(super) fn on_unusable(&mut self, cx: &mut Cx, offer: &ChildOffer, unusable: &Unusable) {
        cx.core.counters.children_failed += 1;
        let (peer, child) = (self.head.peer(), &offer.child.name);
        let problem = match unusable {
            Unusable::Refused(NotifyType::TS_UNACCEPTABLE) => format!(
                "peer {peer} has no traffic in common with child {child}; mend local_ts and remote_ts of either side"
            ),
            Unusable::Refused(NotifyType::NO_PROPOSAL_CHOSEN) => format!(
                "peer {peer} accepts none of child {child}'s ESP proposals; mend esp_proposals of either side"
            ),
            Unusable::Refused(kind) => format!("peer {peer} refuses child {child}: {kind}; look at its log"),
            Unusable::Gone => {
                format!("peer {peer} has made child {child} and deleted it at once; look at its log")
            }
            Unusable::Delete(why) => {
                self.tasks.add(Task::DeleteUnwanted(offer.spi));
                format!("peer {peer} answers the offer of child {child} with what cannot be used: {why}")
            }
        };
        self.head.failed(cx, problem);
    }

    /// Answers a request on one of its IKE SAs, to where [`Head::path`] says.
    pub(super) fn respond(
        &mut self,
        cx: &mut Cx,
        at: usize,
        request: (ExchangeType, u32),
        payloads: &[Payload],
    ) {
        let Self { head, sas, .. } = self;
        sas[at].respond(cx, (head.path, &head.connection), request, payloads);
    }

    /// Sends what waits, and stores the context.
    pub(super) fn proceed(mut self: Box<Self>, cx: &mut Cx) -> Tunnel {
        self.pump(cx);
        cx.store();
        Tunnel::Up(self)
    }

    /// The IKE SA that is used for what we ask.
    pub(super) fn current(&self) -> &IkeSa {
        &self.sas[0]
    }

    /// Whether it is being deleted.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.is_some() || matches!(self.current().fate, Fate::Doomed | Fate::Deleting)
    }
}

/// A notify about one of the sender's ESP SPIs.
pub(super) fn about(kind: NotifyType, spi: u32) -> Payload {
    Payload::Notify(Notify::about_esp(kind, spi))
}
