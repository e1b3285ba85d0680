//! What comes to a tunnel that stands.

use super::core::Cx;
use super::ike_sa::Fate;
use super::informational;
use super::message::{Message, flag, notify};
use super::pending::Pending;
use super::receive::{Bad, Opened};
use super::tunnel::Tunnel;
use super::up::Up;
use crate::host::{DownReason, Event, Output, Path};
use crate::wire::{Datagram, ExchangeType, NotifyType, Payload};

/// Whether the tunnel goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Stays,
    Over(DownReason),
}

impl Up {
    /// A sealed message to one of its IKE SAs.
    pub(super) fn on_sealed(
        mut self: Box<Self>,
        cx: &mut Cx,
        path: Path,
        datagram: &Datagram,
    ) -> Option<Tunnel> {
        if self.is_frozen {
            cx.core.counters.frozen += 1;
            return Some(Tunnel::Up(self));
        }
        let header = datagram.header();
        let spis = (header.initiator_spi, header.responder_spi);
        let at = self.sas.iter().position(|sa| (sa.initiator_spi, sa.responder_spi) == spis);
        if at.is_some_and(|at| self.on_synchronization(cx, path, at, datagram)) {
            return Some(Tunnel::Up(self));
        }
        // Until both agree about Message IDs it is unknown which ones were answered already (RFC 6311 section 8.1).
        let at = at.filter(|at| self.sas[*at].synchronization.ongoing.is_none());
        let opened = at.and_then(|at| Some((at, self.sas[at].receive(cx, path, datagram)?)));
        match opened {
            None => Some(Tunnel::Up(self)),
            Some((at, opened)) => self.on_opened(cx, path, at, opened),
        }
    }

    fn on_opened(mut self: Box<Self>, cx: &mut Cx, path: Path, at: usize, opened: Opened) -> Option<Tunnel> {
        self.heard = cx.now.monotonic;
        self.follow(cx, path);
        let (spi, is_response) = (self.sas[at].our_spi(), opened.is_response);
        let verdict = if is_response {
            self.on_answer_along(cx, path);
            self.on_response(cx, path, at, opened)
        } else {
            self.on_request(cx, path, at, opened)
        };
        match verdict {
            Verdict::Stays => Some(self.proceed(cx)),
            Verdict::Over(reason) => self.end(cx, reason, Some(spi).filter(|_| !is_response)),
        }
    }

    /// The peer is behind a NAT, which may have given it another port or address: the way of a new authentic message
    /// is the way to it. Not if we are behind one ourselves (RFC 7296 section 2.23), and not if the peer can say that
    /// it has moved (RFC 4555 section 3.8).
    fn follow(&mut self, cx: &mut Cx, path: Path) {
        let follows = self.head.nat.peers && !self.head.nat.ours && self.mobility.is_none();
        if follows && path.remote != self.head.path.remote && path.marked {
            self.move_to(cx, Path { remote: path.remote, ..self.head.path });
        }
    }

    /// The peer is somewhere else now. What `dynamic` stands for stays: nobody has shown that it receives there, and it
    /// must not get the traffic of whom it can name as its source.
    pub(super) fn move_to(&mut self, cx: &mut Cx, to: Path) {
        let from = std::mem::replace(&mut self.head.path, to);
        let ends = self.head.ends();
        let inbound = self.children.iter().map(|child| child.inbound_spi).collect();
        let outbound = self.children.iter().map(|child| child.reqid).collect();
        cx.core.counters.path_changes += 1;
        cx.install(Output::MovePeer { inbound, outbound, ends });
        cx.store();
        cx.event(Event::PathChanged { tunnel: self.head.name(), from, to });
    }

