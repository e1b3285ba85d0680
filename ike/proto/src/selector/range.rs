//! Ranges of addresses as prefixes.

use std::net::IpAddr;

/// More prefixes than this and the data plane refuses a range. No IPv4 range needs more than 62.
const MAX_PREFIXES: usize = 64;

/// Whether so few prefixes make up the range that the data plane takes it.
pub(super) fn is_installable(first: IpAddr, last: IpAddr) -> bool {
    blocks(first, last).nth(MAX_PREFIXES).is_none()
}

/// A prefix where the range is one, otherwise its ends.
pub(super) fn show(first: IpAddr, last: IpAddr) -> String {
    let mut blocks = blocks(first, last);
    match (blocks.next(), blocks.next()) {
        (Some(host_bits), None) => format!("{first}/{}", width(first) - host_bits),
        _ => format!("{first}-{last}"),
    }
}

/// First and last address of a prefix; `None` if it is longer than an address or has host bits set.
pub(super) fn of_prefix(address: IpAddr, length: u32) -> Option<(IpAddr, IpAddr)> {
    let host_mask = low_mask(width(address).checked_sub(length)?);
    let first = bits(address);
    (first & host_mask == 0).then(|| (address, with_bits(address, first | host_mask)))
}

/// Host bits of the prefixes that make up the range, in order.
fn blocks(first: IpAddr, last: IpAddr) -> impl Iterator<Item = u32> {
    let (mut next, end, width) = (Some(bits(first)), bits(last), width(first));
    std::iter::from_fn(move || {
        let start = next.filter(|start| *start <= end)?;
        let room = (end - start).checked_add(1).map_or(128, u128::ilog2);
        let host_bits = start.trailing_zeros().min(room).min(width);
        next = start.checked_add(low_mask(host_bits)).and_then(|last| last.checked_add(1));
        Some(host_bits)
    })
}

fn low_mask(ones: u32) -> u128 {
    u128::MAX.checked_shr(128 - ones).unwrap_or(0)
}

const fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// An address of the same family.
fn with_bits(family: IpAddr, bits: u128) -> IpAddr {
    match family {
        IpAddr::V4(_) => IpAddr::V4((bits as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(bits.into()),
    }
}
