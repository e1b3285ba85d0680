//! TCP (RFC 9293), as far as a gateway looks at it: the maximum segment size that a SYN offers.

use super::ip::{Fragment, IpHeader};
use super::ipv4::{self, TCP};
use super::{be16, checksum, ipv6};

/// Octets of a header without options.
pub const HEADER: usize = 20;

/// Offset of the checksum.
pub(super) const CHECKSUM_AT: usize = 16;
const FLAGS_AT: usize = 13;
const SYN: u8 = 2;

const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// The largest segment, in octets, that fits a packet of `mtu` octets without options (RFC 9293 section 3.7.1: senders
/// subtract their options themselves).
#[inline]
pub const fn mss_within(mtu: u16, is_ipv6: bool) -> u16 {
    let ip = if is_ipv6 { ipv6::HEADER } else { ipv4::HEADER };
    mtu.saturating_sub((ip + HEADER) as u16)
}

/// Lowers the maximum segment size that a SYN offers to `maximum` octets, in place, with its checksum (which must be
/// complete, not left to an interface). Returns whether it did. A packet that is not a SYN, offers less or nothing, or is
/// not well-formed stays as it is: what a receiver makes of it is not ours to mend.
///
/// A SYN without the option stands for 536 octets in IPv4 and 1,220 in IPv6 (RFC 9293 section 3.7.1), which fit every
/// path that carries its family.
#[inline]
pub fn clamp_mss(packet: &mut [u8], header: &IpHeader, maximum: u16) -> bool {
    header.protocol == TCP
        && header.fragment == Fragment::Whole
        && lower(header.payload_mut(packet), maximum).is_some()
}

fn lower(segment: &mut [u8], maximum: u16) -> Option<()> {
    if segment.get(FLAGS_AT)? & SYN == 0 {
        return None;
    }
    let header_length = usize::from(segment.get(12)? >> 4) * 4;
    let options = segment.get(HEADER..header_length)?;
    let at = HEADER + mss_offset(options)?;
    let (old, sum) = (be16(segment, at).ok()?, be16(segment, CHECKSUM_AT).ok()?);
    if old <= maximum {
        return None;
    }
    // The sum is over words at even offsets; options begin anywhere.
    let in_words = |value: u16| if at.is_multiple_of(2) { value } else { value.swap_bytes() };
    let sum = checksum::update(sum, in_words(old), in_words(maximum));
    segment.get_mut(at..at + 2)?.copy_from_slice(&maximum.to_be_bytes());
    segment.get_mut(CHECKSUM_AT..CHECKSUM_AT + 2)?.copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Where among the options the value of the maximum segment size stands.
fn mss_offset(options: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match options.get(at..)? {
            [MAXIMUM_SEGMENT_SIZE, 4, _, _, ..] => return Some(at + 2),
            [END_OF_OPTIONS, ..] | [] => return None,
            [NO_OPERATION, ..] => at += 1,
            // A length below two is not one, and would never end.
            [_, length, ..] if *length >= 2 => at += usize::from(*length),
            _ => return None,
        }
    }
}
