//! `[[policy]]`, and all policies together.

use super::*;

fn policy(name: &str, keys: &str) -> String {
    let lists = "local_selectors = [\"10.2.0.0/16\"]\nremote_selectors = [\"10.1.1.0/24\"]";
    format!("[[policy]]\nname = \"{name}\"\n{keys}\n{lists}\n")
}

fn bypass(name: &str, remote: &str, keys: &str) -> String {
    policy(name, &format!("action = \"bypass\"\n{keys}")).replace("10.1.1.0/24", remote)
}

fn shown(prefixes: &[(Prefix, u8)]) -> Vec<String> {
    prefixes.iter().map(|(prefix, segment)| format!("{prefix} {segment}")).collect()
}

#[test]
fn policies_are_tried_by_priority() {
    let text = good()
        + &policy("late", "action = \"discard\"\npriority = 3000\ndirection = \"in\"")
            .replace("10.2.0.0", "10.3.0.0")
        + &bypass("early", "10.1.1.7[tcp/22]", "");
    let policies = parse(&text).unwrap_or_else(|e| panic!("{e}")).policies();
    let told: Vec<_> = policies.iter().map(|p| (&*p.name, p.action, p.direction, p.priority)).collect();
    let reqid = sa::reqid_of("site-a");
    assert_eq!(
        told,
        [
            ("early", PolicyAction::Bypass, PolicyDirection::Both, 1000),
            ("site-a", PolicyAction::Protect { reqid, segment: 42 }, PolicyDirection::Both, 2000),
            ("late", PolicyAction::Discard, PolicyDirection::In, 3000),
        ]
    );
    assert_eq!(
        (policies[0].selectors[0].protocol, &policies[0].selectors[0].remote_ports),
        (Some(6), &(22..=22))
    );
}

#[test]
fn exceptions_protect_nothing_and_take_nothing_from_what_is_protected() {
    let text = good()
        + &bypass("inside", "10.1.1.8/31", "segment = 7")
        + &bypass("outside", "192.0.2.0/24", "segment = 9")
        + &bypass("around", "10.0.0.0/7", "")
        + &policy("nothing", "action = \"discard\"").replace("10.1.1.0/24", "198.51.100.0/24");
    let config = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(shown(&config.inner_prefixes()), ["10.1.1.0/24 42"]);
    assert_eq!(config.protected_prefixes().len(), 1);
    assert_eq!(shown(&config.bypass_prefixes()), ["10.0.0.0/7 0", "10.1.1.8/31 42", "192.0.2.0/24 9"]);
}

#[test]
fn every_pair_that_fits_is_an_entry() {
    let text = good()
        + &policy("many", "action = \"discard\"")
            .replace("[\"10.2.0.0/16\"]", "[\"10.2.0.0/16[tcp]\", \"10.3.0.0/16\", \"2001:db8::/32\"]")
            .replace("[\"10.1.1.0/24\"]", "[\"0.0.0.0/0[udp/53]\", \"0.0.0.0/0[tcp/53]\", \"::/0\"]");
    let config = parse(&text).unwrap_or_else(|e| panic!("{e}"));
    let policy = &config.policies()[0];
    let protocols: Vec<_> = policy.selectors.iter().map(|s| s.protocol).collect();
    assert_eq!(protocols, [Some(6), Some(17), Some(6), None]);
}

