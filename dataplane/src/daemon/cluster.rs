//! What the cluster daemon asks of the data plane's links: shared addresses, owners' MAC addresses, announcements.

use std::net::IpAddr;

use super::gateway::Gateway;
use crate::control::{
    Announce, AnnounceReport, ClusterAddress, ClusterReport, Code, Override, OwnerMacs, Refusal, SharedSide,
};
use crate::io::Side;
use crate::next_hop::Mac;
use crate::packet::announcement::Form;
use crate::steering::Spi;
use crate::worker::Command;
use crate::xdp::{Owners, Resolution};

/// Addresses that a side may share.
const MAX_ADDRESSES: usize = 64;
/// Other nodes' MAC addresses, of both sides.
const MAX_MEMBERS: usize = 512;

/// SPIs in one request.
const MAX_OVERRIDES: usize = 1000;

/// Shares these addresses with other nodes.
pub(super) fn share(gateway: &Gateway, shared: &ClusterAddress) -> Result<ClusterReport, Refusal> {
    let sides = [&shared.outer, &shared.inner];
    for side in sides {
        check_addresses(&side.addresses)?;
        check_shared_mac(shared.resolution, side)?;
    }
    let addresses = sides.map(|side| &side.addresses[..]);
    gateway.with_filter(|filter| {
        filter.share(shared.resolution, addresses, sides.map(|side| side.mac)).map_err(internal)?;
        Ok(report(|side| filter.is_on(side)))
    })
}

/// Learns where frames of other nodes' segments go.
pub(super) fn learn_owners(gateway: &Gateway, macs: &OwnerMacs) -> Result<ClusterReport, Refusal> {
    let owners = owners(macs)?;
    gateway.with_filter(|filter| {
        filter.set_owners(&owners).map_err(internal)?;
        Ok(report(|side| filter.is_on(side)))
    })
}

/// Puts these SPIs in another segment, or back in their own.
pub(super) fn override_segment(gateway: &Gateway, spis: &Override) -> Result<ClusterReport, Refusal> {
    let count = spis.esp.len() + spis.ike.len();
    if count > MAX_OVERRIDES {
        return Err(bad(format!("{count} SPIs; {MAX_OVERRIDES} at once are possible"), "ask several times"));
    }
    let all = spis.esp.iter().map(|spi| Spi::Esp(*spi)).chain(spis.ike.iter().map(|spi| Spi::Ike(*spi)));
    gateway.with_filter(|filter| {
        all.into_iter().try_for_each(|spi| filter.set_override(spi, spis.segment)).map_err(internal)?;
        Ok(report(|side| filter.is_on(side)))
    })
}

/// Tells the links that these addresses are here, once.
pub(super) fn announce(gateway: &Gateway, addresses: &Announce) -> Result<AnnounceReport, Refusal> {
    let sides = [(Side::Outer, &addresses.outer), (Side::Inner, &addresses.inner)];
    for (_, addresses) in sides {
        check_addresses(addresses)?;
    }
    let all = sides.into_iter().flat_map(|(side, addresses)| addresses.iter().map(move |a| (side, *a)));
    let commands = all.flat_map(|(side, address)| {
        let forms = if address.is_ipv4() { &[Form::Request, Form::Reply][..] } else { &[Form::Request] };
        forms.iter().map(move |form| Command::Announce { side, address, form: *form })
    });
    let frames = commands.filter(|command| gateway.rings.command(*command)).count();
    Ok(AnnounceReport { frames: frames as u32 })
}

fn report(is_on: impl Fn(Side) -> bool) -> ClusterReport {
    let filtered = Side::ALL.into_iter().filter(|side| is_on(*side)).map(|side| side.name().to_owned());
    ClusterReport { filtered: filtered.collect() }
}

