//! The payloads of one message, sorted by what they are.

use crate::wire::{
    AuthenticationMethod, CertificateEncoding, Configuration, Delete, Identification, Notify, NotifyType,
    Payload, PayloadType, Proposal, TrafficSelector,
};

/// Certificates that one message may bring.
const MAX_CERTIFICATES: usize = 16;

/// A payload that must be single is there twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Repeated(pub(super) PayloadType);

/// The payloads of one message. Their order means nothing (RFC 7296 section 2.5); unknown ones that are not critical
/// and vendor IDs are left out.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) proposals: Option<Vec<Proposal>>,
    pub(super) key_exchange: Option<(u16, Vec<u8>)>,
    pub(super) nonce: Option<Vec<u8>>,
    pub(super) initiator: Option<Identification>,
    pub(super) responder: Option<Identification>,
    pub(super) authentication: Option<(AuthenticationMethod, Vec<u8>)>,
    pub(super) certificates: Vec<(CertificateEncoding, Vec<u8>)>,
    pub(super) certificate_requests: Vec<(CertificateEncoding, Vec<u8>)>,
    pub(super) initiator_selectors: Option<Vec<TrafficSelector>>,
    pub(super) responder_selectors: Option<Vec<TrafficSelector>>,
    pub(super) configuration: Option<Configuration>,
    pub(super) notifies: Vec<Notify>,
    pub(super) deletes: Vec<Delete>,
    /// What EAP says (RFC 7296 section 3.16).
    pub(super) eap: Option<Vec<u8>>,
    /// Keys that solve a puzzle (RFC 8019 section 8.2).
    pub(super) solution: Option<Vec<u8>>,
}

fn once<T>(place: &mut Option<T>, kind: PayloadType, value: T) -> Result<(), Repeated> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Repeated(kind)),
    }
}

impl Message {
    /// Sorts payloads.
    pub(super) fn sort(payloads: Vec<Payload>) -> Result<Self, Repeated> {
        let mut message = Self::default();
        for payload in payloads {
            message.take(payload)?;
        }
        Ok(message)
    }

    fn take(&mut self, payload: Payload) -> Result<(), Repeated> {
        let kind = payload.kind();
        match payload {
            Payload::SecurityAssociation(proposals) => once(&mut self.proposals, kind, proposals)?,
            Payload::KeyExchange { group, data } => once(&mut self.key_exchange, kind, (group, data))?,
            Payload::Nonce(nonce) => once(&mut self.nonce, kind, nonce)?,
            Payload::IdentificationInitiator(id) => once(&mut self.initiator, kind, id)?,
            Payload::IdentificationResponder(id) => once(&mut self.responder, kind, id)?,
            Payload::Authentication { method, data } => once(&mut self.authentication, kind, (method, data))?,
            Payload::TrafficSelectorsInitiator(selectors) => {
                once(&mut self.initiator_selectors, kind, selectors)?;
            }
            Payload::TrafficSelectorsResponder(selectors) => {
                once(&mut self.responder_selectors, kind, selectors)?;
            }
            Payload::Eap(packet) => once(&mut self.eap, kind, packet)?,
            Payload::PuzzleSolution(keys) => once(&mut self.solution, kind, keys)?,
            Payload::Configuration(configuration) => once(&mut self.configuration, kind, configuration)?,
            payload => self.take_one_of_many(payload),
        }
        Ok(())
    }

    fn take_one_of_many(&mut self, payload: Payload) {
        match payload {
            Payload::Certificate { encoding, data } if self.certificates.len() < MAX_CERTIFICATES => {
                self.certificates.push((encoding, data));
            }
            Payload::CertificateRequest { encoding, authorities } => {
                self.certificate_requests.push((encoding, authorities));
            }
            Payload::Notify(notify) => self.notifies.push(notify),
            Payload::Delete(delete) => self.deletes.push(delete),
            _ => {}
        }
    }

    /// The first notify of that type.
    pub(super) fn notify(&self, kind: NotifyType) -> Option<&Notify> {
        self.notifies.iter().find(|notify| notify.kind == kind)
    }

    /// Whether there is a notify of that type.
    pub(super) fn has(&self, kind: NotifyType) -> bool {
        self.notify(kind).is_some()
    }

    /// The first notify that tells of an error.
    pub(super) fn error(&self) -> Option<&Notify> {
        self.notifies.iter().find(|notify| notify.kind.is_error())
    }

    /// X.509 certificates in DER, in the peer's order: its own first (RFC 7296 section 3.6).
    pub(super) fn x509(&self) -> Vec<Vec<u8>> {
        let x509 =
            self.certificates.iter().filter(|(encoding, _)| *encoding == CertificateEncoding::X509_SIGNATURE);
        x509.map(|(_, data)| data.clone()).collect()
    }

    /// Whether the peer asks for X.509 certificates.
    pub(super) fn asks_for_x509(&self) -> bool {
        self.certificate_requests.iter().any(|(encoding, _)| *encoding == CertificateEncoding::X509_SIGNATURE)
    }

    /// The hash algorithms of SIGNATURE_HASH_ALGORITHMS (RFC 7427 section 4).
    pub(super) fn signature_hashes(&self) -> Vec<u16> {
        let notify = self.notify(NotifyType::SIGNATURE_HASH_ALGORITHMS);
        let data = notify.map_or(&[][..], |notify| &notify.data);
        data.chunks_exact(2).take(32).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect()
    }

    /// The peer's SET_WINDOW_SIZE (RFC 7296 section 2.3).
    pub(super) fn window_size(&self) -> Option<u32> {
        let data = &self.notify(NotifyType::SET_WINDOW_SIZE)?.data;
        Some(u32::from_be_bytes(data.as_slice().try_into().ok()?))
    }
}

/// A notify without an SPI.
pub(super) fn notify(kind: NotifyType, data: impl Into<Vec<u8>>) -> Payload {
    Payload::Notify(Notify::new(kind, data.into()))
}

/// A status or error notify without data.
pub(super) fn flag(kind: NotifyType) -> Payload {
    notify(kind, Vec::new())
}
