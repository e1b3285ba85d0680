//! What must hold, whatever happens, and what has happened.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;

use baton_ike_proto::Event;
use baton_ike_proto::crypto::Role;
use baton_ike_proto::host::{Install, TunnelName};
use baton_sad::NodeId;

use crate::history::{History, Use};
use crate::plane::number;

/// What peers have been told of a tunnel.
#[derive(Debug, Clone)]
pub struct Told {
    pub tunnel: TunnelName,
    /// The newest state that a message spoke of which was known to be on the standbys.
    pub surely: u64,
    /// And of any message.
    pub at_all: u64,
}

/// All that may not happen, and how often what should happen has.
pub struct Invariants {
    pub history: History,
    pub told: BTreeMap<u32, Told>,
    /// Up to these versions, somebody was told that standbys may not have them.
    doubts: BTreeMap<u32, u64>,
    /// Which state each datagram speaks of.
    states: HashMap<Vec<u8>, u64>,
    names: BTreeMap<u32, TunnelName>,
    /// Of these tunnels, nothing is promised any more: what was not replicated was lost with its node.
    pub loose: BTreeSet<u32>,
    /// Who has installed a key last, and how many takeovers there had been.
    installers: HashMap<Vec<u8>, (NodeId, u64)>,
    pub takeovers: u64,
    /// Tunnels that are over.
    pub gone: BTreeSet<u32>,
    sent: HashMap<Vec<u8>, (u64, NodeId)>,
    accepted: HashSet<(Vec<u8>, u64)>,
    pub counters: BTreeMap<&'static str, u64>,
    pub replicates_first: bool,
    pub trace: bool,
    complaint: Option<String>,
}

impl Invariants {
    pub fn new(trace: bool) -> Self {
        Self {
            history: History::default(),
            told: BTreeMap::new(),
            doubts: BTreeMap::new(),
            states: HashMap::new(),
            names: BTreeMap::new(),
            loose: BTreeSet::new(),
            installers: HashMap::new(),
            takeovers: 0,
            gone: BTreeSet::new(),
            sent: HashMap::new(),
            accepted: HashSet::new(),
            counters: BTreeMap::new(),
            replicates_first: true,
            trace,
            complaint: None,
        }
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counters.entry(what).or_default() += 1;
    }

    /// A node installs keys. After a takeover they may be installed again: whoever does not know them, has not used them.
    pub fn installed(&mut self, by: NodeId, install: &Install) {
        let Some(keys) = &install.keys else { return };
        let is_initiator = install.role == Role::Initiator;
        let (ours, theirs) = (&keys.initiator_to_responder, &keys.responder_to_initiator);
        let (outbound, inbound) = if is_initiator { (ours, theirs) } else { (theirs, ours) };
        for (key, is_inbound, spi) in
            [(inbound, true, install.inbound_spi), (outbound, false, install.outbound_spi)]
        {
            let this = (by, self.takeovers);
            let before = self.installers.insert(key.expose().to_vec(), this);
            if before.is_some_and(|before| before != this) {
                self.history.forget_use(key.expose(), Use { node: 0, inbound: is_inbound, spi });
            }
        }
    }

    pub fn stored(&mut self, tunnel: &TunnelName) {
        self.names.insert(number(tunnel), tunnel.clone());
    }

    pub fn forgotten(&mut self, tunnel: &TunnelName) {
        self.told.remove(&number(tunnel));
        self.gone.insert(number(tunnel));
    }

    /// A datagram is made when a tunnel has that version.
    pub fn made(&mut self, datagram: &[u8], version: u64) {
        if !self.states.contains_key(datagram) {
            self.states.insert(datagram.to_vec(), version);
        }
    }

    /// Standbys may not have a version, and that was said.
    pub fn doubt(&mut self, number: u32, version: u64) {
        let doubt = self.doubts.entry(number).or_default();
        *doubt = version.max(*doubt);
    }

    /// A datagram leaves.
    pub fn leaves(&mut self, by: NodeId, octets: &[u8], tunnel: Option<u32>) -> Result<(), String> {
        let told = self.history.transmit(octets);
        let Some(number) = tunnel else { return told };
        let version = self.states.get(octets).copied().unwrap_or(0);
        let doubt = self.doubts.get(&number).copied().unwrap_or(0);
        if let Some(tunnel) = self.names.get(&number).filter(|_| !self.gone.contains(&number)) {
            let fresh = Told { tunnel: tunnel.clone(), surely: 0, at_all: 0 };
            let known = self.told.entry(number).or_insert(fresh);
            known.at_all = known.at_all.max(version);
            if version > doubt {
                known.surely = known.surely.max(version);
            }
        }
        match told {
            Err(why) if self.loose.contains(&number) && why.starts_with("a Message ID") => Ok(()),
            told => told.map_err(|why| format!("{by}, tunnel {number:08x}: {why}")),
        }
    }

    /// Nothing is promised of a tunnel any more.
    pub fn loosen(&mut self, number: u32) {
        if self.loose.insert(number) {
            self.count("tunnels let down");
        }
    }

    /// I2: no number is sent twice, by whomever.
    pub fn sent(&mut self, by: NodeId, tunnel: &TunnelName, key: &[u8], sequence: u64) -> Result<(), String> {
        let before = self.sent.insert(key.to_vec(), (sequence, by));
        self.count("packets out");
        match before {
            Some((last, who)) if last >= sequence && !self.loose.contains(&number(tunnel)) => {
                Err(format!("I2: {by} sends {sequence} of {tunnel}, {who} has sent {last}"))
            }
            Some((last, who)) if who != by && sequence > last + 2 * crate::plane::PACKETS + 1 => {
                self.count("long jumps");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// I3: nothing is accepted twice.
    pub fn accepted(
        &mut self,
        by: NodeId,
        tunnel: &TunnelName,
        key: &[u8],
        sequence: u64,
    ) -> Result<(), String> {
        self.count("packets in");
        let is_new = self.accepted.insert((key.to_vec(), sequence));
        if is_new || self.loose.contains(&number(tunnel)) {
            return Ok(());
        }
        Err(format!("I3: {by} accepts {sequence} of {tunnel} again"))
    }

    /// An IKE machine of the cluster tells of something.
    pub fn event(&mut self, now: Duration, by: NodeId, event: &Event) {
        if self.trace {
            println!("{now:>10.3?} {by} ike {event:?}");
        }
        if let Event::Failed { problem, .. } = event
            && problem.contains("nobody can go on with it")
        {
            self.complaint = Some(format!("{by}: {problem}"));
        }
    }

    pub fn complaint(&mut self) -> Result<(), String> {
        self.complaint.take().map_or(Ok(()), Err)
    }

    /// Whether all that a peer was promised of the tunnels of its connection still holds.
    pub fn is_true_to(&self, connection: &str) -> bool {
        let of_it = |number: &&u32| {
            let tunnel = self.names.get(*number);
            tunnel
                .and_then(|tunnel| TunnelName::parse(tunnel.as_str()))
                .is_some_and(|(name, _)| name == connection)
        };
        !self.loose.iter().any(|number| of_it(&number))
    }
}
