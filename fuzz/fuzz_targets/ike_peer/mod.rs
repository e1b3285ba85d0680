//! A gateway without a network, and a peer that has its keys.
#![allow(dead_code, reason = "each target needs a part of it")]

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use baton_ike::config::Config;
use baton_ike_proto::auth::CredentialsBuilder;
use baton_ike_proto::crypto::{
    AdditionalMethods, Encryption, Group, IkeKeys, IkeSuite, KeyShare, Prf, Role, WrapKey,
};
use baton_ike_proto::machine::{Ike, RestoreError, Restoring};
use baton_ike_proto::wire::{
    self, Datagram, ExchangeType, Flags, Header, Payload, PayloadType, Proposal, ProtocolId, Transform,
    TransformType,
};
use baton_ike_proto::{Command, Event, Host, Now, Output, Path};

const SECRET: &[u8] = b"correct horse";
const CONFIGURATION: &str = r#"
node = { id = 1, cluster = "c" }
outer = { interface = "wan0", addresses = ["203.0.113.2"] }
inner = { interface = "lan0" }
[connections.roads]
local = { auth = "psk", id = "@gateway" }
remote = { auth = "psk" }
pools = ["four", "six"]
dpd_delay = "30s"
unique = "replace"
window = 4
proposals = "aes128gcm16-prfsha256-x25519"
[connections.roads.children.lan]
local_ts = ["10.2.0.0/16", "2001:db8:2::/48"]
[connections.site]
local = { auth = "psk", id = "@gateway" }
remote = { auth = "psk", id = "@site" }
proposals = "aes128gcm16-prfsha256-x25519"
[connections.site.children.net]
local_ts = "10.2.0.0/16"
remote_ts = "10.1.0.0/16"
close_action = "start"
dpd_action = "trap"
esp_proposals = "default, aes128gcm16-x25519-ke1_ecp256-ke2_mlkem512"
[connections.site.children.transport]
mode = "transport"
esp_proposals = "aes128-sha256-esn-noesn"
[connections.out]
remote_addrs = "198.51.100.2"
local = { auth = "psk", id = "@gateway" }
remote = { auth = "psk", id = "@hub" }
proposals = "aes128gcm16-prfsha256-x25519"
vips = ["0.0.0.0", "::"]
[connections.out.children.all]
remote_ts = ["0.0.0.0/0", "::/0"]
rekey_time = "5m"
close_action = "start"
dpd_action = "restart"
[connections.out.children.one]
remote_ts = "10.7.0.0/16[tcp/443]"
esp_proposals = "aes128gcm16-x25519"
[pools.four]
addrs = "10.99.0.0/24"
[pools.six]
addrs = "2001:db8:99::/64"
"#;

/// As RFC 7296 section 3.4 numbers it, and the transforms beside it.
const CURVE25519: u16 = 31;
const AES_GCM_16: u16 = 20;
const PRF_HMAC_SHA2_256: u16 = 5;

/// A host that is the same every time.
struct FixedHost(u64);

impl Host for FixedHost {
    fn random(&mut self, octets: &mut [u8]) {
        for octet in octets {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *octet = (self.0 >> 33) as u8;
        }
    }

    fn explicit_iv(&mut self) -> Option<[u8; 8]> {
        self.0 += 1;
        Some(self.0.to_be_bytes())
    }

    fn segment_of(&self, _: IpAddr) -> u8 {
        42
    }

    fn owns(&self, _: u8) -> bool {
        true
    }

    fn source_for(&self, _: IpAddr) -> Option<IpAddr> {
        Some(path_to(CLIENT).local.ip())
    }

    fn spi_is_taken(&self, _: u32) -> bool {
        false
    }
}

const CLIENT: &str = "198.51.100.1:500";
const HUB: &str = "198.51.100.2:500";

fn path_to(peer: &str) -> Path {
    let end = |address: &str| address.parse::<SocketAddr>().expect("an address");
    Path { local: end("203.0.113.2:500"), remote: end(peer), marked: false }
}

