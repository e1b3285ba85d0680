//! Attaching to interfaces, and taking over what is attached.

use aya::programs::links::FdLink;
use aya::programs::xdp::XdpLink;
use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

use super::error::XdpError;
use super::options::{AttachMode, XdpOptions};
use super::pins::{self, NewPin, PinDirectory};
use super::program::{self, Loaded};
use super::{link, maps, shared};
use crate::io::Side;
use crate::next_hop::Mac;

/// An interface that the filter shall be on.
pub(super) struct Interface<'a> {
    pub(super) side: Side,
    name: &'a str,
    index: u32,
    pub(super) mac: Mac,
}

/// An interface and the link that is pinned for its side.
pub(super) struct Target<'a> {
    interface: &'a Interface<'a>,
    pinned: Option<FdLink>,
}

impl Target<'_> {
    pub(super) const fn side(&self) -> Side {
        self.interface.side
    }

    /// Whether there is a link already that goes on.
    pub(super) const fn is_taken_over(&self) -> bool {
        self.pinned.is_some()
    }
}

/// The inner side first: plaintext is what must be held back.
pub(super) fn interfaces(options: &XdpOptions) -> Result<Vec<Interface<'_>>, XdpError> {
    let (outer, inner) = (options.outer.as_deref(), options.inner.as_deref());
    if let Some(name) = outer.filter(|_| outer == inner) {
        return Err(XdpError::OneInterface(name.to_owned()));
    }
    let named = [(Side::Inner, inner), (Side::Outer, outer)];
    let interfaces = named.into_iter().filter_map(|(side, name)| Some(interface(side, name?)));
    let interfaces = interfaces.collect::<Result<Vec<_>, _>>()?;
    if interfaces.is_empty() { Err(XdpError::NoSide) } else { Ok(interfaces) }
}

fn interface(side: Side, name: &str) -> Result<Interface<'_>, XdpError> {
    let index = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .and_then(|socket| netdevice::name_to_index(socket, name))
        .map_err(|_| XdpError::NoInterface { side, interface: name.to_owned() })?;
    Ok(Interface { side, name, index, mac: link::own_mac(side, name, index)? })
}

/// What is to be attached, or taken over. A link on a side that shall have none is not left behind in silence.
pub(super) fn targets<'a>(
    interfaces: &'a [Interface<'a>],
    pins: &PinDirectory,
) -> Result<Vec<Target<'a>>, XdpError> {
    for side in Side::ALL.into_iter().filter(|side| interfaces.iter().all(|i| i.side != *side)) {
        if let Some((_, pinned)) = live_link(pins, side)? {
            return Err(XdpError::Unwanted { side, pinned });
        }
        pins.remove_link(side)?;
    }
    interfaces.iter().map(|interface| target(interface, pins)).collect()
}

fn target<'a>(interface: &'a Interface<'a>, pins: &PinDirectory) -> Result<Target<'a>, XdpError> {
    let Interface { side, name, index, .. } = *interface;
    match live_link(pins, side)? {
        Some((_, pinned)) if pinned != index => {
            Err(XdpError::OtherInterface { side, pinned, interface: name.to_owned() })
        }
        live => Ok(Target { interface, pinned: live.map(|(link, _)| link) }),
    }
}

/// The link that protects this side, and the index of its interface; a link whose interface is gone protects nothing
/// and does not count.
fn live_link(pins: &PinDirectory, side: Side) -> Result<Option<(FdLink, u32)>, XdpError> {
    let Some(link) = pins.open_link(side)? else { return Ok(None) };
    match pins::interface_of(&link) {
        Some(0) => Ok(None),
        Some(index) => Ok(Some((link, index))),
        None => Err(XdpError::damaged(pins.path(), format!("the {} link is no XDP link", side.name()))),
    }
}

/// Whether the pinned maps can be taken over. Removes what an installation that died half-way left.
pub(super) fn take_stock(pins: &PinDirectory, targets: &[Target<'_>]) -> Result<bool, XdpError> {
    let attached = targets.iter().any(|target| target.pinned.is_some());
    match program::pinned_layout(pins)? {
        Some(shared::LAYOUT) => Ok(true),
        Some(found) if found != 0 => Err(XdpError::Layout { path: pins.path().to_owned(), found }),
        _ if attached => Err(XdpError::damaged(pins.path(), "a link is pinned, but no finished config map")),
        _ => maps::PINNED.into_iter().try_for_each(|name| pins.remove_map(name)).map(|()| false),
    }
}

pub(super) fn attach(
    loaded: &mut Loaded,
    pins: &PinDirectory,
    target: Target<'_>,
    new_links: &mut Vec<NewPin>,
) -> Result<AttachMode, XdpError> {
    let (side, name) = (target.side(), target.interface.name);
    let note = mode_note(side);
    if let Some(link) = target.pinned {
        let link = XdpLink::try_from(link).map_err(|error| XdpError::attach(name, &error))?;
        let program = loaded.program(side)?;
        program.attach_to_link(link).map_err(|error| XdpError::attach(name, &error))?;
        let mode = AttachMode::from_note(loaded.maps.config(note)?);
        tracing::info!(interface = name, mode = mode.name(), "took over the pinned XDP filter");
        return Ok(mode);
    }
    pins.remove_link(side)?;
    let (mode, link) = attach_new(loaded, &target)?;
    new_links.push(pins.pin_link(side, link)?);
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
    let name = target.interface.name;
    match attach_in(AttachMode::Native, loaded, target) {
        Ok(link) => {
            tracing::info!(interface = name, "attached the XDP filter in native mode");
            Ok((AttachMode::Native, link))
        }
        Err(XdpError::Attach { reason, .. }) => {
            let link = attach_in(AttachMode::Generic, loaded, target)?;
            tracing::warn!(
                interface = name,
                reason,
                "the driver does not take the XDP filter; attached in generic mode, which is slower"
            );
            Ok((AttachMode::Generic, link))
        }
        Err(error) => Err(error),
    }
}

fn attach_in(mode: AttachMode, loaded: &mut Loaded, target: &Target<'_>) -> Result<FdLink, XdpError> {
    let Interface { name, index, .. } = *target.interface;
    let program = loaded.program(target.side())?;
    let refused = |error: aya::programs::ProgramError| XdpError::attach(name, &error);
    let id = program.attach_to_if_index(index, mode.flags()).map_err(refused)?;
    let link = program.take_link(id).map_err(refused)?;
    // Only a bpf_link can be pinned; where the kernel gave another kind, dropping it detaches.
    FdLink::try_from(link).map_err(|error| XdpError::attach(name, &error))
}
