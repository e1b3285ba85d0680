//! Attempts that failed, and the pause before the next one.
//!
//! An attempt is made at all addresses of the connection, one after the other. Between two attempts there is a pause,
//! each twice as long as the one before, up to a bound, with some chance in it; a host that gets another address, or one
//! at all, does not wait any longer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::core::Cx;
use super::head::{Attempt, Head};
use super::mobility::Roaming;
use super::nat::{NAT_PORT, Nat};
use super::redirect_follow;
use super::resumption;
use super::traps::Traps;
use super::tunnel::Tunnel;
use crate::configuration::Connection;
use crate::host::{DownReason, Event, Host, Path};

/// The first pause; each is twice the one before.
const FIRST: Duration = Duration::from_secs(5);
/// The longest pause.
const LONGEST: Duration = Duration::from_mins(5);

/// Waits for the next attempt.
pub(super) struct Waiting {
    pub(super) head: Head,
    pub(super) attempt: Attempt,
    pub(super) until: Duration,
}

impl Waiting {
    /// Waits for so long.
    pub(super) fn begin(cx: &Cx, head: Head, attempt: Attempt, pause: Duration) -> Tunnel {
        let until = cx.now.monotonic.saturating_add(pause);
        Tunnel::Waiting(Box::new(Self { head, attempt, until }))
    }

    /// The next attempt, if there is a way; that there is none is nobody's failure.
    pub(super) fn on_timeout(self, cx: &mut Cx) -> Tunnel {
        let Self { head, mut attempt, .. } = self;
        attempt.detour.from = None;
        let Some((path, skipped)) = path_to(cx.host, &head.connection, attempt.turn, Some(head.path)) else {
            let pause = pause(cx, 0);
            return Self::begin(cx, head, attempt, pause);
        };
        (attempt.turn, attempt.refused) = (attempt.turn.wrapping_add(skipped), attempt.refused + skipped);
        let (nat, roaming) = (Nat::default(), Roaming::default());
        attempt.is_whole = false;
        resumption::begin(cx, Head { path, nat, roaming, ..head }, attempt)
    }

    /// Addresses or routes of this host have changed: if there is a way from another address, or one at all, it is
    /// tried at once.
    pub(super) fn look(&mut self, cx: &Cx) {
        let path = path_to(cx.host, &self.head.connection, self.attempt.turn, Some(self.head.path));
        if path.is_some_and(|(path, _)| path.local.ip() != self.head.path.local.ip()) {
            self.until = cx.now.monotonic;
        }
    }
}

/// There is no way to the peer, at least not yet.
pub(super) fn without_way(cx: &mut Cx, head: Head, attempt: Attempt) -> Tunnel {
    let problem = format!("there is no route to peer {}; waiting for one", head.peer());
    head.failed(cx, problem);
    let pause = pause(cx, 0);
    Waiting::begin(cx, head, attempt, pause)
}

/// Tells of the failure; then the next address, or the next attempt after a pause, if `keying_tries` allows one.
///
/// An attempt at a gateway that we were sent to is no failure of the configured one: that is tried again, unless the
/// tunnel with it still stands.
pub(super) fn after_failure(
    cx: &mut Cx,
    head: Head,
    mut attempt: Attempt,
    problem: String,
) -> Option<Tunnel> {
    cx.core.counters.ike_failed += 1;
    head.failed(cx, problem);
    let has_old = redirect_follow::gives_up(cx, &head, &mut attempt.detour);
    let is_sent_here = attempt.detour.from.is_some();
    if !is_sent_here {
        (attempt.turn, attempt.refused) = (attempt.turn.wrapping_add(1), attempt.refused + 1);
    }
    if !has_old && !is_sent_here && attempt.refused < head.connection.peers().count() {
        return Some(Waiting::begin(cx, head, attempt, Duration::ZERO));
    }
    let failures = attempt.failures.saturating_add(u32::from(!is_sent_here));
    let tries = head.connection.keying_tries;
    if has_old || (tries != 0 && failures >= tries) {
        cx.event(Event::IkeDown { tunnel: head.name(), reason: DownReason::Failed });
        return None;
    }
    let pause = pause(cx, attempt.failures);
    Some(Waiting::begin(cx, head, Attempt { failures, refused: 0, ..attempt }, pause))
}

/// With up to a fifth more, so that many tunnels of a gateway that is back do not come all at once.
pub(super) fn pause(cx: &mut Cx, failures: u32) -> Duration {
    let pause = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
    pause + Duration::from_millis(cx.random_below(pause.as_millis() as u64 / 5))
}

/// How to reach the peer of a connection: where it is configured to be, each address in its turn, or else where it was;
/// and how many addresses were passed over because there is no way to them, as to those of IPv6 in a network without.
fn path_to(
    host: &dyn Host,
    connection: &Connection,
    turn: usize,
    before: Option<Path>,
) -> Option<(Path, usize)> {
    let count = connection.peers().count().max(1);
    let way = |skipped| {
        let remote = remote(connection, turn.wrapping_add(skipped), before)?;
        Some((path_between(host, connection, remote)?, skipped))
    };
    (0..count).find_map(way)
}

/// The same, or a path from nowhere, if there is no way now but may be one later.
pub(super) fn path_for_later(
    host: &dyn Host,
    connection: &Connection,
    turn: usize,
    before: Option<Path>,
) -> Option<Path> {
    if let Some((path, _)) = path_to(host, connection, turn, before) {
        return Some(path);
    }
    let remote = remote(connection, turn, before)?;
    let nowhere = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    Some(path_from(connection, nowhere, remote))
}

fn remote(connection: &Connection, turn: usize, before: Option<Path>) -> Option<IpAddr> {
    let count = connection.peers().count();
    let configured = connection.peers().nth(turn.checked_rem(count).unwrap_or(0));
    configured.or(before.map(|path| path.remote.ip()))
}

/// How to reach a gateway at that address; `None` without a way to it.
pub(super) fn path_between(host: &dyn Host, connection: &Connection, remote: IpAddr) -> Option<Path> {
    let same_family = connection.local_addresses.iter().find(|local| local.is_ipv4() == remote.is_ipv4());
    let local = same_family.copied().or_else(|| host.source_for(remote))?;
    Some(path_from(connection, local, remote))
}

fn path_from(connection: &Connection, local: IpAddr, remote: IpAddr) -> Path {
    let is_float = connection.remote_port == NAT_PORT || connection.local_port == NAT_PORT;
    let local_port = if is_float { NAT_PORT } else { connection.local_port };
    Path {
        local: SocketAddr::new(local, local_port),
        remote: SocketAddr::new(remote, connection.remote_port),
        marked: is_float,
    }
}

/// The Child SAs of a connection that are wanted, all or one.
pub(super) fn wanted(
    traps: &Traps,
    connection: &Connection,
    child: Option<&str>,
) -> Vec<super::head::Wanted> {
    let named = |name: &str| child.is_none_or(|child| child == name);
    let children = connection.children.iter().filter(|child| named(&child.name));
    let wanted = children.map(|child| super::head::Wanted {
        child: Arc::clone(child),
        reqid: traps.reqid_of(&connection.name, &child.name),
    });
    wanted.collect()
}
