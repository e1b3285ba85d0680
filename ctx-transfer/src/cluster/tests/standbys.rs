//! Standbys that have everything, or not, and what they do when the owner dies.

use super::*;

#[test]
fn a_standby_that_has_refused_a_context_takes_its_segment_over_only_with_a_rekey() {
    for refusal in crate::cluster::event::REFUSALS {
        let mut net = Net::new(2, true);
        net.run(500);
        net.change(1);
        net.run(300);
        assert!(net.is_ready());
        net.verdict = Some(Err(refusal));
        net.change(2);
        net.run(5);
        assert!(!net.is_ready(), "{refusal:?}");
        net.stopped.push(id(1));
        net.run(200);
        assert_eq!(net.owned(2), SEGMENTS);
        assert!(net.rekeyed(), "{refusal:?}");
    }
}

#[test]
fn a_standby_that_has_taken_what_it_refused_takes_over_in_good_order() {
    let mut net = Net::new(2, true);
    net.run(500);
    net.verdict = Some(Err(Refusal::Full));
    net.change(1);
    net.run(200);
    assert!(!net.is_ready());
    net.verdict = Some(Ok(()));
    net.run(2_500);
    assert!(net.is_ready());
    assert_eq!(net.members[&id(1)].status().alarms, []);
    net.stopped.push(id(1));
    net.run(200);
    assert!(!net.rekeyed());
}

/// I6: it would go on with what the peer knows to be over.
#[test]
fn a_standby_that_keeps_a_tunnel_that_is_over_is_not_in_good_order() {
    let mut net = Net::new(2, true);
    net.run(500);
    net.change(1);
    net.run(300);
    net.verdict = Some(Err(Refusal::Unavailable));
    net.tell(id(1), Event::TunnelDeleted { tunnel: Name::new("site-a").unwrap() });
    net.run(1_500);
    assert!(!net.is_ready());
    net.verdict = Some(Ok(()));
    net.run(1_500);
    assert!(net.is_ready());
    assert_eq!(net.members[&id(1)].status().alarms, []);
}

#[test]
fn a_refusal_that_overtakes_an_older_answer_stands() {
    let mut net = Net::new(2, true);
    net.run(500);
    net.verdict = None;
    net.change(1);
    net.run(5);
    net.change(2);
    net.run(5);
    let [(standby, from, first), (_, _, second)] = net.unanswered[..] else { panic!("{:?}", net.unanswered) };
    for (number, result) in [(second, Err(Refusal::Unavailable)), (first, Ok(()))] {
        net.tell(standby, Event::Applied { from, number, result });
        net.run(5);
    }
    net.run(100);
    assert!(!net.is_ready());
}

#[test]
fn whoever_waits_hears_each_time_that_standbys_are_in_good_order() {
    let mut net = Net::new(2, false);
    net.run(500);
    net.change(1);
    net.run(300);
    assert_eq!(net.synced(), [true]);
    net.verdict = None;
    net.change(2);
    net.run(100);
    assert_eq!(net.synced(), [true, false], "it was late");
    net.verdict = Some(Ok(()));
    net.change(3);
    net.run(100);
    assert_eq!(net.synced(), [true, false, true]);
}

/// I6: what is read was there before the change.
#[test]
fn a_change_while_a_context_is_read_is_sent_too() {
    let mut net = Net::new(2, true);
    net.run(500);
    net.read = Some(Vec::new());
    net.change(1);
    net.run(5);
    net.change(2);
    net.run(5);
    for (id, event) in net.read.take().unwrap() {
        net.tell(id, event);
    }
    net.run(50);
    let version = |(_, output): &(NodeId, Output)| match output {
        Output::Apply { version, .. } => Some(*version),
        _ => None,
    };
    assert_eq!(net.done.iter().filter_map(version).collect::<Vec<_>>(), [1, 2]);
}

fn lease(net: &Net, node: u8) -> bool {
    net.leases.get(&(id(node), SEGMENT)).is_some_and(|until| *until > net.now)
}

/// I2, I3: the lease is in the table when counters that may be too low are out of reach.
#[test]
fn a_stale_takeover_waits_for_its_counters_and_one_in_good_order_for_nothing() {
    for stale in [true, false] {
        let mut net = Net::new(2, true);
        net.run(500);
        net.verdict = Some(if stale { Err(Refusal::Full) } else { Ok(()) });
        net.change(1);
        net.run(100);
        net.busy.push(id(2));
        net.stopped.push(id(1));
        // Without a context of it the node is not the segment's heir, and claims it later.
        net.run(200);
        assert_eq!(net.owned(2), SEGMENTS, "the votes are there");
        assert_eq!((net.rekeyed(), lease(&net, 2)), (stale, !stale));
        let took = |net: &Net| net.members[&id(2)].status().last_took.map(|(_, _, cause)| cause);
        if stale {
            assert_ne!(took(&net), Some(Cause::Stale));
            net.tell(id(2), Event::Prepared { segments: Segments::one(SEGMENT), exact: false });
            net.run(1);
        }
        assert!(lease(&net, 2));
        assert_eq!(took(&net), Some(if stale { Cause::Stale } else { Cause::Takeover }));
    }
}

