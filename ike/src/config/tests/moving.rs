use baton_ike_proto::configuration::Moving;
use baton_ike_proto::wire::GatewayIdentity;

use super::*;

#[test]
fn nobody_is_sent_anywhere_unless_it_is_said() {
    let config = parse(SMALL).unwrap();
    assert_eq!(connection(&config).moving, Moving::default());
    assert_eq!(config.protocol.maintenance.gateway(usize::MAX), None);
}

#[test]
fn gateways_are_allowed_by_address_and_by_name() {
    let text = "[connections.a]\nchildren.b = {}\nfollow_redirects = [\"192.0.2.0/25\", \"Gw.example.org = 2001:db8::7\"]\n";
    let config = parse(text).unwrap();
    let moving = &connection(&config).moving;
    let allowed = |gateway: &str| moving.allowed(&gateway.parse::<GatewayIdentity>().unwrap());
    assert_eq!(allowed("192.0.2.127").unwrap().to_string(), "192.0.2.127");
    assert_eq!(allowed("gw.EXAMPLE.org").unwrap().to_string(), "2001:db8::7");
    assert_eq!(allowed("2001:db8::7").unwrap().to_string(), "2001:db8::7");
    for forbidden in ["192.0.2.128", "gw2.example.org", "2001:db8::8"] {
        assert_eq!(allowed(forbidden), None, "{forbidden}");
    }
}

#[test]
fn impossible_gateways_are_refused() {
    insta::assert_snapshot!(complaint(
        r#"
[ike]
redirect_to = "203.0.113.2"
[connections.a]
children.b = {}
redirect_to = "2001:db8::2"
[connections.b]
children.b = {}
redirect_to = "no gateway"
redirect_timeout = "soon"
follow_redirects = ["gw.example.org", "192.0.2.1=192.0.2.2", "gw.example.org=192.0.2.0/24"]
"#
    ));
    insta::assert_snapshot!(complaint("[ike]\nredirect_above = 5\n"));
}

#[test]
fn tokens_need_a_key_that_survives() {
    assert!(complaint("[ike]\ncrash_detection = true\n").contains("set [snapshot] key_file"));
    let config = parse("[ike]\ncrash_detection = \"no\"\n").unwrap();
    assert!(!config.protocol.crash_detection);
}
