//! Giving tickets (RFC 5723 sections 4.2 and 6), and those that may not be taken any more.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::session::Issue;
use super::{Resumed, TicketId};
use crate::crypto::{ResumptionSecret, TicketKey};
use crate::machine::core::{Core, Cx};
use crate::machine::message::{Message, flag, notify};
use crate::machine::up::Up;
use crate::wire::{NotifyType, Payload, TicketWithLifetime};

/// IKE SAs whose tickets are remembered as spent: as many as are used within their lifetime on a busy gateway. Of more the oldest
/// are forgotten; who presents one of those must still have its keys.
const MAX_SPENT: usize = 65_536;

/// Tickets of ours that were used or revoked (RFC 5723 sections 4.3.1 and 6.2).
#[derive(Debug, Default)]
pub(in crate::machine) struct Spent {
    ids: HashSet<TicketId>,
    /// With the time until which they would be good (unix time).
    order: VecDeque<(TicketId, Duration)>,
}

impl Spent {
    pub(in crate::machine) fn note(&mut self, unix: Duration, id: TicketId, until: Duration) {
        self.forget_old(unix);
        if until > unix && self.ids.insert(id) {
            self.order.push_back((id, until));
        }
        while self.order.len() > MAX_SPENT {
            self.forget_first();
        }
    }

    pub(super) fn has(&self, id: &TicketId) -> bool {
        self.ids.contains(id)
    }

    fn forget_old(&mut self, unix: Duration) {
        while self.order.front().is_some_and(|(_, until)| *until <= unix) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some((id, _)) = self.order.pop_front() {
            self.ids.remove(&id);
        }
    }
}

impl Core {
    /// The keys of tickets: the first seals.
    pub(super) fn ticket_keys(&self) -> &[TicketKey] {
        match self.credentials.ticket_keys() {
            [] => std::slice::from_ref(&self.own_ticket_key),
            keys => keys,
        }
    }
}

impl Up {
    /// The peer began the tunnel: with a proof, or by a ticket.
    pub(in crate::machine) fn begin_as_server(&mut self, cx: &mut Cx, resumed: Option<Resumed>) {
        self.resumption.authenticated = cx.now.unix;
        if let Some(Resumed { session, .. }) = resumed {
            self.resumption.authenticated = session.authenticated;
            self.ppk = session.ppk;
            self.note_resumed(cx, false);
        }
    }

    /// The answer to TICKET_REQUEST, for an IKE SA of these keys and SPIs: a ticket, or that there is none (RFC 5723
    /// section 4.2). Who does not know resumption says nothing.
    pub(in crate::machine) fn answer_ticket_request(
        &mut self,
        cx: &mut Cx,
        at: usize,
        message: &Message,
    ) -> Option<Payload> {
        let asks = message.has(NotifyType::TICKET_REQUEST) && !self.resumption.is_client;
        if !asks || !self.head.connection.moving.session_resumption || self.is_ending() {
            return None;
        }
        // A session that somebody else has granted ends with its tunnel: coming back is for that judge to allow.
        let may_have = at == 0 && self.session.is_none();
        let Some(lifetime) = self.ticket_lifetime(cx).filter(|_| may_have) else {
            return Some(flag(NotifyType::TICKET_NACK));
        };
        let spi = self.sas[at].our_spi();
        let keys = self.sas[at].keys.resumption_secret();
        let until = Duration::from_secs(cx.now.unix.as_secs().saturating_add(lifetime.into()));
        let id = self.resumption.issued.map_or_else(|| cx.random(), |(id, _)| id);
        let contents = Issue::of(self, id, until, spi).encode();
        let sealed = seal(cx, &keys, &contents)?;
        let last = self.resumption.issued.map_or(until, |(_, before)| until.max(before));
        self.resumption.issued = Some((id, last));
        cx.core.counters.tickets_issued += 1;
        let data = TicketWithLifetime { lifetime, ticket: sealed }.emit();
        Some(notify(NotifyType::TICKET_LT_OPAQUE, data))
    }

    /// The answer to TICKET_REQUEST in CREATE_CHILD_SA (RFC 5723 section 4.1): the new IKE SA does not stand yet, and may
    /// lose to another one. The peer asks for its ticket when it does.
    pub(in crate::machine) fn promise_ticket(&self, message: &Message) -> Option<Payload> {
        let may_have = self.head.connection.moving.session_resumption && self.session.is_none();
        let asks = message.has(NotifyType::TICKET_REQUEST) && !self.resumption.is_client;
        (asks && may_have).then(|| flag(NotifyType::TICKET_ACK))
    }

    /// In seconds; `None` if a ticket would be of no use: at most what is configured, what the IKE SA lives, and what
    /// is left since the peer has proved who it is (RFC 5723 section 6.2).
    fn ticket_lifetime(&self, cx: &Cx) -> Option<u32> {
        let moving = &self.head.connection.moving;
        let left = self.expires_at.map(|at| at.saturating_sub(cx.now.monotonic));
        let end = self.resumption.authenticated.saturating_add(moving.resumption_time);
        let proved = (!moving.resumption_time.is_zero()).then(|| end.saturating_sub(cx.now.unix));
        let lifetime = [left, proved].into_iter().flatten().fold(moving.ticket_lifetime, Duration::min);
        u32::try_from(lifetime.as_secs()).ok().filter(|lifetime| *lifetime > 0)
    }

    /// The peer's tickets are void.
    pub(super) fn revoke_issued(&mut self, cx: &mut Cx) {
        if let Some((id, until)) = self.resumption.issued.take() {
            cx.core.spent.note(cx.now.unix, id, until);
        }
    }
}

fn seal(cx: &mut Cx, secret: &ResumptionSecret, contents: &[u8]) -> Option<Vec<u8>> {
    let Cx { host, core, .. } = cx;
    let key = core.ticket_keys().first()?;
    Some(key.seal(secret, contents, &mut |octets: &mut [u8]| host.random(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: usize) -> TicketId {
        let mut id = [0; super::super::TICKET_ID];
        id[..8].copy_from_slice(&n.to_be_bytes());
        id
    }

    #[test]
    fn spent_tickets_are_remembered_until_they_are_void_anyway() {
        let (mut spent, seconds) = (Spent::default(), Duration::from_secs);
        spent.note(seconds(1), id(1), seconds(10));
        spent.note(seconds(1), id(2), seconds(20));
        spent.note(seconds(1), id(3), seconds(1));
        assert!(spent.has(&id(1)) && spent.has(&id(2)) && !spent.has(&id(3)));
        spent.note(seconds(10), id(4), seconds(20));
        assert!(!spent.has(&id(1)) && spent.has(&id(2)) && spent.has(&id(4)));
    }

    #[test]
    fn memory_stays_flat_however_many_are_spent() {
        let (mut spent, until) = (Spent::default(), Duration::from_secs(10));
        for n in 0..=MAX_SPENT {
            spent.note(Duration::ZERO, id(n), until);
            spent.note(Duration::ZERO, id(n), until);
        }
        assert_eq!((spent.ids.len(), spent.order.len()), (MAX_SPENT, MAX_SPENT));
        assert!(!spent.has(&id(0)) && spent.has(&id(MAX_SPENT)));
    }
}