/// What the driver installs while a worker uses it would be used again.
#[test]
fn a_takeover_waits_for_what_is_being_installed() {
    let mut net = Net::new(2, true);
    net.run(500);
    net.verdict = None;
    net.change(1);
    net.run(1);
    net.busy.push(id(2));
    net.stopped.push(id(1));
    net.run(100);
    assert_eq!(net.owned(2), SEGMENTS);
    assert!(!lease(&net, 2));
    let others = |segment: u8| net.leases.get(&(id(2), segment)).is_some_and(|until| *until > net.now);
    assert!((1..=u8::MAX).all(others), "nothing else waits");
    net.tell(id(2), Event::Prepared { segments: Segments::one(SEGMENT), exact: false });
    net.run(1);
    assert!(lease(&net, 2));
}

/// A voter that forgets what it has said says something else.
#[test]
fn a_vote_is_remembered_before_it_is_given() {
    let mut witness =
        Cluster::new(Configuration::new(id(200), members(2, true)), Duration::ZERO, 1, &[]).unwrap();
    let (claims, fresh) = (Segments::ALL, Segments::ALL);
    let beat = wire::Heartbeat { incarnation: 1, sequence: 1, term: 1, claims, fresh, ..Default::default() };
    witness.handle_message(Duration::from_secs(1), id(1), Lane::Heartbeat, &beat.encode());
    let outputs: Vec<Output> = std::iter::from_fn(|| witness.poll()).collect();
    let place = |which: fn(&Output) -> bool| outputs.iter().position(which).expect("it is there");
    let (told, sent) = (
        place(|output| matches!(output, Output::Remember(_))),
        place(|output| matches!(output, Output::Send { lane: Lane::Heartbeat, .. })),
    );
    assert!(told < sent, "{outputs:?}");
}

/// I6: the IKE daemon that was away would go on with it after a takeover.
#[test]
fn what_a_session_did_not_mention_is_removed_as_soon_as_it_can_be() {
    let mut node =
        Cluster::new(Configuration::new(id(2), members(2, false)), Duration::ZERO, 2, &[]).unwrap();
    let (mut now, claims, tunnel) = (Duration::ZERO, Segments::one(SEGMENT), Name::new("site-a").unwrap());
    let mut removals = |node: &mut Cluster, intervals: u64| {
        let mut removals = Vec::new();
        for _ in 0..intervals {
            now += Duration::from_millis(10);
            let sequence = now.as_millis() as u64;
            let beat = wire::Heartbeat { incarnation: 1, sequence, term: 4, claims, ..Default::default() };
            node.handle_message(now, id(1), Lane::Heartbeat, &beat.encode());
            node.handle_timeout(now);
            removals.extend(std::iter::from_fn(|| node.poll()).filter_map(|output| match output {
                Output::Remove { from, number, tunnel: removed } if removed == tunnel => Some((from, number)),
                _ => None,
            }));
        }
        (now, removals)
    };
    node.handle(Duration::ZERO, Event::Dataplane { ready: true });
    node.handle(Duration::ZERO, Event::TunnelChanged { tunnel, segment: SEGMENT, version: 1 });
    let (now, early) = removals(&mut node, 2);
    assert_eq!(early, []);
    let complete = wire::ContextMessage::Complete { session: 1, segments: claims };
    node.handle_message(now, id(1), Lane::Contexts, &complete.encode());
    for result in [Err(Refusal::Unavailable), Ok(())] {
        let (now, asked) = removals(&mut node, 200);
        let [(from, number)] = asked[..] else { panic!("{asked:?}") };
        node.handle(now, Event::Applied { from, number, result });
    }
    assert_eq!(removals(&mut node, 200).1, [], "it is gone");
}

/// I6: where there are three, the one that has lost a segment may still have something under way.
#[test]
fn what_a_former_owner_had_under_way_comes_too_late() {
    let config = Configuration::new(id(3), members(3, false));
    let mut node = Cluster::new(config, Duration::ZERO, 3, &[]).unwrap();
    let now = Duration::from_millis(1);
    node.handle(now, Event::Dataplane { ready: true });
    let claims = Segments::one(SEGMENT);
    let tunnel = Name::new("site-a").unwrap();
    for (from, term, version) in [(1, 4, 6), (2, 5, 5), (1, 4, 7), (2, 5, 6)] {
        let (incarnation, sequence) = (u64::from(from), version);
        let beat = wire::Heartbeat { incarnation, sequence, term, claims, ..Default::default() };
        node.handle_message(now, id(from), Lane::Heartbeat, &beat.encode());
        let (octets, reserved) = (Octets::from(vec![0; 9]), Vec::new());
        let content = Content { tunnel, segment: SEGMENT, version, octets, reserved };
        let put = wire::ContextMessage::Put { number: version, session: 1, content };
        node.handle_message(now, id(from), Lane::Contexts, &put.encode());
    }
    let applied = |output: Output| match output {
        Output::Apply { from, version, supersedes, .. } => Some((from.get(), version, supersedes)),
        _ => None,
    };
    let applied: Vec<_> = std::iter::from_fn(|| node.poll()).filter_map(applied).collect();
    assert_eq!(
        applied,
        [(1, 6, true), (2, 5, true), (2, 6, false)],
        "an earlier change of the new owner's stays"
    );
}
