//! The data plane of a node as a model: leases, reservations, floors, windows. Which SAs there are, the table says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton_ctx_transfer::cluster::{Edge, Key, Reserved, SaKey, Segments};
use baton_ike_proto::host::TunnelName;
use baton_sad::Name;

use crate::table::{Sa, Table};

/// Numbers below the highest that an inbound SA still tells apart.
const WINDOW: u64 = 32;
/// Further than anybody goes, and further than anybody can go.
const BEYOND: u64 = 1 << 31;
const NEVER: u64 = u64::MAX / 2;
/// N of the simulated clusters.
pub const PACKETS: u64 = 24;

/// What of an SA changes with each packet, and what bounds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counter {
    /// The last number taken, or the highest received.
    pub edge: u64,
    /// Up to here nothing is used any more.
    pub floor: u64,
    /// Beyond it nothing is used where reservations are enforced.
    pub reserved: u64,
    pub mark: u64,
    /// Received within the window.
    pub seen: BTreeSet<u64>,
    /// Nobody uses it: its counters are being moved.
    pub frozen: bool,
    pub wanted: u64,
    pub attention: bool,
    pub packets: u64,
}

impl Counter {
    pub fn used(&self) -> u64 {
        self.edge.max(self.floor)
    }

    /// Whether a number may be used; asks for more in time.
    fn is_granted(&mut self, number: u64, enforced: bool) -> bool {
        self.packets += 1;
        if !enforced {
            return true;
        }
        let is_granted = number <= self.reserved;
        self.attention |= number >= self.mark || !is_granted;
        self.wanted = if is_granted { self.wanted } else { self.wanted.max(number) };
        is_granted
    }

    /// The next number to send with.
    pub fn take(&mut self, enforced: bool) -> Option<u64> {
        let next = self.used() + 1;
        if self.frozen || !self.is_granted(next, enforced) {
            return None;
        }
        self.edge = next;
        Some(next)
    }

    /// Whether a received number is accepted.
    pub fn accept(&mut self, number: u64, enforced: bool) -> bool {
        let is_new = number > self.floor && number + WINDOW > self.edge && !self.seen.contains(&number);
        if self.frozen || !is_new || !self.is_granted(number, enforced) {
            return false;
        }
        self.edge = self.edge.max(number);
        self.seen.insert(number);
        let oldest = self.edge.saturating_sub(WINDOW);
        self.seen.retain(|seen| *seen > oldest);
        true
    }

    /// A copy at another node: what was received up to the edge counts as received.
    pub fn as_copy(&self) -> Self {
        let edge = self.used();
        Self { edge, floor: edge, reserved: edge, mark: edge, ..Self::default() }
    }

    fn wish(&mut self) -> Option<(u64, u64)> {
        let packets = std::mem::take(&mut self.packets);
        let wanted = std::mem::take(&mut self.wanted);
        std::mem::take(&mut self.attention).then(|| (self.used().max(wanted), packets * 100))
    }
}

/// What a node's workers look at.
#[derive(Debug)]
pub struct Plane {
    leases: Vec<Duration>,
    pub enforced: Segments,
    pub counters: BTreeMap<SaKey, Counter>,
}

pub fn inbound(spi: u32) -> SaKey {
    SaKey { direction: Key::Inbound, number: u64::from(spi) << 32 | u64::from(spi) }
}

pub fn outbound(reqid: u32, spi: u32) -> SaKey {
    SaKey { direction: Key::Outbound, number: u64::from(reqid) << 32 | u64::from(spi) }
}

/// The number of a tunnel, whose top octet is its segment.
pub fn number(tunnel: &TunnelName) -> u32 {
    TunnelName::parse(tunnel.as_str()).expect("tunnels have numbers").1
}

pub fn segment(tunnel: &TunnelName) -> u8 {
    number(tunnel).to_be_bytes()[0]
}

/// As the table has it.
pub fn name(tunnel: &TunnelName) -> Name {
    Name::new(tunnel.as_str()).expect("it fits")
}

/// All SAs of a table, by what finds their counters.
pub fn sas(table: &Table) -> impl Iterator<Item = (SaKey, &Sa)> {
    let received = table.inbound.values().map(|sa| (inbound(sa.spi), sa));
    received.chain(table.outbound.values().map(|sa| (outbound(sa.reqid, sa.spi), sa)))
}

impl Plane {
    pub fn new() -> Self {
        Self { leases: vec![Duration::ZERO; 256], enforced: Segments::NONE, counters: BTreeMap::new() }
    }

    pub fn owns(&self, segment: u8, local: Duration) -> bool {
        self.leases[usize::from(segment)] > local
    }

    /// Segments without a lease now.
    pub fn foreign(&self, local: Duration) -> BTreeSet<u8> {
        (0..=u8::MAX).filter(|segment| !self.owns(*segment, local)).collect()
    }

    pub fn set_lease(&mut self, segment: u8, until: Duration) {
        self.leases[usize::from(segment)] = until;
    }

    /// SAs have come and gone. One that is new has nothing reserved.
    pub fn follow(&mut self, table: &Table) {
        self.counters.retain(|key, _| match key.direction {
            Key::Inbound => table.inbound.contains_key(&(key.number as u32)),
            Key::Outbound => {
                let found = table.outbound.get(&((key.number >> 32) as u32));
                found.is_some_and(|sa| sa.spi == key.number as u32)
            }
        });
        for (key, _) in sas(table) {
            self.counters.entry(key).or_default();
        }
    }

    /// Workers keep to reservations from now on, each with something to use first.
    pub fn enforce(&mut self, table: &Table, segments: Segments, enforced: bool) {
        if !enforced {
            self.enforced -= segments;
            return;
        }
        self.enforced |= segments;
        for (key, _) in sas(table).filter(|(_, sa)| segments.contains(segment(&sa.tunnel))) {
            let counter = self.counters.entry(key).or_default();
            let edge = counter.used();
            counter.reserved = counter.reserved.max(edge + PACKETS);
            counter.mark = edge + PACKETS / 2;
        }
    }

    /// SAs that their owner may have used further than is known here: outbound ones go on beyond, inbound ones accept
    /// nothing any more.
    pub fn advance(&mut self, table: &Table, segments: Segments) {
        for (key, _) in sas(table).filter(|(_, sa)| segments.contains(segment(&sa.tunnel))) {
            let counter = self.counters.entry(key).or_default();
            counter.floor = match key.direction {
                Key::Outbound => counter.used().saturating_add(BEYOND).min(NEVER),
                Key::Inbound => NEVER,
            };
        }
    }

    /// How far the SAs of a tunnel may go.
    pub fn reserved(&self, key: SaKey) -> Reserved {
        let counter = &self.counters[&key];
        Reserved { key, number: counter.reserved.max(counter.used()) }
    }

    /// SAs that have raised attention.
    pub fn edges(&mut self, table: &Table) -> Vec<Edge> {
        let mut edges = Vec::new();
        for (key, sa) in sas(table) {
            let wish = self.counters.get_mut(&key).and_then(Counter::wish);
            if let Some((edge, packets_per_second)) = wish {
                edges.push(Edge { key, tunnel: name(&sa.tunnel), edge, packets_per_second });
            }
        }
        edges
    }
}
