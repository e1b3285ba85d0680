//! The kernel's links, addresses, routes and neighbours, as far as they concern the two interfaces, and the
//! snapshot of next hops made of them. No sockets here.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags,
    RouteProtocol, RouteType, RouteVia,
};

use crate::io::Side;
use crate::next_hop::{Mac, NextHops, SideHops, Via};
use crate::prefix::Prefix;
use crate::prohibit;

/// One of the two interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkState {
    pub(super) index: u32,
    /// Administratively up and with carrier.
    pub(super) up: bool,
    mac: Mac,
    mtu: u16,
}

impl LinkState {
    pub(super) fn of(message: &LinkMessage) -> Self {
        let mut state = Self {
            index: message.header.index,
            up: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            mac: Mac::default(),
            mtu: u16::MAX,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Address(octets) => state.mac = mac(octets).unwrap_or_default(),
                LinkAttribute::Mtu(mtu) => state.mtu = u16::try_from(*mtu).unwrap_or(u16::MAX),
                _ => {}
            }
        }
        state
    }
}

/// A neighbour that the kernel knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Neighbour {
    mac: Mac,
    stale: bool,
}

/// A route of the main table.
#[derive(Clone, Debug)]
struct Route {
    prefix: Prefix,
    metric: u32,
    /// Interface and router of each next hop; none for a route that leads nowhere.
    hops: Vec<(u32, Option<IpAddr>)>,
}

/// What the kernel said last.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) links: [Option<LinkState>; 2],
    /// By side and family.
    addresses: [[Option<IpAddr>; 2]; 2],
    local: BTreeSet<IpAddr>,
    routes: Vec<Route>,
    neighbours: HashMap<(Side, IpAddr), Neighbour>,
}

impl Tables {
    /// The side that an interface index belongs to.
    pub(super) fn side(&self, index: u32) -> Option<Side> {
        Side::ALL.into_iter().find(|side| self.links[side.index()].is_some_and(|link| link.index == index))
    }

    /// Forgets all routes and addresses, before they are read again.
    pub(super) fn clear_routes(&mut self) {
        self.routes.clear();
        self.addresses = [[None; 2]; 2];
        self.local.clear();
    }

    /// Forgets all neighbours, before they are read again.
    pub(super) fn clear_neighbours(&mut self) {
        self.neighbours.clear();
    }

    /// Notes an own address. As a side's own the first global one of each family counts.
    pub(super) fn add_address(&mut self, message: &AddressMessage) {
        let (mut local, mut address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(own) => local = Some(*own),
                AddressAttribute::Address(own) => address = Some(*own),
                _ => {}
            }
        }
        // On point-to-point links `Address` is the peer's.
        let Some(own) = local.or(address) else { return };
        self.local.insert(own);
        let Some(side) = self.side(message.header.index) else { return };
        let known = &mut self.addresses[side.index()][usize::from(own.is_ipv6())];
        if message.header.scope == AddressScope::Universe {
            known.get_or_insert(own);
        }
    }

    /// Notes a route, if it is one of the main table that leads anywhere or explicitly nowhere.
    pub(super) fn add_route(&mut self, message: &RouteMessage) {
        if let Some(route) = Route::of(message) {
            self.routes.push(route);
        }
    }

    /// Notes a neighbour, or that it is gone. Returns whether any next hop changed by that.
    pub(super) fn set_neighbour(&mut self, message: &NeighbourMessage) -> bool {
        let Some(side) = self.side(message.header.ifindex) else { return false };
        let (mut address, mut mac_address) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => address = Some(IpAddr::V4(*a)),
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => address = Some(IpAddr::V6(*a)),
                NeighbourAttribute::LinkLayerAddress(octets) => mac_address = mac(octets),
                _ => {}
            }
        }
        let Some(address) = address else { return false };
        match mac_address {
            Some(mac) if is_usable(message.header.state) => {
                let stale = message.header.state == NeighbourState::Stale;
                let before = self.neighbours.insert((side, address), Neighbour { mac, stale });
                before.is_none_or(|before| before.mac != mac)
            }
            _ => self.neighbours.remove(&(side, address)).is_some(),
        }
    }

    /// Notes that the kernel forgot a neighbour. Returns whether any next hop changed by that.
    pub(super) fn remove_neighbour(&mut self, message: &NeighbourMessage) -> bool {
        let mut gone = message.clone();
        gone.header.state = NeighbourState::None;
        self.set_neighbour(&gone)
    }

    /// Neighbours that the kernel has not confirmed for a while.
    pub(super) fn stale_neighbours(&self) -> impl Iterator<Item = (Side, IpAddr)> {
        self.neighbours.iter().filter(|(_, neighbour)| neighbour.stale).map(|(key, _)| *key)
    }

    /// An immutable snapshot for the workers.
    pub(super) fn snapshot(&self) -> NextHops {
        let [outer, inner] = Side::ALL.map(|side| self.side_hops(side));
        NextHops::new(outer, inner).with_local_addresses(self.local.iter().copied().collect())
    }

    fn side_hops(&self, side: Side) -> SideHops {
        let Some(link) = self.links[side.index()] else { return SideHops::default() };
        let neighbours = self.neighbours.iter().filter(|((on, _), _)| *on == side);
        let neighbours = neighbours.map(|((_, address), neighbour)| (*address, neighbour.mac)).collect();
        let mut hops = SideHops::new(link.mac, link.mtu, self.side_routes(link.index), neighbours);
        hops.addresses = self.addresses[side.index()];
        hops
    }

    /// All routes as seen from one interface: of equal prefixes its own come first, then by metric.
    fn side_routes(&self, interface: u32) -> Vec<(Prefix, Via)> {
        let mut routes: Vec<_> = self
            .routes
            .iter()
            .map(|route| (route.rank(interface), route.prefix, route.via(interface)))
            .collect();
        routes.sort_by_key(|(rank, ..)| *rank);
        routes.into_iter().map(|(_, prefix, via)| (prefix, via)).collect()
    }
}

