//! IKE_INTERMEDIATE (RFC 9242): exchanges between IKE_SA_INIT and IKE_AUTH, which have additional key exchanges in them
//! (RFC 9370 section 2.2.2). After each the keys are new ones; IKE_AUTH proves what all of them said.

use super::auth_answer::Half;
use super::auth_sent::AuthSent;
use super::core::Cx;
use super::head::{Attempt, Head};
use super::ike_sa::IkeSa;
use super::init_sent::Initialised;
use super::pending::Pending;
use super::receive::{Bad, Chain, Opened};
use super::requests::Only;
use super::tunnel::Tunnel;
use super::waiting;
use crate::crypto::{AdditionalShare, KeyExchangeMethod, Role, Shared, answer_additional};
use crate::wire::{self, ExchangeType, Flags, Header, Payload};

/// What AUTH covers of these exchanges (RFC 9242 section 3.3.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Intermediates {
    /// How many have been.
    pub(super) count: u32,
    /// IntAuth_i after the last.
    initiator: Vec<u8>,
    /// IntAuth_r after the last.
    responder: Vec<u8>,
}

impl Intermediates {
    /// IntAuth: nothing if there were none. Message IDs are 0 in IKE_SA_INIT, then one more each; IKE_AUTH_MID is that
    /// of the first IKE_AUTH.
    pub(super) fn octets(&self) -> Vec<u8> {
        if self.count == 0 {
            return Vec::new();
        }
        let message_id = self.count + 1;
        [&self.initiator[..], &self.responder, &message_id.to_be_bytes()].concat()
    }

    /// Takes note of an exchange that is over, with the keys that sealed it.
    fn add(&mut self, sa: &IkeSa, request: &Chain, response: &Chain) {
        self.count += 1;
        self.initiator = chained(sa, Role::Initiator, self.count, &self.initiator, request);
        self.responder = chained(sa, Role::Responder, self.count, &self.responder, response);
    }
}

/// IntAuth of one side with one message more.
fn chained(sa: &IkeSa, side: Role, message_id: u32, before: &[u8], (first, payloads): &Chain) -> Vec<u8> {
    let header = Header {
        initiator_spi: sa.initiator_spi,
        responder_spi: sa.responder_spi,
        exchange: ExchangeType::IKE_INTERMEDIATE,
        flags: Flags { initiator: side == Role::Initiator, response: side == Role::Responder },
        message_id,
    };
    let head = wire::emit_encrypted_head(&header, *first, payloads.len());
    sa.keys.intermediate_auth(side, before, &head, payloads)
}

/// The method of the next key exchange that is still to be done. A resumed IKE SA has the keys of those that were done
/// before.
fn next_method(sa: &IkeSa, begun: &Initialised) -> Option<KeyExchangeMethod> {
    if begun.resumed.is_some() {
        return None;
    }
    sa.keys.suite().additional.iter().nth(begun.intermediates.count as usize)
}

fn key_exchange(method: KeyExchangeMethod, public: &[u8]) -> Payload {
    Payload::KeyExchange { group: method.id(), data: public.to_vec() }
}

fn emit(payload: &Payload) -> Chain {
    let (first, octets) = wire::emit_chain(std::slice::from_ref(payload));
    (first, octets.into())
}

/// The exchange is over: its keys are replaced. The old ones come back.
fn advance(
    cx: &mut Cx,
    sa: &mut IkeSa,
    begun: &mut Initialised,
    shared: &Shared,
    messages: (&Chain, &Chain),
) -> crate::crypto::IkeKeys {
    cx.core.counters.additional_key_exchanges += 1;
    begun.intermediates.add(sa, messages.0, messages.1);
    let nonces = (begun.initiator_nonce.as_slice(), begun.responder_nonce.as_slice());
    let keys = sa.keys.after_intermediate(shared, nonces, (sa.initiator_spi, sa.responder_spi));
    std::mem::replace(&mut sa.keys, keys)
}

/// Our IKE_INTERMEDIATE request is outstanding.
pub(super) struct IntermediateSent {
    pub(super) head: Head,
    pub(super) attempt: Attempt,
    pub(super) sa: IkeSa,
    begun: Initialised,
    share: AdditionalShare,
}

impl IntermediateSent {
    /// Begins the next key exchange, or IKE_AUTH if all have been.
    pub(super) fn begin(
        cx: &mut Cx,
        head: Head,
        attempt: Attempt,
        sa: IkeSa,
        begun: Initialised,
    ) -> Option<Tunnel> {
        let Some(method) = next_method(&sa, &begun) else {
            return AuthSent::begin(cx, head, attempt, sa, begun);
        };
        match AdditionalShare::generate(method, &mut |octets| cx.host.random(octets)) {
            Ok(share) => {
                let mut state = Self { head, attempt, sa, begun, share };
                state.send(cx);
                Some(Tunnel::IntermediateSent(Box::new(state)))
            }
            Err(error) => waiting::after_failure(cx, head, attempt, error.to_string()),
        }
    }

    fn payload(&self) -> Payload {
        key_exchange(self.share.method(), self.share.public())
    }

