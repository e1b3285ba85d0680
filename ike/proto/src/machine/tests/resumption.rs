//! Tunnels that come back by a ticket (RFC 5723).

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::pair::{LEFT, Packet, Pair, RIGHT, child, configuration, connection};
use super::side::Side;
use crate::auth::{Credentials, CredentialsBuilder};
use crate::configuration::{
    Child, Configuration, Connection, EndAction, Limits, Moving, Pool, PostquantumKey, Unique,
};
use crate::host::{Command, DownReason, Event, Path, Target};
use crate::identity::Identity;
use crate::machine::Restoring;
use crate::machine::tunnel::Tunnel;
use crate::wire::{self, Datagram, ExchangeType, Flags, Header, Notify, NotifyType, Payload};

/// Both give and take tickets; the left one comes back by itself.
fn resuming(is_left: bool) -> Connection {
    let dpd_action = if is_left { EndAction::Start } else { EndAction::None };
    let child = Child { dpd_action, ..child(is_left) };
    let moving = Moving { session_resumption: true, ..Moving::default() };
    Connection { children: vec![Arc::new(child)], moving, keying_tries: 0, ..connection(is_left) }
}

/// With a key for tickets that the whole cluster has.
pub(super) fn credentials(secret: &str, ticket_keys: &[&str]) -> Arc<Credentials> {
    let mut builder = CredentialsBuilder::default();
    builder.add_shared_secret("test", Vec::new(), Zeroizing::new(secret.as_bytes().to_vec())).unwrap();
    for key in ticket_keys {
        builder.add_ticket_key("tickets", key.as_bytes()).unwrap();
    }
    Arc::new(builder.build())
}

const KEY: &str = "a key of the whole cluster";

fn pair_of(left: Connection, right: Connection) -> Pair {
    let (left, right) = (configuration(left), configuration(right));
    Pair::with(left, right, credentials("secret", &[]), credentials("secret", &[KEY]))
}

fn pair() -> Pair {
    let mut pair = pair_of(resuming(true), resuming(false));
    pair.initiate();
    pair.assert_up(1);
    assert_eq!(pair.right.ike.counters().tickets_issued, 1);
    pair
}

/// Another gateway in the place of the right one: it knows nothing of the tunnel.
fn fail_over(pair: &mut Pair, seed: u64, configuration: Configuration, credentials: Arc<Credentials>) {
    let mut new = Side::new(seed, RIGHT, configuration, credentials);
    new.host.advance(1 << 20);
    pair.right = new;
}

/// The left one finds out that its peer is gone, and does what it does then.
fn lose(pair: &mut Pair) {
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    pair.pass(Duration::from_mins(5));
}

fn is_resumed(event: &Event) -> bool {
    matches!(event, Event::Resumed { .. })
}

/// Whether both came back by a ticket.
#[track_caller]
fn assert_resumed(pair: &Pair, children: usize) {
    pair.assert_up(children);
    for (side, by_us) in [(&pair.left, true), (&pair.right, false)] {
        assert!(side.events.iter().any(is_resumed), "{:?}", side.events);
        let view = &side.established(pair.now())[0];
        let resumption = view.resumption.as_ref().unwrap();
        assert!(resumption.is_resumed && resumption.is_ours == by_us && resumption.until.is_some());
        assert_eq!(side.ike.counters().resumed, 1);
    }
}

#[track_caller]
fn assert_whole(pair: &Pair) {
    pair.assert_up(1);
    assert!(!pair.left.events.iter().any(is_resumed), "{:?}", pair.left.events);
    let tunnels = [pair.left.established(pair.now()), pair.right.established(pair.now())];
    assert!(tunnels.iter().flatten().all(|view| !view.resumption.as_ref().unwrap().is_resumed));
}

fn exchange(octets: &[u8]) -> ExchangeType {
    wire::parse(octets).unwrap().header().exchange
}

