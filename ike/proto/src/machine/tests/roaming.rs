//! Tunnels that move (RFC 4555).

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::pair::{LEFT, Pair, RIGHT, configuration, connection, secrets};
use crate::configuration::{AddressMatch, Connection, Mobike, Routability};
use crate::host::{Command, DownReason, Event, Movement, OuterEnds, Target};
use crate::machine::pending::Pending;
use crate::machine::tunnel::Tunnel;
use crate::machine::{Restoring, TunnelView};

const MOVED: &str = "198.51.100.9";
const FURTHER: &str = "198.51.100.10";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mobile(is_left: bool) -> Connection {
    let remote_addresses = if is_left { connection(true).remote_addresses } else { Vec::new() };
    Connection {
        mobike: Some(Mobike::default()),
        local_addresses: Vec::new(),
        remote_addresses,
        ..connection(is_left)
    }
}

fn with(left: Connection, right: Connection) -> Pair {
    let mut pair = Pair::new(left, right);
    pair.left.host.addresses = vec![ip(LEFT)];
    pair.right.host.addresses = vec![ip(RIGHT)];
    pair.initiate();
    pair.assert_up(1);
    pair
}

fn up() -> Pair {
    with(mobile(true), mobile(false))
}

/// The left end has this address alone, and its host says so.
fn move_left(pair: &mut Pair, to: &str) {
    (pair.left.host.source, pair.left.host.addresses) = (ip(to), vec![ip(to)]);
    pair.left.command(pair.now(), Command::AddressesChanged).unwrap();
    pair.left.timeout(pair.now());
}

fn view(pair: &Pair, is_left: bool) -> TunnelView {
    let side = if is_left { &pair.left } else { &pair.right };
    side.established(pair.now()).remove(0)
}

/// Where the outbound SAs of the right end lead.
fn sends_to(pair: &Pair) -> Vec<IpAddr> {
    pair.right.outbound.values().map(|(_, sa)| sa.ends.remote.ip()).collect()
}

fn counter(pair: &Pair, is_left: bool, name: &str) -> u64 {
    let side = if is_left { &pair.left } else { &pair.right };
    side.ike.counters().iter().find(|(other, _)| *other == name).unwrap().1
}

#[track_caller]
fn assert_at(pair: &Pair, address: &str) {
    pair.assert_up(1);
    for (is_left, own) in [(true, ip(address)), (false, ip(RIGHT))] {
        let view = view(pair, is_left);
        assert_eq!(view.path.local.ip(), own);
        assert_eq!(view.mobility.as_ref().unwrap().unproven, None);
        let side = if is_left { &pair.left } else { &pair.right };
        assert!(side.outbound.values().all(|(_, sa)| sa.ends.local.ip() == own));
    }
    assert_eq!(view(pair, false).path.remote.ip(), ip(address));
    assert!(sends_to(pair).iter().all(|remote| *remote == ip(address)));
}

#[test]
fn it_is_spoken_if_both_ends_want_it_and_port_4500_is_used_from_then_on() {
    for (left, right) in [(true, true), (true, false), (false, true), (false, false)] {
        let speaking = |speaks, is_left| Connection {
            mobike: Some(Mobike::default()).filter(|_| speaks),
            ..mobile(is_left)
        };
        let pair = with(speaking(left, true), speaking(right, false));
        for is_left in [true, false] {
            let view = view(&pair, is_left);
            assert_eq!(
                view.mobility.as_ref().map(|mobility| mobility.leads),
                (left && right).then_some(is_left)
            );
            assert_eq!(view.path.marked, left, "section 3.3");
            assert_eq!((view.nat, view.children[0].ends.encapsulated), ((false, false), false));
            assert_eq!(view.children[0].ends.movement == Movement::Roams, left && right);
        }
    }
}

#[test]
fn transport_mode_alone_does_not_roam() {
    let transport = |is_left| {
        let mut connection = mobile(is_left);
        let mut child = super::pair::child(is_left);
        let (ours, theirs) = if is_left { (LEFT, RIGHT) } else { (RIGHT, LEFT) };
        (child.local, child.remote) = (vec![ours.parse().unwrap()], vec![theirs.parse().unwrap()]);
        child.mode = crate::configuration::Mode::Transport;
        connection.children = vec![std::sync::Arc::new(child)];
        connection
    };
    let pair = with(transport(true), transport(false));
    assert_eq!(view(&pair, true).mobility, None);
}

