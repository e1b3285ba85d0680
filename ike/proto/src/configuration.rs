//! What the operator wants: connections, their children, pools and limits, already validated.
//!
//! Options mean what those of the same name in strongSwan's swanctl.conf mean; docs/SWANCTL.md has the table.

mod moving;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

pub use self::moving::{AllowedGateway, Maintenance, Moving};
use crate::identity::Identity;
use crate::pool::Slicing;
use crate::proposal::{EspProposal, IkeProposal};
use crate::selector::ConfiguredSelector;

/// All of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Configuration {
    /// In the order of the file, which decides among equal matches.
    pub connections: Vec<Arc<Connection>>,
    /// By name.
    pub pools: Vec<Arc<Pool>>,
    /// How they are shared among gateways.
    pub slicing: Slicing,
    /// Bounds on what strangers can cause.
    pub limits: Limits,
    /// How requests are sent again.
    pub retransmission: Retransmission,
    /// What we do for gateways that ask us to solve puzzles.
    pub puzzles: PuzzleEffort,
    /// Whether new peers are sent to another gateway.
    pub maintenance: Maintenance,
    /// Whether we give peers a token by which they know that we have lost an IKE SA (RFC 6290). Theirs are always taken.
    pub crash_detection: bool,
}

/// Bounds on what strangers can cause (RFC 7296 section 2.6, RFC 8019 section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// IKE SAs in all.
    pub max_ike_sas: usize,
    /// IKE SAs of which the peer is not authenticated, in all.
    pub half_open: usize,
    /// The same from one source (an IPv4 address, an IPv6 /64).
    pub half_open_per_source: usize,
    /// Half-open IKE SAs from which on a cookie is asked for; 0 asks always.
    pub cookie_threshold: usize,
    /// Half-open IKE SAs of initiators with a cookie from which on a puzzle is asked for (RFC 8019); 0 asks always, more
    /// than `half_open` never.
    pub puzzle_threshold: usize,
    /// Zero bits of the easiest puzzle; 0 leaves it to the initiator.
    pub puzzle_difficulty: u8,
    /// IKE_SA_INIT requests per second that are worked on, from one source; 0 is no bound.
    pub init_per_source: u32,
    /// How long an IKE SA may stay half-open.
    pub half_open_timeout: Duration,
    /// Child SAs of one IKE SA.
    pub max_children: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_ike_sas: 1_000_000,
            half_open: 10_000,
            half_open_per_source: 50,
            cookie_threshold: 100,
            puzzle_threshold: 5_000,
            puzzle_difficulty: 16,
            init_per_source: 100,
            half_open_timeout: Duration::from_secs(30),
            max_children: 16,
        }
    }
}

/// What an initiator does for a gateway that asks it to solve a puzzle (RFC 8019 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PuzzleEffort {
    /// Zero bits of the hardest puzzle that is tried; 0 tries none.
    pub most: u8,
    /// How long one is tried.
    pub time: Duration,
}

impl Default for PuzzleEffort {
    fn default() -> Self {
        Self { most: 20, time: Duration::from_secs(10) }
    }
}

/// Request `n` (from 0) is sent again after `first * base^n`, at most `limit`; after `tries` repetitions the peer is
/// taken for dead (RFC 7296 section 2.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Retransmission {
    /// Wait before the first repetition.
    pub first: Duration,
    /// Factor of the back-off.
    pub base: f64,
    /// Repetitions.
    pub tries: u32,
    /// The longest wait.
    pub limit: Duration,
}

impl Default for Retransmission {
    fn default() -> Self {
        Self { first: Duration::from_secs(4), base: 1.8, tries: 5, limit: Duration::from_mins(1) }
    }
}