#[test]
fn another_gateway_of_the_cluster_takes_the_ticket() {
    let mut pair = pair();
    fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
    let mut seen = Vec::new();
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    pair.pass_through(Duration::from_mins(5), |packet: &Packet| {
        if let Ok(Datagram::Plain(header, payloads)) = wire::parse(&packet.octets) {
            seen.push((header.exchange, packet.to_right, payloads));
        }
        true
    });
    assert_resumed(&pair, 1);
    let plain: Vec<_> =
        seen.iter().filter(|(exchange, ..)| *exchange != ExchangeType::INFORMATIONAL).collect();
    let first: Vec<_> = plain.iter().map(|(exchange, to_right, _)| (*exchange, *to_right)).collect();
    let resume = ExchangeType::IKE_SESSION_RESUME;
    assert_eq!(first, [(resume, true), (resume, false)]);
    // HDR, Ni, N(TICKET_OPAQUE) and HDR, Nr: no algorithms, no key exchange (RFC 5723 section 4.3.2).
    for (_, _, payloads) in plain {
        assert!(matches!(payloads[0], Payload::Nonce(_)), "{payloads:?}");
        assert!(payloads[1..].iter().all(|payload| matches!(payload, Payload::Notify(_))));
    }
    // Nothing is kept any more but with the tunnel, and that can be resumed again.
    assert!(pair.left.tickets.is_empty());
    fail_over(
        &mut pair,
        4,
        configuration(resuming(false)),
        credentials("secret", &["the next key of it", KEY]),
    );
    lose(&mut pair);
    pair.assert_up(1);
    assert_eq!(pair.left.ike.counters().resumed, 2);
}

#[test]
fn a_ticket_that_nobody_knows_costs_one_answer() {
    let mut pair = pair();
    fail_over(
        &mut pair,
        3,
        configuration(resuming(false)),
        credentials("secret", &["another cluster's key"]),
    );
    lose(&mut pair);
    assert_whole(&pair);
    assert_eq!(pair.right.ike.counters().tickets_refused, 1);
    assert_eq!(pair.left.ike.counters().resumptions_failed, 1);
    assert!(pair.left.tickets.is_empty());
}

#[test]
fn without_a_key_of_its_own_a_gateway_has_that_of_its_contexts() {
    let plain = || credentials("secret", &[]);
    for (seed, resumes) in [(2, true), (3, false)] {
        let mut pair =
            Pair::with(configuration(resuming(true)), configuration(resuming(false)), plain(), plain());
        pair.initiate();
        fail_over(&mut pair, seed, configuration(resuming(false)), plain());
        lose(&mut pair);
        if resumes { assert_resumed(&pair, 1) } else { assert_whole(&pair) }
    }
}

#[test]
fn the_old_tunnel_ends_without_a_word() {
    for unique in [Unique::No, Unique::Never, Unique::Keep, Unique::Replace] {
        let mut pair = pair_of(resuming(true), Connection { unique, ..resuming(false) });
        pair.initiate();
        // Only the left one has lost it.
        lose_by_left(&mut pair);
        assert_resumed(&pair, 1);
        let downs: Vec<_> =
            pair.right.events.iter().filter(|event| matches!(event, Event::IkeDown { .. })).collect();
        let is_replaced =
            |event: &Event| matches!(event, Event::IkeDown { reason: DownReason::Replaced, .. });
        assert!(downs.len() == 1 && is_replaced(downs[0]), "{unique:?} {downs:?}");
        assert_eq!(pair.right.contexts.len(), 1);
    }
}

/// Nothing comes through for so long that the left one takes its peer for dead.
fn lose_by_left(pair: &mut Pair) {
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    pair.pass_through(Duration::from_mins(30), |packet| {
        exchange(&packet.octets) != ExchangeType::CREATE_CHILD_SA
    });
}

