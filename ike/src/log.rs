//! The log: a line for what an operator may want to know, on standard error and, the last ones, in memory for
//! `dpctl log`. No line has a key in it.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use baton_dataplane::control::{Listeners, Listening, Occurrence};
use baton_ike_proto::Event;
use serde::Serialize;
use tracing::{info, warn};

use crate::control::{DownWord, LogLine};
use crate::counters::Counted;

/// Lines that are kept.
pub const KEPT_LINES: usize = 10_000;
/// A longer line is kept in part.
const MAX_LINE: usize = 2048;
/// Failures of peers that are not authenticated are logged so often in a second; the rest is counted.
const STRANGERS_PER_SECOND: u32 = 20;

/// The log in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<VecDeque<LogLine>>,
    followers: Listeners<()>,
}

/// Followers hear every line.
#[derive(Serialize)]
struct Line<'l> {
    line: &'l str,
}

impl Occurrence for Line<'_> {
    type Kind = ();

    fn kind(&self) {}
}

impl Log {
    /// Where a logging layer writes its lines, each in one piece: they go on to standard error.
    pub fn writer(&self) -> LogWriter {
        LogWriter(self.clone())
    }

    /// The last lines, the oldest first.
    pub fn last(&self, lines: usize) -> Vec<LogLine> {
        let kept = self.lines();
        let skipped = kept.len().saturating_sub(lines);
        kept.iter().skip(skipped).cloned().collect()
    }

    /// The last lines and all that follow; `None` if too many follow already. No line is lost or twice.
    pub fn follow(&self, lines: usize) -> Option<(Vec<LogLine>, Listening)> {
        let kept = self.lines();
        let listening = self.0.followers.listen(&[])?;
        let skipped = kept.len().saturating_sub(lines);
        Some((kept.iter().skip(skipped).cloned().collect(), listening))
    }

    fn keep(&self, line: &str) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let time_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        let line = &line[..line.floor_char_boundary(MAX_LINE)];
        let mut lines = self.lines();
        if lines.len() >= KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(LogLine { time_ms, line: line.to_owned() });
        self.0.followers.tell(Line { line });
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<LogLine>> {
        self.0.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes lines to standard error and keeps them.
#[derive(Debug)]
pub struct LogWriter(Log);

impl Write for LogWriter {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.keep(String::from_utf8_lossy(octets).trim_end());
        // A log that nobody reads stops nobody.
        let _ = io::stderr().lock().write_all(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Logs what the protocol tells.
pub(crate) fn event(event: &Event, counted: &Counted) {
    match event {
        Event::IkeUp { tunnel, remote, path, virtual_addresses, dns, .. } => {
            info!(%tunnel, peer = %remote, at = %path.remote, ?virtual_addresses, ?dns, "IKE SA is up");
        }
        Event::Resumed { tunnel, by_us } => info!(%tunnel, by_us, "IKE SA was resumed by a ticket"),
        Event::IkeDown { tunnel, reason } => {
            info!(%tunnel, reason = ?DownWord::from(*reason), "IKE SA is down");
        }
        Event::IkeRekeyed { tunnel, .. } => info!(%tunnel, "IKE SA was rekeyed"),
        Event::ChildUp { tunnel, child, inbound_spi, outbound_spi, replaces } => {
            let (inbound, outbound) = (format!("{inbound_spi:#010x}"), format!("{outbound_spi:#010x}"));
            let is_rekey = replaces.is_some();
            info!(%tunnel, child, inbound, outbound, rekeyed = is_rekey, "Child SA is up");
        }
        Event::ChildDown { tunnel, child, inbound_spi } => {
            info!(%tunnel, child, inbound = format!("{inbound_spi:#010x}"), "Child SA is down");
        }
        Event::Failed { tunnel: Some(tunnel), remote, problem, .. } => {
            warn!(%tunnel, at = %remote, problem, "exchange failed");
        }
        Event::Failed { tunnel: None, connection, remote, problem } => {
            let connection = connection.as_deref().unwrap_or("none");
            strangers(counted, || warn!(connection, at = %remote, problem, "exchange failed"));
        }
        Event::PathChanged { tunnel, from, to } => {
            info!(%tunnel, from = %from.remote, to = %to.remote, ours = %to.local, "peer has moved");
        }
        other => info!(event = ?other, "something happened"),
    }
}

/// Logs what anybody can cause, as often as is bearable.
fn strangers(counted: &Counted, log: impl FnOnce()) {
    static SECOND: Mutex<Option<(Instant, u32)>> = Mutex::new(None);
    let mut second = SECOND.lock().unwrap_or_else(PoisonError::into_inner);
    let (start, count) = second.get_or_insert_with(|| (Instant::now(), 0));
    if start.elapsed() >= Duration::from_secs(1) {
        (*start, *count) = (Instant::now(), 0);
    }
    *count = count.saturating_add(1);
    if *count <= STRANGERS_PER_SECOND {
        log();
    } else {
        counted.lines_left_out.add(1);
    }
}

#[cfg(test)]
mod tests {
    use baton_dataplane::control::Heard;

    use super::*;

    fn texts(lines: &[LogLine]) -> Vec<&str> {
        lines.iter().map(|line| line.line.as_str()).collect()
    }

    #[test]
    fn the_last_lines_are_kept_and_followed() {
        let log = Log::default();
        for number in 0..KEPT_LINES + 2 {
            log.keep(&format!("line {number}"));
        }
        assert_eq!(log.last(usize::MAX).len(), KEPT_LINES);
        let (last, listening) = log.follow(2).expect("a seat");
        assert_eq!(texts(&last), ["line 10000", "line 10001"]);
        log.keep("next");
        let Heard::Line(line) = listening.next(Duration::ZERO) else { panic!("a line") };
        assert!(line.contains("\"line\":\"next\"") && line.contains("time_ms"), "{line}");
    }

    #[test]
    fn a_long_line_is_kept_in_part() {
        let log = Log::default();
        log.keep(&"ä".repeat(MAX_LINE));
        assert_eq!(log.last(1)[0].line.len(), MAX_LINE);
    }

    #[test]
    fn strangers_do_not_fill_the_log() {
        let (counted, mut logged) = (Counted::default(), 0);
        for _ in 0..100 {
            strangers(&counted, || logged += 1);
        }
        assert!((20..=40).contains(&logged), "{logged}");
        assert!(counted.entries().iter().any(|entry| entry.name == "lines-left-out" && entry.value >= 60));
    }
}
