use super::*;

#[test]
fn all_problems_are_told_at_once() {
    insta::assert_snapshot!(complaint(
        r#"
[ike]
listen = ["198.51.100.1"]
prot = 500
user = "no body"
half_open_timeout = "1h"
retransmit_base = 0.5
max_children = 0
[connections."much-too-long-a-name-for-it"]
children.a = {}
[connections.a]
local_addrs = ["203.0.113.9", "gateway.example.org"]
remote_addrs = ["vpn..example.org", "10.0.0.1/8"]
local_port = 501
proposals = ["aes128-sha256", "aes128gcm17-x25519", "3des-sha1-modp1024"]
vips = ["any"]
pools = ["rods"]
fragmentation = "on"
encap = 1
send_cert = "sometimes"
rekey_time = "1 fortnight"
mobike = true
[pools.roads]
addrs = "10.9.0.0/24"
"#
    ));
}

#[test]
fn lifetimes_are_in_order() {
    insta::assert_snapshot!(complaint(
        r#"
[connections.a]
rekey_time = "10m"
rand_time = "10m"
[connections.a.children.a]
rekey_time = "2h"
life_time = "1h"
rekey_bytes = "1G"
life_bytes = "1G"
[connections.a.children.b]
rekey_time = "2h"
rand_time = "2h"
rekey_packets = 10
life_packets = 5
"#
    ));
}

#[test]
fn children_are_checked() {
    insta::assert_snapshot!(complaint(
        r#"
[connections.a]
[connections.b.children."a b"]
[connections.b.children.c]
local_ts = ["10.0.0.0/33", "10.0.0.1/8", "dynamic[tcp/99999]", "10.0.0.0/8[443]"]
remote_ts = ["2001:db8::/32[icmp]"]
esp_proposals = "aes128gcm16-sha256"
mode = "beet"
replay_window = 100
start_action = "route"
dpd_action = "hold"
copy_dscp = "in"
tfc_padding = 70000
[connections.b.children.d]
local_ts = ["10.1.0.0/24", "10.2.0.0/24", "10.3.0.0/24"]
remote_ts = ["10.4.0.0/24", "10.5.0.0/24"]
[connections.b.children.e]
local_ts = "10.1.0.0/24"
remote_ts = "2001:db8::/32"
[connections.b.children.f]
mode = "transport"
local_ts = ["10.1.0.0/24", "dynamic[udp/1701]"]
tfc_padding = "mtu"
"#
    ));
}

#[test]
fn authentication_is_checked() {
    insta::assert_snapshot!(complaint(
        r#"
[connections.a]
children.a = {}
[connections.a.local]
auth = "eap-gtc"
id = "*@example.org"
certs = ["../../etc/shadow"]
[connections.a.remote]
auth = "psk"
id = "asn1dn:#00"
cacerts = "ca.pem"
revocation = "ifuri"
[connections.b]
children.a = {}
local.auth = "psk"
local.certs = "a.pem"
"#
    ));
}

#[test]
fn postquantum_keys_are_checked() {
    insta::assert_snapshot!(complaint(
        r#"
[connections.a]
ppk_id = "*.example.org"
childless = "always"
children.a = {}
"#
    ));
    insta::assert_snapshot!(complaint(
        r#"
[connections.b]
ppk_id = "b.example.org"
ppk_required = true
children.a = {}
[connections.c]
ppk_id = "c.example.net"
children.a = {}
[secrets.ppk-c]
id = "*.example.net"
secret = "0x00112233445566778899aabbccddeeff"
"#
    ));
    insta::assert_snapshot!(complaint("[connections.a]\nppk_required = true\nchildren.a = {}\n"));
}

#[test]
fn resumption_is_checked() {
    insta::assert_snapshot!(complaint(
        r#"
[connections.a]
session_resumption = "maybe"
ticket_lifetime = "10s"
resumption_time = "for ever"
children.a = {}
[secrets.ticket-1]
id = "a"
secret = "0x00112233445566778899aabbccddeeff"
"#
    ));
}

