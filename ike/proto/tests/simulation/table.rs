//! A node's SA table, policies and contexts, which outlive its IKE process.

use std::collections::BTreeMap;
use std::net::IpAddr;

use baton_ike_proto::crypto::Role;
use baton_ike_proto::host::{Install, OuterEnds, PolicyInstall, TunnelName};
use baton_ike_proto::selector::TrafficSelector;

use crate::history::{History, Use};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sa {
    pub tunnel: TunnelName,
    pub spi: u32,
    pub reqid: u32,
    pub key: Vec<u8>,
    pub suite: String,
    pub ends: OuterEnds,
    /// Outbound: the last sequence number sent. Inbound: the edge, up to which nothing is accepted any more.
    pub sequence: u64,
    /// It took another one's place, and traffic with it.
    pub is_successor: bool,
    pub local: Vec<TrafficSelector>,
    pub remote: Vec<TrafficSelector>,
}

#[derive(Default)]
pub struct Table {
    /// By our SPI.
    pub inbound: BTreeMap<u32, Sa>,
    /// By reqid.
    pub outbound: BTreeMap<u32, Sa>,
    pub policies: BTreeMap<String, PolicyInstall>,
    pub contexts: BTreeMap<TunnelName, Vec<u8>>,
    /// Tickets of peers that were lost, by connection.
    pub tickets: BTreeMap<String, Vec<u8>>,
    /// What peers have given this node.
    pub inside: BTreeMap<TunnelName, Vec<IpAddr>>,
}

impl Table {
    /// Another machine takes its place.
    pub fn lose_all(&mut self) {
        *self = Self::default();
    }

    pub fn install(&mut self, node: usize, install: &Install, history: &mut History) -> Result<(), String> {
        if install.inbound_spi >> 24 != u32::from(install.segment) {
            return Err(format!("SPI {:08x} is not in segment {}", install.inbound_spi, install.segment));
        }
        if install.inbound {
            let sa = sa(install, true)?;
            let this = Use { node, inbound: true, spi: sa.spi };
            let is_there = self.inbound.get(&sa.spi).is_some_and(|old| old.key == sa.key);
            history.install(&sa.key, this, is_there)?;
            let before = self.inbound.get(&sa.spi).map_or(0, |old| old.sequence);
            if self.inbound.get(&sa.spi).is_some_and(|old| old.key != sa.key) {
                return Err(format!("inbound SPI {:08x} is in use", sa.spi));
            }
            self.inbound.insert(sa.spi, Sa { sequence: before, ..sa });
        }
        if install.outbound {
            let mut sa = sa(install, false)?;
            sa.is_successor = self.outbound.contains_key(&sa.reqid);
            let this = Use { node, inbound: false, spi: sa.spi };
            let is_there = self.outbound.get(&sa.reqid).is_some_and(|old| old.key == sa.key);
            history.install(&sa.key, this, is_there)?;
            if is_there {
                sa.sequence = self.outbound.get(&sa.reqid).map_or(0, |old| old.sequence);
            }
            self.outbound.insert(sa.reqid, sa);
        }
        self.policies.extend(install.policy.iter().map(|policy| (policy.name.clone(), policy.clone())));
        Ok(())
    }

    /// The SAs of a tunnel: inbound ones, outbound ones.
    pub fn of_tunnel(&self, tunnel: &TunnelName) -> (Vec<Sa>, Vec<Sa>) {
        let of = |sas: &BTreeMap<u32, Sa>| sas.values().filter(|sa| sa.tunnel == *tunnel).cloned().collect();
        (of(&self.inbound), of(&self.outbound))
    }

    /// What was sent by the SAs is not sent again.
    pub fn skip(&mut self, reqids: &[u32], numbers: u64) {
        for (_, sa) in self.outbound.iter_mut().filter(|(reqid, _)| reqids.contains(reqid)) {
            sa.sequence += numbers;
        }
    }

    pub fn move_peer(&mut self, inbound: &[u32], outbound: &[u32], ends: OuterEnds) {
        for (_, sa) in self.inbound.iter_mut().filter(|(spi, _)| inbound.contains(spi)) {
            sa.ends = ends;
        }
        for (_, sa) in self.outbound.iter_mut().filter(|(reqid, _)| outbound.contains(reqid)) {
            sa.ends = ends;
        }
    }

    pub fn remove(&mut self, inbound: &[u32], outbound: &[(u32, u32)]) {
        for spi in inbound {
            self.inbound.remove(spi);
        }
        for (reqid, spi) in outbound {
            if self.outbound.get(reqid).is_some_and(|sa| sa.spi == *spi) {
                self.outbound.remove(reqid);
            }
        }
    }
}

/// One direction of what is to be installed, with the key that is for it.
fn sa(install: &Install, inbound: bool) -> Result<Sa, String> {
    let keys = install.keys.as_ref().ok_or("an SA without keys")?;
    let key = match (install.role, inbound) {
        (Role::Initiator, true) | (Role::Responder, false) => &keys.responder_to_initiator,
        (Role::Initiator, false) | (Role::Responder, true) => &keys.initiator_to_responder,
    };
    Ok(Sa {
        tunnel: install.tunnel.clone(),
        spi: if inbound { install.inbound_spi } else { install.outbound_spi },
        reqid: install.reqid,
        key: key.expose().to_vec(),
        suite: install.suite.keyword(),
        ends: install.ends,
        sequence: 0,
        is_successor: false,
        local: install.local.clone(),
        remote: install.remote.clone(),
    })
}
