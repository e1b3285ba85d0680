//! Addresses that the nodes share on one link: tells the data plane who answers for them, where frames of other nodes'
//! segments go, and, when this node begins to attract them, the link. The latest state counts.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use baton_dataplane::control::{
    Announce as AnnounceRequest, Client, ClientError, ClusterAddress, ClusterReport, Daemon, OwnerMac,
    OwnerMacs, Request, SharedSide,
};
use baton_dataplane::next_hop::Mac;
use baton_dataplane::xdp::Resolution;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tracing::{debug, info, warn};

use super::DaemonError;
use super::error::system;
use super::links;
use crate::cluster::{LinkAddresses, Neighbour};
use crate::config::{Announce, Config, Sharing};
use baton_sad::NodeId;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries to reach a data plane that is away.
const AGAIN: Duration = Duration::from_millis(200);
/// How often it is told again what it knows, since it may have started again.
const REPEAT: Duration = Duration::from_secs(1);
/// Announcements may be lost: so many are sent, so far apart.
const ANNOUNCEMENTS: u32 = 5;
const SPACING: Duration = Duration::from_millis(200);

/// What the thread is to tell.
#[derive(Default)]
struct State {
    nodes: Vec<Neighbour>,
    version: u64,
    /// As far as the data plane knows.
    told: u64,
}

/// The telling end.
#[derive(Clone)]
pub(super) struct Sharer {
    state: Arc<(Mutex<State>, Condvar)>,
    announce: Announce,
}

fn lock(mutex: &Mutex<State>) -> MutexGuard<'_, State> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sharer {
    /// Who is there, and owns what.
    pub(super) fn see(&self, nodes: impl FnOnce() -> Vec<Neighbour>) {
        if self.announce == Announce::None {
            return;
        }
        let nodes = nodes();
        let mut state = lock(&self.state.0);
        if state.nodes != nodes {
            state.nodes = nodes;
            state.version += 1;
            self.state.1.notify_all();
        }
    }

    /// This member stops: it attracts nothing any more. Waits until the data plane knows, for a moment.
    pub(super) fn leave(&self) {
        self.see(Vec::new);
        let state = lock(&self.state.0);
        let behind = |state: &mut State| self.announce != Announce::None && state.told < state.version;
        drop(self.state.1.wait_timeout_while(state, AGAIN, behind));
    }
}

/// The MAC addresses of this node's interfaces. Nobody needs them where nothing is shared.
pub(super) fn own_addresses(config: &Config) -> LinkAddresses {
    let Some(gateway) = config.gateway.as_ref().filter(|_| config.sharing.announce != Announce::None) else {
        return LinkAddresses::default();
    };
    let interfaces = [gateway.outer.interface.as_str(), gateway.inner.interface.name()];
    let found = links::mac_addresses(interfaces).unwrap_or_else(|error| {
        warn!(%error, "the MAC addresses of this node are not known: others cannot send it its frames");
        Default::default()
    });
    let [outer, inner] = found.map(|mac| mac.filter(|mac| !mac.is_group() && *mac != Mac::default()));
    LinkAddresses { outer: outer.map(|mac| mac.0), inner: inner.map(|mac| mac.0) }
}

/// Starts the thread, if anything is shared.
pub(super) fn start(config: &Config) -> Result<Sharer, DaemonError> {
    let sharer = Sharer { state: Arc::default(), announce: config.sharing.announce };
    let Some(gateway) = config.gateway.as_ref().filter(|_| sharer.announce != Announce::None) else {
        return Ok(sharer);
    };
    let plan = Plan {
        me: config.node.id,
        sharing: config.sharing.clone(),
        outer_addresses: gateway.outer.addresses.clone(),
    };
    let teller = Teller {
        plan,
        socket: gateway.control_socket(),
        client: None,
        attracting: false,
        working: Vec::new(),
        announcements: 0,
        warned: false,
    };
    let state = Arc::clone(&sharer.state);
    let tell = move || teller.serve(&state);
    thread::Builder::new().name("sharing".to_owned()).spawn(tell).map_err(system("start a thread"))?;
    Ok(sharer)
}

/// What follows from who is there.
struct Plan {
    me: NodeId,
    sharing: Sharing,
    outer_addresses: Vec<IpAddr>,
}

fn working(nodes: &[Neighbour]) -> impl Iterator<Item = &Neighbour> {
    nodes.iter().filter(|node| node.alive && !node.owns.is_empty())
}

/// The node that attracts the addresses: of those that own something, since only they have a data plane that works, the
/// one of the highest priority, then of the lowest id.
fn attractor(nodes: &[Neighbour]) -> Option<NodeId> {
    working(nodes).min_by_key(|node| (std::cmp::Reverse(node.priority), node.id)).map(|node| node.id)
}

impl Plan {
    fn attracts(&self, nodes: &[Neighbour]) -> bool {
        self.sharing.announce == Announce::Attract && attractor(nodes) == Some(self.me)
    }

