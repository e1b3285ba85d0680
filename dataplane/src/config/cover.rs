//! The prefixes that make up a range of addresses: routes and the filter's match know prefixes only.

use std::net::IpAddr;

use baton_sad::AddressRange;

use crate::packet::transport::bits;
use crate::prefix::Prefix;

/// More prefixes than this and a range is refused. No IPv4 range needs more than 62.
pub(super) const MAX_PREFIXES: usize = 64;

/// The fewest prefixes that cover the range and nothing else, in order: at most 62 of IPv4, 254 of IPv6.
pub(super) fn cover(range: &AddressRange) -> impl Iterator<Item = Prefix> + use<> {
    let (mut next, last) = (Some(bits(range.start())), bits(range.end()));
    let is_ipv6 = range.start().is_ipv6();
    let width: u32 = if is_ipv6 { 128 } else { 32 };
    std::iter::from_fn(move || {
        let first = next.filter(|first| *first <= last)?;
        let host_bits = largest_block(first, last).min(width);
        next = first.checked_add(low_mask(host_bits)).and_then(|end| end.checked_add(1));
        let prefix = Prefix::new(address(first, is_ipv6), (width - host_bits) as u8);
        Some(prefix.expect("a block is aligned to its size"))
    })
}

/// Host bits of the largest aligned block that begins at `first` and does not go beyond `last`.
fn largest_block(first: u128, last: u128) -> u32 {
    let aligned = first.trailing_zeros();
    let room = (last - first).checked_add(1).map_or(128, u128::ilog2);
    aligned.min(room)
}

fn low_mask(ones: u32) -> u128 {
    u128::MAX.checked_shr(128 - ones).unwrap_or(0)
}

fn address(bits: u128, is_ipv6: bool) -> IpAddr {
    if is_ipv6 { IpAddr::V6(bits.into()) } else { IpAddr::V4((bits as u32).into()) }
}

/// The prefix and all that hold it, from the longest to the shortest.
pub(super) fn enclosing(prefix: Prefix) -> impl Iterator<Item = Prefix> {
    (0..=prefix.length()).rev().map(move |length| prefix.truncated(length))
}

/// Whether the range is all of its family.
pub(super) fn is_everything(range: &AddressRange) -> bool {
    cover(range).next().is_some_and(|prefix| prefix.length() == 0)
}

/// Whether two ranges have an address in common.
pub(super) fn overlap(a: &AddressRange, b: &AddressRange) -> bool {
    a.contains(b.start()) || b.contains(a.start())
}

/// The range as people write it: a prefix where it is one.
pub(super) fn show(range: &AddressRange) -> String {
    let mut prefixes = cover(range);
    match (prefixes.next(), prefixes.next()) {
        (Some(prefix), None) => prefix.to_string(),
        _ => range.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;
    use proptest::prelude::*;

    fn covered(start: &str, end: &str) -> Vec<String> {
        let range = AddressRange::new(start.parse().unwrap(), end.parse().unwrap()).unwrap();
        cover(&range).map(|prefix| prefix.to_string()).collect()
    }

    #[test]
    fn a_cover_is_minimal_at_the_ends_of_the_address_line() {
        assert_eq!(covered("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(covered("255.255.255.255", "255.255.255.255"), ["255.255.255.255/32"]);
        assert_eq!(covered("10.1.0.5", "10.1.0.9"), ["10.1.0.5/32", "10.1.0.6/31", "10.1.0.8/31"]);
        assert_eq!(covered("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ["::/0"]);
        assert_eq!(covered("0.0.0.1", "255.255.255.254").len(), 62);
        assert_eq!(covered("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe").len(), 254);
    }

    #[test]
    fn all_enclosing_prefixes_are_found() {
        let of = |text: &str| enclosing(text.parse().unwrap()).map(|p| p.to_string()).collect::<Vec<_>>();
        assert_eq!(of("192.0.0.0/3"), ["192.0.0.0/3", "192.0.0.0/2", "128.0.0.0/1", "0.0.0.0/0"]);
        assert_eq!(of("2001:db8::1/128").len(), 129);
        assert_eq!(of("::/0"), ["::/0"]);
    }

    fn range() -> impl Strategy<Value = AddressRange> {
        let v4 = any::<(u32, u32)>().prop_map(|(a, b)| {
            let end = |x: u32| Ipv4Addr::from_bits(x).into();
            AddressRange::new(end(a.min(b)), end(a.max(b))).unwrap()
        });
        let v6 = any::<(u128, u128)>().prop_map(|(a, b)| {
            let end = |x: u128| Ipv6Addr::from_bits(x).into();
            AddressRange::new(end(a.min(b)), end(a.max(b))).unwrap()
        });
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn a_cover_is_the_range_without_gap_or_overlap(range in range()) {
            let prefixes: Vec<_> = cover(&range).collect();
            prop_assert_eq!(prefixes[0].first(), range.start());
            prop_assert_eq!(prefixes[prefixes.len() - 1].last(), range.end());
            for pair in prefixes.windows(2) {
                prop_assert_eq!(bits(pair[0].last()) + 1, bits(pair[1].first()));
                // Two halves of one larger prefix would not be minimal.
                let halves = pair[0].length() == pair[1].length()
                    && Prefix::new(pair[0].first(), pair[0].length() - 1).is_ok();
                prop_assert!(!halves);
            }
        }
    }
}