#[test]
fn a_ticket_serves_once() {
    let mut pair = pair();
    fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
    let mut request = None;
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    pair.pass_through(Duration::from_mins(5), |packet: &Packet| {
        if packet.to_right && exchange(&packet.octets) == ExchangeType::IKE_SESSION_RESUME {
            request = Some(packet.clone());
        }
        true
    });
    assert_resumed(&pair, 1);
    // Somebody has seen the request and sends it again, once the half-open IKE SA is forgotten.
    pair.pass(Duration::from_mins(1));
    let request = request.unwrap();
    pair.deliver(&request);
    let answers = pair.take_packets();
    let Ok(Datagram::Plain(header, payloads)) = wire::parse(&answers[0].octets) else { panic!() };
    assert_eq!((header.exchange, header.responder_spi), (ExchangeType::IKE_SESSION_RESUME, 0));
    assert!(matches!(&payloads[..], [Payload::Notify(n)] if n.kind == NotifyType::TICKET_NACK));
    assert_eq!((pair.right.ike.half_open(), pair.right.ike.counters().tickets_refused), (0, 1));
    pair.assert_up(1);
}

#[test]
fn who_has_the_ticket_alone_gets_nothing() {
    let mut pair = pair();
    fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    // The proof never comes.
    pair.pass_through(Duration::from_mins(2), |packet| exchange(&packet.octets) != ExchangeType::IKE_AUTH);
    assert!(pair.right.established(pair.now()).is_empty());
    assert_eq!((pair.right.ike.counters().resumed, pair.right.inbound.len()), (0, 0));
    pair.pass(Duration::from_mins(20));
    pair.assert_up(1);
}

#[test]
fn a_ticket_that_is_too_old_is_not_presented() {
    let mut pair = pair();
    fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    pair.pass_through(Duration::from_mins(65), |_| false);
    pair.pass(Duration::from_mins(10));
    assert_whole(&pair);
    assert_eq!(pair.right.ike.counters().tickets_refused, 0);
}

#[test]
fn a_gateway_takes_none_that_is_too_old_whatever_the_peer_thinks() {
    let mut pair = pair();
    fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
    lose_time(&mut pair, Duration::from_hours(2));
    assert_whole(&pair);
    assert_eq!(pair.right.ike.counters().tickets_refused, 1);
}

/// The right one's clock is ahead.
fn lose_time(pair: &mut Pair, by: Duration) {
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    let mut is_first = true;
    for _ in 0..2000 {
        for packet in pair.take_packets() {
            let mut now = pair.now();
            if packet.to_right {
                now.unix += by;
                pair.right.datagram(now, packet.path, &packet.octets);
            } else {
                pair.left.datagram(now, packet.path, &packet.octets);
            }
            is_first = false;
        }
        if pair.left.sent.is_empty() && pair.right.sent.is_empty() {
            pair.now += Duration::from_secs(1);
            let now = pair.now();
            pair.left.timeout(now);
        }
    }
    assert!(!is_first);
}

#[test]
fn the_lost_ticket_survives_the_end_of_the_process() {
    let mut pair = pair();
    fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    pair.pass_through(Duration::from_mins(4), |_| false);
    assert_eq!(pair.left.tickets.len(), 1);
    let kept = pair.left.tickets["net"].clone();
    let mut new = Side::new(1, LEFT, configuration(resuming(true)), credentials("secret", &[]));
    new.host.advance(1 << 20);
    for at in 0..kept.len() {
        let mut damaged = kept.clone();
        damaged[at] ^= 0x40;
        let _ = new.ike.restore_ticket(pair.now(), &damaged);
        assert!(new.ike.restore_ticket(pair.now(), &kept[..at]).is_err());
    }
    assert_eq!(new.ike.restore_ticket(pair.now(), &kept), Ok(Some("net".to_owned())));
    new.tickets.insert("net".to_owned(), kept.clone());
    pair.left = new;
    pair.initiate();
    assert_resumed(&pair, 1);
    assert!(pair.left.tickets.is_empty());
    let mut other = Side::new(9, LEFT, configuration(resuming(true)), credentials("secret", &[]));
    assert!(other.ike.restore_ticket(pair.now(), &kept).is_err(), "another key seals its contexts");
    let mut off = Side::new(1, LEFT, configuration(connection(true)), credentials("secret", &[]));
    assert_eq!(off.ike.restore_ticket(pair.now(), &kept), Ok(None));
}

