//! A node's surroundings: randomness, IVs, segments, the SA table.

use std::collections::BTreeSet;
use std::net::IpAddr;

use baton_ike_proto::Host;

use crate::random::Random;
use crate::table::Table;

pub struct SimulatedHost {
    pub random: Random,
    pub table: Table,
    pub address: IpAddr,
    /// There are no IVs for now.
    pub dry: bool,
    /// Segments that another machine owns.
    pub foreign: BTreeSet<u8>,
    node: u8,
    next_iv: u32,
}

impl SimulatedHost {
    pub fn new(random: Random, node: u8, address: IpAddr) -> Self {
        Self {
            random,
            table: Table::default(),
            address,
            dry: false,
            foreign: BTreeSet::new(),
            node,
            next_iv: 0,
        }
    }
}

impl Host for SimulatedHost {
    fn random(&mut self, octets: &mut [u8]) {
        self.random.fill(octets);
    }

    fn explicit_iv(&mut self) -> Option<[u8; 8]> {
        if self.dry {
            return None;
        }
        self.next_iv += 1;
        let [a, b, c, d] = self.next_iv.to_be_bytes();
        Some([self.node, 0, 0, 1, a, b, c, d])
    }

    fn segment_of(&self, peer: IpAddr) -> u8 {
        match peer {
            IpAddr::V4(address) => address.octets()[3].wrapping_mul(37),
            IpAddr::V6(address) => address.octets()[15].wrapping_mul(37),
        }
    }

    fn owns(&self, segment: u8) -> bool {
        !self.foreign.contains(&segment)
    }

    fn source_for(&self, _: IpAddr) -> Option<IpAddr> {
        Some(self.address)
    }

    fn local_addresses(&self) -> Vec<IpAddr> {
        vec![self.address]
    }

    fn spi_is_taken(&self, spi: u32) -> bool {
        self.table.inbound.contains_key(&spi)
    }
}
