//! Which media the gateway's two sides have, by configuration and by what the machine allows.

use std::io;

use rustix::net::{AddressFamily, SocketType, netdevice, socket};
use tracing::warn;

use super::error::DaemonError;
use crate::config::{Config, InnerInterface, OuterIo};
use crate::divert;
use crate::io::Side;
use crate::io::af_xdp::{Inner, Outer};
use crate::io::socket::SocketOptions;
use crate::io::tun::{self, TunOptions};
use crate::prefix::Prefix;

/// The media of both sides.
#[derive(Clone, Debug)]
pub(super) struct Media {
    pub(super) outer: Outer,
    pub(super) inner: Inner,
}

impl Media {
    /// What is tried first.
    pub(super) fn of(config: &Config) -> Self {
        let name = config.outer.interface.clone();
        let outer = match config.outer.io {
            OuterIo::Auto | OuterIo::AfXdp => Outer::AfXdp(name),
            OuterIo::Socket => sockets(config),
        };
        let inner = match &config.inner.interface {
            InnerInterface::Device(name) => Inner::AfXdp(name.clone()),
            InnerInterface::Tun(name) => Inner::Tun(TunOptions { name: name.clone(), mtu: None }),
        };
        Self { outer, inner }
    }

    /// What is tried after `error`, if the configuration leaves the choice to us: sockets outside.
    pub(super) fn instead(&self, config: &Config, error: &DaemonError) -> Option<Self> {
        let is_ours_to_choose = config.outer.io == OuterIo::Auto && matches!(self.outer, Outer::AfXdp(_));
        let is_about_media = matches!(error, DaemonError::Xdp(_) | DaemonError::AfXdp(_));
        if !is_ours_to_choose || !is_about_media {
            return None;
        }
        warn!(
            %error,
            "AF_XDP is not to be had outside; going on with sockets, which are slower and leave clear packets from \
             protected sources to the kernel ([outer] io = \"af-xdp\" refuses this)"
        );
        Some(Self { outer: sockets(config), inner: self.inner.clone() })
    }

    /// The interface of a side that needs the XDP filter.
    pub(super) fn filtered(&self, side: Side) -> Option<String> {
        match (side, &self.outer, &self.inner) {
            (Side::Outer, Outer::AfXdp(name), _) | (Side::Inner, _, Inner::AfXdp(name)) => Some(name.clone()),
            _ => None,
        }
    }

    /// The operator's word for a side that has no filter.
    pub(super) fn unfiltered_name(side: Side) -> &'static str {
        match side {
            Side::Outer => "socket",
            Side::Inner => "tun",
        }
    }
}

fn sockets(config: &Config) -> Outer {
    SocketOptions::new(config.outer.interface.clone(), config.outer.addresses.clone()).into()
}

/// Makes the TUN device, if the inner side is one; if it was one before, nothing is led into that any more.
pub(super) fn prepare(media: &Media) -> Result<(), DaemonError> {
    match &media.inner {
        Inner::Tun(options) => tun::prepare(options)?,
        Inner::AfXdp(_) => divert::remove()?,
    }
    Ok(())
}

/// Leads the protected prefixes into the TUN device, if there is one.
pub(super) fn divert(inner: &InnerInterface, prefixes: &[Prefix]) -> Result<(), DaemonError> {
    let InnerInterface::Tun(name) = inner else { return Ok(()) };
    Ok(divert::install(prefixes, index_of(name)?)?)
}

/// Those of these prefixes that are not led into the TUN device, if there is one.
pub(super) fn not_diverted(inner: &InnerInterface, prefixes: &[Prefix]) -> Result<Vec<Prefix>, DaemonError> {
    let InnerInterface::Tun(name) = inner else { return Ok(Vec::new()) };
    Ok(divert::missing(prefixes, index_of(name)?)?)
}

/// Leads some prefixes more into the TUN device, and some no longer.
pub(super) fn change_diverted(
    inner: &InnerInterface,
    more: &[Prefix],
    gone: &[Prefix],
) -> Result<(), DaemonError> {
    let InnerInterface::Tun(name) = inner else { return Ok(()) };
    divert::extend(more, index_of(name)?)?;
    Ok(divert::release(gone)?)
}

pub(super) fn index_of(name: &str) -> Result<u32, DaemonError> {
    socket(AddressFamily::INET, SocketType::DGRAM, None)
        .and_then(|socket| netdevice::name_to_index(socket, name))
        .map_err(|error| DaemonError::TunIndex { name: name.to_owned(), source: io::Error::from(error) })
}

/// Takes away what [`prepare`] and [`divert`] made.
pub(super) fn remove(config: &Config) -> Result<(), DaemonError> {
    // Whatever the inner side is now: it may have been a TUN device when they were made.
    divert::remove()?;
    if let InnerInterface::Tun(name) = &config.inner.interface {
        tun::remove(name)?;
    }
    Ok(())
}
