//! What the policies say about a flow (RFC 4301 sections 5.1 and 5.2).

use std::ops::Range;

use baton_sad::{Direction, SaHandle};

use super::{Forward, IpHeader, Pipeline, Stop, egress};
use crate::drop_reason::DropReason;
use crate::io::{PacketIo, Side};
use crate::next_hop::NextHop;
use crate::packet::icmp::IcmpError;
use crate::packet::ip;
use crate::packet::transport::Flow;
use crate::spd::{Action, Way};

/// What becomes of a flow's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Protect(SaHandle),
    /// It is to be protected, but there is no SA of this reqid yet.
    Acquire(u32),
    Bypass,
    Drop(DropReason),
}

impl<I: PacketIo> Pipeline<I> {
    /// The decision about an outbound flow: from the cache, or from SPD and SAD.
    #[inline]
    pub(super) fn decide(&mut self, flow: &Flow) -> Result<Decision, Stop> {
        if let Some(decision) = self.flows.get(flow) {
            return Ok(decision);
        }
        let decision = self.decide_anew(flow)?;
        self.flows.put(flow, decision);
        Ok(decision)
    }

    fn decide_anew(&mut self, flow: &Flow) -> Result<Decision, Stop> {
        if self.is_spoofed(flow) {
            return Ok(Decision::Drop(DropReason::Spoofed));
        }
        let Some(policy) = self.spd.load().outbound(flow) else {
            return Ok(Decision::Drop(DropReason::NoPolicy));
        };
        let reqid = match policy.action {
            Action::Protect { reqid } => reqid,
            Action::Bypass(_) => return Ok(Decision::Bypass),
            Action::Discard(_) => return Ok(Decision::Drop(DropReason::PolicyDiscard)),
        };
        let Some(handle) = self.table.lookup(Direction::Outbound, reqid) else {
            return Ok(Decision::Acquire(reqid));
        };
        self.check_owner(handle)?;
        let sa = self.sas.get(&self.table, &self.engine, handle)?;
        let selected = sa.selects(flow, Way::Outbound);
        Ok(if selected { Decision::Protect(handle) } else { Decision::Drop(DropReason::Selectors) })
    }

    /// Whether an inner host uses an address to which no route leads on its side (RFC 3704 section 2.2).
    fn is_spoofed(&mut self, flow: &Flow) -> bool {
        self.anti_spoofing
            && matches!(self.hops.load().lookup(Side::Inner, flow.source()), NextHop::None)
    }

    /// The decision about a packet that came in clear from the outer side: only a policy that says so lets it pass
    /// (RFC 4301 section 5.2 step 3a).
    pub(super) fn decide_clear(&mut self, flow: &Flow) -> Decision {
        match self.spd.load().inbound(flow).map(|policy| policy.action) {
            Some(Action::Bypass(_)) => Decision::Bypass,
            Some(Action::Discard(_)) => Decision::Drop(DropReason::PolicyDiscard),
            Some(Action::Protect { .. }) => Decision::Drop(DropReason::Unprotected),
            None => Decision::Drop(DropReason::NoPolicy),
        }
    }

    /// A packet that a policy lets out in clear.
    #[inline(always)]
    pub(super) fn bypass(
        &mut self,
        buffer: &mut [u8],
        header: &IpHeader,
        packet: Range<usize>,
    ) -> Result<Forward, Stop> {
        if header.hop_limit <= 1 {
            return Err(Stop::Answer(DropReason::TtlExpired, IcmpError::TimeExceeded));
        }
        self.pass(buffer, header, packet, Side::Outer)
    }

    /// A packet that a policy lets in in clear.
    pub(super) fn bypass_inbound(
        &mut self,
        buffer: &mut [u8],
        header: &IpHeader,
        packet: Range<usize>,
    ) -> Result<Forward, Stop> {
        if header.hop_limit <= 1 {
            return Err(DropReason::TtlExpired.into());
        }
        self.pass(buffer, header, packet, Side::Inner)
    }

    #[inline(always)]
    fn pass(
        &mut self,
        buffer: &mut [u8],
        header: &IpHeader,
        packet: Range<usize>,
        side: Side,
    ) -> Result<Forward, Stop> {
        if !header.is_forwardable() {
            return Err(DropReason::NotForwardable.into());
        }
        ip::decrement_hop_limit(&mut buffer[packet.clone()]);
        self.counters.bypassed.add(1);
        Ok((packet, egress::Way { side, destination: header.destination(), segment: None }))
    }
}