    /// Without an IV the attempt waits as if the request had been lost.
    fn send(&mut self, cx: &mut Cx) {
        let request = [self.payload()];
        let Self { head, sa, .. } = self;
        let way = (head.path, &*head.connection);
        sa.request(cx, way, (ExchangeType::IKE_INTERMEDIATE, &request), Pending::Intermediate);
    }

    /// The response.
    pub(super) fn on_message(mut self: Box<Self>, cx: &mut Cx, opened: &Opened) -> Option<Tunnel> {
        if !opened.is_response {
            // The peer asks too early; it asks again.
            self.sa.window.responses.forget(opened.message_id);
            return Some(Tunnel::IntermediateSent(self));
        }
        if opened.exchange != ExchangeType::IKE_INTERMEDIATE {
            return Some(Tunnel::IntermediateSent(self));
        }
        self.sa.take_pending(opened.message_id);
        match self.agree(opened) {
            Ok(shared) => self.proceed(cx, &shared, &opened.chain),
            Err(problem) => self.fail(cx, problem),
        }
    }

    fn agree(&self, opened: &Opened) -> Result<Shared, String> {
        let (peer, method) = (self.head.peer(), self.share.method());
        let message = opened.content.as_ref().map_err(|bad| match bad {
            Bad::Critical(kind) => {
                format!("peer {peer} answers IKE_INTERMEDIATE with unknown payload {kind}")
            }
            Bad::Syntax => format!("peer {peer} answers IKE_INTERMEDIATE with a malformed message"),
        })?;
        if let Some(error) = message.error() {
            return Err(format!(
                "peer {peer} refuses key exchange {}: {}; look at its log",
                method.keyword(),
                error.kind
            ));
        }
        let public = message.key_exchange.as_ref().filter(|(id, _)| *id == method.id());
        let (_, public) = public.ok_or_else(|| {
            format!("peer {peer} does not do key exchange {}, which it has chosen", method.keyword())
        })?;
        self.share.agree(public).map_err(|error| format!("peer {peer}: {error}"))
    }

    fn proceed(self: Box<Self>, cx: &mut Cx, shared: &Shared, response: &Chain) -> Option<Tunnel> {
        let request = emit(&self.payload());
        let Self { head, attempt, mut sa, mut begun, .. } = *self;
        advance(cx, &mut sa, &mut begun, shared, (&request, response));
        Self::begin(cx, head, attempt, sa, begun)
    }

    fn fail(self: Box<Self>, cx: &mut Cx, problem: String) -> Option<Tunnel> {
        let Self { head, attempt, .. } = *self;
        waiting::after_failure(cx, head, attempt, problem)
    }

    /// Sends the request again, or gives up.
    pub(super) fn on_timeout(mut self: Box<Self>, cx: &mut Cx) -> Option<Tunnel> {
        match self.sa.repeat_only(cx, self.head.path) {
            Only::Unsent => {
                self.send(cx);
                Some(Tunnel::IntermediateSent(self))
            }
            Only::Again => Some(Tunnel::IntermediateSent(self)),
            Only::Enough => {
                let peer = self.head.peer();
                let problem = format!(
                    "peer {peer} does not answer IKE_INTERMEDIATE; its large messages may be lost on the way: set fragmentation = force"
                );
                self.fail(cx, problem)
            }
        }
    }
}

/// A responder's answer to IKE_INTERMEDIATE; a sentence if it is none that was agreed on.
pub(super) fn answer(
    cx: &mut Cx,
    head: &Head,
    begun: &mut Initialised,
    sa: &mut IkeSa,
    opened: &Opened,
) -> Result<(), String> {
    let (payload, shared) = agree(cx, begun, sa, opened)?;
    let request = (ExchangeType::IKE_INTERMEDIATE, opened.message_id);
    sa.respond(cx, (head.path, &head.connection), request, std::slice::from_ref(&payload));
    sa.keys_before = Some(advance(cx, sa, begun, &shared, (&opened.chain, &emit(&payload))));
    Ok(())
}

fn agree(cx: &mut Cx, begun: &Initialised, sa: &IkeSa, opened: &Opened) -> Result<(Payload, Shared), String> {
    let method = next_method(sa, begun);
    let method = method.ok_or("the peer sends IKE_INTERMEDIATE, which was not agreed on")?;
    let message = opened.content.as_ref().map_err(|_| "the peer's IKE_INTERMEDIATE is malformed")?;
    let public = message.key_exchange.as_ref().filter(|(id, _)| *id == method.id());
    let (_, public) = public
        .ok_or_else(|| format!("the peer does not do key exchange {}, which was chosen", method.keyword()))?;
    let answer = answer_additional(method, public, &mut |octets| cx.host.random(octets));
    let (ours, shared) = answer.map_err(|error| error.to_string())?;
    Ok((key_exchange(method, &ours), shared))
}

impl Half {
    /// Whether key exchanges that were agreed on are still to be done; IKE_AUTH comes after the last.
    pub(super) fn lacks_key_exchanges(&self) -> bool {
        next_method(&self.sa, &self.begun).is_some()
    }
}
