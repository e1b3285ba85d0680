//! Other gateways: where peers are sent, and where we go.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use baton_dataplane::config as gateway;
use baton_dataplane::config::field::integer;
use baton_dataplane::config::reader::{Section, Word, shortened};
use baton_ike_proto::configuration::{AllowedGateway, Maintenance, Moving};
use baton_ike_proto::wire::GatewayIdentity;

use super::connection::address_match;
use super::daemon::bounded_time;
use super::field::{boolean, list, refuse, time};

/// Seconds: a ticket is worth its renewals, and the key that seals it outlives it (RFC 5723 section 6.2).
const TICKET_LIFETIMES: RangeInclusive<u64> = 60..=604_800;

/// What `[connections.NAME]` says.
pub(super) fn of_connection(section: &Section<'_, '_>) -> Option<Moving> {
    let default = Moving::default();
    let redirect_to = section.get("redirect_to").map_or(Some(None), |item| gateway(&item.text()?).map(Some));
    let redirect_timeout = time(section, "redirect_timeout", default.redirect_timeout);
    let follow_redirects = list(section, "follow_redirects", allowed);
    let message_id_sync = boolean(section, "message_id_sync", default.message_id_sync);
    let replay_counter_sync = boolean(section, "replay_counter_sync", default.replay_counter_sync);
    let session_resumption = boolean(section, "session_resumption", default.session_resumption);
    let ticket_lifetime = bounded_time(section, "ticket_lifetime", TICKET_LIFETIMES, default.ticket_lifetime);
    let resumption_time = time(section, "resumption_time", default.resumption_time);
    Some(Moving {
        redirect_to: redirect_to?,
        redirect_timeout: redirect_timeout?,
        follow_redirects: follow_redirects?,
        message_id_sync: message_id_sync?,
        replay_counter_sync: replay_counter_sync?,
        session_resumption: session_resumption?,
        ticket_lifetime: ticket_lifetime?,
        resumption_time: resumption_time?,
    })
}

/// What `[ike]` says. A gateway that sends its peers to itself would see them again and again.
pub(super) fn maintenance(section: &Section<'_, '_>, listen: &[IpAddr]) -> Option<Maintenance> {
    let redirect_to = section.get("redirect_to").map_or(Some(None), |item| gateway(&item.text()?).map(Some));
    let redirect_above = integer(section, "redirect_above", 0..=10_000_000, 0);
    let redirect_to = redirect_to?;
    if let (Some(item), Some(GatewayIdentity::Address(address))) = (section.get("redirect_to"), &redirect_to)
        && listen.contains(address)
    {
        item.report(format!("{address} is this gateway itself"), "name another one, or leave it out");
    }
    if let (Some(item), None) = (section.get("redirect_above"), &redirect_to) {
        item.report("it says when, and nothing says where", "add redirect_to, or leave it out");
    }
    Some(Maintenance { redirect_to, redirect_above: usize::try_from(redirect_above?).ok()? })
}

/// A token has to be the same after the crash: it follows from the cluster key.
pub(super) fn crash_detection(section: &Section<'_, '_>, gateway: Option<&gateway::Config>) -> Option<bool> {
    let is_on = boolean(section, "crash_detection", false)?;
    let has_key = gateway.is_none_or(|gateway| gateway.snapshot.key_file.is_some());
    if let Some(item) = section.get("crash_detection").filter(|_| is_on && !has_key) {
        item.report("a crash would end what tokens are made from", "set [snapshot] key_file");
    }
    Some(is_on)
}

fn gateway(word: &Word<'_, '_>) -> Option<GatewayIdentity> {
    let gateway = word.text.parse::<GatewayIdentity>();
    gateway
        .inspect_err(|_| {
            let message = format!("\"{}\" is no gateway", shortened(word.text));
            refuse(word, message, "write an address, or a domain name that the peers know");
        })
        .ok()
}

/// An address, network or range; or a name and where it is.
fn allowed(word: &Word<'_, '_>) -> Option<AllowedGateway> {
    let found = match word.text.split_once('=') {
        Some((name, address)) => named(name.trim(), address.trim()),
        None => address_match(word.text).map(|addresses| AllowedGateway { name: None, addresses }),
    };
    if found.is_none() {
        let message = format!("\"{}\" does not say which gateway", shortened(word.text));
        let remedy = "write an address, a network, a range, or \"NAME=ADDRESS\"; names are not looked up";
        word.report(message, remedy);
    }
    found
}

fn named(name: &str, address: &str) -> Option<AllowedGateway> {
    let GatewayIdentity::Name(name) = name.parse().ok()? else { return None };
    let addresses = address_match(address).filter(|addresses| addresses.first == addresses.last)?;
    Some(AllowedGateway { name: Some(name), addresses })
}

/// What of a connection says where its peers go that is this gateway itself.
pub(super) fn is_own(moving: &Moving, listen: &[IpAddr]) -> bool {
    matches!(&moving.redirect_to, Some(GatewayIdentity::Address(address)) if listen.contains(address))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn names_have_one_address() {
        let gateway = named("GW2.example.org", "192.0.2.3").expect("a gateway");
        assert_eq!(gateway.name.as_deref(), Some("gw2.example.org"));
        for (name, address) in [
            ("192.0.2.3", "192.0.2.3"),
            ("gw2.example.org", "192.0.2.0/24"),
            ("gw2.example.org", ""),
            ("", "192.0.2.3"),
            ("a b", "192.0.2.3"),
        ] {
            assert_eq!(named(name, address), None, "{name}={address}");
        }
    }

    #[test]
    fn a_minute_to_leave_unless_said() {
        assert_eq!(Moving::default().redirect_timeout, Duration::from_mins(1));
    }
}
