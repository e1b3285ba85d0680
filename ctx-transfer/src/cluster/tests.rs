//! Small clusters over a network without faults.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_sad::{Name, NodeId};

use super::*;

mod load;
mod moves;
mod standbys;

/// Of node 1's tunnel.
const SEGMENT: u8 = 0;

fn id(number: u8) -> NodeId {
    NodeId::new(number).unwrap()
}

fn members(nodes: u8, witness: bool) -> Vec<Member> {
    let node = |number| Member { id: id(number), role: Role::Node, priority: 100 };
    let witness = witness.then_some(Member { id: id(200), role: Role::Witness, priority: 0 });
    (1..=nodes).map(node).chain(witness).collect()
}

/// Members whose messages arrive at once; those in `stopped` do nothing.
struct Net {
    now: Duration,
    members: BTreeMap<NodeId, Cluster>,
    stopped: Vec<NodeId>,
    cut: Vec<(NodeId, NodeId)>,
    leases: BTreeMap<(NodeId, u8), Duration>,
    /// What standbys answer to a context, or to the end of a tunnel; nothing yet if there is nothing.
    verdict: Option<Result<(), Refusal>>,
    unanswered: Vec<(NodeId, NodeId, u64)>,
    /// Contexts that were read, if reading takes its time.
    read: Option<Vec<(NodeId, Event)>>,
    /// What else came out.
    done: Vec<(NodeId, Output)>,
    /// Drivers that do not answer what a planned move or a takeover asks of them.
    busy: Vec<NodeId>,
}

impl Net {
    fn new(nodes: u8, witness: bool) -> Self {
        let list = members(nodes, witness);
        let start = |member: &Member| {
            let config = Configuration::new(member.id, list.clone());
            let mut cluster = Cluster::new(config, Duration::ZERO, u64::from(member.id.get()), &[]).unwrap();
            cluster.handle(Duration::ZERO, Event::Dataplane { ready: true });
            for other in list.iter().filter(|other| other.id != member.id) {
                cluster.handle(Duration::ZERO, Event::Connected { member: other.id });
            }
            (member.id, cluster)
        };
        let members = list.iter().map(start).collect();
        Self {
            now: Duration::ZERO,
            members,
            stopped: Vec::new(),
            cut: Vec::new(),
            leases: BTreeMap::new(),
            verdict: Some(Ok(())),
            unanswered: Vec::new(),
            read: None,
            done: Vec::new(),
            busy: Vec::new(),
        }
    }

    fn run(&mut self, milliseconds: u64) {
        for _ in 0..milliseconds {
            self.now += Duration::from_millis(1);
            let ids: Vec<_> = self.members.keys().copied().filter(|id| !self.stopped.contains(id)).collect();
            for id in ids {
                let member = self.members.get_mut(&id).unwrap();
                if member.next_timeout().is_some_and(|due| due <= self.now) {
                    member.handle_timeout(self.now);
                }
            }
            while self.deliver() {}
            self.check();
        }
    }

    fn deliver(&mut self) -> bool {
        let (mut sent, mut done) = (Vec::new(), Vec::new());
        for (from, member) in self.members.iter_mut().filter(|(id, _)| !self.stopped.contains(id)) {
            while let Some(output) = member.poll() {
                match output {
                    Output::Send { to, lane, octets } => sent.push((*from, to, lane, octets)),
                    Output::SetLease { segments, until } => {
                        self.leases.extend(segments.iter().map(|s| ((*from, s), until)));
                    }
                    other => done.push((*from, other)),
                }
            }
        }
        let any = !sent.is_empty() || !done.is_empty();
        for (id, output) in done {
            self.perform(id, output);
        }
        for (from, to, lane, octets) in sent {
            if !self.stopped.contains(&to)
                && !self.cut.contains(&(from, to))
                && !self.cut.contains(&(to, from))
            {
                self.members.get_mut(&to).unwrap().handle_message(self.now, from, lane, &octets.0);
            }
        }
        any
    }

    /// As a driver does it, whose data plane answers at once.
    fn perform(&mut self, id: NodeId, output: Output) {
        match &output {
            Output::ReadContext { tunnel } => {
                let version = self.members[&id].tunnels.own[tunnel].version;
                let octets = Octets::from(vec![0; 9]);
                let (tunnel, reserved) = (*tunnel, Vec::new());
                let content = Content { tunnel, segment: SEGMENT, version, octets, reserved };
                match &mut self.read {
                    Some(read) => read.push((id, Event::Content(content))),
                    None => self.tell(id, Event::Content(content)),
                }
            }
            Output::Apply { from, number, .. } | Output::Remove { from, number, .. } => {
                self.unanswered.push((id, *from, *number));
            }
            _ => {}
        }
        let is_busy = self.busy.contains(&id) && !matches!(output, Output::Hold { .. });
        if let Some(answer) = answer_of_mover(&output).filter(|_| !is_busy) {
            self.tell(id, answer);
        }
        self.done.push((id, output));
        if let Some(result) = self.verdict {
            for (id, from, number) in std::mem::take(&mut self.unanswered) {
                self.tell(id, Event::Applied { from, number, result });
            }
        }
    }