fn check_addresses(addresses: &[IpAddr]) -> Result<(), Refusal> {
    if addresses.len() > MAX_ADDRESSES {
        let message = format!("{} shared addresses; a side has {MAX_ADDRESSES} at most", addresses.len());
        return Err(bad(message, "share fewer"));
    }
    let is_hosts =
        |address: &IpAddr| !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
    match addresses.iter().find(|address| !is_hosts(address)) {
        Some(address) => Err(bad(format!("{address} is no address that hosts could share"), "name another")),
        None => Ok(()),
    }
}

fn check_shared_mac(resolution: Resolution, side: &SharedSide) -> Result<(), Refusal> {
    if side.mac == Some(Mac::default()) {
        return Err(bad("00:00:00:00:00:00 is no MAC address to share", "name another"));
    }
    if resolution == Resolution::SharedMac && side.mac.is_none() && !side.addresses.is_empty() {
        return Err(bad("a side has shared addresses, but no MAC address to answer with", "give its `mac`"));
    }
    Ok(())
}

fn owners(macs: &OwnerMacs) -> Result<Owners, Refusal> {
    let OwnerMacs { owners, members } = macs;
    if members.len() > MAX_MEMBERS {
        let message = format!("{} MAC addresses of members; {MAX_MEMBERS} are possible", members.len());
        return Err(bad(message, "name fewer"));
    }
    let named = owners.iter().flat_map(|owner| [owner.outer, owner.inner]).flatten();
    if let Some(mac) =
        named.chain(members.iter().copied()).find(|mac| mac.is_group() || *mac == Mac::default())
    {
        return Err(bad(format!("{mac} is no node's own MAC address"), "name the interface's"));
    }
    let mut known = Owners { members: members.clone(), ..Owners::default() };
    let mut seen = [false; 256];
    for owner in owners {
        for segment in &owner.segments {
            let place = usize::from(*segment);
            if std::mem::replace(&mut seen[place], true) {
                return Err(bad(format!("segment {segment} has two owners"), "name each segment once"));
            }
            for (side, mac) in [(Side::Outer, owner.outer), (Side::Inner, owner.inner)] {
                known.macs[side.index()][place] = mac.unwrap_or_default();
            }
        }
    }
    Ok(known)
}

fn bad(message: impl std::fmt::Display, remedy: &str) -> Refusal {
    Refusal::new(Code::BadRequest, message, remedy)
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error, "see the data plane's log, then try again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::OwnerMac;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    #[test]
    fn owners_are_learned_by_segment_and_side() {
        let owner = OwnerMac { segments: vec![0, 255], outer: Some(MAC), inner: None };
        let known = owners(&OwnerMacs { owners: vec![owner.clone()], members: vec![MAC] }).expect("fine");
        assert_eq!((known.macs[0][0], known.macs[0][1], known.macs[0][255]), (MAC, Mac::default(), MAC));
        assert_eq!(known.macs[1], Owners::default().macs[1]);
        let twice = OwnerMacs { owners: vec![owner.clone(), owner], members: vec![] };
        assert_eq!(owners(&twice).expect_err("refused").message, "segment 0 has two owners");
    }

    #[test]
    fn what_no_node_can_have_is_refused() {
        for mac in [Mac::default(), Mac([1, 0, 0x5e, 0, 0, 1])] {
            let owner = OwnerMac { segments: vec![], outer: None, inner: Some(mac) };
            assert!(owners(&OwnerMacs { owners: vec![owner], members: vec![] }).is_err());
            assert!(owners(&OwnerMacs { owners: vec![], members: vec![mac] }).is_err());
        }
        for address in ["0.0.0.0", "224.0.0.1", "::1", "ff02::1"] {
            assert!(check_addresses(&[address.parse().expect("an address")]).is_err(), "{address}");
        }
        assert!(check_addresses(&["192.0.2.1".parse().expect("an address"); 65]).is_err());
        let side = SharedSide { addresses: vec!["192.0.2.1".parse().expect("an address")], mac: None };
        assert!(check_shared_mac(Resolution::SharedMac, &side).is_err());
        assert!(check_shared_mac(Resolution::Silent, &side).is_ok());
    }
}