#[test]
fn the_ticket_is_part_of_the_context() {
    for how in [Restoring::Restart, Restoring::Move] {
        let mut pair = pair();
        let now = pair.now();
        for (is_left, seed, address) in [(true, 1, LEFT), (false, 2, RIGHT)] {
            let side = if is_left { &mut pair.left } else { &mut pair.right };
            let before = side.established(now)[0].clone();
            let context = side.contexts.values().next().unwrap().clone();
            let keys = if is_left { vec![] } else { vec![KEY] };
            let mut new =
                Side::new(seed, address, configuration(resuming(is_left)), credentials("secret", &keys));
            new.host.advance(1 << 20);
            new.ike.restore(now, &context, how, &mut new.host).unwrap();
            new.drain();
            new.inbound = side.inbound.clone();
            new.outbound = side.outbound.clone();
            assert_eq!(new.established(now)[0], before);
            *side = new;
        }
        fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
        lose(&mut pair);
        assert_resumed(&pair, 1);
    }
}

#[test]
fn new_keys_void_the_ticket_and_bring_another() {
    for by_left in [true, false] {
        let mut pair = pair();
        let now = pair.now();
        let target = Target::Connection("net".to_owned());
        let side = if by_left { &mut pair.left } else { &mut pair.right };
        side.command(now, Command::RekeyIke(target)).unwrap();
        pair.run();
        pair.pass(Duration::from_secs(1));
        assert_eq!(pair.right.ike.counters().tickets_issued, 2);
        assert_eq!(pair.right.established(pair.now())[0].resumption, {
            let mut view = pair.left.established(pair.now())[0].resumption.clone().unwrap();
            view.is_ours = false;
            Some(view)
        });
        fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
        lose(&mut pair);
        assert_resumed(&pair, 1);
    }
}

#[test]
fn a_ticket_is_renewed_before_it_is_void() {
    let mut pair = pair();
    pair.pass(Duration::from_hours(3));
    assert!(pair.right.ike.counters().tickets_issued >= 4);
    fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
    lose(&mut pair);
    assert_resumed(&pair, 1);
}

#[test]
fn who_was_told_to_go_cannot_come_back() {
    let mut pair = pair();
    let context = pair.left.contexts.values().next().unwrap().clone();
    let target = Target::Connection("net".to_owned());
    pair.right.command(pair.now(), Command::Terminate(target)).unwrap();
    pair.run();
    assert!(pair.left.tickets.is_empty(), "a ticket is void with its tunnel");
    // Who keeps it all the same is refused.
    let now = pair.now();
    let mut new = Side::new(1, LEFT, configuration(resuming(true)), credentials("secret", &[]));
    new.host.advance(1 << 20);
    new.ike.restore(now, &context, Restoring::Restart, &mut new.host).unwrap();
    new.drain();
    pair.left = new;
    lose(&mut pair);
    assert_whole(&pair);
    assert_eq!(pair.right.ike.counters().tickets_refused, 1);
}

/// What is kept of tickets to be revoked is bounded, and must not be a way around that.
#[test]
fn of_many_tickets_none_survives_the_end_of_the_tunnel() {
    let mut pair = pair();
    let now = pair.now();
    let first = pair.left.ike.tunnels.values().find_map(|slot| match &slot.tunnel {
        Tunnel::Up(up) => up.ticket(now.unix),
        _ => None,
    });
    for _ in 0..30 {
        let id = *pair.left.ike.tunnels.keys().next().unwrap();
        let Side { ike, host, .. } = &mut pair.left;
        ike.with_tunnel(now, host, id, |tunnel, cx| {
            let Tunnel::Up(mut up) = tunnel else { return Some(tunnel) };
            up.ask_ticket(cx);
            Some(Tunnel::Up(up))
        });
        pair.left.drain();
        pair.run();
    }
    assert_eq!(pair.right.ike.counters().tickets_issued, 31);
    pair.right.command(now, Command::Terminate(Target::Connection("net".to_owned()))).unwrap();
    pair.run();
    assert!(pair.left.established(now).is_empty());
    pair.left.ike.core.tickets.insert("net".to_owned(), Arc::new(first.unwrap()));
    pair.initiate();
    assert_eq!(pair.right.ike.counters().tickets_refused, 1);
    assert_whole(&pair);
}