#[test]
fn policies_are_checked() {
    let text = good()
        + "[[policy]]\n[[policy]]\nname = \"a b\"\naction = \"allow\"\ndirection = \"fwd\"\npriority = -1\n\
           local_selectors = []\nremote_selectors = [\"dynamic\"]\nreqid = 1\n"
        + &policy("drop", "action = \"discard\"\nsegment = 3").replace("10.1.1.0/24", "10.1.1.0/25");
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn names_are_unique_among_tunnels_and_policies() {
    let text = bypass("site-a", "10.7.0.0/16", "")
        + &bypass("b", "10.8.0.0/16", "")
        + &bypass("b", "10.9.0.0/16", "");
    insta::assert_snapshot!(complaint(&(good() + &text)));
}

#[test]
fn a_network_is_bypassed_by_one_segment() {
    let text =
        bypass("a", "192.0.2.0/24[tcp]", "segment = 3") + &bypass("b", "192.0.2.0/24[udp]", "segment = 4");
    insta::assert_snapshot!(complaint(&(good() + &text)));
}

#[test]
fn a_policy_that_takes_all_of_a_tunnel_is_refused() {
    insta::assert_snapshot!(complaint(&(good() + &policy("shadow", "action = \"bypass\""))));
}

#[test]
fn a_policy_behind_a_tunnel_for_the_same_traffic_is_refused() {
    let behind =
        |keys: &str| good() + &policy("late", &format!("action = \"bypass\"\npriority = 2001\n{keys}"));
    insta::assert_snapshot!(complaint(&behind("")));
    insta::assert_snapshot!(complaint(&behind("direction = \"in\"")));
    let first = good() + &policy("in", "action = \"bypass\"\ndirection = \"in\"");
    assert!(parse(&first).is_ok(), "what arrives in clear is let in, what leaves is protected");
}

#[test]
fn one_protocol_may_go_another_way_if_it_comes_first() {
    let two = |remote: &str, priority: u32| {
        let other = tunnel("voice", 0x2a00_0002, 2).replace("10.1.2.0/24", remote);
        good() + &other.replace("suite =", &format!("priority = {priority}\nsuite ="))
    };
    assert!(parse(&two("10.1.1.0/24[udp/5060]", 1999)).is_ok());
    insta::assert_snapshot!(complaint(&two("10.1.1.0/24[udp/5060]", 2000)));
    assert!(parse(&two("10.1.1.0/25", 2000)).is_ok(), "narrower addresses come first by themselves");
}

#[test]
fn ranges_in_two_segments_are_told_wherever_they_meet() {
    let other = tunnel("site-b", 0x2b00_0001, 2).replace("10.1.2.0/24", "10.1.0.0-10.1.1.0");
    let third = tunnel("site-c", 0x2a00_0003, 3).replace("10.1.3.0/24", "10.1.1.255-10.1.4.7");
    insta::assert_snapshot!(complaint(&(good() + &other + &third)));
}

#[test]
fn more_pairs_than_a_policy_has_are_refused() {
    let list = |n: u32| (0..33).map(|i| format!("\"10.{n}.{i}.0/24\"")).collect::<Vec<_>>().join(", ");
    let text = policy("wide", "action = \"discard\"")
        .replace("\"10.2.0.0/16\"", &list(5))
        .replace("\"10.1.1.0/24\"", &list(6));
    insta::assert_snapshot!(complaint(&(good() + &text)));
}

/// The definition of what [`spd_check`] looks for in one sweep.
fn some_segments_meet(tunnels: &[(u8, u8, u8)]) -> bool {
    tunnels
        .iter()
        .enumerate()
        .any(|(n, a)| tunnels[..n].iter().any(|b| a.2 != b.2 && a.0.max(b.0) <= (a.0 | a.1).min(b.0 | b.1)))
}

proptest! {
    #[test]
    fn overlap_in_two_segments_is_found_if_there_is_any(
        tunnels in proptest::collection::vec((0..64_u8, 0..16_u8, 0..3_u8), 1..8)
    ) {
        let mut text = HEAD.to_owned();
        for (n, (first, more, segment)) in (1_u8..).zip(&tunnels) {
            let (spi, last) = ((u32::from(*segment) << 24) + 0x1000 + u32::from(n), first | more);
            let one = tunnel(&format!("t{n}"), spi, n).replace("10.2.0.0/16", &format!("10.2.{n}.0/24"));
            text += &one.replace(&format!("10.1.{n}.0/24"), &format!("10.1.1.{first}-10.1.1.{last}"));
        }
        let told = parse(&text).err().map(|e| e.to_string());
        let met = told.as_ref().is_some_and(|told| told.contains("overlaps"));
        prop_assert_eq!(met, some_segments_meet(&tunnels), "{:?}", told);
    }
}
