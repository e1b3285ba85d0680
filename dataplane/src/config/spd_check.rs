//! What only shows when all policies are seen together.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use baton_sad::{AddressRange, Selector};

use super::check::repeated;
use super::cover::show;
use super::local_rules::across_local_rules;
use super::policy::covers;
use super::reader::{Place, Source};
use super::sections::Read;
use super::tunnel::TunnelPlaces;
use super::{PolicyDirection, TrafficSelector, Tunnel};
use crate::xdp::shared;

/// Entries of the SPD, one per pair of selectors.
const MAX_ENTRIES: usize = 1 << 20;
/// Prefixes that the filter has room for.
const MAX_PREFIXES: usize = shared::MAX_PREFIXES as usize;

pub(super) fn across_policies(source: &Source<'_>, read: &Read) {
    let owners = owners(read);
    names(source, &owners);
    if is_too_large(source, &owners) {
        return;
    }
    destinations(source, &read.tunnels, &read.places);
    bypass_segments(source, read);
    unreachable(source, &owners);
    across_local_rules(source, read);
}

/// A `[[policy]]` or `[[tunnel]]`. Their order decides between equal priorities.
struct Owner<'r> {
    name: &'r str,
    kind: &'static str,
    place: &'r Place,
    priority: u32,
    direction: PolicyDirection,
    local: &'r [TrafficSelector],
    remote: &'r [TrafficSelector],
    /// Of `remote`.
    places: &'r [Place],
}

fn owners(read: &Read) -> Vec<Owner<'_>> {
    let exceptions = read.exceptions.iter().zip(&read.exception_places).map(|(exception, places)| Owner {
        name: &exception.name,
        kind: "policy",
        place: &places.name,
        priority: exception.priority,
        direction: exception.direction,
        local: &exception.local_selectors,
        remote: &exception.remote_selectors,
        places: &places.remote_selectors,
    });
    let tunnels = read.tunnels.iter().zip(&read.places).map(|(tunnel, places)| Owner {
        name: &tunnel.name,
        kind: "tunnel",
        place: &places.name,
        priority: tunnel.priority,
        direction: PolicyDirection::Both,
        local: &tunnel.local_selectors,
        remote: &tunnel.remote_selectors,
        places: &places.remote_selectors,
    });
    exceptions.chain(tunnels).collect()
}

/// A policy's name is its own; two tunnels of one name were told already.
fn names(source: &Source<'_>, owners: &[Owner<'_>]) {
    // Policies last, so that they are told to give way.
    let mut by_kind: Vec<_> = owners.iter().collect();
    by_kind.sort_by_key(|owner| owner.kind == "policy");
    repeated(by_kind.into_iter().map(|owner| (owner.name, owner)), |first, owner| {
        if owner.kind == "policy" {
            let message = format!("the name {} is taken by another {}", owner.name, first.kind);
            owner.place.report(source, message, "give each policy and each tunnel a name of its own");
        }
    });
}

/// The first policy that there is no room for is told; to look further would take the time that bounds are for.
fn is_too_large(source: &Source<'_>, owners: &[Owner<'_>]) -> bool {
    let (mut entries, mut prefixes) = (0, 0);
    for owner in owners {
        entries += owner.local.len() * owner.remote.len();
        prefixes += covers(owner.remote).count();
        let (what, most) = if entries > MAX_ENTRIES {
            ("pairs of selectors", MAX_ENTRIES)
        } else if prefixes > MAX_PREFIXES {
            ("remote prefixes", MAX_PREFIXES)
        } else {
            continue;
        };
        let message = format!("with this {} there are more than {most} {what}", owner.kind);
        owner.place.report(source, message, "join neighbouring networks to larger ones");
        return true;
    }
    false
}

/// Selectors that share a destination share a segment: the filter knows a packet's owner by its destination alone.
fn destinations(source: &Source<'_>, tunnels: &[Tunnel], places: &[TunnelPlaces]) {
    let mut remotes: Vec<(AddressRange, usize, usize)> = Vec::new();
    for (t, tunnel) in tunnels.iter().enumerate() {
        remotes.extend(tunnel.remote_selectors.iter().enumerate().map(|(r, s)| (s.addresses, t, r)));
    }
    remotes.sort_by_key(|(range, t, _)| (range.start(), Reverse(range.end()), *t));
    let mut reach = Reach::default();
    for (range, t, r) in remotes {
        let segment = tunnels[t].segment;
        if let Some(other) = reach.other_segment(&range, segment) {
            let (first, of) = (show(&other.range), &tunnels[other.tunnel]);
            let message = format!(
                "{} (segment {segment}) overlaps {first} of tunnel {} (segment {})",
                show(&range),
                of.name,
                of.segment
            );
            let remedy = "give tunnels that share a destination the same segment";
            places[t].remote_selectors[r].report(source, message, remedy);
        }
        reach.extend(Reached { range, tunnel: t, segment });
    }
}

/// Of the ranges that began so far the one that reaches farthest, and the farthest of another segment than that.
#[derive(Default)]
struct Reach {
    farthest: Option<Reached>,
    other: Option<Reached>,
}

#[derive(Clone, Copy)]
struct Reached {
    range: AddressRange,
    tunnel: usize,
    segment: u8,
}

impl Reach {
    /// A range of another segment that has addresses of `range`, which begins where or after all others do.
    fn other_segment(&self, range: &AddressRange, segment: u8) -> Option<Reached> {
        let candidates = [self.farthest, self.other].into_iter().flatten();
        candidates.filter(|c| c.segment != segment).find(|c| c.range.contains(range.start()))
    }

