//! The netlink thread's loop.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{NeighbourFlags, NeighbourState};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::AsyncSocket;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior};

use super::resolve::Resolver;
use super::tables::{self, LinkState, Tables};
use super::{LinkEvent, NetlinkError, NetlinkOptions};
use crate::io::Side;
use crate::next_hop::{NextHops, ResolveRequests};

/// Receive buffer of the subscription, in octets: bursts of changes beyond it cost another dump.
const RECEIVE_BUFFER: usize = 4 << 20;
/// How often stale neighbours are looked at.
const CONFIRM_PERIOD: Duration = Duration::from_secs(1);
/// Changes within this time make one snapshot; more if making one takes long.
const QUIET: Duration = Duration::from_millis(2);

type Notifications = futures_util::stream::BoxStream<'static, NetlinkMessage<RouteNetlinkMessage>>;

/// Where results go.
pub(super) struct Sinks {
    pub(super) next_hops: Arc<ArcSwap<NextHops>>,
    pub(super) requests: Arc<ResolveRequests>,
    pub(super) on_link: Box<dyn FnMut(LinkEvent) + Send>,
    pub(super) stop: Arc<Notify>,
}

/// What has to be read again, and what has to be published.
#[derive(Clone, Copy, Debug, Default)]
struct Stale {
    routes: bool,
    neighbours: bool,
    snapshot: bool,
}

impl Stale {
    const ALL: Self = Self { routes: true, neighbours: true, snapshot: true };

    fn any(self) -> bool {
        self.routes || self.neighbours || self.snapshot
    }
}

struct Follower {
    options: NetlinkOptions,
    sinks: Sinks,
    handle: Handle,
    tables: Tables,
    resolver: Resolver,
    stale: Stale,
    /// When what is stale is to be brought up to date.
    due: Instant,
}

/// Follows the kernel's tables until told to stop. `ready` is called after the first snapshot.
pub(super) async fn follow(
    options: NetlinkOptions,
    sinks: Sinks,
    ready: impl FnOnce(),
) -> Result<(), NetlinkError> {
    let mut notifications = subscribe()?;
    let (connection, handle, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let now = Instant::now();
    let (resolver, stale) = (Resolver::new(now.into_std()), Stale::ALL);
    let mut follower =
        Follower { options, sinks, handle, tables: Tables::default(), resolver, stale, due: now };
    follower.read_links().await?;
    follower.require_links()?;
    follower.update().await?;
    ready();
    follower.run(&mut notifications).await
}

fn subscribe() -> Result<Notifications, NetlinkError> {
    let (mut connection, _, messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ])?;
    // A smaller buffer only means more dumps.
    let _ = connection.socket_mut().socket_mut().set_rx_buf_sz(RECEIVE_BUFFER);
    tokio::spawn(connection);
    Ok(messages.map(|(message, _)| message).boxed())
}

