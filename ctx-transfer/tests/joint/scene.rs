//! What is simulated.

use std::time::Duration;

use baton_ctx_transfer::cluster::{Configuration, Member, Replicating, Reserving, Role};
use baton_ike_proto::configuration::{EndAction, Fragmentation, Retransmission, Unique};
use baton_sad::NodeId;

use crate::network::Faults;
use crate::plane::PACKETS;
use crate::random::Random;
use crate::setting::{SYNCHRONIZES, Setting};

/// Machines of the cluster and around it.
#[derive(Debug, Clone)]
pub struct Scene {
    pub members: Vec<Member>,
    /// The cluster is its node 0, the peers are the others.
    pub setting: Setting,
    /// Between gateways and peers.
    pub outer: Faults,
    /// Of datagrams between members, in a thousand.
    pub lost: u64,
    pub doubled: u64,
    /// Of messages between members, in microseconds, at most.
    pub delay: u64,
    /// How long a thread of the cluster daemon takes for one thing, in microseconds, at most.
    pub work: u64,
    pub faults: u64,
    pub heartbeat: Duration,
}

pub fn id(number: u8) -> NodeId {
    NodeId::new(number).expect("not 0")
}

const IKE: [&str; 2] = ["aes128gcm16-prfsha256-x25519", "aes128-sha256-x25519"];
const ESP: [&str; 2] = ["aes128gcm16", "aes128gcm16-x25519"];

impl Scene {
    pub fn random(random: &mut Random) -> Self {
        let nodes = if random.per_mille(250) { 3 } else { 2 };
        let witness = random.per_mille(if nodes == 2 { 700 } else { 300 });
        let calm = random.per_mille(300);
        let up_to = |random: &mut Random, most| if calm { 0 } else { random.below(most) };
        Self {
            members: members(nodes, witness),
            setting: setting(random),
            outer: Faults {
                lost: up_to(random, 120),
                doubled: up_to(random, 150),
                replayed: up_to(random, 100),
                damaged: up_to(random, 20),
                delay: Duration::from_millis(2 + up_to(random, 40)),
                ..Faults::NONE
            },
            lost: up_to(random, 80),
            doubled: up_to(random, 80),
            delay: 200 + random.below(if calm { 500 } else { 4_000 }),
            work: 50 + random.below(1_500),
            faults: 1 + random.below(6),
            heartbeat: Duration::from_millis(if random.per_mille(400) { 10 } else { 20 }),
        }
    }

    pub fn configuration(&self, me: NodeId) -> Configuration {
        let configuration = Configuration {
            settle: Duration::from_millis(100),
            move_batch: 64,
            replicating: Replicating { window: 8_192, ..Replicating::default() },
            reserving: Reserving { packets: PACKETS, minimum: 8, ..Reserving::default() },
            ..Configuration::new(me, self.members.clone())
        };
        configuration.with_heartbeat(self.heartbeat, 3)
    }

    /// Longer than a lease: a core that does not answer owns nothing by then.
    pub fn replication_wait(&self) -> Duration {
        self.heartbeat * 5
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

/// How IKE is configured at both ends.
fn setting(random: &mut Random) -> Setting {
    let nodes = 1 + 2 + random.below(3) as usize;
    let proposals = *random.pick(&IKE).expect("some");
    Setting {
        nodes,
        behind_nat: vec![false; nodes],
        children: 1 + random.below(2) as usize,
        ike_proposals: proposals,
        first_proposals: proposals,
        esp_proposals: random.pick(&ESP).expect("some"),
        fragmentation: if random.per_mille(500) { Fragmentation::Yes } else { Fragmentation::Force },
        fragment_size: if random.per_mille(700) { 1280 } else { 250 },
        window: 1 + random.below(3) as u32,
        dpd_action: EndAction::Start,
        unique: if random.per_mille(250) { Unique::Replace } else { Unique::No },
        synchronizes: *random.pick(&SYNCHRONIZES).expect("some"),
        dpd_delay: Duration::from_millis(700 + random.below(1_300)),
        retransmission: Retransmission {
            first: Duration::from_millis(120),
            base: 1.5,
            tries: 8,
            limit: Duration::from_secs(1),
        },
        ..Setting::plain()
    }
}
