//! `[connections.NAME]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use baton_dataplane::config::field::{bounded_name, integer, unicast};
use baton_dataplane::config::reader::{Place, Section, Word, shortened};
use baton_dataplane::prefix::Prefix;
use baton_dataplane::resolver::is_name;
use baton_ike_proto::configuration::{
    AddressMatch, Child, Childless, Connection, Fragmentation, Mobike, PostquantumKey, Routability,
    SendCertificate, Unique,
};
use baton_ike_proto::host::TunnelName;
use baton_ike_proto::proposal::IkeProposal;

use super::field::{address, boolean, identity, list, name, refuse, time, word};
use super::{Daemon, authentication, child, lifetime, moving};

const ANY: &str = "%any";

/// Most connections take them.
static DEFAULT_PROPOSALS: LazyLock<Vec<IkeProposal>> = LazyLock::new(IkeProposal::defaults);

/// Where fields stand that are compared with others.
pub(super) struct Places {
    pub(super) name: Place,
    pub(super) local_addresses: Vec<Place>,
    /// One per pool.
    pub(super) pools: Vec<Place>,
    /// Of `ppk_id`.
    pub(super) ppk: Option<Place>,
    /// Where peers are sent.
    pub(super) redirect_to: Vec<Place>,
    /// Of the section `local`, if it is there, or the connection's.
    pub(super) local: Place,
    /// Names in `remote_addrs`.
    pub(super) peer_names: Vec<String>,
}

/// A connection and where it stands.
pub(super) type Read = (Connection, Places);

/// What belongs to the IKE SA apart from its ends.
struct Behaviour {
    fragmentation: Fragmentation,
    fragment_size: u16,
    force_encapsulation: bool,
    send_certificate: SendCertificate,
    send_certificate_request: bool,
    unique: Unique,
    dpd_delay: Duration,
    keying_tries: u32,
    fails_closed: bool,
    mobike: Option<Mobike>,
    window: u32,
    ppk: PostquantumKey,
    childless: Childless,
}

/// Where the two ends are.
struct Ends {
    local_addresses: Vec<IpAddr>,
    remote_addresses: Vec<AddressMatch>,
    local_port: u16,
    remote_port: u16,
    virtual_addresses: Vec<IpAddr>,
    pools: Vec<String>,
}

pub(super) fn read(own_name: &Word<'_, '_>, section: &Section<'_, '_>) -> Option<Read> {
    let read_name = bounded_name(own_name, TunnelName::MAX_CONNECTION);
    let ends = ends(section);
    let proposals = ike_proposals(section);
    let behaviour = behaviour(section);
    let times = lifetime::of_ike(section);
    let local = authentication::local(&section.section("local"));
    let remote = authentication::remote(&section.section("remote"));
    let children = children(section);
    let moving = moving::of_connection(section);
    let places = places(own_name, section);
    section.finish();
    let (ends, behaviour, times) = (ends?, behaviour?, times?);
    let connection = Connection {
        name: read_name?,
        local_addresses: ends.local_addresses,
        remote_addresses: ends.remote_addresses,
        local_port: ends.local_port,
        remote_port: ends.remote_port,
        ike_proposals: proposals?,
        local: local?,
        remote: remote?,
        children: children?,
        pools: ends.pools,
        virtual_addresses: ends.virtual_addresses,
        fragmentation: behaviour.fragmentation,
        fragment_size: behaviour.fragment_size,
        force_encapsulation: behaviour.force_encapsulation,
        send_certificate: behaviour.send_certificate,
        send_certificate_request: behaviour.send_certificate_request,
        unique: behaviour.unique,
        dpd_delay: behaviour.dpd_delay,
        rekey_time: times.rekey,
        rand_time: times.rand,
        over_time: times.end,
        keying_tries: behaviour.keying_tries,
        fails_closed: behaviour.fails_closed,
        mobike: behaviour.mobike,
        window: behaviour.window,
        ppk: behaviour.ppk,
        childless: behaviour.childless,
        moving: moving?,
    };
    Some((connection, places))
}

