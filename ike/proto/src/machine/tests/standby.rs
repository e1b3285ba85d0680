//! Tunnels of segments that another node owns, and going on with them.

use std::time::Duration;

use super::pair::{Packet, Pair, RIGHT, configuration, connection, secrets};
use super::side::Side;
use crate::configuration::Connection;
use crate::host::{Command, CommandError, Owned, Target};
use crate::identity::Identity;
use crate::machine::{RestoreError, Restoring, StandbyError, TunnelState, heading};

/// Right's segment in these tests.
const SEGMENT: u8 = 2;

fn owned(term: u32, advanced: Option<u64>) -> [Owned; 1] {
    [Owned { segment: SEGMENT, term, advanced, is_stale: false }]
}

/// A node that owns nothing, and is otherwise as right is.
fn standby() -> Side {
    standby_with(connection(false))
}

fn standby_with(connection: Connection) -> Side {
    let mut side = Side::new(SEGMENT.into(), RIGHT, configuration(connection), secrets("secret"));
    side.host.advance(1 << 20);
    side.ike.own(&[]);
    side
}

fn put(pair: &Pair, side: &mut Side, context: &[u8]) -> Result<u64, StandbyError> {
    let taken = side.ike.put_standby(pair.now(), context, &mut side.host);
    side.drain();
    taken.map(|heading| heading.version)
}

/// All that right has stored.
fn replicate(pair: &Pair, side: &mut Side) {
    for context in pair.right.contexts.values() {
        put(pair, side, context).unwrap();
    }
}

/// Right dies, and the standby goes on with the SAs that are in its table.
fn take_over(pair: &mut Pair, mut standby: Side, owned: &[Owned]) {
    standby.inbound = std::mem::take(&mut pair.right.inbound);
    standby.outbound = std::mem::take(&mut pair.right.outbound);
    standby.ike.own(owned);
    pair.right = standby;
    pair.right.sent.clear();
}

fn context(pair: &Pair) -> Vec<u8> {
    pair.right.contexts.values().next().unwrap().clone()
}

fn target() -> Target {
    Target::Connection("net".to_owned())
}

fn rekey(pair: &mut Pair, by_left: bool) {
    let now = pair.now();
    let side = if by_left { &mut pair.left } else { &mut pair.right };
    side.command(now, Command::RekeyChild(target())).unwrap();
    pair.run();
}

#[test]
fn a_standby_is_silent_and_goes_on_where_the_owner_was() {
    for step in 0..8 {
        let mut pair = Pair::up();
        let mut standby = standby();
        rekey(&mut pair, false);
        replicate(&pair, &mut standby);
        let command = if step % 2 == 0 { Command::RekeyIke } else { Command::RekeyChild };
        let now = pair.now();
        pair.left.command(now, command(target())).unwrap();
        for _ in 0..step {
            pair.take_one();
            replicate(&pair, &mut standby);
        }
        let view = standby.tunnels(pair.now()).remove(0);
        assert_eq!((view.state, view.segment), (TunnelState::Standby, SEGMENT));
        for _ in 0..3 {
            pair.now += Duration::from_hours(1);
            let now = pair.now();
            standby.timeout(now);
        }
        assert_eq!((standby.next_timeout(), standby.sent.len(), standby.keep_alives), (None, 0, 0));
        pair.now -= Duration::from_hours(3);
        take_over(&mut pair, standby, &owned(1, None));
        pair.run();
        pair.pass(Duration::from_mins(3));
        pair.assert_up(1);
        for by_left in [true, false] {
            rekey(&mut pair, by_left);
            pair.pass(Duration::from_mins(1));
        }
        pair.assert_up(1);
        assert_eq!(pair.right.ike.counters().ike_established, 0, "nobody authenticates again");
    }
}

