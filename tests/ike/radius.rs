//! Users whom a RADIUS server judges, by a method that Baton does not have: EAP-TTLS around EAP-MD5, from strongSwan to
//! FreeRADIUS.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use baton_lab::charon::Section;
use baton_lab::freeradius::{self, FreeRadius, Record, User};
use baton_lab::negotiation::{CHILD, CONNECTION, Negotiation, Side};
use baton_lab::pki::{Authority, KeyKind};
use baton_lab::{CharonSpec, Lab, PeerSite, requirements};
use serde_json::json;

use crate::cases;
use crate::stage::{self, By, Ends, Steady, can_run};
use crate::support::PATIENCE;

const USER: &str = "carol";
const PASSWORD: &str = "word of Carol's";
const ADDRESS: &str = "10.99.0.77";
const SERVER_NAME: &str = "radius.lab.test";
const DAE_PORT: u16 = 3799;
const GRANTED: [&str; 3] =
    ["Class := \"gold\"", "Framed-IP-Address := 10.99.0.77", "Session-Timeout := 3600"];

struct Stage {
    site: PeerSite,
    server: FreeRadius,
}

fn can_run_radius(test: &str) -> bool {
    let answer = freeradius::requirements();
    if let Err(reason) = &answer {
        requirements::skipped(test, reason);
    }
    answer.is_ok() && can_run(test)
}

/// strongSwan is a user with that password; Baton proves itself by a secret, and asks the server.
fn stage(password: &str) -> Stage {
    let mut case = cases::site_to_site(Side::Responder);
    case.initiator.networks.clear();
    case.secrets = Section::new().with("eap-carol", Section::new().set("id", USER).set("secret", password));
    let method = |auth: &str, identity: &str| Section::new().set("auth", auth).set("id", identity);
    case.initiator_options = Section::new()
        .set_list("vips", &["0.0.0.0"])
        .with("local", method("eap", cases::A_IDENTITY).set("eap_id", USER).set("aaa_id", SERVER_NAME))
        .with("remote", method("psk", cases::B_IDENTITY));
    case.responder_options = Section::new()
        .with("local", method("psk", cases::B_IDENTITY))
        .with("remote", method("eap-radius", "%any").set("eap_id", "%any"));
    let mut site = PeerSite::build(Lab::new().expect("lab"), Side::Responder, &CharonSpec::new("charon"))
        .expect("a site");
    let folder = site.lab.path().join("pki");
    let authority = Authority::root(&folder, "authority", KeyKind::Ecdsa256).expect("an authority");
    let own = cases::certificate(&authority, "radius", KeyKind::Ecdsa256, SERVER_NAME);
    let users = [User { name: USER, password: PASSWORD, granted: &GRANTED }];
    let server = FreeRadius::start(&site.lab, &site.topology.b, &own, &users).expect("FreeRADIUS");
    site.configure(&case).expect("configurations");
    site.charon.add_file("x509ca", &authority.own.certificate).expect("an authority");
    site.charon.load(&case.swanctl(Side::Initiator)).expect("a configuration");
    site.b.set_ike(baton(&case)).expect("a configuration");
    site.start_b().expect("B starts");
    Stage { site, server }
}

/// Baton's side, with its RADIUS server.
fn baton(case: &Negotiation) -> String {
    let text = case.toml(Side::Responder);
    let radius = Section::new()
        .set("accounting", "yes")
        .set("accounting_interval", "1s")
        .set("retransmit_timeout", "0.5")
        .set("retransmit_tries", 1)
        .set("dead_time", "1s")
        .with(
            "servers",
            Section::new().with(
                "main",
                Section::new().set("address", freeradius::ADDRESS).set("secret", "radius-main"),
            ),
        )
        .with(
            "dae",
            Section::new()
                .set("listen", freeradius::ADDRESS)
                .set("port", DAE_PORT)
                .set("secret", "radius-main"),
        );
    let secret = Section::new().set("secret", freeradius::SECRET);
    let more =
        Section::new().with("eap-radius", radius).with("secrets", Section::new().with("radius-main", secret));
    // The table of secrets is there already.
    text + &more.to_toml().replace("\n[secrets]\n", "\n")
}

impl Stage {
    fn records(&self, status: &str) -> Vec<Record> {
        let is = |record: &Record| record.get("Acct-Status-Type").is_some_and(|is| is == status);
        self.server.records().into_iter().filter(is).collect()
    }

    /// Waits until there are so many records of that status.
    fn wait_for_records(&self, status: &str, number: usize) -> Vec<Record> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let records = self.records(status);
            if records.len() >= number {
                return records;
            }
            assert!(Instant::now() < deadline, "{records:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn logs(&self) -> String {
        let (baton, charon) = (self.site.b.ike_log(), self.site.charon.log());
        format!("Baton:\n{baton}\nstrongSwan:\n{charon}\nFreeRADIUS:\n{}", self.server.log())
    }

    fn ping(&self) {
        let client: SocketAddr = (ADDRESS.parse::<std::net::IpAddr>().expect("an address"), 0).into();
        let traffic = Steady::from(&self.site.topology, &self.site.topology.a, client);
        traffic.finish("a user's own traffic");
    }

    fn radius_status(&self) -> serde_json::Value {
        self.site.b.ask_ike(json!({"request": "status"})).expect("status")["radius"][0].clone()
    }
}

fn number(record: &Record, name: &str) -> u64 {
    let text = record.get(name).unwrap_or_else(|| panic!("no {name} in {record:?}"));
    text.parse().unwrap_or_else(|_| panic!("{name} is {text}"))
}

