//! What the IKE daemon's configuration says.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use baton_dataplane::config as gateway;
use baton_ike_proto::configuration::Configuration;
use baton_ike_proto::identity::Identity;
use zeroize::Zeroizing;

/// A validated configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the data plane reads in the same file: node, directories, addresses, segments, capacity, policies.
    pub gateway: gateway::Config,
    /// `[ike]`, apart from its limits and retransmission, which `protocol` has.
    pub daemon: Daemon,
    /// `[connections]` and `[pools]`.
    pub protocol: Arc<Configuration>,
    /// `[eap-radius]`.
    pub radius: Radius,
    /// By connections, names that stand in `protocol` as addresses that are nowhere, in their order.
    pub names: BTreeMap<String, Vec<String>>,
    /// `[secrets]` and `[authorities]`, and where the files are.
    pub credentials: CredentialSources,
}

/// `[ike]`: the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Daemon {
    /// Our addresses to listen at, at [`Self::PORT`] and [`Self::NAT_PORT`]; never empty.
    pub listen: Vec<IpAddr>,
    /// User to run as once the sockets are open, by name or number; `None` stays who started it.
    pub user: Option<String>,
    /// In a cluster: for how long a peer is not told of a change that no standby has yet.
    pub replication_wait: Option<Duration>,
}

impl Daemon {
    /// UDP port of messages without a non-ESP marker. The filter gives what comes for it to the owner of a segment, so
    /// there is no choice of it.
    pub const PORT: u16 = 500;
    /// UDP port of messages with a non-ESP marker (RFC 3948 section 2.2), and of ESP in UDP.
    pub const NAT_PORT: u16 = 4500;
}

/// Where credentials come from; `crate::credentials` reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialSources {
    /// With swanctl's directories below: x509, x509ca, x509crl, private, rsa, ecdsa, pkcs8.
    pub directory: PathBuf,
    /// Whether the configuration names the directory; otherwise it may be absent.
    pub directory_is_named: bool,
    /// Certificates that connections name: below x509, or absolute.
    pub certificates: Vec<String>,
    /// Authorities' certificates that connections or `[authorities]` name: below x509ca, or absolute.
    pub authorities: Vec<String>,
    /// Revocation lists that `[authorities]` name, beside those in x509crl.
    pub revocation_lists: Vec<PathBuf>,
    /// Whether our RSA keys sign by RSASSA-PSS.
    pub rsa_pss: bool,
    /// Shared secrets.
    pub secrets: Vec<SharedSecret>,
}

/// What a secret is for; its name begins with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretKind {
    /// To prove identities by.
    Ike,
    /// A postquantum preshared key (RFC 8784), which goes by its owners' identities.
    Ppk,
    /// A password of users, for EAP.
    Eap,
    /// What tickets of session resumption are sealed under (RFC 5723).
    Ticket,
    /// Shared with RADIUS servers, which name it.
    Radius,
}

/// `[eap-radius]`: who judges users elsewhere, and keeps account of them.
#[derive(Clone, Debug, PartialEq)]
pub struct Radius {
    /// The servers, by their names.
    pub servers: Vec<RadiusServer>,
    /// What we call ourselves.
    pub nas_identifier: String,
    /// Whether sessions are accounted for.
    pub accounting: bool,
    /// How often, if the server does not say; zero: at their beginning and end alone.
    pub accounting_interval: Duration,
    /// Whether outer addresses are told with their ports.
    pub station_id_with_port: bool,
    /// Wait before a question is repeated.
    pub retransmit_timeout: Duration,
    /// Factor by which waits grow.
    pub retransmit_base: f64,
    /// Repetitions before the next server is asked.
    pub retransmit_tries: u32,
    /// For how long a server that did not answer is passed over.
    pub dead_time: Duration,
    /// Whether, and where, servers may ask us to end or change sessions.
    pub dae: Option<Dae>,
}

impl Default for Radius {
    /// No servers, and strongSwan's patience.
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            nas_identifier: "baton".to_owned(),
            accounting: false,
            accounting_interval: Duration::ZERO,
            station_id_with_port: true,
            retransmit_timeout: Duration::from_secs(2),
            retransmit_base: 1.4,
            retransmit_tries: 4,
            dead_time: Duration::from_mins(1),
            dae: None,
        }
    }
}

/// `[eap-radius.servers.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RadiusServer {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub address: IpAddr,
    /// UDP port of questions.
    pub auth_port: u16,
    /// UDP port of records.
    pub acct_port: u16,
    /// The highest is asked first.
    pub preference: u32,
    /// Source ports.
    pub sockets: u16,
    /// The name of the secret.
    pub secret: String,
    /// What we call ourselves there, if it is something else.
    pub nas_identifier: Option<String>,
}

/// `[eap-radius.dae]`: dynamic authorization (RFC 5176).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dae {
    /// Our address and port.
    pub listen: SocketAddr,
    /// The name of the secret.
    pub secret: String,
    /// Who may ask; empty is the servers.
    pub clients: Vec<IpAddr>,
    /// Whether a request has to say when it was made.
    pub require_event_timestamp: bool,
}

/// `[secrets.NAME]`: a secret and whom it is shared by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedSecret {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: SecretKind,
    /// Whose it is; empty is everybody's.
    pub owners: Vec<Identity>,
    /// Where it is.
    pub source: SecretSource,
}

/// Where a secret is.
#[derive(Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration, which nobody else can read.
    Inline(Zeroizing<Vec<u8>>),
    /// In a private file.
    File(PathBuf),
}

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Inline(redacted)"),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}
