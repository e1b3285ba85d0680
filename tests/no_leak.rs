//! I7: nothing that the policy protects leaves in clear, whatever fails or restarts, in whatever order.
//!
//! The inner hosts send marked plaintext all the time, the gateways forward whatever their kernel lets them
//! (`ip_forward`, a default route to the other gateway), and sniffers on the outer wire look for the marker.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use baton_lab::site::Site;
use baton_lab::{Gateway, Lab, topology};
use support::{OuterTaps, Traffic};

const FAST: Duration = Duration::from_millis(1);
/// How long a leak is looked for after each mishap.
const WATCH: Duration = Duration::from_millis(150);

/// What can happen to a gateway's data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mishap {
    Killed,
    Stopped,
    MalformedConfig,
    MissingInterface,
    ReadableKeys,
    SecondDaemon,
}

const MISHAPS: [Mishap; 6] = [
    Mishap::Killed,
    Mishap::Stopped,
    Mishap::MalformedConfig,
    Mishap::MissingInterface,
    Mishap::ReadableKeys,
    Mishap::SecondDaemon,
];

impl Mishap {
    fn happen(self, gateway: &mut Gateway, lab: &Lab) {
        match self {
            Self::Killed => gateway.kill(),
            Self::Stopped => gateway.stop().expect("stops"),
            Self::MalformedConfig => refused_with(gateway, lab, |text| text.replace("[outer]", "[outer")),
            Self::MissingInterface => refused_with(gateway, lab, |text| text.replace("wan0", "absent0")),
            Self::ReadableKeys => refused_when_readable(gateway, lab),
            Self::SecondDaemon => refused_beside_a_first(gateway, lab),
        }
    }
}

/// The data plane is gone and is started with a configuration that it has to refuse.
fn refused_with(gateway: &mut Gateway, lab: &Lab, spoil: impl Fn(&str) -> String) {
    let good = gateway.config_text();
    gateway.kill();
    gateway.write_config(&spoil(&good)).expect("written");
    gateway.start_refused(lab).expect("refused");
    gateway.write_config(&good).expect("written");
}

fn refused_when_readable(gateway: &mut Gateway, lab: &Lab) {
    let set_mode = |mode| std::fs::set_permissions(gateway.config(), PermissionsExt::from_mode(mode));
    set_mode(0o644).expect("made readable");
    gateway.kill();
    let log = gateway.start_refused(lab).expect("refused");
    assert!(log.contains("baton.toml"), "the refusal does not name the file: {log}");
    std::fs::set_permissions(gateway.config(), PermissionsExt::from_mode(0o600)).expect("made secret");
}

fn refused_beside_a_first(gateway: &mut Gateway, lab: &Lab) {
    if gateway.pid().is_none() {
        gateway.start(lab).expect("starts");
    }
    gateway.start_second_refused(lab).expect("a second daemon is refused");
}

/// All orders of `items` (Heap's algorithm).
fn orders<T: Copy>(items: &mut [T], size: usize, found: &mut Vec<Vec<T>>) {
    if size <= 1 {
        return found.push(items.to_vec());
    }
    for i in 0..size {
        orders(items, size - 1, found);
        items.swap(if size.is_multiple_of(2) { i } else { 0 }, size - 1);
    }
}

/// Every mishap after every other: all ordered pairs, or in a soak all 720 orders.
fn sequences_of_mishaps() -> Vec<Vec<Mishap>> {
    if support::soak() {
        let mut all = Vec::new();
        orders(&mut MISHAPS.clone(), MISHAPS.len(), &mut all);
        return all;
    }
    MISHAPS.into_iter().flat_map(|first| MISHAPS.map(|second| vec![first, second])).collect()
}

/// Proves that the wire shows plaintext while nothing protects it: a detector that sees nothing proves nothing.
fn assert_leaks_unprotected(site: &Site, traffic: &Traffic) {
    let taps = OuterTaps::start(site);
    traffic.flows(5);
    assert!(taps.leaked() >= 10, "the sniffers do not see plaintext that is there");
}