#[test]
fn the_tunnel_goes_on_from_another_address() {
    let mut pair = up();
    let before = (pair.left.inbound.keys().copied().collect::<Vec<_>>(), pair.right.inbound.len());
    move_left(&mut pair, MOVED);
    pair.run();
    assert_at(&pair, MOVED);
    assert_eq!((pair.left.inbound.keys().copied().collect::<Vec<_>>(), pair.right.inbound.len()), before);
    assert_eq!((counter(&pair, false, "mobike_updates"), counter(&pair, false, "path_changes")), (1, 1));
    for command in [Command::RekeyIke, Command::RekeyChild] {
        pair.right.command(pair.now(), command(Target::Connection("net".to_owned()))).unwrap();
        pair.run();
    }
    assert_at(&pair, MOVED);
    move_left(&mut pair, LEFT);
    pair.run();
    assert_at(&pair, LEFT);
}

#[test]
fn traffic_follows_only_when_the_peer_has_shown_that_it_receives_there() {
    let mut pair = up();
    move_left(&mut pair, MOVED);
    assert_eq!(pair.left.outbound.values().next().unwrap().1.ends.local.ip(), ip(MOVED), "at once");
    let update = pair.take_packets();
    pair.deliver(&update[0]);
    let answers = pair.take_packets();
    assert_eq!(answers.len(), 2, "the answer and a cookie");
    assert!(answers.iter().all(|packet| packet.path.local.ip() == ip(MOVED)));
    assert_eq!(sends_to(&pair), [ip(LEFT)]);
    // A pair that is made meanwhile leads to the old address as well.
    assert_eq!(view(&pair, false).children[0].ends.remote.ip(), ip(LEFT));
    assert!(view(&pair, false).mobility.unwrap().unproven.is_some());
    for packet in &answers {
        pair.deliver(packet);
    }
    pair.run();
    assert_at(&pair, MOVED);
}

#[test]
fn for_a_trusted_peer_traffic_follows_at_once_and_the_check_is_made_still() {
    let trusting = Mobike { check: Routability::After, nats: true };
    let mut pair = with(mobile(true), Connection { mobike: Some(trusting), ..mobile(false) });
    move_left(&mut pair, MOVED);
    let update = pair.take_packets();
    pair.deliver(&update[0]);
    assert_eq!(sends_to(&pair), [ip(MOVED)]);
    assert_eq!(pair.right.sent.len(), 2, "the answer and a cookie");
    pair.run();
    assert_at(&pair, MOVED);
}

fn trusting() -> Pair {
    let trusting = Mobike { check: Routability::After, nats: true };
    // Several updates may be outstanding.
    let both = |is_left| Connection { window: 4, ..mobile(is_left) };
    with(both(true), Connection { mobike: Some(trusting), ..both(false) })
}

/// The outbound SAs of the right end send so much more.
fn carry(pair: &mut Pair, octets: u64) {
    pair.right.host.sent.values_mut().for_each(|(_, volume)| volume.octets += octets);
}

/// Left says that it is there; nothing comes through to there.
fn claim(pair: &mut Pair, address: &str) {
    move_left(pair, address);
    pair.run_through(|packet| packet.to_right);
}

/// Section 3.7: a trusted peer that names a victim brings it a little, once, and not for long.
#[test]
fn what_follows_a_trusted_peer_at_once_is_bounded() {
    for is_time in [false, true] {
        let mut pair = trusting();
        carry(&mut pair, 1 << 40);
        claim(&mut pair, MOVED);
        assert_eq!(sends_to(&pair), [ip(MOVED)]);
        carry(&mut pair, 4 << 20);
        pair.pass_through(Duration::from_millis(1900), |packet| packet.to_right);
        assert_eq!(sends_to(&pair), [ip(MOVED)]);
        carry(&mut pair, u64::from(!is_time));
        pair.pass_through(Duration::from_millis(if is_time { 200 } else { 40 }), |packet| packet.to_right);
        assert_eq!((sends_to(&pair), counter(&pair, false, "mobike_held")), (vec![ip(LEFT)], 1));
        // Naming another one brings no more.
        claim(&mut pair, FURTHER);
        assert_eq!(sends_to(&pair), [ip(LEFT)]);
        pair.pass(Duration::from_mins(1));
        assert_at(&pair, FURTHER);
    }
}