#[test]
fn the_datagrams_of_a_dormant_tunnel_are_ignored_and_wake_it_when_the_segment_is_gained() {
    let mut pair = Pair::up();
    let mut standby = standby();
    replicate(&pair, &mut standby);
    let now = pair.now();
    pair.left.command(now, Command::RekeyChild(target())).unwrap();
    let request: Vec<Packet> = pair.take_packets();
    standby.datagram(now, request[0].path, &request[0].octets);
    assert_eq!((standby.sent.len(), standby.ike.counters().foreign), (0, 1));
    let refused = standby.command(now, Command::RekeyChild(target()));
    assert_eq!(refused, Err(CommandError::Foreign(SEGMENT)));
    assert!(standby.command(now, Command::Freeze(name(&pair))).is_err());
    assert_eq!(standby.ike.own(&owned(1, None)), 1);
    assert_eq!(standby.next_timeout(), Some(Duration::ZERO), "at once");
    // No timer has run.
    standby.datagram(now, request[0].path, &request[0].octets);
    assert_eq!(standby.sent.len(), 1);
    assert_eq!(standby.established(now).len(), 1);
}

fn name(pair: &Pair) -> String {
    pair.right.tunnels(pair.now())[0].name.to_string()
}

#[test]
fn a_newer_context_takes_the_place_of_an_older_one_and_never_the_other_way_round() {
    let mut pair = Pair::up();
    let mut standby = standby();
    let older = context(&pair);
    let first = put(&pair, &mut standby, &older).unwrap();
    assert_eq!(put(&pair, &mut standby, &older), Ok(first), "the same again");
    let policies = standby.policies.clone();
    assert_eq!(policies, pair.right.policies);
    rekey(&mut pair, true);
    pair.pass(Duration::from_secs(30));
    let newer = context(&pair);
    let second = put(&pair, &mut standby, &newer).unwrap();
    assert!(second > first);
    assert_eq!(heading(&newer).unwrap().version, second);
    let refused = put(&pair, &mut standby, &older).unwrap_err();
    assert!(
        matches!(refused, StandbyError::Outdated { offered, present, .. } if (offered, present) == (first, second))
    );
    assert_eq!(standby.contexts.values().next(), Some(&newer));
    assert_eq!(standby.policies, policies);
    for damaged in [&newer[1..], &newer[..newer.len() - 1], &[]] {
        assert!(matches!(put(&pair, &mut standby, damaged), Err(StandbyError::Unusable(_))));
    }
    let now = pair.now();
    assert_eq!(standby.ike.remove_standby(now, "net-00000000", &mut standby.host), Ok(false));
    assert_eq!(standby.ike.remove_standby(now, &name(&pair), &mut standby.host), Ok(true));
    standby.drain();
    assert!(standby.tunnels(now).is_empty() && standby.contexts.is_empty() && standby.policies.is_empty());
    assert_eq!(put(&pair, &mut standby, &older), Ok(first), "it is forgotten");
}

/// What its new owner has ended is not alive here when it comes back.
#[test]
fn a_tunnel_is_removed_where_it_has_not_fallen_silent_yet_and_never_said_to_be_where_it_stays() {
    let mut pair = Pair::up();
    let (name, now) = (name(&pair), pair.now());
    let refused = pair.right.ike.remove_standby(now, &name, &mut pair.right.host);
    assert!(matches!(refused, Err(StandbyError::Owned(owned)) if owned.as_str() == name));
    assert_eq!(pair.right.tunnels(now)[0].state, TunnelState::Established);
    assert_eq!(pair.right.ike.own(&[]), 1);
    // No timer has run.
    assert_eq!(pair.right.ike.remove_standby(now, &name, &mut pair.right.host), Ok(true));
    pair.right.drain();
    assert!(pair.right.tunnels(now).is_empty() && pair.right.contexts.is_empty());
}

