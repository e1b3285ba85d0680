//! The XDP filter in the kernel: loading, attaching, pinning and its maps.
//!
//! The program is C (`ebpf/baton.bpf.c`, whose head holds the table of verdicts); its twin in Rust is
//! [`crate::steering`]. Maps and links are pinned on a bpffs and outlive every daemon, so that protected traffic
//! has no way in clear while the data plane is down (I7). A restart takes the maps over as they are and swaps
//! the program inside the pinned link, at one instant. Only [`Attachment::uninstall`] detaches.

mod attach;
mod error;
mod link;
mod maps;
mod options;
mod pins;
mod program;
mod verdicts;

/// Numbers that `ebpf/shared.h` defines for C and Rust alike.
#[allow(clippy::unreadable_literal)] // generated, digit by digit as C has them
pub mod shared {
    include!(concat!(env!("OUT_DIR"), "/filter_shared.rs"));
}

use std::iter;
use std::net::IpAddr;
use std::os::fd::AsRawFd;

pub use error::XdpError;
pub use maps::{FilterMaps, Ownership};
pub use options::{AttachMode, FilterPolicies, NetworkChange, Owners, Resolution, XdpOptions};
pub use program::{DryRun, DryRunResult};
pub use verdicts::{Action, Verdict};

use crate::io::Side;
use crate::next_hop::Mac;
use crate::steering::{LocalRule, Spi, needed, networks};
use pins::{NewPin, PinDirectory};
use program::Loaded;

/// The filter, attached to the interfaces that it was given. Dropping it leaves everything in place.
#[derive(Debug)]
pub struct Attachment {
    maps: FilterMaps,
    modes: [Option<AttachMode>; 2],
    /// All rules that the policies have for clear traffic.
    local: Vec<LocalRule>,
    /// Our own addresses by side: which of those rules can decide depends on them.
    own: [Vec<IpAddr>; 2],
    /// The sides that [`install`](Self::install) attached, rather than took over.
    attached_here: [bool; 2],
    pins: PinDirectory,
}

impl Attachment {
    /// Puts the filter in place, or takes over the one that is. A new one owns no segment: it drops IPsec and
    /// everything that is to be forwarded. A taken over one keeps ownership, overrides and what it knows of a cluster;
    /// addresses and policies are those of `options` before it sees a packet.
    ///
    /// # Errors
    /// Every [`XdpError`]. What this call pinned and attached is then removed again; what was pinned before
    /// stays and goes on protecting.
    pub fn install(options: &XdpOptions) -> Result<Self, XdpError> {
        let interfaces = attach::interfaces(options)?;
        let pins = PinDirectory::prepare(&options.pin_directory)?;
        let targets = attach::targets(&interfaces, &pins)?;
        let known = attach::take_stock(&pins, &targets)?;
        let new_maps = pins.guard_new_maps(&maps::PINNED);
        // Declared before `loaded`, so that on failure they go when this process no longer holds the programs.
        let mut new_links = Vec::new();
        let mut loaded = Loaded::pinned(&pins)?;
        fill(&mut loaded.maps, options)?;
        for interface in &interfaces {
            let shared = loaded.maps.shared_mac(interface.side)?;
            let macs: Vec<Mac> = iter::once(interface.mac).chain(shared).collect();
            loaded.maps.set_own_macs(interface.side, &macs)?;
        }
        if !known {
            // The layout number comes last: it says that the rest is there.
            loaded.maps.set_config(shared::CONFIG_LAYOUT, shared::LAYOUT)?;
        }
        let mut modes = [None; 2];
        let mut attached_here = [false; 2];
        for target in targets {
            let side = target.side();
            attached_here[side.index()] = !target.is_taken_over();
            modes[side.index()] = Some(attach::attach(&mut loaded, &pins, target, &mut new_links)?);
        }
        new_maps.into_iter().chain(new_links).for_each(NewPin::keep);
        let own = [options.outer_addresses.clone(), options.inner_addresses.clone()];
        Ok(Self { maps: loaded.maps, modes, local: options.policies.local.clone(), own, attached_here, pins })
    }

    /// Takes away again what [`install`](Self::install) attached, where its packets turn out to have nobody to go to.
    /// What it took over stays, and goes on protecting.
    ///
    /// # Errors
    /// [`XdpError::PinDirectory`].
    pub fn withdraw(self) -> Result<(), XdpError> {
        let new = Side::ALL.into_iter().filter(|side| self.attached_here[side.index()]);
        new.into_iter().try_for_each(|side| self.pins.remove_link(side))
    }

    /// Makes sure that no filter is in place, for a gateway that wants none: it would drop what that is to receive.
    ///
    /// # Errors
    /// [`XdpError::Unwanted`], and those of reading the pins.
    pub fn require_none(pin_directory: &std::path::Path) -> Result<(), XdpError> {
        attach::targets(&[], &PinDirectory::at(pin_directory)).map(drop)
    }

    /// Detaches the filter and removes its pins. A bpffs that was mounted for it stays mounted. Nothing installed
    /// is no error.
    ///
    /// # Errors
    /// [`XdpError::PinDirectory`] and [`XdpError::Privilege`].
    pub fn uninstall(pin_directory: &std::path::Path) -> Result<(), XdpError> {
        let pins = PinDirectory::at(pin_directory);
        Side::ALL.into_iter().try_for_each(|side| pins.remove_link(side))?;
        maps::PINNED.into_iter().try_for_each(|name| pins.remove_map(name))?;
        pins.remove()
    }

