//! The messages of the control socket, version 1.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The protocol's version. A request with another one is refused, with both numbers in the sentence.
pub const VERSION: u32 = 1;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Request {
    /// Answered by [`StatusReport`].
    Status,
    /// Answered by [`CountersReport`].
    Counters,
    /// Answered by a list of [`PolicyReport`].
    Policies,
    /// Answered by [`SegmentsReport`].
    Segments,
    /// Own these segments from now on, without a limit in time. Answered by [`SegmentsReport`].
    SegmentTake {
        /// Which.
        segments: SegmentSet,
    },
    /// No longer own these segments. Answered by [`SegmentsReport`].
    SegmentDrop {
        /// Which.
        segments: SegmentSet,
    },
    /// Read the configuration again. A refusal leaves the running one in force.
    Reload,
    /// Stop using a tunnel's SAs, so that their counters are final. Answered when the workers have stopped.
    Freeze {
        /// The tunnel's name.
        name: String,
    },
    /// Use a frozen tunnel's SAs again.
    Thaw {
        /// The tunnel's name.
        name: String,
    },
    /// Answered by one line, then by the octets of a pcap stream until the bound is reached or either side closes.
    Capture(CaptureRequest),
}

/// Which packets to capture.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CaptureRequest {
    /// One side, or both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub side: Option<CaptureSide>,
    /// Source or destination address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<IpAddr>,
    /// SPI of an ESP packet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spi: Option<u32>,
    /// IP protocol number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<u8>,
    /// Source or destination port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Packets after which the capture ends; at least 1.
    pub count: u64,
    /// Seconds after which the capture ends; at least 1.
    pub seconds: u64,
}

/// Which side of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureSide {
    /// Outer: ciphertext.
    Encrypted,
    /// Inner: plaintext.
    Decrypted,
}

/// Why a request was not carried out, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Error)]
#[error("{message}. {remedy}")]
pub struct Refusal {
    /// A stable word for programs: `version`, `malformed`, `not-found`, `refused`, `config`, `busy`, `internal`.
    pub code: String,
    /// What is the matter, as a sentence without its full stop.
    pub message: String,
    /// What the operator can do.
    pub remedy: String,
}

impl Refusal {
    /// A refusal with these words.
    pub fn new(code: &str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), remedy: remedy.into() }
    }
}

/// One named counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// The counter's name, kebab-case, stable.
    pub name: String,
    /// Its value since the daemon started.
    pub value: u64,
    /// What it means, in a sentence.
    pub meaning: String,
}

/// The state of a running data plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct StatusReport {
    /// This node's id.
    pub node: u8,
    /// The cluster's name.
    pub cluster: String,
    /// The release.
    pub release: String,
    /// The daemon's process id.
    pub process: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Both interfaces.
    pub interfaces: Vec<InterfaceReport>,
    /// The workers.
    pub workers: Vec<WorkerReport>,
    /// SAs installed, and how many would fit.
    pub sas: u32,
    /// Slots of the SA table.
    pub capacity: u32,
    /// Segments owned now.
    pub segments_owned: u32,
    /// The IV epoch in use (I1).
    pub epoch: u32,
    /// Alarms that want an operator, as sentences.
    pub alarms: Vec<String>,
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceReport {
    /// `outer` or `inner`.
    pub side: String,
    /// The kernel's name.
    pub name: String,
    /// How the XDP program is attached: `native` or `generic`.
    pub mode: String,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its number.
    pub index: u16,
    /// The core that it is pinned to.
    pub core: u16,
    /// Packets received on both sides.
    pub packets: u64,
}

/// All counters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountersReport {
    /// Packets and octets through the workers, per side.
    pub traffic: Vec<Counted>,
    /// Packets that the workers dropped, by reason: every reason, also those that never occurred.
    pub drops: Vec<Counted>,
    /// Other events.
    pub events: Vec<Counted>,
    /// The XDP filter's verdicts.
    pub verdicts: Vec<VerdictReport>,
}

/// One verdict of the XDP filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictReport {
    /// `outer` or `inner`.
    pub side: String,
    /// The verdict's name.
    pub name: String,
    /// Packets since the filter was installed: it outlives the daemon.
    pub value: u64,
}

