//! The XDP filter as the daemon keeps it: on the sides that AF_XDP serves, following addresses and policies; leases
//! are followed by [`super::ownership`].

use std::net::IpAddr;
use std::path::Path;
use std::{io, iter};

use tracing::{info, warn};

use super::error::{DaemonError, io_error};
use super::media::Media;
use crate::config::Config;
use crate::io::Side;
use crate::io::af_xdp::AfXdpIo;
use crate::io::membership::Membership;
use crate::next_hop::{Mac, NextHops};
use crate::steering::{LocalRule, Spi};
use crate::xdp::{
    Attachment, FilterPolicies, NetworkChange, Owners, Ownership, Resolution, XdpError, XdpOptions,
};

/// The filter, and what it was told last.
pub(super) struct Filter {
    /// `None` where neither side has AF_XDP.
    attachment: Option<Attachment>,
    /// The addresses of this host.
    local: Vec<IpAddr>,
    /// The link-layer address of each side.
    macs: [Mac; 2],
    /// The names of the interfaces that have a filter.
    interfaces: [Option<String>; 2],
    /// Those by which they take in frames for a shared address.
    memberships: [Option<Membership>; 2],
}

impl Filter {
    /// Attaches it, or takes over what is attached, with all that it has to know.
    pub(super) fn install(
        config: &Config,
        policies: &FilterPolicies,
        media: &Media,
        hops: &NextHops,
    ) -> Result<Self, XdpError> {
        let local = hops.local_addresses().to_vec();
        let options = options(config, policies, media, local.clone());
        let is_wanted = options.outer.is_some() || options.inner.is_some();
        let attachment = if is_wanted {
            Some(Attachment::install(&options)?)
        } else {
            Attachment::require_none(&options.pin_directory)?;
            None
        };
        let macs = Side::ALL.map(|side| hops.side(side).mac);
        let interfaces = [options.outer, options.inner];
        let mut filter = Self { attachment, local, macs, interfaces, memberships: [None, None] };
        filter.join_again();
        for side in Side::ALL {
            info!(side = side.name(), mode = filter.mode(side), "the side is served");
        }
        Ok(filter)
    }

    /// The addresses that a data plane before this one has shared: the maps know them, the interfaces do not any more.
    fn join_again(&mut self) {
        let shared =
            |attachment: &Attachment| Side::ALL.map(|side| attachment.shared_mac(side).ok().flatten());
        let macs = self.attachment.as_ref().map_or([None, None], shared);
        if let Err(error) = self.join(macs) {
            warn!(%error, "an interface takes in no frames for the shared MAC address until it is named again");
        }
    }

    /// Has the interfaces take in frames for these addresses, and for those before no longer.
    fn join(&mut self, macs: [Option<Mac>; 2]) -> io::Result<()> {
        for side in Side::ALL {
            let wanted = self.interfaces[side.index()].as_deref().zip(macs[side.index()]);
            self.memberships[side.index()] =
                wanted.map(|(interface, mac)| Membership::join(interface, mac)).transpose()?;
        }
        Ok(())
    }

    /// Takes back what [`install`](Self::install) attached anew: nobody will receive what it redirects.
    pub(super) fn withdraw(self) -> Result<(), XdpError> {
        self.attachment.map_or(Ok(()), Attachment::withdraw)
    }

