//! Peers that are sent to other gateways (RFC 5685).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::pair::{LEFT, RIGHT, child, configuration, connection, secrets};
use super::resumption::credentials as credentials_with;
use super::side::Side;
use crate::configuration::{
    AddressMatch, AllowedGateway, Child, Configuration, Connection, EndAction, Maintenance, Mobike, Moving,
    StartAction,
};
use crate::host::{Command, CommandError, DownReason, Event, Movement, Now, Path, Target};
use crate::machine::Restoring;
use crate::wire::{self, Datagram, Notify, NotifyType, Payload, Redirect};

const OTHER: &str = "192.0.2.3";
const CLIENT: usize = 0;

/// A client and its gateways, each at an address of its own.
struct Net {
    now: Duration,
    sides: Vec<(IpAddr, Side)>,
    /// What went over the wire: from where, to where, octets.
    seen: Vec<(Path, Vec<u8>)>,
}

impl Net {
    fn new(client: Configuration, gateways: Vec<(&str, Configuration)>) -> Self {
        let client = Side::new(1, LEFT, client, secrets("secret"));
        let mut sides = vec![(LEFT.parse().unwrap(), client)];
        for (number, (address, configuration)) in gateways.into_iter().enumerate() {
            let side = Side::new(number as u64 + 2, address, configuration, secrets("secret"));
            sides.push((address.parse().unwrap(), side));
        }
        Self { now: Duration::from_secs(1000), sides, seen: Vec::new() }
    }

    /// A client that may go to both gateways, and the gateways.
    fn plain() -> Self {
        Self::new(client(&["192.0.2.2-192.0.2.3"]), vec![(RIGHT, gateway(RIGHT)), (OTHER, gateway(OTHER))])
    }

    fn now(&self) -> Now {
        Now { monotonic: self.now, unix: Duration::from_secs(2_000_000_000) + self.now }
    }

    fn side(&mut self, address: &str) -> &mut Side {
        let address: IpAddr = address.parse().unwrap();
        self.sides.iter_mut().find(|(at, _)| *at == address).map(|(_, side)| side).unwrap()
    }

    fn client(&mut self) -> &mut Side {
        &mut self.sides[CLIENT].1
    }

    fn initiate(&mut self) {
        let (now, command) = (self.now(), Command::Initiate { connection: "net".to_owned(), child: None });
        self.client().command(now, command).unwrap();
        self.run();
    }

    fn up() -> Self {
        let mut net = Self::plain();
        net.initiate();
        net.assert_only_at(RIGHT);
        net
    }

    fn run(&mut self) {
        self.run_through(|_, _| true);
    }

    fn run_through(&mut self, mut lets: impl FnMut(&Path, &[u8]) -> bool) {
        let now = self.now();
        for _ in 0..1000 {
            let sent: Vec<_> = self.sides.iter_mut().flat_map(|(_, side)| side.sent.drain(..)).collect();
            if sent.is_empty() {
                return;
            }
            for (path, octets) in sent {
                self.seen.push((path, octets.clone()));
                let there = Path { local: path.remote, remote: path.local, ..path };
                let target = self.sides.iter_mut().find(|(at, _)| *at == path.remote.ip());
                if let Some((_, side)) = target.filter(|_| lets(&path, &octets)) {
                    side.datagram(now, there, &octets);
                }
            }
        }
        panic!("the ends do not come to rest");
    }

    fn pass(&mut self, time: Duration) {
        self.pass_through(time, |_, _| true);
    }

    fn pass_through(&mut self, time: Duration, mut lets: impl FnMut(&Path, &[u8]) -> bool) {
        let end = self.now + time;
        for _ in 0..100_000 {
            let due = self.sides.iter().filter_map(|(_, side)| side.next_timeout()).min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            let now = self.now();
            self.sides.iter_mut().for_each(|(_, side)| side.timeout(now));
            self.run_through(&mut lets);
        }
        panic!("timers never come to rest");
    }

    fn redirect(&mut self, at: &str, target: Option<Target>, gateway: &str) -> Result<usize, CommandError> {
        let (now, gateway) = (self.now(), gateway.parse().unwrap());
        let result = self.side(at).command(now, Command::Redirect { target, gateway });
        self.run();
        result
    }