/// The gateway, its clock, and what came of it.
pub struct Gateway {
    ike: Ike,
    host: FixedHost,
    elapsed: Duration,
    /// From where the peer sends.
    path: Path,
    sent: Vec<Vec<u8>>,
    /// SAs that were to be installed.
    pub installs: usize,
    /// What is stored, by the tunnels' names.
    pub contexts: BTreeMap<String, Vec<u8>>,
    /// What happened.
    pub events: Vec<Event>,
}

impl Gateway {
    pub fn new() -> Self {
        let config = Config::parse_as(
            &(CONFIGURATION.to_owned() + "[secrets.ike]\nsecret = \"correct horse\"\n"),
            FilePath::new("baton.toml"),
            true,
        );
        let mut credentials = CredentialsBuilder::default();
        let secret = SECRET.to_vec().into();
        credentials.add_shared_secret("ike", Vec::new(), secret).expect("a secret");
        let wrap = Arc::new(WrapKey::new([7; 32]));
        let configuration = config.expect("a good configuration").protocol;
        let ike = Ike::new(configuration, Arc::new(credentials.build()), wrap);
        let (elapsed, host) = (Duration::from_secs(1), FixedHost(1));
        let (sent, events, contexts) = (Vec::new(), Vec::new(), BTreeMap::new());
        Self { ike, host, elapsed, path: path_to(CLIENT), sent, installs: 0, contexts, events }
    }

    fn now(&self) -> Now {
        Now { monotonic: self.elapsed, unix: Duration::from_secs(1_800_000_000) + self.elapsed }
    }

    pub fn receive(&mut self, datagram: &[u8]) {
        self.ike.handle_datagram(self.now(), self.path, datagram, &mut self.host);
        self.drain();
    }

    /// Goes on with what another gateway, or this one before, has stored.
    pub fn restore(&mut self, context: &[u8], how: Restoring) -> Result<(), RestoreError> {
        let restored = self.ike.restore(self.now(), context, how, &mut self.host);
        self.drain();
        restored.map(|_| ())
    }

    /// Takes back a ticket of a tunnel that was lost.
    pub fn restore_ticket(&mut self, kept: &[u8]) -> Result<Option<String>, RestoreError> {
        self.ike.restore_ticket(self.now(), kept)
    }

    /// Calls the hub; its first request.
    fn initiate(&mut self) -> Vec<u8> {
        self.path = path_to(HUB);
        let command = Command::Initiate { connection: "out".to_owned(), child: None };
        let initiated = self.ike.command(self.now(), command, &mut self.host);
        assert_eq!(initiated, Ok(2), "two children");
        self.drain();
        self.sent.pop().expect("a request")
    }

    /// Lets half a second to more than two minutes pass.
    pub fn wait(&mut self, how_long: u8) {
        let until = self.elapsed + Duration::from_millis(500) * u32::from(how_long);
        while let Some(due) = self.ike.next_timeout().filter(|due| *due <= until) {
            self.time_out(due);
        }
        self.elapsed = until;
    }

    /// The peer never says a word again.
    pub fn fall_silent(&mut self) {
        let mut timeouts = 0;
        while let Some(due) = self.ike.next_timeout() {
            self.time_out(due);
            timeouts += 1;
            assert!(timeouts < 10_000 && self.elapsed < Duration::from_hours(48), "it never ends");
            if self.tunnels() == 0 {
                return;
            }
        }
    }

    fn time_out(&mut self, due: Duration) {
        self.elapsed = self.elapsed.max(due);
        self.ike.handle_timeout(self.now(), &mut self.host);
        self.drain();
    }

    pub fn tunnels(&self) -> usize {
        self.ike.tunnels(self.now()).count()
    }

