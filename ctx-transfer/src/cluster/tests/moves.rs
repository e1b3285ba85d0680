//! Planned moves between members whose drivers answer at once, or not at all.

use super::*;
use crate::cxtp::Message;

/// A cluster at rest, and a segment of its first node.
fn settled() -> (Net, u8) {
    let mut net = Net::new(2, true);
    net.run(300);
    let segment = net.members[&id(1)].status().owned.iter().next().unwrap();
    (net, segment)
}

fn order_move(net: &mut Net, segment: u8) {
    let command = Command::Move { segments: Segments::one(segment), to: id(2) };
    let now = net.now;
    net.members.get_mut(&id(1)).unwrap().handle(now, Event::Command(command));
}

fn commit_of(net: &Net) -> Option<Segments> {
    net.done.iter().find_map(|(_, output)| match output {
        Output::Commit { segments, .. } => Some(*segments),
        _ => None,
    })
}

fn lease(net: &Net, node: u8, segment: u8) -> bool {
    net.leases.get(&(id(node), segment)).is_some_and(|until| *until > net.now)
}

/// I2, I3: a worker of the new owner would take numbers that the old one has used.
#[test]
fn a_lease_is_set_only_when_the_final_counters_are_installed() {
    let (mut net, segment) = settled();
    net.busy.push(id(2));
    order_move(&mut net, segment);
    // The one that stages must answer; only the commit is slow.
    net.run(5);
    let number = net.done.iter().find_map(|(_, output)| match output {
        Output::Stage { number, .. } => Some(*number),
        _ => None,
    });
    let now = net.now;
    let staged = Event::Staged { from: id(1), number: number.unwrap(), result: Ok(()) };
    net.members.get_mut(&id(2)).unwrap().handle(now, staged);
    net.run(100);
    let segments = commit_of(&net).expect("a commit");
    assert!(net.members[&id(2)].status().owned.contains(segment), "the votes are there");
    assert!(!lease(&net, 2, segment) && !lease(&net, 1, segment), "nobody may send yet");
    let took = |net: &Net| net.members[&id(2)].status().last_took.map(|(_, _, cause)| cause);
    assert_ne!(took(&net), Some(Cause::Planned));
    let now = net.now;
    net.members.get_mut(&id(2)).unwrap().handle(now, Event::Prepared { segments, exact: true });
    net.run(1);
    assert!(lease(&net, 2, segment));
    assert_eq!(took(&net), Some(Cause::Planned));
}

/// A standby has everything only just now, and no voter has heard of that when the segments are signed off to it.
#[test]
fn what_is_signed_off_comes_as_a_whole_whatever_voters_know_of_its_standby() {
    let (mut net, _) = settled();
    net.verdict = None;
    net.change(1);
    net.run(50);
    assert!(!net.is_ready());
    let segments: Segments = [SEGMENT, SEGMENT + 1].into_iter().collect();
    net.verdict = Some(Ok(()));
    for (standby, from, number) in std::mem::take(&mut net.unanswered) {
        net.tell(standby, Event::Applied { from, number, result: Ok(()) });
    }
    while net.deliver() {}
    let now = net.now;
    let owner = net.members.get_mut(&id(1)).unwrap();
    owner.next_beat = now + Duration::from_millis(9);
    // First it joins, and then it is ready.
    for _ in 0..2 {
        owner.next_tending = now;
        owner.handle_timeout(now);
    }
    owner.handle(now, Event::Command(Command::Move { segments, to: id(2) }));
    owner.next_tending = now + Duration::from_millis(1);
    net.run(5);
    assert_eq!(commit_of(&net), Some(segments));
    assert!(lease(&net, 2, SEGMENT) && lease(&net, 2, SEGMENT + 1));
    let took = net.members[&id(2)].status().last_took.map(|(_, segments, cause)| (segments, cause));
    assert_eq!(took, Some((segments, Cause::Planned)));
}

