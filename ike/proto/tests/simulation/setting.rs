//! Who there is and how they are configured.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use baton_ike_proto::auth::{Credentials, CredentialsBuilder};
use baton_ike_proto::configuration::{
    AddressMatch, AllowedGateway, Child, Childless, Configuration, Connection, EapMethod, EapUser, EndAction,
    Fragmentation, Handling, LocalAuthentication, LocalMethod, Maintenance, Mobike, Mode, Moving, Pool,
    PostquantumKey, RemoteAuthentication, RemoteMethod, Retransmission, Revocation, Routability,
    SendCertificate, StartAction, Unique,
};
use baton_ike_proto::identity::Identity;
use baton_ike_proto::proposal::{EspProposal, IkeProposal};
use baton_ike_proto::selector::ConfiguredSelector;
use baton_ike_proto::wire::GatewayIdentity;

use crate::random::Random;

/// What is the same for all nodes of a run.
#[expect(clippy::struct_excessive_bools, reason = "each is chosen by itself")]
#[derive(Debug, Clone)]
pub struct Setting {
    pub nodes: usize,
    /// Which ones a NAT stands in front of.
    pub behind_nat: Vec<bool>,
    /// Child SAs of each connection.
    pub children: usize,
    pub ike_proposals: &'static str,
    /// What some initiators offer; its first group is not the responder's.
    pub first_proposals: &'static str,
    pub esp_proposals: &'static str,
    pub fragmentation: Fragmentation,
    pub fragment_size: u16,
    pub window: u32,
    pub ike_rekey: Duration,
    pub child_rekey: Duration,
    pub dpd_action: EndAction,
    pub unique: Unique,
    pub cookie_threshold: usize,
    /// Node 0 gives the others inner addresses.
    pub gives_addresses: bool,
    /// Tunnels may move (RFC 4555).
    pub mobike: Option<Mobike>,
    pub ppk: (bool, bool),
    pub childless: Childless,
    /// Tunnels that were lost are resumed (RFC 5723).
    pub resumption: bool,
    /// Whether the others are users of node 0, by EAP, and initiate.
    pub users: Users,
    /// Zero bits of puzzles that are asked of everybody (RFC 8019), if they are.
    pub puzzle: Option<u8>,
    /// Nodes go where others send them (RFC 5685): any of them takes any other's place.
    pub follows: bool,
    /// Where a node sends its peers before they say who they are, and where when they have.
    pub sends: Vec<(Option<usize>, Option<usize>)>,
    /// Nodes give tokens by which their crashes are known (RFC 6290).
    pub crash_detection: bool,
    /// After a failover the ends agree about Message IDs, and about sequence numbers (RFC 6311).
    pub synchronizes: (bool, bool),
    /// Each node has a standby, which takes its place.
    pub standbys: bool,
    /// A peer that is silent for so long is asked whether it lives.
    pub dpd_delay: Duration,
    pub retransmission: Retransmission,
}

/// Who the others are to node 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Users {
    None,
    JudgedHere,
    JudgedElsewhere,
}

impl Setting {
    pub fn random(random: &mut Random) -> Self {
        let nodes = 2 + random.below(4) as usize;
        let half = |random: &mut Random| random.per_mille(500);
        let (ike_proposals, first_proposals) = *random.pick(&PROPOSALS).expect("some");
        let some_time =
            |random: &mut Random| Duration::from_secs(if half(random) { 0 } else { 40 + random.below(100) });
        Self {
            nodes,
            behind_nat: (0..nodes).map(|node| node > 0 && random.per_mille(300)).collect(),
            children: 1 + random.below(3) as usize,
            ike_proposals,
            first_proposals,
            esp_proposals: random.pick(&ESP).expect("some"),
            fragmentation: if half(random) { Fragmentation::Yes } else { Fragmentation::Force },
            fragment_size: if half(random) { 1280 } else { 250 },
            window: 1 + random.below(4) as u32,
            ike_rekey: some_time(random),
            child_rekey: some_time(random),
            dpd_action: if random.per_mille(250) { EndAction::Start } else { EndAction::None },
            unique: if random.per_mille(250) { Unique::Replace } else { Unique::No },
            cookie_threshold: if random.per_mille(250) { 0 } else { 100 },
            gives_addresses: random.per_mille(300),
            mobike: half(random).then(|| Mobike {
                check: if half(random) { Routability::Before } else { Routability::After },
                nats: true,
            }),
            ppk: *random.pick(&PPK).expect("some"),
            childless: *random.pick(&[Childless::Allow, Childless::Prefer, Childless::Force]).expect("some"),
            resumption: half(random),
            users: match random.per_mille(200) {
                true if random.aside().per_mille(500) => Users::JudgedElsewhere,
                true => Users::JudgedHere,
                false => Users::None,
            },
            puzzle: random.per_mille(250).then_some(8),
            follows: half(random),
            sends: (0..nodes).map(|_| (somewhere(random, nodes), somewhere(random, nodes))).collect(),
            crash_detection: half(random),
            synchronizes: *random.pick(&SYNCHRONIZES).expect("some"),
            standbys: random.aside().per_mille(500),
            dpd_delay: DPD_DELAY,
            retransmission: RETRANSMISSION,
        }
    }