#[test]
fn what_a_new_tunnel_would_need_a_resumed_one_needs_too() {
    let changes: [fn(&mut Connection); 5] = [
        |connection| connection.moving.session_resumption = false,
        |connection| connection.ike_proposals = vec!["aes256-sha384-ecp384".parse().unwrap()],
        |connection| connection.remote.identity = Identity::Fqdn("other.test".to_owned()),
        |connection| connection.ppk = PostquantumKey { identity: None, is_required: true },
        |connection| connection.name = "else".to_owned(),
    ];
    for (at, change) in changes.into_iter().enumerate() {
        let mut pair = pair();
        let mut other = resuming(false);
        change(&mut other);
        fail_over(&mut pair, 3, configuration(other), credentials("secret", &[KEY]));
        lose(&mut pair);
        assert_eq!(pair.right.ike.counters().tickets_refused, 1, "{at}");
        assert_eq!(pair.right.ike.counters().resumed, 0, "{at}");
    }
    // Its secret was withdrawn.
    let mut pair = pair();
    let mut builder = CredentialsBuilder::default();
    builder.add_ticket_key("tickets", KEY.as_bytes()).unwrap();
    fail_over(&mut pair, 3, configuration(resuming(false)), Arc::new(builder.build()));
    lose(&mut pair);
    assert_eq!((pair.right.ike.counters().tickets_refused, pair.right.ike.counters().resumed), (1, 0));
}

#[test]
fn the_proof_gets_too_old_however_often_it_is_resumed() {
    let mut right = resuming(false);
    right.moving.resumption_time = Duration::from_mins(30);
    let mut pair = pair_of(resuming(true), right.clone());
    pair.initiate();
    for seed in 3..6 {
        fail_over(&mut pair, seed, configuration(right.clone()), credentials("secret", &[KEY]));
        lose(&mut pair);
        pair.assert_up(1);
        pair.pass(Duration::from_mins(4));
    }
    assert_eq!(pair.left.ike.counters().resumed, 3);
    let view = pair.left.established(pair.now())[0].resumption.clone().unwrap();
    assert!(view.until.unwrap() <= view.authenticated + Duration::from_mins(30));
    pair.pass(Duration::from_mins(5));
    fail_over(&mut pair, 6, configuration(right), credentials("secret", &[KEY]));
    lose(&mut pair);
    pair.assert_up(1);
    assert_eq!(pair.left.ike.counters().resumed, 3);
}

#[test]
fn cookies_are_asked_of_whoever_resumes_as_well() {
    let mut pair = pair();
    let limits = Limits { cookie_threshold: 0, ..Limits::default() };
    let strict = Configuration { limits, ..configuration(resuming(false)) };
    fail_over(&mut pair, 3, strict, credentials("secret", &[KEY]));
    lose(&mut pair);
    assert_resumed(&pair, 1);
    assert_eq!(pair.right.ike.counters().cookies_sent, 1);
}

#[test]
fn losses_and_repetitions_do_no_harm() {
    for lost in 0..6 {
        let mut pair = pair();
        fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
        let mut count = 0;
        let target = Target::Connection("net".to_owned());
        pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
        let mut repeated = Vec::new();
        pair.pass_through(Duration::from_mins(20), |packet: &Packet| {
            if exchange(&packet.octets) == ExchangeType::IKE_SESSION_RESUME {
                repeated.push(packet.clone());
                count += 1;
                return count != lost;
            }
            true
        });
        assert_resumed(&pair, 1);
        for packet in &repeated {
            pair.deliver(packet);
        }
        pair.run();
        assert_resumed(&pair, 1);
    }
}

#[test]
fn who_does_not_know_the_exchange_gets_the_other_one() {
    let mut pair = pair();
    fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    let mut tried = 0;
    pair.pass_through(Duration::from_mins(20), |packet| {
        let is_resume = exchange(&packet.octets) == ExchangeType::IKE_SESSION_RESUME;
        tried += usize::from(is_resume);
        !is_resume
    });
    assert_whole(&pair);
    assert_eq!(tried, 3);
}