#[test]
fn puzzles_are_checked() {
    for key in ["puzzle_difficulty", "puzzle_limit"] {
        let complaint = complaint(&format!("[ike]\n{key} = 7\n"));
        assert!(
            complaint.contains("7 bits are no trouble at all") && complaint.contains("8 to 32"),
            "{complaint}"
        );
    }
    let complaint = complaint("[ike]\npuzzle_difficulty = 33\npuzzle_time = \"2m\"\n");
    assert!(complaint.contains("puzzle_difficulty") && complaint.contains("120 s is outside"), "{complaint}");
}

#[test]
fn secrets_and_authorities_are_checked() {
    insta::assert_snapshot!(complaint(
        r#"
[secrets.eap-carol]
secret = "x"
[secrets.ike-a]
id = "a"
[secrets.ike-b]
secret = "0xabc"
[secrets.ike-c]
secret = "0s***"
[secrets.ike-d]
secret = ""
[secrets.ike-e]
secret = "x"
file = "y"
[secrets.ike-f]
file = "../y"
[authorities.a]
crl_uris = ["http://crl.example.org/a.crl", "file://a.crl"]
ocsp_uris = "http://ocsp.example.org"
"#
    ));
}

#[test]
fn a_secret_needs_a_private_file() {
    let text = HEAD.to_owned() + SMALL;
    let errors = Config::parse_as(&text, Path::new("baton.toml"), false).unwrap_err().to_string();
    insta::assert_snapshot!(errors);
    assert!(!errors.contains("horse"));
}

#[test]
fn sections_have_to_fit_each_other() {
    insta::assert_snapshot!(complaint(
        r#"
[[tunnel]]
name = "a-2a000001"
local = "203.0.113.2"
remote = "203.0.113.1"
local_selectors = ["10.2.0.0/16"]
remote_selectors = ["10.1.0.0/16"]
suite = "aes128gcm16"
segment = 42
[connections.a]
children.a = {}
local.auth = "psk"
local_addrs = "203.0.113.77"
pools = ["one", "for"]
[pools.one]
addrs = "10.9.0.0/24"
[pools.two]
addrs = "10.9.0.9-10.9.0.12"
[pools.three]
addrs = "10.9.0.100-10.9.2.0"
[pools.four]
addrs = "203.0.113.0/24"
"#
    ));
}

#[test]
fn pools_are_checked() {
    insta::assert_snapshot!(complaint(
        r#"
[pools.a]
addrs = "224.0.0.0/24"
dns = "dns.example.org"
[pools.b]
addrs = "10.9.0.1/24"
subnet = ["10.0.0.0/8", "10.0.0.1/8"]
[pools.c]
lease_time = "1y"
[pools.d]
addrs = ["10.9.0.0/24"]
[pools.e]
addrs = "10.9.0.9-10.9.0.1"
[pools.f]
addrs = "10.9.0.9-2001:db8::1"
"#
    ));
}

#[test]
fn a_pool_among_others_is_compared_with_all() {
    let pools = "[pools.a]\naddrs = \"10.9.0.0-10.9.9.0\"\n[pools.b]\naddrs = \"10.9.1.0\"\n\
                 [pools.c]\naddrs = \"10.9.2.0\"\n[pools.d]\naddrs = \"10.10.0.0/16\"\n";
    let complaint = complaint(pools);
    assert_eq!(complaint.matches("it has addresses of pool \"a\"").count(), 2, "{complaint}");
    assert!(!complaint.contains("pools.d"));
}

#[test]
fn problems_of_the_data_planes_part_are_told_too() {
    let text = "[workers]\nbatch = 0\n[connections.a]\nchildren.b.mode = \"x\"\n";
    let complaint = complaint(text);
    assert!(complaint.contains("workers.batch") && complaint.contains("connections.a.children.b.mode"));
}

#[test]
fn a_file_of_mistakes_is_answered_in_bounded_time() {
    let mistakes: Vec<_> = (0..20_000).map(|n| format!("[connections.c{n}]")).collect();
    assert_eq!(parse(&mistakes.join("\n")).unwrap_err().problems().len(), 1000);
}