    fn extend(&mut self, new: Reached) {
        let end = |reached: Option<Reached>| reached.map(|r| r.range.end());
        match self.farthest {
            Some(farthest) if farthest.segment == new.segment => {
                if new.range.end() > farthest.range.end() {
                    self.farthest = Some(new);
                }
            }
            _ if Some(new.range.end()) > end(self.farthest) => {
                self.other = self.farthest.replace(new);
            }
            _ if Some(new.range.end()) > end(self.other) => self.other = Some(new),
            _ => {}
        }
    }
}

/// One network has one owner.
fn bypass_segments(source: &Source<'_>, read: &Read) {
    let mut seen: HashMap<_, (u8, &str)> = HashMap::new();
    for (exception, places) in read.exceptions.iter().zip(&read.exception_places) {
        let Some(segment) = exception.bypass_segment() else { continue };
        for prefix in covers(&exception.remote_selectors) {
            let (first, of) = *seen.entry(prefix).or_insert((segment, &exception.name));
            if first != segment {
                let message = format!("policy {of} gives {prefix} to segment {first}, not {segment}");
                places.segment.report(source, message, "name one segment for it");
                break;
            }
        }
    }
}

/// A pair of selectors and whose it is.
struct Entry<'r> {
    owner: usize,
    place: &'r Place,
    selector: Selector,
}

/// What two entries for the same packets have in common.
type Key = (IpAddr, IpAddr, IpAddr, IpAddr, Option<u8>, RangeInclusive<u16>, RangeInclusive<u16>);

/// Who would never see a packet: an entry that is tried earlier covers all of it. Earlier is the lower priority,
/// then (between the same addresses) the order of the file. Entries between narrower or wider addresses are
/// exceptions of each other on purpose.
fn unreachable(source: &Source<'_>, owners: &[Owner<'_>]) {
    let entries = entries(owners);
    let outbound = covered(owners, &entries, PolicyDirection::Out);
    let inbound = covered(owners, &entries, PolicyDirection::In);
    let mut told = None;
    for (index, entry) in entries.iter().enumerate() {
        let owner = &owners[entry.owner];
        // What arrives in clear against a tunnel's policy is dropped anyway, so a tunnel is about what it sends.
        let by = match owner.direction {
            _ if owner.kind == "tunnel" => outbound[index],
            PolicyDirection::Out => outbound[index],
            PolicyDirection::In => inbound[index],
            PolicyDirection::Both => outbound[index].and(inbound[index]),
        };
        if let Some(by) = by.filter(|by| told != Some((entry.owner, by.owner))) {
            told = Some((entry.owner, by.owner));
            tell_covered(source, entry, &owners[by.owner], by.is_same);
        }
    }
}

fn tell_covered(source: &Source<'_>, entry: &Entry<'_>, by: &Owner<'_>, is_same: bool) {
    let (local, remote) = (show(&entry.selector.local), show(&entry.selector.remote));
    let message = format!(
        "what goes between {local} and {remote} here is all taken by {} {} (priority {}), which comes first",
        by.kind, by.name, by.priority
    );
    let remedy = match by.priority.checked_sub(1) {
        _ if is_same => format!("let one of them have it; {} has the very same selectors", by.name),
        Some(before) => format!("let this come first, by priority = {before}, or remove it"),
        None => format!("let this come first, by a higher priority number of {}, or remove it", by.name),
    };
    entry.place.report(source, message, remedy);
}

fn entries<'r>(owners: &[Owner<'r>]) -> Vec<Entry<'r>> {
    let mut entries = Vec::new();
    for (index, owner) in owners.iter().enumerate() {
        for local in owner.local {
            for (remote, place) in owner.remote.iter().zip(owner.places) {
                let pair = TrafficSelector::pair(local, remote);
                entries.extend(pair.map(|selector| Entry { owner: index, place, selector }));
            }
        }
    }
    entries
}

/// An entry that is tried earlier and covers all of another.
#[derive(Clone, Copy)]
struct Covering {
    owner: usize,
    /// The two are equal.
    is_same: bool,
}

/// For each entry, the earliest that covers it for packets of this direction.
fn covered(owners: &[Owner<'_>], entries: &[Entry<'_>], direction: PolicyDirection) -> Vec<Option<Covering>> {
    let rank = |owner: usize| (owners[owner].priority, owner);
    let mut first: HashMap<Key, usize> = HashMap::new();
    for entry in entries {
        if [direction, PolicyDirection::Both].contains(&owners[entry.owner].direction) {
            let owner = first.entry(key(&entry.selector)).or_insert(entry.owner);
            if rank(entry.owner) < rank(*owner) {
                *owner = entry.owner;
            }
        }
    }
    let earlier = |entry: &Entry<'_>| {
        let own = key(&entry.selector);
        let by = wider(&own)
            .into_iter()
            .filter_map(|key| first.get(&key).map(|owner| Covering { owner: *owner, is_same: key == own }));
        by.filter(|by| rank(by.owner) < rank(entry.owner)).min_by_key(|by| rank(by.owner))
    };
    entries.iter().map(earlier).collect()
}

fn key(selector: &Selector) -> Key {
    let Selector { local, remote, protocol, local_ports, remote_ports } = selector;
    let ports = (local_ports.clone(), remote_ports.clone());
    (local.start(), local.end(), remote.start(), remote.end(), *protocol, ports.0, ports.1)
}

/// The key itself and those of selectors that leave a part of it open.
fn wider(key: &Key) -> [Key; 5] {
    let any = || 0..=u16::MAX;
    let with = |protocol, local, remote| (key.0, key.1, key.2, key.3, protocol, local, remote);
    [
        with(None, any(), any()),
        with(key.4, any(), any()),
        with(key.4, any(), key.6.clone()),
        with(key.4, key.5.clone(), any()),
        key.clone(),
    ]
}