    /// Two nodes that know each other, with nothing special.
    pub fn plain() -> Self {
        Self {
            nodes: 2,
            behind_nat: vec![false, false],
            children: 1,
            ike_proposals: PROPOSALS[3].0,
            first_proposals: PROPOSALS[3].1,
            esp_proposals: ESP[0],
            fragmentation: Fragmentation::Yes,
            fragment_size: 1280,
            window: 1,
            ike_rekey: Duration::ZERO,
            child_rekey: Duration::ZERO,
            dpd_action: EndAction::None,
            unique: Unique::No,
            cookie_threshold: 100,
            gives_addresses: false,
            mobike: None,
            ppk: (false, false),
            childless: Childless::Allow,
            resumption: false,
            users: Users::None,
            puzzle: None,
            follows: false,
            sends: vec![(None, None); 5],
            crash_detection: false,
            synchronizes: (true, true),
            standbys: false,
            dpd_delay: DPD_DELAY,
            retransmission: RETRANSMISSION,
        }
    }

    /// Whether a run is the same each time, octet for octet: AWS-LC draws keys of ML-KEM by itself.
    pub fn is_repeatable(&self) -> bool {
        [self.ike_proposals, self.first_proposals, self.esp_proposals]
            .iter()
            .all(|text| !text.contains("mlkem"))
    }

    /// Whether a node may send any of its peers to another one: who is behind a NAT would not know itself.
    fn may_be_sent_to(&self, to: usize, by: usize) -> bool {
        to != by && !self.behind_nat[to]
    }

    /// The node's own address.
    pub fn address(&self, node: usize) -> IpAddr {
        if self.behind_nat[node] { [192, 168, node as u8, 1].into() } else { seen(node) }
    }

    pub fn configuration(&self, node: usize) -> Configuration {
        let others = (0..self.nodes).filter(|other| *other != node);
        let mut configuration = Configuration {
            connections: others.map(|other| Arc::new(self.connection(node, other))).collect(),
            retransmission: self.retransmission.clone(),
            ..Configuration::default()
        };
        configuration.pools.extend(self.gives_addresses.then(|| Arc::new(pool())));
        configuration.limits.cookie_threshold = self.cookie_threshold;
        if let Some(difficulty) = self.puzzle {
            configuration.limits.puzzle_threshold = 0;
            configuration.limits.puzzle_difficulty = difficulty;
        }
        configuration.crash_detection = self.crash_detection;
        let redirect_to = self.sends[node].0.filter(|to| self.may_be_sent_to(*to, node)).map(gateway);
        configuration.maintenance = Maintenance { redirect_to, redirect_above: 2 };
        configuration
    }

