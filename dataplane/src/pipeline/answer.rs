//! ICMP errors to inner senders.

use std::net::IpAddr;

use super::{Pipeline, parse_ipv4};
use crate::io::{Frame, PacketIo, Side};
use crate::next_hop::Mac;
use crate::packet::ethernet::EthernetHeader;
use crate::packet::icmp::{self, IcmpError};

/// Errors that one worker sends per second at most (RFC 1812 section 4.3.2.8), and at once.
const PER_SECOND: u64 = 100;
const BURST: u64 = 50;
/// Octets of the longest Ethernet header that can be parsed.
const LONGEST_HEADER: usize = 22;

/// A token bucket in ns.
#[derive(Debug, Default)]
pub(super) struct AnswerLimit {
    spent_until: u64,
}

impl AnswerLimit {
    /// Whether one more may be sent at `now`.
    fn admit(&mut self, now: u64) -> bool {
        let cost = 1_000_000_000 / PER_SECOND;
        let earliest = now.saturating_sub(cost * BURST);
        let spent = self.spent_until.max(earliest) + cost;
        let admitted = spent <= now;
        if admitted {
            self.spent_until = spent;
        }
        admitted
    }
}

impl Pipeline {
    /// Turns a packet from the inner side into the error about it and sends it back where it came from; or drops
    /// it silently where no error may be sent.
    #[cold]
    pub(super) fn answer<I: PacketIo>(&mut self, io: &mut I, mut frame: Frame, error: IcmpError) {
        let own = match self.hops.load().side(Side::Inner).address {
            Some(own) if self.answers.admit(self.now) => own,
            _ => {
                self.counters.icmp_suppressed.add(1);
                return io.release(frame);
            }
        };
        match turn_around(&frame, io.buffer(&frame), own, error) {
            Some((start, length)) => {
                frame.start = start as u32;
                frame.length = length as u32;
                self.counters.icmp_sent.add(1);
                self.egress.push(Side::Inner, frame, None);
            }
            None => io.release(frame),
        }
    }
}

/// Writes the error and, in front of it, the frame's own Ethernet header with its addresses exchanged.
fn turn_around(frame: &Frame, buffer: &mut [u8], own: IpAddr, error: IcmpError) -> Option<(usize, usize)> {
    let (about, packet) = parse_ipv4(frame, buffer).ok()?;
    let link = EthernetHeader::parse(&buffer[frame.range()]).ok()?;
    let is_group = |mac: &Mac| mac.0[0] & 1 != 0;
    if is_group(&link.destination) || !icmp::may_answer(&about, &buffer[packet.clone()], error) {
        return None;
    }
    let mut header = [0; LONGEST_HEADER];
    let header = header.get_mut(..link.length)?;
    header.copy_from_slice(&buffer[frame.range()][..link.length]);
    header[..6].copy_from_slice(&link.source.0);
    header[6..12].copy_from_slice(&link.destination.0);
    let (start, length) = icmp::emit_around(buffer, packet.start, &about, own, error)?;
    let begin = start.checked_sub(link.length)?;
    buffer[begin..start].copy_from_slice(header);
    Some((begin, link.length + length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_a_rate_with_a_burst() {
        let mut limit = AnswerLimit::default();
        let second = 1_000_000_000;
        let admitted = |limit: &mut AnswerLimit, at| (0..1000).filter(|_| limit.admit(at)).count() as u64;
        assert_eq!(admitted(&mut limit, 10 * second), BURST);
        assert_eq!(admitted(&mut limit, 10 * second + second / 10), PER_SECOND / 10);
        assert_eq!(admitted(&mut limit, 60 * second), BURST);
    }
}
