//! What the control plane asks of a worker beside the traffic: NAT keep-alives, dummy packets, announcements.

use std::net::IpAddr;
use std::sync::Arc;

use baton_sad::{Direction, Mode, SaHandle, SlotView};

use super::sa_cache::PreparedSa;
use super::{
    DropReason, EspHeader, Flight, Frame, InFlight, IpHeader, Outcome, PacketIo, Pipeline, Sent, Side,
    check_age, check_usable, egress,
};
use crate::esp::payload::NO_NEXT_HEADER;
use crate::io::{HEADROOM, Medium};
use crate::next_hop::Mac;
use crate::packet::announcement::{Form, announcement};
use crate::packet::ipv4::{self, Ipv4Fields, Ipv4Template};
use crate::worker::Command;

/// Octets in a dummy packet where no TFC padding says otherwise: those of a small IP packet.
const DUMMY_OCTETS: usize = 64;

impl<I: PacketIo> Pipeline<I> {
    /// Does what the control plane asked for, if the SA is still there and its segment is ours (I4).
    #[cold]
    pub(crate) fn obey(&mut self, io: &mut I, command: Command) {
        self.begin();
        let Some(frame) = io.allocate() else { return };
        match command {
            Command::KeepAlive(handle) => self.send_keep_alive(io, frame, handle),
            Command::Dummy(handle) => self.send_dummy(io, frame, handle),
            Command::Announce { side, address, form } => self.announce(io, frame, side, (address, form)),
        }
        self.transmit(io);
    }

    /// Tells the link of `side` that an address is here, if it is one with MAC addresses.
    fn announce(&mut self, io: &mut I, frame: Frame, side: Side, (address, form): (IpAddr, Form)) {
        let mac = self.hops.load().side(side).mac;
        let is_ethernet = io.medium(side) == Medium::Ethernet && mac != Mac::default();
        let octets = is_ethernet.then(|| announcement(address, mac, form)).flatten();
        let placed = octets.and_then(|octets| {
            let place = HEADROOM..HEADROOM + octets.len();
            io.buffer(&frame).get_mut(place.clone())?.copy_from_slice(&octets);
            Some(place)
        });
        match placed {
            Some(place) => self.egress.push(side, frame.with_packet(place), None),
            None => io.release(frame),
        }
    }

    /// RFC 3948 section 2.3.
    fn send_keep_alive(&mut self, io: &mut I, frame: Frame, handle: SaHandle) {
        let made = self.usable(handle).and_then(|(sa, _)| {
            if sa.encapsulation.is_none() {
                return Err(DropReason::SaUnusable);
            }
            let at = HEADROOM;
            let start = sa.outer.emit_keep_alive(io.buffer(&frame), at)?;
            let (destination, segment) = (sa.destination, Some(sa.segment));
            Ok((start..at + 1, egress::Way { side: Side::Outer, destination, segment }))
        });
        match made {
            Ok(forward) => self.forward(io, frame, forward),
            Err(reason) => self.drop(io, frame, reason),
        }
    }

    /// RFC 4303 section 2.6: a packet of which the peer drops everything but that it came.
    fn send_dummy(&mut self, io: &mut I, frame: Frame, handle: SaHandle) {
        match self.frame_dummy(io.buffer(&frame), handle) {
            Ok(flight) => self.sealing.push(InFlight { packet: io.lend(frame), flight }),
            Err(reason) => return self.drop(io, frame, reason),
        }
        self.seal();
        self.finish_sealed(io);
    }

    fn frame_dummy(&mut self, buffer: &mut [u8], handle: SaHandle) -> Result<Flight<Sent>, DropReason> {
        let (iv, now) = (self.ivs.next(&self.table)?, self.now);
        let (table, enforcement) = (Arc::clone(&self.table), self.enforcement);
        let interface = self.hops.load().side(Side::Outer).mtu;
        let (sa, slot) = self.usable(handle)?;
        if sa.mode != Mode::Tunnel {
            return Err(DropReason::SaUnusable);
        }
        let inner = stand_in();
        let room = sa.room(slot, &inner, interface, now);
        let length = DUMMY_OCTETS.min(room) + sa.tfc_padding(DUMMY_OCTETS, room);
        let sequence = sa.next_sequence(&table, slot, enforcement)?;
        slot.add_packets(1, length as u64);
        slot.touch(now);
        let payload = HEADROOM..HEADROOM + length;
        buffer.get_mut(payload.clone()).ok_or(DropReason::Oversized)?.fill(0);
        let header = EspHeader { spi: sa.name.spi, sequence: sequence as u32 };
        let esp = sa.layout.wrap(buffer, payload, 0, header, NO_NEXT_HEADER)?;
        Ok(Flight { handle, esp, sequence, iv, outcome: Outcome::Pending, about: Sent { inner } })
    }

    fn usable(&mut self, handle: SaHandle) -> Result<(&PreparedSa, SlotView<'_>), DropReason> {
        let slot = self.table.slot(handle).ok_or(DropReason::SaUnusable)?;
        let sa = self.sas.get(&self.table, &self.engine, handle)?;
        if sa.name.direction != Direction::Outbound {
            return Err(DropReason::SaUnusable);
        }
        check_usable(&self.table, slot, sa.segment, self.now)?;
        check_age(sa, slot, self.unix_seconds, &mut self.events, self.now)?;
        Ok((sa, slot))
    }
}

/// What the outer header of a packet without an inner one is made from: no DSCP, DF set.
fn stand_in() -> IpHeader {
    let any = [192, 0, 2, 1].into();
    let fields = Ipv4Fields { total_length: ipv4::HEADER as u16, dont_fragment: true, ..Default::default() };
    let octets = Ipv4Template::new(any, any, NO_NEXT_HEADER, 64).emit(fields);
    IpHeader::parse(&octets).expect("an emitted header parses")
}