impl Follower {
    async fn run(&mut self, notifications: &mut Notifications) -> Result<(), NetlinkError> {
        let requested = Arc::new(Notify::new());
        let wake = Arc::clone(&requested);
        self.sinks.requests.on_request(move || wake.notify_one());
        let stop = Arc::clone(&self.sinks.stop);
        let mut confirm = tokio::time::interval(CONFIRM_PERIOD);
        confirm.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = notifications.next() => self.note(&message.ok_or(NetlinkError::Ended)?),
                () = requested.notified() => self.resolve_requests(),
                _ = confirm.tick() => { self.resolve_requests(); self.confirm_neighbours(); }
                () = tokio::time::sleep_until(self.due), if self.stale.any() => self.update_or_retry().await,
                () = stop.notified() => return Ok(()),
            }
        }
    }

    /// Notes what a notification makes stale.
    fn note(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) {
        let was_stale = self.stale.any();
        match &message.payload {
            NetlinkPayload::Overrun(_) => {
                tracing::warn!("the kernel dropped netlink notifications; reading its tables again");
                self.stale = Stale::ALL;
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour)) => {
                self.stale.snapshot |= self.tables.set_neighbour(neighbour);
            }
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(neighbour)) => {
                self.stale.snapshot |= self.tables.remove_neighbour(neighbour);
            }
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewRoute(route) | RouteNetlinkMessage::DelRoute(route),
            ) if tables::is_own(route) => {}
            // The kernel drops routes with their link or address without a word, and a replaced route is not
            // reported as deleted: whatever moves there, the routes are read again.
            NetlinkPayload::InnerMessage(_) => self.stale.routes = true,
            _ => {}
        }
        if !was_stale && self.stale.any() {
            self.due = self.due.max(Instant::now());
        }
    }

    async fn update_or_retry(&mut self) {
        if let Err(error) = self.update().await {
            tracing::warn!(%error, "next hops may be out of date; trying again");
            self.stale = Stale::ALL;
            self.due = Instant::now() + CONFIRM_PERIOD;
        }
    }

    /// Reads what is stale, publishes, and leaves the workers and this thread some quiet afterwards.
    async fn update(&mut self) -> Result<(), NetlinkError> {
        let started = Instant::now();
        let stale = std::mem::take(&mut self.stale);
        if stale.routes {
            self.read_links().await?;
            self.read_routes().await?;
        }
        // A new interface index makes other neighbours ours.
        if stale.neighbours || stale.routes {
            self.read_neighbours().await?;
        }
        self.sinks.next_hops.store(Arc::new(self.tables.snapshot()));
        self.due = Instant::now() + QUIET.max(started.elapsed() * 4);
        Ok(())
    }

    fn require_links(&self) -> Result<(), NetlinkError> {
        for side in Side::ALL {
            if self.tables.links[side.index()].is_none() {
                let name = self.options.name(side).to_owned();
                return Err(NetlinkError::NoSuchInterface { side, name });
            }
        }
        Ok(())
    }

    async fn read_links(&mut self) -> Result<(), NetlinkError> {
        for side in Side::ALL {
            let name = self.options.name(side).to_owned();
            let found = self.handle.link().get().match_name(name).execute().try_next().await;
            let link = match found {
                Ok(message) => message.map(|message| LinkState::of(&message)),
                Err(error) if is_no_device(&error) => None,
                Err(error) => return Err(refused("links", &error)),
            };
            let before = std::mem::replace(&mut self.tables.links[side.index()], link);
            if let Some(event) = event(side, before, link) {
                (self.sinks.on_link)(event);
            }
        }
        Ok(())
    }

    async fn read_routes(&mut self) -> Result<(), NetlinkError> {
        self.tables.clear_routes();
        let mut addresses = self.handle.address().get().execute();
        while let Some(message) = addresses.try_next().await.map_err(|e| refused("addresses", &e))? {
            self.tables.add_address(&message);
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut query = RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
            query.header.address_family = family;
            let mut routes = self.handle.route().get(query).execute();
            while let Some(message) = routes.try_next().await.map_err(|e| refused("routes", &e))? {
                self.tables.add_route(&message);
            }
        }
        Ok(())
    }

    async fn read_neighbours(&mut self) -> Result<(), NetlinkError> {
        self.tables.clear_neighbours();
        let mut neighbours = self.handle.neighbours().get().execute();
        while let Some(message) = neighbours.try_next().await.map_err(|e| refused("neighbours", &e))? {
            self.tables.set_neighbour(&message);
        }
        Ok(())
    }

    fn resolve_requests(&mut self) {
        while let Some((side, address)) = self.sinks.requests.next() {
            if self.resolver.may_resolve((side, address), Instant::now().into_std()) {
                self.use_neighbour(side, address);
            }
        }
    }

    /// Packets sent by AF_XDP do not pass the kernel's neighbour code, which would otherwise ask a neighbour
    /// that it has not heard of lately whether it is still there.
    fn confirm_neighbours(&mut self) {
        let stale: Vec<_> = self.tables.stale_neighbours().collect();
        for (side, address) in stale {
            if self.resolver.may_confirm((side, address), Instant::now().into_std()) {
                self.use_neighbour(side, address);
            }
        }
    }

    /// Tells the kernel that a neighbour is in use: it resolves it if it is unknown and probes it if it is stale.
    fn use_neighbour(&self, side: Side, address: IpAddr) {
        let Some(link) = self.tables.links[side.index()] else { return };
        let request = self.handle.neighbours().add(link.index, address);
        let request = request.state(NeighbourState::None).flags(NeighbourFlags::Use).replace().execute();
        tokio::spawn(async move {
            if let Err(error) = request.await {
                tracing::debug!(%address, side = side.name(), %error, "the kernel does not resolve a neighbour");
            }
        });
    }
}

fn event(side: Side, before: Option<LinkState>, now: Option<LinkState>) -> Option<LinkEvent> {
    match (before, now) {
        (None, None) => None,
        (Some(_), None) => Some(LinkEvent::Removed(side)),
        (Some(before), Some(now)) if before.index != now.index => Some(LinkEvent::Replaced(side)),
        (Some(before), Some(now)) if before.up == now.up => None,
        (_, Some(now)) if now.up => Some(LinkEvent::Up(side)),
        (_, Some(_)) => Some(LinkEvent::Down(side)),
    }
}

fn is_no_device(error: &rtnetlink::Error) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.raw_code().abs() == libc::ENODEV,
        _ => false,
    }
}

fn refused(what: &'static str, error: &rtnetlink::Error) -> NetlinkError {
    NetlinkError::Refused { what, reason: error.to_string() }
}
