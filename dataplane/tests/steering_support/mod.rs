//! What the steering tests share.

// Each test binary uses its own part.
#![allow(dead_code)]

pub mod namespaces;
pub mod packets;
pub mod pair;
pub mod random;

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use baton_dataplane::io::Side;
use baton_dataplane::next_hop::Mac;
use baton_dataplane::prefix::{Prefix, PrefixTable};
use baton_dataplane::steering::{HashMode, LocalRule, Spi, SteeringView, networks};
use baton_dataplane::xdp::{DryRun, FilterMaps, Owners, Resolution, XdpError};
use rustix::net::{AddressFamily, SocketType, socket, sockopt};

/// Whether this process may load BPF programs; says so if not, past the test harness, which swallows what a
/// passing test prints.
pub fn privileged(test: &str) -> bool {
    let reason = match DryRun::load() {
        _ if !rustix::process::geteuid().is_root() => "loading an XDP program needs root".to_owned(),
        Err(error @ XdpError::Privilege { .. }) => error.to_string(),
        _ => return true,
    };
    writeln!(std::io::stderr(), "SKIPPED {test}: {reason}").expect("stderr");
    false
}

pub fn address(text: &str) -> IpAddr {
    text.parse().expect("a test's address")
}

pub fn prefix(text: &str) -> Prefix {
    text.parse().expect("a test's prefix")
}

/// The ownership of exactly these segments.
pub fn bits(segments: impl IntoIterator<Item = u8>) -> [u64; 4] {
    let mut owned = [0; 4];
    for segment in segments {
        owned[usize::from(segment >> 6)] |= 1_u64 << (segment & 63);
    }
    owned
}

/// An AF_XDP socket that the kernel accepts in an XSKMAP. It is bound to nothing.
pub fn af_xdp_socket() -> OwnedFd {
    let socket = socket(AddressFamily::XDP, SocketType::RAW, None).expect("AF_XDP");
    sockopt::set_xdp_rx_ring_size(&socket, 64).expect("a receive ring");
    socket
}

/// What a filter is told, kept so that its twin can be told the same.
#[derive(Clone, Debug)]
pub struct World {
    pub mode: HashMode,
    pub seed: u32,
    pub owned: [u64; 4],
    pub overrides: HashMap<Spi, u8>,
    pub outer: Vec<IpAddr>,
    pub inner: Vec<IpAddr>,
    pub macs: Vec<Mac>,
    pub owners: Owners,
    pub resolution: Resolution,
    /// Shared with other nodes, on both sides.
    pub shared: Vec<IpAddr>,
    /// Networks of tunnels and of bypass policies.
    pub protected: Vec<(Prefix, u8)>,
    pub bypassed: Vec<(Prefix, u8)>,
    pub rules: Vec<LocalRule>,
}

impl Default for World {
    fn default() -> Self {
        Self {
            mode: HashMode::SourceIp,
            seed: 0,
            owned: bits(0..=127),
            overrides: HashMap::new(),
            outer: vec![address("203.0.113.2"), address("2001:db8::2")],
            inner: vec![address("10.2.0.1"), address("fd00:2::1")],
            macs: vec![packets::OWN_MAC],
            owners: Owners::default(),
            resolution: Resolution::Kernel,
            shared: vec![],
            protected: vec![
                (prefix("10.1.0.0/16"), 42),
                (prefix("10.1.7.0/24"), 200),
                (prefix("10.1.7.9/32"), 7),
                (prefix("fd00:1::/32"), 43),
                (prefix("fd00:1:9::/48"), 201),
            ],
            bypassed: vec![],
            rules: vec![],
        }
    }
}

impl World {
    pub fn view(&self, side: Side, socket: bool) -> SteeringView {
        let networks = networks(&self.protected, &self.bypassed);
        SteeringView {
            side,
            mode: self.mode,
            seed: self.seed,
            owned: self.owned,
            overrides: self.overrides.clone(),
            outer_addresses: self.outer.iter().copied().collect::<HashSet<_>>(),
            own_addresses: self.inner.iter().copied().collect::<HashSet<_>>(),
            macs: self.macs.clone(),
            owners: self.owners.clone(),
            resolution: self.resolution,
            shared_addresses: self.shared.iter().copied().collect(),
            networks: PrefixTable::new(
                networks.into_iter().map(|network| (network.prefix, network)).collect(),
            ),
            rules: self.rules.clone(),
            socket,
        }
    }

    /// Tells the filter; `before` is what it was told last.
    pub fn tell(&self, maps: &mut FilterMaps, before: Option<&Self>) {
        maps.set_hash(self.mode, self.seed).unwrap();
        maps.set_addresses(Side::Outer, &self.outer).unwrap();
        maps.set_addresses(Side::Inner, &self.inner).unwrap();
        for side in Side::ALL {
            maps.set_own_macs(side, &self.macs).unwrap();
        }
        maps.set_owners(&self.owners).unwrap();
        maps.set_shared(self.resolution, [&self.shared, &self.shared]).unwrap();
        maps.set_networks(&networks(&self.protected, &self.bypassed)).unwrap();
        maps.set_rules(&self.rules).unwrap();
        for spi in before.iter().flat_map(|before| before.overrides.keys()) {
            maps.set_override(*spi, None).unwrap();
        }
        for (spi, segment) in &self.overrides {
            maps.set_override(*spi, Some(*segment)).unwrap();
        }
        maps.set_owned(self.owned).unwrap();
    }
}
