//! Small clusters over a network without faults.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_sad::NodeId;

use super::*;

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
        Self { now: Duration::ZERO, members, stopped: Vec::new(), cut: Vec::new(), leases: BTreeMap::new() }
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
        let mut sent = Vec::new();
        for (from, member) in self.members.iter_mut().filter(|(id, _)| !self.stopped.contains(id)) {
            while let Some(output) = member.poll() {
                match output {
                    Output::Send { to, lane, octets } => sent.push((*from, to, lane, octets)),
                    Output::SetLease { segments, until } => {
                        self.leases.extend(segments.iter().map(|s| ((*from, s), until)));
                    }
                    _ => {}
                }
            }
        }
        let any = !sent.is_empty();
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