    /// The client has one tunnel, with that gateway; no other has one, and nothing else is left.
    #[track_caller]
    fn assert_only_at(&mut self, address: &str) {
        let now = self.now();
        for (at, side) in &self.sides {
            let here = side.established(now);
            let is_one = *at == address.parse::<IpAddr>().unwrap() || *at == LEFT.parse::<IpAddr>().unwrap();
            assert_eq!(here.len(), usize::from(is_one), "{at}: {:?}", side.events);
            assert_eq!(side.tunnels(now).len(), usize::from(is_one), "{at}: {:?}", side.tunnels(now));
            let live = here.iter().map(|view| view.children.len()).sum::<usize>();
            assert_eq!((live, side.outbound.len(), side.policies.len()), (live, live, live), "{at}");
            assert_eq!(live, usize::from(is_one), "{at}: {:?}", side.events);
        }
        let with = self.client().established(now)[0].path.remote.ip();
        assert_eq!(with, address.parse::<IpAddr>().unwrap());
    }

    fn inits_to(&self, address: &str) -> Vec<Vec<Payload>> {
        let address: IpAddr = address.parse().unwrap();
        let to = self.seen.iter().filter(|(path, _)| path.remote.ip() == address);
        let plain = to.filter_map(|(_, octets)| match wire::parse(octets) {
            Ok(Datagram::Plain(header, payloads)) if !header.flags.response => Some(payloads),
            _ => None,
        });
        plain.collect()
    }

    fn has_event(&mut self, at: &str, wanted: impl Fn(&Event) -> bool) -> bool {
        self.side(at).events.iter().any(wanted)
    }
}

fn notify(payloads: &[Payload], kind: NotifyType) -> Option<&Notify> {
    payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == kind => Some(notify),
        _ => None,
    })
}

fn allowed(texts: &[&str]) -> Vec<AllowedGateway> {
    let one = |text: &&str| {
        let (name, addresses) = text.split_once('=').map_or((None, *text), |(name, at)| (Some(name), at));
        let (first, last) = addresses.split_once('-').unwrap_or((addresses, addresses));
        let addresses = AddressMatch { first: first.parse().unwrap(), last: last.parse().unwrap() };
        AllowedGateway { name: name.map(str::to_owned), addresses }
    };
    texts.iter().map(one).collect()
}

fn client(gateways: &[&str]) -> Configuration {
    configuration(client_connection(gateways, |_| {}))
}

fn client_connection(gateways: &[&str], change: impl FnOnce(&mut Child)) -> Connection {
    let moving = Moving { follow_redirects: allowed(gateways), ..Moving::default() };
    let mut child = child(true);
    change(&mut child);
    Connection { moving, children: vec![Arc::new(child)], ..connection(true) }
}

fn gateway_connection(address: &str) -> Connection {
    Connection { local_addresses: vec![address.parse().unwrap()], ..connection(false) }
}

fn gateway(address: &str) -> Configuration {
    configuration(gateway_connection(address))
}

/// One that takes no new peers.
fn in_maintenance(address: &str, other: &str) -> Configuration {
    let maintenance = Maintenance { redirect_to: Some(other.parse().unwrap()), redirect_above: 0 };
    Configuration { maintenance, ..gateway(address) }
}

/// One that sends the peers of the connection on when they have proved who they are.
fn sends_known(address: &str, other: &str) -> Configuration {
    let moving = Moving { redirect_to: Some(other.parse().unwrap()), ..Moving::default() };
    configuration(Connection { moving, ..gateway_connection(address) })
}

fn redirected(event: &Event) -> bool {
    matches!(event, Event::Redirected { .. })
}