/// A peer, or a class of peers, and how to speak with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// 1 to [`crate::host::TunnelName::MAX_CONNECTION`] of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// Our addresses; empty is any.
    pub local_addresses: Vec<IpAddr>,
    /// Where peers may be; empty is anywhere. Single addresses are where to initiate to, in their order. A name is
    /// [`AddressMatch::NOWHERE`] until the host knows what it stands for.
    pub remote_addresses: Vec<AddressMatch>,
    /// Our port, 500 if not said otherwise.
    pub local_port: u16,
    /// The peer's port to initiate to.
    pub remote_port: u16,
    /// By preference.
    pub ike_proposals: Vec<IkeProposal>,
    /// How we prove ourselves.
    pub local: LocalAuthentication,
    /// How the peer does.
    pub remote: RemoteAuthentication,
    /// At least one.
    pub children: Vec<Arc<Child>>,
    /// Names of pools for peers that ask for inner addresses.
    pub pools: Vec<String>,
    /// Inner addresses that we ask the peer for; unspecified ones leave the choice to it.
    pub virtual_addresses: Vec<IpAddr>,
    /// Fragmentation of messages (RFC 7383).
    pub fragmentation: Fragmentation,
    /// Size of an IP datagram with a fragment, for IPv4 and IPv6.
    pub fragment_size: u16,
    /// UDP encapsulation although there is no NAT.
    pub force_encapsulation: bool,
    /// Whether certificates are sent.
    pub send_certificate: SendCertificate,
    /// Whether certificate requests are sent.
    pub send_certificate_request: bool,
    /// What happens to other tunnels of the same peer identity.
    pub unique: Unique,
    /// Liveness is checked after so much silence (RFC 7296 section 2.4); zero: never.
    pub dpd_delay: Duration,
    /// The IKE SA's keys are replaced after so long; zero: never.
    pub rekey_time: Duration,
    /// Spread of `rekey_time`, downwards.
    pub rand_time: Duration,
    /// After `rekey_time` and so much more the IKE SA ends if it was not rekeyed.
    pub over_time: Duration,
    /// Attempts to set up a connection, each at all addresses, before giving up; 0 is for ever.
    pub keying_tries: u32,
    /// Whether nothing may leave in clear to where a tunnel has led that ended unasked (I7).
    pub fails_closed: bool,
    /// How the tunnel may move to other addresses (RFC 4555); `None` if it may not.
    pub mobike: Option<Mobike>,
    /// Requests that the peer may have outstanding with us (RFC 7296 section 2.3), 1..=32.
    pub window: u32,
    /// Postquantum preshared keys.
    pub ppk: PostquantumKey,
    /// IKE SAs that begin without a Child SA.
    pub childless: Childless,
    /// Other gateways in the place of one.
    pub moving: Moving,
}

/// The use of postquantum preshared keys (RFC 8784).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PostquantumKey {
    /// Of the key that we initiate with; `None` initiates without one. As responder the peer's choice is looked up.
    pub identity: Option<Identity>,
    /// Whether an IKE SA without one is refused.
    pub is_required: bool,
}

/// IKE SAs that begin without a Child SA (RFC 6023).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Childless {
    /// Peers may begin so; we do not.
    #[default]
    Allow,
    /// We do with peers that can.
    Prefer,
    /// Both sides have to.
    Force,
    /// Nobody does.
    Never,
}

impl Connection {
    /// Where to initiate to, in this order.
    pub fn peers(&self) -> impl Iterator<Item = IpAddr> {
        let single = self.remote_addresses.iter().filter(|set| set.first == set.last && !set.is_nowhere());
        single.map(|set| set.first)
    }
}

/// A set of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressMatch {
    /// The lowest.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
}

impl AddressMatch {
    /// Nobody's: stands for a name of which the addresses are not known.
    pub const NOWHERE: Self =
        Self { first: IpAddr::V4(Ipv4Addr::UNSPECIFIED), last: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };

    /// One address.
    pub fn single(address: IpAddr) -> Self {
        Self { first: address, last: address }
    }

    /// Whether it is [`Self::NOWHERE`].
    pub fn is_nowhere(&self) -> bool {
        *self == Self::NOWHERE
    }

    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

/// How we prove ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAuthentication {
    /// By what.
    pub method: LocalMethod,
    /// As whom; [`Identity::Any`] takes the certificate's subject, or our address.
    pub identity: Identity,
}

