//! The data plane as a model: it keeps its rules, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton_ctx_transfer::cluster::{Edge, Key, Reserved, SaKey, Segments};
use baton_sad::Name;

use crate::setting::PACKETS;

/// Numbers below the highest that an inbound SA still tells apart.
const WINDOW: u64 = 32;

/// One SA.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sa {
    /// The last number taken, or the highest received.
    pub edge: u64,
    pub floor: u64,
    pub reserved: u64,
    pub mark: u64,
    /// Received within the window.
    pub seen: BTreeSet<u64>,
    /// A packet beyond the reservation came.
    pub wanted: u64,
    pub attention: bool,
    sent: u64,
}

/// A tunnel: one SA in each direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tunnel {
    pub segment: u8,
    pub version: u64,
    /// Of its keys.
    pub generation: u32,
    pub inbound: Sa,
    pub outbound: Sa,
}

/// What a node has in its table.
#[derive(Debug)]
pub struct Table {
    pub leases: Vec<Duration>,
    pub enforced: Segments,
    pub tunnels: BTreeMap<Name, Tunnel>,
    pub capacity: usize,
    pub epoch: u32,
    pub ivs: u64,
}

pub fn key(tunnel: &Name, generation: u32, direction: Key) -> SaKey {
    let index: u32 = tunnel.as_str()[1..].parse().expect("tunnels have numbers");
    SaKey { direction, number: u64::from(index << 16 | generation) }
}

impl Tunnel {
    pub fn new(segment: u8, version: u64, generation: u32) -> Self {
        let sa = || Sa { reserved: PACKETS, mark: PACKETS / 2, ..Sa::default() };
        Self { segment, version, generation, inbound: sa(), outbound: sa() }
    }

    pub fn sa(&mut self, direction: Key) -> &mut Sa {
        match direction {
            Key::Inbound => &mut self.inbound,
            Key::Outbound => &mut self.outbound,
        }
    }

    /// Nothing is sent or accepted any more.
    pub fn shut(&mut self) {
        (self.inbound.floor, self.outbound.floor) = (u64::MAX, u64::MAX);
    }

    pub fn is_shut(&self) -> bool {
        self.outbound.edge.max(self.outbound.floor) == u64::MAX
    }

    pub fn reserved(&self, name: &Name) -> Vec<Reserved> {
        let number = |direction, sa: &Sa| Reserved {
            key: key(name, self.generation, direction),
            number: sa.reserved.max(sa.floor),
        };
        vec![number(Key::Inbound, &self.inbound), number(Key::Outbound, &self.outbound)]
    }
}

impl Table {
    pub fn new(epoch: u32) -> Self {
        Self {
            leases: vec![Duration::ZERO; 256],
            enforced: Segments::NONE,
            tunnels: BTreeMap::new(),
            capacity: 1_000,
            epoch,
            ivs: 0,
        }
    }

    pub fn owns(&self, segment: u8, now: Duration) -> bool {
        self.leases[usize::from(segment)] > now
    }

    /// Takes the next outbound number.
    pub fn send(&mut self, name: &Name, now: Duration) -> Option<(u32, u64)> {
        let owned = self.tunnels.get(name).is_some_and(|tunnel| self.owns(tunnel.segment, now));
        let tunnel = self.tunnels.get_mut(name).filter(|_| owned)?;
        let enforced = self.enforced.contains(tunnel.segment);
        let sa = &mut tunnel.outbound;
        let next = sa.edge.max(sa.floor).checked_add(1)?;
        sa.attention |= enforced && next >= sa.mark;
        sa.sent += 1;
        if enforced && next > sa.reserved {
            return None;
        }
        sa.edge = next;
        self.ivs += 1;
        Some((tunnel.generation, next))
    }

    /// Whether an inbound packet is accepted.
    pub fn receive(&mut self, name: &Name, generation: u32, number: u64, now: Duration) -> bool {
        let owned = self.tunnels.get(name).is_some_and(|tunnel| self.owns(tunnel.segment, now));
        let Some(tunnel) = self.tunnels.get_mut(name).filter(|_| owned) else { return false };
        if tunnel.generation != generation {
            return false;
        }
        let enforced = self.enforced.contains(tunnel.segment);
        let sa = &mut tunnel.inbound;
        if number <= sa.floor || number + WINDOW <= sa.edge || sa.seen.contains(&number) {
            return false;
        }
        sa.attention |= enforced && number >= sa.mark;
        sa.sent += 1;
        if enforced && number > sa.reserved {
            sa.wanted = sa.wanted.max(number);
            return false;
        }
        sa.edge = sa.edge.max(number);
        sa.seen.insert(number);
        let oldest = sa.edge.saturating_sub(WINDOW);
        sa.seen.retain(|seen| *seen > oldest);
        true
    }

    /// SAs that have raised attention.
    pub fn edges(&mut self) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (name, tunnel) in &mut self.tunnels {
            for direction in [Key::Inbound, Key::Outbound] {
                let key = key(name, tunnel.generation, direction);
                let sa = tunnel.sa(direction);
                if std::mem::take(&mut sa.attention) {
                    let edge = sa.edge.max(sa.floor).max(std::mem::take(&mut sa.wanted));
                    let packets_per_second = std::mem::take(&mut sa.sent) * 100;
                    edges.push(Edge { key, tunnel: *name, edge, packets_per_second });
                }
            }
        }
        edges
    }

    pub fn find(&mut self, key: SaKey) -> Option<(u8, &mut Sa)> {
        self.tunnels.iter_mut().find_map(|(name, tunnel)| {
            (self::key(name, tunnel.generation, key.direction) == key)
                .then(|| (tunnel.segment, tunnel.sa(key.direction)))
        })
    }

    /// Workers keep to reservations from now on: each has one first.
    pub fn enforce(&mut self, segments: Segments, enforced: bool) {
        if !enforced {
            self.enforced -= segments;
            return;
        }
        self.enforced |= segments;
        for tunnel in self.tunnels.values_mut().filter(|t| segments.contains(t.segment)) {
            for direction in [Key::Inbound, Key::Outbound] {
                let sa = tunnel.sa(direction);
                let edge = sa.edge.max(sa.floor);
                sa.reserved = sa.reserved.max(edge.saturating_add(PACKETS));
                sa.mark = edge.saturating_add(PACKETS / 2);
            }
        }
    }
}
