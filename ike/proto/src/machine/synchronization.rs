//! Message IDs after a failover (RFC 6311): a gateway that goes on with an IKE SA whose latest exchanges it may not know
//! agrees with the peer about what comes next, by an exchange with Message ID 0 outside of the windows.
//!
//! M1 and P1 are what the request says that the sender sends and expects next; P2 and M2 what the answer does.

use std::time::Duration;

use super::Ike;
use super::backoff;
use super::core::Cx;
use super::head::Wanted;
use super::ike_sa::{Fate, IkeSa};
use super::message::{Message, flag, notify};
use super::pending::Pending;
use super::receive::Bad;
use super::replay_counters;
use super::requests::Sent;
use super::tasks::Task;
use super::tunnel::Tunnel;
use super::up::Up;
use crate::configuration::Connection;
use crate::host::{CommandError, Host, Now, Path, Target};
use crate::wire::{Datagram, ExchangeType, MessageIdSync, NotifyType, Payload, ReplayCounterSync};

/// How often the room for requests of the lost gateway is doubled.
const MAX_DOUBLINGS: u32 = 16;

/// What an IKE SA has of synchronizations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Synchronization {
    /// The highest M1 that the peer has used: another one has to be above it, or it is a replay (RFC 6311 section 5.1).
    pub(super) highest: Option<u32>,
    /// Ours that is not answered yet. Until it is nothing else is asked.
    pub(super) ongoing: Option<Ongoing>,
    /// Ours that were answered.
    pub(super) failovers: u32,
}

/// A synchronization that is not answered yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ongoing {
    nonce: [u8; 4],
    m1: u32,
    p1: u32,
    repetitions: u32,
    /// Whether it asks to skip sequence numbers as well.
    skips: bool,
    /// When it is tried again (monotonic).
    due: Duration,
}

impl Synchronization {
    pub(super) fn due(&self) -> Option<Duration> {
        self.ongoing.as_ref().map(|ongoing| ongoing.due)
    }

    /// One that is under way is not tried before that time.
    pub(super) fn wait_until(&mut self, slot: Duration) {
        if let Some(ongoing) = &mut self.ongoing {
            ongoing.due = slot;
        }
    }

    /// One that was under way before a restart begins anew.
    pub(super) fn restored(highest: Option<u32>, is_ongoing: bool, failovers: u32) -> Self {
        Self { highest, ongoing: is_ongoing.then(Ongoing::default), failovers }
    }
}

/// Whether nothing else is in a request or answer than may be (RFC 6311 section 5.1).
fn is_alone(message: &Message) -> bool {
    let is_allowed =
        |kind| kind == NotifyType::IKEV2_MESSAGE_ID_SYNC || kind == NotifyType::IPSEC_REPLAY_COUNTER_SYNC;
    message.deletes.is_empty() && message.notifies.iter().all(|notify| is_allowed(notify.kind))
}

/// What IKE_AUTH says of it (RFC 6311 section 4).
pub(super) fn announcement(connection: &Connection) -> Option<Payload> {
    let is_on = connection.moving.message_id_sync;
    is_on.then(|| flag(NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED))
}

/// Whether both sides have said so.
pub(super) fn is_agreed(connection: &Connection, message: &Message) -> bool {
    connection.moving.message_id_sync && message.has(NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED)
}

impl Up {
    /// Whether the datagram is about synchronization, and all that is to be done about it then. A request with Message
    /// ID 0 may also be the peer's first one of all: what is inside decides.
    pub(super) fn on_synchronization(
        &mut self,
        cx: &mut Cx,
        path: Path,
        at: usize,
        datagram: &Datagram,
    ) -> bool {
        let header = *datagram.header();
        let is_possible = self.can_synchronize
            && header.message_id == 0
            && header.exchange == ExchangeType::INFORMATIONAL
            && (!header.flags.response || self.sas[at].synchronization.ongoing.is_some());
        let message = if is_possible { self.sas[at].peek(cx, datagram) } else { None };
        let Some(message) = message else { return false };
        let sync = message.notify(NotifyType::IKEV2_MESSAGE_ID_SYNC);
        let Some(sync) = sync.and_then(|notify| MessageIdSync::parse(&notify.data).ok()) else {
            return false;
        };
        let is_done = if !is_alone(&message) {
            false
        } else if header.flags.response {
            self.on_synchronized(cx, at, sync)
        } else {
            self.answer_synchronization(cx, path, at, (sync, &message))
        };
        if is_done {
            self.heard = cx.now.monotonic;
            self.tasks.soon(cx.now.monotonic);
            cx.store();
        } else {
            cx.core.counters.synchronizations_refused += 1;
        }
        true
    }

