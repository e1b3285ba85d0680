//! One end gets another address, and the tunnel goes on (RFC 4555).

use std::time::Duration;

use baton_lab::charon::Section;
use baton_lab::content::Content;
use baton_lab::http::{Download, FileServer};
use baton_lab::negotiation::Side;
use baton_lab::peer_site::RATE;
use baton_lab::{CharonSpec, Lab, Namespace, PeerSite, topology};

use crate::cases;
use crate::stage::{self, By, Ends, Pair, Steady, can_run};
use crate::support::eventually;

/// Octets of the file.
const FILE: u64 = 20_000_000;
const SEED: u64 = 12;
/// Where strongSwan is before and after.
const CHARON: [&str; 2] = ["203.0.113.1", "203.0.113.9"];
/// Where Baton is before and after.
const BATON: [&str; 2] = ["203.0.113.2", "203.0.113.12"];

fn anywhere(key: &str) -> Section {
    Section::new().set_list(key, &["%any"])
}

/// The one address takes the other's place at once: what is on its way to the old one is lost.
fn change_address(namespace: &Namespace, [before, after]: [&str; 2]) {
    namespace.set("net/ipv4/conf/wan0/promote_secondaries", "1").expect("a setting");
    let lines = format!("address add {after}/24 dev wan0\naddress del {before}/24 dev wan0");
    namespace.ip(&lines).expect("another address");
}

fn remote_of(pair: &Pair) -> String {
    pair.tunnel["remote"].as_str().unwrap_or_default().to_owned()
}

/// strongSwan is a road warrior that gets another address in the middle of a download.
#[test]
fn a_client_moves_under_a_download() {
    if !can_run("a_client_moves_under_a_download") {
        return;
    }
    let mut case = cases::road_warrior(Side::Responder);
    case.initiator_options = anywhere("local_addrs");
    case.responder_options = anywhere("remote_addrs");
    let mut site =
        PeerSite::build_with_client(Lab::new().expect("lab"), &CharonSpec::new("charon")).expect("a site");
    site.configure(&case).expect("configurations");
    site.start_b().expect("B starts");
    let before = stage::set_up(&site);
    assert!(remote_of(&before).starts_with(CHARON[0]), "{before:?}");
    assert!(before.tunnel["extensions"].to_string().contains("mobike"), "{before:?}");

    site.topology.limit_server(RATE).expect("a rate");
    let server =
        FileServer::start(&site.topology.server, topology::server_port(80), SEED, FILE).expect("server");
    let download = Download::start(&site.topology.client, server.address()).expect("a download");
    eventually("a third of the download", || download.received() > FILE / 3);
    change_address(&site.topology.client, CHARON);
    let downloaded = download.finish().unwrap_or_else(|error| {
        panic!("{error}\nBaton:\n{}\nstrongSwan:\n{}", site.b.ike_log(), site.charon.log())
    });
    assert_eq!(downloaded.sha256, Content::new(SEED, FILE).sha256());

    let after = Ends::of(&site).pair();
    assert_eq!((after.name(), &after.ike.spis), (before.name(), &before.ike.spis), "the same IKE SA");
    assert!(remote_of(&after).starts_with(CHARON[1]), "{after:?}");
    println!("moved in the middle of {FILE} octets, which took {:?}", downloaded.duration);
    for by in [By::StrongSwan, By::Baton] {
        Ends::of(&site).rekey_ike(by);
        Ends::of(&site).rekey_child(by);
    }
}

/// Baton has set the tunnel up, and B gets another address under traffic; first the old one stays, so that nothing
/// need be lost, and then it goes.
#[test]
fn baton_moves_under_traffic() {
    if !can_run("baton_moves_under_traffic") {
        return;
    }
    let mut case = cases::site_to_site(Side::Initiator);
    case.baton_options = anywhere("local_addrs");
    case.responder_options = anywhere("remote_addrs");
    let mut site = PeerSite::build(Lab::new().expect("lab"), Side::Initiator, &CharonSpec::new("charon"))
        .expect("a site");
    site.configure(&case).expect("configurations");
    let both = format!("addresses = [\"{}\", \"{}\"]", BATON[0], BATON[1]);
    let text = site.b.config_text().replace(&format!("addresses = [\"{}\"]", BATON[0]), &both);
    site.b.write_config(&text).expect("a configuration");
    site.start_b().expect("B starts");
    let before = stage::set_up(&site);
    let traffic = Steady::from_client(&site.topology);
    let local = |address: &'static str| {
        let site = &site;
        move || {
            let tunnels = site.b.tunnels().expect("tunnels");
            tunnels.iter().all(|tunnel| tunnel["local"].as_str().is_some_and(|at| at.starts_with(address)))
        }
    };
    let [old, new] = BATON;
    let lines = format!(
        "address add {new}/24 dev wan0\nroute replace 203.0.113.0/24 dev wan0 proto kernel scope link src {new}"
    );
    site.topology.b.ip(&lines).expect("another address");
    eventually("Baton at its other address", local(new));
    traffic.flows();
    Ends::of(&site).pair();
    let (sent, lost) = traffic.losses();
    println!("Baton moved while its old address stayed: {lost} of {sent} datagrams lost");
    assert!(lost * 20 < sent, "{lost} of {sent} lost");

    let traffic = Steady::from_client(&site.topology);
    site.topology.b.set("net/ipv4/conf/wan0/promote_secondaries", "1").expect("a setting");
    let lines = format!(
        "route replace 203.0.113.0/24 dev wan0 proto kernel scope link src {old}\naddress del {new}/24 dev wan0"
    );
    site.topology.b.ip(&lines).expect("the first address again");
    eventually("Baton at its first address", local(old));
    std::thread::sleep(Duration::from_millis(500));
    traffic.flows();
    let after = Ends::of(&site).pair();
    assert_eq!((after.name(), &after.ike.spis), (before.name(), &before.ike.spis), "the same IKE SA");
    let (sent, lost) = traffic.losses();
    println!("Baton moved as its address went: {lost} of {sent} datagrams lost");
    Ends::of(&site).delete(By::Baton);
}
