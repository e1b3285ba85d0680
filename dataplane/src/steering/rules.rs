//! Clear traffic for this host itself from behind a tunnel: the entries of the SPD that let the kernel have it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use baton_sad::{AddressRange, Selector};

use crate::packet::transport::Flow;
use crate::spd::{Matcher, Way};

/// An entry of the SPD for packets that arrive in clear (RFC 4301 section 4.4.1: SPD-I), in their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalRule {
    /// Which packets; local and remote as this gateway sees them.
    pub selector: Selector,
    /// Whether they may be clear: a bypass policy's may, a discard policy's and a tunnel's may not.
    pub permits: bool,
}

/// The rules of `candidates` that can decide about a packet for one of our `own` addresses, multicast and broadcast
/// included; what no rule permits is refused. The filter has room for [`MAX_RULES`](crate::xdp::shared::MAX_RULES).
pub fn needed(candidates: &[LocalRule], own: &[IpAddr]) -> Vec<LocalRule> {
    let is_local = |rule: &&LocalRule| has_local_address(&rule.selector.local, own);
    let rules: Vec<&LocalRule> = candidates.iter().filter(is_local).collect();
    let mut permitted: Vec<&Selector> = Vec::new();
    let mut kept = Vec::new();
    // From the last: who refuses is needed where somebody behind would permit.
    for rule in rules.into_iter().rev() {
        if rule.permits {
            permitted.push(&rule.selector);
        } else if !permitted.iter().any(|permitted| may_meet(permitted, &rule.selector)) {
            continue;
        }
        kept.push(rule.clone());
    }
    kept.reverse();
    kept
}

/// Whether some packet could match both; ports are not looked at.
pub(crate) fn may_meet(a: &Selector, b: &Selector) -> bool {
    let protocols = a.protocol.zip(b.protocol).is_none_or(|(a, b)| a == b);
    protocols && overlap(&a.local, &b.local) && overlap(&a.remote, &b.remote)
}

fn overlap(a: &AddressRange, b: &AddressRange) -> bool {
    a.contains(b.start()) || b.contains(a.start())
}

/// Whether a packet to one of these addresses may be the kernel's: it is ours, or never forwarded as unicast.
fn has_local_address(range: &AddressRange, own: &[IpAddr]) -> bool {
    let ends = match range.start() {
        IpAddr::V4(_) => [
            (Ipv4Addr::new(224, 0, 0, 0).into(), Ipv4Addr::new(239, 255, 255, 255).into()),
            (Ipv4Addr::BROADCAST.into(), Ipv4Addr::BROADCAST.into()),
        ],
        IpAddr::V6(_) => [
            (Ipv6Addr::from_bits(0xff00 << 112).into(), Ipv6Addr::from_bits(u128::MAX).into()),
            (Ipv6Addr::from_bits(0xfe80 << 112).into(), Ipv6Addr::from_bits((0xfec0 << 112) - 1).into()),
        ],
    };
    let meets = |(first, last): (IpAddr, IpAddr)| range.start() <= last && first <= range.end();
    own.iter().any(|address| range.contains(*address)) || ends.into_iter().any(meets)
}

/// Whether the first of `rules` that the packet meets permits it.
pub(crate) fn permit(rules: &[LocalRule], flow: &Flow) -> bool {
    let meets =
        |rule: &&LocalRule| Matcher::new(&rule.selector).is_some_and(|m| m.matches(flow, Way::Inbound));
    rules.iter().find(meets).is_some_and(|rule| rule.permits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: &str, end: &str) -> AddressRange {
        AddressRange::new(start.parse().unwrap(), end.parse().unwrap()).unwrap()
    }

    fn rule(permits: bool, local: (&str, &str), remote: (&str, &str), protocol: Option<u8>) -> LocalRule {
        let selector =
            Selector { protocol, ..Selector::addresses(range(local.0, local.1), range(remote.0, remote.1)) };
        LocalRule { selector, permits }
    }

    #[test]
    fn only_rules_that_can_decide_are_needed() {
        const ANY: (&str, &str) = ("0.0.0.0", "255.255.255.255");
        let (own, inside) = (("203.0.113.2", "203.0.113.2"), ("10.2.0.0", "10.2.255.255"));
        let far = ("192.0.2.0", "192.0.2.255");
        let candidates = [
            rule(false, ANY, ("10.9.0.0", "10.9.0.255"), None), // nobody permits that remote
            rule(false, own, far, Some(6)),
            rule(false, ANY, far, Some(17)), // of those who permit, only one has UDP, for 10.2.0.0/16
            rule(true, inside, far, None),
            rule(true, own, far, Some(6)),
            rule(true, ("224.0.0.5", "224.0.0.5"), far, Some(89)),
            rule(true, ("fe80::1", "fe80::1"), ("fe80::2", "fe80::2"), None),
            rule(true, ("fec0::1", "fec0::1"), ("fe80::2", "fe80::2"), None),
            rule(false, ANY, ANY, None), // as everything is behind the last
        ];
        let at = |indices: &[usize]| indices.iter().map(|i| candidates[*i].clone()).collect::<Vec<_>>();
        let outer: IpAddr = "203.0.113.2".parse().unwrap();
        assert_eq!(needed(&candidates, &[outer]), at(&[1, 4, 5, 6]));
        let both = [outer, "10.2.0.1".parse().unwrap()];
        assert_eq!(needed(&candidates, &both), at(&[1, 2, 3, 4, 5, 6]));
        assert_eq!(needed(&candidates, &[]), at(&[5, 6]));
    }
}