    /// The peer has failed over (RFC 6311 section 5.1). What it sends next has to be above all that it is known to have
    /// sent, by whatever of its gateways; what we send next is above all that we have sent.
    fn answer_synchronization(
        &mut self,
        cx: &mut Cx,
        path: Path,
        at: usize,
        (sync, message): (MessageIdSync, &Message),
    ) -> bool {
        let sa = &self.sas[at];
        let is_replayed = sync.expected_send < sa.window.responses.unseen()
            || sa.synchronization.highest.is_some_and(|highest| sync.expected_send <= highest);
        if is_replayed || sync.expected_send == u32::MAX || !sa.can_seal(cx) {
            return false;
        }
        let ours = sa.window.requests.next_id();
        let ongoing = sa.synchronization.ongoing.as_ref();
        let p2 = ongoing.map_or(ours, |ongoing| ongoing.m1.max(ours)).max(sync.expected_receive);
        self.ask_again(at);
        self.skip_as_asked(cx, message);
        let sa = &mut self.sas[at];
        sa.window.requests.restart_at(p2);
        sa.window.responses.restart_at(sync.expected_send);
        sa.synchronization.highest = Some(sync.expected_send);
        let answer = MessageIdSync { expected_send: p2, expected_receive: sync.expected_send, ..sync };
        sa.send_outside(cx, path, true, (answer, None));
        cx.core.counters.synchronizations += 1;
        true
    }

    /// The answer to ours.
    fn on_synchronized(&mut self, cx: &mut Cx, at: usize, sync: MessageIdSync) -> bool {
        let sa = &mut self.sas[at];
        let ongoing = sa.synchronization.ongoing.take_if(|ongoing| {
            let is_ours = ongoing.repetitions > 0 && ongoing.nonce == sync.nonce;
            is_ours && sync.expected_receive >= ongoing.m1 && sync.expected_send >= ongoing.p1
        });
        let Some(ongoing) = ongoing else { return false };
        sa.window.requests.restart_at(sync.expected_receive);
        sa.window.responses.restart_at(sync.expected_send);
        sa.synchronization.failovers = sa.synchronization.failovers.saturating_add(1);
        cx.core.counters.failovers += 1;
        self.on_counters(ongoing.skips);
        true
    }

    /// What is outstanding is asked anew with other Message IDs: the peer may have no answer to the old ones. If it has
    /// made a pair of Child SAs, it would be left with it (RFC 6311 section 8.3): it is to forget that.
    fn ask_again(&mut self, at: usize) {
        let pending = std::mem::take(&mut self.sas[at].pending);
        for (_, pending) in pending {
            // What goes through several exchanges begins again with the first one.
            let pending = match pending {
                Pending::FollowUp(follow_up) => follow_up.about,
                other => other,
            };
            match pending {
                Pending::NewChild(offer) => {
                    self.tasks.add(Task::DeleteUnwanted(offer.spi));
                    let wanted = Wanted { child: offer.child, reqid: Some(offer.reqid) };
                    self.tasks.add(Task::NewChild(wanted));
                }
                Pending::RekeyChild(rekeying) => {
                    self.tasks.add(Task::DeleteUnwanted(rekeying.offer.spi));
                    self.tasks.add(Task::RekeyChild(rekeying.old));
                }
                Pending::RekeyIke(_) => {
                    self.tasks.add(Task::RekeyIke);
                }
                Pending::DeleteIke => self.sas[at].fate = Fate::Doomed,
                Pending::Liveness => {
                    self.tasks.add(Task::Liveness);
                }
                Pending::Routability(_) => {
                    self.tasks.add(Task::CheckRoutability);
                }
                Pending::Update(_) => {
                    self.tasks.add(Task::UpdateAddresses);
                }
                Pending::Counters => {
                    self.tasks.add(Task::SynchronizeCounters);
                }
                Pending::Ticket => {
                    self.tasks.add(Task::RequestTicket);
                }
                // Pairs that are there, and being deleted, are asked for again by themselves.
                Pending::DeleteChildren(spis) => {
                    let is_here = |spi: &u32| self.children.iter().any(|child| child.inbound_spi == *spi);
                    let unwanted: Vec<_> = spis.into_iter().filter(|spi| !is_here(spi)).collect();
                    for spi in unwanted {
                        self.tasks.add(Task::DeleteUnwanted(spi));
                    }
                }
                _ => {}
            }
        }
    }