    /// Who answers for the addresses.
    fn address(&self, nodes: &[Neighbour]) -> ClusterAddress {
        let resolution = match self.sharing.announce {
            Announce::MulticastMac => Resolution::SharedMac,
            Announce::Attract if !self.attracts(nodes) => Resolution::Silent,
            Announce::Attract | Announce::None => Resolution::Kernel,
        };
        let side = |addresses: &[IpAddr]| SharedSide {
            addresses: addresses.to_vec(),
            // A side without an address has none to answer with.
            mac: self.sharing.mac.filter(|_| !addresses.is_empty()),
        };
        let (outer, inner) = (side(&self.outer_addresses), side(&self.sharing.inner_addresses));
        ClusterAddress { resolution, outer, inner }
    }

    /// Where frames of the others' segments go.
    fn owners(&self, nodes: &[Neighbour]) -> OwnerMacs {
        let others = || nodes.iter().filter(|node| node.id != self.me);
        let mac = |octets: Option<[u8; 6]>| octets.map(Mac).filter(|mac| !mac.is_group() && mac.0 != [0; 6]);
        let mut left = crate::cluster::Segments::ALL;
        let mut owners = Vec::new();
        for node in others().filter(|node| node.alive) {
            // Two that do not hear each other may both own a segment: the data plane wants one.
            let segments = node.owns & left;
            left -= segments;
            let (outer, inner) = (mac(node.links.outer), mac(node.links.inner));
            if !segments.is_empty() {
                owners.push(OwnerMac { segments: segments.iter().collect(), outer, inner });
            }
        }
        let members = others().flat_map(|node| [mac(node.links.outer), mac(node.links.inner)]).flatten();
        OwnerMacs { owners, members: members.collect() }
    }

    fn announcement(&self) -> AnnounceRequest {
        let (outer, inner) = (self.outer_addresses.clone(), self.sharing.inner_addresses.clone());
        AnnounceRequest { outer, inner }
    }
}

struct Teller {
    plan: Plan,
    socket: PathBuf,
    client: Option<Client>,
    attracting: bool,
    /// As told last.
    working: Vec<NodeId>,
    /// That are still to be sent.
    announcements: u32,
    /// Whether a side was complained of.
    warned: bool,
}

impl Teller {
    fn serve(mut self, state: &(Mutex<State>, Condvar)) {
        let mut told = 0;
        loop {
            let patience = if self.announcements > 0 { SPACING } else { REPEAT };
            let (nodes, version) = next(state, told, patience);
            match self.tell(&nodes) {
                Ok(()) => {
                    told = version;
                    lock(&state.0).told = version;
                    state.1.notify_all();
                }
                Err(error) => {
                    debug!(%error, "not told yet");
                    self.client = None;
                    thread::sleep(AGAIN);
                }
            }
        }
    }

    /// Owners first: what is attracted can be sent on at once.
    fn tell(&mut self, nodes: &[Neighbour]) -> Result<(), ClientError> {
        let _: Value = self.ask(&Request::OwnerMacs(self.plan.owners(nodes)))?;
        let address = self.plan.address(nodes);
        let report = self.ask(&Request::ClusterAddress(address.clone()))?;
        self.complain(&address, &report);
        let attracts = self.plan.attracts(nodes);
        if std::mem::replace(&mut self.attracting, attracts) != attracts {
            info!(attracts, "shared addresses");
            self.announcements = if attracts { ANNOUNCEMENTS } else { 0 };
        }
        let working: Vec<NodeId> = working(nodes).map(|node| node.id).collect();
        let lost = self.working.iter().any(|node| !working.contains(node));
        self.working = working;
        if attracts && lost {
            // A kernel that asks for a neighbour from the shared address (RFC 4861 section 7.2.2 allows it) names its own
            // MAC address: some may send to the node that is gone.
            self.announcements = ANNOUNCEMENTS;
        }
        if self.announcements > 0 {
            let _: Value = self.ask(&Request::Announce(self.plan.announcement()))?;
            self.announcements -= 1;
        }
        Ok(())
    }

    /// Once: a side without a filter shares nothing.
    fn complain(&mut self, address: &ClusterAddress, report: &ClusterReport) {
        let sides = [("outer", &address.outer), ("inner", &address.inner)];
        let without = |(name, side): &(&str, &SharedSide)| {
            !side.addresses.is_empty() && !report.filtered.iter().any(|filtered| filtered == name)
        };
        if let Some((name, _)) = sides.into_iter().find(without)
            && !std::mem::replace(&mut self.warned, true)
        {
            warn!(
                "[{name}] has no filter, so its addresses are not shared; use AF_XDP there, or no `announce`"
            );
        }
    }

    fn ask<T: DeserializeOwned>(&mut self, request: &Request) -> Result<T, ClientError> {
        let mut client = match self.client.take() {
            Some(client) => client,
            None => Client::connect_to(Daemon::DataPlane, &self.socket, PATIENCE)?,
        };
        let answer = client.request(request)?;
        self.client = Some(client);
        Ok(answer)
    }
}

/// Waits for another state than the one that was told.
fn next(state: &(Mutex<State>, Condvar), told: u64, patience: Duration) -> (Vec<Neighbour>, u64) {
    let waiting = lock(&state.0);
    let (waiting, _) = state
        .1
        .wait_timeout_while(waiting, patience, |state| state.version == told)
        .unwrap_or_else(PoisonError::into_inner);
    (waiting.nodes.clone(), waiting.version)
}

#[cfg(test)]
mod tests;