/// What comes between the last packet at the old owner and the first one at the new one waits there.
#[test]
fn packets_are_held_before_they_are_stopped_and_until_the_lease_is_here() {
    let (mut net, segment) = settled();
    let segments = Segments::one(segment);
    order_move(&mut net, segment);
    net.run(5);
    let place = |is_it: &dyn Fn(&Output) -> bool| net.done.iter().position(|(_, output)| is_it(output));
    let held = place(
        &|o| matches!(o, Output::Hold { segments: s, until, .. } if *s == segments && *until > net.now),
    );
    let frozen = place(&|o| matches!(o, Output::Freeze { .. }));
    let took = place(&|o| matches!(o, Output::Took { segments: s, .. } if *s == segments));
    let over = place(&|o| matches!(o, Output::EndHold { segments: s } if *s == segments));
    assert!(
        held.is_some() && held < frozen && frozen < took && took < over,
        "{held:?} {frozen:?} {took:?} {over:?}"
    );
    assert!(lease(&net, 2, segment));
}

/// Whoever sends frames on to their owners sends them to the next one.
#[test]
fn frames_of_what_is_frozen_go_to_its_next_owner() {
    let (mut net, segment) = settled();
    let handles = |net: &Net, node: u8, of: u8| {
        let nodes = net.members[&id(node)].neighbours();
        nodes.iter().any(|neighbour| neighbour.id == id(of) && neighbour.owns.contains(segment))
    };
    assert_eq!((handles(&net, 1, 1), handles(&net, 1, 2)), (true, false));
    let pushed = departing(&mut net, segment, Vec::new());
    assert_eq!((handles(&net, 1, 1), handles(&net, 1, 2)), (false, true), "frozen");
    heard(&mut net, 2, 1, &pushed[0]);
    let reply = told(&mut net, 2, Event::Staged { from: id(1), number: 1, result: Ok(()) }).remove(0);
    heard(&mut net, 1, 2, &reply);
    assert_eq!((handles(&net, 1, 1), handles(&net, 1, 2)), (false, true), "signed off");
}

/// The receiver has nothing to hold any more, and drops what it has held.
#[test]
fn a_move_that_is_given_up_holds_nothing() {
    let (mut net, segment) = settled();
    departing(&mut net, segment, Vec::new());
    net.done.clear();
    net.run(300);
    let over = |(of, output): &(NodeId, Output)| {
        *of == id(2) && matches!(output, Output::EndHold { segments } if segments.contains(segment))
    };
    assert!(net.done.iter().any(over));
    assert!(lease(&net, 1, segment), "it goes on where it was");
}

#[test]
fn counters_that_could_not_be_installed_make_a_takeover_of_it() {
    let (mut net, segment) = settled();
    net.busy.push(id(2));
    order_move(&mut net, segment);
    net.run(5);
    let now = net.now;
    let taker = net.members.get_mut(&id(2)).unwrap();
    taker.handle(now, Event::Staged { from: id(1), number: 1, result: Ok(()) });
    net.run(20);
    let segments = commit_of(&net).expect("a commit");
    let now = net.now;
    net.members.get_mut(&id(2)).unwrap().handle(now, Event::Prepared { segments, exact: false });
    net.run(1);
    assert!(lease(&net, 2, segment));
    let cause = net.members[&id(2)].status().last_took.map(|(_, _, cause)| cause);
    assert_eq!(cause, Some(Cause::Takeover));
}

/// The driver hangs: somebody else may be faster, and what it does later is done before anything is claimed again.
#[test]
fn what_is_not_installed_in_time_is_given_up_and_not_claimed_before_it_is() {
    let (mut net, segment) = settled();
    net.busy.push(id(2));
    order_move(&mut net, segment);
    net.run(5);
    let now = net.now;
    let taker = net.members.get_mut(&id(2)).unwrap();
    taker.handle(now, Event::Staged { from: id(1), number: 1, result: Ok(()) });
    net.run(600);
    let segments = commit_of(&net).expect("a commit");
    assert!(lease(&net, 1, segment), "the old owner has it again");
    net.stopped.push(id(1));
    net.run(300);
    assert!(!net.members[&id(2)].status().owned.contains(segment));
    let now = net.now;
    net.members.get_mut(&id(2)).unwrap().handle(now, Event::Prepared { segments, exact: true });
    // The old owner had signed it off when it took it back, so nobody is an heir yet: it is made ready for that.
    net.busy.clear();
    net.run(300);
    assert!(lease(&net, 2, segment), "now it may");
}

