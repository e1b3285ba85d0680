//! Where servers ask us to end or change sessions (RFC 5176).

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use baton_dataplane::control::Counter;
use baton_ike_proto::machine::TunnelView;
use baton_radius::authorization::{Cause, Heard, Ignored, Listener, Policy, Query, Request};
use thiserror::Error;
use tracing::{debug, info};

use super::Radius;
use super::attributes::Station;
use crate::clock;
use crate::config::Radius as Config;
use crate::credentials::RadiusSecrets;

/// Longer than any packet of RADIUS.
const BUFFER: usize = 4097;
/// Requests in a turn.
const REQUESTS: usize = 16;

/// The port is not to be had.
#[derive(Debug, Error)]
#[error("cannot listen on UDP {at} for [eap-radius.dae]: {source}; free the port, or choose another")]
pub struct DaeError {
    at: SocketAddr,
    source: io::Error,
}

/// The port, bound while there are privileges, and what is heard there.
pub(crate) struct Dae {
    socket: UdpSocket,
    listener: Option<Listener>,
    with_port: bool,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    asked: u64,
    done: u64,
    refused: u64,
    strangers: u64,
    forged: u64,
    stale: u64,
    malformed: u64,
}

impl Dae {
    /// Binds the port, if one is configured.
    pub(crate) fn open(config: &Config) -> Result<Option<Self>, DaeError> {
        let Some(dae) = &config.dae else { return Ok(None) };
        let bound = UdpSocket::bind(dae.listen).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = bound.map_err(|source| DaeError { at: dae.listen, source })?;
        Ok(Some(Self { socket, listener: None, with_port: true, counters: Counters::default() }))
    }

    /// Who may ask from now on. Nobody may while nothing is configured.
    pub(crate) fn set_policy(
        &mut self,
        config: &Config,
        secrets: &RadiusSecrets,
        radius: &Radius,
        own: &[IpAddr],
    ) {
        self.with_port = config.station_id_with_port;
        let policy = config.dae.as_ref().and_then(|dae| {
            let is_default = dae.clients.is_empty();
            Some(Policy {
                clients: if is_default { radius.server_addresses() } else { dae.clients.clone() },
                secret: secrets.get(&dae.secret)?.clone(),
                needs_timestamp: dae.require_event_timestamp,
                identifiers: radius.is_called(),
                addresses: own.to_vec(),
            })
        });
        match (&mut self.listener, policy) {
            (Some(listener), Some(policy)) => listener.set_policy(policy),
            (listener, policy) => *listener = policy.map(Listener::new),
        }
    }

    /// What is asked: a few at most, so that no flood starves the rest.
    pub(crate) fn requests(&mut self) -> Vec<Request> {
        let (mut buffer, mut requests) = ([0; BUFFER], Vec::new());
        for _ in 0..REQUESTS {
            let Ok((length, source)) = self.socket.recv_from(&mut buffer) else { break };
            requests.extend(self.hear(source, &buffer[..length]));
        }
        requests
    }

    fn hear(&mut self, source: SocketAddr, datagram: &[u8]) -> Option<Request> {
        let now = clock::now();
        match self.listener.as_mut()?.hear(now.monotonic, now.unix, source, datagram) {
            Heard::Ignored(ignored) => {
                self.counters.ignored(ignored);
                debug!(%source, ?ignored, "what claims to be a request of RFC 5176 is ignored");
                None
            }
            Heard::Answer(answer) => {
                self.counters.refused += 1;
                self.send(source, &answer);
                None
            }
            Heard::Asked(request) => {
                self.counters.asked += 1;
                Some(*request)
            }
        }
    }

    /// Answers a request.
    pub(crate) fn answer(&mut self, request: &Request, outcome: Result<(), Cause>) {
        info!(from = %request.source, order = ?request.order, ?outcome, "asked by a RADIUS server");
        match outcome {
            Ok(()) => self.counters.done += 1,
            Err(_) => self.counters.refused += 1,
        }
        let Some(listener) = &mut self.listener else { return };
        let answer = listener.answer(clock::now().monotonic, request, outcome);
        self.send(request.source, &answer);
    }

    fn send(&self, to: SocketAddr, answer: &[u8]) {
        if let Err(error) = self.socket.send_to(answer, to) {
            debug!(%to, %error, "an answer to a RADIUS server cannot be sent");
        }
    }

    /// Whether a tunnel's session is meant: all that is said has to fit.
    pub(crate) fn is_meant(&self, query: &Query, view: &TunnelView) -> bool {
        let Some(session) = &view.session else { return false };
        let calling = Station { with_port: self.with_port }.id(view.path.remote);
        let fits = |said: &Option<Vec<u8>>, is: &[u8]| said.as_deref().is_none_or(|said| said == is);
        fits(&query.user, &session.user)
            && fits(&query.session, session.id.as_bytes())
            && fits(&query.calling, calling.as_bytes())
            && fits(&query.port, view.connection.as_bytes())
            && query.addresses.iter().all(|address| view.virtual_addresses.contains(address))
    }

    /// Numbers of what was heard.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        let Counters { asked, done, refused, strangers, forged, stale, malformed } = self.counters;
        [
            ("asked", asked, "requests to end or change sessions (RFC 5176)"),
            ("done", done, "of these: carried out"),
            ("refused", refused, "requests that were refused, or came again"),
            ("strangers", strangers, "datagrams from addresses that may not ask"),
            ("forged", forged, "requests with a wrong authenticator"),
            ("stale", stale, "requests that are too old, from the future, or do not say when they were made"),
            ("malformed", malformed, "datagrams that are no such requests"),
        ]
        .map(|(name, value, meaning)| Counter {
            group: "radius-dae".to_owned(),
            name: name.to_owned(),
            value,
            meaning: meaning.to_owned(),
        })
        .into()
    }
}

impl Counters {
    fn ignored(&mut self, ignored: Ignored) {
        match ignored {
            Ignored::Malformed => self.malformed += 1,
            Ignored::Stranger => self.strangers += 1,
            Ignored::Forged => self.forged += 1,
            Ignored::Stale => self.stale += 1,
        }
    }
}

impl AsFd for Dae {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