/// One policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// The tunnel that it belongs to.
    pub name: String,
    /// `protect`, `bypass` or `discard`.
    pub action: String,
    /// Links the policy with its SAs.
    pub reqid: Option<u32>,
    /// Local addresses.
    pub local: String,
    /// Remote addresses.
    pub remote: String,
}

/// Who owns which segments, as far as this node knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentsReport {
    /// Owned by this node now.
    pub owned: SegmentSet,
    /// The hash's mode.
    pub hash: String,
    /// The hash's seed.
    pub seed: u32,
}

/// A set of the 256 segments. Written as `all`, `none` or ranges: `0-127,200`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SegmentSet(pub [u64; 4]);

impl SegmentSet {
    /// No segment.
    pub const NONE: Self = Self([0; 4]);
    /// All 256.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// Whether a segment belongs to the set.
    pub fn contains(&self, segment: u8) -> bool {
        self.0[usize::from(segment >> 6)] >> (segment & 63) & 1 == 1
    }

    /// Adds a segment.
    pub fn insert(&mut self, segment: u8) {
        self.0[usize::from(segment >> 6)] |= 1 << (segment & 63);
    }

    /// How many.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    /// Its segments, rising.
    pub fn iter(&self) -> impl Iterator<Item = u8> + '_ {
        (0..=u8::MAX).filter(|&segment| self.contains(segment))
    }
}

impl fmt::Display for SegmentSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => return f.write_str("all"),
            Self::NONE => return f.write_str("none"),
            _ => {}
        }
        let segments: Vec<u8> = self.iter().collect();
        let mut separator = "";
        for run in segments.chunk_by(|a, b| a + 1 == *b) {
            match run {
                [one] => write!(f, "{separator}{one}")?,
                [first, .., last] => write!(f, "{separator}{first}-{last}")?,
                [] => {}
            }
            separator = ",";
        }
        Ok(())
    }
}

/// A text that names no set of segments.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("\"{0}\" names no segments: write all, none, or numbers and ranges from 0 to 255 like 0-127,200")]
pub struct SegmentSetError(String);

impl FromStr for SegmentSet {
    type Err = SegmentSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SegmentSetError(text.chars().take(64).collect());
        match text.trim() {
            "all" => return Ok(Self::ALL),
            "none" => return Ok(Self::NONE),
            _ => {}
        }
        let mut set = Self::NONE;
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: u8 = first.trim().parse().map_err(|_| error())?;
            let last: u8 = last.trim().parse().map_err(|_| error())?;
            if first > last {
                return Err(error());
            }
            (first..=last).for_each(|segment| set.insert(segment));
        }
        Ok(set)
    }
}

impl TryFrom<String> for SegmentSet {
    type Error = SegmentSetError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SegmentSet> for String {
    fn from(set: SegmentSet) -> Self {
        set.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_sets_read_what_they_write() {
        for text in ["all", "none", "7", "0-127", "0,2-4,255", "64-191"] {
            assert_eq!(text.parse::<SegmentSet>().unwrap().to_string(), text);
        }
        assert_eq!("1, 3 - 5".parse::<SegmentSet>().unwrap().to_string(), "1,3-5");
        assert_eq!("0-255".parse::<SegmentSet>().unwrap(), SegmentSet::ALL);
    }

    #[test]
    fn segment_sets_refuse_what_is_none() {
        for text in ["", "256", "-", "5-3", "a", "1,,2", "all,1"] {
            assert!(text.parse::<SegmentSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn requests_look_as_documented() {
        let take = Request::SegmentTake { segments: "42".parse().unwrap() };
        assert_eq!(serde_json::to_string(&take).unwrap(), r#"{"request":"segment-take","segments":"42"}"#);
        let capture = Request::Capture(CaptureRequest {
            side: Some(CaptureSide::Encrypted),
            count: 10,
            seconds: 60,
            ..CaptureRequest::default()
        });
        let text = serde_json::to_string(&capture).unwrap();
        assert_eq!(text, r#"{"request":"capture","side":"encrypted","count":10,"seconds":60}"#);
        assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), capture);
    }
}
