//! One connection with a member, once both ends have agreed to use it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use baton_sad::NodeId;
use quinn::{Connection, RecvStream, VarInt};
use thiserror::Error;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::task::JoinSet;

use super::endpoint::Shared;
use super::problem::code;
use super::streams::{self, Purpose, StreamError};
use super::{Event, Kind, LinkProblem};
use crate::cluster::Lane;

/// Octets that may wait for a stream; one message always may. The largest window of contexts fits, with answers to the
/// other end's beside it.
const MAX_QUEUED: usize = 16 << 20;
/// What a waiting message costs beside its octets.
const OVERHEAD: usize = 64;
/// Control goes before contexts.
const CONTROL_PRIORITY: i32 = 1;

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SendError {
    /// Nobody is there.
    #[error("the member is not connected")]
    NotConnected,
    /// Too much waits already. Nothing may be missing on a reliable lane: the connection is closed, and both ends begin
    /// anew.
    #[error("too much waits to be sent to the member")]
    Full,
    /// Longer than [`Lane::most_octets`].
    #[error("the message is too long for its lane")]
    TooLong,
}

/// The sending end.
#[derive(Debug)]
pub(super) struct Link {
    connection: Connection,
    /// Of the messages.
    version: u8,
    contexts: Queue,
    control: Queue,
}

/// Messages that wait for a stream.
#[derive(Debug, Clone)]
struct Queue {
    messages: UnboundedSender<Vec<u8>>,
    waiting: Arc<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    octets: AtomicUsize,
}

impl Queue {
    fn new() -> (Self, UnboundedReceiver<Vec<u8>>) {
        let (messages, receiver) = mpsc::unbounded_channel();
        (Self { messages, waiting: Arc::default() }, receiver)
    }

    fn push(&self, octets: Vec<u8>) -> Result<(), SendError> {
        let size = octets.len() + OVERHEAD;
        let before = self.waiting.octets.fetch_add(size, Ordering::AcqRel);
        if before > 0 && before + size > MAX_QUEUED {
            self.waiting.octets.fetch_sub(size, Ordering::AcqRel);
            return Err(SendError::Full);
        }
        self.messages.send(octets).map_err(|_| SendError::NotConnected)
    }
}

impl Waiting {
    /// A message of this size has gone.
    fn sent(&self, octets: usize) {
        self.octets.fetch_sub(octets + OVERHEAD, Ordering::AcqRel);
    }
}

impl Link {
    /// Queues a message, or sends a datagram; never waits.
    pub(super) fn send(&self, lane: Lane, octets: Vec<u8>) -> Result<(), SendError> {
        if octets.len() > lane.most_octets() {
            return Err(SendError::TooLong);
        }
        match lane {
            Lane::Contexts => self.push(&self.contexts, octets),
            Lane::Control => self.push(&self.control, octets),
            // What does not fit into the buffer takes the place of the oldest there, which is what we want.
            Lane::Heartbeat | Lane::Counters => {
                self.connection.send_datagram(octets.into()).map_err(|_| SendError::NotConnected)
            }
        }
    }

    fn push(&self, queue: &Queue, octets: Vec<u8>) -> Result<(), SendError> {
        let pushed = queue.push(octets);
        if pushed == Err(SendError::Full) {
            self.connection.close(VarInt::from_u32(code::OVERFLOW), b"");
        }
        pushed
    }

    pub(super) fn version(&self) -> u8 {
        self.version
    }

    /// Octets that wait for a stream.
    pub(super) fn queued(&self) -> usize {
        let octets = |queue: &Queue| queue.waiting.octets.load(Ordering::Acquire);
        octets(&self.contexts) + octets(&self.control)
    }
}

