use super::*;
use crate::next_hop::{Link, NextHop};

const OUTER: u32 = 2;
const INNER: u32 = 3;

fn tables() -> Tables {
    let link = |index, last| LinkState { index, up: true, mac: Mac([2, 0, 0, 0, 0, last]), mtu: 1500 };
    Tables { links: [Some(link(OUTER, 1)), Some(link(INNER, 2))], ..Tables::default() }
}

fn route(prefix: &str, metric: u32, hop: Option<(u32, Option<&str>)>) -> RouteMessage {
    let prefix: Prefix = prefix.parse().unwrap();
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = if hop.is_some() { RouteType::Unicast } else { RouteType::Prohibit };
    message.header.destination_prefix_length = prefix.length();
    message.attributes.push(RouteAttribute::Destination(prefix.address().into()));
    message.attributes.push(RouteAttribute::Priority(metric));
    if let Some((interface, router)) = hop {
        message.attributes.push(RouteAttribute::Oif(interface));
        let router = router.map(|address| address.parse::<IpAddr>().unwrap());
        message.attributes.extend(router.map(|address| RouteAttribute::Gateway(address.into())));
    }
    message
}

fn neighbour(interface: u32, address: &str, last: u8, state: NeighbourState) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface;
    message.header.state = state;
    message
        .attributes
        .push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address.parse().unwrap())));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(vec![6, 0, 0, 0, 0, last]));
    message
}

fn look(tables: &Tables, side: Side, address: &str) -> NextHop {
    tables.snapshot().lookup(side, address.parse().unwrap())
}

fn known(last: u8, own: u8) -> NextHop {
    let (destination, source) = (Mac([6, 0, 0, 0, 0, last]), Mac([2, 0, 0, 0, 0, own]));
    NextHop::Known(Link { destination, source, vlan: None })
}

#[test]
fn each_side_sees_the_routes_of_its_own_interface() {
    let mut tables = tables();
    tables.add_route(&route("0.0.0.0/0", 0, Some((OUTER, Some("192.0.2.254")))));
    tables.add_route(&route("192.0.2.0/24", 0, Some((OUTER, None))));
    tables.add_route(&route("10.2.0.0/16", 0, Some((INNER, None))));
    assert_eq!(look(&tables, Side::Outer, "8.8.8.8"), NextHop::Unresolved("192.0.2.254".parse().unwrap()));
    assert!(tables.set_neighbour(&neighbour(OUTER, "192.0.2.254", 9, NeighbourState::Reachable)));
    assert_eq!(look(&tables, Side::Outer, "8.8.8.8"), known(9, 1));
    assert_eq!(look(&tables, Side::Outer, "10.2.0.1"), NextHop::None);
    assert_eq!(look(&tables, Side::Inner, "10.2.0.1"), NextHop::Unresolved("10.2.0.1".parse().unwrap()));
    assert_eq!(look(&tables, Side::Inner, "8.8.8.8"), NextHop::None);
}

#[test]
fn the_lower_metric_wins_and_own_prohibit_routes_do_not_count() {
    let mut tables = tables();
    tables.add_route(&route("10.1.0.0/16", 200, Some((OUTER, Some("192.0.2.2")))));
    tables.add_route(&route("10.1.0.0/16", 100, Some((OUTER, Some("192.0.2.1")))));
    tables.add_route(&route("10.1.0.0/16", 50, Some((INNER, None))));
    let mut own = route("10.1.0.0/16", 0, None);
    own.header.protocol = RouteProtocol::from(prohibit::PROTOCOL);
    tables.add_route(&own);
    assert_eq!(look(&tables, Side::Outer, "10.1.2.3"), NextHop::Unresolved("192.0.2.1".parse().unwrap()));
    tables.add_route(&route("10.1.2.0/24", 0, None));
    assert_eq!(look(&tables, Side::Outer, "10.1.2.3"), NextHop::None);
}

#[test]
fn a_neighbour_that_failed_or_vanished_is_unresolved_again() {
    let mut tables = tables();
    tables.add_route(&route("10.2.0.0/16", 0, Some((INNER, None))));
    let unresolved = NextHop::Unresolved("10.2.0.9".parse().unwrap());
    assert!(tables.set_neighbour(&neighbour(INNER, "10.2.0.9", 1, NeighbourState::Stale)));
    assert_eq!(tables.stale_neighbours().count(), 1);
    assert!(!tables.set_neighbour(&neighbour(INNER, "10.2.0.9", 1, NeighbourState::Probe)));
    assert_eq!(tables.stale_neighbours().count(), 0);
    assert!(tables.set_neighbour(&neighbour(INNER, "10.2.0.9", 7, NeighbourState::Reachable)));
    assert_eq!(look(&tables, Side::Inner, "10.2.0.9"), known(7, 2));
    assert!(tables.set_neighbour(&neighbour(INNER, "10.2.0.9", 7, NeighbourState::Failed)));
    assert_eq!(look(&tables, Side::Inner, "10.2.0.9"), unresolved);
    tables.set_neighbour(&neighbour(INNER, "10.2.0.9", 7, NeighbourState::Permanent));
    assert!(tables.remove_neighbour(&neighbour(INNER, "10.2.0.9", 7, NeighbourState::Permanent)));
    assert_eq!(look(&tables, Side::Inner, "10.2.0.9"), unresolved);
    assert!(!tables.set_neighbour(&neighbour(99, "10.2.0.9", 7, NeighbourState::Reachable)));
}

#[test]
fn an_absent_interface_has_no_next_hops() {
    let mut tables = tables();
    tables.add_route(&route("0.0.0.0/0", 0, Some((OUTER, None))));
    tables.links[Side::Outer.index()] = None;
    assert_eq!(look(&tables, Side::Outer, "10.2.0.9"), NextHop::None);
}
