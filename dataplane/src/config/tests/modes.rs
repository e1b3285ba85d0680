//! Modes, families, encapsulation, padding and lifetimes of tunnels.

use baton_sad::{Lifetime, Suite, UdpEncapsulation};

use super::*;

/// The good tunnel with more keys.
fn with(keys: &str) -> String {
    good().replace("suite =", &format!("{keys}\nsuite ="))
}

fn only_tunnel(text: &str) -> Tunnel {
    parse(text).unwrap_or_else(|e| panic!("{e}")).tunnels.remove(0)
}

fn sas(tunnel: &Tunnel, unix_seconds: u64) -> [baton_sad::Sa; 2] {
    let sas = [tunnel.inbound_sa(unix_seconds), tunnel.outbound_sa(unix_seconds)].map(Option::unwrap);
    for sa in &sas {
        sa.validate().unwrap();
    }
    sas
}

#[test]
fn all_four_mixes_of_families() {
    let six = |text: String, what: &[(&str, &str)]| {
        what.iter().fold(text, |text, (four, six)| text.replace(four, six))
    };
    let outer = [("203.0.113.2", "2001:db8::2"), ("203.0.113.1\"", "2001:db8::1\"")];
    let inner = [("10.2.0.0/16", "2001:db8:2::/48"), ("10.1.1.0/24", "2001:db8:1::/64")];
    for (outside, inside) in [(false, false), (false, true), (true, false), (true, true)] {
        let text = six(good(), if outside { &outer } else { &[] });
        let text = six(text, if inside { &inner } else { &[] });
        let tunnel = only_tunnel(&text);
        for sa in sas(&tunnel, 0) {
            assert_eq!((sa.source.is_ipv6(), sa.destination.is_ipv6()), (outside, outside));
            assert_eq!(sa.selectors[0].remote.start().is_ipv6(), inside);
        }
    }
}

#[test]
fn mixed_lists_make_one_pair_per_family() {
    let text = good()
        .replace("[\"10.2.0.0/16\"]", "[\"10.2.0.0/16\", \"2001:db8:2::/48\"]")
        .replace("[\"10.1.1.0/24\"]", "[\"10.1.1.0/24\", \"2001:db8:1::/64\"]");
    let config = parse(&text).unwrap();
    assert_eq!(config.tunnels[0].selectors().len(), 2);
    let expected = ["10.1.1.0/24", "2001:db8:1::/64"].map(|p| (p.parse().unwrap(), 0x2a));
    assert_eq!(config.inner_prefixes(), expected);
}

#[test]
fn ranges_are_protected_by_prefixes() {
    let config = parse(&good().replace("10.1.1.0/24", "10.1.1.5-10.1.1.9[tcp/80]")).unwrap();
    let shown: Vec<_> = config.protected_prefixes().iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.1.1.5/32", "10.1.1.6/31", "10.1.1.8/31"]);
}

