//! Next hops as the kernel knows them, followed as they change.

mod af_xdp_support;

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use af_xdp_support::{Lab, address, eventually, host_mac, own_mac, privileged};
use arc_swap::ArcSwap;
use baton_dataplane::io::Side;
use baton_dataplane::netlink::{LinkEvent, NetlinkError, NetlinkFollower, NetlinkOptions};
use baton_dataplane::next_hop::{Link, Mac, NextHop, NextHops, ResolveRequests};
use baton_dataplane::prohibit;

const LIMIT: Duration = Duration::from_secs(10);

struct Followed {
    next_hops: Arc<ArcSwap<NextHops>>,
    requests: Arc<ResolveRequests>,
    events: Mutex<Receiver<LinkEvent>>,
    #[expect(dead_code, reason = "the thread ends with it")]
    follower: NetlinkFollower,
}

impl Followed {
    fn new(lab: &Lab) -> Self {
        let next_hops = Arc::new(ArcSwap::from_pointee(NextHops::default()));
        let requests = Arc::<ResolveRequests>::default();
        let (sender, events) = channel();
        let follower = lab.within("gw", || {
            let options = NetlinkOptions { outer: "wan0".to_owned(), inner: "lan0".to_owned() };
            let on_link = move |event| {
                let _ = sender.send(event);
            };
            NetlinkFollower::start(options, Arc::clone(&next_hops), Arc::clone(&requests), on_link)
        });
        let follower = follower.expect("to follow");
        Self { next_hops, requests, events: Mutex::new(events), follower }
    }

    fn look(&self, side: Side, to: &str) -> NextHop {
        self.next_hops.load().lookup(side, address(to))
    }

    /// Waits until the way to `to` is `expected`.
    fn expect(&self, side: Side, to: &str, expected: NextHop) {
        let came = eventually(LIMIT, || self.look(side, to) == expected);
        assert!(came, "{to}: {:?} is not {expected:?}", self.look(side, to));
    }

    fn event(&self) -> LinkEvent {
        self.events.lock().expect("events").recv_timeout(LIMIT).expect("an event")
    }
}

fn known(side: Side, destination: Mac) -> NextHop {
    NextHop::Known(Link { destination, source: own_mac(side), vlan: None })
}

fn unresolved(neighbour: &str) -> NextHop {
    NextHop::Unresolved(address(neighbour))
}

#[test]
fn a_missing_neighbour_is_resolved_and_its_change_followed() {
    if !privileged("a_missing_neighbour_is_resolved_and_its_change_followed") {
        return;
    }
    let lab = Lab::new(1);
    let followed = Followed::new(&lab);
    assert_eq!(followed.look(Side::Inner, "10.2.0.9"), unresolved("10.2.0.9"));
    followed.requests.ask(Side::Inner, address("10.2.0.9"));
    followed.expect(Side::Inner, "10.2.0.9", known(Side::Inner, host_mac(Side::Inner)));

    lab.ip_in("inner", "link set lan0 address 02:00:00:00:07:07");
    lab.ip_in("gw", "neigh flush dev lan0");
    followed.expect(Side::Inner, "10.2.0.9", unresolved("10.2.0.9"));
    let moved = known(Side::Inner, Mac([2, 0, 0, 0, 7, 7]));
    // A request within a second of the last one waits: the worker asks again while it holds packets.
    let resolved = eventually(LIMIT, || {
        followed.requests.ask(Side::Inner, address("10.2.0.9"));
        followed.look(Side::Inner, "10.2.0.9") == moved
    });
    assert!(resolved, "the new address was not found");

    followed.requests.ask(Side::Inner, address("10.2.0.77"));
    assert_eq!(followed.look(Side::Inner, "10.2.0.77"), unresolved("10.2.0.77"));
    assert_eq!(followed.next_hops.load().side(Side::Inner).addresses[0], Some(address("10.2.0.1")));
    assert_eq!(followed.next_hops.load().side(Side::Outer).mtu, 1500);
}

#[test]
fn routes_are_followed_as_they_come_change_and_go() {
    if !privileged("routes_are_followed_as_they_come_change_and_go") {
        return;
    }
    let lab = Lab::new(1);
    let followed = Followed::new(&lab);
    assert_eq!(followed.look(Side::Outer, "198.51.100.1"), NextHop::None);
    lab.ip_in("gw", "route add default via 203.0.113.1");
    followed.expect(Side::Outer, "198.51.100.1", unresolved("203.0.113.1"));
    lab.ip_in("gw", "route replace default via 203.0.113.9");
    followed.expect(Side::Outer, "198.51.100.1", unresolved("203.0.113.9"));
    lab.ip_in("gw", "route add 198.51.100.0/24 via 10.2.0.9");
    followed.expect(Side::Outer, "198.51.100.1", NextHop::None);
    followed.expect(Side::Inner, "198.51.100.1", unresolved("10.2.0.9"));
    lab.ip_in("gw", "route del 198.51.100.0/24");
    followed.expect(Side::Outer, "198.51.100.1", unresolved("203.0.113.9"));

    // Our own prohibit routes keep the kernel from forwarding in clear, not ESP from its way.
    let prefix = af_xdp_support::prefix("198.51.100.0/24");
    lab.within("gw", || prohibit::install(&[prefix])).expect("to prohibit");
    lab.ip_in("gw", "route add 192.0.2.0/24 via 203.0.113.1");
    followed.expect(Side::Outer, "192.0.2.1", unresolved("203.0.113.1"));
    assert_eq!(followed.look(Side::Outer, "198.51.100.1"), unresolved("203.0.113.9"));
    // The kernel drops the routes with the address, and says only that the address is gone.
    lab.ip_in("gw", "addr del 203.0.113.2/24 dev wan0");
    followed.expect(Side::Outer, "192.0.2.1", NextHop::None);
    lab.ip_in("gw", "link set wan0 mtu 1400");
    assert!(eventually(LIMIT, || followed.next_hops.load().side(Side::Outer).mtu == 1400));
}

