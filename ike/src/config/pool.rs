//! `[pools.NAME]`.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use baton_dataplane::config::field::is_unicast;
use baton_dataplane::config::reader::{Item, Place, Section, Word, shortened};
use baton_dataplane::prefix::Prefix;
use baton_ike_proto::configuration::Pool;

use super::field::{address, list, name, time};

/// A pool and where its addresses stand.
pub(super) type Read = (Pool, Place);

pub(super) fn read(own_name: &Word<'_, '_>, section: &Section<'_, '_>) -> Option<Read> {
    let read_name = name(own_name);
    let item = section.require("addrs", "give it a network or a range: addrs = \"10.99.0.0/24\"");
    let place = item.as_ref().map_or(section.place(), Item::place);
    let ends = item.and_then(|item| addresses(&item.text()?));
    let dns = list(section, "dns", address);
    let subnets = list(section, "subnet", subnet);
    let lease_time = time(section, "lease_time", Duration::from_hours(1));
    section.finish();
    let (first, last) = ends?;
    Some((
        Pool { name: read_name?, first, last, dns: dns?, subnets: subnets?, lease_time: lease_time? },
        place,
    ))
}

/// As swanctl, a network without its first and last address, which hosts of some kind take for the network's.
fn addresses(word: &Word<'_, '_>) -> Option<(IpAddr, IpAddr)> {
    let ends = parse(word.text);
    match ends {
        Some((first, last)) if first.is_ipv4() == last.is_ipv4() && first <= last => {
            if is_unicast(first) && is_unicast(last) {
                return Some((first, last));
            }
            word.report("a host can have none of these addresses", "write unicast addresses");
        }
        _ => {
            let message = format!("\"{}\" is not a network or a range of addresses", shortened(word.text));
            word.report(message, "write \"10.99.0.0/24\" or \"10.99.0.10-10.99.0.99\", without host bits");
        }
    }
    None
}

fn parse(text: &str) -> Option<(IpAddr, IpAddr)> {
    if let Some((first, last)) = text.split_once('-') {
        return Some((first.trim().parse().ok()?, last.trim().parse().ok()?));
    }
    if let Ok(address) = text.parse() {
        return Some((address, address));
    }
    let prefix: Prefix = text.parse().ok()?;
    let (first, last) = (prefix.first(), prefix.last());
    Some(match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if u32::from(last) - u32::from(first) >= 3 => {
            ((u32::from(first) + 1).to_be_bytes().into(), (u32::from(last) - 1).to_be_bytes().into())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if u128::from(last) - u128::from(first) >= 3 => {
            (Ipv6Addr::from(u128::from(first) + 1).into(), Ipv6Addr::from(u128::from(last) - 1).into())
        }
        ends => ends,
    })
}

fn subnet(word: &Word<'_, '_>) -> Option<(IpAddr, u8)> {
    match word.text.parse::<Prefix>() {
        Ok(prefix) => Some((prefix.first(), prefix.length())),
        Err(error) => {
            word.report(error, "write a network such as \"10.2.0.0/16\"");
            None
        }
    }
}
