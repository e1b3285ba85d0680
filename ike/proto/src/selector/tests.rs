use super::*;
use proptest::prelude::*;

fn configured(text: &str) -> Vec<TrafficSelector> {
    text.parse::<ConfiguredSelector>().unwrap().resolve(&[])
}

fn all(texts: &[&str]) -> Vec<TrafficSelector> {
    texts.iter().flat_map(|text| configured(text)).collect()
}

fn shown(selectors: &[TrafficSelector]) -> Vec<String> {
    selectors.iter().map(ToString::to_string).collect()
}

type Texts<'a> = &'a [&'a str];

fn narrowed(configured: (Texts, Texts), offered: (Texts, Texts)) -> Option<(Vec<String>, Vec<String>, bool)> {
    let [a, b, c, d] = [configured.0, configured.1, offered.0, offered.1].map(all);
    let sides = Sides { local: &a, remote: &b };
    let narrowed = narrow(sides, Sides { local: &c, remote: &d })?;
    Some((shown(&narrowed.local), shown(&narrowed.remote), narrowed.more_possible))
}

fn answer(local: Texts, remote: Texts, more: bool) -> (Vec<String>, Vec<String>, bool) {
    let owned = |texts: Texts| texts.iter().map(|text| (*text).to_owned()).collect();
    (owned(local), owned(remote), more)
}

const ANYTHING: Texts = &["0.0.0.0/0", "::/0"];

#[test]
fn a_wide_offer_is_narrowed_to_what_is_configured() {
    let wants = (["10.2.0.0/16"].as_slice(), ["10.1.0.0/16[tcp/443]"].as_slice());
    assert_eq!(narrowed(wants, (ANYTHING, ANYTHING)), Some(answer(wants.0, wants.1, false)));
}

#[test]
fn the_packet_that_made_the_peer_ask_decides() {
    let ours = (["10.2.0.0/16", "10.3.0.0/16"].as_slice(), ["10.1.0.0/16"].as_slice());
    let packet: (Texts, Texts) =
        (&["10.3.0.7/32[tcp/80]", "0.0.0.0/0"], &["10.1.0.9/32[tcp/4000]", "0.0.0.0/0"]);
    let found = narrowed(ours, packet).unwrap();
    assert_eq!(found, answer(&["10.3.0.0/16", "10.2.0.0/16"], &["10.1.0.0/16"], false));
}

#[test]
fn an_sa_has_at_most_four_pairs_and_the_peer_hears_that_more_are_possible() {
    let ours = (["10.0.0.0/8"].as_slice(), ["172.16.0.0/12"].as_slice());
    let many: Texts = &["10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "10.4.0.0/16", "10.5.0.0/16"];
    assert_eq!(narrowed(ours, (many, ours.1)), Some(answer(&many[..4], ours.1, true)));
    let square = narrowed((many, many), (many, many)).unwrap();
    assert_eq!((square.0.len() * square.1.len(), square.2), (4, true));
}

#[test]
fn both_families_fit_one_sa_and_selectors_without_a_partner_go() {
    assert_eq!(narrowed((ANYTHING, ANYTHING), (ANYTHING, ANYTHING)), Some(answer(ANYTHING, ANYTHING, false)));
    let one = narrowed((ANYTHING, &["10.1.0.0/16"]), (ANYTHING, ANYTHING));
    assert_eq!(one, Some(answer(&["0.0.0.0/0"], &["10.1.0.0/16"], false)));
}

#[test]
fn nothing_in_common_is_unacceptable() {
    let ours: (Texts, Texts) = (&["10.2.0.0/16[tcp]"], &["10.1.0.0/16"]);
    assert_eq!(narrowed(ours, (&["10.2.0.0/16[udp]"], ANYTHING)), None);
    assert_eq!(narrowed(ours, (&["10.3.0.0/16"], ANYTHING)), None);
    assert_eq!(narrowed(ours, (ANYTHING, &["10.1.0.0/16[udp]"])), None);
    assert_eq!(narrowed(ours, (&[], ANYTHING)), None);
}

#[test]
fn ports_that_cannot_be_seen_are_a_part_of_any_and_of_nothing_else() {
    let ours: (Texts, Texts) = (&["10.2.0.0/16[tcp/opaque]"], &["10.1.0.0/16[tcp]"]);
    assert_eq!(narrowed(ours, (ANYTHING, ANYTHING)), Some(answer(ours.0, ours.1, false)));
    assert_eq!(narrowed(ours, (&["10.2.0.0/16[tcp/80]"], ANYTHING)), None);
    assert_eq!(narrowed((ours.0, &["10.1.0.0/16[tcp/80]"]), (ANYTHING, ANYTHING)), None);
}

#[test]
fn an_answer_must_be_part_of_the_offer() {
    let offered = all(&["10.2.0.0/16[tcp]", "10.3.0.0-10.3.0.9"]);
    assert!(is_subset(&all(&["10.2.1.0/24[tcp/80]", "10.3.0.2-10.3.0.3"]), &offered));
    assert!(!is_subset(&all(&["10.2.1.0/24"]), &offered));
    assert!(!is_subset(&all(&["10.3.0.2-10.3.0.10"]), &offered));
    assert!(!is_subset(&[], &offered));
}

#[test]
fn dynamic_stands_for_addresses_of_both_families() {
    let addresses = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let resolved = |text: &str| shown(&text.parse::<ConfiguredSelector>().unwrap().resolve(&addresses));
    assert_eq!(resolved("dynamic[udp/1701]"), ["192.0.2.1/32[udp/1701]", "2001:db8::1/128[udp/1701]"]);
    assert_eq!(resolved("dynamic[icmp/8]"), ["192.0.2.1/32[icmp/8]"]);
    assert_eq!(resolved("dynamic[icmpv6]"), ["2001:db8::1/128[icmpv6]"]);
    assert_eq!(resolved("10.0.0.0/8"), ["10.0.0.0/8"]);
}

#[test]
fn texts_come_back_as_they_were() {
    let texts = [
        "10.1.0.0/16",
        "10.1.0.5-10.1.0.9",
        "2001:db8::/32[tcp]",
        "10.1.0.0/16[200]",
        "::/0[icmpv6/128-129]",
        "dynamic[udp/1000-2000]",
        "10.1.0.0/16[icmp/3/4]",
        "10.1.0.0/16[icmp/8]",
        "10.1.0.0/16[tcp/opaque]",
    ];
    for text in texts {
        assert_eq!(text.parse::<ConfiguredSelector>().unwrap().to_string(), text);
    }
}

#[test]
fn bad_texts_are_told_apart() {
    use SelectorError as E;
    let error = |text: &str| text.parse::<ConfiguredSelector>().unwrap_err();
    assert!(matches!(error("10.1.0.0.0"), E::Addresses(_)));
    assert!(matches!(error("10.1.0.1/16"), E::Prefix(_)));
    assert!(matches!(error("10.1.0.0/33"), E::Prefix(_)));
    assert!(matches!(error("10.1.0.9-10.1.0.5"), E::Range(_)));
    assert!(matches!(error("10.1.0.9-::1"), E::Range(_)));
    assert!(matches!(error("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"), E::Ragged(_)));
    assert!(matches!(error("10.1.0.0/16[tcp"), E::Brackets));
    assert!(matches!(error("10.1.0.0/16[tpc]"), E::Protocol(_)));
    assert!(matches!(error("10.1.0.0/16[0]"), E::Protocol(_)));
    assert!(matches!(error("10.1.0.0/16[/80]"), E::PortsAlone(_)));
    assert!(matches!(error("10.1.0.0/16[gre/80]"), E::NoPorts(_)));
    assert!(matches!(error("10.1.0.0/16[tcp/80-79]"), E::Ports(_)));
    assert!(matches!(error("10.1.0.0/16[icmp/300]"), E::Types(_)));
    assert!(matches!(error("10.1.0.0/16[icmpv6]"), E::Family("icmpv6")));
}

#[test]
fn impossible_selectors_of_a_peer_are_left_out() {
    let good = configured("10.1.0.0/16[tcp/80]").remove(0).to_wire();
    assert_eq!(TrafficSelector::from_wire(&good).unwrap().to_wire(), good);
    let bad = [
        wire::TrafficSelector { last: "10.0.0.0".parse().unwrap(), ..good },
        wire::TrafficSelector { last: "::1".parse().unwrap(), ..good },
        wire::TrafficSelector { end_port: 79, ..good },
        wire::TrafficSelector { protocol: 0, ..good },
    ];
    assert!(bad.iter().all(|selector| TrafficSelector::from_wire(selector).is_none()));
}

/// Few values, so that they meet often.
fn selector() -> impl Strategy<Value = TrafficSelector> {
    let ports = prop_oneof![
        Just(ANY_PORTS),
        Just(OPAQUE_PORTS),
        (0_u16..6, 0_u16..6).prop_map(|(a, b)| a.min(b)..=a.max(b))
    ];
    (any::<bool>(), 0_u8..8, 0_u8..8, prop_oneof![Just(0_u8), Just(6), Just(17)], ports).prop_map(
        |(v6, a, b, protocol, ports)| {
            let address = |n: u8| -> IpAddr {
                if v6 { [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)].into() } else { [10, 0, 0, n].into() }
            };
            let ports = if protocol == 0 { ANY_PORTS } else { ports };
            TrafficSelector { protocol, ports, first: address(a.min(b)), last: address(a.max(b)) }
        },
    )
}

fn selectors() -> impl Strategy<Value = Vec<TrafficSelector>> {
    prop::collection::vec(selector(), 0..7)
}

/// A packet's own side: address, protocol and port, if it shows one.
fn point() -> impl Strategy<Value = TrafficSelector> {
    (selector(), prop::sample::select(vec![6_u8, 17, 47]), prop::option::of(0_u16..8)).prop_map(
        |(s, protocol, port)| {
            let ports = port.map_or(OPAQUE_PORTS, |port| port..=port);
            TrafficSelector { last: s.first, protocol, ports, ..s }
        },
    )
}

fn matches(selectors: &[TrafficSelector], packet: &TrafficSelector) -> bool {
    selectors.iter().any(|s| s.covers(packet))
}

proptest! {
    #[test]
    fn an_intersection_holds_the_packets_of_both(a in selector(), b in selector(), packet in point()) {
        let both = a.intersection(&b);
        prop_assert_eq!(&both, &b.intersection(&a));
        let in_both = a.covers(&packet) && b.covers(&packet);
        prop_assert_eq!(in_both, both.is_some_and(|both| both.is_possible() && both.covers(&packet)));
    }

    #[test]
    fn narrowing_keeps_to_both_sides_and_says_when_it_leaves_something_out(
        a in selectors(), b in selectors(), c in selectors(), d in selectors(), x in point(), y in point(),
    ) {
        let (configured, offered) = (Sides { local: &a, remote: &b }, Sides { local: &c, remote: &d });
        let Some(n) = narrow(configured, offered) else { return Ok(()) };
        for (result, both) in [(&n.local, [&a, &c]), (&n.remote, [&b, &d])] {
            prop_assert!(is_subset(result, both[0]) && is_subset(result, both[1]));
        }
        let pairs = pairs(Sides { local: &n.local, remote: &n.remote });
        prop_assert!((1..=MAX_PAIRS).contains(&pairs));
        prop_assert!(n.local.iter().all(|l| n.remote.iter().any(|r| l.pairs_with(r))));
        let wanted = matches(&a, &x) && matches(&c, &x) && matches(&b, &y) && matches(&d, &y) && x.pairs_with(&y);
        prop_assert!(!wanted || n.more_possible || matches(&n.local, &x) && matches(&n.remote, &y));
    }

    #[test]
    fn a_first_choice_that_is_configured_is_never_left_out(
        a in selectors(), b in selectors(), c in selectors(), d in selectors(), x in point(), y in point(),
    ) {
        // The reverse of a packet, whatever was drawn for it: its ports are hidden where the packet's are.
        let far = if y.first.is_ipv4() == x.first.is_ipv4() { y.first } else { x.first };
        let y = TrafficSelector { first: far, last: far, ports: x.ports.clone(), ..x.clone() };
        let first = |one: &TrafficSelector, rest: &[TrafficSelector]| [std::slice::from_ref(one), rest].concat();
        let last = |packet: &TrafficSelector, rest| [rest, vec![TrafficSelector::host(packet.first)]].concat();
        let (a, b, c, d) = (last(&x, a), last(&y, b), first(&x, &c), first(&y, &d));
        let n = narrow(Sides { local: &a, remote: &b }, Sides { local: &c, remote: &d }).unwrap();
        prop_assert!(matches(&n.local, &x) && matches(&n.remote, &y));
    }

    #[test]
    fn no_text_panics(text in ".{0,140}", layer in "10.0.0.0/8\\[[a-z0-9/-]{0,12}\\]") {
        let _ = text.parse::<ConfiguredSelector>();
        if let Ok(selector) = layer.parse::<ConfiguredSelector>() {
            prop_assert_eq!(selector.to_string().parse::<ConfiguredSelector>().unwrap(), selector);
        }
    }
}
