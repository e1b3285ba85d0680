//! One IKE SA: keys, Message IDs, and what is outstanding.

use std::net::IpAddr;
use std::time::Duration;

use super::core::Cx;
use super::fragments::Reassembly;
use super::pending::Pending;
use super::synchronization::Synchronization;
use super::window::Window;
use crate::configuration::{Connection, Fragmentation};
use crate::crypto::{IkeKeys, Role, SealError, TokenDigest};
use crate::host::Path;
use crate::wire::{ExchangeType, Flags, Header, Payload};

/// What is to become of an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is used.
    Lives,
    /// A candidate of two rekeyings at once: which of them stays is not known yet (RFC 7296 section 2.8.2).
    Undecided,
    /// To be deleted by us as soon as its window allows; the reason is with the tunnel.
    Doomed,
    /// Our request to delete it is outstanding.
    Deleting,
    /// The peer is to delete it; after that time (monotonic) we do.
    AwaitsDelete(Duration),
    /// The peer has deleted it; until that time it repeats its answer to that.
    Gone(Duration),
}

impl Fate {
    /// When something is due.
    pub(super) fn due(self) -> Option<Duration> {
        match self {
            Self::AwaitsDelete(at) | Self::Gone(at) => Some(at),
            Self::Lives | Self::Undecided | Self::Doomed | Self::Deleting => None,
        }
    }

    /// Until when the answer to its deletion is repeated, if it is gone.
    pub(super) const fn gone(&mut self) -> Option<&mut Duration> {
        if let Self::Gone(until) = self { Some(until) } else { None }
    }
}

/// One IKE SA.
pub(super) struct IkeSa {
    /// Our role in the exchange that made it.
    pub(super) role: Role,
    pub(super) initiator_spi: u64,
    pub(super) responder_spi: u64,
    pub(super) keys: IkeKeys,
    /// Those of the request before, if they were others: it may come again until the next one has.
    pub(super) keys_before: Option<IkeKeys>,
    pub(super) window: Window,
    /// Of the peer's requests, and of its responses: they have Message IDs of their own.
    pub(super) fragments: [Reassembly; 2],
    /// Whether the peer takes fragments (RFC 7383 section 2.3).
    pub(super) peer_reassembles: bool,
    /// What our outstanding requests are about, by Message ID.
    pub(super) pending: Vec<(u32, Pending)>,
    pub(super) fate: Fate,
    /// By what the peer proves that it has lost it (RFC 6290).
    pub(super) peer_token: Option<TokenDigest>,
    pub(super) synchronization: Synchronization,
    /// Of the puzzle that the responder wants solved before it reads our first IKE_AUTH request, in the clear in front of
    /// that (RFC 8019 section 7.2.2).
    pub(super) solution: Option<Payload>,
}

impl IkeSa {
    pub(super) fn new(role: Role, spis: (u64, u64), keys: IkeKeys, window: Window) -> Self {
        let (initiator_spi, responder_spi) = spis;
        Self {
            role,
            initiator_spi,
            responder_spi,
            keys,
            keys_before: None,
            window,
            fragments: Default::default(),
            peer_reassembles: false,
            pending: Vec::new(),
            fate: Fate::Lives,
            peer_token: None,
            synchronization: Synchronization::default(),
            solution: None,
        }
    }

    /// The SPI that the peer's messages find it by.
    pub(super) fn our_spi(&self) -> u64 {
        match self.role {
            Role::Initiator => self.initiator_spi,
            Role::Responder => self.responder_spi,
        }
    }

    /// Of an INFORMATIONAL exchange, for what depends on its SPIs alone.
    pub(super) fn informational(&self) -> Header {
        self.header(ExchangeType::INFORMATIONAL, false, 0)
    }

