//! One `[[tunnel]]`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use baton_sad::{DfPolicy, DscpPolicy, Mode, Name, Suite, TfcPadding};

use super::field::{bounded_name, integer, unicast};
use super::reader::{Item, Place, Section, nearest, shortened};
use super::sections::{Surroundings, priority};
use super::selectors::{self, ReadSelectors};
use super::static_sa::{self, ReadSa};
use super::{TrafficSelector, Tunnel, encapsulation, lifetime, sa};

/// Behind the exceptions, which are there to be excepted.
const DEFAULT_PRIORITY: u32 = 2000;

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

/// Mode, ends and traffic: what depends on each other.
struct Ends {
    mode: Option<Mode>,
    local: Option<IpAddr>,
    remote: Option<IpAddr>,
    local_selectors: ReadSelectors,
    remote_selectors: ReadSelectors,
}

pub(super) fn read(
    mut section: Section<'_, '_>,
    own: &[IpAddr],
    around: &Surroundings<'_>,
) -> Option<(Tunnel, TunnelPlaces)> {
    let name = section.require("name", "name the tunnel: name = \"site-a\"");
    let name_place = name.as_ref().map_or(section.place(), Item::place);
    let name = name.and_then(|item| bounded_name(&item.text()?, Name::MAX));
    if let Some(name) = &name {
        section.rename(format!("tunnel.{name}"));
    }
    let ends = read_ends(&section, own);
    let encapsulation = encapsulation::read(&section);
    let priority = priority(&section, DEFAULT_PRIORITY);
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
    let path_mtu = section.get("path_mtu").map_or(Some(0), |item| item.integer(path_mtus(ends.remote)));
    let clamp_mss = section.get("mss_clamp").map_or(Some(true), |item| item.boolean());
    let tfc_padding = tfc_padding(&section, ends.mode);
    let lifetimes = lifetime::read(&section, extended);
    let (inbound_section, outbound_section) = (section.section("inbound"), section.section("outbound"));
    let waits = !inbound_section.is_present() && !outbound_section.is_present();
    let inbound = static_sa::read(&section, &inbound_section, waits, suite, around);
    let outbound = static_sa::read(&section, &outbound_section, waits, suite, around);
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
        remote_selectors: ends.remote_selectors.places(),
    };
    let tunnel = Tunnel {
        name: name?,
        mode: ends.mode?,
        local: ends.local?,
        remote: ends.remote?,
        encapsulation: encapsulation.ok()?,
        local_selectors: ends.local_selectors.into_selectors(),
        remote_selectors: ends.remote_selectors.into_selectors(),
        priority: priority?,
        suite: suite?,
        reqid: u32::try_from(reqid?).ok()?,
        segment: segment?,
        replay_window: replay_window?,
        extended_sequence: extended?,
        dscp: dscp?,
        df: df?,
        path_mtu: u16::try_from(path_mtu?).ok()?,
        clamp_mss: clamp_mss?,
        tfc_padding: tfc_padding?,
        lifetimes: lifetimes?,
        inbound: inbound.map(|r| r.sa),
        outbound: outbound.map(|r| r.sa),
    };
    Some((tunnel, places))
}

fn read_ends(section: &Section<'_, '_>, own: &[IpAddr]) -> Ends {
    let words = [("tunnel", Mode::Tunnel), ("transport", Mode::Transport)];
    let mode = section.get("mode").map_or(Some(Mode::Tunnel), |item| item.word(&words));
    let local = section.require("local", "give our outer address towards this peer");
    let local = local.and_then(|item| local_address(&item, own));
    let remote = section.require("remote", "give the peer's outer address");
    let remote = remote.and_then(|item| remote_address(&item, own, local));
    let host = |address: Option<IpAddr>| {
        address.filter(|_| mode == Some(Mode::Transport)).map(TrafficSelector::host)
    };
    let remedy = "list the networks behind this gateway";
    let locals = selectors::read(section, "local_selectors", remedy, local, host(local));
    let remedy = "list the networks behind the peer";
    let remotes = selectors::read(section, "remote_selectors", remedy, remote, host(remote));
    selectors::check_tunnel(section, mode, (&locals, local), (&remotes, remote));
    Ends { mode, local, remote, local_selectors: locals, remote_selectors: remotes }
}

fn read_suite(item: &Item<'_, '_>) -> Option<Suite> {
    let name = item.string()?;
    let suite = Suite::from_name(name);
    if suite.is_none() {
        let names: Vec<String> = Suite::ALL.iter().map(Suite::to_string).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let remedy = match nearest(name, &names) {
            Some(name) => format!("did you mean \"{name}\"?"),
            None => {
                "choose one of docs/CONFIGURATION.md, e.g. \"aes128gcm16\" or \"aes256-sha256\"".to_owned()
            }
        };
        item.report(format!("\"{}\" is not a suite", shortened(name)), remedy);
    }
    suite
}

fn local_address(item: &Item<'_, '_>, own: &[IpAddr]) -> Option<IpAddr> {
    let address = unicast(&item.text()?)?;
    // With no usable `outer.addresses` that problem was told already.
    if !own.is_empty() && !own.contains(&address) {
        item.report(format!("{address} is not one of outer.addresses"), "use one of them, or add it there");
    }
    Some(address)
}

fn remote_address(item: &Item<'_, '_>, own: &[IpAddr], local: Option<IpAddr>) -> Option<IpAddr> {
    let address = unicast(&item.text()?)?;
    if own.contains(&address) {
        item.report(format!("{address} is our own address"), "write the peer's address");
    }
    if let Some(local) = local.filter(|local| local.is_ipv4() != address.is_ipv4()) {
        let message = format!("{address} and our {local} are of different IP versions");
        item.report(message, "give both ends an address of one version; inside may be the other");
    }
    Some(address)
}

/// What a link must carry whole: 576 octets of IPv4 by custom, 1280 of IPv6 (RFC 8200 section 5).
fn path_mtus(remote: Option<IpAddr>) -> RangeInclusive<u64> {
    let least = if remote.is_some_and(|remote| remote.is_ipv6()) { 1280 } else { 576 };
    least..=u64::from(u16::MAX)
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

fn tfc_padding(section: &Section<'_, '_>, mode: Option<Mode>) -> Option<TfcPadding> {
    let Some(item) = section.get("tfc_padding") else { return Some(TfcPadding::Off) };
    let padding = if item.is_string() {
        item.word(&[("mtu", TfcPadding::PathMtu)])?
    } else {
        match u16::try_from(item.integer(0..=65_534)?).ok()? {
            0 => TfcPadding::Off,
            octets => TfcPadding::To(octets),
        }
    };
    // Only an inner IP header tells the receiver where the padding begins (RFC 4303 section 2.7).
    if padding != TfcPadding::Off && mode == Some(Mode::Transport) {
        item.report("transport mode cannot carry TFC padding", "remove it, or use mode = \"tunnel\"");
    }
    Some(padding)
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
