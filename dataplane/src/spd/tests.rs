//! The database against the RFC's text as code: one ordered list, tried from the top.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const ANY: RangeInclusive<u16> = 0..=u16::MAX;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMP_V6: u8 = 58;
const MOBILITY: u8 = 135;
const GRE: u8 = 47;

/// One selector of a field against a packet's field, of which `None` cannot be seen.
fn field_holds(selector: &RangeInclusive<u16>, field: Option<u16>) -> bool {
    let (any, opaque) = (*selector == ANY, *selector == Selector::OPAQUE);
    any || field.map_or(opaque, |field| selector.contains(&field))
}

/// RFC 4301 sections 4.4.1.1 and 4.4.1.3, on the public form of selector and flow.
fn selector_holds(selector: &Selector, flow: &Flow, way: Way) -> bool {
    let (source, destination) = (flow.ports().map(|p| p.0), flow.ports().map(|p| p.1));
    let (local, remote, local_port, remote_port) = match way {
        Way::Outbound => (flow.source(), flow.destination(), source, destination),
        Way::Inbound => (flow.destination(), flow.source(), destination, source),
    };
    let one_field = [ICMP, ICMP_V6, MOBILITY].contains(&flow.protocol()) && source.is_some();
    let ports_hold = match way {
        _ if !one_field => {
            field_holds(&selector.local_ports, local_port) && field_holds(&selector.remote_ports, remote_port)
        }
        Way::Outbound => field_holds(&selector.local_ports, local_port),
        Way::Inbound => field_holds(&selector.remote_ports, remote_port),
    };
    let possible = |ports: &RangeInclusive<u16>| ports.start() <= ports.end() || *ports == Selector::OPAQUE;
    selector.local.contains(local)
        && selector.remote.contains(remote)
        && selector.protocol.is_none_or(|protocol| protocol == flow.protocol())
        && possible(&selector.local_ports)
        && possible(&selector.remote_ports)
        && ports_hold
}

/// The first in the order of priority, remote width and position.
fn naive<'p>(policies: &'p [Policy], flow: &Flow, way: Way) -> Option<&'p Policy> {
    let applies = |policy: &Policy| match policy.action {
        Action::Protect { .. } | Action::Bypass(Ways::Both) | Action::Discard(Ways::Both) => true,
        Action::Bypass(Ways::Only(only)) | Action::Discard(Ways::Only(only)) => only == way,
    };
    let matching = policies.iter().filter(|p| applies(p) && selector_holds(&p.selector, flow, way));
    // `min_by_key` gives the first of equals.
    matching.min_by_key(|policy| (policy.priority, width(&policy.selector.remote)))
}

/// A small world in both families, so that ranges nest, meet and overlap, with both ends of the address line.
fn address(ipv6: bool, place: u8, high: bool) -> IpAddr {
    if ipv6 {
        let bits = if high { u128::MAX - 11 + u128::from(place) } else { place.into() };
        Ipv6Addr::from_bits(bits).into()
    } else {
        let bits = if high { u32::MAX - 11 + u32::from(place) } else { place.into() };
        Ipv4Addr::from_bits(bits).into()
    }
}

fn range(ipv6: bool) -> impl Strategy<Value = AddressRange> {
    let ends = ((0_u8..12, any::<bool>()), (0_u8..12, any::<bool>()));
    ends.prop_map(move |(a, b)| {
        let (a, b) = (address(ipv6, a.0, a.1), address(ipv6, b.0, b.1));
        AddressRange::new(a.min(b), a.max(b)).unwrap()
    })
}

fn ports() -> impl Strategy<Value = RangeInclusive<u16>> {
    let kind = |octet: u16| octet << 8;
    prop_oneof![
        3 => Just(ANY),
        1 => Just(Selector::OPAQUE),
        1 => Just(0..=u16::MAX - 1),
        1 => Just(1..=u16::MAX),
        // Also with the ends the wrong way round, which nothing matches.
        2 => (0_u16..5, 0_u16..5).prop_map(|(a, b)| a..=b),
        // Types with all codes.
        2 => (0_u16..4, 0_u16..4).prop_map(move |(a, b)| kind(a.min(b))..=kind(a.max(b)) + 255),
    ]
}

