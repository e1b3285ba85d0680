//! The filter's maps, typed: keys and values as `ebpf/maps.h` lays them out.
//!
//! All of them are plain octets or words, so aya's `Pod` of arrays suffices and nothing here is unsafe.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;

use aya::Ebpf;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, XskMap};
use baton_sad::Selector;

use super::error::XdpError;
use super::options::{NetworkChange, Owners, Resolution};
use super::pins::PinDirectory;
use super::shared;
use super::verdicts::Verdict;
use crate::io::Side;
use crate::next_hop::Mac;
use crate::packet::transport::bits;
use crate::prefix::Prefix;
use crate::spd::Matcher;
use crate::steering::{Decision, HashMode, LocalRule, Network, Spi};

/// All pinned maps. The config map comes last: without it the others are leftovers.
pub(super) const PINNED: [&str; 12] = [
    OWNED,
    "overrides",
    "addresses",
    MACS,
    OWNER_MACS,
    MEMBERS,
    "prefixes",
    RULES,
    "outer_sockets",
    "inner_sockets",
    "verdicts",
    CONFIG,
];

/// Holds the layout number.
pub(super) const CONFIG: &str = "config";

const OWNED: &str = "owned";
const MACS: &str = "macs";
const OWNER_MACS: &str = "owner_macs";
const MEMBERS: &str = "members";
const RULES: &str = "rules";

/// `struct address`: family, then four words in network order.
type AddressKey = [u8; 20];
/// `struct local_key`: side, then an address.
type LocalKey = [u8; 24];
/// `struct override_key`: kind, high and low word of the SPI.
type OverrideKey = [u32; 3];
/// `struct rule`, words as they stand there.
type Rule = [u32; 24];
/// `struct rules`.
type Rules = [Rule; shared::MAX_RULES as usize];
/// `struct own_macs`.
type OwnMacs = [u64; shared::MAX_OWN_MACS as usize];
/// `struct owner_macs`.
type OwnerMacs = [u64; 256];

/// The filter's knowledge, as userspace sees it.
pub struct FilterMaps {
    config: Array<MapData, u32>,
    owned: Array<MapData, [u64; 4]>,
    overrides: HashMap<MapData, OverrideKey, u32>,
    addresses: HashMap<MapData, LocalKey, u32>,
    macs: Array<MapData, OwnMacs>,
    owner_macs: Array<MapData, OwnerMacs>,
    members: HashMap<MapData, u64, u32>,
    prefixes: LpmTrie<MapData, AddressKey, u32>,
    rules: Array<MapData, Rules>,
    sockets: [XskMap<MapData>; 2],
    verdicts: PerCpuArray<MapData, u64>,
    trace: Array<MapData, [u32; 2]>,
}

impl fmt::Debug for FilterMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilterMaps").finish_non_exhaustive()
    }
}

fn take<T>(object: &mut Ebpf, name: &'static str) -> Result<T, XdpError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or_else(|| XdpError::Load(format!("it has no map `{name}`")))?;
    T::try_from(map).map_err(|error| XdpError::map(name, "opened", &error))
}

impl FilterMaps {
    pub(super) fn of(object: &mut Ebpf) -> Result<Self, XdpError> {
        Ok(Self {
            config: take(object, CONFIG)?,
            owned: take(object, OWNED)?,
            overrides: take(object, "overrides")?,
            addresses: take(object, "addresses")?,
            macs: take(object, MACS)?,
            owner_macs: take(object, OWNER_MACS)?,
            members: take(object, MEMBERS)?,
            prefixes: take(object, "prefixes")?,
            rules: take(object, RULES)?,
            sockets: [take(object, "outer_sockets")?, take(object, "inner_sockets")?],
            verdicts: take(object, "verdicts")?,
            trace: take(object, "trace")?,
        })
    }

    pub(super) fn config(&self, key: u32) -> Result<u32, XdpError> {
        self.config.get(&key, 0).map_err(|error| XdpError::map(CONFIG, "read", &error))
    }

    pub(super) fn set_config(&mut self, key: u32, value: u32) -> Result<(), XdpError> {
        self.config.set(key, value, 0).map_err(|error| XdpError::map(CONFIG, "changed", &error))
    }

