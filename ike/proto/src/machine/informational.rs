//! INFORMATIONAL requests (RFC 7296 sections 1.4 and 2.25).

use super::configuration_payload::{Reply, Request, acknowledge_nothing};
use super::core::Cx;
use super::inbound::Verdict;
use super::message::Message;
use super::up::Up;
use crate::host::DownReason;
use crate::wire::{ConfigurationType, Delete, NotifyType, Payload, ProtocolId};

/// Works on a request. An empty one asks whether we live, and is answered by an empty one (RFC 7296 section 1.4).
pub(super) fn answer(up: &mut Up, cx: &mut Cx, at: usize, message: &Message) -> (Vec<Payload>, Verdict) {
    if message.has(NotifyType::AUTHENTICATION_FAILED) {
        let problem =
            format!("peer {} does not accept our proof; compare secrets or certificates", up.head.peer());
        up.head.failed(cx, problem);
        return (Vec::new(), Verdict::Over(DownReason::Failed));
    }
    if let Some(window) = message.window_size() {
        up.sas[at].window.requests.set_limit(window);
    }
    up.on_redirect(cx, message);
    up.sas[at].take_token(message);
    up.skip_as_asked(cx, message);
    if message.deletes.iter().any(|delete| delete.protocol == ProtocolId::IKE) {
        return (Vec::new(), up.on_ike_delete(cx, at));
    }
    let spis = message.deletes.iter().filter(|delete| delete.protocol == ProtocolId::ESP);
    let spis: Vec<u32> = spis.flat_map(|delete| &delete.spis).copied().collect();
    let paired = up.on_child_deletes(cx, &spis);
    let is_any = !paired.is_empty();
    let delete = is_any.then_some(Payload::Delete(Delete { protocol: ProtocolId::ESP, spis: paired }));
    let ticket = up.answer_ticket_request(cx, at, message);
    let payloads = delete.into_iter().chain(configuration(message)).chain(ticket);
    (payloads.collect(), Verdict::Stays)
}

/// What somebody asks or tells outside of IKE_AUTH: there is nothing to give, and nothing that we take (RFC 7296
/// section 3.15).
fn configuration(message: &Message) -> Option<Payload> {
    let payload = message.configuration.as_ref()?;
    if payload.kind == ConfigurationType::CFG_SET {
        return Some(Payload::Configuration(acknowledge_nothing()));
    }
    let request = Request::read(payload)?;
    Some(Payload::Configuration(Reply::default().write(&request)))
}