#[test]
fn a_link_that_goes_down_or_away_is_reported() {
    if !privileged("a_link_that_goes_down_or_away_is_reported") {
        return;
    }
    let lab = Lab::new(1);
    let followed = Followed::new(&lab);
    assert_eq!(
        [followed.event(), followed.event()],
        [LinkEvent::Up(Side::Outer), LinkEvent::Up(Side::Inner)]
    );
    lab.ip_in("outer", "link set wan0 down");
    assert_eq!(followed.event(), LinkEvent::Down(Side::Outer));
    lab.ip_in("outer", "link set wan0 up");
    assert_eq!(followed.event(), LinkEvent::Up(Side::Outer));
    lab.ip_in("gw", "link del wan0");
    // The veth's other end goes first, so that the link may be down for a moment.
    let event = match followed.event() {
        LinkEvent::Down(Side::Outer) => followed.event(),
        event => event,
    };
    assert_eq!(event, LinkEvent::Removed(Side::Outer));
    followed.expect(Side::Outer, "203.0.113.1", NextHop::None);
    followed.expect(Side::Inner, "10.2.0.9", unresolved("10.2.0.9"));
}

#[test]
fn a_neighbour_in_use_is_kept_confirmed() {
    if !privileged("a_neighbour_in_use_is_kept_confirmed") {
        return;
    }
    let lab = Lab::new(1);
    lab.run_in("gw", "sysctl", "-qw net.ipv4.neigh.lan0.delay_first_probe_time=1");
    let followed = Followed::new(&lab);
    let (own, wrong) = (host_mac(Side::Inner), Mac([2, 0, 0, 0, 9, 9]));
    lab.ip_in("gw", &format!("neigh replace 10.2.0.9 dev lan0 lladdr {own} nud stale"));
    followed.expect(Side::Inner, "10.2.0.9", known(Side::Inner, own));
    let reachable = || lab.ip_in("gw", "neigh show 10.2.0.9 dev lan0").contains("REACHABLE");
    assert!(eventually(LIMIT, reachable), "nobody asked");
    // A neighbour that silently went away fails its probes and is looked for again.
    lab.ip_in("gw", &format!("neigh replace 10.2.0.10 dev lan0 lladdr {wrong} nud stale"));
    followed.expect(Side::Inner, "10.2.0.10", known(Side::Inner, wrong));
    followed.expect(Side::Inner, "10.2.0.10", unresolved("10.2.0.10"));
}

#[test]
fn a_storm_of_changes_ends_in_the_kernels_state() {
    if !privileged("a_storm_of_changes_ends_in_the_kernels_state") {
        return;
    }
    let lab = Lab::new(1);
    let followed = Followed::new(&lab);
    let storm = (0..20_000_u32).map(|number| {
        let to = std::net::Ipv4Addr::from(0x0a02_0000 + 256 + number % 500);
        let (high, low) = (number >> 8, number & 255);
        let neighbour = format!("neigh replace {to} dev wan0 lladdr 02:00:00:00:{high:02x}:{low:02x}\n");
        let router = 3 + number / 100 % 200;
        neighbour + &format!("route replace 192.0.2.0/24 via 203.0.113.{router}\n")
    });
    let batch: String = storm.collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), batch).expect("to write");
    lab.ip_in("gw", &format!("-batch {}", file.path().display()));
    followed.expect(Side::Outer, "192.0.2.1", unresolved("203.0.113.202"));
    lab.ip_in("gw", "route add 10.2.1.0/24 dev wan0");
    let last = known(Side::Outer, Mac([2, 0, 0, 0, 0x4e, 0x1f]));
    let to = IpAddr::from(std::net::Ipv4Addr::from(0x0a02_0000 + 256 + 19_999 % 500)).to_string();
    lab.ip_in("gw", &format!("route add {to} dev wan0"));
    followed.expect(Side::Outer, &to, last);
}

#[test]
fn an_absent_interface_is_refused_with_its_name() {
    if !privileged("an_absent_interface_is_refused_with_its_name") {
        return;
    }
    let lab = Lab::new(1);
    let refused = lab.within("gw", || {
        let options = NetlinkOptions { outer: "wan0".to_owned(), inner: "lan7".to_owned() };
        NetlinkFollower::start(options, Arc::default(), Arc::default(), |_| {})
    });
    let error = refused.expect_err("to be refused");
    println!("{error}");
    assert!(matches!(error, NetlinkError::NoSuchInterface { side: Side::Inner, name } if name == "lan7"));
}