#[test]
fn an_owner_takes_no_context_of_its_own_tunnels_and_no_name_is_taken_twice() {
    let mut pair = Pair::up();
    let (context, now) = (context(&pair), pair.now());
    let owned_here = pair.right.ike.put_standby(now, &context, &mut pair.right.host);
    assert!(matches!(owned_here, Err(StandbyError::Owned(_))));
    let mut standby = standby();
    replicate(&pair, &mut standby);
    let again = standby.ike.restore(now, &context, Restoring::Move, &mut standby.host);
    assert!(matches!(again, Err(RestoreError::Present(_))));
    let mut other = standby_with(Connection { name: "other".to_owned(), ..connection(false) });
    assert!(matches!(
        put(&pair, &mut other, &context),
        Err(StandbyError::Unusable(RestoreError::NoConnection(..)))
    ));
}

/// A stale takeover may end a tunnel that its owner goes on with: what is left of it is not in the way of its contexts.
#[test]
fn what_only_repeats_its_last_answer_makes_room_for_the_owners_context() {
    let mut pair = Pair::up();
    let (mut other, now) = (standby(), pair.now());
    replicate(&pair, &mut other);
    let context = context(&pair);
    std::mem::swap(&mut pair.right, &mut other);
    pair.right.ike.own(&owned(1, None));
    pair.right.timeout(now);
    pair.left.command(now, Command::Terminate(target())).unwrap();
    pair.run();
    assert!(pair.right.contexts.is_empty(), "it is over here");
    pair.right.ike.own(&[]);
    pair.right.timeout(now);
    pair.right.ike.put_standby(now, &context, &mut pair.right.host).unwrap();
    pair.right.drain();
    assert_eq!(pair.right.tunnels(now)[0].state, TunnelState::Standby);
}

#[test]
fn who_loses_a_segment_falls_silent_and_who_gains_it_back_goes_on() {
    let mut pair = Pair::up();
    rekey(&mut pair, true);
    let before = pair.right.contexts.clone();
    let now = pair.now();
    pair.right.command(now, Command::RekeyIke(target())).unwrap();
    pair.right.sent.clear();
    assert_eq!(pair.right.ike.own(&[]), 1);
    pair.right.timeout(now);
    assert_eq!(pair.right.tunnels(now)[0].state, TunnelState::Standby);
    assert_eq!(pair.right.contexts.len(), before.len());
    assert!(!pair.right.policies.is_empty(), "nothing leaves in clear meanwhile");
    pair.pass(Duration::from_mins(1));
    assert_eq!((pair.right.sent.len(), pair.right.next_timeout()), (0, None));
    // What is outstanding is asked again with the same octets: the network would notice two contents of one Message ID.
    pair.right.ike.own(&owned(2, None));
    pair.run();
    pair.pass(Duration::from_mins(3));
    pair.assert_up(1);
    assert_eq!((pair.right.ike.counters().dozed, pair.right.ike.counters().activated), (1, 1));
    assert_eq!(pair.right.ike.counters().ike_rekeyed, 1);
}

#[test]
fn the_context_of_a_later_owner_is_the_newer_one() {
    let mut pair = Pair::up();
    let mut next = standby();
    replicate(&pair, &mut next);
    // What the standby never hears of.
    for _ in 0..5 {
        rekey(&mut pair, true);
        pair.pass(Duration::from_secs(20));
    }
    let lost = heading(&context(&pair)).unwrap().version;
    let now = pair.now();
    next.ike.own(&owned(1, None));
    next.timeout(now);
    // Nothing has changed but the owner: what the others have is as good as what is here.
    let kept = heading(next.contexts.values().next().unwrap()).unwrap().version;
    assert_eq!(next.ike.headings().next().unwrap().0.version, kept);
    next.command(now, Command::RekeyIke(target())).unwrap();
    let newest = next.contexts.values().next().unwrap().clone();
    assert!(heading(&newest).unwrap().version > lost);
    pair.right.ike.own(&[]);
    pair.right.timeout(now);
    let mut old = std::mem::replace(&mut pair.right, standby());
    assert!(put(&pair, &mut old, &newest).is_ok(), "the one that comes back learns it");
}

