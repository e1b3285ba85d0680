//! A sealed message on its way in: whose it is, whether it is new, what is inside.

use zeroize::Zeroizing;

use super::core::Cx;
use super::fragments::{Added, Piece};
use super::ike_sa::IkeSa;
use super::message::Message;
use super::window::Received;
use crate::crypto::{IkeKeys, Role};
use crate::host::Path;
use crate::wire::{self, Datagram, Encrypted, ExchangeType, Fragment, Header, ParseError, PayloadType};

/// A message that was authenticated and is whole and new.
pub(super) struct Opened {
    pub(super) exchange: ExchangeType,
    pub(super) message_id: u32,
    pub(super) is_response: bool,
    pub(super) content: Result<Message, Bad>,
    /// The payloads as they are inside of the Encrypted payload.
    pub(super) chain: Chain,
}

/// An authentic message that cannot be read (RFC 7296 sections 2.5 and 2.21.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// It has a payload that is critical and unknown.
    Critical(PayloadType),
    /// It is malformed.
    Syntax,
}

/// A chain of payloads and the type of its first one.
pub(super) type Chain = (PayloadType, Zeroizing<Vec<u8>>);

impl IkeSa {
    /// Opens what comes along `path`. `None` if there is nothing to do: a repeated request has been answered again
    /// by the octets of its answer, whatever is forged is dropped, and so is what lies outside of the window.
    pub(super) fn receive(&mut self, cx: &mut Cx, path: Path, datagram: &Datagram) -> Option<Opened> {
        let header = *datagram.header();
        if !self.is_ours(&header) || !self.is_wanted(cx, path, datagram) {
            return None;
        }
        let (first, chain) = self.open(cx, datagram)?;
        if !header.flags.response {
            if !self.can_seal(cx) {
                return None;
            }
            self.window.responses.begin(header.message_id);
            self.keys_before = None;
        }
        let content = content(first, &chain);
        let Header { exchange, message_id, .. } = header;
        let is_response = header.flags.response;
        Some(Opened { exchange, message_id, is_response, content, chain: (first, chain) })
    }

    /// What a message of the peer's that is no fragment says, whatever its Message ID; `None` if it is forged.
    pub(super) fn read(&self, cx: &mut Cx, sealed: &Encrypted) -> Option<Result<Message, Bad>> {
        let chain = if self.is_ours(&sealed.header) { self.unseal(cx, sealed) } else { None };
        Some(content(sealed.first, &chain?))
    }

    /// Both SPIs, and who sends: a message of ours that somebody sends back is none of the peer's.
    fn is_ours(&self, header: &Header) -> bool {
        let spis = (header.initiator_spi, header.responder_spi);
        spis == (self.initiator_spi, self.responder_spi)
            && header.flags.initiator == (self.role == Role::Responder)
    }

    /// Whether its Message ID is one that is waited for, before anything of it is opened (RFC 7296 section 2.3).
    fn is_wanted(&self, cx: &mut Cx, path: Path, datagram: &Datagram) -> bool {
        let Header { flags, message_id, .. } = *datagram.header();
        if flags.response {
            let is_outstanding = self.window.requests.is_outstanding(message_id);
            cx.core.counters.out_of_window += u64::from(!is_outstanding);
            return is_outstanding;
        }
        match self.window.responses.receive(message_id, fragment_number(datagram)) {
            Received::New => true,
            // An answer may be long: nobody but the peer is to have it sent somewhere.
            Received::Repeated(datagrams) if self.is_authentic(cx, datagram) => {
                cx.core.counters.repeated_requests += 1;
                cx.transmit(path, datagrams);
                false
            }
            Received::Repeated(_) | Received::Ignored => false,
            Received::OutOfWindow => {
                cx.core.counters.out_of_window += 1;
                false
            }
        }
    }

    /// A repeated request may be of a time before the keys were replaced (RFC 9370 section 2.2.2).
    fn is_authentic(&self, cx: &mut Cx, datagram: &Datagram) -> bool {
        let sealed = match datagram {
            Datagram::Plain(..) => return false,
            Datagram::Encrypted(sealed) => sealed,
            Datagram::Fragment(fragment) => &fragment.sealed,
        };
        let opens = |keys: &IkeKeys| keys.open(self.role.peer(), sealed).is_ok();
        self.keys_before.as_ref().is_some_and(opens) || self.unseal(cx, sealed).is_some()
    }

    /// The chain inside, if this datagram makes it whole.
    fn open(&mut self, cx: &mut Cx, datagram: &Datagram) -> Option<Chain> {
        match datagram {
            Datagram::Plain(..) => None,
            Datagram::Encrypted(sealed) => {
                let chain = self.unseal(cx, sealed)?;
                let Header { flags, message_id, .. } = sealed.header;
                self.fragments[usize::from(flags.response)].forget(message_id);
                Some((sealed.first, chain))
            }
            Datagram::Fragment(fragment) => {
                let part = self.unseal(cx, &fragment.sealed)?;
                self.reassemble(cx, fragment, part)
            }
        }
    }

    /// Only authentic fragments come here (RFC 7383 section 2.6).
    fn reassemble(&mut self, cx: &Cx, fragment: &Fragment, content: Zeroizing<Vec<u8>>) -> Option<Chain> {
        let header = &fragment.sealed.header;
        let Fragment { number, total, .. } = *fragment;
        let piece =
            Piece { message_id: header.message_id, number, total, first: fragment.sealed.first, content };
        let reassembly = &mut self.fragments[usize::from(header.flags.response)];
        match reassembly.add(cx.now.monotonic, piece) {
            Added::Complete(first, chain) => Some((first, chain)),
            Added::Incomplete | Added::Ignored => None,
        }
    }

    /// Repeats the answer to a request that was answered; nothing else.
    pub(super) fn answer_again(&self, cx: &mut Cx, path: Path, datagram: &Datagram) {
        let header = datagram.header();
        if self.is_ours(header) && !header.flags.response {
            self.is_wanted(cx, path, datagram);
        }
    }

    fn unseal(&self, cx: &mut Cx, sealed: &Encrypted) -> Option<Zeroizing<Vec<u8>>> {
        let opened = self.keys.open(self.role.peer(), sealed).ok();
        cx.core.counters.not_authentic += u64::from(opened.is_none());
        opened
    }
}

fn content(first: PayloadType, chain: &[u8]) -> Result<Message, Bad> {
    match wire::parse_chain(first, chain) {
        Ok(payloads) => Message::sort(payloads).map_err(|_| Bad::Syntax),
        Err(ParseError::UnsupportedCritical(kind)) => Err(Bad::Critical(kind)),
        Err(_) => Err(Bad::Syntax),
    }
}

fn fragment_number(datagram: &Datagram) -> Option<u16> {
    match datagram {
        Datagram::Fragment(fragment) => Some(fragment.number),
        _ => None,
    }
}
