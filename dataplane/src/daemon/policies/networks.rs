//! The remote networks of all policies: whose each one is, and what the filter and the kernel's routes are to know.
//!
//! A change costs the logarithm of how many there are, and, where a network comes or goes that holds others, those whose
//! entry in the filter is another one by that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use crate::prefix::Prefix;
use crate::steering::Network;

/// A policy that has networks, or the configuration as a whole.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub(super) name: Arc<str>,
    /// Higher than that of all that came before.
    pub(super) age: u64,
    /// The segment whose owner forwards.
    pub(super) segment: u8,
    /// Whether nothing may leave to its networks in clear; else some may.
    pub(super) protects: bool,
}

/// The networks of all policies.
#[derive(Debug, Default)]
pub(super) struct Networks {
    protected: Layer,
    bypassed: Layer,
}

/// Prefixes by address and then by length: each before all that it holds.
type Place = (IpAddr, u8);

/// Networks of one kind.
#[derive(Debug, Default)]
struct Layer {
    holders: BTreeMap<Place, Holders>,
    /// The same by segment.
    segments: BTreeMap<u8, BTreeSet<Place>>,
    /// How many there are of each family and length.
    lengths: BTreeMap<(bool, u8), usize>,
}

/// Whose a network is: names by segment and age.
#[derive(Debug, Default)]
struct Holders(BTreeMap<u8, BTreeMap<u64, Arc<str>>>);

impl Holders {
    /// That of the newest.
    fn segment(&self) -> Option<u8> {
        let newest = |names: &BTreeMap<u64, _>| names.last_key_value().map(|(age, _)| *age);
        self.0.iter().max_by_key(|(_, names)| newest(names)).map(|(segment, _)| *segment)
    }

    /// One in another segment, of which `is_kin` does not hold.
    fn stranger(&self, segment: u8, is_kin: &impl Fn(&str) -> bool) -> Option<(u8, &str)> {
        let others = self.0.iter().filter(|(other, _)| **other != segment);
        let mut named = others.flat_map(|(other, names)| names.values().map(|name| (*other, &**name)));
        named.find(|(_, name)| !is_kin(name))
    }
}

fn place(prefix: Prefix) -> Place {
    (prefix.address(), prefix.length())
}

fn prefix((address, length): Place) -> Prefix {
    Prefix::new(address, length).unwrap_or(Prefix::host(address))
}

impl Layer {
    /// Whether the network is new.
    fn add(&mut self, of: Prefix, holder: &Holder) -> bool {
        let holders = self.holders.entry(place(of)).or_default();
        let is_new = holders.0.is_empty();
        let names = holders.0.entry(holder.segment).or_default();
        if names.is_empty() {
            self.segments.entry(holder.segment).or_default().insert(place(of));
        }
        names.insert(holder.age, Arc::clone(&holder.name));
        if is_new {
            *self.lengths.entry((of.address().is_ipv6(), of.length())).or_default() += 1;
        }
        is_new
    }

    /// Whether the network is nobody's any more.
    fn remove(&mut self, of: Prefix, holder: &Holder) -> bool {
        let Some(holders) = self.holders.get_mut(&place(of)) else { return false };
        let Some(names) = holders.0.get_mut(&holder.segment) else { return false };
        names.remove(&holder.age);
        if names.is_empty() {
            holders.0.remove(&holder.segment);
            self.segments.entry(holder.segment).or_default().remove(&place(of));
        }
        let is_gone = holders.0.is_empty();
        if is_gone {
            self.holders.remove(&place(of));
            let length = (of.address().is_ipv6(), of.length());
            if let Some(count) = self.lengths.get_mut(&length) {
                *count -= 1;
            }
            self.lengths.retain(|_, count| *count > 0);
        }
        is_gone
    }

    /// The network and those that hold it.
    fn around(&self, of: Prefix) -> impl Iterator<Item = (Prefix, &Holders)> {
        let is_ipv6 = of.address().is_ipv6();
        let lengths = self.lengths.range((is_ipv6, 0)..=(is_ipv6, of.length()));
        lengths.filter_map(move |((_, length), _)| {
            let outer = of.truncated(*length);
            self.holders.get(&place(outer)).map(|holders| (outer, holders))
        })
    }

