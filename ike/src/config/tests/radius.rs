//! `[eap-radius]`.

use super::*;

const USERS: &str = r#"
[connections.users]
local.auth = "psk"
remote.auth = "eap-radius"
remote.eap_id = "%any"
children.net = {}
[secrets.ike-site]
secret = "correct horse"
[secrets.radius-main]
secret = "battery staple"
"#;

#[test]
fn servers_are_read() {
    let text = format!(
        r#"{USERS}
[eap-radius]
nas_identifier = "gateway-7"
accounting = "yes"
accounting_interval = "5m"
station_id_with_port = false
retransmit_timeout = 0.5
retransmit_base = 2
retransmit_tries = 1
dead_time = "10s"
[eap-radius.servers.main]
address = "192.0.2.18"
auth_port = 11812
acct_port = 11813
preference = 7
sockets = 2
secret = "radius-main"
[eap-radius.servers.spare]
address = "::1"
secret = "radius-main"
nas_identifier = "other"
[eap-radius.dae]
clients = "192.0.2.18"
secret = "radius-main"
require_event_timestamp = false
"#
    );
    let radius = parse(&text).expect("a good configuration").radius;
    assert_eq!((radius.nas_identifier.as_str(), radius.accounting), ("gateway-7", true));
    assert_eq!(
        (radius.accounting_interval, radius.dead_time),
        (Duration::from_mins(5), Duration::from_secs(10))
    );
    assert_eq!((radius.retransmit_timeout, radius.retransmit_tries), (Duration::from_millis(500), 1));
    assert!(!radius.station_id_with_port);
    let [main, spare] = &radius.servers[..] else { panic!("{:?}", radius.servers) };
    assert_eq!((main.auth_port, main.acct_port, main.preference, main.sockets), (11812, 11813, 7, 2));
    assert_eq!((spare.auth_port, spare.acct_port, spare.preference, spare.sockets), (1812, 1813, 0, 4));
    assert_eq!((spare.nas_identifier.as_deref(), main.nas_identifier.as_deref()), (Some("other"), None));
    let dae = radius.dae.expect("a listener");
    assert_eq!(dae.listen, "203.0.113.2:3799".parse().expect("an address"));
    assert_eq!((dae.clients.len(), dae.require_event_timestamp), (1, false));
}

#[test]
fn the_secret_is_shown_to_nobody() {
    let server = "[eap-radius.servers.a]\naddress = \"192.0.2.18\"\nsecret = \"radius-main\"\n";
    let config = parse(&format!("{USERS}{server}")).expect("a good configuration");
    assert!(!format!("{config:?}").contains("battery"));
    let secrets = crate::credentials::radius_secrets(&config.credentials).expect("secrets");
    assert_eq!(secrets.keys().collect::<Vec<_>>(), ["radius-main"]);
    assert!(!format!("{secrets:?}").contains("battery"));
}

#[test]
fn what_cannot_be_is_told() {
    let complaints = [
        (USERS.to_owned(), "needs a RADIUS server"),
        (format!("{USERS}[eap-radius.servers.a]\naddress = \"192.0.2.18\"\n"), "name one of [secrets]"),
        (
            format!("{USERS}[eap-radius.servers.a]\naddress = \"192.0.2.18\"\nsecret = \"radius-mian\"\n"),
            "did you mean \"radius-main\"?",
        ),
        (
            format!("{USERS}[eap-radius.servers.a]\naddress = \"192.0.2.18\"\nsecret = \"ike-site\"\n"),
            "there is no secret \"ike-site\" for RADIUS",
        ),
        (
            format!(
                "{USERS}[eap-radius.servers.a]\naddress = \"radius.example.org\"\nsecret = \"radius-main\"\n"
            ),
            "is not an IP address",
        ),
        (format!("{USERS}[eap-radius.dae]\nport = 3799\n"), "eap-radius.dae"),
        (format!("{USERS}[eap-radius]\naccounting_interval = \"2d\"\n"), "longer than a day"),
        (format!("{USERS}[eap-radius]\nnas_identifier = \"\"\n"), "1 to 253 octets"),
        (
            USERS.replace("children.net = {}", "children.net = {start_action = \"start\"}"),
            "users come by themselves",
        ),
        (USERS.replace("[secrets.radius-main]", "[secrets.radius-main]\nid = \"a\""), "go by their names"),
        (
            SMALL.replace("local.auth = \"psk\"", "local.auth = \"eap-radius\""),
            "RADIUS judges peers, and never us",
        ),
    ];
    for (text, expected) in complaints {
        let complaint = complaint(&text);
        assert!(complaint.contains(expected), "{expected}:\n{complaint}");
    }
}
