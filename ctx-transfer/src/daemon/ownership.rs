//! Tells the other daemons what is owned: the data plane, whose filter would find out a moment later by itself, and the
//! IKE daemon, which wakes up or silences tunnels. The latest state counts; one that is overtaken is told to nobody.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use baton_dataplane::control::{Client, Daemon};
use serde::Serialize;
use serde_json::{Value, json};
use tracing::debug;

use super::DaemonError;
use super::error::system;
use crate::cluster::{Cause, Segments};
use crate::config::Config;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two tries to reach a daemon that is away.
const AGAIN: Duration = Duration::from_millis(200);

/// How often they are told again what they know, since they may have started again.
const REPEAT: Duration = Duration::from_millis(500);

/// What is owned.
#[derive(Clone, Default)]
struct Owned {
    segments: Segments,
    /// How each came.
    came: Vec<Came>,
    version: u64,
}

/// How a segment came, as the IKE daemon is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Came {
    segment: u8,
    term: u32,
    /// By how many packets the edges of its SAs may have been advanced.
    #[serde(skip_serializing_if = "Option::is_none")]
    advanced: Option<u64>,
    /// Its SAs may have gone further than is known here: they are rekeyed.
    stale: bool,
}

/// The telling end.
#[derive(Clone)]
pub(super) struct Owner {
    state: Arc<(Mutex<Owned>, Condvar)>,
    /// At most so many packets are skipped by a takeover.
    ahead: u64,
}

fn lock(mutex: &Mutex<Owned>) -> MutexGuard<'_, Owned> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Owner {
    /// All that is owned from now on, and what came just now.
    pub(super) fn own(&self, segments: Segments, term: u64, came: Option<(Segments, Cause)>) {
        let mut owned = lock(&self.state.0);
        owned.segments = segments;
        owned.came.retain(|came| segments.contains(came.segment));
        if let Some((new, cause)) = came {
            let advanced = (cause == Cause::Takeover).then_some(self.ahead * 2);
            let term = u32::try_from(term).unwrap_or(u32::MAX);
            let stale = cause == Cause::Stale;
            owned.came.retain(|came| !new.contains(came.segment));
            owned.came.extend(new.iter().map(|segment| Came { segment, term, advanced, stale }));
        }
        owned.version += 1;
        // Both threads wait for it.
        self.state.1.notify_all();
    }

    /// The table says something else of what is wanted here: the data plane is told to look.
    pub(super) fn look_again(&self) {
        lock(&self.state.0).version += 1;
        self.state.1.notify_all();
    }
}

/// Starts the threads, one for each daemon: a slow one does not delay the other.
pub(super) fn start(config: &Config) -> Result<Owner, DaemonError> {
    let state = Arc::new((Mutex::new(Owned::default()), Condvar::new()));
    let ahead = config.cluster.reserving.packets;
    let owner = Owner { state: Arc::clone(&state), ahead };
    let Some(gateway) = &config.gateway else { return Ok(owner) };
    let data_plane = gateway.control_socket();
    let ike = gateway.node.runtime_directory.join(baton_ike::control::SOCKET);
    let follow = |_: &Owned| json!({ "request": "segment-follow" });
    spawn("own-data-plane", Arc::clone(&state), Daemon::DataPlane, data_plane, follow)?;
    spawn("own-ike", state, Daemon::Ike, ike, own)?;
    Ok(owner)
}

fn own(owned: &Owned) -> Value {
    json!({ "request": "own", "segments": owned.came })
}

fn spawn(
    name: &str,
    state: Arc<(Mutex<Owned>, Condvar)>,
    daemon: Daemon,
    socket: PathBuf,
    request: impl Fn(&Owned) -> Value + Send + 'static,
) -> Result<(), DaemonError> {
    let follow = move || {
        // What is owned at first is nothing, and is told as well: the last life of this process may have owned something.
        let (mut client, mut told) = (None, None);
        loop {
            let owned = next(&state, told);
            match tell(&mut client, daemon, &socket, &request(&owned)) {
                Ok(()) => told = Some(owned.version),
                Err(error) => {
                    debug!(%error, "not told yet");
                    client = None;
                    thread::sleep(AGAIN);
                }
            }
        }
    };
    thread::Builder::new().name(name.to_owned()).spawn(follow).map_err(system("start a thread"))?;
    Ok(())
}

/// Waits for another state than the one that was told.
fn next(state: &(Mutex<Owned>, Condvar), told: Option<u64>) -> Owned {
    let owned = lock(&state.0);
    let (owned, _) = state
        .1
        .wait_timeout_while(owned, REPEAT, |owned| Some(owned.version) == told)
        .unwrap_or_else(PoisonError::into_inner);
    owned.clone()
}

fn tell(
    client: &mut Option<Client>,
    daemon: Daemon,
    socket: &std::path::Path,
    request: &Value,
) -> Result<(), baton_dataplane::control::ClientError> {
    if client.is_none() {
        *client = Some(Client::connect_to(daemon, socket, PATIENCE)?);
    }
    if let Some(client) = client {
        let _: Value = client.request(request)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(cause: Cause) -> Value {
        let owner = Owner { state: Arc::default(), ahead: 100 };
        owner.own(Segments::one(7), 3, Some((Segments::one(7), cause)));
        own(&lock(&owner.state.0))["segments"][0].clone()
    }

    /// I2: an IKE daemon that is not told does not rekey.
    #[test]
    fn the_ike_daemon_is_told_how_a_segment_came() {
        let plain = json!({ "segment": 7, "term": 3, "stale": false });
        assert_eq!(told(Cause::First), plain);
        assert_eq!(told(Cause::Planned), plain);
        assert_eq!(
            told(Cause::Takeover),
            json!({ "segment": 7, "term": 3, "advanced": 200, "stale": false })
        );
        assert_eq!(told(Cause::Stale), json!({ "segment": 7, "term": 3, "stale": true }));
    }
}
