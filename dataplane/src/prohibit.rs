//! Prohibit routes for protected prefixes (invariant I7): the kernel itself neither forwards nor originates a
//! packet to them in clear, whatever the state of the data plane. They come before everything else, outlive
//! every process, and only [`remove`] takes them away.
//!
//! They stand in tables of their own, one for each prefix length, with protocol [`PROTOCOL`]. Two rules for each length
//! put them where they win against every route of the main table to the same or a shorter prefix: the main table is
//! asked first, but only for longer ones, then ours. So a longer prefix that the operator routes elsewhere still leads
//! there, whatever its metric, and nothing else does.
//!
//! Packets with the mark [`MARK`] pass by our tables, to the operator's routes: a peer's own address may lie within what
//! it protects, as every address does within 0.0.0.0/0, and so does a peer's in transport mode. An IKE daemon, and the
//! data plane where it sends by plain sockets, set it on theirs: what they send is protected, or negotiates protection.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;

use crate::netlink::requests::{Request, Requests};
use crate::netlink::tables::{ip, table};
use crate::prefix::Prefix;

/// The routing protocol number of our routes and rules (`ip route show table all proto 186`).
pub const PROTOCOL: u8 = 186;
/// The firewall mark of packets that our rules do not see.
pub const MARK: u32 = 186;

/// The table for prefixes of length 0; those of longer ones follow.
const FIRST_TABLE: u32 = 18_600;
/// The priority of the last rule, for length 0. Longer ones come before: after the local table and that of
/// [`crate::divert`], and before the main table.
const LAST_PRIORITY: u32 = 18_600;
/// The longest prefix of any family.
const LONGEST: u8 = 128;

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
    /// The kernel refused a rule.
    #[error(
        "the kernel refused a routing rule of ours: {0}; it needs policy routing (CONFIG_IP_MULTIPLE_TABLES and, for \
         IPv6, CONFIG_IPV6_MULTIPLE_TABLES)"
    )]
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
    if prefixes.is_empty() {
        return Ok(0);
    }
    let ruled = put_rules(&mut Requests::open()?, prefixes);
    // Neither EXCL nor APPEND: the route comes before others of its prefix and metric.
    let requests =
        prefixes.iter().map(|prefix| (RouteNetlinkMessage::NewRoute(message(*prefix)), NLM_F_CREATE));
    let added = change(prefixes, requests, &[libc::EEXIST]);
    ruled.and(added)
}

/// Those of these prefixes that have no prohibit route. The rules that let those that there are have effect are put back
/// if they are missing.
///
/// # Errors
/// [`ProhibitError`].
pub fn missing(prefixes: &[Prefix]) -> Result<Vec<Prefix>, ProhibitError> {
    let mut requests = Requests::open()?;
    put_rules(&mut requests, prefixes)?;
    let installed: HashSet<Prefix> = own_prefixes(&mut requests)?.into_iter().collect();
    Ok(prefixes.iter().filter(|prefix| !installed.contains(prefix)).copied().collect())
}

/// The prefixes that have a prohibit route of ours.
///
/// # Errors
/// [`ProhibitError`].
pub fn installed() -> Result<Vec<Prefix>, ProhibitError> {
    own_prefixes(&mut Requests::open()?)
}

fn own_prefixes(requests: &mut Requests) -> Result<Vec<Prefix>, ProhibitError> {
    let found = routes_of_protocol(requests)?;
    Ok(found.iter().filter(|route| is_own(route)).filter_map(prefix).collect())
}

/// Removes all prohibit routes of ours and the rules for them, and no others. Returns how many routes.
///
/// # Errors
/// [`ProhibitError`]; some routes may be left then.
pub fn remove() -> Result<usize, ProhibitError> {
    let removed = release(&installed()?)?;
    let lengths = (0..=LONGEST).flat_map(|length| FAMILIES.map(|family| (family, length)));
    let answers = Requests::open()?.change(
        lengths
            .flat_map(|(family, length)| rules(family, length))
            .map(|rule| (RouteNetlinkMessage::DelRule(rule), 0)),
    )?;
    let failed = answers.into_iter().find_map(|answer| match answer {
        // The last three: a kernel without IPv6, or without routing rules, or a length that IPv4 does not have.
        Ok(()) | Err(libc::ENOENT | libc::ESRCH | libc::EAFNOSUPPORT | libc::EOPNOTSUPP | libc::EINVAL) => {
            None
        }
        Err(code) => Some(ProhibitError::of_rule(code)),
    });
    failed.map_or(Ok(removed), Err)
}

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

const fn family(is_ipv6: bool) -> AddressFamily {
    if is_ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet }
}

/// Makes sure that there are rules for all lengths of these prefixes.
fn put_rules(requests: &mut Requests, prefixes: &[Prefix]) -> Result<(), ProhibitError> {
    let lengths: HashSet<_> =
        prefixes.iter().map(|prefix| (prefix.address().is_ipv6(), prefix.length())).collect();
    let rules = lengths.into_iter().flat_map(|(is_ipv6, length)| rules(family(is_ipv6), length));
    for answer in requests.change(rules.map(|rule| (RouteNetlinkMessage::NewRule(rule), ONCE)))? {
        match answer {
            Ok(()) | Err(libc::EEXIST) => {}
            Err(code) => return Err(ProhibitError::of_rule(code)),
        }
    }
    Ok(())
}

/// `from all lookup main suppress_prefixlength LENGTH`, and behind it `not from all fwmark MARK lookup TABLE`.
fn rules(family: AddressFamily, length: u8) -> [RuleMessage; 2] {
    let priority = LAST_PRIORITY - 2 * u32::from(length);
    let mut longer = rule(family, priority - 1, RouteHeader::RT_TABLE_MAIN.into());
    longer.attributes.push(RuleAttribute::SuppressPrefixLen(length.into()));
    [longer, unmarked(rule(family, priority, FIRST_TABLE + u32::from(length)))]
}

/// `from all lookup TABLE`.
pub(crate) fn rule(family: AddressFamily, priority: u32, table: u32) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Priority(priority),
        RuleAttribute::Table(table),
        RuleAttribute::Protocol(PROTOCOL.into()),
    ];
    message
}

/// The same for packets without [`MARK`].
pub(crate) fn unmarked(mut rule: RuleMessage) -> RuleMessage {
    rule.header.flags = RuleFlags::Invert;
    rule.attributes.extend([RuleAttribute::FwMark(MARK), RuleAttribute::FwMask(u32::MAX)]);
    rule
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
    message.header.address_family = family(prefix.address().is_ipv6());
    message.header.destination_prefix_length = prefix.length();
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Prohibit;
    message.attributes.push(RouteAttribute::Destination(prefix.address().into()));
    message.attributes.push(RouteAttribute::Table(FIRST_TABLE + u32::from(prefix.length())));
    // The first: one without a metric has the last in IPv6.
    message.attributes.push(RouteAttribute::Priority(prefix.address().is_ipv6().into()));
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
    let table_of_length = FIRST_TABLE + u32::from(route.header.destination_prefix_length);
    route.header.kind == RouteType::Prohibit && table(route) == table_of_length
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