    pub fn connection(&self, node: usize, other: usize) -> Connection {
        let proposals = if node < other { self.first_proposals } else { self.ike_proposals };
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let anywhere = self.behind_nat[other];
        let seen = AddressMatch { first: seen(other), last: seen(other) };
        Connection {
            name: connection_name(other),
            local_addresses: if self.mobike.is_some() { vec![] } else { vec![self.address(node)] },
            remote_addresses: match self.mobike {
                _ if anywhere => vec![],
                Some(_) => vec![seen, PLACES],
                None => vec![seen],
            },
            local_port: 500,
            remote_port: 500,
            ike_proposals: IkeProposal::parse_list(proposals).expect("proposals"),
            local: LocalAuthentication {
                method: if self.users != Users::None && other == 0 {
                    user()
                } else {
                    LocalMethod::PreSharedKey
                },
                identity: identity(node),
            },
            remote: RemoteAuthentication {
                method: self.remote_method(node),
                identity: if self.follows { Identity::Any } else { identity(other) },
                authorities: vec![],
                certificates: vec![],
                revocation: Revocation::default(),
                eap_identity: (self.users != Users::None && node == 0 && other % 2 == 1)
                    .then_some(Identity::Any),
            },
            children: (0..self.children).map(|child| Arc::new(self.child(node, other, child))).collect(),
            pools: if self.gives_addresses && node == 0 { vec![pool().name] } else { vec![] },
            virtual_addresses: if self.gives_addresses && other == 0 { vec![any] } else { vec![] },
            fragmentation: self.fragmentation,
            fragment_size: self.fragment_size,
            force_encapsulation: false,
            send_certificate: SendCertificate::default(),
            send_certificate_request: true,
            unique: self.unique,
            dpd_delay: self.dpd_delay,
            rekey_time: self.ike_rekey,
            rand_time: Duration::from_secs(10),
            over_time: Duration::from_mins(2),
            keying_tries: 3,
            ppk: PostquantumKey {
                identity: self.ppk.0.then(|| Identity::Fqdn("key.example".to_owned())),
                is_required: self.ppk.1,
            },
            childless: self.childless,
            mobike: self.mobike,
            window: self.window,
            fails_closed: true,
            moving: Moving {
                session_resumption: self.resumption,
                ticket_lifetime: Duration::from_mins(4),
                redirect_to: self.sends[node]
                    .1
                    .filter(|to| *to != other && self.may_be_sent_to(*to, node))
                    .map(gateway),
                redirect_timeout: Duration::from_secs(20),
                follow_redirects: if self.follows { vec![ANY_OF_THEM] } else { vec![] },
                message_id_sync: self.synchronizes.0,
                replay_counter_sync: self.synchronizes.1,
                ..Moving::default()
            },
        }
    }

    fn remote_method(&self, node: usize) -> RemoteMethod {
        match self.users {
            Users::JudgedHere if node == 0 => USER,
            Users::JudgedElsewhere if node == 0 => RemoteMethod::Radius,
            _ => RemoteMethod::PreSharedKey,
        }
    }

    fn child(&self, node: usize, other: usize, child: usize) -> Child {
        let has_inner = |node, other| self.gives_addresses && node != 0 && other == 0;
        // Behind gateways that take each other's place are the same networks.
        let of = |node| if self.follows { 100 } else { node };
        let outside = |node| format!("10.{}.{child}.0/24", of(node)).parse().expect("a network");
        let network = |node, other| {
            if has_inner(node, other) { ConfiguredSelector::DYNAMIC } else { outside(node) }
        };
        Child {
            name: child_name(child),
            esp_proposals: EspProposal::parse_list(self.esp_proposals).expect("proposals"),
            local: vec![network(node, other)],
            remote: vec![network(other, node)],
            mode: Mode::Tunnel,
            rekey_time: self.child_rekey,
            life_time: self.child_rekey * 4,
            rand_time: Duration::from_secs(10),
            rekey_bytes: 0,
            life_bytes: 0,
            rekey_packets: 0,
            life_packets: 0,
            start_action: StartAction::None,
            close_action: EndAction::None,
            dpd_action: self.dpd_action,
            replay_window: 64,
            priority: None,
            handling: Handling::default(),
        }
    }

    pub fn credentials() -> Credentials {
        let mut builder = CredentialsBuilder::default();
        let secret = b"a secret that all nodes share".to_vec().into();
        builder.add_shared_secret("secret", vec![], secret).expect("a secret");
        let (users, password) = (Identity::Fqdn("*.example".to_owned()), b"a password of all users");
        builder.add_password("password", vec![users], password.to_vec().into()).expect("a password");
        let key = b"a postquantum preshared key".to_vec().into();
        builder.add_postquantum_key("key", vec![], key).expect("a key");
        builder.add_ticket_key("tickets", b"a key of all nodes' tickets").expect("a key");
        builder.build()
    }
}