#[test]
fn a_gateway_in_maintenance_sends_new_peers_on() {
    for (other, at) in [(OTHER, OTHER), ("GW2.example.org", OTHER)] {
        let mut net = Net::new(
            client(&["gw2.example.org=192.0.2.3"]),
            vec![(RIGHT, in_maintenance(RIGHT, other)), (OTHER, gateway(OTHER))],
        );
        net.initiate();
        net.assert_only_at(at);
        let before = net.inits_to(RIGHT);
        let after = net.inits_to(OTHER);
        assert!(notify(&before[0], NotifyType::REDIRECT_SUPPORTED).is_some());
        assert!(notify(&before[0], NotifyType::REDIRECTED_FROM).is_none());
        let from = notify(&after[0], NotifyType::REDIRECTED_FROM).unwrap();
        assert_eq!(from.data, [1, 4, 192, 0, 2, 2]);
        assert!(net.has_event(LEFT, |event| {
            matches!(event, Event::Redirected { gateway, by_us: false, .. } if *gateway == other.to_lowercase())
        }));
        assert_eq!(net.side(RIGHT).ike.counters().redirects_sent, 1);
        assert_eq!(net.side(RIGHT).ike.half_open(), 0);
    }
}

#[test]
fn a_gateway_sends_peers_on_only_when_it_has_many() {
    let full = Configuration {
        maintenance: Maintenance { redirect_to: Some(OTHER.parse().unwrap()), redirect_above: 1 },
        ..gateway(RIGHT)
    };
    let mut net = Net::new(client(&[OTHER]), vec![(RIGHT, full), (OTHER, gateway(OTHER))]);
    net.initiate();
    net.assert_only_at(RIGHT);
    let now = net.now();
    let down = Command::Terminate(Target::Connection("net".to_owned()));
    net.client().command(now, down).unwrap();
    net.run();
    // The one that is over counts as long as it lingers.
    net.initiate();
    assert_eq!(net.side(OTHER).established(now).len(), 1);
}

#[test]
fn who_cannot_be_sent_on_is_served() {
    let mut net = Net::new(client(&[]), vec![(RIGHT, in_maintenance(RIGHT, OTHER))]);
    net.initiate();
    net.assert_only_at(RIGHT);
    assert!(notify(&net.inits_to(RIGHT)[0], NotifyType::REDIRECT_SUPPORTED).is_none());
    // Nor later.
    assert_eq!(net.redirect(RIGHT, None, OTHER), Err(CommandError::NotRedirectable(1)));
    assert!(net.side(RIGHT).problems().iter().any(|problem| problem.contains("cannot be sent")));
    let mut net = Net::new(client(&[]), vec![(RIGHT, sends_known(RIGHT, OTHER))]);
    net.initiate();
    net.assert_only_at(RIGHT);
}

#[test]
fn a_redirect_without_our_nonce_is_nobodys() {
    let mut net = Net::plain();
    let (now, command) = (net.now(), Command::Initiate { connection: "net".to_owned(), child: None });
    net.client().command(now, command).unwrap();
    let (path, request) = net.client().sent.pop_front().unwrap();
    let Ok(Datagram::Plain(header, payloads)) = wire::parse(&request) else { panic!("a request") };
    let nonce = payloads.iter().find_map(|payload| match payload {
        Payload::Nonce(nonce) => Some(nonce.clone()),
        _ => None,
    });
    let nonce = nonce.unwrap();
    let mut other = nonce.clone();
    other[31] ^= 1;
    let flags = wire::Flags { initiator: false, response: true };
    let forged = [Vec::new(), other, nonce[..16].to_vec(), [&nonce[..], &[0]].concat()];
    let back = Path { local: path.local, remote: path.remote, ..path };
    for nonce in forged {
        let redirect = Redirect { gateway: OTHER.parse().unwrap(), nonce };
        let payload = Payload::Notify(Notify::new(NotifyType::REDIRECT, redirect.emit()));
        let datagram = wire::emit(&wire::Header { flags, ..header }, &[payload]);
        net.client().datagram(now, back, &datagram);
        assert!(net.client().sent.is_empty() && net.client().events.is_empty());
    }
    assert_eq!(net.client().ike.counters().redirects_refused, 4);
    // The true answer still counts.
    net.client().sent.push_front((path, request));
    net.run();
    net.assert_only_at(RIGHT);
}

