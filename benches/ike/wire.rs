//! Set-ups as the wire sees them: the same way for everybody, without a word from the daemons.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use baton_lab::sniffer::{Captured, Direction, Options, Sniffer};

use crate::stage::{Result, Stage};

const IKE_SA_INIT: u8 = 34;
const IKE_AUTH: u8 = 35;
const RESPONSE: u8 = 0x20;
const ETHERNET: usize = 14;

/// From the first IKE_SA_INIT request to the IKE_AUTH response, by initiator's SPI.
#[derive(Default)]
struct Seen {
    began: HashMap<u64, Duration>,
    /// When it began and ended.
    done: Vec<(Duration, Duration)>,
}

/// A sniffer that follows set-ups.
pub struct Wire {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    sniffer: Sniffer,
}

impl Wire {
    /// Follows what crosses A's wire.
    pub fn watch(stage: &Stage) -> Result<Self> {
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let shared = Arc::clone(&seen);
        let options = Options {
            direction: Direction::Both,
            filter: "udp port 500 or udp port 4500".to_owned(),
            snapshot_length: 96,
            immediate: true,
        };
        let sniffer = Sniffer::start(&stage.topology.wan, "a", &options, move |captured| {
            shared.0.lock().unwrap_or_else(PoisonError::into_inner).take(&captured);
            shared.1.notify_all();
        })?;
        Ok(Self { seen, sniffer })
    }

    /// Waits until `count` set-ups are done.
    pub fn wait_for(&self, count: usize, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        let mut seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        while seen.done.len() < count {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return false };
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Ends, and tells when each set-up began and ended.
    pub fn stop(self) -> Result<Vec<(Duration, Duration)>> {
        self.sniffer.stop()?;
        let mut seen = self.seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut seen.done))
    }
}

impl Seen {
    fn take(&mut self, captured: &Captured) {
        let Some((spi, exchange, is_response)) = ike_header(&captured.frame) else { return };
        match (exchange, is_response) {
            (IKE_SA_INIT, false) => {
                self.began.entry(spi).or_insert(captured.at);
            }
            (IKE_AUTH, true) => {
                let began = self.began.remove(&spi);
                self.done.extend(began.map(|began| (began, captured.at)));
            }
            _ => {}
        }
    }
}

/// The initiator's SPI, the exchange, and whether it is a response, of an IKE message in UDP in IPv4.
fn ike_header(frame: &[u8]) -> Option<(u64, u8, bool)> {
    let packet = frame.get(ETHERNET..)?;
    let udp = packet.get(usize::from(packet.first()? & 0xf) * 4..)?;
    let is_marked = udp.get(..4)?.chunks(2).any(|port| port == 4500_u16.to_be_bytes());
    let message = udp.get(if is_marked { 12 } else { 8 }..)?;
    if is_marked && udp.get(8..12)? != [0; 4] {
        return None;
    }
    let (spi, _) = message.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*spi), *message.get(18)?, message.get(19)? & RESPONSE != 0))
}