#[test]
fn one_allowance_is_for_all_places_until_one_is_proven() {
    let mut pair = trusting();
    claim(&mut pair, MOVED);
    pair.pass_through(Duration::from_millis(1500), |packet| packet.to_right);
    claim(&mut pair, FURTHER);
    assert_eq!(sends_to(&pair), [ip(FURTHER)]);
    pair.pass_through(Duration::from_millis(600), |packet| packet.to_right);
    assert_eq!(sends_to(&pair), [ip(LEFT)]);
    // Back where it was proven, nothing waits; and then there is another one.
    claim(&mut pair, LEFT);
    pair.pass(Duration::from_mins(1));
    assert_at(&pair, LEFT);
    claim(&mut pair, MOVED);
    assert_eq!(sends_to(&pair), [ip(MOVED)]);
}

/// After a restart nobody knows how much is left.
#[test]
fn an_allowance_ends_with_the_process() {
    let mut pair = trusting();
    claim(&mut pair, MOVED);
    let trusting = Mobike { check: Routability::After, nats: true };
    restart_as(&mut pair, false, Restoring::Restart, Connection { mobike: Some(trusting), ..mobile(false) });
    pair.right.timeout(pair.now());
    assert_eq!(sends_to(&pair), [ip(LEFT)]);
    pair.pass(Duration::from_mins(1));
    assert_at(&pair, MOVED);
}

/// Whoever is no end of the IKE SA moves nothing, whatever it makes of messages that it has seen.
#[test]
fn forged_updates_are_refused() {
    let mut pair = up();
    move_left(&mut pair, MOVED);
    let update = pair.take_packets().remove(0);
    let refused = |pair: &Pair| counter(pair, false, "not_authentic") + counter(pair, false, "not_ike");
    for at in 0..update.octets.len() {
        let mut forged = update.clone();
        forged.octets[at] ^= 1;
        pair.deliver(&forged);
    }
    assert!(pair.right.sent.iter().all(|(path, _)| path.remote.ip() != ip(FURTHER)));
    assert!(refused(&pair) > 0);
    assert_eq!((sends_to(&pair), counter(&pair, false, "mobike_updates")), (vec![ip(LEFT)], 0));
    assert_eq!(view(&pair, false).path.remote.ip(), ip(LEFT));
    pair.deliver(&update);
    pair.run();
    assert_at(&pair, MOVED);
}

#[test]
fn a_bombed_victim_gets_a_few_messages_and_never_the_tunnel() {
    let mut pair = up();
    move_left(&mut pair, MOVED);
    let mut to_victim = 0;
    // The victim answers nothing.
    pair.run_through(|packet| packet.to_right);
    pair.pass_through(Duration::from_mins(10), |packet| {
        to_victim += usize::from(!packet.to_right);
        packet.to_right
    });
    assert!(pair.right.outbound.is_empty(), "it ends as any peer that does not answer");
    assert!(to_victim < 30, "{to_victim}");
    assert!(
        pair.right
            .events
            .iter()
            .any(|event| { matches!(event, Event::IkeDown { reason: DownReason::Unreachable, .. }) })
    );
}

#[test]
fn without_mobike_nothing_is_updated() {
    let mut pair = with(Connection { mobike: None, ..mobile(true) }, mobile(false));
    assert_eq!(pair.left.command(pair.now(), Command::AddressesChanged), Ok(0));
    move_left(&mut pair, MOVED);
    assert!(pair.take_packets().is_empty());
}

#[test]
fn what_changes_nothing_sends_nothing() {
    let mut pair = up();
    for _ in 0..10 {
        move_left(&mut pair, LEFT);
    }
    assert!(pair.take_packets().is_empty());
}

