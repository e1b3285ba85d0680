//! The border between the protocol and its host: what goes in, what comes out, what the protocol asks for.

mod users;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

pub use self::users::{
    Account, Grant, Judgement, Moment, Question, QuestionId, SessionChange, SessionView, Thread, Traffic,
    Volume,
};
use crate::configuration::{Child, Connection, Mode};
use crate::crypto::{ChildKeys, Puzzle, Role};
use crate::identity::Identity;
use crate::proposal::EspSuite;
use crate::selector::TrafficSelector;
use crate::wire::GatewayIdentity;

/// What time it is, by both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now {
    /// Since a start of the host's choice; never goes back and runs while the machine sleeps.
    pub monotonic: Duration,
    /// Since 1970, for certificates and for lifetimes that go to other machines.
    pub unix: Duration,
}

/// The two ends of a datagram, and how it is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// Whether the four zero octets stand in front, as on port 4500 (RFC 3948 section 2.2). The host adds and removes
    /// them.
    pub marked: bool,
}

/// What the protocol needs from its host while it works. None of it waits.
pub trait Host {
    /// Fills with unpredictable octets.
    fn random(&mut self, octets: &mut [u8]);
    /// An IV that no node has used and none will (I1); `None` while there is none: then nothing is sealed that needs
    /// one.
    fn explicit_iv(&mut self) -> Option<[u8; 8]>;
    /// The segment of a peer that appears at this address.
    fn segment_of(&self, peer: IpAddr) -> u8;
    /// Whether this node owns the segment (I4).
    fn owns(&self, segment: u8) -> bool;
    /// The address from which this node sends to `peer`, for connections that name none; `None` without a route.
    fn source_for(&self, peer: IpAddr) -> Option<IpAddr>;
    /// The addresses of this host, those of its loopback left out; none if it does not know them.
    fn local_addresses(&self) -> Vec<IpAddr> {
        Vec::new()
    }
    /// Whether an ESP SPI of ours is in use outside of the protocol's own SAs.
    fn spi_is_taken(&self, spi: u32) -> bool;
    /// What an inbound SA has carried, by our SPI; nothing if it is not in the table.
    fn inbound_volume(&self, _spi: u32) -> Volume {
        Volume::default()
    }
    /// What the outbound SA of a reqid has carried, if it is the one with this SPI of the peer's.
    fn outbound_volume(&self, _reqid: u32, _spi: u32) -> Volume {
        Volume::default()
    }
}

/// A segment that this node owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owned {
    /// Which.
    pub segment: u8,
    /// Of its ownership: each owner of a segment has a higher one than the owner before. It orders contexts that two
    /// owners have written.
    pub term: u32,
    /// If it was taken over unplanned: by how many packets at most the edges of its SAs were advanced. Peers that know
    /// how then skip as many sequence numbers (RFC 6311).
    pub advanced: Option<u64>,
    /// Peers may have heard of exchanges that its contexts here do not know: both ends then agree about Message IDs as
    /// well, if they know how.
    pub is_stale: bool,
}

/// The name of a tunnel: an IKE SA with its Child SAs, stable over rekeys, restarts and moves; at most 32 octets.
/// `CONNECTION-` and eight hexadecimal digits, of which the first two are the segment.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelName(Arc<str>);

impl TunnelName {
    /// The longest connection name that leaves room for the digits.
    pub const MAX_CONNECTION: usize = 23;