fn assert_no_leak(taps: &OuterTaps, after: &dyn std::fmt::Debug) {
    std::thread::sleep(WATCH);
    assert_eq!(taps.leaked(), 0, "I7 broken after {after:?}: plaintext on the outer wire");
}

#[test]
fn i7_nothing_leaks_whatever_happens_to_the_data_planes_in_every_order() {
    if !support::can_run("i7_nothing_leaks_whatever_happens_to_the_data_planes_in_every_order") {
        return;
    }
    let mut site = support::stopped_site();
    site.topology.b2.ip("link set wan0 down\nlink set lan0 down").expect("twin cut off");
    let traffic = Traffic::start(&site, FAST);
    assert_leaks_unprotected(&site, &traffic);
    site.b.start(&site.lab).expect("b starts");
    site.a.start(&site.lab).expect("a starts");
    traffic.flows(5);
    for (round, mishaps) in sequences_of_mishaps().into_iter().enumerate() {
        let taps = OuterTaps::start(&site);
        let Site { a, b, lab, .. } = &mut site;
        let victim = if round % 2 == 0 { a } else { b };
        for (so_far, mishap) in mishaps.iter().enumerate() {
            mishap.happen(victim, lab);
            assert_no_leak(&taps, &&mishaps[..=so_far]);
        }
        victim.start(lab).expect("starts again");
        traffic.flows(5);
        assert_no_leak(&taps, &mishaps);
    }
}

/// The interfaces, and the filter with them, are gone and come back while no daemon runs: prohibit routes hold.
#[test]
fn i7_nothing_leaks_when_the_interfaces_are_replaced_while_the_data_plane_is_dead() {
    if !support::can_run("i7_nothing_leaks_when_the_interfaces_are_replaced_while_the_data_plane_is_dead") {
        return;
    }
    let mut site = support::stopped_site();
    site.topology.b2.ip("link set wan0 down\nlink set lan0 down").expect("twin cut off");
    site.b.start(&site.lab).expect("b starts");
    site.a.start(&site.lab).expect("a starts");
    let traffic = Traffic::start(&site, FAST);
    traffic.flows(5);
    let taps = OuterTaps::start(&site);
    site.a.kill();
    replace_inner_interface(&site);
    assert_no_leak(&taps, &"new interfaces without a filter");
    site.a.start(&site.lab).expect("starts on the new interfaces");
    traffic.flows(5);
    assert_no_leak(&taps, &"a start on new interfaces");

    // The proof that it was the routes: without them the same mishap leaks.
    site.a.kill();
    replace_inner_interface(&site);
    site.topology.a.ip("route flush proto 186").expect("flushed");
    support::eventually("plaintext without prohibit routes", || taps.leaked() > 0);
}

/// A's inner interface, and the filter with it, goes and comes back as a new one.
fn replace_inner_interface(site: &Site) {
    let (client, a) = (&site.topology.client, &site.topology.a);
    a.ip("link delete lan0").expect("deleted");
    topology::wire(client, "eth0", a, "lan0").expect("wired");
    a.ip("link set lan0 up\naddress add 10.1.0.1/16 dev lan0").expect("addressed");
    topology::host(client, topology::CLIENT, [10, 1, 0, 1].into()).expect("addressed");
}

/// Only the operator takes the protection away.
#[test]
fn i7_protection_ends_with_uninstall_and_not_before() {
    if !support::can_run("i7_protection_ends_with_uninstall_and_not_before") {
        return;
    }
    let mut site = support::stopped_site();
    site.topology.b2.ip("link set wan0 down\nlink set lan0 down").expect("twin cut off");
    site.b.start(&site.lab).expect("b starts");
    site.a.start(&site.lab).expect("a starts");
    let traffic = Traffic::start(&site, FAST);
    traffic.flows(5);
    let taps = OuterTaps::start(&site);
    site.a.stop().expect("a stops");
    site.b.stop().expect("b stops");
    assert_no_leak(&taps, &"both were stopped");
    site.a.uninstall().expect("uninstalled");
    site.b.uninstall().expect("uninstalled");
    support::eventually("plaintext after --uninstall", || taps.leaked() > 0);
    traffic.flows(5);
}
