//! One `[[tunnel]]`.

use std::net::IpAddr;

use baton_sad::{DfPolicy, DscpPolicy, Key, Name, Selectors, Suite};

use super::reader::{Item, Place, Section, shortened};
use super::sections::{Surroundings, bounded_name, integer, unicast_v4};
use super::{StaticSa, Tunnel, keys, sa};
use crate::prefix::Prefix;

/// Where a tunnel's fields stand, for the checks across tunnels.
pub(super) struct TunnelPlaces {
    pub(super) name: Place,
    pub(super) reqid: Place,
    pub(super) inbound: Place,
    pub(super) outbound: Place,
    pub(super) inbound_key: Place,
    pub(super) outbound_key: Place,
    /// One per remote selector.
    pub(super) remote_selectors: Vec<Place>,
}

/// An SA's section: what it says and where.
struct ReadSa {
    sa: StaticSa,
    spi: Place,
    key: Place,
}

pub(super) fn read(
    mut section: Section<'_, '_>,
    own: &[IpAddr],
    around: &Surroundings<'_>,
) -> Option<(Tunnel, TunnelPlaces)> {
    let name = section.require("name", "name the tunnel: name = \"site-a\"");
    let name_place = name.as_ref().map_or(section.place(), Item::place);
    let name = name.and_then(|item| bounded_name(&item, Name::MAX));
    if let Some(name) = &name {
        section.rename(format!("tunnel.{name}"));
    }
    let local = section.require("local", "give our outer address towards this peer");
    let local = local.and_then(|item| local_address(&item, own));
    let remote = section.require("remote", "give the peer's outer address");
    let remote = remote.and_then(|item| remote_address(&item, own));
    let locals = selectors(&section, "local_selectors", "list the networks behind this gateway");
    let remotes = selectors(&section, "remote_selectors", "list the networks behind the peer");
    check_pairs(&section, &locals, &remotes);
    let suite = section.require("suite", "choose the algorithms, e.g. suite = \"aes128gcm16\"");
    let suite = suite.and_then(|item| read_suite(&item));
    let reqid_place = section.get("reqid").map_or(section.place(), |item| item.place());
    let explicit = section.get("reqid").map(|item| item.integer(1..=u64::from(u32::MAX)));
    let reqid = explicit.unwrap_or_else(|| name.as_deref().map(|n| u64::from(sa::reqid_of(n))));
    let replay_window = replay_window(&section);
    let extended = section.get("extended_sequence").map_or(Some(true), |item| item.boolean());
    let dscp = section.get("dscp").map_or(Some(DscpPolicy::Copy), |item| dscp(&item));
    let df_words = [("copy", DfPolicy::Copy), ("set", DfPolicy::Set), ("clear", DfPolicy::Clear)];
    let df = section.get("df").map_or(Some(DfPolicy::Copy), |item| item.word(&df_words));
    let path_mtu = section.get("path_mtu").map_or(Some(0), |item| item.integer(576..=65_535));
    let (inbound_section, outbound_section) = (section.section("inbound"), section.section("outbound"));
    let waits = !inbound_section.is_present() && !outbound_section.is_present();
    let inbound = read_sa(&section, &inbound_section, waits, suite, around);
    let outbound = read_sa(&section, &outbound_section, waits, suite, around);
    let segment = segment(&section, inbound.as_ref(), waits);
    section.finish();
    let place = |sa: &Option<ReadSa>, of: fn(&ReadSa) -> &Place| {
        sa.as_ref().map_or(section.place(), |r| of(r).clone())
    };
    let places = TunnelPlaces {
        name: name_place,
        reqid: reqid_place,
        inbound: place(&inbound, |r| &r.spi),
        outbound: place(&outbound, |r| &r.spi),
        inbound_key: place(&inbound, |r| &r.key),
        outbound_key: place(&outbound, |r| &r.key),
        remote_selectors: remotes.iter().map(|(_, place)| place.clone()).collect(),
    };
    let tunnel = Tunnel {
        name: name?,
        local: local?,
        remote: remote?,
        local_selectors: locals.into_iter().map(|(prefix, _)| prefix).collect(),
        remote_selectors: remotes.into_iter().map(|(prefix, _)| prefix).collect(),
        suite: suite?,
        reqid: u32::try_from(reqid?).ok()?,
        segment: segment?,
        replay_window: replay_window?,
        extended_sequence: extended?,
        dscp: dscp?,
        df: df?,
        path_mtu: u16::try_from(path_mtu?).ok()?,
        inbound: inbound.map(|r| r.sa),
        outbound: outbound.map(|r| r.sa),
    };
    Some((tunnel, places))
}

