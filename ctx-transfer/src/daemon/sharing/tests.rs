//! Who attracts, and what the data plane is told.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixListener;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::cluster::Segments;

fn id(number: u8) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn node(number: u8, priority: u8, owns: &[u8]) -> Neighbour {
    Neighbour {
        id: id(number),
        priority,
        alive: true,
        owns: owns.iter().copied().collect::<Segments>(),
        links: LinkAddresses { outer: Some([2, 0, 0, 0, 0, number]), inner: None },
    }
}

fn plan(me: u8, announce: Announce) -> Plan {
    let mac = (announce == Announce::MulticastMac).then_some(Mac([3, 0, 0, 0, 0, 1]));
    let address = |text: &str| text.parse().expect("an address");
    let sharing = Sharing { announce, mac, inner_addresses: vec![address("10.2.0.1")] };
    Plan { me: id(me), sharing, outer_addresses: vec![address("203.0.113.2")] }
}

#[test]
fn the_first_node_that_works_attracts() {
    let mut nodes = [node(1, 100, &[1]), node(2, 100, &[2]), node(3, 200, &[3])];
    assert_eq!(attractor(&nodes), Some(id(3)), "the highest priority");
    nodes[2].alive = false;
    assert_eq!(attractor(&nodes), Some(id(1)), "then the lowest id");
    nodes[0].owns = Segments::NONE;
    assert_eq!(attractor(&nodes), Some(id(2)), "one that owns nothing may have no data plane");
    assert_eq!(attractor(&[]), None);
}

#[test]
fn one_node_answers_and_the_others_are_silent() {
    let nodes = [node(1, 100, &[1]), node(2, 100, &[2])];
    let resolution = |me, nodes: &[Neighbour]| plan(me, Announce::Attract).address(nodes).resolution;
    assert_eq!((resolution(1, &nodes), resolution(2, &nodes)), (Resolution::Kernel, Resolution::Silent));
    assert_eq!(resolution(2, &nodes[1..]), Resolution::Kernel, "the other one is gone");
    assert_eq!(resolution(1, &[]), Resolution::Silent, "who leaves attracts nothing");
}

#[test]
fn all_nodes_answer_with_the_address_that_they_share() {
    let shared = plan(2, Announce::MulticastMac).address(&[node(1, 100, &[1]), node(2, 100, &[2])]);
    assert_eq!(shared.resolution, Resolution::SharedMac);
    assert_eq!(
        (shared.outer.mac, shared.inner.mac),
        (plan(2, Announce::MulticastMac).sharing.mac, shared.outer.mac)
    );
    let given = plan(2, Announce::MulticastMac);
    assert_eq!(shared.outer.addresses, given.outer_addresses);
    assert_eq!(shared.inner.addresses, given.sharing.inner_addresses);
    let mut none = plan(2, Announce::MulticastMac);
    none.sharing.inner_addresses.clear();
    assert_eq!(none.address(&[]).inner, SharedSide::default());
}

#[test]
fn frames_go_on_to_owners_that_live_and_from_members_never() {
    let mut nodes = [node(1, 100, &[1]), node(2, 100, &[2, 5]), node(3, 100, &[5, 9]), node(4, 100, &[7])];
    nodes[3].alive = false;
    let owners = plan(1, Announce::Attract).owners(&nodes);
    let named: Vec<_> =
        owners.owners.iter().map(|owner| (owner.segments.clone(), owner.outer, owner.inner)).collect();
    let mac = |number| Some(Mac([2, 0, 0, 0, 0, number]));
    assert_eq!(named, [(vec![2, 5], mac(2), None), (vec![9], mac(3), None)], "each segment once");
    assert_eq!(owners.members.len(), 3, "a silent one's frames do not go on either");
    nodes[1].links.outer = Some([1, 0, 0x5e, 0, 0, 1]);
    let owners = plan(1, Announce::Attract).owners(&nodes);
    assert_eq!((owners.owners[0].outer, owners.members.len()), (None, 2), "no node has such an address");
}

/// A data plane that answers everything, and gives each request.
fn data_plane(listener: UnixListener) -> Receiver<Value> {
    let (sender, requests) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.expect("a client");
            let mut answers = stream.try_clone().expect("a socket");
            for line in BufReader::new(stream).lines() {
                let Ok(line) = line else { break };
                let _ = sender.send(serde_json::from_str(&line).expect("JSON"));
                let answer = "{\"version\":1,\"ok\":{\"filtered\":[\"outer\",\"inner\"],\"frames\":3}}\n";
                answers.write_all(answer.as_bytes()).expect("answered");
            }
        }
    });
    requests
}

#[test]
fn a_node_that_begins_to_attract_says_so_a_few_times_and_a_node_that_leaves_is_silent() {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
    let socket = directory.path().join("control.sock");
    let requests = data_plane(UnixListener::bind(&socket).expect("listening"));
    let plan = plan(1, Announce::Attract);
    let sharer = Sharer { state: Arc::default(), announce: Announce::Attract };
    sharer.see(|| vec![node(1, 100, &[1]), node(2, 100, &[2])]);
    let teller = Teller {
        plan,
        socket,
        client: None,
        attracting: false,
        working: Vec::new(),
        announcements: 0,
        warned: false,
    };
    let state = Arc::clone(&sharer.state);
    thread::spawn(move || teller.serve(&state));

    let next = || requests.recv_timeout(Duration::from_secs(10)).expect("a request");
    let (owners, address) = (next(), next());
    assert_eq!((&owners["request"], &owners["owners"][0]["segments"][0]), (&"owner-macs".into(), &2.into()));
    assert_eq!((&address["request"], &address["resolution"]), (&"cluster-address".into(), &"kernel".into()));
    // It is told again what it knows, and the link is not.
    let more: Vec<Value> = (0..3 * ANNOUNCEMENTS + 2).map(|_| next()).collect();
    let announced: Vec<_> = more.iter().filter(|request| request["request"] == "announce").collect();
    assert_eq!(announced.len(), ANNOUNCEMENTS as usize);
    assert_eq!(announced[0]["outer"][0], "203.0.113.2");
    assert_eq!(announced[0]["inner"][0], "10.2.0.1");
    // Some may send to a node that is gone.
    sharer.see(|| vec![node(1, 100, &[1, 2])]);
    let more: Vec<Value> = (0..3 * ANNOUNCEMENTS + 2).map(|_| next()).collect();
    assert_eq!(
        more.iter().filter(|request| request["request"] == "announce").count(),
        ANNOUNCEMENTS as usize
    );
    sharer.leave();
    let last = requests.try_iter().filter(|request| request["request"] == "cluster-address").last();
    assert_eq!(last.expect("told before it left")["resolution"], "silent");
}
