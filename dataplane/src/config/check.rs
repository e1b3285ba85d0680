//! What only shows when all tunnels are seen together.

use std::collections::HashMap;
use std::hash::Hash;

use baton_sad::Suite;

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
}

/// Calls `clash(first, second)` for each value whose key an earlier one had.
pub(super) fn repeated<K: Eq + Hash, V: Copy>(
    values: impl Iterator<Item = (K, V)>,
    mut clash: impl FnMut(V, V),
) {
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
    let inbound = entries
        .iter()
        .filter_map(|(t, p)| Some((digest(t.suite, t.inbound.as_ref()?), (&t.name, &p.inbound_key))));
    let outbound = entries
        .iter()
        .filter_map(|(t, p)| Some((digest(t.suite, t.outbound.as_ref()?), (&t.name, &p.outbound_key))));
    repeated(inbound.chain(outbound), |(first, _), (name, place)| {
        let message = if first == name {
            "both directions have the same key".to_owned()
        } else {
            format!("tunnel {first} has the same key")
        };
        place.report(source, message, "give every SA a key of its own (I1: no key and IV twice)");
    });
}

/// Of the cipher's key and salt, which make the keystream, or of the integrity key where there is no cipher.
fn digest(suite: Suite, sa: &StaticSa) -> [u8; 32] {
    let cipher = suite.cipher_key_length() + suite.salt_length();
    let key = sa.key.expose();
    sa::sha256(if cipher > 0 { key.get(..cipher).unwrap_or(key) } else { key })
}