    /// The name of tunnel `number` of a connection.
    pub fn new(connection: &str, number: u32) -> Self {
        Self(format!("{connection}-{number:08x}").into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a name as [`Self::new`] writes it.
    pub fn parse(text: &str) -> Option<(&str, u32)> {
        let (connection, number) = text.rsplit_once('-')?;
        let is_ours = number.len() == 8 && !connection.is_empty() && text.len() <= 32;
        is_ours.then(|| u32::from_str_radix(number, 16).ok()).flatten().map(|number| (connection, number))
    }
}

impl std::fmt::Display for TunnelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

/// What the host is to do, in this order: an output may rely on all before it.
#[derive(Debug)]
pub enum Output {
    /// Send these octets, behind the marker where the path says so.
    Transmit {
        /// From where to where.
        path: Path,
        /// The IKE message, or one fragment of it.
        datagram: Vec<u8>,
        /// The number of the tunnel that it says something of, if its peer is authenticated: in a cluster such a
        /// datagram waits until the standby has the state that it speaks of.
        tunnel: Option<u32>,
    },
    /// Send one octet 0xff: a NAT keep-alive (RFC 3948 section 2.3).
    KeepAlive {
        /// From where to where.
        path: Path,
    },
    /// Put SAs into the table, and their policy into force. If it fails, tell [`Command::InstallFailed`].
    Install(Box<Install>),
    /// Take Child SAs out of the table.
    Remove {
        /// Inbound ones, by our SPI.
        inbound: Vec<u32>,
        /// Outbound ones, by reqid and the peer's SPI: one whose reqid has another SPI by now stays.
        outbound: Vec<(u32, u32)>,
    },
    /// Take policies out of force.
    RemovePolicies {
        /// Their names.
        names: Vec<String>,
        /// Whether nothing may leave in clear to where they led, from now on either (I7).
        keep_prohibited: bool,
    },
    /// Put a policy into force without SAs: its traffic comes back as [`Command::Acquire`].
    Trap(Box<PolicyInstall>),
    /// Skip sequence numbers of outbound SAs while packets leave by them (RFC 6311 section 5.2): none up to the present
    /// one and as many more is used again. Where too few are left, tell [`Command::SoftLimit`].
    SkipSequence {
        /// Their reqids.
        reqids: Vec<u32>,
        /// How many, on each.
        numbers: u64,
    },
    /// Whom this host is to be inside from now on, because of a tunnel that we have set up.
    Inside(Inside),
    /// Where the peer is now: the outer addresses and ports of these SAs change, their counters stay.
    MovePeer {
        /// Inbound SPIs.
        inbound: Vec<u32>,
        /// Reqids of the outbound SAs.
        outbound: Vec<u32>,
        /// The new ends.
        ends: OuterEnds,
    },
    /// Keep this context before anything that follows is done (I6).
    Store {
        /// Whose it is.
        tunnel: TunnelName,
        /// Above that of every context of this tunnel before.
        version: u64,
        /// As the machine restores it.
        context: Vec<u8>,
    },
    /// The tunnel is over: forget its context.
    Forget {
        /// Whose it was.
        tunnel: TunnelName,
        /// Above that of every context that there was.
        version: u64,
    },
    /// Keep this context of a tunnel that another node owns.
    StoreStandby {
        /// Whose it is.
        tunnel: TunnelName,
        /// As it came.
        context: Vec<u8>,
    },
    /// Forget the context of a tunnel that another node owns, or owned.
    ForgetStandby {
        /// Whose it was.
        tunnel: TunnelName,
    },
    /// Look for the keys that solve this puzzle (RFC 8019), beside all else: it takes long. Tell
    /// [`Command::Solved`], unless [`Self::StopSolving`] comes first.
    Solve {
        /// Our SPI of the IKE SA that it is for.
        spi: u64,
        /// The puzzle.
        puzzle: Puzzle,
        /// Zero bits that each key has to give.
        zeros: u32,
    },
    /// Nobody wants the solution for this SPI any more.
    StopSolving {
        /// As in [`Self::Solve`].
        spi: u64,
    },
    /// Keep this ticket, by which a connection whose tunnel was lost comes back (RFC 5723), in the place of the one
    /// before; or with `None` forget it.
    KeepTicket {
        /// The connection's name.
        connection: String,
        /// As the machine restores it.
        ticket: Option<Vec<u8>>,
    },
    /// Ask an authenticator elsewhere about a user. The answer is [`crate::machine::Ike::judged`].
    Ask(Box<Question>),
    /// Tell whoever accounts for sessions.
    Account(Box<Account>),
    /// Something that somebody may want to know.
    Event(Event),
}

/// Outer addresses and encapsulation of a pair of Child SAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OuterEnds {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// ESP in UDP (RFC 3948) between the ports; otherwise IP protocol 50, and the ports mean nothing.
    pub encapsulated: bool,
    /// Whether the ends may move.
    pub movement: Movement,
    /// Whether a NAT stands in front of us: its mapping wants keep-alives.
    pub behind_nat: bool,
}

/// How the ends of a pair of Child SAs may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// Not at all.
    Fixed,
    /// A NAT stands in front of the peer: the peer is where its newest authentic packet has come from (RFC 7296 section
    /// 2.23).
    FollowsPackets,
    /// Both ends may (RFC 4555): what the peer sends is taken from wherever it comes and at whichever of our addresses
    /// it arrives, because it may have been on its way before either end knew of the move. It moves nothing.
    Roams,
}