    /// How the filter hashes packets that have no SPI of ours.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the kernel refuses.
    pub fn set_hash(&mut self, mode: HashMode, seed: u32) -> Result<(), XdpError> {
        let mode = match mode {
            HashMode::SourceIp => shared::HASH_SOURCE_IP,
            HashMode::SourceIpSourcePort => shared::HASH_SOURCE_IP_SOURCE_PORT,
            HashMode::SourceIpSourcePortDestinationPort => {
                shared::HASH_SOURCE_IP_SOURCE_PORT_DESTINATION_PORT
            }
        };
        self.set_config(shared::CONFIG_HASH_SEED, seed)?;
        self.set_config(shared::CONFIG_HASH_MODE, mode)
    }

    /// See [`Ownership::set`].
    ///
    /// # Errors
    /// [`XdpError::Map`] when the kernel refuses; the old ownership then stands.
    pub fn set_owned(&mut self, owned: [u64; 4]) -> Result<(), XdpError> {
        flip(&mut self.config, shared::CONFIG_ACTIVE, &mut self.owned, owned, OWNED)
    }

    /// Puts an SPI in a segment that its top octet does not name; `None` takes that back.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the map is full or the kernel refuses.
    pub fn set_override(&mut self, spi: Spi, segment: Option<u8>) -> Result<(), XdpError> {
        let key = override_key(spi);
        let result = match segment {
            Some(segment) => self.overrides.insert(key, u32::from(segment), 0),
            None => absent_is_fine(self.overrides.remove(&key)),
        };
        result.map_err(|error| XdpError::map("overrides", "changed", &error))
    }

    /// Replaces our own addresses: on the outer side those to which peers send IPsec, on the inner side all that this
    /// host has. New ones come before old ones go.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the map is full or the kernel refuses.
    pub fn set_addresses(&mut self, side: Side, addresses: &[IpAddr]) -> Result<(), XdpError> {
        self.replace_addresses(side_word(side), addresses)
            .map_err(|error| XdpError::map("addresses", "changed", &error))
    }

    /// Says who answers for the addresses that are shared with other nodes, and which they are on each side. With
    /// [`Resolution::SharedMac`] the second of [`Self::set_own_macs`] is the answer.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the map is full or the kernel refuses.
    pub fn set_shared(&mut self, resolution: Resolution, addresses: [&[IpAddr]; 2]) -> Result<(), XdpError> {
        for side in Side::ALL {
            self.replace_addresses(shared_word(side), addresses[side.index()])
                .map_err(|error| XdpError::map("addresses", "changed", &error))?;
        }
        let resolution = match resolution {
            Resolution::Kernel => shared::RESOLUTION_KERNEL,
            Resolution::SharedMac => shared::RESOLUTION_SHARED,
            Resolution::Silent => shared::RESOLUTION_SILENT,
        };
        self.set_config(shared::CONFIG_RESOLUTION, resolution)
    }

    /// Replaces what is known of the other nodes: where frames of their segments go, at one instant.
    ///
    /// # Errors
    /// [`XdpError::Map`] when there are more members than [`shared::MAX_MEMBERS`] or the kernel refuses; the old owners
    /// then stand.
    pub fn set_owners(&mut self, owners: &Owners) -> Result<(), XdpError> {
        let changed = |error| XdpError::map(OWNER_MACS, "changed", &error);
        let members: HashSet<u64> = owners.members.iter().map(|mac| mac_word(*mac)).collect();
        let member = |error| XdpError::map(MEMBERS, "changed", &error);
        members.iter().try_for_each(|mac| self.members.insert(mac, 1, 0)).map_err(member)?;
        let idle = (self.config(shared::CONFIG_OWNERS)? & 1) ^ 1;
        for side in Side::ALL {
            let place = u32::from_ne_bytes(side_word(side)) * 2 + idle;
            self.owner_macs.set(place, owners.macs[side.index()].map(mac_word), 0).map_err(changed)?;
        }
        self.set_config(shared::CONFIG_OWNERS, idle)?;
        let present = self.members.keys().collect::<Result<Vec<_>, _>>().map_err(member)?;
        let mut gone = present.iter().filter(|mac| !members.contains(*mac));
        gone.try_for_each(|mac| absent_is_fine(self.members.remove(mac))).map_err(member)
    }

    /// The address that `side` shares with other nodes, of those that [`Self::set_own_macs`] was given last.
    pub(super) fn shared_mac(&self, side: Side) -> Result<Option<Mac>, XdpError> {
        let key = u32::from_ne_bytes(side_word(side));
        let macs = self.macs.get(&key, 0).map_err(|error| XdpError::map(MACS, "read", &error))?;
        Ok(Some(macs[1]).filter(|word| *word != 0).map(mac_of))
    }

