//! A socket of the channel, and what is known of the members behind it.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baton_sad::NodeId;
use quinn::{AsyncUdpSocket, Endpoint, Runtime as _, TokioRuntime, VarInt};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::link::{Link, SendError};
use super::problem::code;
use super::tls::Tls;
use super::{Credentials, Event, Kind, LinkProblem, Member, accept, dial, kind_of};
use crate::cluster::Lane;

/// Why the channel cannot be opened.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The address.
    #[error("cannot listen at UDP {address}: {source}; correct [cluster] listen, or end what uses the port")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS refuses what we have.
    #[error(
        "the cluster's certificate and key cannot be used: {0}; join the cluster again (`dpctl cluster join`)"
    )]
    Credentials(String),
}

/// What a channel is made of.
pub struct Settings {
    /// Who we are, and how we prove it.
    pub credentials: Arc<Credentials>,
    /// What travels.
    pub kind: Kind,
    /// The other members.
    pub members: Vec<Member>,
    /// Versions of the messages that are spoken: [`SPOKEN`](crate::cluster::wire::SPOKEN).
    pub versions: RangeInclusive<u8>,
}

/// What strangers and errors have cost so far.
#[derive(Debug, Default)]
pub struct Counted {
    /// Calls from where no member is.
    pub strangers: AtomicU64,
    /// Calls that had to prove their address.
    pub retries: AtomicU64,
    /// Calls beyond what may be half-open, or from a member that has to be called.
    pub refused: AtomicU64,
    /// Handshakes that failed.
    pub failed: AtomicU64,
    /// Messages that nobody had room for.
    pub dropped: AtomicU64,
}

/// What tasks share.
pub(super) struct Shared {
    /// Replaced when certificates are read again.
    tls: Mutex<Arc<Tls>>,
    kind: Kind,
    own: NodeId,
    members: Vec<Member>,
    events: mpsc::Sender<Event>,
    links: Mutex<HashMap<NodeId, Arc<Link>>>,
    problems: Mutex<HashMap<NodeId, LinkProblem>>,
    pub(super) counted: Arc<Counted>,
}

/// Nothing that holds these locks can panic, and nothing could be half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    pub(super) fn tls(&self) -> Arc<Tls> {
        Arc::clone(&lock(&self.tls))
    }

    /// The member that calls from an address, and may.
    pub(super) fn member_at(&self, address: SocketAddr) -> Option<Member> {
        self.members.iter().find(|member| member.address == address).copied()
    }

    /// Of a pair, the lower id calls.
    pub(super) fn calls(&self, member: &Member) -> bool {
        self.own.get() < member.id.get()
    }

    /// What can be sent to a member from now on.
    pub(super) fn put_link(&self, member: NodeId, link: Option<Arc<Link>>) {
        match link {
            Some(link) => {
                lock(&self.problems).remove(&member);
                lock(&self.links).insert(member, link);
            }
            None => drop(lock(&self.links).remove(&member)),
        }
    }

    /// Why there is no connection with a member.
    pub(super) fn note_problem(&self, member: NodeId, problem: LinkProblem) {
        lock(&self.problems).insert(member, problem);
    }

    /// Waits until there is room for an event.
    pub(super) async fn tell(&self, event: Event) {
        // Without anybody who listens, the channel is about to be closed.
        let _ = self.events.send(event).await;
    }

    /// Does not wait.
    pub(super) fn tell_or_drop(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.counted.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A bound socket, in the hands of a tokio runtime. What the kernel can do with it was asked already, so that the rest
/// needs no more than to send and to receive.
pub struct Prepared {
    socket: Arc<dyn AsyncUdpSocket>,
    address: SocketAddr,
}

impl Prepared {
    /// Within the runtime in which the channel is to be.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let address = socket.local_addr()?;
        Ok(Self { socket: TokioRuntime.wrap_udp_socket(socket)?, address })
    }
}

/// One kind of connections with all members. Dropping it closes them.
pub struct Channel {
    endpoint: Endpoint,
    shared: Arc<Shared>,
    /// Aborted with the channel.
    _tasks: JoinSet<()>,
}