    /// Answers a request to where it came from.
    fn on_request(&mut self, cx: &mut Cx, path: Path, at: usize, opened: Opened) -> Verdict {
        let Opened { exchange, message_id, content, .. } = opened;
        let spi = self.sas[at].our_spi();
        let (payloads, verdict) = match content {
            Ok(message) if !self.admits(cx, &message) => {
                self.sas[at].window.responses.forget(message_id);
                return Verdict::Stays;
            }
            Ok(message) if exchange == ExchangeType::INFORMATIONAL => {
                let addresses = self.on_addresses(cx, path, (at, message_id), &message);
                let (mut payloads, verdict) = self.answer(cx, at, exchange, &message);
                payloads.extend(addresses);
                (payloads, verdict)
            }
            Ok(message) => self.answer(cx, at, exchange, &message),
            Err(Bad::Critical(kind)) => {
                (vec![notify(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, [kind.0])], Verdict::Stays)
            }
            // Authentic nonsense: the ends do not understand each other (RFC 7296 section 2.21.3).
            Err(Bad::Syntax) => {
                self.head.failed(
                    cx,
                    format!("peer {} sent a malformed message; the tunnel ends", self.head.peer()),
                );
                (vec![flag(NotifyType::INVALID_SYNTAX)], Verdict::Over(DownReason::Failed))
            }
        };
        let Self { head, sas, .. } = self;
        // It may have another place by now.
        let Some(sa) = sas.iter_mut().find(|sa| sa.our_spi() == spi) else { return verdict };
        sa.respond(cx, (path, &head.connection), (exchange, message_id), &payloads);
        verdict
    }

    fn answer(
        &mut self,
        cx: &mut Cx,
        at: usize,
        exchange: ExchangeType,
        message: &Message,
    ) -> (Vec<Payload>, Verdict) {
        match exchange {
            ExchangeType::INFORMATIONAL => informational::answer(self, cx, at, message),
            ExchangeType::CREATE_CHILD_SA => (self.answer_create_child(cx, at, message), Verdict::Stays),
            ExchangeType::IKE_FOLLOWUP_KE => (self.answer_follow_up(cx, at, message), Verdict::Stays),
            _ => (vec![flag(NotifyType::INVALID_SYNTAX)], Verdict::Stays),
        }
    }

    fn on_response(&mut self, cx: &mut Cx, path: Path, at: usize, opened: Opened) -> Verdict {
        let Some(pending) = self.sas[at].take_pending(opened.message_id) else { return Verdict::Stays };
        // An answer that cannot be read is no agreement to anything.
        let chain = opened.chain;
        let message = opened.content.unwrap_or_default();
        match pending {
            Pending::DeleteIke => self.on_ike_deleted(at),
            Pending::DeleteChildren(spis) => {
                self.on_children_deleted(cx, &spis);
                Verdict::Stays
            }
            Pending::NewChild(_) | Pending::RekeyChild(_) | Pending::RekeyIke(_) => {
                self.on_created(cx, at, pending, (&message, chain))
            }
            Pending::FollowUp(follow_up) => {
                self.on_followed_up(cx, at, *follow_up, &message);
                Verdict::Stays
            }
            Pending::Redirect => {
                self.begin_leave(cx);
                Verdict::Stays
            }
            Pending::Liveness => {
                self.on_lives(&message);
                Verdict::Stays
            }
            Pending::Counters => {
                self.on_counters(true);
                Verdict::Stays
            }
            Pending::Ticket => {
                self.on_ticket(cx, at, &message);
                Verdict::Stays
            }
            Pending::Routability(check) => self.on_routability(cx, &check, &message),
            Pending::Update(update) => self.on_updated(cx, (at, path), &update, &message),
            Pending::Intermediate | Pending::Authentication | Pending::Farewell => Verdict::Stays,
        }
    }

    /// Our request to delete one of its IKE SAs was answered.
    fn on_ike_deleted(&mut self, at: usize) -> Verdict {
        if at == 0 {
            return Verdict::Over(self.ending.unwrap_or(DownReason::Command));
        }
        self.sas.remove(at);
        Verdict::Stays
    }

    /// Begins to delete it.
    pub(super) fn doom(&mut self, reason: DownReason) {
        self.ending.get_or_insert(reason);
        self.tasks.clear();
        if self.sas[0].fate == Fate::Lives {
            self.sas[0].fate = Fate::Doomed;
        }
    }
}