impl Route {
    fn of(message: &RouteMessage) -> Option<Self> {
        let header = &message.header;
        if is_own(message)
            || header.flags.contains(RouteFlags::Dead)
            || table(message) != u32::from(RouteHeader::RT_TABLE_MAIN)
        {
            return None;
        }
        let mut metric = 0;
        let mut destination = None;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Priority(priority) => metric = *priority,
                RouteAttribute::Destination(address) => destination = ip(address),
                _ => {}
            }
        }
        let any = match header.address_family {
            AddressFamily::Inet => IpAddr::from([0; 4]),
            AddressFamily::Inet6 => IpAddr::from([0; 16]),
            _ => return None,
        };
        let prefix = Prefix::new(destination.unwrap_or(any), header.destination_prefix_length).ok()?;
        let hops = match header.kind {
            RouteType::Unicast => hops(&message.attributes),
            RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => Vec::new(),
            _ => return None,
        };
        Some(Self { prefix, metric, hops })
    }

    fn via(&self, interface: u32) -> Via {
        match self.hops.iter().find(|(index, _)| *index == interface) {
            None => Via::Nowhere,
            Some((_, None)) => Via::Direct,
            Some((_, Some(router))) => Via::Router(*router),
        }
    }

    /// Where this route stands among those of equal prefix.
    fn rank(&self, interface: u32) -> (bool, u32) {
        let by_another = !self.hops.is_empty() && self.via(interface) == Via::Nowhere;
        (by_another, self.metric)
    }
}

/// Whether it is one of the routes of this gateway that keep the kernel from forwarding in clear, or lead into its TUN
/// device. They do not concern ESP, and there may be one for each tunnel.
pub(super) fn is_own(message: &RouteMessage) -> bool {
    message.header.protocol == RouteProtocol::from(prohibit::PROTOCOL)
}

/// The next hops of a unicast route that are alive.
fn hops(attributes: &[RouteAttribute]) -> Vec<(u32, Option<IpAddr>)> {
    let mut interface = None;
    let mut multipath: &[RouteNextHop] = &[];
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => interface = Some(*index),
            RouteAttribute::MultiPath(hops) => multipath = hops,
            _ => {}
        }
    }
    let alive = multipath.iter().filter(|hop| !hop.flags.contains(RouteNextHopFlags::Dead));
    let several = alive.map(|hop| (hop.interface_index, router(&hop.attributes)));
    interface.map(|index| (index, router(attributes))).into_iter().chain(several).collect()
}

fn router(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

/// The table a route is in; numbers above 255 stand in an attribute.
pub(crate) fn table(message: &RouteMessage) -> u32 {
    let long = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    long.unwrap_or(u32::from(message.header.table))
}

pub(crate) fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn mac(octets: &[u8]) -> Option<Mac> {
    octets.try_into().ok().map(Mac)
}

/// States in which the kernel itself would send to the neighbour's link address.
fn is_usable(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    )
}

#[cfg(test)]
#[path = "tables_tests.rs"]
mod tests;
