//! Bad files and what is said about them; good files and what becomes of them.

use std::path::Path;
use std::time::Duration;

use baton_dataplane::config::ConfigErrors;
use baton_ike_proto::configuration::{
    Child, Connection, EndAction, Fragmentation, Handling, LocalMethod, Mobike, Mode, RemoteMethod,
    Revocation, Routability, SendCertificate, StartAction, Unique,
};
use baton_ike_proto::identity::Identity;
use baton_ike_proto::pool::Slicing;
use baton_ike_proto::proposal::{EspProposal, IkeProposal};
use proptest::prelude::*;

use super::*;

mod documentation;
mod moving;
mod radius;
mod refusals;

const HEAD: &str = r#"
[node]
id = 2
cluster = "demo"
[outer]
interface = "wan0"
addresses = ["203.0.113.2", "2001:db8::2"]
[inner]
interface = "lan0"
"#;

const SMALL: &str = r#"
[connections.site]
local.auth = "psk"
remote.auth = "psk"
children.net = {}
[secrets.ike-site]
secret = "correct horse"
"#;

fn parse(text: &str) -> Result<Config, ConfigErrors> {
    Config::parse_as(&(HEAD.to_owned() + text), Path::new("baton.toml"), true)
}

/// The problems, with lines that count from the end of [`HEAD`].
fn complaint(text: &str) -> String {
    let errors = parse(text).expect_err("this configuration is bad");
    let head = HEAD.lines().count();
    let line = |p: &baton_dataplane::config::Problem| {
        format!("{}: {}: {}\n    Remedy: {}\n", p.line - head + 1, p.field, p.message, p.remedy)
    };
    errors.problems().iter().map(line).collect()
}

fn connection(config: &Config) -> &Connection {
    &config.protocol.connections[0]
}

fn child(config: &Config) -> &Child {
    &connection(config).children[0]
}

#[test]
fn a_file_without_ike_is_a_gateway_that_negotiates_nothing() {
    let config = parse("").unwrap();
    assert!(config.protocol.connections.is_empty());
    assert_eq!(config.daemon.listen, config.gateway.outer.addresses);
    assert_eq!(config.protocol.limits, baton_ike_proto::configuration::Limits::default());
    assert_eq!(config.credentials.directory, Path::new("credentials"));
    assert!(!config.credentials.directory_is_named && !config.credentials.rsa_pss);
}

#[test]
fn a_small_connection_gets_swanctls_defaults() {
    let config = parse(SMALL).unwrap();
    let connection = connection(&config);
    assert_eq!((connection.local_port, connection.remote_port), (500, 500));
    assert!(connection.local_addresses.is_empty() && connection.remote_addresses.is_empty());
    assert_eq!(connection.ike_proposals, IkeProposal::defaults());
    assert_eq!((&connection.local.identity, &connection.remote.identity), (&Identity::Any, &Identity::Any));
    assert_eq!(connection.fragmentation, Fragmentation::Yes);
    assert_eq!((connection.send_certificate, connection.unique), (SendCertificate::IfAsked, Unique::No));
    assert_eq!((connection.dpd_delay, connection.keying_tries, connection.window), (Duration::ZERO, 1, 1));
    assert_eq!(connection.mobike, Some(Mobike { check: Routability::Before, nats: true }));
    let minutes = Duration::from_mins;
    assert_eq!((connection.rekey_time, connection.over_time), (minutes(240), minutes(24)));
    assert_eq!(connection.rand_time, minutes(24));
}

#[test]
fn a_small_child_gets_swanctls_defaults() {
    let config = parse(SMALL).unwrap();
    let child = child(&config);
    assert_eq!(child.esp_proposals, EspProposal::defaults());
    assert!(child.local[0].is_dynamic() && child.remote[0].is_dynamic());
    assert_eq!((child.mode, child.start_action), (Mode::Tunnel, StartAction::None));
    assert_eq!((child.close_action, child.dpd_action), (EndAction::None, EndAction::None));
    let minutes = Duration::from_mins;
    assert_eq!((child.rekey_time, child.life_time, child.rand_time), (minutes(60), minutes(66), minutes(6)));
    assert_eq!((child.rekey_bytes, child.life_bytes, child.rekey_packets, child.life_packets), (0, 0, 0, 0));
    assert_eq!((child.priority, &child.handling), (None, &Handling::default()));
}

#[test]
fn a_long_life_alone_is_no_wish_to_rekey_at_any_moment() {
    let long = SMALL.replace("children.net = {}", "children.net.life_time = \"3h\"");
    let config = parse(&long).unwrap();
    assert_eq!(child(&config).rand_time, Duration::from_mins(30));
}

#[test]
fn everything_can_be_said() {
    let config = parse(EVERYTHING).unwrap();
    insta::assert_debug_snapshot!((&config.daemon, &config.protocol, &config.credentials));
}