const DPD_DELAY: Duration = Duration::from_mins(1);
const RETRANSMISSION: Retransmission =
    Retransmission { first: Duration::from_millis(500), base: 1.6, tries: 8, limit: Duration::from_secs(20) };
const HYBRID: &str = "aes128gcm16-prfsha256-x25519-ke1_mlkem768";
const PROPOSALS: [(&str, &str); 6] = [
    (HYBRID, HYBRID),
    (HYBRID, "aes128gcm16-prfsha256-ecp256-x25519-ke1_mlkem768-ke1_none"),
    (
        "aes128gcm16-prfsha256-x25519-ke1_ecp256-ke3_ecp384",
        "aes128gcm16-prfsha256-x25519-ke1_ecp384-ke1_ecp256-ke2_none-ke3_ecp384",
    ),
    ("aes128gcm16-prfsha256-x25519", "aes128gcm16-prfsha256-x25519"),
    ("aes128gcm16-prfsha256-x25519", "aes128gcm16-prfsha256-ecp256-x25519"),
    ("aes128-sha256-x25519", "aes128-sha256-ecp256-x25519"),
];
const ESP: [&str; 5] = [
    "aes128gcm16",
    "aes128gcm16-x25519",
    "aes128-sha256-x25519-ecp256,aes128gcm16-x25519",
    "aes128gcm16-x25519-ke1_mlkem768",
    "aes128gcm16-x25519-ke2_ecp256-ke3_ecp384",
];
/// Postquantum preshared keys: whether the initiator names one, and whether both require one.
const PPK: [(bool, bool); 4] = [(false, false), (false, false), (true, false), (true, true)];

/// Whether Message IDs, and whether sequence numbers, are agreed upon after a failover.
pub const SYNCHRONIZES: [(bool, bool); 4] = [(true, true), (true, true), (true, false), (false, true)];

/// One node in ten sends its peers to another one.
fn somewhere(random: &mut Random, nodes: usize) -> Option<usize> {
    random.per_mille(100).then(|| random.below(nodes as u64) as usize)
}

fn gateway(node: usize) -> GatewayIdentity {
    GatewayIdentity::Address(seen(node))
}

pub fn connection_name(other: usize) -> String {
    format!("to-{other}")
}

pub fn child_name(child: usize) -> String {
    format!("net-{child}")
}

pub fn identity(node: usize) -> Identity {
    Identity::Fqdn(format!("node-{node}.example"))
}

/// How users prove themselves.
const USER: RemoteMethod = RemoteMethod::Eap(EapMethod::MsChapV2);

fn user() -> LocalMethod {
    let method = EapMethod::MsChapV2;
    LocalMethod::Eap(EapUser { method, identity: None, certificates: vec![], server: None })
}

fn pool() -> Pool {
    let last = Ipv4Addr::new(10, 200, 0, 250).into();
    let lease_time = Duration::from_mins(1);
    let name = "inner".to_owned();
    Pool { name, first: Ipv4Addr::new(10, 200, 0, 1).into(), last, dns: vec![], subnets: vec![], lease_time }
}

/// The address at which others see a node.
pub fn seen(node: usize) -> IpAddr {
    [192, 0, 2, 10 + node as u8].into()
}

/// Where nodes may be sent, and one place where nobody is.
const ANY_OF_THEM: AllowedGateway = AllowedGateway {
    name: None,
    addresses: AddressMatch {
        first: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)),
        last: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 15)),
    },
};

/// Where nodes roam.
const PLACES: AddressMatch = AddressMatch {
    first: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 0)),
    last: IpAddr::V4(Ipv4Addr::new(203, 0, 113, 255)),
};

/// One of the places of a node.
pub fn place(node: usize, at: u8) -> IpAddr {
    [203, 0, 113, 16 * (1 + node as u8) + at].into()
}

/// An address that is nobody's.
pub fn stranger(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0x6440_0000 | number & 0x3f_ffff).into()
}