#[test]
fn known_peers_are_sent_on_with_the_answer_to_their_proof() {
    let mut net =
        Net::new(client(&[OTHER]), vec![(RIGHT, sends_known(RIGHT, OTHER)), (OTHER, gateway(OTHER))]);
    net.initiate();
    net.assert_only_at(OTHER);
    assert!(net.side(RIGHT).contexts.is_empty() && net.side(RIGHT).inbound.is_empty());
    assert!(net.has_event(RIGHT, |event| {
        matches!(event, Event::IkeDown { reason: DownReason::Redirected, .. })
    }));
    assert!(net.has_event(RIGHT, |event| matches!(event, Event::Redirected { by_us: true, .. })));
}

#[test]
fn a_wrong_proof_is_told_nothing_of_other_gateways() {
    let mut net = Net::new(client(&[OTHER]), vec![(RIGHT, sends_known(RIGHT, OTHER))]);
    net.sides[CLIENT].1 = Side::new(1, LEFT, client(&[OTHER]), secrets("another secret"));
    net.initiate();
    assert!(!net.has_event(LEFT, redirected) && !net.has_event(RIGHT, redirected));
}

#[test]
fn who_does_not_leave_after_the_answer_to_its_proof_is_ended() {
    let mut net =
        Net::new(client(&[OTHER]), vec![(RIGHT, sends_known(RIGHT, OTHER)), (OTHER, gateway(OTHER))]);
    let (now, command) = (net.now(), Command::Initiate { connection: "net".to_owned(), child: None });
    net.client().command(now, command).unwrap();
    // The deletion is lost: it is the third datagram to that gateway.
    let mut to_right = 0;
    net.run_through(|path, _| {
        to_right += usize::from(path.remote.ip() == RIGHT.parse::<IpAddr>().unwrap());
        path.remote.ip() != RIGHT.parse::<IpAddr>().unwrap() || to_right < 3
    });
    assert_eq!((to_right, net.side(RIGHT).tunnels(now).len()), (3, 1));
    net.pass(Duration::from_mins(6));
    net.assert_only_at(OTHER);
}

#[test]
fn a_standing_tunnel_goes_to_another_gateway() {
    for target in [None, Some(Target::Connection("net".to_owned()))] {
        let mut net = Net::up();
        let now = net.now();
        let old = net.client().established(now)[0].clone();
        assert_eq!(net.redirect(RIGHT, target, OTHER), Ok(1));
        net.assert_only_at(OTHER);
        let new = net.client().established(now)[0].clone();
        assert_ne!(old.name, new.name);
        assert_eq!(old.segment, new.segment);
        // The new one stood before the old one was over.
        let events = net.client().events.clone();
        let up = events.iter().rposition(|event| matches!(event, Event::ChildUp { .. }));
        let down = events.iter().position(|event| matches!(event, Event::IkeDown { .. }));
        assert!(up < down, "{events:?}");
        for at in [LEFT, RIGHT] {
            assert!(net.has_event(at, |event| {
                matches!(event, Event::IkeDown { reason: DownReason::Redirected, .. })
            }));
        }
        net.pass(Duration::from_mins(10));
        net.assert_only_at(OTHER);
        // And back.
        assert_eq!(net.redirect(OTHER, None, RIGHT), Ok(1));
        net.assert_only_at(RIGHT);
    }
}

/// What was agreed with the old gateway about roaming says nothing of the new one.
#[test]
fn a_tunnel_that_roams_stops_at_a_gateway_that_does_not() {
    let mobike = Some(Mobike::default());
    let client = Connection { mobike, ..client_connection(&["192.0.2.3"], |_| {}) };
    let roaming = configuration(Connection { mobike, ..gateway_connection(RIGHT) });
    let mut net = Net::new(configuration(client), vec![(RIGHT, roaming), (OTHER, gateway(OTHER))]);
    net.initiate();
    let movement = |net: &mut Net| net.client().inbound.values().next_back().unwrap().ends.movement;
    assert_eq!(movement(&mut net), Movement::Roams);
    assert_eq!(net.redirect(RIGHT, None, OTHER), Ok(1));
    net.assert_only_at(OTHER);
    assert_eq!(net.client().outbound.values().next().unwrap().1.ends.movement, Movement::Fixed);
}

