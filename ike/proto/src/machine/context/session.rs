//! The session of a user who was judged elsewhere.

use std::time::Duration;

use super::numbers::{Impossible, from_time, monotonic, time, unix};
use super::stored::StoredSession;
use crate::host::{Now, SessionView, Traffic, Volume};
use crate::machine::session::Session;

/// A name, in octets, at most: what an attribute of RADIUS carries.
const MAX_NAME: usize = 253;
/// Attributes of class at most.
const MAX_CLASS: usize = 64;

pub(super) fn stored(now: Now, session: &Session) -> StoredSession {
    let Traffic { inbound, outbound } = session.past;
    StoredSession {
        id: session.id.clone(),
        user: session.user.clone().into(),
        class: session.class.iter().map(|class| class.clone().into()).collect(),
        ends: session.ends_at.map(|at| time(now, at)),
        idle_timeout: session.idle_timeout.map(|time| time.as_secs()),
        interim_interval: session.interim_interval.map(|time| time.as_secs()),
        past: (inbound.octets, inbound.packets, outbound.octets, outbound.packets),
    }
}

pub(super) fn read(now: Now, stored: &StoredSession) -> Result<Session, Impossible> {
    let is_long = |octets: &[u8]| octets.len() > MAX_NAME;
    let classes_are_long = stored.class.len() > MAX_CLASS || stored.class.iter().any(|class| is_long(class));
    if is_long(stored.id.as_bytes()) || is_long(&stored.user) || classes_are_long {
        return Err(Impossible("a session"));
    }
    let seconds = |time: Option<u64>| time.map(Duration::from_secs);
    let view = SessionView {
        id: stored.id.clone(),
        user: stored.user.to_vec(),
        class: stored.class.iter().map(|class| class.to_vec()).collect(),
        ends: stored.ends.map(from_time),
        idle_timeout: seconds(stored.idle_timeout),
        interim_interval: seconds(stored.interim_interval),
    };
    let (inbound_octets, inbound_packets, outbound_octets, outbound_packets) = stored.past;
    let past = Traffic {
        inbound: Volume { octets: inbound_octets, packets: inbound_packets },
        outbound: Volume { octets: outbound_octets, packets: outbound_packets },
    };
    let ends_at = view.ends.map(|ends| monotonic(now, unix(ends)));
    Ok(Session::stored(view, ends_at, past, now))
}
