//! Where the peers of tunnels in UDP are: where the configuration says, until they move.
//!
//! A restart must not send a moved peer's packets back to where it was; but when the operator writes another place
//! into the configuration, that is meant. To tell the two apart, the configured places are kept beside the SA table.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use baton_sad::{Direction, Sa};

use super::private_file;
use crate::config::{Config, Tunnel};
use crate::control::Endpoint;

/// More octets than this are no file of ours: 100,000 tunnels fit.
const MAX_OCTETS: u64 = 64 << 20;

/// Where an SA's peer is, if the SA follows it.
pub(super) fn place(sa: &Sa) -> Option<Endpoint> {
    let udp = sa.encapsulation.filter(|udp| udp.follows_peer)?;
    Some(match sa.direction {
        Direction::Inbound => Endpoint { address: sa.source, port: udp.source_port },
        Direction::Outbound => Endpoint { address: sa.destination, port: udp.destination_port },
    })
}

/// Moves an SA's peer; a plain ESP SA has no port to change.
pub(super) fn set_place(sa: &mut Sa, to: Endpoint) {
    let udp = sa.encapsulation.as_mut();
    let (address, port) = match sa.direction {
        Direction::Inbound => (&mut sa.source, udp.map(|udp| &mut udp.source_port)),
        Direction::Outbound => (&mut sa.destination, udp.map(|udp| &mut udp.destination_port)),
    };
    *address = to.address;
    if let Some(port) = port {
        *port = to.port;
    }
}

/// The places that a configuration gives to peers that may move, by tunnel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoints(HashMap<String, Endpoint>);

impl Endpoints {
    pub(super) fn of(config: &Config) -> Self {
        let named = |tunnel: &Tunnel| Some((tunnel.name.clone(), configured(tunnel)?));
        Self(config.tunnels.iter().filter_map(named).collect())
    }

    /// What was saved; nothing if there is no such file, or none that can be read: then no place was changed.
    pub(super) fn load(path: &Path) -> Self {
        let is_ours = fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_OCTETS);
        let text = if is_ours { fs::read(path).unwrap_or_default() } else { Vec::new() };
        Self(serde_json::from_slice(&text).unwrap_or_default())
    }

    /// Replaces the file as a whole.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        private_file::replace(path, &serde_json::to_vec(&self.0)?)
    }

    /// Whether the operator wrote another place for the tunnel's peer than these.
    pub(super) fn are_changed_by(&self, tunnel: &Tunnel) -> bool {
        self.0.get(&tunnel.name).is_some_and(|before| configured(tunnel) != Some(*before))
    }
}

fn configured(tunnel: &Tunnel) -> Option<Endpoint> {
    let udp = tunnel.encapsulation.filter(|udp| udp.follows_peer)?;
    Some(Endpoint { address: tunnel.remote, port: udp.remote_port })
}