    /// How the program of a side is attached; `None` if it is not.
    pub const fn mode(&self, side: Side) -> Option<AttachMode> {
        self.modes[side.index()]
    }

    /// Which segments' packets pass, to be read and changed beside everything else.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn ownership(&self) -> Result<Ownership, XdpError> {
        Ownership::open(&self.pins)
    }

    /// See [`FilterMaps::set_override`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_override(&mut self, spi: Spi, segment: Option<u8>) -> Result<(), XdpError> {
        self.maps.set_override(spi, segment)
    }

    /// Replaces what policies say. What may be clear for ourselves changes first, then the networks, of which those that
    /// protect come first: at every moment a packet meets nothing that neither the old nor the new policies say.
    ///
    /// # Errors
    /// [`XdpError::Map`]. Rules that there is no room for are logged, and what they permit is refused.
    pub fn set_policies(&mut self, policies: &FilterPolicies) -> Result<(), XdpError> {
        self.local.clone_from(&policies.local);
        let rules = self.refresh_rules();
        self.maps.set_networks(&networks(&policies.protected, &policies.bypassed))?;
        rules
    }

    /// As [`set_policies`](Self::set_policies), where only these networks changed, and the rules for ourselves if there
    /// are any.
    ///
    /// # Errors
    /// As for that.
    pub fn change_policies(
        &mut self,
        networks: &[NetworkChange],
        local: Option<Vec<LocalRule>>,
    ) -> Result<(), XdpError> {
        let rules = local.map_or(Ok(()), |local| {
            self.local = local;
            self.refresh_rules()
        });
        self.maps.change_networks(networks)?;
        rules
    }

    /// Replaces our own addresses to which peers send IPsec.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_outer_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), XdpError> {
        self.set_addresses(Side::Outer, addresses)
    }

    /// Replaces the addresses of this host: traffic to them goes to the kernel.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_inner_local(&mut self, addresses: &[IpAddr]) -> Result<(), XdpError> {
        self.set_addresses(Side::Inner, addresses)
    }

    fn set_addresses(&mut self, side: Side, addresses: &[IpAddr]) -> Result<(), XdpError> {
        self.maps.set_addresses(side, addresses)?;
        self.own[side.index()] = addresses.to_vec();
        self.refresh_rules()
    }

    fn refresh_rules(&mut self) -> Result<(), XdpError> {
        set_rules(&mut self.maps, &self.local, &self.own.concat())
    }

    /// See [`FilterMaps::set_shared`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_shared(&mut self, resolution: Resolution, addresses: [&[IpAddr]; 2]) -> Result<(), XdpError> {
        self.maps.set_shared(resolution, addresses)
    }

    /// See [`FilterMaps::set_owners`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_owners(&mut self, owners: &Owners) -> Result<(), XdpError> {
        self.maps.set_owners(owners)
    }

    /// The MAC address that `side` shares with other nodes.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn shared_mac(&self, side: Side) -> Result<Option<Mac>, XdpError> {
        self.maps.shared_mac(side)
    }

    /// See [`FilterMaps::set_own_macs`]: [`install`](Self::install) names the interface's own.
    ///
    /// # Errors
    /// [`XdpError::TooManyMacs`] and [`XdpError::Map`].
    pub fn set_own_macs(&mut self, side: Side, macs: &[Mac]) -> Result<(), XdpError> {
        self.maps.set_own_macs(side, macs)
    }

    /// See [`FilterMaps::register_socket`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn register_socket(&mut self, side: Side, queue: u32, socket: impl AsRawFd) -> Result<(), XdpError> {
        self.maps.register_socket(side, queue, socket)
    }

    /// See [`FilterMaps::unregister_socket`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn unregister_socket(&mut self, side: Side, queue: u32) -> Result<(), XdpError> {
        self.maps.unregister_socket(side, queue)
    }

    /// See [`FilterMaps::verdicts`]; of the sides that are attached.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn verdicts(&self) -> Result<Vec<(Side, &'static str, u64)>, XdpError> {
        let mut verdicts = self.maps.verdicts()?;
        verdicts.retain(|(side, _, _)| self.mode(*side).is_some());
        Ok(verdicts)
    }
}

/// Brings the maps to what `options` say.
fn fill(maps: &mut FilterMaps, options: &XdpOptions) -> Result<(), XdpError> {
    let XdpOptions { outer_addresses, inner_addresses, policies, .. } = options;
    maps.set_hash(options.hash_mode, options.hash_seed)?;
    maps.set_addresses(Side::Outer, outer_addresses)?;
    maps.set_addresses(Side::Inner, inner_addresses)?;
    set_rules(maps, &policies.local, &[&outer_addresses[..], inner_addresses].concat())?;
    maps.set_networks(&networks(&policies.protected, &policies.bypassed))
}

/// What there is no room for is refused. The configuration was checked for the addresses that it names; whatever else
/// this host has is no reason not to protect.
fn set_rules(maps: &mut FilterMaps, candidates: &[LocalRule], own: &[IpAddr]) -> Result<(), XdpError> {
    let rules = needed(candidates, own);
    let fitting = rules.len().min(shared::MAX_RULES as usize);
    if fitting < rules.len() {
        let error = XdpError::TooManyRules { count: rules.len() };
        tracing::error!(%error, "some clear traffic to this host is dropped that a bypass policy permits");
    }
    maps.set_rules(&rules[..fitting])
}