#[test]
fn replayed_and_old_updates_change_nothing() {
    let mut pair = up();
    move_left(&mut pair, MOVED);
    let update = pair.take_packets().remove(0);
    pair.deliver(&update);
    pair.run();
    move_left(&mut pair, FURTHER);
    pair.run();
    assert_at(&pair, FURTHER);
    let before = counter(&pair, false, "mobike_updates");
    pair.deliver(&update);
    // As if from elsewhere, and damaged.
    let mut forged = update.clone();
    forged.path.remote = "203.0.113.66:4500".parse().unwrap();
    pair.deliver(&forged);
    *forged.octets.last_mut().unwrap() ^= 1;
    pair.deliver(&forged);
    pair.run();
    assert_at(&pair, FURTHER);
    assert_eq!(counter(&pair, false, "mobike_updates"), before);
}

#[test]
fn what_comes_from_elsewhere_without_an_update_moves_nothing() {
    let mut pair = up();
    pair.left.command(pair.now(), Command::RekeyChild(Target::Connection("net".to_owned()))).unwrap();
    let mut request = pair.take_packets().remove(0);
    request.path.remote = "203.0.113.66:4500".parse().unwrap();
    pair.deliver(&request);
    assert_eq!(view(&pair, false).path.remote.ip(), ip(LEFT));
    assert_eq!(pair.right.sent[0].0.remote.ip(), ip("203.0.113.66"), "answered to where it came from");
}

#[test]
fn the_latest_address_wins_whatever_is_outstanding() {
    for window in [1, 4] {
        let both = |is_left| Connection { window, ..mobile(is_left) };
        let mut pair = with(both(true), both(false));
        move_left(&mut pair, MOVED);
        let first = pair.take_packets();
        move_left(&mut pair, FURTHER);
        let second = pair.take_packets();
        assert!(!second.is_empty(), "what is outstanding goes along the new path at once");
        // The newer one first, then the older one from the old address, and then again all.
        for packet in second.iter().chain(&first) {
            pair.deliver(packet);
        }
        pair.run();
        pair.pass(Duration::from_mins(1));
        assert_at(&pair, FURTHER);
    }
}

#[test]
fn lost_answers_are_asked_for_again() {
    for lost in 0..6 {
        let mut pair = up();
        move_left(&mut pair, MOVED);
        let mut count = 0;
        let mut lets = |_: &super::pair::Packet| {
            count += 1;
            count != lost + 1
        };
        pair.run_through(&mut lets);
        pair.pass_through(Duration::from_mins(1), &mut lets);
        assert_at(&pair, MOVED);
    }
}

#[test]
fn moves_and_rekeys_of_both_ends_at_once_end_well() {
    for step in 0..10 {
        for (left, right) in [
            (Command::RekeyIke as fn(Target) -> Command, Command::RekeyIke as fn(Target) -> Command),
            (Command::RekeyChild, Command::RekeyIke),
            (Command::RekeyIke, Command::RekeyChild),
            (Command::RekeyChild, Command::RekeyChild),
        ] {
            let mut pair = up();
            let target = || Target::Connection("net".to_owned());
            pair.left.command(pair.now(), left(target())).unwrap();
            pair.right.command(pair.now(), right(target())).unwrap();
            for _ in 0..step {
                pair.take_one();
            }
            move_left(&mut pair, MOVED);
            pair.run();
            pair.pass(Duration::from_mins(3));
            assert_at(&pair, MOVED);
        }
    }
}

#[test]
fn a_wrong_cookie_ends_the_tunnel() {
    let mut pair = up();
    move_left(&mut pair, MOVED);
    let update = pair.take_packets();
    pair.deliver(&update[0]);
    // As if the left end gave back another one than it got.
    for slot in pair.right.ike.tunnels.values_mut() {
        let Tunnel::Up(up) = &mut slot.tunnel else { panic!("it stands") };
        let (_, Pending::Routability(check)) = &mut up.sas[0].pending[0] else { panic!("it was asked") };
        check.cookie[0] ^= 1;
    }
    pair.run();
    assert_eq!(counter(&pair, false, "mobike_unproven"), 1);
    assert!(pair.right.established(pair.now()).is_empty() && pair.right.outbound.is_empty());
}

