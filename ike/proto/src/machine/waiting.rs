//! Attempts that failed, and the pause before the next one.

use std::net::{IpAddr, SocketAddr};
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
    pub(super) fn on_timeout(self, cx: &mut Cx) -> Tunnel {
        let Self { head, mut attempt, .. } = self;
        let path = path_to(cx.host, &head.connection, Some(head.path)).unwrap_or(head.path);
        attempt.detour.from = None;
        attempt.is_whole = false;
        resumption::begin(
            cx,
            Head { path, nat: Nat::default(), roaming: Roaming::default(), ..head },
            attempt,
        )
    }
}

/// Tells of the failure; then the next attempt after a pause, if `keying_tries` allows one.
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
    let failures = attempt.failures.saturating_add(u32::from(!is_sent_here));
    let tries = head.connection.keying_tries;
    if has_old || (tries != 0 && failures >= tries) {
        cx.event(Event::IkeDown { tunnel: head.name(), reason: DownReason::Failed });
        return None;
    }
    let until = cx.now.monotonic + pause(cx, attempt.failures);
    let attempt = Attempt { failures, ..attempt };
    Some(Tunnel::Waiting(Box::new(Waiting { head, attempt, until })))
}

/// With up to a fifth more, so that many tunnels of a gateway that is back do not come all at once.
fn pause(cx: &mut Cx, failures: u32) -> Duration {
    let pause = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
    pause + Duration::from_millis(cx.random_below(pause.as_millis() as u64 / 5))
}

/// How to reach the peer of a connection: where it is configured to be, or else where it was.
pub(super) fn path_to(host: &dyn Host, connection: &Connection, before: Option<Path>) -> Option<Path> {
    let configured =
        connection.remote_addresses.iter().find(|set| set.first == set.last).map(|set| set.first);
    path_between(host, connection, configured.or(before.map(|path| path.remote.ip()))?)
}

/// How to reach a gateway at that address; `None` without a way to it.
pub(super) fn path_between(host: &dyn Host, connection: &Connection, remote: IpAddr) -> Option<Path> {
    let same_family = connection.local_addresses.iter().find(|local| local.is_ipv4() == remote.is_ipv4());
    let local = same_family.copied().or_else(|| host.source_for(remote))?;
    let is_float = connection.remote_port == NAT_PORT || connection.local_port == NAT_PORT;
    let local_port = if is_float { NAT_PORT } else { connection.local_port };
    Some(Path {
        local: SocketAddr::new(local, local_port),
        remote: SocketAddr::new(remote, connection.remote_port),
        marked: is_float,
    })
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
