//! A tunnel of an unmodified strongSwan changes gateways.

use std::time::Duration;

use baton_lab::charon::Section;
use baton_lab::content::Content;
use baton_lab::http::{Download, FileServer};
use baton_lab::negotiation::{CHILD, CONNECTION, Side};
use baton_lab::peer_site::RATE;
use baton_lab::site::{self, Progress};
use baton_lab::{Direction, PeerSite, topology};

use crate::cases;
use crate::stage::{self, By, Ends, Pair, Steady, can_run};
use crate::support::{Tap, count, eventually, sequences};

/// Octets of the file.
const FILE: u64 = 30_000_000;
const SEED: u64 = 11;

/// A tunnel, and two gateways of which the first has it.
fn site(baton: Side) -> (PeerSite, Pair) {
    let mut case = cases::site_to_site(baton);
    case.connection_options = Section::new().set("dpd_delay", "1s");
    let mut site = stage::site(baton, &case);
    site.start_b2().expect("B2 starts");
    let pair = stage::set_up(&site);
    (site, pair)
}

fn move_to_b2(site: &PeerSite, pair: &Pair) -> site::Handover {
    let segment = pair.tunnel["segment"].as_u64().and_then(|segment| u8::try_from(segment).ok());
    site::move_named(&site.b, &site.b2, pair.name(), segment.expect("a segment")).unwrap_or_else(|error| {
        panic!("{error}\nB:\n{}\nB2:\n{}", site.b.ike_log(), site.b2.ike_log());
    })
}

/// In the middle of a download; then both ends ask for new keys of both kinds, and ask whether the other is there.
#[test]
fn a_tunnel_moves_under_a_download() {
    if !can_run("a_tunnel_moves_under_a_download") {
        return;
    }
    let (site, before) = site(Side::Responder);
    site.topology.limit_server(RATE).expect("a rate");
    let server =
        FileServer::start(&site.topology.server, topology::server_port(80), SEED, FILE).expect("server");
    let to_charon =
        ["b", "b2"].map(|port| Tap::start_filtered(&site.topology.wan, port, Direction::In, "udp port 4500"));
    let from_charon = Tap::start_filtered(&site.topology.wan, "a", Direction::In, "udp port 4500");
    let download = Download::start(&site.topology.client, server.address()).expect("a download");
    eventually("a third of the download", || download.received() > FILE / 3);
    let handover = move_to_b2(&site, &before);
    let downloaded = download.finish().expect("downloaded");
    assert_eq!(downloaded.sha256, Content::new(SEED, FILE).sha256());

    let after = Ends::of_b2(&site).pair();
    assert_eq!(
        (after.name(), after.spis(), &after.ike.spis),
        (before.name(), before.spis(), &before.ike.spis)
    );
    eventually("B's end of it", || site.b.tunnels().expect("tunnels").is_empty());
    let (own, theirs) = before.spis();
    let sent: usize = to_charon.map(|tap| sequences(&tap.finish(), theirs).len()).iter().sum();
    let received: usize =
        after.child().all.get("packets-in").and_then(|text| text.parse().ok()).expect("a count");
    let sent_by_charon = sequences(&from_charon.finish(), own).len() as u64;
    let accepted = Progress::of_named(&site.b2, after.name(), "inbound").expect("counters").packets;
    println!(
        "moved in {:?}: {} of {sent} packets to strongSwan lost, {} of {sent_by_charon} from it",
        handover.end.saturating_sub(handover.start),
        sent.saturating_sub(received),
        sent_by_charon.saturating_sub(accepted)
    );
    assert!(accepted <= sent_by_charon && received <= sent);
    lives(&site);
}

/// All that a tunnel does is done on B2.
fn lives(site: &PeerSite) {
    let ends = Ends::of_b2(site);
    let traffic = Steady::from_client(&site.topology);
    for by in [By::StrongSwan, By::Baton] {
        ends.rekey_child(by);
        traffic.flows();
        ends.rekey_ike(by);
        traffic.flows();
    }
    traffic.finish("rekeys after a move");
    // Liveness checks of both ends are answered, or this would be the end.
    std::thread::sleep(Duration::from_secs(3));
    let log = site.charon.log();
    for line in ["sending DPD request", "parsed INFORMATIONAL request"] {
        assert!(log.contains(line), "no `{line}` in {log}");
    }
    ends.pair();
}

/// Whoever set the tunnel up, and whoever ends it: the other gateway knows which Message IDs are next.
#[test]
fn a_moved_tunnel_is_rekeyed_and_deleted_by_either_end() {
    if !can_run("a_moved_tunnel_is_rekeyed_and_deleted_by_either_end") {
        return;
    }
    for (baton, by) in [(Side::Initiator, By::Baton), (Side::Responder, By::StrongSwan)] {
        let (site, pair) = site(baton);
        // Message IDs that are not 0 or 1 any more.
        Ends::of(&site).rekey_child(By::StrongSwan);
        Ends::of(&site).rekey_child(By::Baton);
        move_to_b2(&site, &pair);
        let ends = Ends::of_b2(&site);
        ends.rekey_child(by);
        stage::ping(&site.topology);
        ends.rekey_ike(by);
        ends.delete(by);
        assert_eq!(site.b.tunnels().expect("tunnels"), Vec::<serde_json::Value>::new());
    }
}

/// To and fro: a tunnel comes back, with traffic all the while.
#[test]
fn a_tunnel_moves_to_and_fro() {
    if !can_run("a_tunnel_moves_to_and_fro") {
        return;
    }
    let (site, pair) = site(Side::Responder);
    let segment = u8::try_from(pair.tunnel["segment"].as_u64().expect("a segment")).expect("an octet");
    let traffic = Steady::from_client(&site.topology);
    let (mut from, mut to) = (&site.b, &site.b2);
    for _ in 0..count(4, 40) {
        site::move_named(from, to, pair.name(), segment).expect("a move");
        traffic.flows();
        let ends = Ends { baton: to, charon: &site.charon };
        ends.rekey_child(By::StrongSwan);
        traffic.flows();
        (from, to) = (to, from);
    }
    let (sent, lost) = traffic.losses();
    println!("moves to and fro: {lost} of {sent} datagrams lost");
    assert!(site.charon.swanctl(&["--list-sas", "--ike", CONNECTION]).expect("SAs").contains(CHILD));
}
