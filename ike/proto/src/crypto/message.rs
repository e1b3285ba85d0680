//! Encrypted payloads and Encrypted Fragment payloads (RFC 7296 section 3.14, RFC 5282, RFC 7383 section 2.5).

use thiserror::Error;
use zeroize::Zeroizing;

use super::cipher::Cipher;
use super::{IkeKeys, Role};
use crate::host::Host;
use crate::wire::{
    self, Encrypted, FRAGMENT_HEADER_LENGTH, HEADER_LENGTH, Header, MAX_MESSAGE, PAYLOAD_HEADER_LENGTH,
    Payload, PayloadType,
};

/// The least that a fragment carries, however small the datagrams are to be: below that no path goes, and a message
/// would come apart into thousands.
const MIN_FRAGMENT: usize = 64;

/// Why a message was not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealError {
    /// The host has no IV to give.
    #[error("there is no unused IV; nothing may be sealed until the node has reserved some")]
    NoIv,
    /// Longer than a UDP datagram.
    #[error("a message of {0} octets is longer than IKE carries; use fewer or smaller certificates")]
    TooLong(usize),
}

/// A sealed message that is refused. Which of all possible reasons it is must not show to whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the message is not authentic")]
pub struct OpenError;

impl IkeKeys {
    /// A message from `sender` with `payloads` in an Encrypted payload. The IV of an AEAD comes from
    /// [`Host::explicit_iv`]; that of AES-CBC is random (RFC 7296 section 3.14: unpredictable).
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(
        &self,
        sender: Role,
        header: &Header,
        payloads: &[Payload],
        host: &mut dyn Host,
    ) -> Result<Vec<u8>, SealError> {
        self.seal_behind(sender, header, (None, payloads), host)
    }

    /// The same with a payload in front of the Encrypted payload, in the clear (RFC 8019 section 7.2.2).
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_behind(
        &self,
        sender: Role,
        header: &Header,
        (clear, payloads): (Option<&Payload>, &[Payload]),
        host: &mut dyn Host,
    ) -> Result<Vec<u8>, SealError> {
        let (first, chain) = chain(payloads);
        let sealer = Sealer::new(self, sender);
        let body = sealer.body_length(chain.len());
        check_length(HEADER_LENGTH + PAYLOAD_HEADER_LENGTH + body + length_of(clear))?;
        let head = wire::emit_encrypted_head(header, first, body);
        sealer.seal(clear.map_or(head.clone(), |clear| wire::put_before(clear, &head)), &chain, host)
    }

    /// The same with octets that no list of payloads gives.
    #[cfg(test)]
    pub(crate) fn seal_octets(
        &self,
        sender: Role,
        header: &Header,
        first: PayloadType,
        chain: &[u8],
        host: &mut dyn Host,
    ) -> Result<Vec<u8>, SealError> {
        let sealer = Sealer::new(self, sender);
        let body = sealer.body_length(chain.len());
        sealer.seal(wire::emit_encrypted_head(header, first, body), chain, host)
    }

    /// The same in as few Encrypted Fragment payloads as datagrams of `max_datagram` octets allow (IKE header
    /// included, IP, UDP and non-ESP marker not), at least one (RFC 7383 section 2.5.1).
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_fragments(
        &self,
        sender: Role,
        header: &Header,
        payloads: &[Payload],
        max_datagram: usize,
        host: &mut dyn Host,
    ) -> Result<Vec<Vec<u8>>, SealError> {
        self.seal_fragments_behind(sender, header, (None, payloads), max_datagram, host)
    }

    /// The same with a payload in the clear in front of the first one (RFC 7383 section 2.5.3).
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal_fragments_behind(
        &self,
        sender: Role,
        header: &Header,
        (clear, payloads): (Option<&Payload>, &[Payload]),
        max_datagram: usize,
        host: &mut dyn Host,
    ) -> Result<Vec<Vec<u8>>, SealError> {
        let (first, chain) = chain(payloads);
        check_length(chain.len())?;
        let sealer = Sealer::new(self, sender);
        let capacity = sealer.capacity(max_datagram.saturating_sub(length_of(clear)));
        let total = chain.len().div_ceil(capacity).max(1) as u16;
        let part = |number: u16| {
            let start = capacity * usize::from(number - 1);
            &chain[start..chain.len().min(start + capacity)]
        };
        let mut seal = |number| {
            let body = sealer.body_length(part(number).len());
            let head = wire::emit_fragment_head(header, first, (number, total), body);
            let clear = clear.filter(|_| number == 1);
            let head = clear.map_or(head.clone(), |clear| wire::put_before(clear, &head));
            sealer.seal(head, part(number), host)
        };
        (1..=total).map(&mut seal).collect()
    }