    /// The networks in it.
    fn within(&self, of: Prefix) -> impl Iterator<Item = Prefix> {
        self.holders.range(inside(of)).map(|(place, _)| prefix(*place))
    }

    /// A network that holds this one, or lies in it, and is in another segment: its prefix, segment and holder.
    fn stranger(
        &self,
        of: Prefix,
        segment: u8,
        is_kin: &impl Fn(&str) -> bool,
    ) -> Option<(Prefix, u8, &str)> {
        let around = self.around(of).find_map(|(prefix, holders)| {
            holders.stranger(segment, is_kin).map(|(other, name)| (prefix, other, name))
        });
        around.or_else(|| self.stranger_within(of, segment, is_kin))
    }

    /// Looks at networks of other segments alone.
    fn stranger_within(
        &self,
        of: Prefix,
        segment: u8,
        is_kin: &impl Fn(&str) -> bool,
    ) -> Option<(Prefix, u8, &str)> {
        self.within(of).next()?;
        let others = self.segments.iter().filter(|(other, _)| **other != segment);
        let mut inside = others.flat_map(|(_, places)| places.range(inside(of)));
        inside.find_map(|place| {
            let (other, name) = self.holders.get(place)?.stranger(segment, is_kin)?;
            Some((prefix(*place), other, name))
        })
    }
}

/// The places of what lies in a network.
fn inside(of: Prefix) -> (Bound<Place>, Bound<Place>) {
    (Bound::Excluded(place(of)), Bound::Included((of.last(), u8::MAX)))
}

impl Networks {
    /// Adds a network. Those whose entry in the filter may be another one by that are `touched`.
    pub(super) fn add(&mut self, of: Prefix, holder: &Holder, touched: &mut BTreeSet<Prefix>) {
        let (layer, other) = self.layers(holder.protects);
        let is_new = layer.add(of, holder);
        touch(of, is_new, other, touched);
    }

    /// As [`Self::add`], the other way.
    pub(super) fn remove(&mut self, of: Prefix, holder: &Holder, touched: &mut BTreeSet<Prefix>) {
        let (layer, other) = self.layers(holder.protects);
        let is_gone = layer.remove(of, holder);
        touch(of, is_gone, other, touched);
    }

    fn layers(&mut self, protects: bool) -> (&mut Layer, &Layer) {
        if protects { (&mut self.protected, &self.bypassed) } else { (&mut self.bypassed, &self.protected) }
    }

    /// Why a network cannot be of this segment. The filter knows a packet's owner by its destination alone: networks
    /// that are protected and overlap share a segment, unless those of the other segment are all of `is_kin`, which the
    /// new one hides. One that is bypassed has one segment, and may lie within another one, or around, whoever owns that.
    pub(super) fn conflict(
        &self,
        of: Prefix,
        holder: &Holder,
        is_kin: impl Fn(&str) -> bool,
    ) -> Option<String> {
        let (verb, other) = if holder.protects {
            ("overlaps", self.protected.stranger(of, holder.segment, &is_kin))
        } else {
            let holders = self.bypassed.holders.get(&place(of));
            let other = holders.and_then(|holders| holders.stranger(holder.segment, &is_kin));
            ("is also", other.map(|(segment, name)| (of, segment, name)))
        };
        let (network, segment, name) = other?;
        Some(format!(
            "{of} (segment {}, of {}) {verb} {network} (segment {segment}, of {name})",
            holder.segment, holder.name
        ))
    }

    /// What the filter is to know of a network; nothing if it is no policy's.
    pub(super) fn get(&self, of: Prefix) -> Option<Network> {
        let own = |layer: &Layer| layer.holders.get(&place(of)).and_then(Holders::segment);
        let segment = own(&self.protected).or_else(|| own(&self.bypassed))?;
        let covers = |layer: &Layer| layer.around(of).next().is_some();
        let (is_protected, is_bypassed) = (covers(&self.protected), covers(&self.bypassed));
        Some(Network { prefix: of, segment, is_protected, is_bypassed })
    }

    /// Whether nothing may leave to exactly this network in clear.
    pub(super) fn is_protected(&self, of: Prefix) -> bool {
        self.protected.holders.contains_key(&place(of))
    }