/// The address and the class that the server gives, one Start and one Stop of one session although the daemon dies and
/// keys are replaced, and all octets in it.
#[test]
fn a_radius_server_judges_users_and_keeps_account_of_them() {
    if !can_run_radius("a_radius_server_judges_users_and_keeps_account_of_them") {
        return;
    }
    let mut stage = stage(PASSWORD);
    if let Err(error) = stage.site.charon.initiate(CHILD) {
        panic!("{error}\n{}", stage.logs());
    }
    let pair = Ends::of(&stage.site).pair();
    let session = pair.tunnel["session"].clone();
    assert_eq!((&pair.tunnel["eap_identity"], &session["user"]), (&json!(USER), &json!(USER)));
    assert_eq!(session["class"], json!(["676f6c64"]), "{session}");
    assert_eq!(pair.tunnel["virtual_addresses"], json!([ADDRESS]));
    assert_eq!(stage::leased_address(&stage.site.charon).to_string(), ADDRESS);
    assert!(session["remaining_seconds"].as_u64().is_some_and(|left| (3500..=3600).contains(&left)));
    stage.ping();
    let start = stage.wait_for_records("Start", 1).remove(0);
    assert_eq!(start["User-Name"], USER);
    assert_eq!(start["Framed-IP-Address"], ADDRESS);
    assert_eq!(start["NAS-Port-Id"], CONNECTION);
    assert_eq!(json!(start["Acct-Session-Id"]), session["id"]);
    // The daemon dies, and comes back; keys are replaced by both ends.
    stage.site.b.kill_ike();
    stage.site.b.start_ike(&stage.site.lab).expect("B's IKE starts");
    let again = Ends::of(&stage.site).pair();
    assert_eq!(again.tunnel["session"]["id"], session["id"]);
    stage.ping();
    let ends = Ends::of(&stage.site);
    ends.rekey_child(By::StrongSwan);
    stage.ping();
    ends.rekey_child(By::Baton);
    ends.rekey_ike(By::StrongSwan);
    stage.ping();
    stage.wait_for_records("Interim-Update", 1);
    ends.delete(By::StrongSwan);
    let stop = stage.wait_for_records("Stop", 1).remove(0);
    assert_eq!(stop["Acct-Session-Id"], start["Acct-Session-Id"]);
    assert_eq!(stop["Acct-Terminate-Cause"], "User-Request");
    assert_eq!(stop["Class"], start["Class"]);
    let (inbound, outbound) = (number(&stop, "Acct-Input-Packets"), number(&stop, "Acct-Output-Packets"));
    // Each round has as many echoes as questions.
    assert!(inbound >= 40 && inbound == outbound, "{inbound} {outbound}");
    assert!(number(&stop, "Acct-Input-Octets") >= inbound * 28);
    let others = (stage.records("Start").len(), stage.records("Stop").len());
    assert_eq!(others, (1, 1), "{:?}", stage.server.records());
    let status = stage.radius_status();
    assert_eq!((&status["accepts"], &status["bad_authenticators"]), (&json!(0), &json!(0)), "{status}");
    assert!(status["records_taken"].as_u64() >= Some(2), "{status}");
}

#[test]
fn a_wrong_password_is_refused_by_the_radius_server() {
    if !can_run_radius("a_wrong_password_is_refused_by_the_radius_server") {
        return;
    }
    let mut stage = stage("another word");
    assert!(stage.site.charon.initiate(CHILD).is_err(), "{}", stage.logs());
    let said = stage.site.b.ike_log();
    assert!(said.contains("the RADIUS server refuses the user"), "{}", stage.logs());
    Ends::of(&stage.site).assert_nothing_is_left();
    assert_eq!(stage.radius_status()["rejects"], 1);
    assert!(stage.server.records().is_empty());
    // Without the server nobody comes in, and the daemon goes on.
    stage.server.kill();
    assert!(stage.site.charon.initiate(CHILD).is_err());
    assert!(stage.site.b.ike_log().contains("no RADIUS server has answered"), "{}", stage.logs());
    assert_eq!(stage.radius_status()["authentication"], "dead");
    Ends::of(&stage.site).assert_nothing_is_left();
}

/// RFC 5176.
#[test]
fn a_radius_server_ends_and_changes_sessions() {
    if !can_run_radius("a_radius_server_ends_and_changes_sessions") {
        return;
    }
    let stage = stage(PASSWORD);
    stage.site.charon.initiate(CHILD).unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    let ask = |what, attributes: &str, secret| {
        stage.server.ask(DAE_PORT, what, attributes, secret).expect("radclient")
    };
    let by_name = format!("User-Name = {USER}");
    let answer = ask("disconnect", &by_name, "another secret");
    assert!(answer.contains("No reply"), "{answer}");
    let answer = ask("disconnect", "User-Name = dave", freeradius::SECRET);
    assert!(answer.contains("Disconnect-NAK") && answer.contains("Session-Context-Not-Found"), "{answer}");
    let answer = ask("coa", &format!("{by_name}, Session-Timeout = 600"), freeradius::SECRET);
    assert!(answer.contains("CoA-ACK"), "{answer}");
    let ends = Ends::of(&stage.site);
    let left = ends.pair().tunnel["session"]["remaining_seconds"].as_u64();
    assert!(left.is_some_and(|left| (500..=600).contains(&left)), "{left:?}");
    let by_address = format!("Framed-IP-Address = {ADDRESS}");
    let answer = ask("disconnect", &by_address, freeradius::SECRET);
    assert!(answer.contains("Disconnect-ACK"), "{answer}");
    ends.assert_nothing_is_left();
    let stop = stage.wait_for_records("Stop", 1).remove(0);
    assert_eq!(stop["Acct-Terminate-Cause"], "Admin-Reset");
}