fn places(own_name: &Word<'_, '_>, section: &Section<'_, '_>) -> Places {
    let of = |key| section.get(key).map_or(Vec::new(), |item| item.words().iter().map(Word::place).collect());
    Places {
        name: own_name.place(),
        ppk: of("ppk_id").first().cloned(),
        local_addresses: of("local_addrs"),
        pools: of("pools"),
        redirect_to: of("redirect_to"),
        local: section.section("local").place(),
        peer_names: peer_names(section),
    }
}

fn ends(section: &Section<'_, '_>) -> Option<Ends> {
    let local_addresses = local_addresses(section);
    let remote_addresses = list(section, "remote_addrs", remote_address);
    let ports = [u64::from(Daemon::PORT), u64::from(Daemon::NAT_PORT)];
    let local_port = integer(section, "local_port", ports[0]..=ports[1], ports[0]);
    if let (Some(port), Some(item)) = (local_port, section.get("local_port"))
        && !ports.contains(&port)
    {
        item.report(format!("IKE does not listen at port {port}"), "choose 500 or 4500, or leave it out");
    }
    let remote_port = integer(section, "remote_port", 1..=u64::from(u16::MAX), ports[0]);
    let virtual_addresses = list(section, "vips", address);
    let pools = list(section, "pools", name);
    Some(Ends {
        local_addresses: local_addresses?,
        remote_addresses: anywhere(&remote_addresses?),
        local_port: u16::try_from(local_port?).ok()?,
        remote_port: u16::try_from(remote_port?).ok()?,
        virtual_addresses: virtual_addresses?,
        pools: pools?,
    })
}

fn local_addresses(section: &Section<'_, '_>) -> Option<Vec<IpAddr>> {
    let addresses = list(section, "local_addrs", |word| match word.text {
        ANY => Some(None),
        _ => unicast(word).map(Some),
    })?;
    // Anywhere and elsewhere is anywhere.
    let any = addresses.contains(&None);
    Some(if any { Vec::new() } else { addresses.into_iter().flatten().collect() })
}

/// `%any` alone is written as an empty list.
fn anywhere(addresses: &[Vec<AddressMatch>]) -> Vec<AddressMatch> {
    let every = everything();
    if addresses.iter().all(|one| *one == every) { Vec::new() } else { addresses.concat() }
}

fn everything() -> Vec<AddressMatch> {
    let v4 = AddressMatch { first: Ipv4Addr::UNSPECIFIED.into(), last: Ipv4Addr::BROADCAST.into() };
    let v6 = AddressMatch { first: Ipv6Addr::UNSPECIFIED.into(), last: Ipv6Addr::from(u128::MAX).into() };
    vec![v4, v6]
}

fn remote_address(word: &Word<'_, '_>) -> Option<Vec<AddressMatch>> {
    let found = match word.text {
        ANY => Some(everything()),
        text if is_name(text) => Some(vec![AddressMatch::NOWHERE]),
        text => address_match(text).filter(|one| !one.is_nowhere()).map(|one| vec![one]),
    };
    if found.is_none() {
        let message = format!("\"{}\" is no address, network or range of addresses", shortened(word.text));
        word.report(message, "write addresses, \"10.0.0.0/8\", \"%any\", or a host's name");
    }
    found
}

fn peer_names(section: &Section<'_, '_>) -> Vec<String> {
    let words = section.get("remote_addrs").map_or(Vec::new(), |item| item.words());
    let names = words.iter().map(|word| word.text).filter(|text| *text != ANY && is_name(text));
    names.map(str::to_owned).collect()
}

pub(super) fn address_match(text: &str) -> Option<AddressMatch> {
    if let Ok(address) = text.parse() {
        return Some(AddressMatch { first: address, last: address });
    }
    if let Ok(prefix) = text.parse::<Prefix>() {
        return Some(AddressMatch { first: prefix.first(), last: prefix.last() });
    }
    let (first, last) = text.split_once('-')?;
    let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(AddressMatch { first, last })
}

fn ike_proposals(section: &Section<'_, '_>) -> Option<Vec<IkeProposal>> {
    let proposals = list(section, "proposals", |word| match IkeProposal::parse_list(word.text) {
        Ok(proposals) => Some(proposals),
        Err(error) => {
            refuse(word, error, "docs/CONFIGURATION.md lists the keywords");
            None
        }
    })?;
    let proposals = proposals.concat();
    Some(if proposals.is_empty() { DEFAULT_PROPOSALS.clone() } else { proposals })
}