fn read_suite(item: &Item<'_, '_>) -> Option<Suite> {
    let name = item.string()?;
    let suite = Suite::from_name(name);
    if suite.is_none() {
        let message = format!("\"{}\" is not a suite", shortened(name));
        item.report(
            message,
            "choose one of docs/CONFIGURATION.md, e.g. \"aes128gcm16\" or \"aes256-sha256\"",
        );
    }
    suite
}

fn local_address(item: &Item<'_, '_>, own: &[IpAddr]) -> Option<IpAddr> {
    let address = unicast_v4(item)?;
    // With no usable `outer.addresses` that problem was told already.
    if !own.is_empty() && !own.contains(&address) {
        item.report(format!("{address} is not one of outer.addresses"), "use one of them, or add it there");
    }
    Some(address)
}

fn remote_address(item: &Item<'_, '_>, own: &[IpAddr]) -> Option<IpAddr> {
    let address = unicast_v4(item)?;
    if own.contains(&address) {
        item.report(format!("{address} is our own address"), "write the peer's address");
    }
    Some(address)
}

fn selectors(section: &Section<'_, '_>, key: &'static str, remedy: &str) -> Vec<(Prefix, Place)> {
    let Some(item) = section.require(key, &format!("{remedy}: {key} = [\"10.2.0.0/16\"]")) else {
        return Vec::new();
    };
    let entries = item.array();
    if entries.is_empty() {
        item.report("the list is empty", remedy);
    }
    let mut found: Vec<(Prefix, Place)> = Vec::new();
    for entry in entries {
        let Some(prefix) = selector(&entry) else { continue };
        if found.iter().any(|(other, _)| *other == prefix) {
            entry.report(format!("{prefix} stands here twice"), "write it once");
        }
        found.push((prefix, entry.place()));
    }
    found
}

/// A prefix, or an address, which stands for itself alone.
fn selector(item: &Item<'_, '_>) -> Option<Prefix> {
    let text = item.string()?;
    let parsed = text.parse().or_else(|e| text.parse().map(Prefix::host).map_err(|_| e));
    let prefix: Prefix = match parsed {
        Ok(prefix) => prefix,
        Err(_) if text.len() > 48 || text.contains(char::is_control) => {
            let message = format!("\"{}\" is not a network", shortened(text));
            item.report(message, "write it as \"10.2.0.0/16\"");
            return None;
        }
        Err(error) => {
            item.report(error, "write a network as \"10.2.0.0/16\"");
            return None;
        }
    };
    if prefix.address().is_ipv6() {
        item.report("IPv6 is not spoken by this release's data plane", "use IPv4 networks");
        return None;
    }
    Some(prefix)
}

/// An SA has room for a few pairs of networks.
fn check_pairs(section: &Section<'_, '_>, locals: &[(Prefix, Place)], remotes: &[(Prefix, Place)]) {
    let pairs = locals.len() * remotes.len();
    if pairs > Selectors::MAX {
        let message =
            format!("{pairs} pairs of a local and a remote network; an SA has at most {}", Selectors::MAX);
        let remedy = "join neighbouring networks, or make several tunnels of it";
        section.place().report(section.source(), message, remedy);
    }
    for (local, _) in locals {
        for (remote, place) in remotes.iter().filter(|(remote, _)| overlap(local, remote)) {
            if local.length() > 0 && remote.length() > 0 {
                let message = format!("{remote} overlaps {local}, which is behind this gateway");
                place.report(section.source(), message, "a network is behind one of the two gateways");
            }
        }
    }
}

/// Prefixes are nested or disjoint.
pub(super) fn overlap(a: &Prefix, b: &Prefix) -> bool {
    a.contains(b.first()) || b.contains(a.first())
}

fn replay_window(section: &Section<'_, '_>) -> Option<u16> {
    let window = integer(section, "replay_window", 64..=4096, 1024)?;
    if !window.is_multiple_of(64)
        && let Some(item) = section.get("replay_window")
    {
        let (below, above) = (window / 64 * 64, window.div_ceil(64) * 64);
        item.report(format!("{window} is not a multiple of 64"), format!("use {below} or {above}"));
    }
    u16::try_from(window).ok()
}

