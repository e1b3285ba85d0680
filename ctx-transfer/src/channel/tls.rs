//! How connections are made: mutual TLS 1.3 inside QUIC (RFC 9001), and QUIC's own knobs for two kinds of traffic.

use std::any::Any;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, CubicConfig};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, EndpointConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::version::TLS13;

use super::trust::Judge;
use super::{Credentials, Kind, Member};

/// Two members of one LAN are closer than this; the first repetition comes after three times as long.
const FIRST_GUESS_OF_RTT: Duration = Duration::from_millis(5);
/// What is under way in one stream.
const STREAM_WINDOW: u32 = 4 << 20;
/// Datagrams that wait to be sent, or to be read.
const DATAGRAM_BUFFER: usize = 256 << 10;
/// Heartbeats that wait are old: better to lose them.
const HEARTBEAT_BUFFER: usize = 8 << 10;
/// Handshakes that wait to be looked at.
const MAX_INCOMING: usize = 64;
/// Octets of one, and of all.
const INCOMING_OCTETS: u64 = 16 << 10;
const ALL_INCOMING_OCTETS: u64 = 256 << 10;
/// A token that proves an address is used at once or not at all (RFC 9000 section 8.1).
const TOKEN_LIFETIME: Duration = Duration::from_secs(5);

/// Configurations of one kind's connections.
pub(super) struct Tls {
    credentials: Arc<Credentials>,
    provider: Arc<CryptoProvider>,
    versions: RangeInclusive<u8>,
    protocols: Vec<Vec<u8>>,
    transport: Arc<TransportConfig>,
}

/// What TLS refuses about our own certificate and key.
pub(super) type TlsError = rustls::Error;

impl Tls {
    pub(super) fn new(credentials: Arc<Credentials>, kind: Kind, versions: RangeInclusive<u8>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let protocols = kind.protocols(&versions);
        Self { credentials, provider, versions, protocols, transport: Arc::new(transport(kind)) }
    }

    pub(super) fn versions(&self) -> RangeInclusive<u8> {
        self.versions.clone()
    }

    /// The version of the messages on a connection: what TLS has agreed on.
    pub(super) fn version_of(&self, connection: &Connection) -> Option<u8> {
        let data = connection.handshake_data()?.downcast::<HandshakeData>().ok()?;
        let agreed = data.protocol?;
        let place = self.protocols.iter().position(|protocol| *protocol == agreed)?;
        self.versions.clone().rev().nth(place)
    }

    pub(super) fn endpoint(&self) -> EndpointConfig {
        EndpointConfig::new(Arc::new(self.credentials.reset_key()))
    }

    fn judge(&self, expected: Member) -> Arc<Judge> {
        let authority = self.credentials.authority.clone();
        let algorithms = self.provider.signature_verification_algorithms;
        Judge::new(authority, &self.credentials.identity.cluster, expected, algorithms)
    }

    /// For a call to `expected`.
    pub(super) fn client(&self, expected: Member) -> Result<(ClientConfig, Arc<Judge>), TlsError> {
        let judge = self.judge(expected);
        let Credentials { certificate, key, .. } = &*self.credentials;
        let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::<Judge>::clone(&judge))
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key())?;
        // Certificates are looked at each time.
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols.clone_from(&self.protocols);
        let config = QuicClientConfig::try_from(config).map_err(no_initial_suite)?;
        let mut config = ClientConfig::new(Arc::new(config));
        config.transport_config(Arc::clone(&self.transport));
        Ok((config, judge))
    }

    /// For a call from `expected`.
    pub(super) fn server(&self, expected: Member) -> Result<(ServerConfig, Arc<Judge>), TlsError> {
        let judge = self.judge(expected);
        let Credentials { certificate, key, .. } = &*self.credentials;
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::<Judge>::clone(&judge))
            .with_single_cert(vec![certificate.clone()], key.clone_key())?;
        config.send_tls13_tickets = 0;
        config.alpn_protocols.clone_from(&self.protocols);
        let config = QuicServerConfig::try_from(config).map_err(no_initial_suite)?;
        let mut config = ServerConfig::with_crypto(Arc::new(config));
        config.transport_config(Arc::clone(&self.transport));
        config.max_incoming(MAX_INCOMING);
        config.incoming_buffer_size(INCOMING_OCTETS).incoming_buffer_size_total(ALL_INCOMING_OCTETS);
        config.retry_token_lifetime(TOKEN_LIFETIME).migration(false);
        Ok((config, judge))
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn no_initial_suite(error: quinn::crypto::rustls::NoInitialCipherSuite) -> TlsError {
    TlsError::General(error.to_string())
}

fn transport(kind: Kind) -> TransportConfig {
    let mut config = TransportConfig::default();
    config.max_concurrent_bidi_streams(VarInt::from_u32(0));
    config.initial_rtt(FIRST_GUESS_OF_RTT);
    let (idle, keep_alive) = kind.patience();
    config.max_idle_timeout(IdleTimeout::try_from(idle).ok()).keep_alive_interval(Some(keep_alive));
    match kind {
        Kind::Heartbeat => {
            config.max_concurrent_uni_streams(VarInt::from_u32(1));
            config.stream_receive_window(VarInt::from_u32(64));
            config.datagram_send_buffer_size(HEARTBEAT_BUFFER);
            config.datagram_receive_buffer_size(Some(HEARTBEAT_BUFFER));
            config.mtu_discovery_config(None);
            config.congestion_controller_factory(Arc::new(Unhindered));
        }
        Kind::Bulk => {
            config.max_concurrent_uni_streams(VarInt::from_u32(3));
            config.stream_receive_window(VarInt::from_u32(STREAM_WINDOW));
            config.receive_window(VarInt::from_u32(2 * STREAM_WINDOW));
            config.send_window(u64::from(2 * STREAM_WINDOW));
            config.datagram_send_buffer_size(DATAGRAM_BUFFER);
            config.datagram_receive_buffer_size(Some(DATAGRAM_BUFFER));
            config.congestion_controller_factory(Arc::new(CubicConfig::default()));
        }
    }
    config
}

/// Heartbeats are some hundred octets in ten milliseconds: there is nothing to be gained by holding them back, and a
/// lease to be lost.
#[derive(Clone, Copy, Debug)]
struct Unhindered;

impl Controller for Unhindered {
    fn on_congestion_event(&mut self, _: Instant, _: Instant, _: bool, _: u64) {}

    fn on_mtu_update(&mut self, _: u16) {}

    fn window(&self) -> u64 {
        1 << 30
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(*self)
    }

    fn initial_window(&self) -> u64 {
        self.window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl ControllerFactory for Unhindered {
    fn build(self: Arc<Self>, _: Instant, _: u16) -> Box<dyn Controller> {
        Box::new(*self)
    }
}
