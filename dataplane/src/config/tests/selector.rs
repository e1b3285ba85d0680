//! Selectors as texts.

use baton_sad::Selector;

use super::super::selector::ANY;
use super::*;

fn parsed(text: &str) -> TrafficSelector {
    TrafficSelector::parse(text, None).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    TrafficSelector::parse(text, None).expect_err(text).to_string()
}

#[test]
fn addresses_are_networks_hosts_and_ranges() {
    for text in ["10.1.0.0/16", "10.1.0.5-10.1.0.9", "2001:db8::/32", "2001:db8::1-2001:db8::7", "::/0"] {
        assert_eq!(parsed(text).to_string(), text);
    }
    assert_eq!(parsed("10.1.0.5").to_string(), "10.1.0.5/32");
    assert_eq!(parsed("10.1.0.0 - 10.1.255.255").to_string(), "10.1.0.0/16");
    let own = "203.0.113.2".parse().ok();
    assert_eq!(
        TrafficSelector::parse("dynamic[udp/1701]", own).unwrap().to_string(),
        "203.0.113.2/32[udp/1701]"
    );
}

#[test]
fn protocols_have_names_and_numbers() {
    assert_eq!(parsed("10.1.0.0/16[tcp]").protocol, Some(6));
    assert_eq!(parsed("10.1.0.0/16[115]"), parsed("10.1.0.0/16[L2TP]"));
    assert_eq!(parsed("10.1.0.0/16[any/any]"), parsed("10.1.0.0/16"));
}

#[test]
fn ports_are_numbers_ranges_and_opaque() {
    assert_eq!(parsed("10.1.0.0/16[tcp/80]").ports, 80..=80);
    assert_eq!(parsed("10.1.0.0/16[udp/1000-2000]").ports, 1000..=2000);
    assert_eq!(parsed("10.1.0.0/16[tcp/any]").ports, ANY);
    assert_eq!(parsed("10.1.0.0/16[sctp/opaque]").ports, Selector::OPAQUE);
}

#[test]
fn icmp_types_and_codes_are_packed_as_rfc_4301_packs_them() {
    assert_eq!(parsed("10.1.0.0/16[icmp/8]").ports, 0x0800..=0x08ff);
    assert_eq!(parsed("10.1.0.0/16[icmp/3/4]").ports, 0x0304..=0x0304);
    assert_eq!(parsed("10.1.0.0/16[icmp/3/0-5]").ports, 0x0300..=0x0305);
    assert_eq!(parsed("2001:db8::/32[icmpv6/128-129]").ports, 0x8000..=0x81ff);
    assert_eq!(parsed("2001:db8::/32[mh/5]").ports, 0x0500..=0x05ff);
}

#[test]
fn what_cannot_be_is_refused() {
    assert_eq!(refused("10.1.0.9-10.1.0.5"), "the range 10.1.0.9-10.1.0.5 is empty or of two IP versions");
    assert_eq!(refused("10.1.0.9-::1"), "the range 10.1.0.9-::1 is empty or of two IP versions");
    assert_eq!(
        refused("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"),
        "the range ::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe is made of more than 64 prefixes"
    );
    assert!(refused("10.1.0.0/16[/53]").starts_with("ports without a protocol"));
    assert!(refused("10.1.0.0/16[any/53]").starts_with("ports without a protocol"));
    assert!(refused("dynamic").starts_with("`dynamic` stands for"));
    assert_eq!(refused("10.1.0.0/16[gre/1]"), "gre packets have no ports");
    assert_eq!(refused("10.1.0.0/16[icmpv6]"), "icmpv6 does not occur in packets between these addresses");
    assert_eq!(refused("::/0[icmp/8]"), "icmp does not occur in packets between these addresses");
    for brackets in ["10.1.0.0/16[tcp/80", "10.1.0.0/16[tcp]x"] {
        assert_eq!(refused(brackets), "what follows the addresses is not a protocol in brackets");
    }
    for protocol in ["[]", "[0]", "[256]", "[+6]", "[tcp udp]", "[tcp]]"] {
        assert!(refused(&format!("10.1.0.0/16{protocol}")).ends_with("is not a protocol"), "{protocol}");
    }
    for ports in ["[tcp/]", "[tcp/65536]", "[tcp/9-8]", "[tcp/+1]", "[tcp/http]", "[tcp/1/2]", "[tcp/-]"] {
        assert!(refused(&format!("10.1.0.0/16{ports}")).ends_with("range of ports"), "{ports}");
    }
    for types in ["[icmp/256]", "[icmp/8/256]", "[icmp/8-9/0]", "[icmp/]", "[mh/1/2]"] {
        assert!(refused(&format!("10.1.0.0/16{types}")).ends_with("type and a code"), "{types}");
    }
}

#[test]
fn sides_that_no_packet_joins_are_no_pair() {
    let pair = |a, b| TrafficSelector::pair(&parsed(a), &parsed(b));
    let one = pair("10.1.0.0/16", "10.2.0.0/16[tcp/80]").expect("any goes with TCP");
    assert_eq!((one.protocol, one.local_ports, one.remote_ports), (Some(6), ANY, 80..=80));
    assert!(pair("10.1.0.0/16[tcp/opaque]", "10.2.0.0/16[tcp]").is_some());
    assert!(pair("10.1.0.0/16[icmp/8]", "10.2.0.0/16[icmp/0]").is_some(), "each side sends its own type");
    assert!(pair("10.1.0.0/16[tcp]", "10.2.0.0/16[udp]").is_none());
    assert!(pair("10.1.0.0/16", "2001:db8::/32").is_none());
    assert!(pair("10.1.0.0/16[tcp/opaque]", "10.2.0.0/16[tcp/80]").is_none());
    assert!(pair("10.1.0.0/16[tcp/80]", "10.2.0.0/16[tcp/opaque]").is_none());
}

proptest! {
    #[test]
    fn what_is_shown_is_read_as_the_same(
        text in "(10\\.1\\.0\\.[0-9]{1,3}(/3[0-2]|-10\\.1\\.9\\.7)?|2001:db8::[0-9a-f]{0,4}(/12[0-8])?)\\[(tcp|udp|icmp|icmpv6|mh|sctp|any|[0-9]{1,3})(/(opaque|any|[0-9]{1,5}(-[0-9]{1,5})?|[0-9]{1,3}/[0-9]{1,3}))?\\]"
    ) {
        if let Ok(selector) = TrafficSelector::parse(&text, None) {
            let again = TrafficSelector::parse(&selector.to_string(), None).unwrap();
            prop_assert_eq!(again, selector);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = TrafficSelector::parse(&text, None);
    }
}
