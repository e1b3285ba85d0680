//! Prohibit routes for protected prefixes (invariant I7): the kernel itself neither forwards nor originates a
//! packet to them in clear, whatever the state of the data plane. They come before everything else, outlive
//! every process, and only [`remove`] takes them away.
//!
//! They stand in the main table with protocol [`PROTOCOL`] and win against every route to the same or a shorter
//! prefix that does not replace them: IPv4 ones have metric 0 and are put before others of that metric, IPv6 ones
//! have metric 1, the lowest. A longer prefix that the operator routes elsewhere still leads there: that is how
//! a peer's own address is reached when its protected prefix covers it.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::Handle;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;

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
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Open(#[from] io::Error),
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
    with_handle(async |handle| {
        let (mut added, mut failure) = (0, None);
        for prefix in prefixes {
            let request = RouteNetlinkMessage::NewRoute(message(*prefix));
            // Neither EXCL nor APPEND: the route comes before others of its prefix and metric.
            match send(handle, request, NLM_F_CREATE).await {
                Ok(()) => added += 1,
                Err(libc::EEXIST) => {}
                Err(code) => {
                    failure.get_or_insert_with(|| refused(*prefix, code));
                }
            }
        }
        failure.map_or(Ok(added), Err)
    })
}

/// The prefixes that have a prohibit route of ours.
///
/// # Errors
/// [`ProhibitError`].
pub fn installed() -> Result<Vec<Prefix>, ProhibitError> {
    with_handle(async |handle| {
        let routes = own_routes(handle).await?;
        Ok(routes.iter().filter_map(prefix).collect())
    })
}

/// Removes all prohibit routes of ours, and no others. Returns how many.
///
/// # Errors
/// [`ProhibitError`]; some routes may be gone then.
pub fn remove() -> Result<usize, ProhibitError> {
    remove_where(|_| true)
}

/// Removes the prohibit routes of ours for these prefixes: what may go there in clear is the kernel's to decide then.
///
/// # Errors
/// [`ProhibitError`]; some routes may be gone then.
pub fn release(prefixes: &BTreeSet<Prefix>) -> Result<usize, ProhibitError> {
    remove_where(|route| prefix(route).is_some_and(|prefix| prefixes.contains(&prefix)))
}

fn remove_where(goes: impl Fn(&RouteMessage) -> bool + Send + Sync) -> Result<usize, ProhibitError> {
    with_handle(async |handle| {
        let mut routes = own_routes(handle).await?;
        routes.retain(|route| goes(route));
        let count = routes.len();
        for route in routes {
            let of = prefix(&route);
            match (send(handle, RouteNetlinkMessage::DelRoute(route), 0).await, of) {
                (Ok(()) | Err(libc::ESRCH), _) | (_, None) => {}
                (Err(code), Some(prefix)) => return Err(refused(prefix, code)),
            }
        }
        Ok(count)
    })
}

/// Runs requests in a thread of their own, since the caller may be within an asynchronous runtime.
pub(crate) fn with_handle<T: Send>(
    requests: impl AsyncFnOnce(&mut Handle) -> Result<T, ProhibitError> + Send,
) -> Result<T, ProhibitError> {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let connected = rtnetlink::new_connection_with_strict_check();
            // Before Linux 4.20 the kernel lists all routes, and we choose.
            let (connection, mut handle, _) = connected.or_else(|_| rtnetlink::new_connection())?;
            tokio::spawn(connection);
            requests(&mut handle).await
        })
    };
    std::thread::scope(|scope| match scope.spawn(run).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
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

async fn own_routes(handle: &mut Handle) -> Result<Vec<RouteMessage>, ProhibitError> {
    let mut found = routes_of_protocol(handle).await?;
    found.retain(is_own);
    Ok(found)
}

/// All routes of our protocol. The kernel is asked for no others: a router may have a million, and this is asked every
/// second.
pub(crate) async fn routes_of_protocol(handle: &mut Handle) -> Result<Vec<RouteMessage>, ProhibitError> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut query = RouteMessage::default();
        query.header.address_family = family;
        query.header.protocol = RouteProtocol::from(PROTOCOL);
        let mut routes = handle.route().get(query).execute();
        while let Some(route) = routes.try_next().await.map_err(|e| ProhibitError::List(e.to_string()))? {
            if route.header.protocol == RouteProtocol::from(PROTOCOL) {
                found.push(route);
            }
        }
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

/// Sends a request and waits for its acknowledgement; the error is the kernel's (errno).
pub(crate) async fn send(handle: &mut Handle, request: RouteNetlinkMessage, flags: u16) -> Result<(), i32> {
    let mut request = NetlinkMessage::from(request);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    let mut response = handle.request(request).map_err(|_| libc::EPIPE)?;
    while let Some(message) = response.next().await {
        if let NetlinkPayload::Error(error) = message.payload
            && error.code.is_some()
        {
            return Err(error.raw_code().abs());
        }
    }
    Ok(())
}

pub(crate) fn refused(prefix: Prefix, code: i32) -> ProhibitError {
    match code {
        libc::EPERM | libc::EACCES => ProhibitError::NotPermitted,
        _ => ProhibitError::Route { prefix, reason: io::Error::from_raw_os_error(code) },
    }
}
