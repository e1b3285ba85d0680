//! The XDP filter in the kernel: loading, attaching, pinning and its maps.
//!
//! The program is C (`ebpf/baton.bpf.c`, whose head holds the table of verdicts); its twin in Rust is
//! [`crate::steering`]. Maps and links are pinned on a bpffs and outlive every daemon, so that protected traffic
//! has no way in clear while the data plane is down (I7). A restart takes the maps over as they are and swaps
//! the program inside the pinned link, at one instant. Only [`Attachment::uninstall`] detaches.

mod error;
mod link;
mod maps;
mod pins;
mod program;
mod verdicts;

/// Numbers that `ebpf/shared.h` defines for C and Rust alike.
#[allow(clippy::unreadable_literal)] // generated, digit by digit as C has them
pub mod shared {
    include!(concat!(env!("OUT_DIR"), "/filter_shared.rs"));
}

use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use aya::programs::links::FdLink;
use aya::programs::xdp::{XdpLink, XdpMode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

pub use error::XdpError;
pub use maps::FilterMaps;
pub use program::{DryRun, DryRunResult};
pub use verdicts::{Action, Verdict};

use crate::io::Side;
use crate::next_hop::Mac;
use crate::prefix::Prefix;
use crate::steering::{HashMode, Spi};
use pins::{NewPin, PinDirectory};
use program::Loaded;

/// What [`Attachment::install`] needs to know.
#[derive(Clone, Debug)]
pub struct XdpOptions {
    /// Name of the interface on the ciphertext side.
    pub outer: String,
    /// Name of the interface on the plaintext side.
    pub inner: String,
    /// Where maps and links are pinned. If it does not lie on a bpffs, one is mounted.
    pub pin_directory: PathBuf,
    /// Which fields find the segment of a packet that has no SPI of ours.
    pub hash_mode: HashMode,
    /// Seed of that hash; equal on all nodes.
    pub hash_seed: u32,
    /// Our own outer addresses: the ones that the filter protects.
    pub outer_addresses: Vec<IpAddr>,
    /// The addresses whose traffic from the inner side is the kernel's: usually all of this node's own, the outer
    /// ones too. More can follow by [`Attachment::set_inner_local`].
    pub inner_addresses: Vec<IpAddr>,
}

/// How a program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the network stack, behind the driver: works everywhere, slower.
    Generic,
}

impl AttachMode {
    /// The operator's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }

    const fn to_note(self) -> u32 {
        match self {
            Self::Native => shared::ATTACHED_NATIVE,
            Self::Generic => shared::ATTACHED_GENERIC,
        }
    }

    const fn from_note(note: u32) -> Self {
        if note == shared::ATTACHED_GENERIC { Self::Generic } else { Self::Native }
    }

    const fn flags(self) -> XdpMode {
        match self {
            Self::Native => XdpMode::Driver,
            Self::Generic => XdpMode::Skb,
        }
    }
}

/// The filter, attached to both interfaces. Dropping it leaves everything in place.
#[derive(Debug)]
pub struct Attachment {
    maps: FilterMaps,
    modes: [AttachMode; 2],
}

/// An interface and the link that is pinned for its side.
struct Target<'a> {
    side: Side,
    name: &'a str,
    index: u32,
    pinned: Option<FdLink>,
}

impl Attachment {
    /// Puts the filter in place, or takes over the one that is. A new one owns no segment and knows no prefix:
    /// it drops IPsec and everything that is to be forwarded. A taken over one keeps ownership, overrides and
    /// prefixes. Own MAC addresses are then the interfaces' own alone, as they are now.
    ///
    /// # Errors
    /// Every [`XdpError`]. What this call pinned and attached is then removed again; what was pinned before
    /// stays and goes on protecting.
    pub fn install(options: &XdpOptions) -> Result<Self, XdpError> {
        let indices = interface_indices(options)?;
        let macs = own_macs(options, indices)?;
        let pins = PinDirectory::prepare(&options.pin_directory)?;
        let targets = targets(options, indices, &pins)?;
        let known = take_stock(&pins, &targets)?;
        let new_maps = pins.guard_new_maps(&maps::PINNED);
        // Declared before `loaded`, so that on failure they go when this process no longer holds the programs.
        let mut new_links = Vec::new();
        let mut loaded = Loaded::pinned(&pins)?;
        fill(&mut loaded.maps, options, macs, known)?;
        let mut modes = [AttachMode::Native; 2];
        for target in targets {
            let side = target.side;
            modes[side.index()] = attach(&mut loaded, &pins, target, &mut new_links)?;
        }
        new_maps.into_iter().chain(new_links).for_each(NewPin::keep);
        Ok(Self { maps: loaded.maps, modes })
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

    /// How the program of a side is attached.
    pub const fn mode(&self, side: Side) -> AttachMode {
        self.modes[side.index()]
    }

    /// See [`FilterMaps::owned`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn owned(&self) -> Result<[u64; 4], XdpError> {
        self.maps.owned()
    }