/// One pair of Child SAs to install. Our inbound half, or our outbound half, or both.
#[derive(Debug)]
pub struct Install {
    /// The tunnel, whose name the SAs bear.
    pub tunnel: TunnelName,
    /// The segment in our SPI's top octet.
    pub segment: u8,
    /// Links the pair, its policy, and its successors.
    pub reqid: u32,
    /// Our SPI.
    pub inbound_spi: u32,
    /// The peer's SPI.
    pub outbound_spi: u32,
    /// Whether to install the inbound SA.
    pub inbound: bool,
    /// Whether to install the outbound SA, in the place of the one of this reqid.
    pub outbound: bool,
    /// The algorithms.
    pub suite: EspSuite,
    /// Our role in the exchange that made the keys: which direction of [`ChildKeys`] is ours.
    pub role: Role,
    /// Key material of both directions; `None` only where neither half is to be installed.
    pub keys: Option<ChildKeys>,
    /// What it carries.
    pub mode: Mode,
    /// Outer addresses.
    pub ends: OuterEnds,
    /// Local and remote selectors: any of one with any of the other.
    pub local: Vec<TrafficSelector>,
    /// As `local`.
    pub remote: Vec<TrafficSelector>,
    /// The configuration of the connection.
    pub connection: Arc<Connection>,
    /// The configuration of the Child SA.
    pub child: Arc<Child>,
    /// Lifetime of both SAs. Soft ones come back as [`Command::SoftLimit`].
    pub lifetime: ChildLifetime,
    /// The policy to put into force after the SAs; `None` when it is in force.
    pub policy: Option<PolicyInstall>,
}

/// When a Child SA is to be replaced, and when it ends. 0 is no bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChildLifetime {
    /// Octets after which to rekey.
    pub soft_octets: u64,
    /// Octets after which nothing is sent or accepted.
    pub hard_octets: u64,
    /// Packets after which to rekey.
    pub soft_packets: u64,
    /// Packets after which nothing is sent or accepted.
    pub hard_packets: u64,
    /// Unix time in seconds after which nothing is sent or accepted. (The soft time is the protocol's own.)
    pub hard_unix: u64,
}

/// What the peer of a tunnel has given us (RFC 7296 section 2.19): all of it, in the place of what that tunnel had. With
/// nothing in it, the tunnel has none any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// Whose it is.
    pub tunnel: TunnelName,
    /// Our addresses inside.
    pub addresses: Vec<IpAddr>,
    /// DNS servers to ask while the tunnel stands.
    pub dns: Vec<IpAddr>,
}

/// An SPD entry that protects.
#[derive(Debug, Clone)]
pub struct PolicyInstall {
    /// Unique on this node.
    pub name: String,
    /// Links it with its SAs.
    pub reqid: u32,
    /// Whose owner forwards.
    pub segment: u8,
    /// Inner addresses on our side.
    pub local: Vec<TrafficSelector>,
    /// Inner addresses on the peer's side.
    pub remote: Vec<TrafficSelector>,
    /// The lowest is tried first; `None` is the default.
    pub priority: Option<u32>,
}