    /// Begins to agree about Message IDs and sequence numbers; whether the peer can.
    pub(super) fn synchronize(&mut self, cx: &mut Cx) -> bool {
        let is_begun = self.begin_synchronization(cx.now.monotonic);
        if is_begun {
            cx.store();
            self.repeat_synchronization(cx);
        }
        is_begun
    }

    /// The same at that time.
    pub(super) fn begin_synchronization(&mut self, at: Duration) -> bool {
        if self.is_ending() {
            return false;
        }
        if !self.can_synchronize {
            return self.begin_counters();
        }
        self.ask_again(0);
        self.sas[0].synchronization.ongoing = Some(Ongoing { due: at, ..Ongoing::default() });
        true
    }

    /// Tries, or tries again, if that is due. Each try has a nonce and an M1 of its own: a peer that has answered the
    /// one before must not answer the same again. M1 leaves room for the requests that the lost gateway may have sent:
    /// a window (RFC 6311 section 5.1), and each time twice as many, because the peer does not say why it is silent.
    pub(super) fn repeat_synchronization(&mut self, cx: &mut Cx) -> Sent {
        let skip = self.wanted_skip();
        let sa = &mut self.sas[0];
        let Some(ongoing) = sa.synchronization.ongoing.clone().filter(|o| o.due <= cx.now.monotonic) else {
            return Sent::Again;
        };
        let retransmission = cx.core.configuration.retransmission.clone();
        if ongoing.repetitions > 0 && !backoff::may_repeat(&retransmission, ongoing.repetitions - 1) {
            return Sent::Enough;
        }
        let room = sa.window.requests.limit() << ongoing.repetitions.min(MAX_DOUBLINGS);
        let m1 = sa.window.requests.next_id().saturating_add(room);
        let (nonce, p1) = (cx.random::<4>(), sa.window.responses.expected());
        let due = cx.now.monotonic.saturating_add(backoff::wait(&retransmission, ongoing.repetitions));
        let repetitions = ongoing.repetitions + 1;
        sa.synchronization.ongoing = Some(Ongoing { nonce, m1, p1, repetitions, skips: skip.is_some(), due });
        sa.window.requests.restart_at(m1);
        let sync = MessageIdSync { nonce, expected_send: m1, expected_receive: p1 };
        if sa.can_seal(cx) {
            sa.send_outside(cx, self.head.path, false, (sync, skip));
        }
        cx.store();
        Sent::Again
    }
}

impl IkeSa {
    /// An authentic message of the peer's, whatever its Message ID.
    fn peek(&self, cx: &mut Cx, datagram: &Datagram) -> Option<Message> {
        let Datagram::Encrypted(sealed) = datagram else { return None };
        self.read(cx, sealed).and_then(|content: Result<Message, Bad>| content.ok())
    }

    /// Sends what no window keeps.
    fn send_outside(
        &self,
        cx: &mut Cx,
        path: Path,
        response: bool,
        (sync, skip): (MessageIdSync, Option<ReplayCounterSync>),
    ) {
        let header = self.header(ExchangeType::INFORMATIONAL, response, 0);
        let sync = notify(NotifyType::IKEV2_MESSAGE_ID_SYNC, sync.emit());
        let payloads: Vec<_> = std::iter::once(sync).chain(skip.map(replay_counters::payload)).collect();
        let host = &mut cx.core.ivs.before(cx.host);
        if let Ok(datagram) = self.keys.seal(self.role, &header, &payloads, host) {
            cx.transmit(path, &[datagram]);
        }
    }
}

impl Ike {
    /// Agrees with the peers of a target about Message IDs; how many can.
    pub(super) fn synchronize(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        target: &Target,
    ) -> Result<usize, CommandError> {
        let mut unable = 0;
        let result = self.for_each(now, host, target, |tunnel, cx, count| {
            let Tunnel::Up(mut up) = tunnel else { return Some(tunnel) };
            let is_begun = up.synchronize(cx);
            *count += usize::from(is_begun);
            unable += usize::from(!is_begun);
            Some(Tunnel::Up(up))
        });
        match result {
            Err(CommandError::NoMatch(_)) if unable > 0 => Err(CommandError::NotSynchronizable(unable)),
            result => result,
        }
    }
}
