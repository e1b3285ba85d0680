//! Routes that lead protected traffic into a TUN device, where the inner side is one.
//!
//! They stand in a table of their own, [`TABLE`], which a rule puts before the prohibit routes ([`crate::prohibit`]).
//! When the device goes, its routes go with it, the lookup falls through to those, and they stop what would leave in
//! clear (I7). Packets with the mark [`MARK`](crate::prohibit::MARK) pass by this rule as by those.

use std::collections::HashSet;

use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::requests::Requests;
use crate::netlink::tables::table;
use crate::prefix::Prefix;
use crate::prohibit::{self, ONCE, PROTOCOL, ProhibitError, REPLACE};

pub use crate::prohibit::MARK;

/// Our routing table, and the rule's priority: after the local table, before everything that an operator makes.
pub const TABLE: u32 = 186;

/// Leads exactly these prefixes into the interface of that index. What is there already stays; a second call changes
/// nothing.
///
/// # Errors
/// [`ProhibitError`]. What is not diverted is prohibited.
pub fn install(prefixes: &[Prefix], interface: u32) -> Result<(), ProhibitError> {
    let found = look(interface)?;
    extend(&beside(prefixes, &found.diverted), interface)?;
    let wanted: HashSet<_> = prefixes.iter().copied().collect();
    release(&beside(&found.all, &wanted))
}

/// Those of these prefixes that are not led into the interface of that index. The rule that lets the routes have effect
/// is put back if it is missing.
///
/// # Errors
/// [`ProhibitError`].
pub fn missing(prefixes: &[Prefix], interface: u32) -> Result<Vec<Prefix>, ProhibitError> {
    Ok(beside(prefixes, &look(interface)?.diverted))
}

/// What stands in the table.
struct Found {
    all: Vec<Prefix>,
    /// Into one interface.
    diverted: HashSet<Prefix>,
}

fn look(interface: u32) -> Result<Found, ProhibitError> {
    let mut requests = Requests::open()?;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        match requests.change_one((RouteNetlinkMessage::NewRule(rule(family)), ONCE))? {
            // A host without IPv6 needs no rule for it.
            Ok(()) | Err(libc::EEXIST | libc::EAFNOSUPPORT) => {}
            Err(code) => return Err(ProhibitError::of_rule(code)),
        }
    }
    let routes = own_routes(&mut requests)?;
    let all = routes.iter().filter_map(prohibit::prefix).collect();
    let diverted = routes.iter().filter(|route| leads_into(route, interface)).filter_map(prohibit::prefix);
    Ok(Found { all, diverted: diverted.collect() })
}

fn beside(prefixes: &[Prefix], others: &HashSet<Prefix>) -> Vec<Prefix> {
    prefixes.iter().filter(|prefix| !others.contains(prefix)).copied().collect()
}

/// Leads these prefixes into the interface too, where [`install`] was before.
///
/// # Errors
/// [`ProhibitError`]. What is not diverted is prohibited.
pub fn extend(prefixes: &[Prefix], interface: u32) -> Result<(), ProhibitError> {
    let requests = prefixes.iter().map(|prefix| {
        let route = RouteNetlinkMessage::NewRoute(route(*prefix, Some(interface)));
        (route, REPLACE)
    });
    prohibit::change(prefixes, requests, &[]).map(drop)
}

/// Leads these prefixes nowhere any more: they are prohibited, or the kernel's.
///
/// # Errors
/// [`ProhibitError`]; some routes may be left then.
pub fn release(prefixes: &[Prefix]) -> Result<(), ProhibitError> {
    let requests = prefixes.iter().map(|prefix| (RouteNetlinkMessage::DelRoute(route(*prefix, None)), 0));
    prohibit::change(prefixes, requests, &[libc::ESRCH]).map(drop)
}

/// Removes the rule and all routes of ours in its table.
///
/// # Errors
/// [`ProhibitError`]; some may be left then.
pub fn remove() -> Result<(), ProhibitError> {
    let mut requests = Requests::open()?;
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        match requests.change_one((RouteNetlinkMessage::DelRule(rule(family)), 0))? {
            // The last two: a kernel without IPv6, or without routing rules.
            Ok(()) | Err(libc::ENOENT | libc::ESRCH | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {}
            Err(code) => return Err(ProhibitError::of_rule(code)),
        }
    }
    let found = own_routes(&mut requests)?;
    release(&found.iter().filter_map(prohibit::prefix).collect::<Vec<_>>())
}

fn leads_into(route: &RouteMessage, interface: u32) -> bool {
    route.attributes.contains(&RouteAttribute::Oif(interface))
}

fn own_routes(requests: &mut Requests) -> Result<Vec<RouteMessage>, ProhibitError> {
    let mut found = prohibit::routes_of_protocol(requests)?;
    found.retain(|route| table(route) == TABLE);
    Ok(found)
}

/// `not from all fwmark MARK lookup TABLE`.
fn rule(family: AddressFamily) -> RuleMessage {
    prohibit::unmarked(prohibit::rule(family, TABLE, TABLE))
}

/// Into that interface, or into any.
fn route(prefix: Prefix, interface: Option<u32>) -> RouteMessage {
    let mut message = RouteMessage::default();
    let is_ipv4 = prefix.address().is_ipv4();
    message.header.address_family = if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = prefix.length();
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.scope = if is_ipv4 { RouteScope::Link } else { RouteScope::Universe };
    message.header.kind = RouteType::Unicast;
    message.attributes =
        vec![RouteAttribute::Destination(prefix.address().into()), RouteAttribute::Table(TABLE)];
    message.attributes.extend(interface.map(RouteAttribute::Oif));
    message
}