fn dscp(item: &Item<'_, '_>) -> Option<DscpPolicy> {
    if item.is_string() {
        return item.word(&[("copy", DscpPolicy::Copy)]);
    }
    Some(DscpPolicy::Set(u8::try_from(item.integer(0..=63)?).ok()?))
}

fn read_sa(
    tunnel: &Section<'_, '_>,
    section: &Section<'_, '_>,
    waits: bool,
    suite: Option<Suite>,
    around: &Surroundings<'_>,
) -> Option<ReadSa> {
    if waits {
        return None;
    }
    if !section.is_present() {
        let message = "one direction has an SA and the other has none";
        let remedy = "give both [tunnel.inbound] and [tunnel.outbound], or none while it waits for a restore";
        section.place().report(tunnel.source(), message, remedy);
        return None;
    }
    let item = section.require("spi", "give the SPI that both gateways agreed on: spi = 0x2a000001");
    let spi_place = item.as_ref().map_or(section.place(), Item::place);
    let spi = item.and_then(|item| spi(&item));
    let (key, key_place) = match (section.get("key"), section.get("key_file")) {
        (Some(item), None) => (inline_key(&item, suite, around), item.place()),
        (None, Some(item)) => (key_from_file(&item, suite, around), item.place()),
        (Some(item), Some(_)) => {
            item.report("both `key` and `key_file` are given", "keep one of them");
            (None, item.place())
        }
        (None, None) => {
            let remedy = "name a file of mode 0600 with the key in hex: key_file = \"...\"";
            section.place().report(section.source(), "there is no key", remedy);
            (None, section.place())
        }
    };
    section.finish();
    Some(ReadSa { sa: StaticSa { spi: spi?, key: key? }, spi: spi_place, key: key_place })
}

fn spi(item: &Item<'_, '_>) -> Option<u32> {
    let spi = u32::try_from(item.integer(0..=u64::from(u32::MAX))?).ok()?;
    if spi <= 255 {
        let message = format!("SPI {spi:#x} is reserved (RFC 4303, section 2.1: 0 to 255)");
        item.report(message, "choose one above 255");
        return None;
    }
    Some(spi)
}

fn inline_key(item: &Item<'_, '_>, suite: Option<Suite>, around: &Surroundings<'_>) -> Option<Key> {
    let text = item.string()?;
    if !around.private {
        let message = "a key stands in a configuration that others than its owner can read";
        item.report(message, "chmod 0600 the configuration and change the key, or use key_file");
    }
    let suite = suite?;
    take_key(item, suite, keys::from_hex(text.as_bytes(), suite.key_length()))
}

fn key_from_file(item: &Item<'_, '_>, suite: Option<Suite>, around: &Surroundings<'_>) -> Option<Key> {
    let path = around.directory.join(item.string()?);
    let suite = suite?;
    take_key(item, suite, keys::read_file(&path, suite.key_length()))
}

fn take_key(
    item: &Item<'_, '_>,
    suite: Suite,
    read: Result<zeroize::Zeroizing<Vec<u8>>, keys::KeyProblem>,
) -> Option<Key> {
    match read {
        Ok(octets) => Key::new(&octets).ok(),
        Err(problem) => {
            let needs = suite.key_length();
            let remedy = format!("{} ({suite} takes {needs} octets: key, then 4 of salt)", problem.remedy);
            item.report(problem.message, remedy);
            None
        }
    }
}

/// The segment: the inbound SPI's top octet, or what the tunnel says while it has no SPI.
fn segment(section: &Section<'_, '_>, inbound: Option<&ReadSa>, waits: bool) -> Option<u8> {
    let item = section.get("segment");
    let given = item.as_ref().map(|item| item.integer(0..=255));
    let of_spi = inbound.map(|r| (r.sa.spi >> 24) as u8);
    match (given, of_spi) {
        (None, None) if waits => {
            let message = "a tunnel without SAs needs its segment";
            let remedy = "give segment = 0..=255, the top octet that its inbound SPI will have";
            section.place().report(section.source(), message, remedy);
            None
        }
        (None, of_spi) => of_spi,
        (Some(given), None) => u8::try_from(given?).ok(),
        (Some(given), Some(of_spi)) => {
            let given = u8::try_from(given?).ok()?;
            if given != of_spi {
                let message = format!("segment {given} is not the inbound SPI's top octet, {of_spi}");
                let remedy =
                    format!("remove `segment`, or choose an SPI of {:#010x} and up", u32::from(given) << 24);
                item?.report(message, remedy);
            }
            Some(of_spi)
        }
    }
}
