//! Speaking with the shell of a booted kernel over its serial line.
//!
//! A request is `TAG SECONDS OCTETS` and a script, the answer `TAG EXIT-CODE OCTETS` and its output
//! (`tests/kernel/init.sh`). Tags count up: an answer that comes after its time is known and thrown away.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::error::{LabError, Result};

/// What the guest may take longer than a script's own limit, on a busy machine.
const GRACE: Duration = Duration::from_secs(20);
/// The most that a script may print, in octets.
const OUTPUT_LIMIT: u64 = 4 << 20;
/// The most that a line of the protocol may measure, in octets.
const LINE_LIMIT: u64 = 256;

/// What a script in the guest left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestOutput {
    /// Its exit code; 137 when it was killed at its time limit.
    pub code: i32,
    /// What it printed, on stdout and stderr.
    pub text: String,
}

/// The host's end of the line.
#[derive(Debug)]
pub(super) struct Console {
    requests: ChildStdin,
    answers: Receiver<(u64, GuestOutput)>,
    last: u64,
}

impl Console {
    /// Waits on the pipes of a kernel's serial line until its shell answers.
    pub(super) fn open(requests: ChildStdin, answers: ChildStdout, patience: Duration) -> Result<Self> {
        let (sender, receiver) = sync_channel(16);
        std::thread::Builder::new()
            .name("kernel-console".into())
            .spawn(move || listen(BufReader::new(answers), &sender))
            .map_err(LabError::io("start a thread"))?;
        let mut console = Self { requests, answers: receiver, last: 0 };
        console.answer("the kernel's start", patience)?;
        Ok(console)
    }

    /// Runs a script, which the guest kills after `limit` (rounded up to seconds). `what` names it in errors.
    pub(super) fn ask(&mut self, what: &str, script: &str, limit: Duration) -> Result<GuestOutput> {
        self.last += 1;
        let seconds = limit.as_secs() + u64::from(limit.subsec_nanos() > 0);
        let request = format!("#{} {seconds} {}\n{script}", self.last, script.len());
        let written = self.requests.write_all(request.as_bytes()).and_then(|()| self.requests.flush());
        written.map_err(LabError::io(format!("speak with the kernel to {what}")))?;
        self.answer(what, limit + GRACE)
    }

    fn answer(&mut self, what: &str, patience: Duration) -> Result<GuestOutput> {
        let deadline = Instant::now() + patience;
        loop {
            match self.answers.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok((tag, output)) if tag == self.last => return Ok(output),
                Ok(_late) => {}
                Err(RecvTimeoutError::Timeout) => return Err(silent(what, patience)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(LabError::Unexpected(format!("the kernel ended before {what}")));
                }
            }
        }
    }
}

fn silent(what: &str, patience: Duration) -> LabError {
    LabError::Timeout {
        what: what.into(),
        seconds: patience.as_secs(),
        detail: "; the kernel is silent".into(),
    }
}

/// Passes on answers until the line ends or makes no sense any more.
fn listen(mut line: impl BufRead, answers: &SyncSender<(u64, GuestOutput)>) {
    while let Some(answer) = read_answer(&mut line) {
        if answers.send(answer).is_err() {
            return;
        }
    }
}

fn read_answer(line: &mut impl BufRead) -> Option<(u64, GuestOutput)> {
    let mut header = String::new();
    line.by_ref().take(LINE_LIMIT).read_line(&mut header).ok()?;
    let mut words = header.strip_prefix('#')?.split_whitespace();
    let (tag, code) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let octets: u64 = words.next()?.parse().ok()?;
    let mut text = Vec::new();
    let kept = octets.min(OUTPUT_LIMIT);
    line.by_ref().take(kept).read_to_end(&mut text).ok().filter(|length| *length as u64 == kept)?;
    std::io::copy(&mut line.by_ref().take(octets - kept), &mut std::io::sink()).ok()?;
    Some((tag, GuestOutput { code, text: String::from_utf8_lossy(&text).into_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart_by_their_lengths() {
        let mut line = &b"#0 0 0\n#1 3 8\n#9 9 9\n\n#2 137 0\nrubbish\n#3 0 0\n"[..];
        let mut next = || read_answer(&mut line).map(|(tag, output)| (tag, output.code, output.text));
        assert_eq!(next(), Some((0, 0, String::new())));
        assert_eq!(next(), Some((1, 3, "#9 9 9\n\n".into())));
        assert_eq!(next(), Some((2, 137, String::new())));
        assert_eq!(next(), None);
    }

    #[test]
    fn an_answer_that_is_cut_short_is_none() {
        assert!(read_answer(&mut &b"#1 0 10\nabc"[..]).is_none());
        assert!(read_answer(&mut &b"#1 0"[..]).is_none());
        assert!(read_answer(&mut &b""[..]).is_none());
    }
}