    fn replace_addresses(&mut self, place: [u8; 4], addresses: &[IpAddr]) -> Result<(), MapError> {
        let wanted: HashSet<LocalKey> = addresses.iter().map(|address| local_key(place, *address)).collect();
        for key in &wanted {
            self.addresses.insert(key, 1, 0)?;
        }
        let present = self.addresses.keys().collect::<Result<Vec<_>, _>>()?;
        let same_side = |key: &&LocalKey| key[..4] == place;
        for key in present.iter().filter(same_side).filter(|key| !wanted.contains(*key)) {
            absent_is_fine(self.addresses.remove(key))?;
        }
        Ok(())
    }

    /// Replaces the MAC addresses to which frames for us are addressed on `side`: first the interface's own, then those
    /// that it shares with others, of which the first is the cluster's. No other frame is forwarded by the data plane, but IPsec for our own addresses
    /// goes there whatever its frame says.
    ///
    /// # Errors
    /// [`XdpError::TooManyMacs`] beyond [`shared::MAX_OWN_MACS`], [`XdpError::Map`] when the kernel refuses; what
    /// was known before then stands.
    pub fn set_own_macs(&mut self, side: Side, macs: &[Mac]) -> Result<(), XdpError> {
        let mut words = OwnMacs::default();
        if macs.len() > words.len() {
            return Err(XdpError::TooManyMacs { side, count: macs.len() });
        }
        for (word, mac) in words.iter_mut().zip(macs) {
            *word = mac_word(*mac);
        }
        self.macs
            .set(u32::from_ne_bytes(side_word(side)), words, 0)
            .map_err(|error| XdpError::map(MACS, "changed", &error))
    }

    /// Replaces the remote networks of all policies, as [`networks`](crate::steering::networks) gives them. New ones
    /// come before old ones go, and first those that protect; what has no entry is not forwarded, so nothing is open
    /// meanwhile.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the map is full or the kernel refuses.
    pub fn set_networks(&mut self, networks: &[Network]) -> Result<(), XdpError> {
        self.replace_networks(networks).map_err(|error| XdpError::map("prefixes", "changed", &error))
    }

    /// Changes some networks, in the order that [`Self::set_networks`] keeps.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the map is full or the kernel refuses.
    pub fn change_networks(&mut self, changes: &[NetworkChange]) -> Result<(), XdpError> {
        let present = changes.iter().filter_map(|(_, network)| network.as_ref());
        let gone = changes.iter().filter(|(_, network)| network.is_none());
        let result = self.insert_networks(present.collect()).and_then(|()| {
            let mut keys = gone.map(|(prefix, _)| prefix_key(*prefix));
            keys.try_for_each(|(length, data)| absent_is_fine(self.prefixes.remove(&Key::new(length, data))))
        });
        result.map_err(|error| XdpError::map("prefixes", "changed", &error))
    }

    fn replace_networks(&mut self, networks: &[Network]) -> Result<(), MapError> {
        self.insert_networks(networks.iter().collect())?;
        let wanted: HashSet<_> = networks.iter().map(|network| prefix_key(network.prefix)).collect();
        let present = self.prefixes.keys().collect::<Result<Vec<_>, _>>()?;
        for key in present.iter().filter(|key| !wanted.contains(&(key.prefix_len(), key.data()))) {
            absent_is_fine(self.prefixes.remove(key))?;
        }
        Ok(())
    }

    fn insert_networks(&mut self, mut networks: Vec<&Network>) -> Result<(), MapError> {
        networks.sort_by_key(|network| Reverse(network.is_protected));
        networks.into_iter().try_for_each(|network| {
            let (length, data) = prefix_key(network.prefix);
            self.prefixes.insert(&Key::new(length, data), network_value(network), 0)
        })
    }

    /// Replaces the rules for clear traffic to this host itself, all at one instant.
    ///
    /// # Errors
    /// [`XdpError::TooManyRules`] beyond [`shared::MAX_RULES`], [`XdpError::Map`] when the kernel refuses; the old
    /// rules then stand.
    pub fn set_rules(&mut self, rules: &[LocalRule]) -> Result<(), XdpError> {
        let mut list = [[0; 24]; shared::MAX_RULES as usize];
        if rules.len() > list.len() {
            return Err(XdpError::TooManyRules { count: rules.len() });
        }
        // A selector of two families has no form there, and no packet matches it.
        let possible = rules.iter().filter(|rule| Matcher::new(&rule.selector).is_some());
        for (place, rule) in list.iter_mut().zip(possible) {
            *place = rule_words(rule);
        }
        flip(&mut self.config, shared::CONFIG_RULES, &mut self.rules, list, RULES)
    }