#[test]
fn a_tunnel_is_redirected_while_keys_are_replaced() {
    let target = || Target::Connection("net".to_owned());
    let commands: [fn(Target) -> Command; 2] = [Command::RekeyIke, Command::RekeyChild];
    for command in commands {
        for at in [LEFT, RIGHT] {
            let mut net = Net::up();
            let now = net.now();
            net.side(at).command(now, command(target())).unwrap();
            assert_eq!(net.redirect(RIGHT, None, OTHER), Ok(1));
            net.pass(Duration::from_mins(3));
            net.assert_only_at(OTHER);
        }
    }
}

#[test]
fn whoever_rekeys_only_the_original_responder_redirects() {
    let mut net = Net::up();
    let now = net.now();
    net.side(RIGHT).command(now, Command::RekeyIke(Target::Connection("net".to_owned()))).unwrap();
    net.pass(Duration::from_mins(1));
    assert_eq!(net.redirect(LEFT, None, OTHER), Err(CommandError::NotRedirectable(1)));
    assert_eq!(net.redirect(RIGHT, None, OTHER), Ok(1));
    net.assert_only_at(OTHER);
}

#[test]
fn a_gateway_that_is_not_allowed_is_refused_and_said() {
    let cases = [
        (vec![(RIGHT, in_maintenance(RIGHT, "198.51.100.7"))], false),
        (vec![(RIGHT, in_maintenance(RIGHT, "gw9.example.org"))], false),
        (vec![(RIGHT, sends_known(RIGHT, "198.51.100.7"))], false),
        (vec![(RIGHT, gateway(RIGHT))], true),
    ];
    for (gateways, stands) in cases {
        let mut net = Net::new(client(&["gw2.example.org=192.0.2.3", "192.0.2.0-192.0.2.9"]), gateways);
        net.initiate();
        if stands {
            assert_eq!(net.redirect(RIGHT, None, "198.51.100.7"), Ok(1));
            // Until the gateway has waited long enough.
            net.assert_only_at(RIGHT);
        }
        let problems = net.client().problems().join("\n");
        assert!(
            problems.contains("is not allowed; if it should be, add it to follow_redirects"),
            "{problems}"
        );
        assert_eq!(net.client().ike.counters().redirects_refused, 1);
        let elsewhere: IpAddr = "198.51.100.7".parse().unwrap();
        assert!(net.seen.iter().all(|(path, _)| path.remote.ip() != elsewhere));
        net.pass(Duration::from_mins(3));
        let now = net.now();
        assert!(net.client().established(now).is_empty() && net.side(RIGHT).established(now).is_empty());
    }
}

#[test]
fn gateways_that_send_us_around_are_left_after_five_times() {
    // Each says that it is the other one; that a peer comes from there it does not see.
    let names = ["a.example.org=192.0.2.2", "b.example.org=192.0.2.3"];
    let rings = [
        vec![
            (RIGHT, in_maintenance(RIGHT, "b.example.org")),
            (OTHER, in_maintenance(OTHER, "a.example.org")),
        ],
        vec![(RIGHT, sends_known(RIGHT, "b.example.org")), (OTHER, sends_known(OTHER, "a.example.org"))],
    ];
    for gateways in rings {
        let mut net = Net::new(client(&names), gateways);
        net.initiate();
        assert_eq!(net.client().ike.counters().redirects_followed, 5);
        let problems = net.client().problems().join("\n");
        assert!(problems.contains("after 5 redirects within 300 s"), "{problems}");
        // The last one was not the configured gateway: that is tried once more, and then it is over.
        net.pass(Duration::from_secs(200));
        assert_eq!(net.client().ike.counters().redirects_followed, 5);
        let now = net.now();
        assert!(net.client().tunnels(now).is_empty());
    }
}