#[test]
fn addresses_of_two_families_are_refused() {
    let text = good()
        .replace("remote = \"203.0.113.1\"", "remote = \"2001:db8::1\"")
        .replace("[\"10.1.1.0/24\"]", "[\"10.1.1.0/24\", \"2001:db8:1::/64\", \"10.1.3.0/24[icmpv6]\"]");
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn addresses_that_no_gateway_has_are_refused() {
    let addresses =
        "\"::1\", \"fe80::1\", \"ff02::1\", \"::ffff:203.0.113.2\", \"127.0.0.1\", \"x\", \"203.0.113.2\"";
    let text =
        good().replace("addresses = [\"203.0.113.2\"]", &format!("addresses = [{addresses}, {addresses}]"));
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn transport_mode_is_between_the_outer_addresses() {
    let lists = "local_selectors = [\"10.2.0.0/16\"]\nremote_selectors = [\"10.1.1.0/24\"]\n";
    let tunnel = only_tunnel(&with("mode = \"transport\"").replace(lists, ""));
    let [inbound, _] = sas(&tunnel, 0);
    assert_eq!(inbound.mode, Mode::Transport);
    let hosts = ["203.0.113.2", "203.0.113.1"].map(|a| AddressRange::single(a.parse().unwrap()));
    assert_eq!(*inbound.selectors, [baton_sad::Selector::addresses(hosts[0], hosts[1])]);

    let l2tp = "local_selectors = [\"dynamic[udp/1701]\"]\n";
    let tunnel = only_tunnel(&with("mode = \"transport\"").replace(lists, l2tp));
    let selector = &tunnel.selectors()[0];
    assert_eq!((selector.protocol, selector.local_ports.clone()), (Some(17), 1701..=1701));
    assert_eq!((selector.local, selector.remote_ports.clone()), (hosts[0], 0..=u16::MAX));
}

#[test]
fn transport_mode_has_no_networks_and_no_padding() {
    insta::assert_snapshot!(complaint(&with("mode = \"transport\"\ntfc_padding = \"mtu\"")));
}

#[test]
fn udp_encapsulation_has_the_documented_defaults() {
    let [inbound, outbound] = sas(&only_tunnel(&with("encapsulation = \"udp\"")), 0);
    let udp = UdpEncapsulation {
        source_port: 4500,
        destination_port: 4500,
        follows_peer: true,
        keepalive_seconds: 20,
    };
    assert_eq!((inbound.encapsulation, outbound.encapsulation), (Some(udp), Some(udp)));
}

#[test]
fn the_peers_port_is_the_other_end_of_each_direction() {
    let keys = "encapsulation = \"udp\"\nremote_port = 31874\nfollow_peer = false\nkeepalive_seconds = 0";
    let ports = sas(&only_tunnel(&with(keys)), 0).map(|sa| {
        let udp = sa.encapsulation.unwrap();
        assert!(!udp.follows_peer && udp.keepalive_seconds == 0);
        (udp.source_port, udp.destination_port)
    });
    assert_eq!(ports, [(31874, 4500), (4500, 31874)]);
}

#[test]
fn udps_keys_mean_nothing_without_udp() {
    insta::assert_snapshot!(complaint(&with(
        "remote_port = 4500\nfollow_peer = true\nkeepalive_seconds = 5"
    )));
    insta::assert_snapshot!(complaint(&with(
        "encapsulation = \"udp\"\nremote_port = 0\nfollow_peer = 1\nkeepalive_seconds = 3601"
    )));
}

#[test]
fn padding_and_mss_reach_the_sa() {
    for (keys, padding, clamp) in [
        ("tfc_padding = 0", TfcPadding::Off, true),
        ("tfc_padding = 1400", TfcPadding::To(1400), true),
        ("tfc_padding = \"mtu\"\nmss_clamp = false", TfcPadding::PathMtu, false),
    ] {
        for sa in sas(&only_tunnel(&with(keys)), 0) {
            assert_eq!((sa.tfc_padding, sa.clamp_mss), (padding, clamp));
        }
    }
}

#[test]
fn lifetimes_have_units_and_start_with_the_sa() {
    let keys = "rekey_time = \"50m\"\nlife_time = \"1h\"\nrekey_bytes = \"8G\"\nlife_bytes = 10_000_000_000\n\
                rekey_packets = 7\nlife_packets = 8\nrekey_sequence = 5\nlife_sequence = 6";
    let tunnel = only_tunnel(&with(keys));
    let bounds =
        |octets, packets, sequence, expires_at| baton_sad::Bounds { octets, packets, sequence, expires_at };
    let lifetime = Lifetime { soft: bounds(8 << 30, 7, 5, 4000), hard: bounds(10_000_000_000, 8, 6, 4600) };
    assert_eq!(sas(&tunnel, 1000).map(|sa| sa.lifetime), [lifetime; 2]);
}

#[test]
fn ends_need_an_announcement_and_sense() {
    let keys = "rekey_time = \"1h\"\nlife_time = 3600\nrekey_bytes = \"1w\"\nlife_bytes = \"99999999T\"\n\
                rekey_packets = \"1M\"\nlife_packets = -1\nlife_sequence = 4294967296\nextended_sequence = false";
    insta::assert_snapshot!(complaint(&with(keys)));
}

#[test]
fn an_mtu_is_what_the_family_demands() {
    let text = with("path_mtu = 1279\ntfc_padding = 65535");
    let text = text.replace("203.0.113.2", "2001:db8::2").replace("203.0.113.1\"", "2001:db8::1\"");
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn sections_of_the_gateway_are_read() {
    let text = good()
        .replace(
            "[inner]\ninterface = \"lan0\"",
            "[inner]\ninterface = \"tun:baton0\"\nanti_spoofing = false",
        )
        .replace("[outer]", "[outer]\nio = \"socket\"")
        + "[icmp]\nlearned_mtu_seconds = 300\nerrors_per_second = 0\n\
           [acquire]\nhold_seconds = 1\nheld_packets = 0\nrepeat_seconds = 60\n";
    let config = parse(&text).unwrap();
    assert_eq!(config.inner.interface, InnerInterface::Tun("baton0".into()));
    assert_eq!((config.outer.io, config.inner.anti_spoofing), (OuterIo::Socket, false));
    assert_eq!(config.icmp, Icmp { learned_mtu: Duration::from_mins(5), errors_per_second: 0 });
    let second = Duration::from_secs(1);
    assert_eq!(config.acquire, Acquire { hold: second, held_packets: 0, repeat: 60 * second });
}

/// A host on the road: at whatever address, and told of DNS servers.
#[test]
fn a_host_on_the_road_is_configured() {
    let road = |outer: &str, inner: &str| {
        let text =
            "[node]\nid = 1\ncluster = \"test\"\n[outer]\ninterface = \"wan0\"\nOUTER\n[inner]\nINNER\n";
        text.replace("OUTER", outer).replace("INNER", inner)
    };
    let tun = "interface = \"tun:baton0\"\nresolv_conf = \"/etc/resolv.conf\"";
    for any in ["addresses = \"%any\"", "addresses = [\"%any\"]"] {
        let config = parse(&road(&format!("{any}\nio = \"socket\""), tun)).unwrap();
        assert!(config.outer.addresses.is_empty());
        assert_eq!(config.inner.resolv_conf, Some("/etc/resolv.conf".into()));
    }
    let socket = "addresses = \"%any\"\nio = \"socket\"";
    for (outer, inner, words) in [
        ("addresses = \"%any\"", tun, "only sockets take"),
        ("addresses = \"%any\"\nio = \"af-xdp\"", tun, "only sockets take"),
        ("addresses = [\"%any\", \"192.0.2.1\"]\nio = \"socket\"", tun, "%any"),
        ("addresses = []\nio = \"socket\"", tun, "no usable address"),
        (socket, "interface = \"tun:b\"\nresolv_conf = \"resolv.conf\"", "path of a file"),
        (socket, "interface = \"tun:b\"\nresolv_conf = \"/\"", "path of a file"),
        (socket, "interface = \"lan0\"\nresolv_conf = \"/etc/resolv.conf\"", "TUN device inside"),
    ] {
        let said = complaint(&road(outer, inner));
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn sections_of_the_gateway_are_checked() {
    let bad = |interface: &str| good().replace("\"lan0\"", interface);
    for interface in ["\"tun:wan0\"", "\"tun:\"", "\"tun:a%d\"", "\"tap:x\"", "\"tun:a/b\"", "7"] {
        insta::assert_snapshot!(complaint(&bad(interface)));
    }
    let text = good().replace("[outer]", "[outer]\nio = \"af_xdp\"")
        + "[icmp]\nlearned_mtu_seconds = 299\nerrors_per_second = 100001\n\
           [acquire]\nhold_seconds = 0\nheld_packets = 4097\nrepeat_seconds = 0\n";
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn every_suite_takes_its_key_and_no_other() {
    for suite in Suite::ALL {
        let keyed = |octets: usize| {
            good()
                .replace("aes128gcm16", &suite.to_string())
                .replace(&"01".repeat(20), &"01".repeat(octets))
                .replace(&"81".repeat(20), &"81".repeat(octets))
        };
        let tunnel = only_tunnel(&keyed(suite.key_length()));
        assert!(sas(&tunnel, 0).iter().all(|sa| sa.suite == suite));
        let complaint = complaint(&keyed(suite.key_length() - 1));
        assert!(complaint.contains(&format!("{suite} takes {} octets", suite.key_length())), "{complaint}");
    }
}

#[test]
fn a_suite_that_is_not_known_gets_a_hint() {
    insta::assert_snapshot!(complaint(&good().replace("aes128gcm16", "aes128-sha265")));
    insta::assert_snapshot!(complaint(&good().replace("aes128gcm16", "3des-md5")));
}

#[test]
fn i1_one_cipher_key_with_two_integrity_keys_is_refused() {
    let cipher = "aa".repeat(20);
    let text = good()
        .replace("aes128gcm16", "aes128ctr-sha1")
        .replace(&"01".repeat(20), &(cipher.clone() + &"01".repeat(20)))
        .replace(&"81".repeat(20), &(cipher + &"81".repeat(20)));
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn selectors_without_a_partner_are_refused() {
    let text = good()
        .replace("[\"10.2.0.0/16\"]", "[\"10.2.0.0/16[tcp]\", \"10.3.0.0/16[udp/5-9]\", \"2001:db8::/32\"]")
        .replace("[\"10.1.1.0/24\"]", "[\"10.1.1.0/24[6/80]\", \"10.1.2.0/24[udp/opaque]\"]");
    insta::assert_snapshot!(complaint(&text));
}

#[test]
fn selectors_are_refused_with_a_remedy() {
    let list = ["10.1.0.9-10.1.0.5", "10.1.0.0/16[/53]", "10.1.0.0/16[gre/7]", "10.1.0.0/16[tcp/http]"];
    let more = ["::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "10.1.0.0/16[icmp/300]", "10.1.0.0/16[foo]"];
    let others = ["10.1.0.0/16[tcp", "\\u0000", "10.1.7.0/24", "10.1.7.0-10.1.7.255"];
    let all: Vec<_> = list.iter().chain(&more).chain(&others).map(|s| format!("\"{s}\"")).collect();
    insta::assert_snapshot!(complaint(
        &good().replace("[\"10.1.1.0/24\"]", &format!("[{}]", all.join(", ")))
    ));
}

#[test]
fn lists_are_bounded() {
    let list: Vec<_> = (0..257).map(|n| format!("\"10.1.{}.{}\"", n / 256, n % 256)).collect();
    insta::assert_snapshot!(complaint(
        &good().replace("[\"10.1.1.0/24\"]", &format!("[{}]", list.join(", ")))
    ));
}