    /// Sends owned packets that arrive on receive queue `queue` of `side` to an AF_XDP socket bound to it.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the queue number is too high or `socket` is not an AF_XDP socket with a receive ring.
    pub fn register_socket(&mut self, side: Side, queue: u32, socket: impl AsRawFd) -> Result<(), XdpError> {
        self.sockets[side.index()]
            .set(queue, socket, 0)
            .map_err(|error| XdpError::map(sockets_name(side), "changed", &error))
    }

    /// Takes the socket of a queue away: owned packets are dropped again.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the kernel refuses.
    pub fn unregister_socket(&mut self, side: Side, queue: u32) -> Result<(), XdpError> {
        absent_is_fine(self.sockets[side.index()].unset(queue))
            .map_err(|error| XdpError::map(sockets_name(side), "changed", &error))
    }

    /// Packets by side and verdict since the maps were made, of all CPUs; only verdicts that occur on the side.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the kernel refuses.
    pub fn verdicts(&self) -> Result<Vec<(Side, &'static str, u64)>, XdpError> {
        let pairs = Side::ALL.into_iter().flat_map(|side| Verdict::all().map(move |verdict| (side, verdict)));
        pairs
            .filter(|(side, verdict)| verdict.occurs_on(*side))
            .map(|(side, verdict)| Ok((side, verdict.name(), self.packets(side, verdict)?)))
            .collect()
    }

    fn packets(&self, side: Side, verdict: Verdict) -> Result<u64, XdpError> {
        let key = side.index() as u32 * shared::VERDICTS_PER_SIDE + verdict.index();
        let values = self.verdicts.get(&key, 0).map_err(|error| XdpError::map("verdicts", "read", &error))?;
        Ok(values.iter().fold(0, |sum, value| sum.wrapping_add(*value)))
    }

    /// The fate of the last packet of a program that was loaded for tracing.
    pub(super) fn traced(&self) -> Result<Option<Decision>, XdpError> {
        let [verdict, segment] =
            self.trace.get(&0, 0).map_err(|error| XdpError::map("trace", "read", &error))?;
        Ok(Verdict::from_index(verdict)
            .map(|verdict| Decision { verdict, segment: u8::try_from(segment).ok() }))
    }
}

/// The segments whose packets pass, apart from the other maps: a takeover waits for no change of policies.
pub struct Ownership {
    config: Array<MapData, u32>,
    owned: Array<MapData, [u64; 4]>,
}

impl fmt::Debug for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ownership").finish_non_exhaustive()
    }
}

impl Ownership {
    /// A handle of its own on the maps that are pinned there.
    pub(super) fn open(pins: &PinDirectory) -> Result<Self, XdpError> {
        Ok(Self { config: pinned(pins, CONFIG)?, owned: pinned(pins, OWNED)? })
    }

    /// The segments that this node handles: bit `segment & 63` of word `segment >> 6`.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the kernel refuses.
    pub fn get(&self) -> Result<[u64; 4], XdpError> {
        let read = |error| XdpError::map(OWNED, "read", &error);
        let active = self.config.get(&shared::CONFIG_ACTIVE, 0).map_err(read)? & 1;
        self.owned.get(&active, 0).map_err(read)
    }

    /// Changes the ownership at one instant, of however many segments: the idle bitmap is filled, then the index flips.
    /// A packet that is being looked at meanwhile may still see the old one.
    ///
    /// # Errors
    /// [`XdpError::Map`] when the kernel refuses; the old ownership then stands.
    pub fn set(&mut self, owned: [u64; 4]) -> Result<(), XdpError> {
        flip(&mut self.config, shared::CONFIG_ACTIVE, &mut self.owned, owned, OWNED)
    }
}

/// Fills the idle one of the two places of a map, then flips the word that says which counts.
fn flip<V: aya::Pod>(
    config: &mut Array<MapData, u32>,
    which: u32,
    map: &mut Array<MapData, V>,
    value: V,
    name: &'static str,
) -> Result<(), XdpError> {
    let changed = |error| XdpError::map(name, "changed", &error);
    let idle = (config.get(&which, 0).map_err(changed)? & 1) ^ 1;
    map.set(idle, value, 0).map_err(changed)?;
    config.set(which, idle, 0).map_err(changed)
}

