//! Sending peers to another gateway (RFC 5685): new ones at once, those of a connection when they have proved who they
//! are, and standing ones on command.

use std::net::IpAddr;

use super::Ike;
use super::core::Cx;
use super::init_answered::Request;
use super::pending::Pending;
use super::redirect::{self, sealed_redirect};
use super::tasks::Task;
use super::tunnel::Tunnel;
use super::up::Up;
use crate::configuration::Configuration;
use crate::host::{CommandError, Event, Host, Now, Target};
use crate::wire::{ExchangeType, GatewayIdentity, NotifyType, Payload, Redirect};

impl Request<'_> {
    /// Where the initiator is to go instead of beginning here: if we take no new peers, it can be sent, and has not
    /// come from there.
    pub(super) fn elsewhere(&self, configuration: &Configuration, ike_sas: usize) -> Option<GatewayIdentity> {
        let gateway = configuration.maintenance.gateway(ike_sas)?;
        let origin = redirect::origin(self.message);
        let is_sendable = redirect::is_supported(self.message) && !is_origin(origin, gateway);
        is_sendable.then(|| gateway.clone())
    }

    /// Answers with REDIRECT and the initiator's nonce, keeping nothing (RFC 5685 section 3).
    pub(super) fn redirect(&self, cx: &mut Cx, gateway: GatewayIdentity) {
        let nonce = self.message.nonce.clone().unwrap_or_default();
        cx.core.counters.redirects_sent += 1;
        self.refuse(cx, NotifyType::REDIRECT, &Redirect { gateway, nonce }.emit());
    }
}

/// Whether that gateway has sent the initiator here: to send it back would be a loop.
fn is_origin(origin: Option<IpAddr>, gateway: &GatewayIdentity) -> bool {
    origin.map(GatewayIdentity::Address).as_ref() == Some(gateway)
}

impl Up {
    /// Where the peer, which has just proved who it is, is to go: the answer has REDIRECT and no Child SA (RFC 5685
    /// section 6).
    pub(super) fn redirect_at_once(&mut self, cx: &mut Cx, origin: Option<IpAddr>) -> Option<Payload> {
        let gateway = self.head.connection.moving.redirect_to.clone()?;
        if !self.redirection.can_send || is_origin(origin, &gateway) {
            return None;
        }
        self.dynamic.remote.clear();
        self.note_sent(cx, &gateway);
        self.begin_leave(cx);
        Some(sealed_redirect(&gateway))
    }

    fn note_sent(&mut self, cx: &mut Cx, gateway: &GatewayIdentity) {
        cx.core.counters.redirects_sent += 1;
        self.redirection.was_sent = true;
        cx.event(Event::Redirected { tunnel: self.head.name(), gateway: gateway.to_string(), by_us: true });
    }

    /// From now on the peer has time to leave.
    pub(super) fn begin_leave(&mut self, cx: &Cx) {
        let timeout = self.head.connection.moving.redirect_timeout;
        self.redirection.leave_at = (!timeout.is_zero()).then(|| cx.now.monotonic.saturating_add(timeout));
    }

    /// Tells the peer where to go (RFC 5685 section 5).
    pub(super) fn send_redirect(&mut self, cx: &mut Cx, gateway: &GatewayIdentity) {
        let payloads = [sealed_redirect(gateway)];
        if self.ask(cx, ExchangeType::INFORMATIONAL, &payloads, Pending::Redirect) {
            self.note_sent(cx, gateway);
        }
    }
}

impl Ike {
    /// Sends the peers of a target, or all, to another gateway; how many. Of the others it is told why not.
    pub(super) fn redirect(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        target: Option<&Target>,
        gateway: &GatewayIdentity,
    ) -> Result<usize, CommandError> {
        if matches!(target, Some(Target::Child(..) | Target::Spi(_))) {
            return Err(CommandError::NoMatch("a tunnel or connection of that name".to_owned()));
        }
        let mut unable = 0;
        let redirected = self.for_each(now, host, target, |tunnel, cx, count| {
            Some(tunnel.redirect(cx, gateway, count, &mut unable))
        });
        match redirected {
            Err(CommandError::NoMatch(_)) if unable > 0 => Err(CommandError::NotRedirectable(unable)),
            result => result,
        }
    }
}

impl Tunnel {
    fn redirect(self, cx: &mut Cx, gateway: &GatewayIdentity, count: &mut usize, unable: &mut usize) -> Self {
        let Self::Up(mut up) = self else { return self };
        if up.is_ending() {
            return Self::Up(up);
        }
        if !up.redirection.can_send {
            *unable += 1;
            let problem = format!(
                "peer {} cannot be sent to gateway {gateway}: it did not begin the tunnel, or does not know redirects; move the tunnel, or end it with `dpctl down`",
                up.head.peer()
            );
            up.head.failed(cx, problem);
            return Self::Up(up);
        }
        let task = Task::Redirect(gateway.clone());
        up.tasks.remove(&task);
        *count += usize::from(up.tasks.add(task));
        up.proceed(cx)
    }
}
