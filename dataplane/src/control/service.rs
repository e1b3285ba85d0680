//! What a server serves, whichever daemon it belongs to: requests of one type, each with one answer, or with a stream
//! that ends the conversation.

use std::fmt;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::monitor::{Heard, Listening};
use super::protocol::{Code, PROTOCOL_VERSION, Refusal};

/// How often a stream of lines without any looks whether it should end.
const LINES_TICK: Duration = Duration::from_millis(100);

/// A daemon with a control socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// `baton-dataplane`.
    DataPlane,
    /// `baton-ike`.
    Ike,
    /// `baton-cluster`.
    Cluster,
}

impl Daemon {
    /// The program.
    pub const fn program(self) -> &'static str {
        match self {
            Self::DataPlane => "baton-dataplane",
            Self::Ike => "baton-ike",
            Self::Cluster => "baton-cluster",
        }
    }
}

/// What people call it.
impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DataPlane => "data plane",
            Self::Ike => "IKE daemon",
            Self::Cluster => "cluster daemon",
        })
    }
}

/// The answering part of a daemon. It is called from a thread per client, several at once.
pub trait Service: Send + Sync + 'static {
    /// What clients may ask: a JSON object each.
    type Request: DeserializeOwned;
    /// Whose it is.
    const DAEMON: Daemon;
    /// A request line longer than this ends its connection.
    const MAX_REQUEST_OCTETS: usize;

    /// Answers a request.
    ///
    /// # Errors
    /// That the client is gone.
    fn answer(&self, request: Self::Request, client: &Conversation<'_>) -> io::Result<Next>;
}

/// Whether a conversation goes on after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// With another request, if there is one.
    GoOn,
    /// No more: it was a stream, or an end.
    End,
}

/// A client that waits for its answer.
#[derive(Debug)]
pub struct Conversation<'a> {
    pub(super) stream: &'a UnixStream,
    pub(super) stop: &'a AtomicBool,
}

/// A response line.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum Answer<T> {
    Ok(T),
    Error(Refusal),
}

#[derive(Serialize)]
struct Envelope<T> {
    version: u32,
    #[serde(flatten)]
    answer: Answer<T>,
}

impl<'a> Conversation<'a> {
    /// The answer to a question; others may follow it.
    ///
    /// # Errors
    /// That the client is gone.
    pub fn reply<T: Serialize>(&self, result: Result<T, Refusal>) -> io::Result<Next> {
        let answer = result.map_or_else(Answer::Error, Answer::Ok);
        let mut line = serde_json::to_vec(&Envelope { version: PROTOCOL_VERSION, answer })?;
        line.push(b'\n');
        self.out().write_all(&line)?;
        Ok(Next::GoOn)
    }

    /// The answer that there is none; it is the last one.
    ///
    /// # Errors
    /// That the client is gone.
    pub fn refuse(&self, refusal: Refusal) -> io::Result<Next> {
        self.reply::<()>(Err(refusal))?;
        Ok(Next::End)
    }

    /// The empty object after which a stream begins.
    ///
    /// # Errors
    /// That the client is gone.
    pub fn begin_stream(&self) -> io::Result<()> {
        self.reply(Ok(serde_json::Map::new())).map(drop)
    }

    /// Writes lines as they come, until the reader goes away, or does not read, or is cut off for being too slow.
    ///
    /// # Errors
    /// That the client is gone.
    pub fn stream_lines(&self, listening: &Listening) -> io::Result<Next> {
        self.begin_stream()?;
        self.continue_lines(listening)
    }

    /// The same in a stream that has begun.
    ///
    /// # Errors
    /// That the client is gone.
    pub fn continue_lines(&self, listening: &Listening) -> io::Result<Next> {
        while !self.is_over(Duration::ZERO) {
            match listening.next(LINES_TICK) {
                Heard::Line(line) => self.out().write_all(line.as_bytes())?,
                Heard::Silence => {}
                Heard::End => break,
            }
        }
        Ok(Next::End)
    }

    /// Where the octets of a stream go.
    pub fn out(&self) -> &'a UnixStream {
        self.stream
    }

    /// Waits for a moment below a second, and says whether a stream should end: the server stops, or its reader is
    /// gone (who reads a stream has nothing to say, so whatever it sends, or its end of file, means that).
    pub fn is_over(&self, moment: Duration) -> bool {
        let limit = Timespec { tv_sec: 0, tv_nsec: i64::from(moment.subsec_nanos()) };
        let has_left =
            poll(&mut [PollFd::new(self.stream, PollFlags::IN)], Some(&limit)).is_ok_and(|n| n > 0);
        has_left || self.is_stopping()
    }

    /// Whether the server stops.
    pub fn is_stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// A request of this protocol version, or why it is none.
pub(super) fn parse<S: Service>(line: &[u8]) -> Result<S::Request, Refusal> {
    let bad = |e: serde_json::Error| {
        Refusal::new(Code::BadRequest, format!("not a request: {e}"), "see docs/CONTROL.md for the messages")
    };
    let value: serde_json::Value = serde_json::from_slice(line).map_err(bad)?;
    let serde_json::Value::Object(mut object) = value else {
        return Err(Refusal::new(Code::BadRequest, "a request is a JSON object", "see docs/CONTROL.md"));
    };
    if object.remove("version").and_then(|v| v.as_u64()) != Some(u64::from(PROTOCOL_VERSION)) {
        let message = format!("this {} speaks version {PROTOCOL_VERSION} of the protocol", S::DAEMON);
        let remedy = format!("send \"version\":{PROTOCOL_VERSION}, or use the dpctl of the same release");
        return Err(Refusal::new(Code::UnsupportedVersion, message, remedy));
    }
    serde_json::from_value(serde_json::Value::Object(object)).map_err(bad)
}