const EVERYTHING: &str = r#"
[ike]
listen = ["203.0.113.2"]
user = "baton-ike"
credential_directory = "/etc/swanctl"
rsa_pss = true
max_ike_sas = 5000
half_open = 500
half_open_per_source = 5
cookie_threshold = 0
init_per_source = 10
half_open_timeout = "20s"
max_children = 4
retransmit_timeout = 0.5
retransmit_base = 2
retransmit_tries = 8
retransmit_limit = 30
slice_pools = true
redirect_to = "GW2.example.org"
redirect_above = 1000
[connections.roads]
local_addrs = "203.0.113.2"
remote_addrs = ["198.51.100.0/24", "192.0.2.1", "2001:db8:1::5-2001:db8:1::9"]
local_port = 4500
remote_port = 4500
proposals = "aes128gcm16-prfsha256-x25519, aes256-sha256-modp2048"
vips = ["0.0.0.0", "::"]
pools = "v4, v6"
fragmentation = "force"
fragment_size = 1400
encap = "yes"
send_cert = "always"
send_certreq = false
unique = "replace"
dpd_delay = "30s"
rekey_time = "1h 30m"
rand_time = "5m"
over_time = "10m"
keyingtries = 0
mobike_check = "after"
mobike_nats = false
window = 4
redirect_to = "2001:db8::9"
redirect_timeout = "10s"
message_id_sync = false
replay_counter_sync = false
follow_redirects = ["198.51.100.0/24", "gw2.example.org=192.0.2.1"]
[connections.roads.local]
id = "C=CH, O=Baton, CN=gateway"
certs = ["gateway.pem"]
[connections.roads.remote]
auth = "pubkey"
id = "*@example.org"
certs = "carol.pem, /etc/pinned.pem"
cacerts = ["ca.pem"]
revocation = "strict"
[connections.roads.children.net]
local_ts = ["10.2.0.0/16", "10.3.0.0/24[tcp/443]"]
remote_ts = "dynamic"
esp_proposals = ["aes128gcm16-x25519-esn-noesn", "default"]
mode = "tunnel"
rekey_time = 600
life_time = "15m"
rand_time = "1m"
rekey_bytes = "1G"
life_bytes = "2G"
rekey_packets = 1000
life_packets = 2000
start_action = "trap"
close_action = "start"
dpd_action = "restart"
replay_window = 128
priority = 7
copy_df = "no"
copy_dscp = "no"
mss_clamp = false
tfc_padding = "mtu"
path_mtu = 1400
[connections.roads.children.second]
start_action = "trap|start"
[pools.v4]
addrs = "10.99.0.0/24"
dns = ["10.2.0.53", "2001:db8:2::53"]
subnet = "10.2.0.0/16, 2001:db8:2::/48"
lease_time = "1d"
[pools.v6]
addrs = "2001:db8:99::10-2001:db8:99::ffff"
[secrets.ike-carol]
id = ["carol@example.org", "@carol.example.org"]
secret = "0s/wDq"
[secrets.ike-file]
id = "C=CH, O=Baton, CN=*"
file = "carol.secret"
[authorities.main]
cacert = "other-ca.pem"
crl_uris = "file:///etc/baton/main.crl"
"#;

#[test]
fn connections_and_children_stay_in_the_order_of_the_file() {
    let small = |name: &str| format!("[connections.{name}]\nchildren.z = {{}}\nchildren.a = {{}}\n");
    let config = parse(&(small("b") + &small("c") + &small("a"))).unwrap();
    let names: Vec<_> = config.protocol.connections.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["b", "c", "a"]);
    let children: Vec<_> = connection(&config).children.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(children, ["z", "a"]);
}

#[test]
fn tunnels_move_as_the_connection_says() {
    let read = |lines: &str| {
        let config = parse(&format!("[connections.a]\nchildren.b = {{}}\n{lines}\n")).unwrap();
        connection(&config).mobike
    };
    assert_eq!(read("mobike = false\nmobike_check = \"after\""), None);
    assert_eq!(read("mobike = \"yes\""), Some(Mobike::default()));
    let strict = Mobike { check: Routability::After, nats: false };
    assert_eq!(read("mobike_check = \"after\"\nmobike_nats = \"no\""), Some(strict));
    assert!(
        complaint("[connections.a]\nchildren.b = {}\nmobike_check = \"never\"\n").contains("mobike_check")
    );
}

#[test]
fn certificates_are_the_default() {
    let config = parse("[connections.a]\nchildren.b = {}\n").unwrap();
    let connection = connection(&config);
    assert_eq!(connection.local.method, LocalMethod::Signature(Vec::new()));
    assert_eq!(connection.remote.method, RemoteMethod::Signature);
    assert_eq!(connection.remote.revocation, Revocation::Relaxed);
}