#[test]
fn what_is_not_authenticated_yet_is_forgotten() {
    let mut pair = Pair::plain();
    let now = pair.now();
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(now, command).unwrap();
    pair.take_one();
    assert_eq!((pair.left.tunnels(now).len(), pair.right.ike.half_open()), (1, 1));
    for side in [&mut pair.left, &mut pair.right] {
        side.sent.clear();
        assert_eq!(side.ike.own(&[]), 1);
        side.timeout(now);
        assert!(side.ike.tunnels.is_empty() && side.next_timeout().is_none() && side.sent.is_empty());
        assert_eq!(side.ike.half_open(), 0);
    }
}

#[test]
fn a_lease_that_lapses_for_a_moment_costs_a_moment() {
    let mut pair = Pair::up();
    let now = pair.now();
    pair.right.command(now, Command::RekeyIke(target())).unwrap();
    pair.right.sent.clear();
    pair.right.host.segment = 99;
    for _ in 0..100 {
        pair.now += Duration::from_millis(500);
        let now = pair.now();
        pair.right.timeout(now);
    }
    assert!(pair.right.sent.is_empty(), "nothing is sent without it");
    assert_eq!(pair.right.tunnels(pair.now()).len(), 1);
    pair.right.host.segment = SEGMENT;
    pair.pass(Duration::from_mins(3));
    pair.assert_up(1);
    assert_eq!(pair.right.ike.counters().ike_rekeyed, 1);
}

/// So many tunnels at right, each with a left of its own, and a standby that has them all.
fn many(count: u64, dpd_delay: Duration) -> (Pair, Side) {
    let mut right = Connection { dpd_delay, ..connection(false) };
    right.remote.identity = Identity::Any;
    let mut pair = Pair::new(connection(true), right.clone());
    for seed in 0..count {
        let mut left = connection(true);
        left.local.identity = Identity::Fqdn(format!("left{seed}.test"));
        pair.left = Side::new(100 + seed, super::pair::LEFT, configuration(left), secrets("secret"));
        pair.left.host.advance(seed << 8);
        pair.initiate();
        // No address may begin more in a second.
        pair.now += Duration::from_millis(20);
    }
    assert_eq!(pair.right.established(pair.now()).len(), usize::try_from(count).unwrap());
    let mut standby = standby_with(right);
    replicate(&pair, &mut standby);
    (pair, standby)
}

/// How many messages leave in each of so many seconds.
fn storm(pair: &mut Pair, standby: &mut Side, seconds: u64) -> Vec<usize> {
    let mut sent = Vec::new();
    for _ in 0..seconds {
        let end = pair.now + Duration::from_secs(1);
        while let Some(due) = standby.next_timeout().filter(|due| *due <= end) {
            pair.now = pair.now.max(due);
            let now = pair.now();
            standby.timeout(now);
        }
        pair.now = end;
        sent.push(standby.sent.drain(..).count());
    }
    sent
}

#[test]
fn a_thousand_tunnels_wake_up_without_a_storm() {
    const TUNNELS: u64 = 1000;
    let (mut pair, mut standby) = many(TUNNELS, Duration::from_secs(30));
    let bytes: usize = standby.contexts.values().map(Vec::len).sum();
    assert!(bytes < 4096 * standby.contexts.len(), "{bytes} octets are too many to be kept by the 100,000");
    // Their keys were to be replaced while nobody acted for them.
    pair.now += Duration::from_hours(5);
    assert_eq!(standby.ike.own(&owned(1, None)), 1000);
    // In portions, so that datagrams are answered in between.
    let now = pair.now();
    standby.timeout(now);
    assert_eq!(standby.established(now).len(), 32);
    let sent = storm(&mut pair, &mut standby, 60);
    assert!(sent.iter().all(|sent| *sent < 300), "{sent:?}");
    assert_eq!(standby.ike.counters().activated, TUNNELS);
    assert!(sent.iter().sum::<usize>() > 500, "they do live: {sent:?}");
    assert!(standby.tunnels(pair.now()).len() == 1000, "and none ends at once");
}

