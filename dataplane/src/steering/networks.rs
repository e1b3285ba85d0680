//! The networks that policies are about, as the filter's longest-prefix match holds them.

use std::collections::BTreeMap;

use crate::prefix::Prefix;

/// A remote network and what covers all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Where it is.
    pub prefix: Prefix,
    /// The segment whose owner forwards to and from it.
    pub segment: u8,
    /// A tunnel has it as a remote network, or a larger one: nothing from there may come in clear, unless a bypass
    /// policy says so.
    pub is_protected: bool,
    /// A bypass policy has it, or a larger one, for some protocols and ports at least.
    pub is_bypassed: bool,
}

/// All networks of tunnels (`protected`) and bypass policies, each once and by address, with the segments of their
/// owners. The longest one that holds an address tells everything about it. Of a network in both, the tunnel's segment
/// counts.
pub fn networks(protected: &[(Prefix, u8)], bypassed: &[(Prefix, u8)]) -> Vec<Network> {
    let mut found = BTreeMap::new();
    for (prefix, segment) in bypassed {
        let network = Network { prefix: *prefix, segment: *segment, is_protected: false, is_bypassed: true };
        found.entry(order(prefix)).or_insert(network);
    }
    for (prefix, segment) in protected {
        let new = Network { prefix: *prefix, segment: *segment, is_protected: true, is_bypassed: false };
        let network = found.entry(order(prefix)).or_insert(new);
        (network.is_protected, network.segment) = (true, *segment);
    }
    inherit(found.into_values().collect())
}

/// A network comes before all that it holds.
fn order(prefix: &Prefix) -> (std::net::IpAddr, u8) {
    (prefix.address(), prefix.length())
}

/// What covers a network covers the longer ones in it.
fn inherit(mut networks: Vec<Network>) -> Vec<Network> {
    let mut around: Vec<Network> = Vec::new();
    for network in &mut networks {
        while around.pop_if(|outer| !outer.prefix.contains(network.prefix.address())).is_some() {}
        if let Some(outer) = around.last() {
            network.is_protected |= outer.is_protected;
            network.is_bypassed |= outer.is_bypassed;
        }
        around.push(*network);
    }
    networks
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(text: &str, segment: u8) -> (Prefix, u8) {
        (text.parse().unwrap(), segment)
    }

    fn shown(protected: &[(Prefix, u8)], bypassed: &[(Prefix, u8)]) -> Vec<String> {
        let show = |n: &Network| {
            let flags = [(n.is_protected, " protected"), (n.is_bypassed, " bypassed")];
            let flags: String = flags.iter().filter(|f| f.0).map(|f| f.1).collect();
            format!("{} {}{flags}", n.prefix, n.segment)
        };
        networks(protected, bypassed).iter().map(show).collect()
    }

    #[test]
    fn longer_networks_repeat_what_covers_them() {
        let protected = [at("10.1.0.0/16", 5), at("10.1.7.0/24", 5), at("::/0", 6)];
        let bypassed =
            [at("0.0.0.0/0", 3), at("10.1.7.0/24", 5), at("10.2.0.0/16", 4), at("2001:db8::/32", 6)];
        let expected = [
            "0.0.0.0/0 3 bypassed",
            "10.1.0.0/16 5 protected bypassed",
            "10.1.7.0/24 5 protected bypassed",
            "10.2.0.0/16 4 bypassed",
            "::/0 6 protected",
            "2001:db8::/32 6 protected bypassed",
        ];
        assert_eq!(shown(&protected, &bypassed), expected);
        assert_eq!(shown(&protected[..1], &[]), ["10.1.0.0/16 5 protected"]);
    }

    fn prefixes() -> impl Strategy<Value = Vec<(Prefix, u8)>> {
        let prefix = (any::<u8>(), 0..=8_u8, any::<u8>()).prop_map(|(top, length, segment)| {
            let mask = u8::MAX.checked_shl(8 - u32::from(length)).unwrap_or(0);
            let address = std::net::Ipv4Addr::new(top & mask & 0b1110_0001, 0, 0, 0);
            let prefix = Prefix::new(address.into(), length).ok();
            (prefix.unwrap_or("0.0.0.0/0".parse().unwrap()), segment)
        });
        proptest::collection::vec(prefix, 0..12)
    }

    proptest! {
        #[test]
        fn one_lookup_tells_what_all_prefixes_say(protected in prefixes(), bypassed in prefixes()) {
            let table = networks(&protected, &bypassed).into_iter().map(|n| (n.prefix, n)).collect();
            let table = crate::prefix::PrefixTable::new(table);
            for top in 0..=u8::MAX {
                let address = std::net::Ipv4Addr::new(top, 0, 0, 1).into();
                let holds = |list: &[(Prefix, u8)]| list.iter().any(|(prefix, _)| prefix.contains(address));
                let network = table.lookup(address);
                prop_assert_eq!(network.is_some_and(|n| n.is_protected), holds(&protected));
                prop_assert_eq!(network.is_some_and(|n| n.is_bypassed), holds(&bypassed));
            }
        }
    }
}