    fn tell(&mut self, id: NodeId, event: Event) {
        let now = self.now;
        self.members.get_mut(&id).unwrap().handle(now, event);
    }

    /// The IKE daemon of node 1 changes its tunnel, and waits.
    fn change(&mut self, version: u64) {
        let tunnel = Name::new("site-a").unwrap();
        self.tell(id(1), Event::TunnelChanged { tunnel, segment: SEGMENT, version });
        self.tell(id(1), Event::Await { tunnel, version });
    }

    /// Of node 1's standby.
    fn is_ready(&self) -> bool {
        self.members[&id(1)].status().members[0].ready.contains(SEGMENT)
    }

    fn rekeyed(&self) -> bool {
        let advances = |output: &Output| match output {
            Output::Prepare { advance, .. } => advance.contains(SEGMENT),
            _ => false,
        };
        self.done.iter().any(|(_, output)| advances(output))
    }

    /// What node 1 has said of its standbys.
    fn synced(&self) -> Vec<bool> {
        let synced = |(of, output): &(NodeId, Output)| match output {
            Output::Synced(synced) if *of == id(1) => Some(*synced),
            _ => None,
        };
        self.done.iter().filter_map(synced).collect()
    }

    /// I4, as the leases in the tables say it.
    fn check(&self) {
        if self.members.values().all(|member| member.ownership.is_exclusive()) {
            for segment in 0..=u8::MAX {
                let holds = |id: &&NodeId| self.leases.get(&(**id, segment)).is_some_and(|at| *at > self.now);
                assert!(
                    self.members.keys().filter(holds).count() <= 1,
                    "two own {segment} at {:?}",
                    self.now
                );
            }
        }
    }

    fn owned(&self, number: u8) -> usize {
        self.members[&id(number)].status().owned.len()
    }
}

/// A driver does at once what a planned move or a takeover asks for.
fn answer_of_mover(output: &Output) -> Option<Event> {
    match *output {
        Output::Silence { number, .. } => Some(Event::Silent { number, tunnels: Vec::new() }),
        Output::Freeze { number, .. } => Some(Event::Frozen { number, parts: Vec::new() }),
        Output::Hold { from, number, .. } => Some(Event::Holding { from, number }),
        Output::Stage { from, number, .. } => Some(Event::Staged { from, number, result: Ok(()) }),
        Output::Commit { segments, .. } => Some(Event::Prepared { segments, exact: true }),
        Output::Prepare { segments, .. } => Some(Event::Prepared { segments, exact: false }),
        _ => None,
    }
}

#[test]
fn nodes_that_start_together_share_the_segments() {
    for (nodes, witness) in [(1, false), (2, false), (2, true), (3, false), (4, true)] {
        let mut net = Net::new(nodes, witness);
        net.run(200);
        let owned: Vec<_> = (1..=nodes).map(|number| net.owned(number)).collect();
        assert_eq!(owned.iter().sum::<usize>(), SEGMENTS, "{owned:?}");
        assert!(owned.iter().all(|owned| *owned >= SEGMENTS / usize::from(nodes)), "{owned:?}");
    }
}

#[test]
fn a_silent_node_is_replaced_within_fifty_milliseconds_of_its_last_word() {
    for (nodes, witness) in [(2, false), (2, true), (3, false)] {
        let mut net = Net::new(nodes, witness);
        net.run(500);
        net.stopped.push(id(1));
        net.run(50);
        let left: usize = (2..=nodes).map(|number| net.owned(number)).sum();
        assert_eq!(left, SEGMENTS, "{nodes} {witness}");
    }
}

#[test]
fn a_node_that_was_paused_owns_nothing_when_it_goes_on() {
    let mut net = Net::new(2, true);
    net.run(300);
    net.stopped.push(id(1));
    net.run(100);
    net.stopped.clear();
    net.run(5);
    assert_eq!((net.owned(1), net.owned(2)), (0, SEGMENTS));
    assert_eq!(net.members[&id(1)].status().totals.pauses, 1);
}

impl Net {
    fn set_link(&mut self, number: u8, side: Side, up: bool) {
        self.members.get_mut(&id(number)).unwrap().handle(self.now, Event::Link { side, up });
    }

    fn is_alarmed(&self, number: u8, side: Side) -> bool {
        self.members[&id(number)].status().alarms.contains(&Alarm::NoLink(side))
    }
}

