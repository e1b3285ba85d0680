//! Routes that lead protected traffic into a TUN device, where the inner side is one.
//!
//! They stand in a table of their own, [`TABLE`], which a rule puts before the main table: there the prohibit routes
//! ([`crate::prohibit`]) win against everything, and shall. When the device goes, its routes go with it, the lookup
//! falls through to the main table, and the prohibit routes stop what would leave in clear (I7). Packets with the mark
//! [`MARK`] pass by the rule: a daemon that must reach a peer whose address is protected itself, such as an IKE
//! daemon, sets it on its socket.

use std::collections::HashSet;

use rtnetlink::Handle;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::netlink::tables::table;
use crate::prefix::Prefix;
use crate::prohibit::{self, ONCE, PROTOCOL, ProhibitError, REPLACE};

/// Our routing table, and the rule's priority: after the local table, before everything that an operator makes.
pub const TABLE: u32 = 186;
/// The firewall mark of packets that the rule does not see.
pub const MARK: u32 = 186;

/// Leads exactly these prefixes into the interface of that index. What is there already stays; a second call changes
/// nothing.
///
/// # Errors
/// [`ProhibitError`]. What is not diverted is prohibited.
pub fn install(prefixes: &[Prefix], interface: u32) -> Result<(), ProhibitError> {
    prohibit::with_handle(async |handle| {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = RouteNetlinkMessage::NewRule(rule(family));
            match prohibit::send(handle, request, ONCE).await {
                // A host without IPv6 needs no rule for it.
                Ok(()) | Err(libc::EEXIST | libc::EAFNOSUPPORT) => {}
                Err(code) => return Err(ProhibitError::of_rule(code)),
            }
        }
        let found = own_routes(handle).await?;
        let there: HashSet<_> =
            found.iter().filter(|route| leads_into(route, interface)).filter_map(prohibit::prefix).collect();
        for prefix in prefixes.iter().filter(|prefix| !there.contains(prefix)) {
            let request = RouteNetlinkMessage::NewRoute(route(*prefix, interface));
            let sent = prohibit::send(handle, request, REPLACE).await;
            sent.map_err(|code| prohibit::refused(*prefix, code))?;
        }
        let wanted: HashSet<_> = prefixes.iter().copied().collect();
        remove_routes(handle, found, |prefix| !wanted.contains(&prefix)).await
    })
}

/// Removes the rule and all routes of ours in its table.
///
/// # Errors
/// [`ProhibitError`]; some may be gone then.
pub fn remove() -> Result<(), ProhibitError> {
    prohibit::with_handle(async |handle| {
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let request = RouteNetlinkMessage::DelRule(rule(family));
            match prohibit::send(handle, request, 0).await {
                // The last two: a kernel without IPv6, or without routing rules.
                Ok(()) | Err(libc::ENOENT | libc::ESRCH | libc::EAFNOSUPPORT | libc::EOPNOTSUPP) => {}
                Err(code) => return Err(ProhibitError::of_rule(code)),
            }
        }
        let found = own_routes(handle).await?;
        remove_routes(handle, found, |_| true).await
    })
}

fn leads_into(route: &RouteMessage, interface: u32) -> bool {
    route.attributes.contains(&RouteAttribute::Oif(interface))
}

async fn remove_routes(
    handle: &mut Handle,
    found: Vec<RouteMessage>,
    which: impl Fn(Prefix) -> bool,
) -> Result<(), ProhibitError> {
    for message in found {
        let Some(prefix) = prohibit::prefix(&message).filter(|prefix| which(*prefix)) else { continue };
        match prohibit::send(handle, RouteNetlinkMessage::DelRoute(message), 0).await {
            Ok(()) | Err(libc::ESRCH) => {}
            Err(code) => return Err(prohibit::refused(prefix, code)),
        }
    }
    Ok(())
}

async fn own_routes(handle: &mut Handle) -> Result<Vec<RouteMessage>, ProhibitError> {
    let mut found = prohibit::routes_of_protocol(handle).await?;
    found.retain(|route| table(route) == TABLE);
    Ok(found)
}

/// `not from all fwmark MARK lookup TABLE`.
fn rule(family: AddressFamily) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::ToTable;
    message.header.flags = RuleFlags::Invert;
    message.attributes = vec![
        RuleAttribute::Priority(TABLE),
        RuleAttribute::Table(TABLE),
        RuleAttribute::FwMark(MARK),
        RuleAttribute::FwMask(u32::MAX),
        RuleAttribute::Protocol(PROTOCOL.into()),
    ];
    message
}

fn route(prefix: Prefix, interface: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    let is_ipv4 = prefix.address().is_ipv4();
    message.header.address_family = if is_ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.destination_prefix_length = prefix.length();
    message.header.protocol = RouteProtocol::from(PROTOCOL);
    message.header.scope = if is_ipv4 { RouteScope::Link } else { RouteScope::Universe };
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(prefix.address().into()),
        RouteAttribute::Table(TABLE),
        RouteAttribute::Oif(interface),
    ];
    message
}
