//! What the sniffers saw: every ESP packet that a gateway put on the outer wire, and what it tells.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_lab::sniffer::Options;
use baton_lab::{Direction, Namespace, Result, Sniffer, esp};

/// One ESP packet on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Time since the Unix epoch, stamped by the kernel.
    pub at: Duration,
    /// Its SPI.
    pub spi: u32,
    /// Its sequence number (low half).
    pub sequence: u32,
    /// Its explicit IV.
    pub iv: u64,
    /// Its length on the wire in octets.
    pub length: usize,
}

/// A sniffer on the hub's port of one gateway.
pub struct Tap {
    sniffer: Sniffer,
    seen: Arc<Mutex<Vec<Sighting>>>,
}

impl Tap {
    /// Starts recording what the gateway behind `port` sends.
    pub fn start(wan: &Namespace, port: &str) -> Result<Self> {
        let seen = Arc::<Mutex<Vec<Sighting>>>::default();
        let sink = Arc::clone(&seen);
        let sniffer = Sniffer::start(wan, port, &Options::esp_headers(Direction::In), move |captured| {
            if let Some(esp::Esp { spi, sequence, iv, .. }) = esp::esp(&captured.frame) {
                let sighting = Sighting { at: captured.at, spi, sequence, iv, length: captured.length };
                sink.lock().unwrap_or_else(PoisonError::into_inner).push(sighting);
            }
        })?;
        Ok(Self { sniffer, seen })
    }

    /// Ends the recording; also returns how many packets the sniffer itself missed.
    pub fn finish(self) -> Result<(Vec<Sighting>, u64)> {
        let (_, missed) = self.sniffer.stop_lossy()?;
        Ok((std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)), missed))
    }
}

/// A silence between two successive packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// When it began.
    pub start: Duration,
    /// How long it was.
    pub length: Duration,
}

/// The silences of one SA, whichever gateways sent with it.
pub struct Gaps(Vec<Gap>);

impl Gaps {
    /// From packets in any order.
    pub fn of<'a>(sightings: impl IntoIterator<Item = &'a Sighting>) -> Self {
        let mut times: Vec<Duration> = sightings.into_iter().map(|sighting| sighting.at).collect();
        times.sort_unstable();
        let gap = |pair: &[Duration]| Gap { start: pair[0], length: pair[1].saturating_sub(pair[0]) };
        Self(times.windows(2).map(gap).collect())
    }

    /// The longest one that touches the time from `start` to `end`.
    pub fn longest_within(&self, start: Duration, end: Duration) -> Gap {
        self.longest(|gap| gap.start <= end && gap.start + gap.length >= start)
    }

    /// The longest one that does not touch it.
    pub fn longest_outside(&self, start: Duration, end: Duration) -> Gap {
        self.longest(|gap| gap.start > end || gap.start + gap.length < start)
    }

    /// The median.
    pub fn typical(&self) -> Duration {
        let mut lengths: Vec<Duration> = self.0.iter().map(|gap| gap.length).collect();
        lengths.sort_unstable();
        lengths.get(lengths.len() / 2).copied().unwrap_or_default()
    }

    fn longest(&self, wanted: impl Fn(&Gap) -> bool) -> Gap {
        self.0.iter().copied().filter(wanted).max_by_key(|gap| gap.length).unwrap_or_default()
    }
}

/// How many of these packets repeat the IV of another with the same SPI, hence the same key (must be 0).
pub fn repeated_ivs<'a>(sightings: impl IntoIterator<Item = &'a Sighting>) -> usize {
    let mut pairs: Vec<(u32, u64)> =
        sightings.into_iter().map(|sighting| (sighting.spi, sighting.iv)).collect();
    let all = pairs.len();
    pairs.sort_unstable();
    pairs.dedup();
    all - pairs.len()
}