#[test]
fn a_node_without_a_link_owns_nothing_until_it_has_had_it_for_a_while() {
    for (nodes, witness) in [(2, false), (2, true), (3, false)] {
        let mut net = Net::new(nodes, witness);
        net.run(2000);
        net.set_link(1, Side::Inner, false);
        assert!(net.is_alarmed(1, Side::Inner));
        // Nobody freezes anything here, so no planned move succeeds: it lets go when their time is over.
        net.run(1300);
        let left: usize = (2..=nodes).map(|number| net.owned(number)).sum();
        assert_eq!((net.owned(1), left), (0, SEGMENTS), "{nodes} {witness}");
        net.set_link(1, Side::Outer, false);
        net.set_link(1, Side::Inner, true);
        net.run(1100);
        assert!(net.is_alarmed(1, Side::Outer) && !net.is_alarmed(1, Side::Inner));
        net.set_link(1, Side::Outer, true);
        net.run(500);
        let idle = |net: &Net| net.members[&id(2)].status().members.iter().any(|member| member.idle);
        assert!(idle(&net), "it may go again");
        net.run(600);
        assert!(!idle(&net) && !net.is_alarmed(1, Side::Outer));
    }
}

#[test]
fn links_that_all_nodes_have_lost_move_nothing() {
    let mut net = Net::new(2, true);
    net.run(2000);
    for number in [1, 2] {
        net.set_link(number, Side::Outer, false);
    }
    net.run(3000);
    assert_eq!(net.owned(1) + net.owned(2), SEGMENTS, "nobody could do better");
    for number in [1, 2] {
        net.set_link(number, Side::Outer, true);
    }
    net.run(2000);
    assert_eq!((net.owned(1), net.owned(2)), (SEGMENTS / 2, SEGMENTS / 2));
    let totals = net.members[&id(1)].status().totals;
    assert_eq!((totals.takeovers, totals.moves), (0, 0));
}

#[test]
fn a_node_that_is_left_alone_has_its_segments_again_as_soon_as_its_link_is_back() {
    for witness in [false, true] {
        let mut net = Net::new(2, witness);
        net.run(2000);
        net.stopped.push(id(2));
        net.run(200);
        net.set_link(1, Side::Outer, false);
        net.run(3000);
        // With a witness the other could live, unheard, and take over.
        assert_eq!(net.owned(1), if witness { 0 } else { SEGMENTS });
        net.set_link(1, Side::Outer, true);
        net.run(200);
        assert_eq!(net.owned(1), SEGMENTS);
        assert_eq!(net.members[&id(1)].status().totals.rekeyed, 0, "it has lost nothing");
    }
}

#[test]
fn without_a_majority_nobody_owns_anything() {
    let mut net = Net::new(2, true);
    net.run(300);
    net.stopped.extend([id(2), id(200)]);
    net.run(300);
    assert_eq!(net.owned(1), 0);
    assert!(net.members[&id(1)].status().alarms.contains(&Alarm::NoMajority));
    net.stopped.clear();
    net.run(400);
    assert_eq!(net.owned(1) + net.owned(2), SEGMENTS);
}

#[test]
fn a_pair_that_was_parted_agrees_when_it_meets_again() {
    let mut net = Net::new(2, false);
    net.run(300);
    net.cut.push((id(1), id(2)));
    net.run(300);
    assert_eq!((net.owned(1), net.owned(2)), (SEGMENTS, SEGMENTS));
    net.cut.clear();
    net.run(100);
    assert_eq!(net.owned(1) + net.owned(2), SEGMENTS);
}