    /// What is inside of a message from `sender`: the chain of payloads, of which [`Encrypted::first`] is the first;
    /// of a [`wire::Fragment`]'s `sealed` a part of the chain.
    ///
    /// # Errors
    /// [`OpenError`]: it was not sealed with these keys, or its padding is impossible.
    pub fn open(&self, sender: Role, message: &Encrypted) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let cipher = Cipher::new(self, sender).ok_or(OpenError)?;
        let mut body = Zeroizing::new(message.body.to_vec());
        let text = cipher.open(message.associated, &mut body).ok_or(OpenError)?;
        let (padding, text) = text.split_last().ok_or(OpenError)?;
        let length = text.len().checked_sub(usize::from(*padding)).ok_or(OpenError)?;
        Ok(Zeroizing::new(text[..length].to_vec()))
    }
}

fn chain(payloads: &[Payload]) -> (PayloadType, Zeroizing<Vec<u8>>) {
    let (first, chain) = wire::emit_chain(payloads);
    (first, Zeroizing::new(chain))
}

/// Octets of a payload in the clear, with its header.
fn length_of(clear: Option<&Payload>) -> usize {
    clear.map_or(0, |clear| wire::emit_chain(std::slice::from_ref(clear)).1.len())
}

fn check_length(length: usize) -> Result<(), SealError> {
    if length <= MAX_MESSAGE { Ok(()) } else { Err(SealError::TooLong(length)) }
}

struct Sealer(Cipher);

impl Sealer {
    fn new(keys: &IkeKeys, sender: Role) -> Self {
        Self(Cipher::new(keys, sender).expect("IkeKeys holds keys of its suite's lengths"))
    }

    /// Octets of IV, text, padding, its length, and integrity check value.
    fn body_length(&self, text: usize) -> usize {
        self.0.iv_length() + (text + 1).next_multiple_of(self.0.alignment()) + self.0.icv_length()
    }

    /// Octets of text in a fragment.
    fn capacity(&self, max_datagram: usize) -> usize {
        let heads = HEADER_LENGTH + PAYLOAD_HEADER_LENGTH + FRAGMENT_HEADER_LENGTH;
        let around = heads + self.0.iv_length() + self.0.icv_length();
        let room = max_datagram.saturating_sub(around);
        (room - room % self.0.alignment()).saturating_sub(1).max(MIN_FRAGMENT)
    }

    fn seal(&self, head: Vec<u8>, text: &[u8], host: &mut dyn Host) -> Result<Vec<u8>, SealError> {
        let mut message = head;
        let whole = message.len() + self.body_length(text.len());
        // The text must not move while it is legible: what it leaves behind would not be wiped.
        message.reserve_exact(whole - message.len());
        self.push_iv(&mut message, host)?;
        let start = message.len();
        message.extend_from_slice(text);
        let end = whole - self.0.icv_length();
        let padding = end - message.len() - 1;
        message.resize(end - 1, 0);
        message.push(padding as u8);
        self.0.seal(&mut message, start).expect("lengths are those of the cipher");
        Ok(message)
    }

    fn push_iv(&self, message: &mut Vec<u8>, host: &mut dyn Host) -> Result<(), SealError> {
        match &self.0 {
            Cipher::Aead { .. } => {
                message.extend_from_slice(&host.explicit_iv().ok_or(SealError::NoIv)?);
            }
            Cipher::Cbc { .. } => {
                let mut iv = [0; super::cipher::BLOCK];
                host.random(&mut iv);
                message.extend_from_slice(&iv);
            }
        }
        Ok(())
    }
}