    /// Every network to which nothing may leave in clear (I7).
    pub(super) fn protected(&self) -> impl Iterator<Item = (Prefix, u8)> {
        listed(&self.protected)
    }

    /// Every network that a policy lets traffic past to.
    pub(super) fn bypassed(&self) -> impl Iterator<Item = (Prefix, u8)> {
        listed(&self.bypassed)
    }
}

fn listed(layer: &Layer) -> impl Iterator<Item = (Prefix, u8)> {
    layer.holders.iter().filter_map(|(place, holders)| Some((prefix(*place), holders.segment()?)))
}

/// A network that comes or goes says something about those of the other kind in it.
fn touch(of: Prefix, is_first_or_last: bool, other: &Layer, touched: &mut BTreeSet<Prefix>) {
    touched.insert(of);
    if is_first_or_last {
        touched.extend(other.within(of));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::steering::networks;

    /// Few networks, so that they nest and meet often.
    fn network() -> impl Strategy<Value = Prefix> {
        (any::<u8>(), 0..=4_u8, any::<bool>()).prop_map(|(top, length, is_ipv6)| {
            let address: IpAddr = if is_ipv6 {
                std::net::Ipv6Addr::from_bits(u128::from(top) << 120).into()
            } else {
                std::net::Ipv4Addr::from_bits(u32::from(top) << 24).into()
            };
            Prefix::host(address).truncated(length)
        })
    }

    fn holder() -> impl Strategy<Value = Holder> {
        (0_u8..3, any::<bool>(), 0_u8..3).prop_map(|(segment, protects, kin)| Holder {
            name: kin.to_string().into(),
            age: 0,
            segment,
            protects,
        })
    }

    fn overlap(a: Prefix, b: Prefix) -> bool {
        a.contains(b.address()) || b.contains(a.address())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// Against the list of all holders, looked at one by one; and the differences add up to what the filter would
        /// be told at once.
        #[test]
        fn the_index_equals_the_list(
            steps in proptest::collection::vec((network(), holder(), any::<prop::sample::Index>(), 0..3_u8), 1..60),
        ) {
            let (mut index, mut list) = (Networks::default(), Vec::<(Prefix, Holder)>::new());
            let mut filter = BTreeMap::new();
            for (age, (of, mut holder, which, what)) in (1..).zip(steps) {
                let mut touched = BTreeSet::new();
                if what == 0 && !list.is_empty() {
                    let (of, holder) = list.swap_remove(which.index(list.len()));
                    index.remove(of, &holder, &mut touched);
                } else {
                    holder.age = age;
                    let is_kin = |name: &str| *name == *holder.name;
                    let differs = |(other, by): &&(Prefix, Holder)| {
                        let meets = if holder.protects { overlap(of, *other) } else { of == *other };
                        meets && by.protects == holder.protects && by.segment != holder.segment && !is_kin(&by.name)
                    };
                    let conflict = index.conflict(of, &holder, is_kin);
                    prop_assert_eq!(conflict.is_some(), list.iter().any(|one| differs(&one)), "{:?}", conflict);
                    index.add(of, &holder, &mut touched);
                    list.push((of, holder));
                }
                for of in touched {
                    match index.get(of) {
                        Some(network) => filter.insert(place(of), network),
                        None => filter.remove(&place(of)),
                    };
                }
                let (protected, bypassed): (Vec<_>, Vec<_>) = (index.protected().collect(), index.bypassed().collect());
                let expected = networks(&protected, &bypassed);
                prop_assert_eq!(filter.values().copied().collect::<Vec<_>>(), expected);
                for (is_protecting, listed) in [(true, protected), (false, bypassed)] {
                    let mut newest: BTreeMap<Place, &Holder> = BTreeMap::new();
                    let of_kind = list.iter().filter(|(_, holder)| holder.protects == is_protecting);
                    for (of, holder) in of_kind {
                        let entry = newest.entry(place(*of)).or_insert(holder);
                        *entry = if entry.age < holder.age { holder } else { entry };
                    }
                    let newest: Vec<_> = newest.into_iter().map(|(at, holder)| (prefix(at), holder.segment)).collect();
                    prop_assert_eq!(listed, newest);
                }
            }
        }
    }
}