#[test]
fn anywhere_is_no_restriction() {
    let any = |addresses: &str| {
        let text = format!("[connections.a]\nchildren.b = {{}}\n{addresses}\n");
        let config = parse(&text).unwrap();
        (connection(&config).local_addresses.len(), connection(&config).remote_addresses.len())
    };
    assert_eq!(any("local_addrs = \"%any\"\nremote_addrs = \"%any\""), (0, 0));
    assert_eq!(any("local_addrs = [\"203.0.113.2\", \"%any\"]"), (0, 0));
    // One address to initiate to, and everybody may come.
    assert_eq!(any("remote_addrs = [\"192.0.2.1\", \"%any\"]"), (0, 3));
}

#[test]
fn pools_leave_out_what_a_network_keeps_for_itself() {
    let ends = |addrs: &str| {
        let config = parse(&format!("[pools.p]\naddrs = \"{addrs}\"\n")).unwrap();
        let pool = &config.protocol.pools[0];
        (pool.first.to_string(), pool.last.to_string())
    };
    let of = |first: &str, last: &str| (first.to_owned(), last.to_owned());
    assert_eq!(ends("10.9.0.0/24"), of("10.9.0.1", "10.9.0.254"));
    assert_eq!(ends("10.9.0.0/30"), of("10.9.0.1", "10.9.0.2"));
    assert_eq!(ends("10.9.0.0/31"), of("10.9.0.0", "10.9.0.1"));
    assert_eq!(ends("10.9.0.7"), of("10.9.0.7", "10.9.0.7"));
    assert_eq!(ends("10.9.0.0 - 10.9.0.255"), of("10.9.0.0", "10.9.0.255"));
    assert_eq!(ends("2001:db8:1::/64"), of("2001:db8:1::1", "2001:db8:1:0:ffff:ffff:ffff:fffe"));
}

#[test]
fn gateways_that_share_segments_share_pools() {
    let slicing = |text: &str| parse(text).unwrap().protocol.slicing;
    assert_eq!(slicing(""), Slicing::Whole);
    assert_eq!(slicing("[segments]\nowned = [\"0-127\"]\n"), Slicing::BySegment);
    assert_eq!(slicing("[cluster]\n"), Slicing::BySegment);
    assert_eq!(slicing("[ike]\nslice_pools = true\n"), Slicing::BySegment);
}

#[test]
fn secrets_are_decoded_and_not_shown() {
    let secret = |text: &str| {
        let config = parse(&format!("[secrets.ike]\nsecret = \"{text}\"\n")).unwrap();
        let SecretSource::Inline(octets) = &config.credentials.secrets[0].source else { panic!("inline") };
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter") && !shown.contains("[104, 117"), "{shown}");
        octets.to_vec()
    };
    assert_eq!(secret("hunter2"), b"hunter2");
    assert_eq!(secret("0x68756e746572"), b"hunter");
    assert_eq!(secret("0saHVudGVy"), b"hunter");
    assert_eq!(secret(" blanks count "), b" blanks count ");
}

proptest! {
    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn arbitrary_values_never_panic(key in 0..KEYS.len(), value in "(\"[ -~]{0,40}\"|[0-9]{1,20}|\\[\"[ -!#-~]{0,20}\"\\])") {
        let (section, key) = KEYS[key];
        let _ = parse(&format!("{section}\n{key} = {value}\n"));
    }
}

const KEYS: [(&str, &str); 14] = [
    ("[ike]", "listen"),
    ("[ike]", "half_open_timeout"),
    ("[ike]", "retransmit_base"),
    ("[connections.a]", "remote_addrs"),
    ("[connections.a]", "proposals"),
    ("[connections.a]", "rekey_time"),
    ("[connections.a.local]", "id"),
    ("[connections.a.remote]", "certs"),
    ("[connections.a.children.b]", "local_ts"),
    ("[connections.a.children.b]", "esp_proposals"),
    ("[connections.a.children.b]", "life_bytes"),
    ("[pools.a]", "addrs"),
    ("[pools.a]", "subnet"),
    ("[secrets.ike]", "secret"),
];

#[test]
fn in_a_cluster_peers_wait_for_a_standby() {
    let wait = |text: &str| parse(text).unwrap().daemon.replication_wait.map(|wait| wait.as_millis());
    assert_eq!(wait(""), None);
    for (cluster, milliseconds) in [
        ("whatever = 1", 50),
        ("interval_milliseconds = 40\nmissed = 9", 380),
        ("lease_milliseconds = 25", 45),
        ("replication_wait_milliseconds = 200", 220),
    ] {
        assert_eq!(wait(&format!("[cluster]\n{cluster}\n")), Some(milliseconds), "{cluster}");
    }
    assert!(complaint("[cluster]\nmissed = 0\n").contains("missed"));
}
