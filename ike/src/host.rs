//! What the protocol needs from the node: randomness, IVs, segments, routes.

use std::net::IpAddr;
use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use baton_dataplane::steering::{HashMode, segment_of};
use baton_dataplane::worker::monotonic_ns;
use baton_ike_proto::Host;
use baton_ike_proto::host::Volume;
use baton_sad::{Direction, IvBlock, Table};
use tracing::error;

use crate::sockets::Routes;

/// IVs that are drawn at once: a crash wastes the rest, of 2^32 in an epoch.
const IVS_AT_ONCE: u32 = 64;

/// A peer's segment before it knows an SPI of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Steering {
    /// What the hash covers.
    pub mode: HashMode,
    /// Its seed.
    pub seed: u32,
    /// IKE's port: in some modes the hash covers both ports.
    pub port: u16,
}

/// This node, as the protocol sees it.
#[derive(Debug)]
pub struct Node {
    table: Arc<Table>,
    steering: Steering,
    routes: Routes,
    /// Of this host, as far as they are known.
    addresses: Vec<IpAddr>,
    /// Those that tunnels have given it: nothing is reached outside from them, whatever routes say.
    inside: Vec<IpAddr>,
    random: SystemRandom,
    ivs: IvBlock,
    is_without_ivs: bool,
}

impl Node {
    /// The node of this table, for the thread that calls this.
    pub fn new(table: Arc<Table>, steering: Steering, routes: Routes) -> Self {
        let (random, ivs) = (SystemRandom::new(), IvBlock::empty());
        let mut node = Self {
            table,
            steering,
            routes,
            addresses: Vec::new(),
            inside: Vec::new(),
            random,
            ivs,
            is_without_ivs: false,
        };
        // The library gathers entropy at a thread's first use, for 30 ms: not while a tunnel waits to be taken over.
        node.random(&mut [0; 1]);
        node
    }

    /// The addresses of this host, outside and inside, which are others than before.
    pub fn set_addresses(&mut self, addresses: Vec<IpAddr>, inside: Vec<IpAddr>) {
        (self.addresses, self.inside) = (addresses, inside);
    }

    /// What the SA of that place in the table has carried, if it has that SPI.
    fn volume(&self, direction: Direction, key: u32, spi: u32) -> Volume {
        let found = self.table.get(direction, key).ok().flatten().filter(|found| found.sa.spi == spi);
        let counters = found.map(|found| (found.counters.octets, found.counters.packets));
        counters.map_or(Volume::default(), |(octets, packets)| Volume { octets, packets })
    }

    /// Whether there was no IV to be had at the last try (I1): nothing is sealed that needs one.
    pub fn is_without_ivs(&self) -> bool {
        self.is_without_ivs
    }
}

/// Whether the lease of a segment has not lapsed (I4).
pub(crate) fn owns(table: &Table, segment: u8) -> bool {
    table.lease(segment) > monotonic_ns()
}

/// Whether packets of a segment wait here that is about to become this node's.
pub(crate) fn holds(table: &Table, segment: u8) -> bool {
    table.hold(segment) > monotonic_ns()
}

impl Host for Node {
    fn random(&mut self, octets: &mut [u8]) {
        if self.random.fill(octets).is_err() {
            // Keys from anything less would be worse than an end; the contexts survive it.
            error!("the system gives no randomness; stopping");
            std::process::abort();
        }
    }

    fn explicit_iv(&mut self) -> Option<[u8; 8]> {
        if self.ivs.remaining() == 0 {
            let drawn = self.table.iv_block(IVS_AT_ONCE);
            if let (Err(error), false) = (&drawn, self.is_without_ivs) {
                error!(%error, "there are no IVs, so that nothing encrypted can be sent");
            }
            self.is_without_ivs = drawn.is_err();
            self.ivs = drawn.ok()?;
        }
        self.ivs.next().map(u64::to_be_bytes)
    }

    fn segment_of(&self, peer: IpAddr) -> u8 {
        let Steering { mode, seed, port } = self.steering;
        segment_of(peer, port, port, mode, seed)
    }

    fn owns(&self, segment: u8) -> bool {
        owns(&self.table, segment)
    }

    fn spi_is_taken(&self, spi: u32) -> bool {
        self.table.lookup(Direction::Inbound, spi).is_some()
    }

    fn inbound_volume(&self, spi: u32) -> Volume {
        self.volume(Direction::Inbound, spi, spi)
    }

    fn outbound_volume(&self, reqid: u32, spi: u32) -> Volume {
        self.volume(Direction::Outbound, reqid, spi)
    }

    fn local_addresses(&self) -> Vec<IpAddr> {
        self.addresses.clone()
    }

    fn source_for(&self, peer: IpAddr) -> Option<IpAddr> {
        self.routes.source_for(peer).filter(|source| !self.inside.contains(source))
    }
}