fn pinned<V: aya::Pod>(pins: &PinDirectory, name: &'static str) -> Result<Array<MapData, V>, XdpError> {
    let opened = |error| XdpError::map(name, "opened", &error);
    let map = Map::from_map_data(MapData::from_pin(pins.map(name)).map_err(opened)?).map_err(opened)?;
    Array::try_from(map).map_err(opened)
}

fn sockets_name(side: Side) -> &'static str {
    match side {
        Side::Outer => "outer_sockets",
        Side::Inner => "inner_sockets",
    }
}

fn absent_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(error) if super::error::os_error(&error) == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

fn override_key(spi: Spi) -> OverrideKey {
    match spi {
        Spi::Esp(spi) => [shared::OVERRIDE_ESP, 0, spi],
        Spi::Ike(spi) => [shared::OVERRIDE_IKE, (spi >> 32) as u32, spi as u32],
    }
}

fn side_word(side: Side) -> [u8; 4] {
    let number = match side {
        Side::Outer => shared::SIDE_OUTER,
        Side::Inner => shared::SIDE_INNER,
    };
    number.to_ne_bytes()
}

/// Where addresses that a side shares with other nodes stand.
fn shared_word(side: Side) -> [u8; 4] {
    (shared::SHARED_ADDRESSES + u32::from_ne_bytes(side_word(side))).to_ne_bytes()
}

fn mac_of(word: u64) -> Mac {
    let mut octets = [0; 6];
    octets.copy_from_slice(&word.to_ne_bytes()[..6]);
    Mac(octets)
}

fn mac_word(Mac(octets): Mac) -> u64 {
    let mut word = [0; 8];
    word[..6].copy_from_slice(&octets);
    u64::from_ne_bytes(word)
}

fn address_key(address: IpAddr) -> AddressKey {
    let mut key = AddressKey::default();
    let family = if address.is_ipv4() { shared::FAMILY_IPV4 } else { shared::FAMILY_IPV6 };
    key[..4].copy_from_slice(&family.to_ne_bytes());
    match address {
        IpAddr::V4(address) => key[4..8].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => key[4..].copy_from_slice(&address.octets()),
    }
    key
}

fn local_key(place: [u8; 4], address: IpAddr) -> LocalKey {
    let mut key = LocalKey::default();
    key[..4].copy_from_slice(&place);
    key[4..].copy_from_slice(&address_key(address));
    key
}

fn network_value(network: &Network) -> u32 {
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    u32::from(network.segment)
        | flag(network.is_protected, shared::NETWORK_PROTECTED)
        | flag(network.is_bypassed, shared::NETWORK_BYPASSED)
}

/// `struct rule`.
fn rule_words(rule: &LocalRule) -> Rule {
    let Selector { local, remote, protocol, local_ports, remote_ports } = &rule.selector;
    let [remote_first, remote_last, local_first, local_last] =
        [remote.start(), remote.end(), local.start(), local.end()].map(number_words);
    let [remote_ports, local_ports] = [remote_ports, local_ports].map(port_words);
    let protocol = protocol.map_or([0, 0xff], |protocol| [protocol.into(); 2]);
    let family = if remote.start().is_ipv4() { shared::FAMILY_IPV4 } else { shared::FAMILY_IPV6 };
    let action = if rule.permits { shared::RULE_PERMIT } else { shared::RULE_REFUSE };
    let parts: [&[u32]; 8] = [
        &remote_first,
        &remote_last,
        &local_first,
        &local_last,
        &remote_ports,
        &local_ports,
        &protocol,
        &[family, action],
    ];
    let mut words = Rule::default();
    words.iter_mut().zip(parts.into_iter().flatten()).for_each(|(word, part)| *word = *part);
    words
}

/// The most significant word first; IPv4 in the last one.
fn number_words(address: IpAddr) -> [u32; 4] {
    let bits = bits(address);
    [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
}

/// ANY covers ports that cannot be seen (RFC 4301 section 4.4.1.1).
fn port_words(ports: &RangeInclusive<u16>) -> [u32; 2] {
    match (*ports.start(), *ports.end()) {
        _ if *ports == Selector::OPAQUE => [shared::OPAQUE; 2],
        (0, u16::MAX) => [0, shared::OPAQUE],
        (first, last) => [first.into(), last.into()],
    }
}

/// The family's 32 bits always match exactly.
fn prefix_key(prefix: Prefix) -> (u32, AddressKey) {
    (32 + u32::from(prefix.length()), address_key(prefix.address()))
}