    fn drain(&mut self) {
        while let Some(output) = self.ike.poll() {
            match output {
                Output::Transmit { datagram, .. } => self.sent.push(datagram),
                Output::Install(_) => self.installs += 1,
                Output::Event(event) => self.events.push(event),
                Output::Store { tunnel, context, .. } => {
                    self.contexts.insert(tunnel.to_string(), context);
                }
                Output::Forget { tunnel, .. } => {
                    self.contexts.remove(tunnel.as_str());
                }
                _ => {}
            }
        }
    }
}

/// The other end of an IKE SA of which the first exchange is over.
pub struct Peer {
    role: Role,
    keys: IkeKeys,
    host: FixedHost,
    header: Header,
    /// Its own first message, which its proof covers, as it does the nonce of the gateway.
    message: Vec<u8>,
    other_nonce: Vec<u8>,
    next_request: u32,
    /// Whether it ever sent a right AUTH payload.
    pub has_proved: bool,
}

impl Peer {
    /// Calls the gateway.
    pub fn set_up(gateway: &mut Gateway) -> Self {
        let (host, share) = (FixedHost(2), share());
        let mut header = header(Role::Initiator, 1, 0);
        let message = wire::emit(&header, &offer(&share));
        gateway.receive(&message);
        let (answered, public, other_nonce) = read(&gateway.sent.pop().expect("an answer"));
        header.responder_spi = answered.responder_spi;
        let shared = share.agree(&public).expect("a good public value");
        let keys = IkeKeys::derive(suite(), NONCE, &other_nonce, &shared, 1, header.responder_spi);
        let role = Role::Initiator;
        Self { role, keys, host, header, message, other_nonce, next_request: 1, has_proved: false }
    }

    /// Is called by the gateway.
    pub fn answer(gateway: &mut Gateway) -> Self {
        let (host, share) = (FixedHost(2), share());
        let (asked, public, other_nonce) = read(&gateway.initiate());
        let header = header(Role::Responder, asked.initiator_spi, 2);
        let shared = share.agree(&public).expect("a good public value");
        let keys = IkeKeys::derive(suite(), &other_nonce, NONCE, &shared, asked.initiator_spi, 2);
        let message = wire::emit(&header, &offer(&share));
        gateway.receive(&message);
        let role = Role::Responder;
        Self { role, keys, host, header, message, other_nonce, next_request: 0, has_proved: false }
    }

    /// Seals a chain of payloads. `body` is the exchange, flags, the type of the first payload, and the chain: with bit
    /// 0 of the flags it is a response, with bit 1 its Message ID is the last one again; bits 4 to 7 are added to it.
    pub fn send(&mut self, gateway: &mut Gateway, body: &[u8], proved: bool) {
        let [exchange, flags, first, chain @ ..] = body else { return };
        let Ok(mut payloads) = wire::parse_chain(PayloadType(*first), chain) else { return };
        if proved {
            self.prove(&mut payloads);
        }
        let response = flags & 1 != 0;
        let message_id = self.message_id(*flags, response);
        let exchange = ExchangeType(*exchange);
        let flags = Flags { response, ..self.header.flags };
        let header = Header { exchange, flags, message_id, ..self.header };
        if let Ok(datagram) = self.keys.seal(self.role, &header, &payloads, &mut self.host) {
            gateway.receive(&datagram);
        }
    }

    fn message_id(&mut self, flags: u8, response: bool) -> u32 {
        let ahead = u32::from(flags >> 4);
        if response {
            return ahead;
        }
        let again = u32::from(flags & 2 != 0);
        let message_id = self.next_request.saturating_sub(again) + ahead;
        self.next_request = message_id + 1;
        message_id
    }

    /// Puts the right data into AUTH payloads, for the identity that the message claims.
    fn prove(&mut self, payloads: &mut [Payload]) {
        let id = payloads.iter().find_map(|payload| match (payload, self.role) {
            (Payload::IdentificationInitiator(id), Role::Initiator)
            | (Payload::IdentificationResponder(id), Role::Responder) => Some(id.body()),
            _ => None,
        });
        let Some(id) = id else { return };
        let octets = self.keys.auth_octets(self.role, &self.message, &self.other_nonce, &id);
        for payload in payloads {
            if let Payload::Authentication { data, .. } = payload {
                *data = self.keys.psk_auth(&octets, SECRET);
                self.has_proved = true;
            }
        }
    }
}