    /// How a side is served: the mode of its filter, or what stands in for AF_XDP.
    pub(super) fn mode(&self, side: Side) -> &'static str {
        let attachment = self.attachment.as_ref();
        let mode = attachment.and_then(|attachment| attachment.mode(side));
        mode.map_or(Media::unfiltered_name(side), crate::xdp::AttachMode::name)
    }

    /// The part of it that follows leases; `None` where there is no filter.
    pub(super) fn ownership(&self) -> Result<Option<Ownership>, XdpError> {
        self.attachment.as_ref().map(Attachment::ownership).transpose()
    }

    /// Sends packets of its sides to these sockets.
    pub(super) fn register(&mut self, io: &AfXdpIo) -> Result<(), XdpError> {
        let Some(attachment) = &mut self.attachment else { return Ok(()) };
        io.sockets().try_for_each(|(side, queue, socket)| attachment.register_socket(side, queue, socket))
    }

    /// Follows the addresses of this host.
    pub(super) fn follow(&mut self, hops: &NextHops) -> Result<(), XdpError> {
        let Some(attachment) = &mut self.attachment else { return Ok(()) };
        if hops.local_addresses() != self.local {
            attachment.set_inner_local(hops.local_addresses())?;
            self.local = hops.local_addresses().to_vec();
        }
        for side in Side::ALL {
            let mac = hops.side(side).mac;
            if mac != self.macs[side.index()] && attachment.mode(side).is_some() {
                let macs: Vec<Mac> = iter::once(mac).chain(attachment.shared_mac(side)?).collect();
                attachment.set_own_macs(side, &macs)?;
                self.macs[side.index()] = mac;
            }
        }
        Ok(())
    }

    /// Shares addresses with other nodes, with those of `macs` by side.
    pub(super) fn share(
        &mut self,
        resolution: Resolution,
        addresses: [&[IpAddr]; 2],
        macs: [Option<Mac>; 2],
    ) -> Result<(), DaemonError> {
        let joined = self.join(macs);
        joined.map_err(io_error("let in frames for a shared MAC address on", Path::new("an interface")))?;
        let Some(attachment) = &mut self.attachment else { return Ok(()) };
        for side in Side::ALL {
            if attachment.mode(side).is_some() {
                let (own, shared) = (self.macs[side.index()], macs[side.index()]);
                attachment.set_own_macs(side, &iter::once(own).chain(shared).collect::<Vec<_>>())?;
            }
        }
        Ok(attachment.set_shared(resolution, addresses)?)
    }

    /// Learns where frames of other nodes' segments go.
    pub(super) fn set_owners(&mut self, owners: &Owners) -> Result<(), XdpError> {
        self.attachment.as_mut().map_or(Ok(()), |attachment| attachment.set_owners(owners))
    }

    /// Puts an SPI in a segment that its top octet does not name, or takes that back.
    pub(super) fn set_override(&mut self, spi: Spi, segment: Option<u8>) -> Result<(), XdpError> {
        self.attachment.as_mut().map_or(Ok(()), |attachment| attachment.set_override(spi, segment))
    }

    /// Whether packets of this side come through the filter.
    pub(super) fn is_on(&self, side: Side) -> bool {
        self.attachment.as_ref().is_some_and(|attachment| attachment.mode(side).is_some())
    }

    /// Takes over a new configuration's addresses and policies.
    pub(super) fn reconfigure(&mut self, config: &Config, policies: &FilterPolicies) -> Result<(), XdpError> {
        let Some(attachment) = &mut self.attachment else { return Ok(()) };
        attachment.set_outer_addresses(&config.outer.addresses)?;
        attachment.set_policies(policies)
    }

    /// Takes over a change of policies.
    pub(super) fn change_policies(
        &mut self,
        networks: &[NetworkChange],
        local: Option<Vec<LocalRule>>,
    ) -> Result<(), XdpError> {
        let Some(attachment) = &mut self.attachment else { return Ok(()) };
        attachment.change_policies(networks, local)
    }

    /// Packets by side and verdict.
    pub(super) fn verdicts(&self) -> Result<Vec<(Side, &'static str, u64)>, XdpError> {
        self.attachment.as_ref().map_or(Ok(Vec::new()), Attachment::verdicts)
    }
}

fn options(config: &Config, policies: &FilterPolicies, media: &Media, local: Vec<IpAddr>) -> XdpOptions {
    XdpOptions {
        outer: media.filtered(Side::Outer),
        inner: media.filtered(Side::Inner),
        pin_directory: config.node.pin_directory.clone(),
        hash_mode: config.segments.hash,
        hash_seed: config.segments.seed,
        outer_addresses: config.outer.addresses.clone(),
        inner_addresses: local,
        policies: policies.clone(),
    }
}
