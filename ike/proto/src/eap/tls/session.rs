//! A TLS connection of which the flights go through packets.

use std::io::{Read as _, Write as _};

use rustls::{CertificateError, Connection, Error, ProtocolVersion};
use zeroize::Zeroizing;

use super::fragments::{EMPTY, Frame, Incoming, Outgoing};
use crate::eap::Msk;

/// Octets of application data that are looked at: one is expected.
const MAX_DATA: usize = 16;

/// What follows a packet.
pub(super) enum Progress {
    /// To be sent.
    Send(Vec<u8>),
    /// The other end has said all, and TLS has nothing to say.
    Quiet,
}

/// A TLS connection of either role.
pub(super) struct Session {
    tls: Connection,
    incoming: Incoming,
    outgoing: Outgoing,
    /// What the other end said when TLS was done: RFC 9190 section 2.1.1 has one octet of it.
    said: Vec<u8>,
    /// Why it is over.
    problem: Option<String>,
    /// Whether this end tells that all is well (RFC 9190 section 2.5), and has.
    tells: bool,
}

impl Session {
    pub(super) fn new(tls: Connection, tells: bool) -> Self {
        let (incoming, outgoing) = (Incoming::default(), Outgoing::default());
        Self { tls, incoming, outgoing, said: Vec::new(), problem: None, tells }
    }

    /// What is to be sent without having been asked.
    pub(super) fn first(&mut self) -> Vec<u8> {
        self.flight();
        self.outgoing.next()
    }

    /// Works on a packet. After an error of TLS the other end is told by an alert: [`Self::problem`] says so.
    pub(super) fn take(&mut self, octets: &[u8]) -> Result<Progress, String> {
        let frame = Frame::parse(octets).map_err(|malformed| malformed.0.to_owned())?;
        if self.outgoing.has_more() {
            let is_asking = frame.data.is_empty() && !frame.is_start;
            return if is_asking {
                Ok(Progress::Send(self.outgoing.next()))
            } else {
                Err("the peer interrupts our certificates".to_owned())
            };
        }
        let flight = self.incoming.add(&frame).map_err(|malformed| malformed.0.to_owned())?;
        let Some(flight) = flight else { return Ok(Progress::Send(EMPTY.to_vec())) };
        if self.problem.is_none() {
            self.feed(&flight);
            self.flight();
        }
        let has_more = self.outgoing.has_more();
        Ok(if has_more { Progress::Send(self.outgoing.next()) } else { Progress::Quiet })
    }

    fn feed(&mut self, mut flight: &[u8]) {
        while !flight.is_empty() && self.problem.is_none() {
            let read = self.tls.read_tls(&mut flight).map_err(|error| error.to_string());
            let done = match read {
                Ok(0) => Err("the peer sends more than TLS takes".to_owned()),
                Ok(_) => self.tls.process_new_packets().map(drop).map_err(reason),
                Err(error) => Err(error),
            };
            match done {
                Ok(()) => self.listen(),
                Err(problem) => self.problem = Some(problem),
            }
        }
    }

    fn listen(&mut self) {
        let mut octets = [0; MAX_DATA];
        while let Ok(length @ 1..) = self.tls.reader().read(&mut octets) {
            let room = MAX_DATA.saturating_sub(self.said.len());
            self.said.extend_from_slice(&octets[..length.min(room)]);
        }
    }

    /// Takes from TLS what it has to say.
    fn flight(&mut self) {
        if self.tells && self.is_done() && self.is_1_3() {
            self.tells = false;
            // Into memory: it cannot fail.
            let _ = self.tls.writer().write_all(&[0]);
        }
        let mut octets = Vec::new();
        while self.tls.wants_write() && self.tls.write_tls(&mut octets).is_ok() {}
        self.outgoing = Outgoing::begin(octets);
    }

    pub(super) fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    fn is_1_3(&self) -> bool {
        self.tls.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Whether both ends have proved who they are, nothing is under way, and nothing went wrong.
    pub(super) fn is_done(&self) -> bool {
        !self.tls.is_handshaking() && self.problem.is_none() && !self.incoming.is_under_way()
    }

    /// Whether the other end has said that all is well, where it has to: with TLS 1.3 the handshake does not tell the
    /// client whether its certificate was accepted (RFC 9190 section 2.1.1).
    pub(super) fn is_confirmed(&self) -> bool {
        self.is_done() && (!self.is_1_3() || self.said == [0])
    }

    /// The MSK (RFC 5216 section 2.3, RFC 9190 section 2.3); `None` before the handshake is done.
    pub(super) fn key(&self) -> Option<Msk> {
        let (label, context): (&[u8], _) = if self.is_1_3() {
            (b"EXPORTER_EAP_TLS_Key_Material", Some(&[13_u8][..]))
        } else {
            (b"client EAP encryption", None)
        };
        let mut material = Zeroizing::new([0; 128]);
        self.tls.export_keying_material(&mut material[..], label, context).ok()?;
        let mut key = Zeroizing::new([0; 64]);
        key.copy_from_slice(&material[..64]);
        Some(Msk::new(key))
    }
}

/// What our own judgement of a certificate says, or TLS.
fn reason(error: Error) -> String {
    match error {
        Error::InvalidCertificate(CertificateError::Other(judgement)) => judgement.to_string(),
        error => error.to_string(),
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("problem", &self.problem).finish_non_exhaustive()
    }
}