const NONCE: &[u8] = &[9; 32];

fn share() -> KeyShare {
    let mut host = FixedHost(3);
    KeyShare::generate(Group::Curve25519, &mut |octets| host.random(octets))
}

fn header(role: Role, initiator_spi: u64, responder_spi: u64) -> Header {
    let initiator = role == Role::Initiator;
    let flags = Flags { initiator, response: !initiator };
    Header { initiator_spi, responder_spi, exchange: ExchangeType::IKE_SA_INIT, flags, message_id: 0 }
}

/// The header, the public value and the nonce of an IKE_SA_INIT message.
fn read(message: &[u8]) -> (Header, Vec<u8>, Vec<u8>) {
    let Ok(Datagram::Plain(header, payloads)) = wire::parse(message) else { panic!("it is plain") };
    let (mut public, mut nonce) = (Vec::new(), Vec::new());
    for payload in payloads {
        match payload {
            Payload::KeyExchange { data, .. } => public = data,
            Payload::Nonce(data) => nonce = data,
            _ => {}
        }
    }
    (header, public, nonce)
}

fn suite() -> IkeSuite {
    let (encryption, prf) = (Encryption::AesGcm16_128, Prf::HmacSha2_256);
    IkeSuite {
        encryption,
        integrity: None,
        prf,
        group: Group::Curve25519,
        additional: AdditionalMethods::default(),
    }
}

fn offer(share: &KeyShare) -> Vec<Payload> {
    let transforms = vec![
        Transform::new(TransformType::ENCR, AES_GCM_16, Some(128)),
        Transform::new(TransformType::PRF, PRF_HMAC_SHA2_256, None),
        Transform::new(TransformType::KE, CURVE25519, None),
    ];
    let proposal = Proposal { number: 1, protocol: ProtocolId::IKE, spi: Vec::new(), transforms };
    vec![
        Payload::SecurityAssociation(vec![proposal]),
        Payload::KeyExchange { group: CURVE25519, data: share.public().to_vec() },
        Payload::Nonce(NONCE.to_vec()),
    ]
}

/// Steps beyond these tell nothing new.
const MAX_STEPS: usize = 32;

/// Lets the peer do what `input` says, a list of steps: one octet says what, two how long what follows is. Then checks
/// what has to be true of any gateway.
pub fn play(mut gateway: Gateway, mut peer: Peer, input: &[u8]) {
    let mut rest = input;
    for _ in 0..MAX_STEPS {
        let Some((step, body, behind)) = next_step(rest) else { break };
        rest = behind;
        match step % 4 {
            0 => gateway.receive(body),
            1 => peer.send(&mut gateway, body, false),
            2 => peer.send(&mut gateway, body, true),
            _ => gateway.wait(step),
        }
        assert!(peer.has_proved || gateway.installs == 0, "an SA for somebody unknown");
    }
    for context in gateway.contexts.values() {
        let restored = Gateway::new().restore(context, Restoring::Restart);
        assert!(restored.is_ok(), "what was stored cannot be gone on with: {restored:?}");
    }
    gateway.fall_silent();
    assert_eq!(gateway.tunnels(), 0, "something of a silent peer stays");
    assert!(gateway.contexts.is_empty(), "a context of a tunnel that is over");
    for event in &gateway.events {
        if let Event::IkeUp { tunnel, .. } = event {
            let is_end =
                |event: &&Event| matches!(event, Event::IkeDown { tunnel: down, .. } if down == tunnel);
            assert_eq!(gateway.events.iter().filter(is_end).count(), 1, "what stood ends once");
        }
    }
}

fn next_step(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (step, rest) = input.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    Some((*step, &rest[..length], &rest[length..]))
}
