//! How the nodes share addresses on one link: `[cluster] announce`.

use std::net::IpAddr;

use baton_dataplane::config::cluster_id_of;
use baton_dataplane::config::field::{unicast, word};
use baton_dataplane::config::reader::{Section, shortened};
use baton_dataplane::next_hop::Mac;

/// What the data plane takes of a side.
const MAX_ADDRESSES: usize = 64;

/// How frames for a shared address reach its nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Announce {
    /// It is the network's to see to.
    #[default]
    None,
    /// All nodes get all frames, by a multicast MAC address that they share, and each takes its segments'.
    MulticastMac,
    /// One node gets all frames, and sends those of the others on.
    Attract,
}

/// The addresses that the nodes share, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharing {
    /// How.
    pub announce: Announce,
    /// The MAC address, with [`Announce::MulticastMac`].
    pub mac: Option<Mac>,
    /// Shared addresses of the inner side; those of the outer one stand in `[outer]`.
    pub inner_addresses: Vec<IpAddr>,
}

/// Of `[cluster]`, in the cluster of this name.
pub(super) fn read(section: &Section<'_, '_>, cluster: Option<&str>) -> Option<Sharing> {
    let words =
        [("none", Announce::None), ("multicast-mac", Announce::MulticastMac), ("attract", Announce::Attract)];
    let announce = word(section, "announce", &words);
    let mac = section.get("mac").map_or(Some(None), |item| {
        if announce.is_some_and(|announce| announce != Announce::MulticastMac) {
            item.report("this is used with announce = \"multicast-mac\" only", "leave it out, or say so");
        }
        multicast(&item).map(Some)
    });
    let inner_addresses = inner_addresses(section, announce);
    let announce = announce?;
    let derived = || cluster.map(derive);
    let mac = if announce == Announce::MulticastMac { mac?.or_else(derived) } else { None };
    Some(Sharing { announce, mac, inner_addresses: inner_addresses? })
}

/// Nothing is shared where sockets take packets for whatever address this host has.
pub(super) fn check(section: &Section<'_, '_>, sharing: &Sharing, gateway: &baton_dataplane::config::Config) {
    if sharing.announce != Announce::None && gateway.outer.addresses.is_empty() {
        let message = "`announce` needs to know which addresses the nodes share";
        section.place().report(section.source(), message, "list them in [outer] addresses");
    }
}

/// Locally administered, and multicast: the two lowest bits of its first octet (IEEE 802, section 8.2).
fn derive(cluster: &str) -> Mac {
    let mut octets = [0x03; 6];
    octets[1..].copy_from_slice(&cluster_id_of(cluster).get().to_be_bytes()[3..]);
    Mac(octets)
}

fn multicast(item: &baton_dataplane::config::reader::Item<'_, '_>) -> Option<Mac> {
    const REMEDY: &str =
        "write a multicast MAC address, whose first octet is odd, e.g. \"03:00:5e:00:53:01\"";
    let text = item.string()?;
    let Ok(mac) = text.parse::<Mac>() else {
        item.report(format!("\"{}\" is no MAC address", shortened(text)), REMEDY);
        return None;
    };
    if mac.is_group() && mac.0 != [0xff; 6] {
        return Some(mac);
    }
    item.report(format!("{mac} reaches one host, or all of them, and not the nodes"), REMEDY);
    None
}

fn inner_addresses(section: &Section<'_, '_>, announce: Option<Announce>) -> Option<Vec<IpAddr>> {
    let Some(item) = section.get("inner_addresses") else { return Some(Vec::new()) };
    if announce == Some(Announce::None) {
        item.report(
            "nothing is shared without `announce`",
            "add announce = \"multicast-mac\" or \"attract\"",
        );
    }
    let entries = item.array();
    if entries.len() > MAX_ADDRESSES {
        let message = format!("{} addresses are too many", entries.len());
        item.report(message, format!("a side shares {MAX_ADDRESSES} at most"));
        return None;
    }
    let mut addresses = Vec::new();
    for entry in &entries {
        let address = entry.text().and_then(|word| unicast(&word))?;
        if addresses.contains(&address) {
            entry.report(format!("{address} stands here twice"), "write it once");
        }
        addresses.push(address);
    }
    Some(addresses)
}
