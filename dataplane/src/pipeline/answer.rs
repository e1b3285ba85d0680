//! ICMP errors to inner senders.

use std::net::IpAddr;

use super::headers::{Arrival, parse_ip};
use super::{Frame, Pipeline, Side};
use crate::events::RateLimit;
use crate::io::{Medium, PacketIo};
use crate::next_hop::Mac;
use crate::packet::ethernet::EthernetHeader;
use crate::packet::icmp::{self, IcmpError};
use crate::packet::ip::IpHeader;

/// Octets of the longest Ethernet header that can be parsed.
const LONGEST_HEADER: usize = 22;

/// How many more errors may be sent (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 f); `None` is none ever.
#[derive(Debug)]
pub(super) struct AnswerLimit(Option<RateLimit>);

impl AnswerLimit {
    /// So many per second, and half of that at once.
    pub(super) fn new(per_second: u32) -> Self {
        let rate = u64::from(per_second);
        Self((rate > 0).then(|| RateLimit::new(rate, rate.div_ceil(2))))
    }

    fn admit(&mut self, now: u64) -> bool {
        self.0.as_mut().is_some_and(|limit| limit.admit(now))
    }
}

impl<I: PacketIo> Pipeline<I> {
    /// Turns a packet from the inner side into the error about it and sends it back where it came from; or drops
    /// it silently where no error may be sent.
    #[cold]
    pub(super) fn answer(&mut self, io: &mut I, mut frame: Frame, error: IcmpError) {
        let arrival = Arrival { frame: &frame, medium: io.medium(Side::Inner) };
        let Some((about, packet, own)) = self.answerable(&arrival, io.buffer(&frame), error) else {
            return io.release(frame);
        };
        if !self.answers.admit(self.now) {
            self.counters.icmp_suppressed.add(1);
            return io.release(frame);
        }
        match turn_around(&arrival, io.buffer(&frame), &about, packet, own, error) {
            Some((start, length)) => {
                frame.start = start as u32;
                frame.length = length as u32;
                self.counters.icmp_sent.add(1);
                self.egress.push(Side::Inner, frame, None);
            }
            None => io.release(frame),
        }
    }

    /// The packet, if an error may be sent about it and we have an address to send it from.
    fn answerable(
        &mut self,
        arrival: &Arrival<'_>,
        buffer: &[u8],
        error: IcmpError,
    ) -> Option<(IpHeader, usize, IpAddr)> {
        let (about, packet) = parse_ip(arrival, buffer).ok()?;
        let own = self.hops.load().side(Side::Inner).addresses[usize::from(about.is_ipv6())]?;
        let is_allowed = icmp::may_answer(&about, &buffer[packet.clone()], error)
            && (arrival.medium == Medium::Ip || is_for_one(&buffer[arrival.frame.range()]));
        is_allowed.then_some((about, packet.start, own))
    }
}

/// Whether a frame was sent to one host and not to a group; nor from one, where the answer would go.
fn is_for_one(octets: &[u8]) -> bool {
    let is_group = |mac: &Mac| mac.0[0] & 1 != 0;
    EthernetHeader::parse(octets).is_ok_and(|link| !is_group(&link.destination) && !is_group(&link.source))
}

/// Writes the error and, in front of it, the frame's own link header with its addresses exchanged.
fn turn_around(
    arrival: &Arrival<'_>,
    buffer: &mut [u8],
    about: &IpHeader,
    packet: usize,
    own: IpAddr,
    error: IcmpError,
) -> Option<(usize, usize)> {
    let begin = arrival.frame.start as usize;
    let mut header = [0; LONGEST_HEADER];
    let header = header.get_mut(..packet.checked_sub(begin)?)?;
    header.copy_from_slice(buffer.get(begin..packet)?);
    if let [destination, source, ..] = header.as_chunks_mut::<6>().0 {
        std::mem::swap(destination, source);
    }
    let (start, length) = icmp::emit_around(buffer, packet, about, own, error)?;
    let begin = start.checked_sub(header.len())?;
    buffer.get_mut(begin..start)?.copy_from_slice(header);
    Some((begin, header.len() + length))
}
