//! Ways on which the two ends could reach each other (RFC 4555 section 3.10).

use std::net::{IpAddr, SocketAddr};

use super::super::core::Cx;
use super::super::ike_sa::IkeSa;
use super::super::nat::NAT_PORT;
use super::super::up::Up;
use super::addresses::is_host;
use crate::configuration::Connection;
use crate::host::{Host, Path};

/// Repetitions of a request from which on it goes along all paths.
const PROBE_FROM: u32 = 2;
/// Paths along which one repetition of a request goes at most.
const MAX_PATHS: usize = 16;

/// The address from which we reach `remote` by the routes, or by another one that the connection names.
pub(super) fn source(host: &dyn Host, connection: &Connection, remote: IpAddr) -> Option<IpAddr> {
    let route = host.source_for(remote)?;
    let named = &connection.local_addresses;
    if named.is_empty() || named.contains(&route) {
        return Some(route);
    }
    let there = host.local_addresses();
    let mut usable =
        named.iter().filter(|local| local.is_ipv4() == remote.is_ipv4() && there.contains(local));
    usable.next().copied()
}

/// Along which paths a request is repeated.
#[derive(Debug)]
pub(in crate::machine) struct Ways {
    pub(in crate::machine) path: Path,
    /// One of these may lead to the peer, if the first one does not.
    pub(in crate::machine) others: Vec<Path>,
    /// The repetition from which on they are tried.
    pub(in crate::machine) others_from: u32,
}

impl Ways {
    /// One path.
    pub(in crate::machine) fn only(path: Path) -> Self {
        Self { path, others: Vec::new(), others_from: u32::MAX }
    }
}

impl Up {
    /// Along which paths what is due now is repeated.
    pub(in crate::machine) fn ways(&self, cx: &Cx) -> Ways {
        let is_late = |sa: &IkeSa| sa.window.requests.next_due().is_some_and(|due| due <= cx.now.monotonic);
        let Some(mobility) = self.mobility.as_ref().filter(|mobility| mobility.leads) else {
            return Ways::only(self.head.path);
        };
        let others_from = if mobility.is_probing { 1 } else { PROBE_FROM };
        let is_any =
            self.sas.iter().any(|sa| is_late(sa) && sa.window.requests.repetitions() + 1 >= others_from);
        let others = if is_any { self.other_paths(cx.host) } else { Vec::new() };
        Ways { path: self.head.path, others, others_from }
    }

    /// From now on an answer along one of them is a reason to take it.
    pub(in crate::machine) fn note_probing(&mut self, ways: &Ways) {
        if let Some(mobility) = self.mobility.as_mut().filter(|_| !ways.others.is_empty()) {
            mobility.is_probing = true;
        }
    }

    /// The present path from where we are now, if there is still a way.
    pub(super) fn present_path(&self, host: &dyn Host) -> Option<Path> {
        let path = self.head.path;
        let source = source(host, &self.head.connection, path.remote.ip())?;
        Some(Path { local: SocketAddr::new(source, path.local.port()), ..path })
    }

    /// All paths besides the present one, those to the peer's present address first.
    pub(super) fn other_paths(&self, host: &dyn Host) -> Vec<Path> {
        let present = self.head.path;
        let mut paths = Vec::new();
        for remote in self.remotes() {
            for local in self.locals(host, remote.ip()) {
                let local = SocketAddr::new(local, present.local.port());
                let path = Path { local, remote, ..present };
                if path != present && !paths.contains(&path) && paths.len() < MAX_PATHS {
                    paths.push(path);
                }
            }
        }
        paths
    }

    /// Where the peer may be: where it is, where the connection says, and where it says itself.
    fn remotes(&self) -> Vec<SocketAddr> {
        let (present, connection) = (self.head.path.remote, &self.head.connection);
        let port = if self.head.path.marked { NAT_PORT } else { connection.remote_port };
        let told = self.mobility.iter().flat_map(|mobility| &mobility.additional).copied();
        let mut remotes = vec![present];
        for address in connection.peers().chain(told) {
            if is_host(address) && remotes.iter().all(|remote| remote.ip() != address) {
                remotes.push(SocketAddr::new(address, port));
            }
        }
        remotes
    }

    /// From where: by the routes first, then from all other addresses that we may use.
    fn locals(&self, host: &dyn Host, remote: IpAddr) -> Vec<IpAddr> {
        let connection = &self.head.connection;
        let named = &connection.local_addresses;
        let is_usable = |local: &IpAddr| {
            let is_allowed = if named.is_empty() { is_host(*local) } else { named.contains(local) };
            local.is_ipv4() == remote.is_ipv4() && is_allowed && !self.virtual_addresses.contains(local)
        };
        let there = host.local_addresses().into_iter().filter(is_usable);
        source(host, connection, remote).into_iter().chain(there).collect()
    }
}
