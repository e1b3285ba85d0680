//! Prohibit routes for protected prefixes (invariant I7): the kernel itself neither forwards nor originates a
//! packet to them in clear, whatever the state of the data plane. They come before everything else, outlive
//! every process, and only [`remove`] takes them away.
//!
//! They stand in the main table with protocol [`PROTOCOL`] and win against every route to the same or a shorter
//! prefix that does not replace them: IPv4 ones have metric 0 and are put before others of that metric, IPv6 ones
//! have metric 1, the lowest. A longer prefix that the operator routes elsewhere still leads there: that is how
//! a peer's own address is reached when its protected prefix covers it.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;

use crate::netlink::requests::{Request, Requests};
use crate::netlink::tables::{ip, table};
use crate::prefix::Prefix;

/// The routing protocol number of our routes (`ip route show proto 186`).
pub const PROTOCOL: u8 = 186;

/// Makes a route, or puts it in the place of the one that is there.
pub(crate) const REPLACE: u16 = NLM_F_CREATE | NLM_F_REPLACE;
/// Makes a rule; `EEXIST` if it is there. Without EXCL the kernel would make a second one.
pub(crate) const ONCE: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// Why prohibit routes cannot be installed, listed or removed.
#[derive(Debug, Error)]
pub enum ProhibitError {
    /// A capability is missing.
    #[error("not allowed to change routes; run as root or grant CAP_NET_ADMIN")]
    NotPermitted,
    /// No netlink socket, or none that answers.
    #[error("cannot talk to the kernel by netlink: {0}")]
    Netlink(#[from] io::Error),
    /// The kernel refused one route.
    #[error("the kernel refused the prohibit route for {prefix}: {reason}")]
    Route {
        /// Its prefix.
        prefix: Prefix,
        /// The kernel's answer.
        reason: io::Error,
    },
    /// The kernel refused the rule for the routes into a TUN device.
    #[error("the kernel refused the routing rule for the TUN device: {0}")]
    Rule(io::Error),
    /// The kernel refused to list its routes.
    #[error("the kernel refused to list its routes: {0}")]
    List(String),
}

impl ProhibitError {
    pub(crate) fn of_rule(code: i32) -> Self {
        match code {
            libc::EPERM | libc::EACCES => Self::NotPermitted,
            _ => Self::Rule(io::Error::from_raw_os_error(code)),
        }
    }
}

/// Makes sure that there is a prohibit route for every prefix. Returns how many were added; a second call adds
/// none.
///
/// # Errors
/// The first [`ProhibitError`]; all other routes are there nevertheless, as they protect.
pub fn install(prefixes: &[Prefix]) -> Result<usize, ProhibitError> {
    // Neither EXCL nor APPEND: the route comes before others of its prefix and metric.
    let requests =
        prefixes.iter().map(|prefix| (RouteNetlinkMessage::NewRoute(message(*prefix)), NLM_F_CREATE));
    change(prefixes, requests, &[libc::EEXIST])
}

/// The prefixes that have a prohibit route of ours.
///
/// # Errors
/// [`ProhibitError`].
pub fn installed() -> Result<Vec<Prefix>, ProhibitError> {
    let mut found = routes_of_protocol(&mut Requests::open()?)?;
    found.retain(is_own);
    Ok(found.iter().filter_map(prefix).collect())
}

/// Removes all prohibit routes of ours, and no others. Returns how many.
///
/// # Errors
/// [`ProhibitError`]; some routes may be left then.
pub fn remove() -> Result<usize, ProhibitError> {
    release(&installed()?)
}

/// Removes the prohibit routes of ours for these prefixes: what may go there in clear is the kernel's to decide then.
/// Returns how many there were.
///
/// # Errors
/// [`ProhibitError`]; some routes may be left then.
pub fn release(prefixes: &[Prefix]) -> Result<usize, ProhibitError> {
    let requests = prefixes.iter().map(|prefix| (RouteNetlinkMessage::DelRoute(message(*prefix)), 0));
    change(prefixes, requests, &[libc::ESRCH])
}

/// Makes these changes, one for each prefix. Returns how many the kernel made; the others have an answer that is `fine`.
pub(crate) fn change(
    prefixes: &[Prefix],
    requests: impl Iterator<Item = Request>,
    fine: &[i32],
) -> Result<usize, ProhibitError> {
    if prefixes.is_empty() {
        return Ok(0);
    }
    let answers = Requests::open()?.change(requests)?;
    let mut failures = prefixes.iter().zip(&answers).filter_map(|(prefix, answer)| match answer {
        Err(code) if !fine.contains(code) => Some(refused(*prefix, *code)),
        _ => None,
    });
    failures.next().map_or(Ok(()), Err)?;
    Ok(answers.iter().filter(|answer| answer.is_ok()).count())
}

fn message(prefix: Prefix) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, metric) = match prefix.address() {
        IpAddr::V4(_) => (AddressFamily::Inet, 0),
        IpAddr::V6(_) => (AddressFamily::Inet6, 1),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = prefix.length();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Prohibit;
    message.attributes.push(RouteAttribute::Destination(prefix.address().into()));
    message.attributes.push(RouteAttribute::Priority(metric));
    message
}

/// All routes of our protocol. The kernel is asked for no others: a router may have a million.
pub(crate) fn routes_of_protocol(requests: &mut Requests) -> Result<Vec<RouteMessage>, ProhibitError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut query = RouteMessage::default();
        query.header.address_family = family;
        query.header.protocol = RouteProtocol::from(PROTOCOL);
        let listed = requests.dump(RouteNetlinkMessage::GetRoute(query), |entry| match entry {
            RouteNetlinkMessage::NewRoute(route)
                if route.header.protocol == RouteProtocol::from(PROTOCOL) =>
            {
                found.push(route);
            }
            _ => {}
        });
        listed.map_err(|error| ProhibitError::List(error.to_string()))?;
    }
    Ok(found)
}

fn is_own(route: &RouteMessage) -> bool {
    route.header.kind == RouteType::Prohibit && table(route) == u32::from(RouteHeader::RT_TABLE_MAIN)
}

pub(crate) fn prefix(route: &RouteMessage) -> Option<Prefix> {
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let any = match route.header.address_family {
        AddressFamily::Inet6 => IpAddr::from([0; 16]),
        _ => IpAddr::from([0; 4]),
    };
    Prefix::new(destination.unwrap_or(any), route.header.destination_prefix_length).ok()
}

pub(crate) fn refused(prefix: Prefix, code: i32) -> ProhibitError {
    match code {
        libc::EPERM | libc::EACCES => ProhibitError::NotPermitted,
        _ => ProhibitError::Route { prefix, reason: io::Error::from_raw_os_error(code) },
    }
}