    /// See [`FilterMaps::set_owned`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_owned(&mut self, owned: [u64; 4]) -> Result<(), XdpError> {
        self.maps.set_owned(owned)
    }

    /// Puts an ESP SPI in a segment that its top octet does not name; `None` takes that back.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_override(&mut self, spi: u32, segment: Option<u8>) -> Result<(), XdpError> {
        self.maps.set_override(Spi::Esp(spi), segment)
    }

    /// As [`set_override`](Self::set_override), for our half of an IKE SA's SPIs.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_ike_override(&mut self, spi: u64, segment: Option<u8>) -> Result<(), XdpError> {
        self.maps.set_override(Spi::Ike(spi), segment)
    }

    /// See [`FilterMaps::set_prefixes`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_inner_prefixes(&mut self, prefixes: &[(Prefix, u8)]) -> Result<(), XdpError> {
        self.maps.set_prefixes(prefixes)
    }

    /// See [`FilterMaps::add_prefixes`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn add_inner_prefixes(&mut self, prefixes: &[(Prefix, u8)]) -> Result<(), XdpError> {
        self.maps.add_prefixes(prefixes)
    }

    /// Replaces our own outer addresses.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_outer_addresses(&mut self, addresses: &[IpAddr]) -> Result<(), XdpError> {
        self.maps.set_addresses(Side::Outer, addresses)
    }

    /// Replaces our own addresses on the inner side: their traffic goes to the kernel.
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn set_inner_local(&mut self, addresses: &[IpAddr]) -> Result<(), XdpError> {
        self.maps.set_addresses(Side::Inner, addresses)
    }

    /// See [`FilterMaps::set_own_macs`]. [`install`](Self::install) sets the interface's own alone: name that one
    /// too.
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

    /// See [`FilterMaps::verdicts`].
    ///
    /// # Errors
    /// [`XdpError::Map`].
    pub fn verdicts(&self) -> Result<Vec<(Side, &'static str, u64)>, XdpError> {
        self.maps.verdicts()
    }
}

fn interface_indices(options: &XdpOptions) -> Result<[u32; 2], XdpError> {
    if options.outer == options.inner {
        return Err(XdpError::OneInterface(options.outer.clone()));
    }
    Ok([interface_index(Side::Outer, &options.outer)?, interface_index(Side::Inner, &options.inner)?])
}

fn own_macs(options: &XdpOptions, [outer, inner]: [u32; 2]) -> Result<[Mac; 2], XdpError> {
    Ok([
        link::own_mac(Side::Outer, &options.outer, outer)?,
        link::own_mac(Side::Inner, &options.inner, inner)?,
    ])
}

fn interface_index(side: Side, interface: &str) -> Result<u32, XdpError> {
    socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| netdevice::name_to_index(socket, interface))
        .map_err(|_| XdpError::NoInterface { side, interface: interface.to_owned() })
}

/// The inner side first: plaintext is what must be held back.
fn targets<'a>(
    options: &'a XdpOptions,
    indices: [u32; 2],
    pins: &PinDirectory,
) -> Result<[Target<'a>; 2], XdpError> {
    let target = |side: Side, name: &'a str| {
        let index = indices[side.index()];
        Ok(Target { side, name, index, pinned: live_link(pins, side, name, index)? })
    };
    Ok([target(Side::Inner, &options.inner)?, target(Side::Outer, &options.outer)?])
}

