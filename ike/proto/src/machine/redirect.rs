//! REDIRECT (RFC 5685): what both sides know of it. `redirect_follow.rs` is the side that is sent elsewhere,
//! `redirect_send.rs` the one that sends.

use std::net::IpAddr;
use std::time::Duration;

use super::core::Id;
use super::message::{Message, flag, notify};
use crate::configuration::Connection;
use crate::wire::{GatewayIdentity, NotifyType, Payload, Redirect, RedirectedFrom};

/// MAX_REDIRECTS (RFC 5685 section 7).
pub(super) const MAX_REDIRECTS: usize = 5;
/// REDIRECT_LOOP_DETECT_PERIOD (RFC 5685 section 7).
pub(super) const LOOP_DETECT_PERIOD: Duration = Duration::from_mins(5);

/// When redirects were followed lately (monotonic): so many in so short a time are a loop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trail(pub(super) Vec<Duration>);

impl Trail {
    /// Takes note of one more; whether it may be followed.
    pub(super) fn admit(&mut self, now: Duration) -> bool {
        self.0.retain(|at| now < at.saturating_add(LOOP_DETECT_PERIOD));
        let is_admitted = self.0.len() < MAX_REDIRECTS;
        if is_admitted {
            self.0.push(now);
        }
        is_admitted
    }
}

/// How an attempt came to the gateway that it tries.
#[derive(Debug, Clone, Default)]
pub(super) struct Detour {
    pub(super) trail: Trail,
    /// The gateway that has sent us here.
    pub(super) from: Option<IpAddr>,
    /// The tunnel with that one, which ends when the new one stands.
    pub(super) old: Option<Id>,
}

/// What a tunnel that stands has of redirects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Redirection {
    /// We began the tunnel and said that we can be sent elsewhere. Only the original responder redirects, whoever
    /// rekeys later (RFC 5685 section 10).
    pub(super) is_follower: bool,
    /// The peer began it and said so.
    pub(super) can_send: bool,
    pub(super) trail: Trail,
    /// Where we have been sent; a tunnel to there is being set up.
    pub(super) following: Option<GatewayIdentity>,
    /// The peer was sent elsewhere and has until then (monotonic) to leave.
    pub(super) leave_at: Option<Duration>,
    /// The peer was sent elsewhere.
    pub(super) was_sent: bool,
}

/// What an initiator says of redirects in IKE_SA_INIT (RFC 5685 sections 3 and 9).
pub(super) fn announcement(connection: &Connection, detour: &Detour) -> Vec<Payload> {
    if connection.moving.follow_redirects.is_empty() {
        return Vec::new();
    }
    let from = detour.from.map(|from| notify(NotifyType::REDIRECTED_FROM, RedirectedFrom(from).emit()));
    std::iter::once(flag(NotifyType::REDIRECT_SUPPORTED)).chain(from).collect()
}

/// Whether the initiator can be sent elsewhere (RFC 5685 section 3).
pub(super) fn is_supported(message: &Message) -> bool {
    message.has(NotifyType::REDIRECT_SUPPORTED) || message.has(NotifyType::REDIRECTED_FROM)
}

/// The gateway that has sent the initiator here.
pub(super) fn origin(message: &Message) -> Option<IpAddr> {
    let notify = message.notify(NotifyType::REDIRECTED_FROM)?;
    RedirectedFrom::parse(&notify.data).ok().map(|RedirectedFrom(address)| address)
}

/// REDIRECT as a sealed message has it: without a nonce (RFC 5685 section 9.2).
pub(super) fn sealed_redirect(gateway: &GatewayIdentity) -> Payload {
    notify(NotifyType::REDIRECT, Redirect { gateway: gateway.clone(), nonce: Vec::new() }.emit())
}

/// The REDIRECT of a sealed message; one with a nonce, which it must not have, is none.
pub(super) fn read_sealed(message: &Message) -> Option<GatewayIdentity> {
    let redirect = Redirect::parse(&message.notify(NotifyType::REDIRECT)?.data).ok()?;
    redirect.nonce.is_empty().then_some(redirect.gateway)
}