/// By what we prove ourselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalMethod {
    /// A shared secret.
    PreSharedKey,
    /// A certificate's key. File names below the certificate directory, in order of preference; if there is none, any
    /// that fits the identity.
    Signature(Vec<String>),
    /// EAP: as an initiator we are a user. As a responder we prove ourselves by the method alone (RFC 5998).
    Eap(EapUser),
}

impl LocalMethod {
    /// The names of certificates that serve us.
    pub fn certificates(&self) -> &[String] {
        match self {
            Self::PreSharedKey => &[],
            Self::Signature(certificates) => certificates,
            Self::Eap(user) => &user.certificates,
        }
    }
}

/// A method of EAP (RFC 3748).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EapMethod {
    /// A password (draft-kamath-pppext-eap-mschapv2).
    MsChapV2,
    /// Certificates at both ends (RFC 5216, RFC 9190).
    Tls,
}

impl EapMethod {
    /// Whether it proves both ends, so well that it may stand alone (RFC 5998 section 4).
    pub fn stands_alone(self) -> bool {
        match self {
            Self::MsChapV2 => false,
            Self::Tls => true,
        }
    }
}

/// We as a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EapUser {
    /// By which method.
    pub method: EapMethod,
    /// As whom; `None` is as in IKE.
    pub identity: Option<Identity>,
    /// Names of certificates for it; empty is any that fits.
    pub certificates: Vec<String>,
    /// For whom the server's certificate has to be; `None` is who the peer is in IKE.
    pub server: Option<Identity>,
}

/// How the peer proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteAuthentication {
    /// By what.
    pub method: RemoteMethod,
    /// As whom: a pattern.
    pub identity: Identity,
    /// Names of the authorities that may have signed its certificate; empty is all of them.
    pub authorities: Vec<String>,
    /// File names of the only certificates that are accepted; empty is any that an authority has signed.
    pub certificates: Vec<String>,
    /// What is made of certificate revocation lists.
    pub revocation: Revocation,
    /// Who it is to be in EAP: a pattern is asked for, `None` is as in IKE.
    pub eap_identity: Option<Identity>,
}

/// By what the peer proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteMethod {
    /// A shared secret.
    PreSharedKey,
    /// A certificate's key.
    Signature,
    /// EAP: it is a user. As a responder it proves itself by the method alone (RFC 5998).
    Eap(EapMethod),
    /// EAP by whatever method an authenticator elsewhere wants, to which all of it is passed (RFC 3579).
    Radius,
}

impl RemoteMethod {
    /// Whether the peer is a user.
    pub fn is_eap(self) -> bool {
        matches!(self, Self::Eap(_) | Self::Radius)
    }

    /// The method by a word, as tickets have it: a peer that proved itself otherwise than it has to now is to do so
    /// again.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::PreSharedKey => "psk",
            Self::Signature => "pubkey",
            Self::Eap(EapMethod::MsChapV2) => "eap-mschapv2",
            Self::Eap(EapMethod::Tls) => "eap-tls",
            Self::Radius => "eap-radius",
        }
    }
}

/// What is made of certificate revocation lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Revocation {
    /// A fresh list must say that it is not revoked.
    Strict,
    /// Only a list that says that it is revoked refuses it.
    #[default]
    Relaxed,
}

/// How a tunnel may move to other addresses (RFC 4555).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mobike {
    /// When a peer that has moved has to show that it receives at its new address.
    pub check: Routability,
    /// Whether there may be NATs on the way; otherwise the peer refuses them for us (RFC 4555 section 3.9).
    pub nats: bool,
}

impl Default for Mobike {
    fn default() -> Self {
        Self { check: Routability::Before, nats: true }
    }
}

/// When a peer that has moved has to show that it receives at its new address (RFC 4555 section 3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routability {
    /// Before anything of the tunnel goes there.
    #[default]
    Before,
    /// While the tunnel goes there already: for peers that are trusted not to name others' addresses.
    After,
}

