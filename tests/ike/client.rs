//! A host on the road with Baton: what it is inside, what it lets out, how it comes back.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use baton_lab::charon::Section;
use baton_lab::content::Content;
use baton_lab::http::{Download, FileServer};
use baton_lab::negotiation::CONNECTION;
use baton_lab::ping::ping;
use baton_lab::road::{ELSEWHERE, FAR, LAPTOP, NEAR, ROUTER};
use baton_lab::topology::SERVER;
use serde_json::json;

use crate::cases::DNS;
use crate::road::{
    FILE, INSIDE, Moving, RESOLV_CONF, SEED, TUN, WEB, Watched, full_tunnel, limit, serve_names, stage,
    stage_with,
};
use crate::stage::can_run;
use crate::support::eventually;

/// Everything through strongSwan, which is not on the laptop's link; the laptop moves under a download, either of its
/// daemons is killed, and at the end all is as it was.
#[test]
fn a_road_warrior_is_inside_until_it_leaves() {
    if !can_run("a_road_warrior_is_inside_until_it_leaves") {
        return;
    }
    let mut stage = stage(&full_tunnel(&Section::new(), &Section::new()));
    assert!(stage.route(SERVER).contains("via 192.0.2.1"), "in clear before");
    stage.set_up();
    assert_eq!(stage.resolv_conf().lines().filter(|line| line.starts_with("nameserver")).count(), 1);
    assert!(stage.resolv_conf().contains("search lan\n"), "what else stands there stays");
    for anywhere in [SERVER, ROUTER, Ipv4Addr::new(198, 51, 100, 1)] {
        let route = stage.route(anywhere);
        assert!(route.contains(TUN) && route.contains(&format!("src {INSIDE}")), "{route}");
    }
    stage.reaches_the_server();
    let shown = stage.laptop.dpctl_json(&["ike", "list"]).expect("tunnels")["tunnels"][0].clone();
    assert_eq!((&shown["virtual_addresses"], &shown["dns"]), (&json!([INSIDE]), &json!([DNS])));

    limit(&stage.road);
    let download = stage.start_download();
    eventually("a third of the download", || download.received() > FILE / 3);
    stage.road.move_laptop(LAPTOP, ELSEWHERE).expect("elsewhere");
    stage.finish(download);
    let at = stage.laptop.tunnels().expect("tunnels")[0]["local"].clone();
    assert!(at.as_str().is_some_and(|at| at.starts_with(&ELSEWHERE.to_string())), "{at}");

    stage.laptop.kill_ike();
    stage.reaches_the_server();
    stage.laptop.start_ike(&stage.lab).expect("starts again");
    stage.is_inside();
    stage.laptop.kill();
    stage.laptop.start(&stage.lab).expect("starts again");
    stage.is_inside();
    stage.reaches_the_server();

    stage.laptop.dpctl(&["down", CONNECTION]).expect("down");
    let is_outside =
        || !stage.addresses().contains(&INSIDE.to_string()) && stage.resolv_conf() == RESOLV_CONF;
    eventually("nothing inside", is_outside);
    stage.is_outside();
    stage.reaches_the_server();
}

/// A daemon that was killed while its tunnel was being ended leaves nothing: who comes after it knows.
#[test]
fn what_a_dead_daemon_left_inside_goes() {
    if !can_run("what_a_dead_daemon_left_inside_goes") {
        return;
    }
    let mut stage = stage(&full_tunnel(&Section::new(), &Section::new()));
    stage.set_up();
    stage.laptop.kill_ike();
    // One for each segment.
    let directories = std::fs::read_dir(stage.laptop.runtime_directory().join("ike")).expect("contexts");
    for directory in directories.flatten().filter(|entry| entry.path().is_dir()) {
        std::fs::remove_dir_all(directory.path()).expect("forgotten");
    }
    assert!(stage.addresses().contains(&INSIDE.to_string()));
    stage.laptop.start_ike(&stage.lab).expect("starts again");
    let is_outside =
        || !stage.addresses().contains(&INSIDE.to_string()) && stage.resolv_conf() == RESOLV_CONF;
    eventually("nothing inside", is_outside);
}

/// For ever: at once when the traffic or the network wants it, with pauses otherwise.
fn wanted() -> (Section, Section) {
    let child =
        Section::new().set("start_action", "start").set("dpd_action", "restart").set("close_action", "start");
    (child, Section::new().set("keyingtries", 0).set("dpd_delay", "1s"))
}