#[test]
fn forged_answers_cost_no_more_than_a_whole_set_up() {
    let nonce = |octet| Payload::Nonce(vec![octet; 32]);
    let notify = |kind, data: &[u8]| Payload::Notify(Notify::new(kind, data.to_vec()));
    let forged = [
        (vec![notify(NotifyType::TICKET_NACK, &[])], 0),
        (vec![notify(NotifyType::INVALID_SYNTAX, &[])], 0),
        (vec![notify(NotifyType::COOKIE, &[1; 64])], 0),
        (vec![notify(NotifyType::COOKIE, &[])], 0),
        (vec![notify(NotifyType::REDIRECT, &[1, 4, 198, 51, 100, 1])], 0),
        (vec![nonce(7)], 0),
        (vec![nonce(7)], 7),
        (Vec::new(), 0),
    ];
    for (payloads, responder_spi) in forged {
        let mut pair = pair();
        fail_over(&mut pair, 3, configuration(resuming(false)), credentials("secret", &[KEY]));
        let target = Target::Connection("net".to_owned());
        pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
        let mut request = None;
        pair.pass_through(Duration::from_mins(4), |packet| {
            let is_it = exchange(&packet.octets) == ExchangeType::IKE_SESSION_RESUME;
            request = request.take().or_else(|| is_it.then(|| packet.clone()));
            !is_it
        });
        // It overtakes the true one.
        if request.is_none() {
            pair.pass_through(Duration::from_mins(1), |packet| {
                request.get_or_insert_with(|| packet.clone());
                false
            });
        }
        let Some(request) = request else { panic!("nothing was asked") };
        let header = *wire::parse(&request.octets).unwrap().header();
        let flags = Flags { initiator: false, response: true };
        let answer = wire::emit(&Header { responder_spi, flags, ..header }, &payloads);
        let path = Path { local: request.path.remote, remote: request.path.local, ..request.path };
        pair.left.datagram(pair.now(), path, &answer);
        pair.pass(Duration::from_mins(20));
        pair.assert_up(1);
    }
}

#[test]
fn the_user_and_its_address_come_back() {
    let mut right = resuming(false);
    right.pools = vec!["users".to_owned()];
    let pool = Pool {
        name: "users".to_owned(),
        first: "10.9.0.0".parse().unwrap(),
        last: "10.9.255.255".parse().unwrap(),
        dns: Vec::new(),
        subnets: Vec::new(),
        lease_time: Duration::ZERO,
    };
    let with_pool = |connection: Connection| Configuration {
        pools: vec![Arc::new(pool.clone())],
        ..configuration(connection)
    };
    let mut left = resuming(true);
    left.virtual_addresses = vec!["0.0.0.0".parse().unwrap()];
    let mut pair = Pair::with(
        configuration(left),
        with_pool(right.clone()),
        credentials("secret", &[]),
        credentials("secret", &[KEY]),
    );
    pair.initiate();
    let before = pair.left.established(pair.now())[0].virtual_addresses.clone();
    assert_eq!(before.len(), 1);
    fail_over(&mut pair, 3, with_pool(right), credentials("secret", &[KEY]));
    lose(&mut pair);
    assert_resumed(&pair, 1);
    assert_eq!(pair.left.established(pair.now())[0].virtual_addresses, before);
}

#[test]
fn who_is_not_asked_or_does_not_give_has_no_tickets() {
    for (left, right) in [(true, false), (false, true)] {
        let with = |is_left, is_on| {
            if is_on {
                resuming(is_left)
            } else {
                Connection { moving: Moving::default(), ..resuming(is_left) }
            }
        };
        let mut pair = pair_of(with(true, left), with(false, right));
        pair.initiate();
        pair.assert_up(1);
        assert_eq!(pair.right.ike.counters().tickets_issued, 0);
        fail_over(&mut pair, 3, configuration(with(false, right)), credentials("secret", &[KEY]));
        lose(&mut pair);
        pair.assert_up(1);
        assert_eq!(pair.left.ike.counters().resumed, 0);
    }
}
