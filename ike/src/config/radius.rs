//! `[eap-radius]`, with the names that strongswan.conf has for it.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use baton_dataplane::config::field::{integer, unicast};
use baton_dataplane::config::reader::{Place, Section, Word, shortened};

use super::field::{boolean, list, name, time};
use super::{Dae, Radius, RadiusServer};

/// Servers at most.
const MAX_SERVERS: usize = 16;
/// Each has 256 outstanding questions.
const MAX_SOCKETS: u64 = 64;
/// UDP ports (RFC 2865 section 3, RFC 2866 section 3, RFC 5176 section 2).
const AUTH_PORT: u64 = 1812;
const ACCT_PORT: u64 = 1813;
const DAE_PORT: u64 = 3799;
const PORTS: RangeInclusive<u64> = 1..=65535;
/// A server that is not asked for longer than that is not configured.
const MAX_TIME: Duration = Duration::from_hours(24);

/// What was said is wrong; it was reported.
struct Wrong;

/// What the section says, and where secrets are named.
pub(super) struct Read {
    pub(super) radius: Radius,
    pub(super) secrets: Vec<(String, Place)>,
}

pub(super) fn read(section: &Section<'_, '_>, listen: Option<IpAddr>) -> Option<Read> {
    let nas_identifier = text(section, "nas_identifier");
    let default = Radius::default();
    let accounting = boolean(section, "accounting", default.accounting);
    let accounting_interval = bounded(section, "accounting_interval", default.accounting_interval);
    let station_id_with_port = boolean(section, "station_id_with_port", default.station_id_with_port);
    let number = |key, allowed, default| section.get(key).map_or(Some(default), |item| item.number(allowed));
    let first = number("retransmit_timeout", 0.1..=60.0, default.retransmit_timeout.as_secs_f64());
    let base = number("retransmit_base", 1.0..=10.0, default.retransmit_base);
    let tries = integer(section, "retransmit_tries", 0..=20, default.retransmit_tries.into());
    let dead_time = bounded(section, "dead_time", default.dead_time);
    let mut secrets = Vec::new();
    let servers = servers(&section.section("servers"), &mut secrets);
    let dae = dae(&section.section("dae"), listen, &mut secrets);
    section.finish();
    let radius = Radius {
        servers: servers?,
        nas_identifier: nas_identifier.ok()?.unwrap_or(default.nas_identifier),
        accounting: accounting?,
        accounting_interval: accounting_interval?,
        station_id_with_port: station_id_with_port?,
        retransmit_timeout: Duration::from_secs_f64(first?),
        retransmit_base: base?,
        retransmit_tries: u32::try_from(tries?).ok()?,
        dead_time: dead_time?,
        dae: dae.ok()?,
    };
    Some(Read { radius, secrets })
}

fn servers(section: &Section<'_, '_>, secrets: &mut Vec<(String, Place)>) -> Option<Vec<RadiusServer>> {
    let named = section.named();
    if let Some((name, _)) = named.get(MAX_SERVERS) {
        name.report(format!("{} servers are too many", named.len()), format!("keep {MAX_SERVERS}"));
    }
    let all: Vec<_> = named.iter().map(|(name, section)| server(name, section, secrets)).collect();
    all.into_iter().collect()
}

fn server(
    own_name: &Word<'_, '_>,
    section: &Section<'_, '_>,
    secrets: &mut Vec<(String, Place)>,
) -> Option<RadiusServer> {
    let read_name = name(own_name);
    let remedy = "write where the server is: address = \"192.0.2.1\"";
    let address = section.require("address", remedy).and_then(|item| host(&item.text()?));
    let auth_port = integer(section, "auth_port", PORTS, AUTH_PORT);
    let acct_port = integer(section, "acct_port", PORTS, ACCT_PORT);
    let preference = integer(section, "preference", 0..=1000, 0);
    let sockets = integer(section, "sockets", 1..=MAX_SOCKETS, 4);
    let nas_identifier = text(section, "nas_identifier");
    let secret = secret(section, secrets);
    section.finish();
    Some(RadiusServer {
        name: read_name?,
        address: address?,
        auth_port: u16::try_from(auth_port?).ok()?,
        acct_port: u16::try_from(acct_port?).ok()?,
        preference: u32::try_from(preference?).ok()?,
        sockets: u16::try_from(sockets?).ok()?,
        secret: secret?,
        nas_identifier: nas_identifier.ok()?,
    })
}

/// The name of a secret, which has to be there.
fn secret(section: &Section<'_, '_>, secrets: &mut Vec<(String, Place)>) -> Option<String> {
    let item = section.require("secret", "name one of [secrets]: secret = \"radius-main\"")?;
    let word = item.text()?;
    secrets.push((word.text.to_owned(), word.place()));
    Some(word.text.to_owned())
}

fn dae(
    section: &Section<'_, '_>,
    listen: Option<IpAddr>,
    secrets: &mut Vec<(String, Place)>,
) -> Result<Option<Dae>, Wrong> {
    let is_on = boolean(section, "enable", section.is_present());
    let address = section.get("listen").map_or(listen, |item| host(&item.text()?));
    let port = integer(section, "port", PORTS, DAE_PORT);
    let clients = list(section, "clients", host);
    let require_event_timestamp = boolean(section, "require_event_timestamp", true);
    let secret = section.is_present().then(|| secret(section, secrets).ok_or(Wrong)).transpose();
    section.finish();
    let read = || {
        let port = u16::try_from(port?).ok()?;
        Some((is_on?, SocketAddr::new(address?, port), clients?, require_event_timestamp?))
    };
    let Some(secret) = secret? else { return Ok(None) };
    let (is_on, listen, clients, require_event_timestamp) = read().ok_or(Wrong)?;
    Ok(is_on.then_some(Dae { listen, secret, clients, require_event_timestamp }))
}

/// A server may be on this host.
fn host(word: &Word<'_, '_>) -> Option<IpAddr> {
    match word.text.parse::<IpAddr>() {
        Ok(address) if address.is_loopback() => Some(address),
        _ => unicast(word),
    }
}

/// A text that an attribute carries (RFC 2865 section 5).
fn text(section: &Section<'_, '_>, key: &'static str) -> Result<Option<String>, Wrong> {
    let Some(item) = section.get(key) else { return Ok(None) };
    let text = item.string().ok_or(Wrong)?;
    if text.is_empty() || text.len() > 253 || text.contains(char::is_control) {
        let message = format!("\"{}\" is not a text of 1 to 253 octets", shortened(text));
        item.report(message, "shorten it");
        return Err(Wrong);
    }
    Ok(Some(text.to_owned()))
}

fn bounded(section: &Section<'_, '_>, key: &'static str, default: Duration) -> Option<Duration> {
    let value = time(section, key, default)?;
    if value > MAX_TIME {
        section.get(key)?.report("this is longer than a day", "choose a day at most");
        return None;
    }
    Some(value)
}