fn messages(outputs: impl Iterator<Item = Output>) -> Vec<Message> {
    let transfer = |output| match output {
        Output::Send { lane: Lane::Control, octets, .. } => match wire::ControlMessage::decode(&octets.0) {
            Ok(wire::ControlMessage::Transfer(message)) => Some(message),
            _ => None,
        },
        _ => None,
    };
    outputs.filter_map(transfer).collect()
}

/// What a member has to say to an event.
fn told(net: &mut Net, node: u8, event: Event) -> Vec<Message> {
    let now = net.now;
    let member = net.members.get_mut(&id(node)).unwrap();
    member.handle(now, event);
    messages(std::iter::from_fn(|| member.poll()))
}

/// What it has to say to a message.
fn heard(net: &mut Net, node: u8, from: u8, message: &Message) -> Vec<Message> {
    let octets = wire::ControlMessage::Transfer(message.clone()).encode();
    let now = net.now;
    let member = net.members.get_mut(&id(node)).unwrap();
    member.handle_message(now, id(from), Lane::Control, &octets);
    messages(std::iter::from_fn(|| member.poll()))
}

fn malformed(net: &Net, node: u8) -> u64 {
    net.members[&id(node)].status().totals.malformed
}

/// A move is frozen, and its messages are on their way.
fn departing(net: &mut Net, segment: u8, parts: Vec<Octets>) -> Vec<Message> {
    net.busy.push(id(1));
    order_move(net, segment);
    net.run(20);
    announce(net);
    told(net, 1, Event::Frozen { number: 1, parts })
}

/// IKE is silent: the receiver hears of the move, and holds packets.
fn announce(net: &mut Net) {
    let announced = told(net, 1, Event::Silent { number: 1, tunnels: Vec::new() });
    let [announcement @ Message::Data(_)] = &announced[..] else { panic!("{announced:?}") };
    assert!(heard(net, 2, 1, announcement).is_empty(), "its driver is asked first");
    let answered = told(net, 2, Event::Holding { from: id(1), number: 1 });
    let [reply @ Message::DataReply { success: true, .. }] = &answered[..] else { panic!("{answered:?}") };
    assert!(heard(net, 1, 2, reply).is_empty(), "its driver freezes first");
}

#[test]
fn the_owner_pushes_and_who_wants_asks() {
    let (mut net, segment) = settled();
    let pushed = departing(&mut net, segment, vec![vec![1; 9].into()]);
    let [Message::Data(data)] = &pushed[..] else { panic!("{pushed:?}") };
    assert!(data.predictive.is_some(), "PCTD");

    let (mut net, segment) = settled();
    net.busy.push(id(1));
    let asked = told(&mut net, 2, Event::Command(Command::Take(Segments::one(segment))));
    let [request @ Message::Request(_)] = &asked[..] else { panic!("{asked:?}") };
    heard(&mut net, 1, 2, request);
    net.run(20);
    announce(&mut net);
    let given = told(&mut net, 1, Event::Frozen { number: 1, parts: Vec::new() });
    let [Message::Data(data)] = &given[..] else { panic!("{given:?}") };
    assert!(data.predictive.is_none(), "CTD");
}