/// The link that protects this interface; a link whose interface is gone protects nothing and does not count.
fn live_link(pins: &PinDirectory, side: Side, name: &str, index: u32) -> Result<Option<FdLink>, XdpError> {
    let Some(link) = pins.open_link(side)? else { return Ok(None) };
    match pins::interface_of(&link) {
        Some(0) => Ok(None),
        Some(pinned) if pinned == index => Ok(Some(link)),
        Some(pinned) => Err(XdpError::OtherInterface { side, pinned, interface: name.to_owned() }),
        None => Err(XdpError::damaged(pins.path(), format!("the {} link is no XDP link", side.name()))),
    }
}

/// Whether the pinned maps can be taken over. Removes what an installation that died half-way left.
fn take_stock(pins: &PinDirectory, targets: &[Target<'_>]) -> Result<bool, XdpError> {
    let attached = targets.iter().any(|target| target.pinned.is_some());
    match program::pinned_layout(pins)? {
        Some(shared::LAYOUT) => Ok(true),
        Some(found) if found != 0 => Err(XdpError::Layout { path: pins.path().to_owned(), found }),
        _ if attached => Err(XdpError::damaged(pins.path(), "a link is pinned, but no finished config map")),
        _ => maps::PINNED.into_iter().try_for_each(|name| pins.remove_map(name)).map(|()| false),
    }
}

/// Brings the maps to what `options` say. The layout number comes last: it says that the rest is there.
fn fill(maps: &mut FilterMaps, options: &XdpOptions, own: [Mac; 2], known: bool) -> Result<(), XdpError> {
    maps.set_hash(options.hash_mode, options.hash_seed)?;
    maps.set_addresses(Side::Outer, &options.outer_addresses)?;
    maps.set_addresses(Side::Inner, &options.inner_addresses)?;
    Side::ALL.into_iter().try_for_each(|side| maps.set_own_macs(side, &[own[side.index()]]))?;
    if known { Ok(()) } else { maps.set_config(shared::CONFIG_LAYOUT, shared::LAYOUT) }
}

fn attach(
    loaded: &mut Loaded,
    pins: &PinDirectory,
    target: Target<'_>,
    new_links: &mut Vec<NewPin>,
) -> Result<AttachMode, XdpError> {
    let note = mode_note(target.side);
    if let Some(link) = target.pinned {
        let link = XdpLink::try_from(link).map_err(|error| XdpError::attach(target.name, &error))?;
        let program = loaded.program(target.side)?;
        program.attach_to_link(link).map_err(|error| XdpError::attach(target.name, &error))?;
        let mode = AttachMode::from_note(loaded.maps.config(note)?);
        tracing::info!(interface = target.name, mode = mode.name(), "took over the pinned XDP filter");
        return Ok(mode);
    }
    pins.remove_link(target.side)?;
    let (mode, link) = attach_new(loaded, &target)?;
    new_links.push(pins.pin_link(target.side, link)?);
    loaded.maps.set_config(note, mode.to_note())?;
    Ok(mode)
}

const fn mode_note(side: Side) -> u32 {
    match side {
        Side::Outer => shared::CONFIG_OUTER_MODE,
        Side::Inner => shared::CONFIG_INNER_MODE,
    }
}

fn attach_new(loaded: &mut Loaded, target: &Target<'_>) -> Result<(AttachMode, FdLink), XdpError> {
    match attach_in(AttachMode::Native, loaded, target) {
        Ok(link) => {
            tracing::info!(interface = target.name, "attached the XDP filter in native mode");
            Ok((AttachMode::Native, link))
        }
        Err(XdpError::Attach { reason, .. }) => {
            let link = attach_in(AttachMode::Generic, loaded, target)?;
            tracing::warn!(
                interface = target.name,
                reason,
                "the driver does not take the XDP filter; attached in generic mode, which is slower"
            );
            Ok((AttachMode::Generic, link))
        }
        Err(error) => Err(error),
    }
}

fn attach_in(mode: AttachMode, loaded: &mut Loaded, target: &Target<'_>) -> Result<FdLink, XdpError> {
    let program = loaded.program(target.side)?;
    let refused = |error: aya::programs::ProgramError| XdpError::attach(target.name, &error);
    let id = program.attach_to_if_index(target.index, mode.flags()).map_err(refused)?;
    let link = program.take_link(id).map_err(refused)?;
    // Only a bpf_link can be pinned; where the kernel gave another kind, dropping it detaches.
    FdLink::try_from(link).map_err(|error| XdpError::attach(target.name, &error))
}