#[test]
fn a_standing_tunnel_is_not_sent_around_for_ever() {
    let mut net = Net::up();
    for turn in 0..5 {
        let (at, to) = if turn % 2 == 0 { (RIGHT, OTHER) } else { (OTHER, RIGHT) };
        assert_eq!(net.redirect(at, None, to), Ok(1), "{turn}");
        net.assert_only_at(to);
    }
    assert_eq!(net.redirect(OTHER, None, RIGHT), Ok(1));
    net.assert_only_at(OTHER);
    assert!(net.client().problems()[0].contains("after 5 redirects"));
    assert_eq!(net.side(OTHER).ike.counters().redirects_sent, 3);
}

#[test]
fn a_peer_is_not_sent_back_where_it_comes_from() {
    let mut net = Net::new(
        client(&["192.0.2.2-192.0.2.3"]),
        vec![(RIGHT, in_maintenance(RIGHT, OTHER)), (OTHER, in_maintenance(OTHER, RIGHT))],
    );
    net.initiate();
    net.assert_only_at(OTHER);
    let mut net = Net::new(
        client(&["192.0.2.2-192.0.2.3"]),
        vec![(RIGHT, sends_known(RIGHT, OTHER)), (OTHER, sends_known(OTHER, RIGHT))],
    );
    net.initiate();
    net.assert_only_at(OTHER);
}

#[test]
fn a_tunnel_stays_if_the_other_gateway_does_not_answer() {
    let mut net = Net::up();
    let dead: IpAddr = OTHER.parse().unwrap();
    let (now, gateway) = (net.now(), OTHER.parse().unwrap());
    net.side(RIGHT).command(now, Command::Redirect { target: None, gateway }).unwrap();
    net.run_through(|path, _| path.remote.ip() != dead);
    net.pass_through(Duration::from_secs(30), |path, _| path.remote.ip() != dead);
    // The gateway waits for a minute, and the new one is still tried.
    let now = net.now();
    assert_eq!(net.client().established(now).len(), 1);
    net.pass_through(Duration::from_mins(20), |path, _| path.remote.ip() != dead);
    // The configured one is tried again, because the other one was none of its failures.
    net.assert_only_at(RIGHT);
}

#[test]
fn a_tunnel_that_the_gateway_does_not_end_goes_on() {
    let moving = Moving { redirect_timeout: Duration::ZERO, ..Moving::default() };
    let patient = configuration(Connection { moving, ..gateway_connection(RIGHT) });
    let mut net = Net::new(client(&[OTHER]), vec![(RIGHT, patient)]);
    net.initiate();
    assert_eq!(net.redirect(RIGHT, None, OTHER), Ok(1));
    net.pass(Duration::from_mins(30));
    net.assert_only_at(RIGHT);
    assert!(net.client().problems().iter().any(|problem| problem.contains("does not answer IKE_SA_INIT")));
    // It can be sent again.
    net.redirect(RIGHT, None, OTHER).unwrap();
    assert_eq!(net.client().ike.counters().redirects_followed, 2);
}

#[test]
fn a_redirect_survives_restarts_of_both_ends() {
    for restarted in [CLIENT, 1] {
        let mut net = Net::up();
        let dead: IpAddr = OTHER.parse().unwrap();
        let (now, gateway) = (net.now(), OTHER.parse().unwrap());
        net.side(RIGHT).command(now, Command::Redirect { target: None, gateway }).unwrap();
        net.run_through(|path, _| path.remote.ip() != dead);
        restart(&mut net, restarted);
        net.run();
        net.pass(Duration::from_secs(20));
        net.assert_only_at(OTHER);
    }
    // What waits to be sent as well.
    let mut net = Net::up();
    let now = net.now();
    net.side(RIGHT).command(now, Command::RekeyIke(Target::Connection("net".to_owned()))).unwrap();
    let gateway = OTHER.parse().unwrap();
    net.side(RIGHT).command(now, Command::Redirect { target: None, gateway }).unwrap();
    net.side(RIGHT).sent.clear();
    restart(&mut net, 1);
    net.run();
    net.pass(Duration::from_mins(3));
    net.assert_only_at(OTHER);
}

