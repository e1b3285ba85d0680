//! What the kernel counted: packets of each SA, and why it dropped others.

use std::collections::BTreeMap;

use crate::error::{LabError, Result};

/// An SA's counters, from `ip -s xfrm state`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounters {
    /// The SPI.
    pub spi: u32,
    /// Octets protected, as Linux counts them.
    pub octets: u64,
    /// Packets sealed or opened.
    pub packets: u64,
    /// Packets outside of the replay window.
    pub replay_window: u64,
    /// Packets seen before.
    pub replay: u64,
    /// Packets with a wrong ICV.
    pub integrity: u64,
}

/// What prints all counters, for [`Counters::parse`].
pub(super) const SCRIPT: &str = "/bin/ip -s xfrm state && echo XFRM && cat /proc/net/xfrm_stat";

/// All counters at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Each SA's.
    pub states: Vec<StateCounters>,
    /// Those of `/proc/net/xfrm_stat` that are not zero, by name: each is a reason for which packets were dropped
    /// (Linux, Documentation/networking/xfrm_proc.rst).
    pub drops: BTreeMap<String, u64>,
}

impl Counters {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (listing, statistics) = text.split_once("XFRM\n").unwrap_or((text, ""));
        Ok(Self { states: states(listing)?, drops: drops(statistics) })
    }

    /// Packets of the SA with this SPI; 0 if there is none.
    pub fn packets(&self, spi: u32) -> u64 {
        self.states.iter().find(|state| state.spi == spi).map_or(0, |state| state.packets)
    }

    /// The drops that `earlier` does not have.
    #[must_use]
    pub fn drops_since(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let new = self.drops.iter().map(|(name, value)| {
            (name.clone(), value.saturating_sub(earlier.drops.get(name).copied().unwrap_or(0)))
        });
        new.filter(|(_, value)| *value > 0).collect()
    }
}

fn states(listing: &str) -> Result<Vec<StateCounters>> {
    let starts = listing.match_indices("src ").map(|(at, _)| at).filter(|at| is_line_start(listing, *at));
    let starts: Vec<usize> = starts.chain([listing.len()]).collect();
    let parts = starts.windows(2).map(|ends| &listing[ends[0]..ends[1]]);
    parts.map(|part| state(part).ok_or_else(|| unreadable(part))).collect()
}

fn is_line_start(text: &str, at: usize) -> bool {
    at == 0 || text.as_bytes()[at - 1] == b'\n'
}

fn unreadable(part: &str) -> LabError {
    // The part shows a key: only its first line is quoted.
    let first = part.lines().next().unwrap_or_default();
    LabError::Unexpected(format!("ip does not show the counters of the SA {first}"))
}

/// One SA: its current lifetime is the first pair of "(bytes)" and "(packets)" after "lifetime current".
fn state(part: &str) -> Option<StateCounters> {
    let spi = part.split_once("spi 0x")?.1;
    let spi = u32::from_str_radix(spi.get(..8)?, 16).ok()?;
    let current = part.split_once("lifetime current:")?.1;
    let mut numbers = current.split("stats:").flat_map(str::lines).map(str::trim);
    let lifetime = numbers.find(|line| line.ends_with("(packets)"))?;
    let (octets, packets) = lifetime.split_once(", ")?;
    let stats = part.split_once("stats:")?.1.lines().map(str::trim).find(|line| !line.is_empty())?;
    let words: Vec<&str> = stats.split_whitespace().collect();
    let after = |name: &str| {
        words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)?.parse().ok())
    };
    Some(StateCounters {
        spi,
        octets: octets.strip_suffix("(bytes)")?.parse().ok()?,
        packets: packets.strip_suffix("(packets)")?.parse().ok()?,
        replay_window: after("replay-window")?,
        replay: after("replay")?,
        integrity: after("failed")?,
    })
}

fn drops(text: &str) -> BTreeMap<String, u64> {
    let pairs = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    });
    pairs.filter(|(_, value)| *value > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str = "\
src 203.0.113.2 dst 203.0.113.1
\tproto esp spi 0x11000001(285212673) reqid 7(0x00000007) mode tunnel
\treplay-window 0 seq 0x00000000 flag af-unspec (0x00100000)
\taead rfc4106(gcm(aes)) 0x00 (160 bits) 128
\tlifetime config:
\t  limit: soft (INF)(bytes), hard (INF)(bytes)
\t  limit: soft (INF)(packets), hard (INF)(packets)
\tlifetime current:
\t  1234(bytes), 12(packets)
\t  add 2026-01-01 00:00:00 use -
\tstats:
\t  replay-window 3 replay 4 failed 5
src 203.0.113.1 dst 203.0.113.2
\tproto esp spi 0x2a000001(704643073) reqid 7(0x00000007) mode tunnel
\tlifetime current:
\t  0(bytes), 0(packets)
\tstats:
\t  replay-window 0 replay 0 failed 0
";

    #[test]
    fn reads_every_state() {
        let first = StateCounters {
            spi: 0x1100_0001,
            octets: 1234,
            packets: 12,
            replay_window: 3,
            replay: 4,
            integrity: 5,
        };
        let second = StateCounters { spi: 0x2a00_0001, ..StateCounters::default() };
        assert_eq!(states(LISTING).expect("readable"), [first, second]);
        assert_eq!(states("").expect("readable"), []);
        assert!(states("src 1.2.3.4 dst 5.6.7.8\n").is_err());
    }

    #[test]
    fn reads_what_is_not_zero() {
        let text = format!("{LISTING}XFRM\nXfrmInError              \t0\nXfrmInNoStates           \t17\n");
        let counters = Counters::parse(&text).expect("readable");
        let drops = |count| BTreeMap::from([("XfrmInNoStates".to_owned(), count)]);
        assert_eq!((counters.packets(0x1100_0001), counters.drops.clone()), (12, drops(17)));
        assert_eq!(counters.drops_since(&Counters { states: vec![], drops: drops(10) }), drops(7));
        assert_eq!(counters.drops_since(&counters), BTreeMap::new());
    }
}
