//! Both ends' configuration of a tunnel, and the host of a machine that runs in this process.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_ike_proto::auth::{Credentials, CredentialsBuilder};
use baton_ike_proto::configuration::{
    AddressMatch, Child, Childless, Configuration, Connection, EndAction, Fragmentation, Handling, Limits,
    LocalAuthentication, LocalMethod, Mode, Moving, PostquantumKey, RemoteAuthentication, RemoteMethod,
    Revocation, SendCertificate, StartAction, Unique,
};
use baton_ike_proto::crypto::WrapKey;
use baton_ike_proto::host::{Host, Now};
use baton_ike_proto::identity::Identity;
use baton_ike_proto::machine::Ike;
use zeroize::Zeroizing;

pub const IKE_PROPOSAL: &str = "aes128-sha256-x25519";
pub const ESP_PROPOSAL: &str = "aes128gcm16";
pub const SECRET: &str = "thirty-two octets of no meaning.";
/// Who the responder is.
pub const SERVER: &str = "server.bench.test";
/// Who may come.
pub const CLIENTS: &str = "*.clients.bench.test";
/// Behind the responder.
pub const SERVER_NETWORK: &str = "10.2.0.0/16";
/// Each client has one address of it.
pub const CLIENT_NETWORK: &str = "10.128.0.0/9";
/// The name of the connection at either end.
pub const CONNECTION: &str = "bench";

/// Who client `number` is.
pub fn client_name(number: u32) -> String {
    format!("c{number}.clients.bench.test")
}

/// The inner address of client `number`, which is below 2^23.
pub fn client_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 128, 0, 0).to_bits() | number)
}

/// A machine that answers.
pub fn server(address: Ipv4Addr) -> Ike {
    ike(connection(address, None, SERVER, CLIENTS, SERVER_NETWORK, CLIENT_NETWORK))
}

/// A machine that is client `number` of the server at `remote`.
pub fn client(number: u32, local: Ipv4Addr, remote: Ipv4Addr) -> Ike {
    let own = format!("{}/32", client_address(number));
    ike(connection(local, Some(remote), &client_name(number), SERVER, &own, SERVER_NETWORK))
}

fn ike(connection: Connection) -> Ike {
    let unlimited = Limits {
        half_open: 100_000,
        half_open_per_source: 100_000,
        cookie_threshold: 100_000,
        init_per_source: 0,
        ..Limits::default()
    };
    let configuration = Configuration {
        connections: vec![Arc::new(connection)],
        limits: unlimited,
        ..Configuration::default()
    };
    Ike::new(Arc::new(configuration), credentials(), Arc::new(WrapKey::new([7; 32])))
}

fn credentials() -> Arc<Credentials> {
    let mut builder = CredentialsBuilder::default();
    let secret = Zeroizing::new(SECRET.as_bytes().to_vec());
    builder.add_shared_secret("bench", Vec::new(), secret).expect("a secret");
    Arc::new(builder.build())
}

fn connection(
    local: Ipv4Addr,
    remote: Option<Ipv4Addr>,
    own_name: &str,
    other_name: &str,
    own_network: &str,
    other_network: &str,
) -> Connection {
    let single = |address: Ipv4Addr| AddressMatch { first: address.into(), last: address.into() };
    Connection {
        name: CONNECTION.to_owned(),
        local_addresses: vec![local.into()],
        remote_addresses: remote.into_iter().map(single).collect(),
        local_port: 500,
        remote_port: 500,
        ike_proposals: vec![IKE_PROPOSAL.parse().expect("a proposal")],
        local: LocalAuthentication {
            method: LocalMethod::PreSharedKey,
            identity: Identity::Fqdn(own_name.to_owned()),
        },
        remote: RemoteAuthentication {
            method: RemoteMethod::PreSharedKey,
            identity: Identity::Fqdn(other_name.to_owned()),
            authorities: Vec::new(),
            certificates: Vec::new(),
            revocation: Revocation::Relaxed,
            eap_identity: None,
        },
        children: vec![Arc::new(child(own_network, other_network))],
        pools: Vec::new(),
        virtual_addresses: Vec::new(),
        fragmentation: Fragmentation::Yes,
        fragment_size: 1280,
        force_encapsulation: false,
        send_certificate: SendCertificate::IfAsked,
        send_certificate_request: true,
        unique: Unique::Never,
        dpd_delay: Duration::ZERO,
        rekey_time: Duration::ZERO,
        rand_time: Duration::ZERO,
        over_time: Duration::ZERO,
        keying_tries: 1,
        ppk: PostquantumKey::default(),
        childless: Childless::Allow,
        mobike: None,
        window: 1,
        fails_closed: true,
        moving: Moving::default(),
    }
}

fn child(own_network: &str, other_network: &str) -> Child {
    Child {
        name: "net".to_owned(),
        esp_proposals: vec![ESP_PROPOSAL.parse().expect("a proposal")],
        local: vec![own_network.parse().expect("a selector")],
        remote: vec![other_network.parse().expect("a selector")],
        mode: Mode::Tunnel,
        rekey_time: Duration::ZERO,
        life_time: Duration::ZERO,
        rand_time: Duration::ZERO,
        rekey_bytes: 0,
        life_bytes: 0,
        rekey_packets: 0,
        life_packets: 0,
        start_action: StartAction::None,
        close_action: EndAction::None,
        dpd_action: EndAction::None,
        replay_window: 64,
        priority: None,
        handling: Handling::default(),
    }
}

/// A host that owns everything and has IVs without end.
pub struct BenchHost {
    random: u64,
    next_iv: u64,
    segment: u8,
    source: IpAddr,
}

impl BenchHost {
    /// Different seeds draw different keys. ESP SPIs have only 24 random bits below the segment: hosts that share an address
    /// do not share segments, else of 10,000 two would draw the same one.
    pub fn new(seed: u64, source: Ipv4Addr) -> Self {
        Self { random: seed, next_iv: seed << 32, segment: seed as u8, source: source.into() }
    }
}

impl Host for BenchHost {
    fn random(&mut self, octets: &mut [u8]) {
        for chunk in octets.chunks_mut(8) {
            self.random = self.random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
            let mixed = (self.random ^ (self.random >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            chunk.copy_from_slice(&mixed.to_be_bytes()[..chunk.len()]);
        }
    }

    fn explicit_iv(&mut self) -> Option<[u8; 8]> {
        self.next_iv += 1;
        Some(self.next_iv.to_be_bytes())
    }

    fn segment_of(&self, _peer: IpAddr) -> u8 {
        self.segment
    }

    fn owns(&self, _segment: u8) -> bool {
        true
    }

    fn source_for(&self, _peer: IpAddr) -> Option<IpAddr> {
        Some(self.source)
    }

    fn spi_is_taken(&self, _spi: u32) -> bool {
        false
    }
}

/// The time, for machines that run in this process.
pub fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { monotonic: unix, unix }
}
