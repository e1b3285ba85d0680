//! Watching a wire: tcpdump in a namespace, its packets handed to a closure as they come.
//!
//! tcpdump and not a socket of our own, because it captures through a shared ring without a system call per
//! packet (the machine's two cores belong to the gateways), stamps packets in the kernel and says how many
//! it missed.

use std::fmt::Write as _;
use std::io::{BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};

use crate::error::{LabError, Result};
use crate::namespace::Namespace;

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const READY: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(10);

/// Which packets of an interface are of interest, as seen from its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What arrives: on a port of a hub, what the machine behind that port sent.
    In,
    /// What is sent.
    Out,
    /// Both.
    Both,
}

impl Direction {
    fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Both => "inout",
        }
    }
}

/// One captured frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When the kernel saw it: time since the Unix epoch.
    pub at: Duration,
    /// Its octets from the Ethernet header on, up to the snapshot length.
    pub frame: Vec<u8>,
    /// Its length on the wire in octets.
    pub length: usize,
}

/// What to capture.
#[derive(Clone, Debug)]
pub struct Options {
    /// Packets of which direction.
    pub direction: Direction,
    /// A pcap filter (pcap-filter(7)); empty takes everything.
    pub filter: String,
    /// Octets kept of each packet.
    pub snapshot_length: u32,
    /// Hand packets over at once, at the price of a wake-up for each.
    pub immediate: bool,
}

impl Options {
    /// Everything whole (no MTU in the lab exceeds 1500) and at once: for tests.
    pub fn all(direction: Direction) -> Self {
        Self { direction, filter: String::new(), snapshot_length: 2048, immediate: true }
    }

    /// The headers of ESP packets, plain and in UDP, in batches: for what must not disturb a benchmark.
    pub fn esp_headers(direction: Direction) -> Self {
        // Four zero octets mark IKE (RFC 3948 section 2.2). pcap indexes UDP in IPv4 only.
        let filter = "esp or (ip and udp port 4500 and udp[4:2] > 16 and udp[8:4] != 0) \
                      or (ip6 and udp port 4500 and ip6[44:2] > 16 and ip6[48:4] != 0)";
        Self { direction, filter: filter.into(), snapshot_length: 96, immediate: false }
    }
}

/// A running capture.
#[derive(Debug)]
pub struct Sniffer {
    child: Child,
    reader: Option<JoinHandle<Result<u64>>>,
    errors: Arc<Mutex<String>>,
}

impl Sniffer {
    /// Starts capturing on `interface`; returns when the capture is on. `sink` runs in a thread of its own.
    ///
    /// # Errors
    /// If tcpdump does not start.
    pub fn start(
        namespace: &Namespace,
        interface: &str,
        options: &Options,
        sink: impl FnMut(Captured) + Send + 'static,
    ) -> Result<Self> {
        let mut command = namespace.command("tcpdump");
        let snapshot = options.snapshot_length.to_string();
        command.args(["-n", "-Z", "root", "-i", interface, "-Q", options.direction.word(), "-s", &snapshot]);
        // In immediate mode each packet takes a slot of the snapshot length: 32 MiB hold 16,000.
        command.args(["-B", "32768", "--time-stamp-precision=nano", "-w", "-"]);
        if options.immediate {
            command.args(["-U", "--immediate-mode"]);
        }
        command.arg(&options.filter);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(LabError::io("start tcpdump"))?;
        let errors = collect_errors(&mut child);
        let reader = child.stdout.take().map(|out| {
            std::thread::spawn(move || read_capture(&mut BufReader::with_capacity(1 << 18, out), sink))
        });
        let mut sniffer = Self { child, reader, errors };
        sniffer.wait_until_listening(interface)?;
        Ok(sniffer)
    }