/// Which tunnels or Child SAs a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// All tunnels of a connection.
    Connection(String),
    /// One tunnel.
    Tunnel(String),
    /// All Child SAs of that configured name, of one connection or, with `None`, of all.
    Child(Option<String>, String),
    /// The Child SA with this SPI of ours.
    Spi(u32),
}

/// What the host, the data plane or the operator wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Set up a connection, or one of its Child SAs. Without a child: the IKE SA and all of its children.
    Initiate {
        /// The connection's name.
        connection: String,
        /// One of its children.
        child: Option<String>,
    },
    /// End it, telling the peer.
    Terminate(Target),
    /// Replace the keys of IKE SAs.
    RekeyIke(Target),
    /// Replace the keys of Child SAs.
    RekeyChild(Target),
    /// Traffic waits for a trapped policy.
    Acquire {
        /// The policy's number.
        reqid: u32,
    },
    /// A Child SA reached a soft bound.
    SoftLimit {
        /// The SA's reqid.
        reqid: u32,
        /// The SPI of either direction.
        spi: u32,
    },
    /// A Child SA reached a hard bound and is dead.
    HardLimit {
        /// The SA's reqid.
        reqid: u32,
        /// The SPI of either direction.
        spi: u32,
    },
    /// The data plane saw the peer of an inbound SA somewhere else, authenticated (RFC 7296 section 2.23).
    PeerMoved {
        /// Our SPI.
        spi: u32,
        /// Where the peer is.
        remote: SocketAddr,
    },
    /// A puzzle of an [`Output::Solve`] is solved, or cannot be.
    Solved {
        /// Our SPI of the IKE SA that it is for.
        spi: u64,
        /// The keys; `None` if the host has given up.
        solution: Option<Vec<u8>>,
    },
    /// An [`Output::Install`] could not be done.
    InstallFailed {
        /// Its reqid.
        reqid: u32,
        /// Our SPI.
        spi: u32,
    },
    /// Send the peers of all tunnels, or of some, to another gateway (RFC 5685 section 5).
    Redirect {
        /// Tunnels or connections; `None` is all.
        target: Option<Target>,
        /// Where to.
        gateway: GatewayIdentity,
    },
    /// Addresses or routes of this host have changed: tunnels that speak RFC 4555 look where they are now.
    AddressesChanged,
    /// The session of a tunnel's user goes on under other rules (RFC 5176).
    ChangeSession {
        /// Which tunnel.
        tunnel: String,
        /// What changes.
        change: SessionChange,
    },
    /// Agree with the peers about Message IDs, and about sequence numbers where [`Self::Advanced`] was said: this gateway
    /// goes on with tunnels whose latest exchanges it may not know (RFC 6311).
    Synchronize(Target),
    /// The SAs of a tunnel were restored from a copy, and both edges advanced: what the peer sends is refused until it
    /// is as far ahead. Begins what [`Self::Synchronize`] does, if the peer knows how.
    Advanced {
        /// The tunnel.
        tunnel: String,
        /// By how many packets.
        packets: u64,
    },
    /// Stop everything about a tunnel and answer nothing: its context is being read in order to move (RFC 4067
    /// section 2). It is thawed, or released.
    Freeze(String),
    /// Go on with a frozen tunnel.
    Thaw(String),
    /// A frozen tunnel is elsewhere now: forget it without a word to the peer. Its SAs and policies are removed.
    Release(String),
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No connection of that name.
    #[error("there is no connection \"{0}\"; `dpctl conn list` shows them")]
    NoConnection(String),
    /// No child of that name.
    #[error("connection \"{0}\" has no child \"{1}\"; `dpctl conn list` shows them")]
    NoChild(String, String),
    /// Nothing that the target names.
    #[error("nothing matches {0}; `dpctl ike list` shows the tunnels")]
    NoMatch(String),
    /// The connection says nothing of where the peer is.
    #[error(
        "connection \"{0}\" has no remote address to initiate to, or its name is not known; see remote_addrs"
    )]
    NoRemoteAddress(String),
    /// The node does not own the segment, or its lease has lapsed.
    #[error("segment {0} of the peer belongs to another gateway; do it there")]
    Foreign(u8),
    /// Too many IKE SAs.
    #[error("{0} IKE SAs are the most that this gateway holds; raise ike.max_ike_sas")]
    Full(usize),
    /// No peer of them can be sent elsewhere.
    #[error(
        "none of {0} tunnels can be redirected: their peers did not begin them, or do not know redirects; move them, or end them with `dpctl down`"
    )]
    NotRedirectable(usize),
    /// No peer of them knows synchronization.
    #[error(
        "none of {0} tunnels can be synchronized: RFC 6311 was not agreed; end them with `dpctl down` and begin anew"
    )]
    NotSynchronizable(usize),
    /// Not in this state.
    #[error("tunnel {0} is frozen; thaw it first")]
    Frozen(String),
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A tunnel stands: the peer is authenticated.
    IkeUp {
        /// Which.
        tunnel: TunnelName,
        /// Its connection.
        connection: String,
        /// Who the peer is.
        remote: Identity,
        /// Where.
        path: Path,
        /// Inner addresses that the peer was given, or that we were given.
        virtual_addresses: Vec<IpAddr>,
        /// DNS servers that the peer has told us of.
        dns: Vec<IpAddr>,
    },
    /// A tunnel was set up by a ticket (RFC 5723); [`Self::IkeUp`] of it follows.
    Resumed {
        /// Which.
        tunnel: TunnelName,
        /// Whether we have presented the ticket.
        by_us: bool,
    },
    /// A tunnel is over.
    IkeDown {
        /// Which.
        tunnel: TunnelName,
        /// Why.
        reason: DownReason,
    },
    /// An IKE SA was replaced by one with new keys.
    IkeRekeyed {
        /// Which.
        tunnel: TunnelName,
        /// SPIs of the initiator and the responder of the new one.
        spis: (u64, u64),
    },
    /// A pair of Child SAs stands.
    ChildUp {
        /// In which tunnel.
        tunnel: TunnelName,
        /// Its configured name.
        child: String,
        /// Our SPI.
        inbound_spi: u32,
        /// The peer's SPI.
        outbound_spi: u32,
        /// The SPI of ours that it replaces.
        replaces: Option<u32>,
    },
    /// A pair of Child SAs is over.
    ChildDown {
        /// In which tunnel.
        tunnel: TunnelName,
        /// Its configured name.
        child: String,
        /// Our SPI.
        inbound_spi: u32,
    },
    /// An exchange failed; the sentence says which, why and what to do.
    Failed {
        /// In which tunnel, if there is one already.
        tunnel: Option<TunnelName>,
        /// Which connection, if that is known.
        connection: Option<String>,
        /// Where the peer is.
        remote: SocketAddr,
        /// A sentence.
        problem: String,
    },
    /// A peer was sent to another gateway, or has sent us (RFC 5685).
    Redirected {
        /// Which tunnel.
        tunnel: TunnelName,
        /// Where to: an address or a name.
        gateway: String,
        /// Whether we have sent the peer.
        by_us: bool,
    },
    /// The peer is reached at another address or port.
    PathChanged {
        /// Which tunnel.
        tunnel: TunnelName,
        /// Before.
        from: Path,
        /// Now.
        to: Path,
    },
}

/// Why a tunnel is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DownReason {
    /// We were told to.
    Command,
    /// The peer deleted it.
    Peer,
    /// The peer does not answer (RFC 7296 section 2.4).
    Unreachable,
    /// The same peer has set up another one (RFC 7296 section 2.4, INITIAL_CONTACT, or `unique`).
    Replaced,
    /// Its lifetime is over and it was not renewed.
    Expired,
    /// Its connection is no longer configured.
    Reconfigured,
    /// It is on another gateway now.
    Moved,
    /// It did not get as far as standing.
    Failed,
    /// It goes on at another gateway (RFC 5685).
    Redirected,
    /// The peer has lost it, and proved so (RFC 6290).
    Crashed,
    /// Its user's session has lasted as long as it may.
    SessionTimeout,
    /// Its user's session was without traffic for too long.
    Idle,
}