/// RFC 7383.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fragmentation {
    /// Large messages are sent in fragments to peers that support it.
    #[default]
    Yes,
    /// Fragments are accepted, not sent.
    Accept,
    /// Everything that can be is sent in fragments, even if small (for tests of paths).
    Force,
    /// Not announced.
    No,
}

/// When certificates are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendCertificate {
    /// Always.
    Always,
    /// If the peer asked for them.
    #[default]
    IfAsked,
    /// Never.
    Never,
}

/// What happens to other tunnels of the same connection and peer identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unique {
    /// They end if the peer says that this is its first contact.
    #[default]
    No,
    /// They stay, whatever the peer says.
    Never,
    /// They end.
    Replace,
    /// The new one is refused.
    Keep,
}

/// A Child SA to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its name, unique in its connection.
    pub name: String,
    /// By preference. A group in the first round (IKE_AUTH) means nothing; later it is PFS.
    pub esp_proposals: Vec<EspProposal>,
    /// Our side; empty means [`ConfiguredSelector`]'s `dynamic`.
    pub local: Vec<ConfiguredSelector>,
    /// The peer's side; as `local`.
    pub remote: Vec<ConfiguredSelector>,
    /// What it carries.
    pub mode: Mode,
    /// Keys are replaced after so long; zero: never.
    pub rekey_time: Duration,
    /// The SA ends after so long; zero: never.
    pub life_time: Duration,
    /// Spread of `rekey_time`, downwards.
    pub rand_time: Duration,
    /// Octets after which keys are replaced; 0: never.
    pub rekey_bytes: u64,
    /// Octets after which the SA ends; 0: never.
    pub life_bytes: u64,
    /// Packets after which keys are replaced; 0: never.
    pub rekey_packets: u64,
    /// Packets after which the SA ends; 0: never.
    pub life_packets: u64,
    /// What happens when the configuration is loaded.
    pub start_action: StartAction,
    /// What happens when the peer deletes it.
    pub close_action: EndAction,
    /// What happens when the peer does not answer.
    pub dpd_action: EndAction,
    /// Replay window in packets, a multiple of 64.
    pub replay_window: u16,
    /// Priority of its policy; `None` is the default.
    pub priority: Option<u32>,
    /// What else the data plane is to do with its packets.
    pub handling: Handling,
}

/// What the data plane is to do with the packets of a Child SA; passed on as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handling {
    /// The DF bit of outer headers: copied, or clear.
    pub copy_df: bool,
    /// The DSCP of outer headers: copied, or 0.
    pub copy_dscp: bool,
    /// TCP's MSS is lowered to what fits.
    pub clamp_mss: bool,
    /// Payloads are padded to so many octets; 0 is not, `u16::MAX` as far as the path MTU goes.
    pub tfc_padding: u16,
    /// Path MTU in octets; 0 is the interface's.
    pub path_mtu: u16,
}

impl Default for Handling {
    fn default() -> Self {
        Self { copy_df: true, copy_dscp: true, clamp_mss: true, tfc_padding: 0, path_mtu: 0 }
    }
}

/// What an SA carries (RFC 4301 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Whole IP packets.
    #[default]
    Tunnel,
    /// Their payloads, between the ends.
    Transport,
}

/// What happens when the configuration is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartAction {
    /// Nothing.
    #[default]
    None,
    /// Traffic sets it up.
    Trap,
    /// It is set up.
    Start,
    /// It is set up, and traffic does if it ends.
    TrapStart,
}

/// What happens when it ends unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndAction {
    /// Nothing.
    #[default]
    None,
    /// Traffic sets it up again.
    Trap,
    /// It is set up again.
    Start,
}

/// Inner addresses for peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// The lowest address to give.
    pub first: IpAddr,
    /// The highest.
    pub last: IpAddr,
    /// DNS servers to tell.
    pub dns: Vec<IpAddr>,
    /// Networks behind us to tell, as address and prefix length (INTERNAL_IP4_SUBNET, INTERNAL_IP6_SUBNET).
    pub subnets: Vec<(IpAddr, u8)>,
    /// For how long an address is kept for a peer that is gone.
    pub lease_time: Duration,
}
