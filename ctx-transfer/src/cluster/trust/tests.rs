//! Members that say what they may not.

use baton_sad::Name;

use super::super::wire::{CounterMessage, Heartbeat};
use super::super::*;
use super::*;

const OWN: u8 = 5;
const OTHER: u8 = 200;

fn id(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

fn tunnel() -> Name {
    Name::new("site-a").unwrap()
}

fn put(number: u64, segment: u8) -> ContextMessage {
    let (octets, reserved) = (Vec::from([number as u8; 10]).into(), Vec::new());
    let content = Content { tunnel: tunnel(), segment, version: number, octets, reserved };
    ContextMessage::Put { number, session: 1, content }
}

fn delete(number: u64) -> ContextMessage {
    ContextMessage::Delete { number, tunnel: tunnel() }
}

/// The whole of a move.
fn moving(segments: Segments) -> ControlMessage {
    let departure = transfer::Departure {
        number: 1,
        segments,
        pinned: false,
        predictive: Some(1),
        elapsed: Duration::ZERO,
    };
    ControlMessage::Transfer(departure.announcement())
}

/// Node 1 of three and a witness. Node 2 owns the lower half, node 3 the upper one, once they have said so.
struct Standby {
    cluster: Cluster,
    now: Duration,
    sequence: u64,
}

impl Standby {
    fn new() -> Self {
        let node = |number| Member { id: id(number), role: Role::Node, priority: 100 };
        let witness = Member { id: id(9), role: Role::Witness, priority: 0 };
        let config = Configuration::new(id(1), vec![node(1), node(2), node(3), witness]);
        let mut cluster = Cluster::new(config, Duration::ZERO, 1, &[]).unwrap();
        cluster.handle(Duration::ZERO, Event::Dataplane { ready: true });
        Self { cluster, now: Duration::ZERO, sequence: 0 }
    }

    fn with_owners() -> Self {
        let mut standby = Self::new();
        standby.beat();
        standby
    }

    fn after(&mut self, milliseconds: u64) -> &mut Self {
        self.now += Duration::from_millis(milliseconds);
        self
    }

    fn beat(&mut self) -> Vec<Output> {
        self.sequence += 1;
        let lower: Segments = (0..128).collect();
        let mut outputs = Vec::new();
        for (from, claims) in [(2, lower), (3, Segments::ALL - lower)] {
            let beat = Heartbeat {
                incarnation: 1,
                sequence: self.sequence,
                term: 1,
                claims,
                ..Heartbeat::default()
            };
            outputs.extend(self.hear(from, Lane::Heartbeat, &beat.encode()));
        }
        outputs
    }

    /// What comes of a message, apart from heartbeats.
    fn hear(&mut self, from: u8, lane: Lane, octets: &[u8]) -> Vec<Output> {
        self.cluster.handle_message(self.now, id(from), lane, octets);
        self.outputs()
    }

    fn say(&mut self, from: u8, message: &ContextMessage) -> Vec<Output> {
        self.hear(from, Lane::Contexts, &message.encode())
    }

    fn outputs(&mut self) -> Vec<Output> {
        let outputs = std::iter::from_fn(|| self.cluster.poll());
        let heartbeat = |output: &Output| matches!(output, Output::Send { lane: Lane::Heartbeat, .. });
        outputs.filter(|output| !heartbeat(output)).collect()
    }

    fn apply(&mut self, from: u8, number: u64, result: Result<(), Refusal>) {
        self.cluster.handle(self.now, Event::Applied { from: id(from), number, result });
        self.outputs();
    }

    /// Holds a tunnel of node 2.
    fn holding() -> Self {
        let mut standby = Self::with_owners();
        standby.say(2, &put(1, OWN));
        standby.apply(2, 1, Ok(()));
        assert!(standby.holds());
        standby
    }

    fn holds(&self) -> bool {
        self.cluster.tunnels.held.contains_key(&tunnel())
    }

    fn disbelieved(&self) -> u64 {
        self.cluster.status().totals.disbelieved
    }

    fn accuses(&self, member: u8) -> bool {
        self.cluster.status().alarms.contains(&Alarm::NotTheOwner(id(member)))
    }
}

/// Nothing but answers, alarms and votes.
fn is_without_effect(outputs: &[Output]) -> bool {
    let harmless = |output: &Output| {
        matches!(output, Output::Send { .. } | Output::Alarm { .. } | Output::Notice(_) | Output::Remember(_))
    };
    outputs.iter().all(harmless)
}

#[test]
fn a_witness_has_no_say_about_contexts_counters_and_moves() {
    let mut standby = Standby::holding();
    let key = SaKey { direction: Key::Outbound, number: 1 };
    let reserve =
        CounterMessage::Reserve { number: 1, session: 1, items: vec![Reserved { key, number: u64::MAX }] };
    let segments = Segments::ALL;
    let contexts = [put(2, OWN), delete(3), ContextMessage::Complete { session: 9, segments }];
    let control = [
        ControlMessage::Transfer(transfer::request(1, 1, 1, segments).unwrap()),
        moving(segments),
        ControlMessage::Transfer(transfer::reply(1, segments, true)),
        ControlMessage::Transfer(crate::cxtp::Message::Cancel { peer: transfer::address(1) }),
        ControlMessage::Links(LinkAddresses { outer: Some([2; 6]), inner: None }),
    ];
    let contexts = contexts.iter().map(|message| (Lane::Contexts, message.encode()));
    let control = control.iter().map(|message| (Lane::Control, message.encode()));
    let mut said = 0;
    for (lane, octets) in contexts.chain(control).chain([(Lane::Counters, reserve.encode())]) {
        let outputs = standby.hear(9, lane, &octets);
        said += 1;
        assert!(is_without_effect(&outputs), "{outputs:?}");
        assert_eq!((standby.disbelieved(), standby.accuses(9)), (said, true), "{outputs:?}");
    }
    assert!(standby.holds());
    assert!(standby.cluster.neighbours().iter().all(|node| node.links == LinkAddresses::default()));
}

#[test]
fn a_node_has_no_say_about_what_another_one_owns() {
    for message in [put(2, OWN), put(2, OTHER), delete(2)] {
        let mut standby = Standby::holding();
        let first = standby.say(3, &message);
        assert!(first.is_empty(), "{first:?}");
        standby.after(40);
        let answered = standby.beat();
        assert!(is_without_effect(&answered), "{answered:?}");
        let refusal = ContextMessage::Acknowledge { number: 2, result: Err(Refusal::Unavailable) }.encode();
        let refused = |output: &Output| matches!(output, Output::Send { octets, .. } if octets.0 == refusal);
        assert!(answered.iter().any(refused), "{answered:?}");
        assert!(standby.holds() && standby.accuses(3));
        assert_eq!(standby.disbelieved(), 1);
    }
    let mut standby = Standby::holding();
    standby.say(3, &ContextMessage::Complete { session: 7, segments: Segments::ALL });
    standby.after(40).beat();
    assert!(standby.holds() && standby.accuses(3), "what is its own it may sweep, and no more");
    assert!(!standby.cluster.claims.sound.contains(OWN));
    assert!(standby.cluster.claims.sound.contains(OTHER));
}

#[test]
fn a_node_moves_only_what_is_its_own() {
    let mut standby = Standby::with_owners();
    let holds = |output: &Output| matches!(output, Output::Hold { until, .. } if !until.is_zero());
    let begun = |outputs: &[Output]| outputs.iter().any(holds);
    let outputs = standby.hear(3, Lane::Control, &moving(Segments::one(OWN)).encode());
    let refusal = ControlMessage::Transfer(transfer::reply(1, Segments::one(OWN), false)).encode();
    let refused = |output: &Output| matches!(output, Output::Send { octets, .. } if octets.0 == refusal);
    assert!(!begun(&outputs) && outputs.iter().any(refused), "{outputs:?}");
    assert_eq!((standby.disbelieved(), standby.accuses(3)), (1, true));
    let outputs = standby.hear(3, Lane::Control, &moving(Segments::one(OTHER)).encode());
    assert!(begun(&outputs), "{outputs:?}");
    assert_eq!(standby.disbelieved(), 1);
}

#[test]
fn reservations_are_for_what_their_sender_owns() {
    let mut standby = Standby::with_owners();
    let key = SaKey { direction: Key::Outbound, number: 1 };
    let items = vec![Reserved { key, number: u64::MAX }];
    let outputs =
        standby.hear(3, Lane::Counters, &CounterMessage::Reserve { number: 1, session: 1, items }.encode());
    match outputs.as_slice() {
        [Output::RaiseFloors { within, .. }] => assert!(!within.contains(OWN) && within.contains(OTHER)),
        other => panic!("{other:?}"),
    }
    let foreign = Segments::one(OWN);
    let raised = Event::FloorsRaised { from: id(3), number: 1, missing: vec![key], foreign };
    standby.cluster.handle(standby.now, raised);
    assert_eq!((standby.disbelieved(), standby.accuses(3)), (1, false), "it may own it since just now");
    standby.after(40).beat();
    assert!(standby.accuses(3));
}

#[test]
fn what_comes_before_its_heartbeat_waits_for_it() {
    let mut standby = Standby::new();
    assert!(standby.say(2, &put(1, OWN)).is_empty());
    assert!(standby.say(2, &delete(2)).is_empty());
    assert!(standby.say(2, &put(3, OWN)).is_empty());
    let order: Vec<u64> = standby
        .after(10)
        .beat()
        .iter()
        .filter_map(|output| match output {
            Output::Apply { number, .. } | Output::Remove { number, .. } => Some(*number),
            _ => None,
        })
        .collect();
    assert_eq!(order, [1, 2, 3]);
    assert_eq!(standby.disbelieved(), 0);
}

#[test]
fn messages_that_wait_are_bounded() {
    let mut standby = Standby::new();
    let content = Content {
        tunnel: tunnel(),
        segment: OWN,
        version: 1,
        octets: vec![0; 1 << 20].into(),
        reserved: Vec::new(),
    };
    for number in 1..=40 {
        standby.say(2, &ContextMessage::Put { number, session: 1, content: content.clone() });
    }
    assert!(standby.disbelieved() >= 24, "{}", standby.disbelieved());
    assert!(standby.cluster.peers[&id(2)].trust.octets <= EARLY_OCTETS);
    standby.cluster.handle(standby.now, Event::Disconnected { member: id(2) });
    assert_eq!(standby.cluster.peers[&id(2)].trust.octets, 0);
}

#[test]
fn a_context_that_was_refused_leaves_no_trace() {
    let mut standby = Standby::with_owners();
    standby.say(2, &put(1, OWN));
    assert!(!standby.holds(), "it is not here before it is installed");
    standby.apply(2, 1, Err(Refusal::Malformed));
    assert!(!standby.holds());
    standby.say(2, &put(2, OWN));
    standby.apply(2, 2, Ok(()));
    standby.say(2, &put(3, OWN));
    standby.apply(2, 3, Err(Refusal::Full));
    assert_eq!(standby.cluster.tunnels.held[&tunnel()].version, 2, "what was here before still is");
    standby.say(2, &delete(4));
    standby.apply(2, 4, Err(Refusal::Unavailable));
    assert!(standby.holds(), "what could not be removed is still known");
    standby.say(2, &delete(5));
    standby.apply(2, 5, Ok(()));
    assert!(!standby.holds());
}

/// A term that nobody can surpass would be the last one.
#[test]
fn no_member_ends_all_terms() {
    let mut standby = Standby::with_owners();
    let beat = |term| Heartbeat { incarnation: 1, sequence: 9, term, ..Heartbeat::default() }.encode();
    standby.hear(2, Lane::Heartbeat, &beat(u64::MAX));
    standby.hear(2, Lane::Heartbeat, &beat(wire::TERMS));
    assert_eq!(standby.cluster.status().totals.malformed, 2);
    let vote = wire::Vote { of: 1, sequence: 1, highest: wire::TERMS, ..wire::Vote::default() };
    standby.hear(9, Lane::Heartbeat, &vote.encode());
    assert_eq!(standby.cluster.status().totals.malformed, 3);
    assert_eq!(claims::next_term(u64::MAX), wire::TERMS - 1);
    let highest = wire::Vote { highest: wire::TERMS - 1, ..vote };
    standby.hear(9, Lane::Heartbeat, &highest.encode());
    for _ in 0..50 {
        let now = standby.after(10).now;
        standby.cluster.handle_timeout(now);
    }
    assert!(standby.cluster.status().term < wire::TERMS, "no overflow");
}
