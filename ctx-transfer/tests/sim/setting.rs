//! What is simulated.

use std::time::Duration;

use baton_ctx_transfer::cluster::{Configuration, Member, Replicating, Reserving, Role};
use baton_sad::NodeId;

use crate::random::Random;

/// N of the simulated clusters.
pub const PACKETS: u64 = 64;

#[derive(Debug, Clone)]
pub struct Setting {
    pub members: Vec<Member>,
    pub tunnels: usize,
    /// Of datagrams, in a thousand.
    pub lost: u64,
    pub doubled: u64,
    /// Of datagrams, in microseconds, at most.
    pub delay: u64,
    /// How long the data plane takes to answer its driver, in microseconds, at most.
    pub answer: u64,
    pub faults: u64,
    /// Inbound SAs are reported, not reserved: what was received since the last report may be received again (I3).
    pub continuity: bool,
}

pub fn id(number: u8) -> NodeId {
    NodeId::new(number).expect("not 0")
}

impl Setting {
    pub fn random(random: &mut Random) -> Self {
        let nodes = [2, 2, 2, 2, 3, 4][random.below(6) as usize];
        let witness = random.per_mille(if nodes == 2 { 700 } else { 300 });
        let calm = random.per_mille(300);
        Self {
            members: members(nodes, witness),
            tunnels: 3 + random.below(6) as usize,
            lost: if calm { 0 } else { random.below(80) },
            doubled: if calm { 0 } else { random.below(80) },
            delay: 200 + random.below(if calm { 500 } else { 4_000 }),
            answer: 50 + random.below(1_500),
            faults: 2 + random.below(7),
            continuity: random.per_mille(120),
        }
    }

    pub fn configuration(&self, me: NodeId) -> Configuration {
        Configuration {
            settle: Duration::from_millis(100),
            move_batch: 64,
            replicating: Replicating { window: 4_096, ..Replicating::default() },
            reserving: Reserving {
                packets: PACKETS,
                minimum: 8,
                continuity: self.continuity,
                ..Reserving::default()
            },
            ..Configuration::new(me, self.members.clone())
        }
    }

    /// Whether a second owner is kept out whatever the network does.
    pub fn is_exclusive(&self) -> bool {
        self.members.len() != 2
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.members.iter().filter(|member| member.role == Role::Node).map(|member| member.id).collect()
    }
}

fn members(nodes: u8, witness: bool) -> Vec<Member> {
    let node = |number| Member { id: id(number), role: Role::Node, priority: 100 };
    let witness = witness.then_some(Member { id: id(200), role: Role::Witness, priority: 0 });
    (1..=nodes).map(node).chain(witness).collect()
}
