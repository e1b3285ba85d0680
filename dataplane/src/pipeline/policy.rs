//! What the policies say about a flow (RFC 4301 sections 5.1 and 5.2).

use std::ops::Range;

use super::flow_cache::{self, Decision};
use super::{Forward, IpHeader, Pipeline, Stop, egress, owner};
use crate::drop_reason::DropReason;
use crate::io::{PacketIo, Side};
use crate::next_hop::NextHop;
use crate::packet::icmp::IcmpError;
use crate::packet::ip;
use crate::packet::transport::Flow;
use crate::spd::Way;

impl<I: PacketIo> Pipeline<I> {
    /// The decision about an outbound flow: from the cache, or from SPD and SAD.
    #[inline]
    pub(super) fn decide(&mut self, flow: &Flow) -> Result<Decision, DropReason> {
        if let Some(decision) = self.flows.get(&self.table, flow, Way::Outbound) {
            return Ok(decision);
        }
        let decision = self.decide_anew(flow)?;
        self.flows.put(flow, Way::Outbound, decision);
        Ok(decision)
    }

    fn decide_anew(&mut self, flow: &Flow) -> Result<Decision, DropReason> {
        if self.is_spoofed(flow) {
            return Ok(Decision::Drop(DropReason::Spoofed));
        }
        let is_ours = |handle| owner(handle, self.workers) == self.index;
        let (sas, table, engine) = (&mut self.sas, &self.table, &self.engine);
        flow_cache::decide(self.spd.load(), table, flow, Way::Outbound, |handle| {
            if !is_ours(handle) {
                return Ok(Decision::HandOver(handle));
            }
            let selected = sas.get(table, engine, handle)?.selects(flow, Way::Outbound);
            Ok(if selected { Decision::Protect(handle) } else { Decision::Outside(handle) })
        })
    }

    /// Whether an inner host uses an address to which no route leads on its side (RFC 3704 section 2.2).
    fn is_spoofed(&mut self, flow: &Flow) -> bool {
        self.anti_spoofing && matches!(self.hops.load().lookup(Side::Inner, flow.source()), NextHop::None)
    }

    /// The decision about a packet that came in clear from the outer side: only a policy that says so lets it pass
    /// (RFC 4301 section 5.2 step 3a).
    pub(super) fn decide_clear(&mut self, flow: &Flow) -> Result<Decision, DropReason> {
        let never = |_| Err(DropReason::Unprotected);
        flow_cache::decide(self.spd.load(), &self.table, flow, Way::Inbound, never)
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
