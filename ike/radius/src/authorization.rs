//! What servers ask of us: to end sessions, or to change them (RFC 5176).
//!
//! A request is taken from a known address, with the authenticator that the secret gives, and not twice: its
//! Event-Timestamp has to be fresh (section 6.3), and the same octets are answered by the same octets (section 2.3).

mod codes;
mod request;
mod seen;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::Secret;
use crate::attribute::{Attributes, Kind};
use crate::packet::{Code, Draft, Packet};

pub use codes::Cause;
pub use request::{Change, Order, Query, Request};
use seen::Seen;

/// How far an Event-Timestamp may be from now (RFC 5176 section 6.3).
pub const FRESH: Duration = Duration::from_mins(5);

/// Who may ask, and as whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Addresses that requests come from.
    pub clients: Vec<IpAddr>,
    /// What is shared with them.
    pub secret: Secret,
    /// Whether a request without Event-Timestamp is refused: it could be an old one.
    pub needs_timestamp: bool,
    /// NAS-Identifiers that are ours.
    pub identifiers: Vec<String>,
    /// NAS-IP-Addresses that are ours.
    pub addresses: Vec<IpAddr>,
}

/// What is made of a datagram.
#[derive(Debug)]
pub enum Heard {
    /// Nothing: it is of nobody who may ask.
    Ignored(Ignored),
    /// It is answered already, or refused: send this back.
    Answer(Vec<u8>),
    /// It is to be carried out, and answered by [`Listener::answer`].
    Asked(Box<Request>),
}

/// Why a datagram is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// No packet, or none of these requests.
    Malformed,
    /// From a stranger.
    Stranger,
    /// The authenticator is wrong.
    Forged,
    /// Too old, from the future, or without a time.
    Stale,
}

/// The listener.
pub struct Listener {
    policy: Policy,
    seen: Seen,
}

impl Listener {
    /// Nothing heard yet.
    pub fn new(policy: Policy) -> Self {
        Self { policy, seen: Seen::default() }
    }

    /// Other rules from now on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.policy = policy;
    }

    /// Works on a datagram.
    pub fn hear(&mut self, now: Duration, unix: Duration, source: SocketAddr, datagram: &[u8]) -> Heard {
        match self.judge(now, unix, source, datagram) {
            Ok(heard) => heard,
            Err(ignored) => Heard::Ignored(ignored),
        }
    }

    fn judge(
        &mut self,
        now: Duration,
        unix: Duration,
        source: SocketAddr,
        datagram: &[u8],
    ) -> Result<Heard, Ignored> {
        if !self.policy.clients.contains(&source.ip().to_canonical()) {
            return Err(Ignored::Stranger);
        }
        let packet = Packet::parse(datagram).map_err(|_| Ignored::Malformed)?;
        if ![Code::DISCONNECT_REQUEST, Code::COA_REQUEST].contains(&packet.code()) {
            return Err(Ignored::Malformed);
        }
        self.policy.secret.check_request(&packet).map_err(|_| Ignored::Forged)?;
        if let Some(answer) = self.seen.answer(now, &packet.authenticator()) {
            return Ok(Heard::Answer(answer));
        }
        if !self.is_fresh(unix, &packet) {
            return Err(Ignored::Stale);
        }
        let mut request = Request::of(source, &packet);
        let read = request.read(&packet, &self.policy);
        Ok(match read {
            Ok(()) => Heard::Asked(Box::new(request)),
            Err(cause) => Heard::Answer(self.answer(now, &request, Err(cause))),
        })
    }

    fn is_fresh(&self, unix: Duration, packet: &Packet) -> bool {
        let at = packet.first(Kind::EVENT_TIMESTAMP).and_then(crate::attribute::number);
        match at.map(|at| Duration::from_secs(at.into())) {
            Some(at) => at.abs_diff(unix) <= FRESH,
            None => !self.policy.needs_timestamp,
        }
    }

    /// The answer: that it was done, or why not.
    pub fn answer(&mut self, now: Duration, request: &Request, outcome: Result<(), Cause>) -> Vec<u8> {
        let mut attributes = Attributes::default();
        if let Err(cause) = outcome {
            attributes.add_number(Kind::ERROR_CAUSE, cause as u32);
        }
        attributes.extend(&request.proxy_states);
        let code = request.answer_code(outcome.is_ok());
        let draft = Draft::new((code, request.identifier), &request.authenticator, true, &attributes);
        // The request had these Proxy-States, and was not longer than a packet may be.
        let draft = draft.or_else(|_| {
            Draft::new((code, request.identifier), &request.authenticator, true, &Attributes::default())
        });
        let answer = draft.map(|draft| self.policy.secret.sign_response(draft)).unwrap_or_default();
        self.seen.note(now, request.authenticator, answer.clone());
        answer
    }
}