    pub(super) fn header(&self, exchange: ExchangeType, response: bool, message_id: u32) -> Header {
        Header {
            initiator_spi: self.initiator_spi,
            responder_spi: self.responder_spi,
            exchange,
            flags: Flags { initiator: self.role == Role::Initiator, response },
            message_id,
        }
    }

    /// Whether a message of ours can be sealed now (I1).
    pub(super) fn can_seal(&self, cx: &mut Cx) -> bool {
        let can = !self.keys.needs_explicit_iv() || cx.core.ivs.fill(cx.host);
        cx.core.counters.no_iv += u64::from(!can);
        can
    }

    /// Sends a request and keeps it until it is answered; `false` if the window or the lack of IVs forbids it now.
    pub(super) fn request(
        &mut self,
        cx: &mut Cx,
        (path, connection): (Path, &Connection),
        (exchange, payloads): (ExchangeType, &[Payload]),
        pending: Pending,
    ) -> bool {
        let Ok(message_id) = self.window.requests.sendable() else { return false };
        // Nothing else is asked until both agree about Message IDs (RFC 6311 section 5.1).
        if self.synchronization.ongoing.is_some() {
            return false;
        }
        if !self.can_seal(cx) {
            return false;
        }
        let header = self.header(exchange, false, message_id);
        let Ok(datagrams) = self.seal(cx, (path, connection), &header, payloads) else { return false };
        cx.transmit(path, &datagrams);
        self.solution = self.solution.take().filter(|_| exchange != ExchangeType::IKE_AUTH);
        self.window.requests.sent(cx.now.monotonic, &cx.core.configuration.retransmission, datagrams);
        self.pending.push((message_id, pending));
        cx.store();
        true
    }

    /// Answers a request that was begun, and keeps the answer for its repetitions.
    pub(super) fn respond(
        &mut self,
        cx: &mut Cx,
        (path, connection): (Path, &Connection),
        (exchange, message_id): (ExchangeType, u32),
        payloads: &[Payload],
    ) {
        let header = self.header(exchange, true, message_id);
        let Ok(datagrams) = self.seal(cx, (path, connection), &header, payloads) else { return };
        cx.transmit(path, &datagrams);
        self.window.responses.answered(message_id, datagrams);
    }

    /// What a request was about; `None` if its answer was there already.
    pub(super) fn take_pending(&mut self, message_id: u32) -> Option<Pending> {
        if !self.window.requests.answered(message_id) {
            return None;
        }
        let at = self.pending.iter().position(|(id, _)| *id == message_id)?;
        Some(self.pending.swap_remove(at).1)
    }

    /// The datagrams of a message; none if it cannot be sealed, which [`Self::can_seal`] has made unlikely.
    fn seal(
        &self,
        cx: &mut Cx,
        (path, connection): (Path, &Connection),
        header: &Header,
        payloads: &[Payload],
    ) -> Result<Vec<Vec<u8>>, SealError> {
        let host = &mut cx.core.ivs.before(cx.host);
        let is_first = header.exchange == ExchangeType::IKE_AUTH && !header.flags.response;
        let contents = (self.solution.as_ref().filter(|_| is_first), payloads);
        let most = largest_message(path, connection);
        let may_fragment = self.peer_reassembles && connection.fragmentation != Fragmentation::Accept;
        if !may_fragment || connection.fragmentation != Fragmentation::Force {
            let whole = self.keys.seal_behind(self.role, header, contents, host)?;
            if !may_fragment || whole.len() <= most {
                return Ok(vec![whole]);
            }
        }
        self.keys.seal_fragments_behind(self.role, header, contents, most, host)
    }
}

/// Octets that an IKE message may have in an IP datagram of the configured size: without the headers of IP and UDP,
/// and the non-ESP marker.
fn largest_message(path: Path, connection: &Connection) -> usize {
    let ip = match path.remote.ip() {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    };
    let marker = if path.marked { 4 } else { 0 };
    usize::from(connection.fragment_size).saturating_sub(ip + 8 + marker)
}
