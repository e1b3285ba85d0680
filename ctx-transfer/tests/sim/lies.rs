//! A witness that says what only owners may: it must not be believed.

use std::time::Duration;

use baton_ctx_transfer::cluster::wire::{ContextMessage, CounterMessage};
use baton_ctx_transfer::cluster::{Lane, Octets, Role, Segments};
use baton_sad::{Name, NodeId};

use crate::random::Random;
use crate::world::{Coming, World};

/// Lies of one run.
const LIES: u64 = 6;

impl World {
    /// Plans lies over a time. They follow from numbers of their own, so that all else happens as without them.
    pub fn plan_lies(&mut self, seed: u64, time: Duration) {
        let mut random = Random::new(!seed);
        let witness = self.setting.members.iter().find(|member| member.role == Role::Witness);
        let Some(from) = witness.map(|witness| witness.id) else { return };
        for _ in 0..LIES {
            let at = random.micros(100_000, time.as_micros() as u64);
            let to = random.pick(&self.setting.nodes()).expect("there are nodes");
            self.lie(from, to, at, &mut random);
        }
    }

    fn lie(&mut self, from: NodeId, to: NodeId, at: Duration, random: &mut Random) {
        self.count("lies");
        let (number, session) = (random.next(), random.next());
        let names: Vec<Name> = self.peers.keys().copied().collect();
        let tunnel = random.pick(&names).expect("there are tunnels");
        let (lane, octets) = match random.below(4) {
            0 => (Lane::Contexts, ContextMessage::Complete { session, segments: Segments::ALL }.encode()),
            1 => (Lane::Contexts, ContextMessage::Acknowledge { number, result: Ok(()) }.encode()),
            2 => (Lane::Counters, CounterMessage::Acknowledge { number, missing: Vec::new() }.encode()),
            _ => (Lane::Contexts, ContextMessage::Delete { number, tunnel }.encode()),
        };
        self.later(at, Coming::Datagram { from, to, lane, octets: Octets::from(octets) });
    }
}