fn protocol() -> impl Strategy<Value = u8> {
    prop_oneof![Just(TCP), Just(UDP), Just(ICMP), Just(ICMP_V6), Just(MOBILITY), Just(GRE)]
}

fn selector() -> impl Strategy<Value = Selector> {
    // Now and then of two families, which nothing matches.
    let addresses = prop_oneof![
        6 => (range(false), range(false)), 5 => (range(true), range(true)), 1 => (range(false), range(true)),
    ];
    let protocol = prop_oneof![Just(None), protocol().prop_map(Some)];
    (addresses, protocol, ports(), ports()).prop_map(
        |((local, remote), protocol, local_ports, remote_ports)| Selector {
            local,
            remote,
            protocol,
            local_ports,
            remote_ports,
        },
    )
}

fn action() -> impl Strategy<Value = Action> {
    let ways =
        || prop_oneof![Just(Ways::Both), Just(Ways::Only(Way::Outbound)), Just(Ways::Only(Way::Inbound))];
    prop_oneof![
        (0_u32..100).prop_map(|reqid| Action::Protect { reqid }),
        ways().prop_map(Action::Bypass),
        ways().prop_map(Action::Discard),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    // The name tells policies apart that are alike otherwise.
    (0_u32..3, selector(), action(), any::<u32>()).prop_map(|(priority, selector, action, name)| Policy {
        name: name.to_string(),
        priority,
        selector,
        action,
    })
}

fn flow() -> impl Strategy<Value = Flow> {
    let end = || (0_u8..12, any::<bool>());
    let field = || prop_oneof![0_u16..5, (0_u16..4, 0_u16..3).prop_map(|(a, b)| a << 8 | b), Just(u16::MAX)];
    (any::<bool>(), end(), end(), protocol(), proptest::option::weighted(0.8, (field(), field()))).prop_map(
        |(ipv6, source, destination, protocol, ports)| {
            let ports = match protocol {
                ICMP | ICMP_V6 | MOBILITY => ports.map(|(kind, _)| (kind, kind)),
                GRE => None,
                _ => ports,
            };
            let place = |end: (u8, bool)| address(ipv6, end.0, end.1);
            Flow::new(place(source), place(destination), protocol, ports)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn lookup_equals_the_ordered_list(policies in vec(policy(), 0..120), flows in vec(flow(), 1..60)) {
        let spd = Spd::new(policies.clone());
        for flow in flows {
            prop_assert_eq!(spd.outbound(&flow), naive(&policies, &flow, Way::Outbound), "out {:?}", flow);
            prop_assert_eq!(spd.inbound(&flow), naive(&policies, &flow, Way::Inbound), "in {:?}", flow);
        }
    }

    /// Whatever came and went before, and in whatever order, a database is what it would be if made at once; and those
    /// before it stay as they were.
    #[test]
    fn a_changed_database_equals_one_made_anew(
        changes in vec((vec(policy(), 0..40), vec(any::<prop::sample::Index>(), 0..25)), 1..8),
        is_newest_first in any::<bool>(),
        flows in vec(flow(), 1..30),
    ) {
        let (mut present, mut next, mut spd): (Vec<Placed>, u64, Spd) = (Vec::new(), 1 << 32, Spd::default());
        let mut history = Vec::new();
        for (new, gone) in changes {
            let mut taken = Vec::new();
            for index in gone.iter().take(present.len()) {
                taken.push(present.swap_remove(index.index(present.len())));
            }
            let new: Vec<Placed> = new.into_iter().map(|policy| {
                next = if is_newest_first { next - 1 } else { next + 1 };
                (next, policy)
            }).collect();
            spd = spd.changed(&taken, new.iter().cloned());
            present.extend(new);
            let mut ordered = present.clone();
            ordered.sort_by_key(|(order, _)| *order);
            history.push((spd.clone(), ordered));
        }
        for (spd, ordered) in &history {
            let anew = Spd::placed(ordered.iter().cloned());
            let policies: Vec<Policy> = ordered.iter().map(|(_, policy)| policy.clone()).collect();
            for flow in &flows {
                prop_assert_eq!(spd.outbound(flow), naive(&policies, flow, Way::Outbound), "out {:?}", flow);
                prop_assert_eq!(spd.inbound(flow), naive(&policies, flow, Way::Inbound), "in {:?}", flow);
                prop_assert_eq!(spd.may_hide_protected(flow), anew.may_hide_protected(flow), "{:?}", flow);
            }
        }
    }

    #[test]
    fn matchers_hold_where_the_rfc_says(selector in selector(), flows in vec(flow(), 1..40)) {
        let matcher = Matcher::new(&selector);
        for flow in flows {
            for way in [Way::Outbound, Way::Inbound] {
                let matches = matcher.is_some_and(|matcher| matcher.matches(&flow, way));
                prop_assert_eq!(matches, selector_holds(&selector, &flow, way), "{:?} {:?}", way, flow);
            }
        }
    }
}

fn everything() -> Selector {
    let all = AddressRange::new(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()).unwrap();
    Selector::addresses(all, all)
}

fn v4_flow(protocol: u8, ports: Option<(u16, u16)>) -> Flow {
    Flow::new(Ipv4Addr::new(10, 1, 0, 1).into(), Ipv4Addr::new(10, 2, 0, 1).into(), protocol, ports)
}

fn matches(selector: &Selector, flow: &Flow, way: Way) -> bool {
    Matcher::new(selector).is_some_and(|matcher| matcher.matches(flow, way))
}

/// The RFC's own example: systems behind the gateway may send ICMP traceroutes (type 30), and nobody may send them
/// any (section 4.4.1.3 D).
#[test]
fn one_field_is_checked_on_the_senders_side() {
    let (trace, echo) = (30 << 8, 8 << 8);
    let selector = Selector {
        protocol: Some(ICMP),
        local_ports: trace..=trace | 0xff,
        remote_ports: Selector::OPAQUE,
        ..everything()
    };
    let seen = |kind| v4_flow(ICMP, Some((kind, kind)));
    assert!(matches(&selector, &seen(trace | 3), Way::Outbound));
    assert!(!matches(&selector, &seen(echo), Way::Outbound));
    assert!(!matches(&selector, &seen(trace), Way::Inbound));
    assert!(!matches(&selector, &v4_flow(ICMP, None), Way::Outbound), "a later fragment matches no range");
}

#[test]
fn any_covers_opaque_and_a_range_does_not() {
    let hidden = v4_flow(TCP, None);
    let with = |local_ports, remote_ports| Selector { local_ports, remote_ports, ..everything() };
    for way in [Way::Outbound, Way::Inbound] {
        assert!(matches(&with(ANY, ANY), &hidden, way));
        assert!(matches(&with(ANY, Selector::OPAQUE), &hidden, way));
        assert!(!matches(&with(ANY, 0..=u16::MAX - 1), &hidden, way));
        assert!(!matches(&with(1..=u16::MAX, ANY), &hidden, way));
        assert!(!matches(&with(Selector::OPAQUE, ANY), &v4_flow(TCP, Some((0, u16::MAX))), way));
    }
}

#[test]
fn what_shows_no_ports_may_hide_what_is_protected() {
    let of = |protocol, remote_ports, action, selector: Selector| Policy {
        name: String::new(),
        priority: 0,
        selector: Selector { protocol, remote_ports, ..selector },
        action,
    };
    let (protect, bypass) = (Action::Protect { reqid: 1 }, Action::Bypass(Ways::Both));
    let all_v6 =
        AddressRange::new(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into()).unwrap();
    let v6 = || Selector::addresses(all_v6, all_v6);
    let spd = Spd::new(vec![
        of(Some(6), 443..=443, protect, everything()),
        of(Some(6), 443..=443, protect, v6()),
        of(None, ANY, bypass, everything()),
        of(None, ANY, bypass, v6()),
    ]);
    let v6_flow =
        |protocol| Flow::new(Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into(), protocol, None);
    assert!(spd.may_hide_protected(&v4_flow(6, None)) && spd.may_hide_protected(&v6_flow(6)));
    assert!(spd.may_hide_protected(&v6_flow(60)), "TCP may follow the destination options");
    assert!(
        !spd.may_hide_protected(&v4_flow(6, Some((1, 443)))) && !spd.may_hide_protected(&v4_flow(60, None))
    );
    assert!(!spd.may_hide_protected(&v4_flow(17, None)) && !spd.may_hide_protected(&v6_flow(50)));
    let before = of(Some(6), Selector::OPAQUE, bypass, everything());
    let spd = Spd::new(vec![before, of(Some(6), 443..=443, protect, everything())]);
    assert!(!spd.may_hide_protected(&v4_flow(6, None)), "an exception for fragments comes first");
}

#[test]
fn families_never_meet() {
    let all_v6 =
        AddressRange::new(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::from_bits(u128::MAX).into()).unwrap();
    let v6 = Flow::new(Ipv6Addr::from_bits(1).into(), Ipv6Addr::from_bits(2).into(), TCP, None);
    let v4 = Flow::new(Ipv4Addr::from_bits(1).into(), Ipv4Addr::from_bits(2).into(), TCP, None);
    let policy =
        |selector| Policy { name: String::new(), priority: 0, selector, action: Action::Bypass(Ways::Both) };
    let only_v4 = Spd::new(vec![policy(everything())]);
    let only_v6 = Spd::new(vec![policy(Selector::addresses(all_v6, all_v6))]);
    assert!(only_v4.outbound(&v4).is_some() && only_v4.outbound(&v6).is_none());
    assert!(only_v6.outbound(&v6).is_some() && only_v6.outbound(&v4).is_none());
}

/// Two of 32 bits from one number; a fixed sequence, so that a failure repeats (Steele et al., SplitMix).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 29) as u32
    }

    /// A range of at most this many addresses.
    fn range(&mut self, most: u32) -> AddressRange {
        let (start, length) = (self.next(), self.next() % most);
        v4_range(start, start.saturating_add(length))
    }
}

fn v4_range(start: u32, end: u32) -> AddressRange {
    AddressRange::new(Ipv4Addr::from_bits(start).into(), Ipv4Addr::from_bits(end).into()).unwrap()
}

const MANY: u32 = 100_000;

/// Policies of which the `index`-th has these addresses.
fn many(mut addresses: impl FnMut(u32) -> (AddressRange, AddressRange)) -> Vec<Policy> {
    let policy = |index: u32| {
        let (local, remote) = addresses(index);
        let action = match index % 4 {
            0 => Action::Bypass(Ways::Only(Way::Inbound)),
            1 => Action::Discard(Ways::Both),
            _ => Action::Protect { reqid: index },
        };
        let protocol = [None, Some(TCP), Some(UDP), Some(ICMP)][(index / 4 % 4) as usize];
        let selector = Selector { protocol, ..Selector::addresses(local, remote) };
        Policy { name: index.to_string(), priority: index % 3, selector, action }
    };
    (0..MANY).map(policy).collect()
}

fn check_many(policies: &[Policy]) {
    let spd = Spd::new(policies.to_vec());
    let (nodes, boxes, depth) = spd.v4.both.size();
    assert!(
        2 * nodes < boxes && boxes <= policies.len() && depth < 17,
        "{nodes} nodes, {boxes} boxes, {depth}"
    );
    let mut numbers = Numbers(7);
    for round in 0..60 {
        // Half of the flows inside some policy.
        let selector = &policies[(numbers.next() % MANY) as usize].selector;
        let inside = |range: &AddressRange, lift: u32| match (range.start(), range.end()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                a.to_bits() + ((u64::from(b.to_bits() - a.to_bits()) * u64::from(lift)) >> 32) as u32
            }
            _ => unreachable!("these are of IPv4"),
        };
        let (source, destination) = if round % 2 == 0 {
            (inside(&selector.local, numbers.next()), inside(&selector.remote, numbers.next()))
        } else {
            (numbers.next(), numbers.next())
        };
        let protocol = [TCP, UDP, ICMP, GRE][(numbers.next() % 4) as usize];
        let (source, destination) =
            (Ipv4Addr::from_bits(source).into(), Ipv4Addr::from_bits(destination).into());
        let out = Flow::new(source, destination, protocol, None);
        let back = Flow::new(destination, source, protocol, None);
        assert_eq!(spd.outbound(&out), naive(policies, &out, Way::Outbound), "{out:?}");
        assert_eq!(spd.inbound(&back), naive(policies, &back, Way::Inbound), "{back:?}");
    }
}