#[test]
fn an_old_request_and_one_for_another_life_move_nothing() {
    let (mut net, segment) = settled();
    let take = || Event::Command(Command::Take(Segments::one(segment)));
    let first = told(&mut net, 2, take()).remove(0);
    let second = told(&mut net, 2, take()).remove(0);
    heard(&mut net, 1, 2, &second);
    assert_eq!(malformed(&net, 1), 0);
    heard(&mut net, 1, 2, &first);
    heard(&mut net, 1, 2, &second);
    assert_eq!(malformed(&net, 1), 2, "an old one, and the same again");
    let Message::Request(mut forged) = second else { panic!("no request") };
    forged.sequence += 1;
    heard(&mut net, 1, 2, &Message::Request(forged));
    assert_eq!(malformed(&net, 1), 3, "its token is that of another");
    let from_a_witness = told(&mut net, 2, take()).remove(0);
    heard(&mut net, 1, 200, &from_a_witness);
    net.run(300);
    assert!(lease(&net, 2, segment), "the second one has moved it");
    assert!(net.members[&id(200)].status().owned.is_empty());
}

/// The next transfer would be signed off though nobody has it.
#[test]
fn a_reply_to_a_transfer_that_was_given_up_is_not_one_to_the_next() {
    let (mut net, segment) = settled();
    let pushed = departing(&mut net, segment, Vec::new());
    let heard_of = heard(&mut net, 2, 1, &pushed[0]);
    assert!(heard_of.is_empty(), "its driver is asked first");
    let reply = told(&mut net, 2, Event::Staged { from: id(1), number: 1, result: Ok(()) });
    let [reply @ Message::DataReply { success: true, .. }] = &reply[..] else { panic!("{reply:?}") };
    // It takes too long, and is begun again.
    let cancelled = (0..300).find_map(|_| {
        net.now += Duration::from_millis(1);
        let now = net.now;
        let member = net.members.get_mut(&id(1)).unwrap();
        member.handle_timeout(now);
        let sent = messages(std::iter::from_fn(|| member.poll()));
        sent.into_iter().find(|message| matches!(message, Message::Cancel { .. }))
    });
    assert!(cancelled.is_some(), "CTC");
    let (mut net, segment) = settled();
    let first = departing(&mut net, segment, Vec::new());
    let Message::Data(data) = &first[0] else { panic!("{first:?}") };
    let late = Message::DataReply { peer: "100::7".parse().unwrap(), success: true, results: Vec::new() };
    heard(&mut net, 1, 2, &late);
    assert!(net.members[&id(1)].status().owned.contains(segment), "not signed off");
    assert_eq!(data.peer, reply.peer(), "numbers begin anew with each life");
    heard(&mut net, 1, 2, reply);
    assert!(!net.members[&id(1)].status().owned.contains(segment), "signed off");
}

#[test]
fn nobody_moves_what_is_not_its_own() {
    let (mut net, segment) = settled();
    let pushed = departing(&mut net, segment, Vec::new());
    for (from, disbelieved) in [(200, 1), (1, 1)] {
        let answered = heard(&mut net, 2, from, &pushed[0]);
        assert!(answered.is_empty(), "{from}: {answered:?}");
        assert_eq!(net.members[&id(2)].status().totals.disbelieved, disbelieved, "{from}");
    }
    let Message::Data(mut data) = pushed[0].clone() else { panic!("{pushed:?}") };
    let (peer, acknowledge) = ("100::2".parse().unwrap(), true);
    let theirs = net.members[&id(2)].status().owned.iter().next().unwrap();
    let profile = crate::cxtp::FeatureProfile(0xbb00 | u16::from(theirs));
    data.blocks.extend(crate::cxtp::Block::new(profile, None, &[]));
    let both = Message::Data(crate::cxtp::Data { peer, acknowledge, ..data });
    let answered = heard(&mut net, 2, 1, &both);
    assert!(matches!(answered[..], [Message::DataReply { success: false, .. }]), "{answered:?}");
    let activate = Message::ActivateAcknowledge { peer, results: Vec::new() };
    heard(&mut net, 2, 1, &activate);
    assert_eq!(malformed(&net, 2), 1);
}