#[test]
fn addresses_that_the_connection_forbids_are_refused_and_others_are_tried() {
    let bound = |text: &str| AddressMatch { first: ip(text), last: ip(text) };
    let right = Connection { remote_addresses: vec![bound(LEFT), bound(FURTHER)], ..mobile(false) };
    let mut pair = with(mobile(true), right);
    (pair.left.host.source, pair.left.host.addresses) = (ip(MOVED), vec![ip(MOVED), ip(FURTHER)]);
    pair.left.command(pair.now(), Command::AddressesChanged).unwrap();
    pair.run();
    assert_at(&pair, FURTHER);
    assert!(pair.right.problems()[0].contains("widen remote_addrs"), "{:?}", pair.right.problems());
    // Where there is nothing else, the tunnel is over.
    let mut pair = with(mobile(true), Connection { remote_addresses: vec![bound(LEFT)], ..mobile(false) });
    move_left(&mut pair, MOVED);
    pair.run();
    assert!(pair.left.established(pair.now()).is_empty());
}

#[test]
fn a_nat_is_found_when_the_tunnel_comes_behind_one_and_forgotten_when_it_leaves() {
    let mut pair = up();
    pair.nat = Some("203.0.113.7:40000".parse().unwrap());
    move_left(&mut pair, MOVED);
    pair.run();
    let seen: SocketAddr = "203.0.113.7:40000".parse().unwrap();
    let ends = |pair: &Pair| -> OuterEnds { pair.right.outbound.values().next().unwrap().1.ends };
    assert_eq!((view(&pair, true).nat, view(&pair, false).nat), ((true, false), (false, true)));
    assert!(
        ends(&pair).encapsulated && ends(&pair).remote == seen && ends(&pair).movement == Movement::Roams
    );
    let left = pair.left.outbound.values().next().unwrap().1.ends;
    assert!(left.encapsulated && left.behind_nat);
    pair.pass(Duration::from_mins(5));
    assert!(pair.left.keep_alives > 5);
    pair.nat = None;
    move_left(&mut pair, LEFT);
    pair.run();
    assert_at(&pair, LEFT);
    assert_eq!(view(&pair, true).nat, (false, false));
    assert!(!ends(&pair).encapsulated && !pair.left.outbound.values().next().unwrap().1.ends.encapsulated);
    let before = pair.left.keep_alives;
    pair.pass(Duration::from_mins(5));
    assert_eq!(pair.left.keep_alives, before);
}

#[test]
fn a_nat_that_forgets_is_noticed_by_asking_whether_the_peer_lives() {
    let left = Connection { dpd_delay: Duration::from_secs(30), ..mobile(true) };
    let mut pair = Pair::new(left, mobile(false));
    pair.nat = Some("203.0.113.7:40000".parse().unwrap());
    pair.initiate();
    pair.pass(Duration::from_mins(2));
    // The first answer says how the peer sees us, and that is confirmed.
    assert_eq!(counter(&pair, false, "mobike_updates"), 1);
    pair.pass(Duration::from_mins(2));
    assert_eq!(counter(&pair, false, "mobike_updates"), 1);
    pair.nat = Some("203.0.113.7:41111".parse().unwrap());
    pair.pass(Duration::from_mins(2));
    assert_eq!(view(&pair, false).path.remote.port(), 41111);
    assert_eq!(counter(&pair, false, "mobike_updates"), 2);
    assert_eq!(pair.right.outbound.values().next().unwrap().1.ends.remote.port(), 41111);
}

#[test]
fn nats_can_be_forbidden() {
    let strict = || Connection {
        mobike: Some(Mobike { check: Routability::Before, nats: false }),
        keying_tries: 1,
        ..mobile(true)
    };
    let mut pair = Pair::new(strict(), mobile(false));
    pair.nat = Some("203.0.113.7:40000".parse().unwrap());
    pair.initiate();
    assert!(pair.left.established(pair.now()).is_empty() && pair.right.established(pair.now()).is_empty());
    assert!(pair.left.problems()[0].contains("UNEXPECTED_NAT_DETECTED"), "{:?}", pair.left.problems());
    let mut pair = with(strict(), mobile(false));
    move_left(&mut pair, MOVED);
    pair.run();
    assert_at(&pair, MOVED);
    pair.nat = Some("203.0.113.7:40000".parse().unwrap());
    move_left(&mut pair, FURTHER);
    pair.run();
    assert_eq!(sends_to(&pair), [ip(MOVED)], "nothing goes through the NAT");
    assert!(pair.left.established(pair.now()).is_empty());
    assert!(pair.left.problems()[0].contains("NAT"), "{:?}", pair.left.problems());
}