impl Channel {
    /// Takes a socket, and begins to connect; within a tokio runtime, in whose threads everything happens.
    ///
    /// # Errors
    /// [`ChannelError`].
    pub fn open(
        socket: Prepared,
        settings: Settings,
        events: mpsc::Sender<Event>,
    ) -> Result<Self, ChannelError> {
        let Prepared { socket, address } = socket;
        let listen = |source| ChannelError::Listen { address, source };
        let tls = Tls::new(Arc::clone(&settings.credentials), settings.kind, settings.versions);
        let refused = |error: super::tls::TlsError| ChannelError::Credentials(error.to_string());
        // Each call gets a configuration of its own, that expects its member; this one only lets calls come.
        let nobody = Member {
            id: settings.credentials.identity.node,
            role: settings.credentials.identity.role,
            address,
        };
        let (server, _) = tls.server(nobody).map_err(refused)?;
        let endpoint =
            Endpoint::new_with_abstract_socket(tls.endpoint(), Some(server), socket, Arc::new(TokioRuntime));
        let endpoint = endpoint.map_err(listen)?;
        let shared = Arc::new(Shared {
            tls: Mutex::new(Arc::new(tls)),
            kind: settings.kind,
            own: settings.credentials.identity.node,
            members: settings.members,
            events,
            links: Mutex::default(),
            problems: Mutex::default(),
            counted: Arc::default(),
        });
        let tasks = start(&endpoint, &shared);
        Ok(Self { endpoint, shared, _tasks: tasks })
    }

    /// Sends a message to a member; never waits.
    ///
    /// # Errors
    /// [`SendError`]; the message is lost then.
    pub fn send(&self, to: NodeId, lane: Lane, octets: Vec<u8>) -> Result<(), SendError> {
        debug_assert_eq!(kind_of(lane), self.shared.kind, "the other channel's lane");
        let link = lock(&self.shared.links).get(&to).cloned();
        link.ok_or(SendError::NotConnected)?.send(lane, octets)
    }

    /// The sending end by itself, for other threads.
    pub fn sender(&self) -> Sender {
        Sender(Arc::clone(&self.shared))
    }

    /// Is gone without a word, as a process that was killed; the socket is closed when this returns.
    #[cfg(test)]
    pub(super) fn forget(self) {
        let replacement = UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        self.endpoint.rebind(replacement).expect("another socket");
    }

    /// Closes all connections, and lets the others know, as far as one flight of packets can.
    pub async fn close(self) {
        self.endpoint.close(VarInt::from_u32(code::ENDED), b"");
        let _ = tokio::time::timeout(std::time::Duration::from_millis(100), self.endpoint.wait_idle()).await;
    }
}

/// Sends messages, and tells how the connections are.
#[derive(Clone)]
pub struct Sender(Arc<Shared>);

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sender").field("kind", &self.0.kind).finish_non_exhaustive()
    }
}

impl Sender {
    /// As [`Channel::send`].
    ///
    /// # Errors
    /// [`SendError`]; the message is lost then.
    pub fn send(&self, to: NodeId, lane: Lane, octets: Vec<u8>) -> Result<(), SendError> {
        let link = lock(&self.0.links).get(&to).cloned();
        link.ok_or(SendError::NotConnected)?.send(lane, octets)
    }

    /// The version of the messages that a member reads, while there is a connection.
    pub fn version(&self, member: NodeId) -> Option<u8> {
        lock(&self.0.links).get(&member).map(|link| link.version())
    }

    /// Whether there is a connection, and how many octets wait for it.
    pub fn queued(&self, member: NodeId) -> Option<usize> {
        lock(&self.0.links).get(&member).map(|link| link.queued())
    }

    /// Why there is no connection with a member, if one was tried.
    pub fn problem(&self, member: NodeId) -> Option<LinkProblem> {
        lock(&self.0.problems).get(&member).cloned()
    }

    /// Uses another certificate for connections from now on.
    pub fn renew(&self, credentials: Arc<Credentials>) {
        let versions = self.0.tls().versions();
        *lock(&self.0.tls) = Arc::new(Tls::new(credentials, self.0.kind, versions));
    }

    /// What strangers and errors have cost.
    pub fn counted(&self) -> &Counted {
        &self.0.counted
    }
}

fn start(endpoint: &Endpoint, shared: &Arc<Shared>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let mut callers = HashMap::new();
    for member in shared.members.iter().copied() {
        if shared.calls(&member) {
            tasks.spawn(dial::keep_calling(endpoint.clone(), Arc::clone(shared), member));
        } else {
            let (calls, received) = mpsc::channel(1);
            callers.insert(member.id, calls);
            tasks.spawn(accept::keep_serving(Arc::clone(shared), member, received));
        }
    }
    tasks.spawn(accept::accept(endpoint.clone(), Arc::clone(shared), callers));
    tasks
}
