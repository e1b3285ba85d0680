//! What members say to each other: no panic in a node or a witness whatever comes, in whatever order, and what can be
//! read is written again octet for octet.
//!
//! The first octet chooses who listens. Then come messages: who says it, on which lane, how long after the one before,
//! its length in two octets, and its octets.
#![no_main]

use std::time::Duration;

use baton_ctx_transfer::cluster::wire::{ContextMessage, ControlMessage, CounterMessage, PROTOCOL};
use baton_ctx_transfer::cluster::{Cluster, Configuration, Event, Lane, Member, Output, Role};
use baton_sad::NodeId;
use libfuzzer_sys::fuzz_target;

const LANES: [Lane; 4] = [Lane::Heartbeat, Lane::Contexts, Lane::Counters, Lane::Control];

fuzz_target!(|input: &[u8]| {
    let Some((first, mut rest)) = input.split_first() else { return };
    let mut member = member(*first);
    let mut now = Duration::from_secs(1);
    while let Some(([from, lane, after, high, low], more)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes([*high, *low])).min(more.len());
        let (octets, more) = more.split_at(length);
        rest = more;
        let lane = LANES[usize::from(*lane % 4)];
        now += Duration::from_millis(u64::from(*after % 32));
        written_again(lane, octets);
        member.handle_message(now, id(1 + *from % 4), lane, octets);
        answer(&mut member, now);
        member.handle_timeout(now);
        answer(&mut member, now);
    }
    let _ = member.status();
});

fn id(number: u8) -> NodeId {
    NodeId::new(number).expect("not 0")
}

fn member(who: u8) -> Cluster {
    let node = |number| Member { id: id(number), role: Role::Node, priority: 100 };
    let witness = Member { id: id(4), role: Role::Witness, priority: 0 };
    let members = vec![node(1), node(2), node(3), witness];
    let me = id(if who % 2 == 0 { 1 } else { 4 });
    let start = Duration::from_secs(1);
    let mut cluster = Cluster::new(Configuration::new(me, members), start, 7, &[]).expect("valid");
    cluster.handle(start, Event::Dataplane { ready: me == id(1) });
    for other in (1..=4).map(id).filter(|other| *other != me) {
        cluster.handle(start, Event::Connected { member: other });
    }
    cluster
}

/// Does what is wanted as a driver would, at once.
fn answer(member: &mut Cluster, now: Duration) {
    while let Some(output) = member.poll() {
        let event = match output {
            Output::Apply { from, number, .. } | Output::Remove { from, number, .. } => {
                Event::Applied { from, number, result: Ok(()) }
            }
            Output::ReadContext { tunnel } => Event::NoContent { tunnel },
            Output::Hold { from, number, .. } => Event::Holding { from, number },
            Output::Stage { from, number, .. } => Event::Staged { from, number, result: Ok(()) },
            Output::Silence { number, .. } => Event::Silent { number, tunnels: Vec::new() },
            Output::Freeze { number, .. } => Event::Frozen { number, parts: Vec::new() },
            Output::Commit { segments, .. } => Event::Prepared { segments, exact: true },
            Output::Prepare { segments, .. } => Event::Prepared { segments, exact: false },
            _ => continue,
        };
        member.handle(now, event);
    }
}

fn written_again(lane: Lane, octets: &[u8]) {
    if octets.first() != Some(&PROTOCOL) {
        return;
    }
    match lane {
        Lane::Heartbeat => {}
        Lane::Contexts => {
            if let Ok(message) = ContextMessage::decode(octets) {
                assert_eq!(&message.encode()[..], octets);
            }
        }
        Lane::Counters => {
            if let Ok(message) = CounterMessage::decode(octets) {
                assert_eq!(&message.encode()[..], octets);
            }
        }
        Lane::Control => {
            if let Ok(message) = ControlMessage::decode(octets) {
                assert_eq!(&message.encode()[..], octets);
            }
        }
    }
}
