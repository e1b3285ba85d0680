//! What becomes of datagrams between their sender and their receiver.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use crate::random::Random;

/// Datagrams that an attacker remembers.
const RECORDED: usize = 300;

#[derive(Debug, Clone)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub marked: bool,
    pub octets: Vec<u8>,
}

/// How bad the network is; chances in a thousand for each datagram.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    pub lost: u64,
    pub doubled: u64,
    pub cut: u64,
    pub damaged: u64,
    /// An older one comes along with it.
    pub replayed: u64,
    /// It comes as if from somewhere else.
    pub from_elsewhere: u64,
    pub delay: Duration,
}

impl Faults {
    pub const NONE: Self = Self {
        lost: 0,
        doubled: 0,
        cut: 0,
        damaged: 0,
        replayed: 0,
        from_elsewhere: 0,
        delay: Duration::from_millis(10),
    };

    pub fn random(random: &mut Random) -> Self {
        let mut up_to = |most| if random.per_mille(300) { 0 } else { random.below(most) };
        Self {
            lost: up_to(350),
            doubled: up_to(250),
            cut: up_to(40),
            damaged: up_to(40),
            replayed: up_to(150),
            from_elsewhere: up_to(300),
            delay: Duration::from_millis(10 + up_to(3000)),
        }
    }
}

pub struct Network {
    pub faults: Faults,
    random: Random,
    under_way: BTreeMap<(Duration, u64), Datagram>,
    recorded: VecDeque<Datagram>,
    serial: u64,
}

impl Network {
    pub const fn new(random: Random, faults: Faults) -> Self {
        Self { faults, random, under_way: BTreeMap::new(), recorded: VecDeque::new(), serial: 0 }
    }

    pub fn send(&mut self, now: Duration, datagram: Datagram) {
        let faults = self.faults;
        self.record(&datagram);
        if self.random.per_mille(faults.doubled) {
            self.deliver(now, datagram.clone());
        }
        if self.random.per_mille(faults.replayed) {
            self.replay(now);
        }
        if !self.random.per_mille(faults.lost) {
            let datagram = self.harmed(datagram);
            self.deliver(now, datagram);
        }
    }

    /// From now on all is well; what is under way arrives.
    pub const fn heal(&mut self) {
        self.faults = Faults::NONE;
    }

    pub fn next_arrival(&self) -> Option<Duration> {
        self.under_way.keys().next().map(|(at, _)| *at)
    }

    pub fn arrival(&mut self, now: Duration) -> Option<Datagram> {
        let first = self.under_way.first_entry().filter(|first| first.key().0 <= now);
        first.map(std::collections::btree_map::OccupiedEntry::remove)
    }

    /// What an attacker has seen.
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.recorded.iter().map(|datagram| datagram.octets.clone()).collect()
    }

    fn deliver(&mut self, now: Duration, datagram: Datagram) {
        let spread = self.faults.delay.as_micros() as u64;
        self.serial += 1;
        let at = now + Duration::from_micros(1000 + self.random.below(spread));
        self.under_way.insert((at, self.serial), datagram);
    }

    fn harmed(&mut self, mut datagram: Datagram) -> Datagram {
        let octets = &mut datagram.octets;
        if self.random.per_mille(self.faults.cut) {
            octets.truncate(self.random.below(octets.len() as u64) as usize);
        }
        if self.random.per_mille(self.faults.damaged) && !octets.is_empty() {
            let at = self.random.below(octets.len() as u64) as usize;
            octets[at] ^= 1 << self.random.below(8);
        }
        datagram
    }

    fn record(&mut self, datagram: &Datagram) {
        if self.recorded.len() == RECORDED {
            // Some stay for long: those of IKE SAs that are over.
            let at = self.random.below(RECORDED as u64) as usize;
            self.recorded.remove(at);
        }
        self.recorded.push_back(datagram.clone());
    }

    fn replay(&mut self, now: Duration) {
        let at = self.random.below(self.recorded.len() as u64) as usize;
        let mut datagram = self.recorded[at].clone();
        if self.random.per_mille(self.faults.from_elsewhere) {
            datagram.from = SocketAddr::from(([198, 51, 100, 66], 4500));
        }
        self.deliver(now, datagram);
    }
}
