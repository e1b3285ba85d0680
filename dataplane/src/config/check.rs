//! What only shows when all tunnels are seen together.

use std::collections::HashMap;
use std::hash::Hash;

use super::reader::Source;
use super::tunnel::TunnelPlaces;
use super::{StaticSa, Tunnel, sa};

type Entry<'t> = (&'t Tunnel, &'t TunnelPlaces);

pub(super) fn across_tunnels(source: &Source<'_>, tunnels: &[Tunnel], places: &[TunnelPlaces]) {
    let entries: Vec<Entry<'_>> = tunnels.iter().zip(places).collect();
    names(source, &entries);
    reqids(source, &entries);
    spis(source, &entries);
    keys(source, &entries);
    destinations(source, tunnels, places);
}

/// Calls `clash(first, second)` for each value whose key an earlier one had.
fn repeated<K: Eq + Hash, V: Copy>(values: impl Iterator<Item = (K, V)>, mut clash: impl FnMut(V, V)) {
    let mut seen: HashMap<K, V> = HashMap::new();
    for (key, value) in values {
        match seen.get(&key) {
            Some(first) => clash(*first, value),
            None => drop(seen.insert(key, value)),
        }
    }
}

fn names(source: &Source<'_>, entries: &[Entry<'_>]) {
    repeated(entries.iter().map(|e| (e.0.name.as_str(), *e)), |_, (tunnel, places)| {
        let message = format!("the name {} is taken by an earlier tunnel", tunnel.name);
        places.name.report(source, message, "give each tunnel a name of its own");
    });
}

fn reqids(source: &Source<'_>, entries: &[Entry<'_>]) {
    repeated(entries.iter().map(|e| (e.0.reqid, *e)), |(first, _), (tunnel, places)| {
        let message = format!("reqid {} is that of tunnel {} already", tunnel.reqid, first.name);
        places.reqid.report(source, message, "give each tunnel a reqid of its own, the same on all nodes");
    });
}

/// Inbound SPIs are ours and name one SA; outbound ones are the peer's and name one SA per peer.
fn spis(source: &Source<'_>, entries: &[Entry<'_>]) {
    let inbound = entries.iter().filter_map(|e| Some((e.0.inbound.as_ref()?.spi, *e)));
    repeated(inbound, |(first, _), (_, places)| {
        let message = format!("this SPI is that of tunnel {}'s inbound SA already", first.name);
        places.inbound.report(source, message, "give each inbound SA an SPI of its own");
    });
    let outbound = entries.iter().filter_map(|e| Some(((e.0.remote, e.0.outbound.as_ref()?.spi), *e)));
    repeated(outbound, |(first, _), (_, places)| {
        let message = format!("the same peer has this SPI for tunnel {} already", first.name);
        places.outbound.report(source, message, "use the SPI that the peer has for this tunnel");
    });
}

/// I1: a key belongs to one SA. Digests are compared, so that no copy of a key is made.
fn keys(source: &Source<'_>, entries: &[Entry<'_>]) {
    let inbound = entries.iter().filter_map(|(t, p)| Some((t.inbound.as_ref()?, (&t.name, &p.inbound_key))));
    let outbound =
        entries.iter().filter_map(|(t, p)| Some((t.outbound.as_ref()?, (&t.name, &p.outbound_key))));
    let digests = inbound.chain(outbound).map(|(sa, user)| (digest(sa), user));
    repeated(digests, |(first, _), (name, place)| {
        let message = if first == name {
            "both directions have the same key".to_owned()
        } else {
            format!("tunnel {first} has the same key")
        };
        place.report(source, message, "give every SA a key of its own (I1: no key and IV twice)");
    });
}

fn digest(sa: &StaticSa) -> [u8; 32] {
    sa::sha256(sa.key.expose())
}

/// Selectors that share a destination share a segment: the filter knows a packet's owner by its destination alone.
/// Equal pairs of networks would make the SPD ambiguous.
fn destinations(source: &Source<'_>, tunnels: &[Tunnel], places: &[TunnelPlaces]) {
    let mut remotes: Vec<_> = tunnels
        .iter()
        .enumerate()
        .flat_map(|(t, tunnel)| tunnel.remote_selectors.iter().enumerate().map(move |(r, p)| (*p, t, r)))
        .collect();
    remotes.sort_by_key(|(prefix, tunnel, _)| (prefix.first(), prefix.length(), *tunnel));
    // Prefixes are nested or disjoint, so those that hold the current one are a stack.
    let mut open: Vec<(crate::prefix::Prefix, usize, usize)> = Vec::new();
    for (prefix, t, r) in remotes {
        while open.last().is_some_and(|(outer, ..)| !outer.contains(prefix.first())) {
            open.pop();
        }
        let (tunnel, place) = (&tunnels[t], &places[t].remote_selectors[r]);
        if let Some((other, o, _)) = open.iter().find(|(_, o, _)| tunnels[*o].segment != tunnel.segment) {
            let message = format!(
                "{prefix} (segment {}) overlaps {other} of tunnel {} (segment {})",
                tunnel.segment, tunnels[*o].name, tunnels[*o].segment
            );
            place.report(source, message, "give tunnels that share a destination the same segment");
        }
        if let Some((_, o, _)) =
            open.iter().find(|(other, o, _)| *other == prefix && shares_source(tunnel, &tunnels[*o]))
        {
            let message =
                format!("{prefix} with the same local network is in tunnel {} already", tunnels[*o].name);
            place.report(source, message, "let one tunnel carry it");
        }
        open.push((prefix, t, r));
    }
}

fn shares_source(a: &Tunnel, b: &Tunnel) -> bool {
    a.name != b.name && a.local_selectors.iter().any(|p| b.local_selectors.contains(p))
}