#[test]
fn i7_a_road_warrior_stays_closed_and_comes_back() {
    if !can_run("i7_a_road_warrior_stays_closed_and_comes_back") {
        return;
    }
    let (child, connection) = wanted();
    let mut stage = stage(&full_tunnel(&child, &connection));
    stage.is_inside();
    let watched = Watched::start(&stage);
    watched.flows("traffic", &stage);
    let lab = &stage.lab;
    stage.charon.kill();
    let is_lost =
        || stage.laptop.tunnels().expect("tunnels").iter().all(|tunnel| tunnel["state"] != "established");
    eventually("the loss of the gateway", is_lost);
    eventually("nothing inside", || stage.resolv_conf() == RESOLV_CONF);
    std::thread::sleep(Duration::from_millis(500));
    stage.laptop.kill_ike();
    std::thread::sleep(Duration::from_millis(500));
    stage.laptop.start_ike(lab).expect("starts again");
    stage.laptop.kill();
    std::thread::sleep(Duration::from_millis(500));
    stage.laptop.start(lab).expect("starts again");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(watched.leaked(), 0);
    stage.charon.restart(&stage.lab).expect("strongSwan comes back");
    watched.flows("traffic again", &stage);
    stage.is_inside();
    assert_eq!(watched.leaked(), 0);
    // Nobody is there, and the operator wants to go on without.
    stage.charon.kill();
    eventually("the loss of the gateway", || {
        stage.laptop.tunnels().expect("tunnels").iter().all(|tunnel| tunnel["state"] != "established")
    });
    assert_eq!(watched.leaked(), 0);
    stage.laptop.dpctl(&["down", CONNECTION]).expect("down");
    watched.flows("traffic in clear", &stage);
    assert!(watched.leaked() > 0);
}

#[test]
fn a_road_warrior_that_does_not_fail_closed_goes_on_in_clear() {
    if !can_run("a_road_warrior_that_does_not_fail_closed_goes_on_in_clear") {
        return;
    }
    let (child, connection) = wanted();
    let mut stage = stage(&full_tunnel(&child, &connection.set("fail_closed", "no")));
    stage.is_inside();
    let watched = Watched::start(&stage);
    watched.flows("traffic", &stage);
    assert_eq!(watched.leaked(), 0);
    stage.charon.kill();
    eventually("clear traffic", || watched.leaked() > 0);
    watched.flows("traffic in clear", &stage);
    let before = stage.route(NEAR);
    assert!(before.contains("via 192.0.2.1"), "{before}");
    stage.charon.restart(&stage.lab).expect("strongSwan comes back");
    stage.is_inside();
    watched.flows("traffic inside", &stage);
}

/// Both daemons have forgotten where the gateway is, and nothing may leave in clear: its name is looked up all the same.
#[test]
fn a_gateway_that_is_known_by_name_is_found_while_all_is_closed() {
    if !can_run("a_gateway_that_is_known_by_name_is_found_while_all_is_closed") {
        return;
    }
    let (child, connection) = wanted();
    let case = full_tunnel(&child, &connection.set_list("remote_addrs", &["vpn.lab.test"]));
    let mut stage = stage_with(&case, serve_names);
    stage.is_inside();
    stage.reaches_the_server();
    stage.charon.kill();
    eventually("nothing inside", || stage.resolv_conf() == RESOLV_CONF);
    stage.laptop.kill_ike();
    stage.laptop.kill();
    stage.laptop.start(&stage.lab).expect("starts again");
    assert!(stage.route(ROUTER).is_empty(), "the DNS server is not reached in clear");
    stage.laptop.start_ike(&stage.lab).expect("starts again");
    stage.charon.restart(&stage.lab).expect("strongSwan comes back");
    stage.is_inside();
    stage.reaches_the_server();
}

/// In the middle of a download the gateway sends the laptop to another one, where it asks for the same address: the
/// download goes on (RFC 5685).
#[test]
fn a_road_warrior_goes_to_another_gateway_under_a_download() {
    if !can_run("a_road_warrior_goes_to_another_gateway_under_a_download") {
        return;
    }
    let follows = Section::new().set_list("follow_redirects", &["203.0.113.0/24"]);
    let mut case = full_tunnel(&Section::new().set("start_action", "start"), &Section::new());
    case.initiator_options = case.initiator_options.merged(&follows);
    let stage = Moving::build(&case);
    stage.is_with(NEAR);
    limit(&stage.road);
    let server = FileServer::start(&stage.road.server, SocketAddr::new(SERVER.into(), WEB), SEED, FILE);
    let download =
        Download::start(&stage.road.laptop, server.expect("a server").address()).expect("a download");
    eventually("a third of the download", || download.received() > FILE / 3);
    stage.near.dpctl(&["redirect", CONNECTION, &FAR.to_string()]).expect("a redirect");
    stage.is_with(FAR);
    // As a routing protocol behind the gateways would.
    stage.road.server.ip("route add 10.99.0.0/24 via 10.2.0.3").expect("another way back");
    let downloaded = download.finish().unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    assert_eq!(downloaded.sha256, Content::new(SEED, FILE).sha256());
    let inside = stage.laptop.tunnels().expect("tunnels")[0]["virtual_addresses"].clone();
    assert_eq!(inside, json!([INSIDE]));
    // It goes on to move from there.
    stage.road.move_laptop(LAPTOP, ELSEWHERE).expect("elsewhere");
    ping(&stage.road.laptop, &[], SERVER.into(), 3)
        .unwrap_or_else(|error| panic!("{error}\n{}", stage.logs()));
    stage.laptop.dpctl(&["down", CONNECTION]).expect("down");
    let resolv_conf = stage.lab.path().join("resolv.conf");
    eventually("nothing inside", || std::fs::read_to_string(&resolv_conf).expect("settings") == RESOLV_CONF);
}