#[test]
fn a_thousand_peers_are_asked_to_agree_one_after_the_other() {
    let (mut pair, mut standby) = many(1000, Duration::from_secs(30));
    standby.ike.own(&owned(1, Some(10_000)));
    let sent = storm(&mut pair, &mut standby, 3);
    assert!(sent[0] <= 501 && sent[0] > 300, "{sent:?}");
    assert!(sent.iter().sum::<usize>() >= 1000, "{sent:?}");
}

#[test]
fn without_anything_to_say_nothing_is_said() {
    let (mut pair, mut standby) = many(50, Duration::from_mins(5));
    standby.ike.own(&owned(1, None));
    assert_eq!(storm(&mut pair, &mut standby, 1), [0]);
    assert_eq!(standby.established(pair.now()).len(), 50);
    assert!(!standby.log.contains(&"store"), "what goes on unchanged is not stored, nor replicated, again");
}

#[test]
fn a_takeover_agrees_about_sequence_numbers_and_a_stale_one_about_message_ids_too_and_rekeys() {
    for is_stale in [false, true] {
        let mut pair = Pair::up();
        let mut standby = standby();
        replicate(&pair, &mut standby);
        let [owned] = owned(1, Some(1000));
        take_over(&mut pair, standby, &[Owned { is_stale, ..owned }]);
        pair.pass(Duration::from_secs(10));
        assert_eq!(pair.right.ike.counters().failovers, u64::from(is_stale));
        assert_eq!(
            pair.right.ike.counters().children_rekeyed,
            u64::from(is_stale),
            "its counters may be too low"
        );
        assert_skipped_and_alive(pair);
    }
}

fn assert_skipped_and_alive(mut pair: Pair) {
    assert_eq!(pair.left.skips.iter().map(|(_, numbers)| *numbers).collect::<Vec<_>>(), [1000]);
    rekey(&mut pair, true);
    rekey(&mut pair, false);
    pair.pass(Duration::from_mins(1));
    pair.assert_up(1);
}

#[test]
fn segments_are_advanced_and_tunnels_rekeyed_by_command() {
    let mut pair = Pair::up();
    let (now, name) = (pair.now(), name(&pair));
    assert_eq!(pair.right.ike.advance(now, &[SEGMENT, 7], 64, &mut pair.right.host), 1);
    pair.right.drain();
    pair.run();
    pair.pass(Duration::from_secs(5));
    assert_eq!(pair.right.ike.counters().failovers, 1);
    assert_eq!(pair.left.skips.len(), 1);
    let now = pair.now();
    let names = [name, "net-ffffffff".to_owned()];
    assert_eq!(pair.right.ike.rekey_slowly(now, &names, &mut pair.right.host), 1);
    pair.right.drain();
    pair.pass(Duration::from_secs(30));
    assert_eq!(pair.right.ike.counters().children_rekeyed, 1);
    pair.assert_up(1);
}

#[test]
fn what_waits_at_rest_survives_a_restart_of_the_standby() {
    let mut pair = Pair::up();
    let mut before = standby();
    replicate(&pair, &mut before);
    let mut after = standby();
    for context in before.contexts.values() {
        after.ike.restore_standby(pair.now(), context, &mut after.host).unwrap();
    }
    after.drain();
    assert!(after.contexts.is_empty(), "they are there already");
    assert_eq!(after.policies, before.policies);
    after.contexts = before.contexts;
    take_over(&mut pair, after, &owned(1, None));
    rekey(&mut pair, true);
    pair.pass(Duration::from_mins(1));
    pair.assert_up(1);
}
