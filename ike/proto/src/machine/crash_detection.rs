//! Quick crash detection (RFC 6290): each end gives the other a token that nobody else can make, and that it can make
//! again when it has lost everything else. Who presents it has lost the IKE SA.
//!
//! Tokens follow from the SPIs and a secret of the cluster alone, so that any of its gateways makes them. One is told
//! only for SPIs that no IKE SA has in a segment that is ours, and to who says which of the two is: of a live one it would
//! be a weapon (section 9.2).

use std::collections::{HashSet, VecDeque};

use super::core::Cx;
use super::ike_sa::{Fate, IkeSa};
use super::message::Message;
use super::tunnel::Tunnel;
use crate::crypto::{CrashSecret, Role, TokenDigest};
use crate::host::{DownReason, Path};
use crate::wire::{Header, Notify, NotifyType, Payload, ProtocolId};

/// Tokens of one message that are looked at; RFC 6290 section 4.5 asks for four.
const MAX_TOKENS: usize = 8;
/// IKE SAs that went to other gateways and are remembered.
const MAX_GONE: usize = 65_536;

/// SPIs of ours whose IKE SAs live on other gateways: of those no token is told.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    spis: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Elsewhere {
    pub(super) fn note(&mut self, spi: u64) {
        if self.spis.insert(spi) {
            self.order.push_back(spi);
        }
        while self.order.len() > MAX_GONE {
            let oldest = self.order.pop_front();
            oldest.map(|oldest| self.spis.remove(&oldest));
        }
    }

    pub(super) fn has(&self, spi: u64) -> bool {
        self.spis.contains(&spi)
    }
}

/// Our token of an IKE SA, if we make any (RFC 6290 sections 4.1 and 5.1).
pub(super) fn token(cx: &Cx, ours: Role, spis: (u64, u64)) -> Option<Payload> {
    cx.core.configuration.crash_detection.then(|| payload(&cx.core.crash_secret, ours, spis))
}

fn payload(secret: &CrashSecret, ours: Role, (initiator_spi, responder_spi): (u64, u64)) -> Payload {
    let data = secret.token(ours, initiator_spi, responder_spi).to_vec();
    let kind = NotifyType::QUICK_CRASH_DETECTION;
    Payload::Notify(Notify { protocol: ProtocolId::IKE, spi: Vec::new(), kind, data })
}

/// The token for the sender of a request to an IKE SA that is not there.
pub(super) fn confession(cx: &Cx, header: &Header) -> Option<Payload> {
    let (initiator_spi, responder_spi) = (header.initiator_spi, header.responder_spi);
    let is_whole = initiator_spi != 0 && responder_spi != 0;
    let ours = if header.flags.initiator { Role::Responder } else { Role::Initiator };
    token(cx, ours, (initiator_spi, responder_spi)).filter(|_| is_whole)
}

fn tokens(message: &Message) -> impl Iterator<Item = &[u8]> {
    let tokens = message.notifies.iter().filter(|notify| notify.kind == NotifyType::QUICK_CRASH_DETECTION);
    tokens.map(|notify| notify.data.as_slice()).take(MAX_TOKENS)
}

impl IkeSa {
    /// The peer's token, in a protected message (RFC 6290 sections 4.2 to 4.4). What is kept of it cannot be
    /// presented.
    pub(super) fn take_token(&mut self, message: &Message) {
        if let Some(digest) = tokens(message).find_map(TokenDigest::of) {
            self.peer_token = Some(digest);
        }
    }

    /// Whether the peer has lost it: the message, which anybody may have sent from anywhere, presents its token.
    fn is_lost(&self, header: &Header, message: &Message) -> bool {
        let spis = (header.initiator_spi, header.responder_spi);
        let is_it = spis == (self.initiator_spi, self.responder_spi);
        is_it && self.peer_token.is_some_and(|kept| tokens(message).any(|token| kept.is_of(token)))
    }
}

/// Whether the message presents tokens, right or wrong.
pub(super) fn is_presented(message: &Message) -> bool {
    tokens(message).next().is_some()
}

impl Tunnel {
    /// A message in the clear that presents tokens. With a right one the IKE SA and all of its Child SAs are deleted
    /// without a word (RFC 6290 section 4.5); with a wrong one it is a hint like any other.
    pub(super) fn on_token(
        self,
        cx: &mut Cx,
        path: Path,
        header: &Header,
        message: &Message,
    ) -> Option<Self> {
        let Self::Up(mut up) = self else { return Some(self) };
        let at = up.sas.iter().position(|sa| sa.is_lost(header, message)).filter(|_| !up.is_frozen);
        match at {
            None => {
                cx.core.counters.crash_tokens_refused += 1;
                let is_hint = header.flags.response && message.has(NotifyType::INVALID_IKE_SPI);
                Some(if is_hint { Self::Up(up).suspect(cx, path) } else { Self::Up(up) })
            }
            Some(0) => {
                cx.core.counters.crashes_detected += 1;
                up.end(cx, DownReason::Crashed, None)
            }
            // Of one that was rekeyed nothing but itself is lost.
            Some(at) => {
                if !matches!(up.sas[at].fate, Fate::Undecided) {
                    up.sas.remove(at);
                }
                Some(up.proceed(cx))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_are_remembered_and_no_more() {
        let mut elsewhere = Elsewhere::default();
        for spi in 0..=MAX_GONE as u64 {
            elsewhere.note(spi);
            elsewhere.note(spi);
        }
        assert!(!elsewhere.has(0) && elsewhere.has(1) && elsewhere.has(MAX_GONE as u64));
        assert_eq!((elsewhere.spis.len(), elsewhere.order.len()), (MAX_GONE, MAX_GONE));
    }
}