#[test]
fn a_witness_that_has_just_started_promises_nothing_for_one_lease() {
    let witness = Member { id: id(200), role: Role::Witness, priority: 0 };
    let mut list = members(2, false);
    list.push(witness);
    let config = Configuration::new(witness.id, list);
    let mut cluster = Cluster::new(config.clone(), Duration::ZERO, 1, &[]).unwrap();
    let mut granted = |at: u64, sequence| {
        let beat = wire::Heartbeat {
            incarnation: 1,
            sequence,
            term: 1,
            claims: Segments::ALL,
            fresh: Segments::ALL,
            ..wire::Heartbeat::default()
        };
        cluster.handle_message(Duration::from_millis(at), id(1), Lane::Heartbeat, &beat.encode());
        std::iter::from_fn(|| cluster.poll()).find_map(|output| match output {
            Output::Send { octets, .. } => wire::Beat::decode(&octets.0).ok(),
            _ => None,
        })
    };
    let share = |vote| match vote {
        Some(wire::Beat::Vote(vote)) => vote.granted.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(share(granted(29, 1)), 0);
    assert_eq!(share(granted(30, 2)), SEGMENTS);
    assert_eq!(granted(30, 2), None, "a repeated heartbeat");
}

/// I2: what was read before says less than what is reserved without a question when enforcement begins.
#[test]
fn a_context_that_was_read_before_reservations_are_enforced_is_read_again() {
    let mut net = Net::new(2, true);
    net.run(300);
    let now = net.now;
    let owner = net.members.get_mut(&id(1)).unwrap();
    let segment = owner.status().owned.iter().next().unwrap();
    let tunnel = baton_sad::Name::new("site-a").unwrap();
    let content = Content { tunnel, segment, version: 1, octets: Vec::new().into(), reserved: Vec::new() };
    let tell = |owner: &mut Cluster, event| {
        owner.handle(now, event);
        let outputs: Vec<_> = std::iter::from_fn(|| owner.poll()).collect();
        let read = outputs.iter().any(|output| matches!(output, Output::ReadContext { .. }));
        let put = outputs.iter().any(|output| matches!(output, Output::Send { lane: Lane::Contexts, .. }));
        (read, put)
    };
    let changed = |version| Event::TunnelChanged { tunnel, segment, version };
    assert_eq!(tell(owner, changed(1)), (true, false));
    assert_eq!(tell(owner, Event::Content(content.clone())), (false, true));
    assert_eq!(tell(owner, changed(2)), (true, false));
    owner.stop_enforcing(Segments::one(segment));
    assert_eq!(tell(owner, Event::Content(content.clone())), (true, false), "read again, and not sent");
    assert_eq!(tell(owner, Event::Content(content)), (false, true));
}

/// The answer to a peer that has ended its tunnel waits until the standby has forgotten it, and not longer.
#[test]
fn the_end_of_a_tunnel_is_waited_for() {
    let mut net = Net::new(2, true);
    net.run(300);
    let (now, tunnel) = (net.now, baton_sad::Name::new("site-a").unwrap());
    let owner = net.members.get_mut(&id(1)).unwrap();
    let segment = owner.status().owned.iter().next().unwrap();
    owner.handle(now, Event::TunnelChanged { tunnel, segment, version: 1 });
    let reserved = Vec::new();
    owner.handle(
        now,
        Event::Content(Content { tunnel, segment, version: 1, octets: vec![].into(), reserved }),
    );
    while net.deliver() {}
    let owner = net.members.get_mut(&id(1)).unwrap();
    owner.handle(now, Event::TunnelDeleted { tunnel });
    owner.handle(now, Event::Await { tunnel, version: 2 });
    let outputs: Vec<_> = std::iter::from_fn(|| owner.poll()).collect();
    let number = outputs.iter().find_map(|output| match output {
        Output::Send { lane: Lane::Contexts, octets, .. } => match wire::ContextMessage::decode(&octets.0) {
            Ok(wire::ContextMessage::Delete { number, .. }) => Some(number),
            other => panic!("{other:?}"),
        },
        Output::Replicated { .. } => panic!("the standby does not know yet"),
        _ => None,
    });
    let answer = wire::ContextMessage::Acknowledge { number: number.expect("a deletion"), result: Ok(()) };
    owner.handle_message(now, id(2), Lane::Contexts, &answer.encode());
    let done = Output::Replicated { tunnel, version: 2, outcome: Replication::Done };
    assert!(std::iter::from_fn(|| owner.poll()).any(|output| output == done));
}

#[test]
fn nodes_know_where_the_others_are_on_their_links() {
    let list = members(2, true);
    let links = LinkAddresses { outer: Some([2, 0, 0, 0, 0, 1]), inner: Some([2, 0, 0, 0, 0, 2]) };
    let config = Configuration { links, ..Configuration::new(id(1), list.clone()) };
    let mut sender = Cluster::new(config, Duration::ZERO, 1, &[]).unwrap();
    let mut receiver = Cluster::new(Configuration::new(id(2), list), Duration::ZERO, 2, &[]).unwrap();
    let mut sent = |to| {
        sender.handle(Duration::ZERO, Event::Connected { member: to });
        let outputs = std::iter::from_fn(|| sender.poll());
        let octets = outputs.filter_map(|output| match output {
            Output::Send { lane: Lane::Control, octets, .. } => Some(octets),
            _ => None,
        });
        octets.collect::<Vec<_>>()
    };
    assert_eq!(sent(id(200)).len(), 1, "a witness has no use for it");
    for octets in sent(id(2)) {
        receiver.handle_message(Duration::ZERO, id(1), Lane::Control, &octets.0);
    }
    let seen = receiver.neighbours();
    assert_eq!(
        seen.iter().map(|node| (node.id, node.links)).collect::<Vec<_>>(),
        [(id(1), links), (id(2), LinkAddresses::default())]
    );
}