/// Uses a connection until it ends, or `replaced` gives another one.
pub(super) async fn run(shared: &Arc<Shared>, member: NodeId, connection: Connection) -> LinkProblem {
    let (contexts, contexts_waiting) = Queue::new();
    let (control, control_waiting) = Queue::new();
    let waiting = [contexts.waiting.clone(), control.waiting.clone()];
    // TLS has agreed on one, or there would be no connection.
    let Some(version) = shared.tls().version_of(&connection) else { return LinkProblem::Version };
    let link = Link { connection: connection.clone(), version, contexts, control };
    shared.put_link(member, Some(Arc::new(link)));
    // Whoever hears of it can send already.
    shared.tell(Event::Connected(member)).await;
    let mut tasks = JoinSet::new();
    let at = Port { shared: Arc::clone(shared), member, connection: connection.clone() };
    tasks.spawn(at.clone().receive_datagrams());
    if shared.kind() == Kind::Bulk {
        let [contexts, control] = waiting;
        tasks.spawn(at.clone().send(Lane::Contexts, contexts_waiting, contexts));
        tasks.spawn(at.clone().send(Lane::Control, control_waiting, control));
        tasks.spawn(at.receive_streams());
    }
    let problem = ended(&connection, &mut tasks).await;
    shared.put_link(member, None);
    shared.tell(Event::Disconnected(member, problem.clone())).await;
    problem
}

/// Waits for the end of a connection, or of the patience with its other end.
async fn ended(connection: &Connection, tasks: &mut JoinSet<Result<(), LinkProblem>>) -> LinkProblem {
    loop {
        tokio::select! {
            error = connection.closed() => return error.into(),
            Some(done) = tasks.join_next() => if let Ok(Err(problem)) = done {
                connection.close(VarInt::from_u32(code::VIOLATION), problem.to_string().as_bytes());
                return problem;
            }
        }
    }
}

/// A connection, whose it is, and where its messages go.
#[derive(Clone)]
struct Port {
    shared: Arc<Shared>,
    member: NodeId,
    connection: Connection,
}

impl Port {
    async fn receive_datagrams(self) -> Result<(), LinkProblem> {
        let lane = match self.shared.kind() {
            Kind::Heartbeat => Lane::Heartbeat,
            Kind::Bulk => Lane::Counters,
        };
        while let Ok(octets) = self.connection.read_datagram().await {
            if octets.len() > lane.most_octets() {
                return Err(LinkProblem::Protocol("a datagram is too long".to_owned()));
            }
            self.shared.tell_or_drop(Event::Message { from: self.member, lane, octets: octets.into() });
        }
        Ok(())
    }

    /// Both streams of messages, each at most once: QUIC itself lets no more be opened.
    async fn receive_streams(self) -> Result<(), LinkProblem> {
        let mut streams = JoinSet::new();
        loop {
            tokio::select! {
                stream = self.connection.accept_uni() => match stream {
                    Ok(stream) => drop(streams.spawn(self.clone().receive(stream))),
                    Err(_) => return Ok(()),
                },
                Some(done) = streams.join_next() => if let Ok(Err(problem)) = done {
                    return Err(problem);
                }
            }
        }
    }

    async fn receive(self, mut stream: RecvStream) -> Result<(), LinkProblem> {
        let broken = |error: StreamError| match error {
            StreamError::Ended => Ok(()),
            other => Err(LinkProblem::Protocol(other.to_string())),
        };
        let lane = match streams::read_purpose(&mut stream).await {
            Ok(Purpose::Lane(lane)) => lane,
            Ok(Purpose::Begin) => return Err(LinkProblem::Protocol("it has begun twice".to_owned())),
            Err(error) => return broken(error),
        };
        loop {
            match streams::read_message(&mut stream, lane).await {
                // A full queue stops the reading, and with it, by flow control, the other end.
                Ok(octets) => self.shared.tell(Event::Message { from: self.member, lane, octets }).await,
                Err(error) => return broken(error),
            }
        }
    }

    async fn send(
        self,
        lane: Lane,
        mut messages: UnboundedReceiver<Vec<u8>>,
        waiting: Arc<Waiting>,
    ) -> Result<(), LinkProblem> {
        // A stream that cannot be written belongs to a connection that has ended, which is told elsewhere.
        let Ok(mut stream) = self.connection.open_uni().await else { return Ok(()) };
        if lane == Lane::Control {
            let _ = stream.set_priority(CONTROL_PRIORITY);
        }
        if streams::write_purpose(&mut stream, Purpose::Lane(lane)).await.is_err() {
            return Ok(());
        }
        while let Some(octets) = messages.recv().await {
            let length = octets.len();
            if streams::write_message(&mut stream, octets).await.is_err() {
                return Ok(());
            }
            waiting.sent(length);
        }
        Ok(())
    }
}