    fn wait_until_listening(&mut self, interface: &str) -> Result<()> {
        let deadline = Instant::now() + READY;
        while !self.said().contains("listening on") {
            let ended = self.child.try_wait().map_err(LabError::io("wait for tcpdump"))?.is_some();
            if ended || Instant::now() > deadline {
                let command = format!("tcpdump -i {interface}");
                return Err(LabError::Command { command, detail: self.said() });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn said(&self) -> String {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the capture and returns how many packets it handed over.
    ///
    /// # Errors
    /// If the capture broke, or the kernel dropped packets from it: then it proves nothing.
    pub fn stop(mut self) -> Result<u64> {
        let (captured, missed) = self.finish()?;
        if missed > 0 {
            return Err(LabError::Unexpected(format!("the sniffer missed {missed} packets")));
        }
        Ok(captured)
    }

    /// Ends the capture and returns how many packets it handed over and how many it missed.
    ///
    /// # Errors
    /// If the capture broke.
    pub fn stop_lossy(mut self) -> Result<(u64, u64)> {
        self.finish()
    }

    fn finish(&mut self) -> Result<(u64, u64)> {
        self.interrupt();
        let deadline = Instant::now() + STOP;
        while self.child.try_wait().map_err(LabError::io("wait for tcpdump"))?.is_none() {
            if Instant::now() > deadline {
                let _ = self.child.kill();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let reader =
            self.reader.take().ok_or_else(|| LabError::Unexpected("tcpdump without output".into()))?;
        let captured = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((captured, missed(&self.said())))
    }

    fn interrupt(&mut self) {
        if let (Ok(None), Some(pid)) = (self.child.try_wait(), Pid::from_raw(self.child.id().cast_signed())) {
            let _ = rustix::process::kill_process(pid, Signal::INT);
        }
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The count in tcpdump's closing line "N packets dropped by kernel".
fn missed(said: &str) -> u64 {
    let line = said.lines().find(|line| line.ends_with("dropped by kernel"));
    line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0)
}

fn collect_errors(child: &mut Child) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    if let Some(mut pipe) = child.stderr.take() {
        let text = Arc::clone(&text);
        std::thread::spawn(move || {
            let mut buffer = [0; 512];
            while let Ok(length @ 1..) = pipe.read(&mut buffer) {
                let mut text = text.lock().unwrap_or_else(PoisonError::into_inner);
                let _ = write!(text, "{}", String::from_utf8_lossy(&buffer[..length]));
            }
        });
    }
    text
}

/// Reads a pcap stream in this machine's octet order until it ends; returns the number of packets.
fn read_capture(input: &mut impl Read, mut sink: impl FnMut(Captured)) -> Result<u64> {
    let mut header = [0; 24];
    if input.read_exact(&mut header).is_err() {
        return Ok(0); // ended before it began; `start` tells why
    }
    if word(&header, 0) != MAGIC_NANOSECONDS {
        return Err(LabError::Unexpected("tcpdump's output is not a nanosecond pcap stream".into()));
    }
    let mut count = 0;
    let mut record = [0; 16];
    while input.read_exact(&mut record).is_ok() {
        let mut frame = vec![0; word(&record, 8) as usize];
        if input.read_exact(&mut frame).is_err() {
            break;
        }
        let at = Duration::new(u64::from(word(&record, 0)), word(&record, 4));
        sink(Captured { at, frame, length: word(&record, 12) as usize });
        count += 1;
    }
    Ok(count)
}

fn word(octets: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
}

/// Keeps what it is given, up to a bound; more is a reason for the test to fail rather than to eat memory.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    kept: Arc<Mutex<Vec<Captured>>>,
}

/// Frames that a recorder keeps at most.
const RECORDER_LIMIT: usize = 1 << 20;

impl Recorder {
    /// The closure to give to [`Sniffer::start`].
    ///
    /// # Panics
    /// The closure does, in the sniffer's thread, when the recorder is full; the sniffer's end passes it on.
    pub fn sink(&self) -> impl FnMut(Captured) + Send + use<> {
        let kept = Arc::clone(&self.kept);
        move |captured| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            assert!(kept.len() < RECORDER_LIMIT, "the recorder is full: capture less, or for a shorter time");
            kept.push(captured);
        }
    }

    /// A copy of what has been captured so far.
    pub fn frames(&self) -> Vec<Captured> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many frames were captured so far.
    pub fn len(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether nothing was captured yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Writes frames as a pcap file (nanosecond, Ethernet) for tools of others to read.
///
/// # Errors
/// If the file cannot be written.
pub fn write_pcap(path: &Path, frames: &[Captured]) -> Result<()> {
    let mut file = Vec::new();
    for word in [MAGIC_NANOSECONDS, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_ne_bytes());
    }
    for captured in frames {
        let seconds = captured.at.as_secs() as u32;
        let lengths = [captured.frame.len() as u32, captured.length as u32];
        for word in [seconds, captured.at.subsec_nanos(), lengths[0], lengths[1]] {
            file.extend(word.to_ne_bytes());
        }
        file.extend(&captured.frame);
    }
    std::fs::write(path, file).map_err(LabError::path("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        let frames: Vec<Captured> = (0..3u8)
            .map(|n| Captured { at: Duration::new(5, u32::from(n)), frame: vec![n; 60], length: 1500 })
            .collect();
        let path = tempfile::NamedTempFile::new().expect("temporary file");
        write_pcap(path.path(), &frames).expect("written");
        let recorder = Recorder::default();
        let mut file = std::fs::File::open(path.path()).expect("opened");
        assert_eq!(read_capture(&mut file, recorder.sink()).expect("read"), 3);
        assert_eq!(recorder.frames(), frames);
    }

    #[test]
    fn knows_what_tcpdump_missed() {
        assert_eq!(
            missed("12 packets captured\n14 packets received by filter\n2 packets dropped by kernel"),
            2
        );
        assert_eq!(missed("12 packets captured"), 0);
    }
}