fn behaviour(section: &Section<'_, '_>) -> Option<Behaviour> {
    let fragmentation = [
        ("yes", Fragmentation::Yes),
        ("accept", Fragmentation::Accept),
        ("force", Fragmentation::Force),
        ("no", Fragmentation::No),
    ];
    let fragmentation = word(section, "fragmentation", Fragmentation::Yes, &fragmentation);
    let fragment_size = integer(section, "fragment_size", 576..=u64::from(u16::MAX), 1280);
    let force_encapsulation = boolean(section, "encap", false);
    let send_certificate = [
        ("ifasked", SendCertificate::IfAsked),
        ("always", SendCertificate::Always),
        ("never", SendCertificate::Never),
    ];
    let send_certificate = word(section, "send_cert", SendCertificate::IfAsked, &send_certificate);
    let send_certificate_request = boolean(section, "send_certreq", true);
    let unique =
        [("no", Unique::No), ("never", Unique::Never), ("keep", Unique::Keep), ("replace", Unique::Replace)];
    let unique = word(section, "unique", Unique::No, &unique);
    let dpd_delay = time(section, "dpd_delay", Duration::ZERO);
    let keying_tries = integer(section, "keyingtries", 0..=1_000_000, 1);
    let fails_closed = boolean(section, "fail_closed", true);
    let mobike = mobike(section);
    let window = integer(section, "window", 1..=32, 1);
    let (ppk, childless) = (ppk(section), childless(section));
    Some(Behaviour {
        fragmentation: fragmentation?,
        fragment_size: u16::try_from(fragment_size?).ok()?,
        force_encapsulation: force_encapsulation?,
        send_certificate: send_certificate?,
        send_certificate_request: send_certificate_request?,
        unique: unique?,
        dpd_delay: dpd_delay?,
        keying_tries: u32::try_from(keying_tries?).ok()?,
        fails_closed: fails_closed?,
        mobike: mobike.map(|(is_on, mobike)| is_on.then_some(mobike))?,
        window: u32::try_from(window?).ok()?,
        ppk: ppk?,
        childless: childless?,
    })
}

fn ppk(section: &Section<'_, '_>) -> Option<PostquantumKey> {
    let own = match section.get("ppk_id") {
        None => None,
        Some(item) => {
            let own = identity(&item.text()?)?;
            if own.is_pattern() {
                item.report("it is one key's name", "write it without wildcards");
                return None;
            }
            Some(own)
        }
    };
    Some(PostquantumKey { identity: own, is_required: boolean(section, "ppk_required", false)? })
}

fn childless(section: &Section<'_, '_>) -> Option<Childless> {
    let words = [
        ("allow", Childless::Allow),
        ("prefer", Childless::Prefer),
        ("force", Childless::Force),
        ("never", Childless::Never),
    ];
    word(section, "childless", Childless::Allow, &words)
}

/// RFC 4555: whether, and how.
fn mobike(section: &Section<'_, '_>) -> Option<(bool, Mobike)> {
    let is_on = boolean(section, "mobike", true);
    let checks = [("before", Routability::Before), ("after", Routability::After)];
    let check = word(section, "mobike_check", Routability::Before, &checks);
    let nats = boolean(section, "mobike_nats", true);
    let mobike = Mobike { check: check?, nats: nats? };
    Some((is_on?, mobike))
}

fn children(section: &Section<'_, '_>) -> Option<Vec<Arc<Child>>> {
    let entries = section.section("children").named();
    if entries.is_empty() {
        let remedy = "say what to protect: [connections.NAME.children.NAME] with local_ts and remote_ts";
        section.place().report(section.source(), "the connection has no children", remedy);
    }
    let all: Vec<_> = entries.iter().map(|(name, section)| child::read(name, section)).collect();
    let all: Option<Vec<_>> = all.into_iter().collect();
    all.map(|children| children.into_iter().map(Arc::new).collect())
}