#[test]
fn another_path_is_found_when_the_present_one_is_dead() {
    let two = |is_left: bool| Connection { local_addresses: vec![ip(RIGHT), ip(FURTHER)], ..mobile(is_left) };
    let mut pair = Pair::new(Connection { dpd_delay: Duration::from_secs(20), ..mobile(true) }, two(false));
    pair.left.host.addresses = vec![ip(LEFT), ip(MOVED)];
    pair.right.host.addresses = vec![ip(RIGHT), ip(FURTHER)];
    pair.initiate();
    assert_eq!(view(&pair, true).mobility.unwrap().additional, [ip(FURTHER)], "section 3.4");
    assert!(view(&pair, false).mobility.unwrap().additional.is_empty());
    // Between these two alone something gets through.
    let works = |packet: &super::pair::Packet| {
        let ends = [packet.path.local.ip(), packet.path.remote.ip()];
        ends.contains(&ip(MOVED)) && ends.contains(&ip(FURTHER))
    };
    let mut tried = 0;
    pair.pass_through(Duration::from_mins(2), |packet| {
        tried += usize::from(packet.to_right);
        works(packet)
    });
    for is_left in [true, false] {
        let path = view(&pair, is_left).path;
        assert_eq!(path.local.ip(), ip(if is_left { MOVED } else { FURTHER }));
    }
    assert_eq!(sends_to(&pair), [ip(MOVED)]);
    assert_eq!(pair.left.outbound.values().next().unwrap().1.ends.remote.ip(), ip(FURTHER));
    assert!(tried < 60, "{tried}");
    pair.assert_up(1);
}

#[test]
fn a_responder_tells_when_its_addresses_change() {
    let right = Connection { local_addresses: vec![ip(RIGHT), ip(FURTHER)], ..mobile(false) };
    let mut pair = with(mobile(true), right);
    let told = |pair: &Pair| view(pair, true).mobility.unwrap().additional;
    assert_eq!(told(&pair), [] as [IpAddr; 0]);
    for (addresses, expected) in
        [(vec![ip(RIGHT), ip(FURTHER)], vec![ip(FURTHER)]), (vec![ip(RIGHT)], vec![])]
    {
        pair.right.host.addresses = addresses;
        pair.right.command(pair.now(), Command::AddressesChanged).unwrap();
        pair.run();
        assert_eq!(told(&pair), expected);
    }
    assert_at(&pair, LEFT);
}

#[test]
fn a_storm_of_updates_is_worked_on_a_few_at_a_time() {
    let both = |is_left| Connection { window: 32, ..mobile(is_left) };
    let mut pair = with(both(true), both(false));
    let mut storm = Vec::new();
    for at in 0..30 {
        move_left(&mut pair, if at % 2 == 0 { MOVED } else { FURTHER });
        storm.extend(pair.take_packets());
    }
    for packet in &storm {
        pair.deliver(packet);
    }
    assert!(counter(&pair, false, "mobike_updates") <= 8);
    assert!(counter(&pair, false, "mobike_limited") > 0);
    pair.pass(Duration::from_mins(3));
    assert_at(&pair, FURTHER);
}

#[test]
fn a_restart_or_a_move_at_any_moment_changes_nothing() {
    for how in [Restoring::Restart, Restoring::Move] {
        for step in 0..8 {
            for is_left in [true, false] {
                let mut pair = up();
                move_left(&mut pair, MOVED);
                for _ in 0..step {
                    pair.take_one();
                }
                restart(&mut pair, is_left, how);
                pair.run();
                pair.pass(Duration::from_mins(2));
                assert_at(&pair, MOVED);
                move_left(&mut pair, FURTHER);
                pair.run();
                assert_at(&pair, FURTHER);
            }
        }
    }
}

/// Another process in the place of one end: its table stays, its contexts are restored.
fn restart(pair: &mut Pair, is_left: bool, how: Restoring) {
    restart_as(pair, is_left, how, mobile(is_left));
}

fn restart_as(pair: &mut Pair, is_left: bool, how: Restoring, connection: Connection) {
    pair.replace(is_left, how, configuration(connection), secrets("secret"));
}