#[test]
fn a_hundred_thousand_scattered_policies() {
    let mut numbers = Numbers(1);
    check_many(&many(|_| (numbers.range(1 << 16), numbers.range(1 << 20))));
}

/// Each within the one before: an address in the middle is in all of them.
#[test]
fn a_hundred_thousand_nested_policies() {
    check_many(&many(|index| (v4_range(0, u32::MAX), v4_range(index, u32::MAX - index))));
}

/// Half of them stripes along one side, half along the other: any two of different halves cross.
#[test]
fn a_hundred_thousand_crossing_policies() {
    let stripe = |index: u32| v4_range(index << 14, (index << 14) + 9_000);
    let all = || v4_range(0, u32::MAX);
    check_many(&many(|index| if index % 2 == 0 { (all(), stripe(index)) } else { (stripe(index), all()) }));
}

/// All with the same addresses.
#[test]
fn a_hundred_thousand_equal_policies() {
    check_many(&many(|_| (v4_range(5, 900_000), v4_range(77, 500_000_000))));
}

/// One after the other, in an order that is bad for a tree, and then the first half away again.
#[test]
fn a_tree_that_grew_one_by_one_is_as_good_as_one_made_at_once() {
    let policies = many(|index| (v4_range(0, u32::MAX), v4_range(index << 8, index << 8 | 0xff)));
    let mut spd = Spd::default();
    for placed in (0..).zip(policies.iter().cloned()) {
        spd = spd.changed(&[], [placed]);
    }
    let depth_of = |spd: &Spd, entries: usize| {
        let (nodes, boxes, depth) = spd.v4.both.size();
        assert!(boxes == entries && nodes < boxes, "{nodes} nodes, {boxes} boxes");
        depth
    };
    let both = |range: std::ops::Range<usize>| {
        policies[range].iter().filter(|policy| policy.action.ways() == Ways::Both).count()
    };
    assert!(depth_of(&spd, both(0..policies.len())) < 28);
    let half = policies.len() / 2;
    for placed in (0..).zip(policies.iter().cloned()).take(half) {
        spd = spd.changed([&placed], []);
    }
    assert!(depth_of(&spd, both(half..policies.len())) < 28);
    for (index, policy) in policies.iter().enumerate().step_by(997) {
        let remote = Ipv4Addr::from_bits((index as u32) << 8 | 7);
        let flow = Flow::new(
            Ipv4Addr::LOCALHOST.into(),
            remote.into(),
            policy.selector.protocol.unwrap_or(GRE),
            None,
        );
        let expected = (index >= half && policy.action.ways().include(Way::Outbound)).then_some(policy);
        assert_eq!(spd.outbound(&flow), expected, "{index}");
    }
}