/// Another process in the place of one end.
fn restart(net: &mut Net, at: usize) {
    let now = net.now();
    let configuration = if at == CLIENT { client(&["192.0.2.2-192.0.2.3"]) } else { gateway(RIGHT) };
    let (address, side) = &mut net.sides[at];
    let seed = u64::from(side.host.segment);
    let mut new = Side::new(seed, &address.to_string(), configuration, secrets("secret"));
    new.host.advance(1 << 20);
    new.inbound = std::mem::take(&mut side.inbound);
    new.outbound = std::mem::take(&mut side.outbound);
    for (name, context) in &side.contexts {
        new.ike.restore(now, context, Restoring::Restart, &mut new.host).unwrap();
        new.contexts.insert(name.clone(), context.clone());
    }
    new.drain();
    *side = new;
}

#[test]
fn traps_stay_out_of_the_way_of_the_new_tunnel() {
    let trapped = |child: &mut Child| {
        child.start_action = StartAction::TrapStart;
        child.close_action = EndAction::Start;
    };
    let client = configuration(client_connection(&["192.0.2.2-192.0.2.3"], trapped));
    let mut net = Net::new(client, vec![(RIGHT, gateway(RIGHT)), (OTHER, gateway(OTHER))]);
    let now = net.now();
    let client = net.client();
    client.ike.start(now, &mut client.host);
    net.client().drain();
    net.run();
    assert_eq!(net.redirect(RIGHT, None, OTHER), Ok(1));
    net.assert_only_at(OTHER);
    assert!(net.client().traps.is_empty(), "{:?}", net.client().traps);
    // When that is over traffic is trapped again, and goes to the configured gateway.
    let down = Command::Terminate(Target::Connection("net".to_owned()));
    net.client().command(now, down).unwrap();
    net.run();
    assert_eq!(net.client().traps.len(), 1);
    let reqid = *net.client().traps.values().next().unwrap();
    net.client().command(now, Command::Acquire { reqid }).unwrap();
    net.run();
    net.assert_only_at(RIGHT);
}

/// The gateway that sends the peer on has given it a ticket, and the other one takes it if it has the same key (RFC 5723).
#[test]
fn a_redirected_tunnel_is_resumed_at_the_other_gateway() {
    let resuming = |mut connection: Connection| {
        connection.moving.session_resumption = true;
        configuration(connection)
    };
    for (key, resumes) in [("a key of both gateways", true), ("the key of another cluster", false)] {
        let ends = [
            (LEFT, resuming(client_connection(&["192.0.2.2-192.0.2.3"], |_| {})), "no key of any of them"),
            (RIGHT, resuming(gateway_connection(RIGHT)), "a key of both gateways"),
            (OTHER, resuming(gateway_connection(OTHER)), key),
        ];
        let sides = (1..).zip(ends).map(|(seed, (address, configuration, key))| {
            let credentials = credentials_with("secret", &[key]);
            (address.parse().unwrap(), Side::new(seed, address, configuration, credentials))
        });
        let mut net = Net { now: Duration::from_secs(1000), sides: sides.collect(), seen: Vec::new() };
        net.initiate();
        net.assert_only_at(RIGHT);
        net.redirect(RIGHT, None, OTHER).unwrap();
        net.run();
        net.assert_only_at(OTHER);
        assert_eq!(net.client().ike.counters().resumed, u64::from(resumes));
        assert_eq!(net.side(OTHER).ike.counters().tickets_refused, u64::from(!resumes));
        assert!(net.has_event(LEFT, redirected));
    }
}

/// A gateway that would be the client itself is none, in the answer to IKE_SA_INIT and later.
#[test]
fn nobody_is_sent_to_itself() {
    for gateways in [vec![(RIGHT, in_maintenance(RIGHT, LEFT))], vec![(RIGHT, gateway(RIGHT))]] {
        let mut net = Net::new(client(&["192.0.2.0-192.0.2.9"]), gateways);
        net.client().host.addresses = vec![LEFT.parse().unwrap()];
        net.initiate();
        net.redirect(RIGHT, None, LEFT).ok();
        assert_eq!(net.client().ike.counters().redirects_refused, 1);
        assert!(net.inits_to(LEFT).is_empty());
    }
}
