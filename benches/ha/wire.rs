//! When which gateway sent ESP, from captures on the hub between them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_lab::sniffer::Options;
use baton_lab::{Direction, Namespace, Sniffer};

use crate::stage::Result;

/// A capture at the ports of both gateways.
pub struct Wire {
    ports: [(Sniffer, Arc<Mutex<Vec<Duration>>>); 2],
}

impl Wire {
    /// Watches what the gateways behind the hub's ports `b` and `b2` send.
    pub fn watch(hub: &Namespace) -> Result<Self> {
        Ok(Self { ports: [port(hub, "b")?, port(hub, "b2")?] })
    }

    /// The moments of all ESP packets of either gateway, since the Unix epoch.
    pub fn finish(self) -> Result<[Vec<Duration>; 2]> {
        let [first, second] = self.ports.map(|(sniffer, seen)| -> Result<Vec<Duration>> {
            // One that missed a packet would show a longer gap, never a shorter one.
            sniffer.stop_lossy()?;
            Ok(std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner)))
        });
        Ok([first?, second?])
    }
}

fn port(hub: &Namespace, name: &str) -> Result<(Sniffer, Arc<Mutex<Vec<Duration>>>)> {
    let seen: Arc<Mutex<Vec<Duration>>> = Arc::default();
    let kept = Arc::clone(&seen);
    let options = Options::esp_headers(Direction::In);
    let sniffer = Sniffer::start(hub, name, &options, move |captured| {
        kept.lock().unwrap_or_else(PoisonError::into_inner).push(captured.at);
    })?;
    Ok((sniffer, seen))
}

/// The last packet of the one that died up to the first that the other one sent after `killed`.
pub fn handed_over(sent: &[Vec<Duration>; 2], died: usize, killed: Duration) -> Option<(Duration, Duration)> {
    let first = sent[1 - died].iter().find(|at| **at > killed).copied()?;
    let last = sent[died].iter().rev().find(|at| **at < first).copied()?;
    Some((last, first))
}
