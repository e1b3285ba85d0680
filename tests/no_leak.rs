//! I7: nothing that the policy protects leaves in clear, whatever fails or restarts, in whatever order.
//!
//! The inner hosts send marked plaintext all the time, the gateways forward whatever their kernel lets them
//! (`ip_forward`, a default route to the other gateway), and sniffers on the outer wire look for the marker.

mod support;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use baton_lab::control::ControlSocket;
use baton_lab::probe::Prober;
use baton_lab::shape::Shape;
use baton_lab::site::{Progress, Site, TUNNEL};
use baton_lab::{Gateway, Lab, command, topology};
use serde_json::json;
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

/// A and B that run, with traffic between client and server; the twin is cut off.
struct Watched {
    site: Site,
    traffic: Traffic,
    taps: OuterTaps,
}

impl Watched {
    /// Before the gateways start, plaintext is to be seen: a detector that sees nothing proves nothing.
    fn start(shape: Shape, pace: Duration) -> Self {
        let mut site = support::stopped_site_as(shape);
        site.topology.b2.ip("link set wan0 down\nlink set lan0 down").expect("twin cut off");
        let traffic = Traffic::start(&site, pace);
        assert_leaks_unprotected(&site, &traffic);
        site.b.start(&site.lab).expect("b starts");
        site.a.start(&site.lab).expect("a starts");
        traffic.flows(5);
        let is_flood = pace.is_zero();
        let taps = if is_flood { OuterTaps::start_beside_esp(&site) } else { OuterTaps::start(&site) };
        Self { site, traffic, taps }
    }

    /// Nothing leaked since the last time, and nothing does for a while.
    fn assert_no_leak(&mut self, after: &dyn std::fmt::Debug) {
        std::thread::sleep(WATCH);
        assert_eq!(self.taps.leaked(), 0, "I7 broken after {after:?} in {:?}", self.site.shape);
    }

    /// The same, by recordings that missed nothing.
    fn finish(self, after: &dyn std::fmt::Debug) {
        std::thread::sleep(WATCH);
        assert_eq!(self.taps.leaked(), 0, "I7 broken after {after:?} in {:?}", self.site.shape);
        self.taps.finish();
    }
}

fn in_shapes(number: usize, share: usize, test: &str, mut run: impl FnMut(usize, Shape)) {
    if support::can_run(test) {
        let shapes = support::shapes(number, share);
        shapes.into_iter().enumerate().for_each(|(place, shape)| run(place, shape));
    }
}

/// The shapes between which the pairs of mishaps are divided, unless it is a soak.
const SHARE: usize = 4;

#[test]
fn i7_nothing_leaks_whatever_happens_to_the_data_planes_in_every_order() {
    let test = "i7_nothing_leaks_whatever_happens_to_the_data_planes_in_every_order";
    in_shapes(0, SHARE, test, |place, shape| {
        let mut watched = Watched::start(shape, FAST);
        let all = sequences_of_mishaps().into_iter().enumerate();
        for (round, mishaps) in all.filter(|(round, _)| support::soak() || round % SHARE == place) {
            whatever_happens(&mut watched, round / SHARE, &mishaps);
        }
    });
}

fn whatever_happens(watched: &mut Watched, round: usize, mishaps: &[Mishap]) {
    for (so_far, mishap) in mishaps.iter().enumerate() {
        let Site { a, b, lab, .. } = &mut watched.site;
        mishap.happen(if round.is_multiple_of(2) { a } else { b }, lab);
        watched.assert_no_leak(&&mishaps[..=so_far]);
    }
    let Site { a, b, lab, .. } = &mut watched.site;
    let victim = if round.is_multiple_of(2) { a } else { b };
    victim.start(lab).expect("starts again");
    watched.traffic.flows(5);
    watched.assert_no_leak(&mishaps);
}

/// The interfaces, and the filter with them, are gone and come back while no daemon runs: prohibit routes hold.
#[test]
fn i7_nothing_leaks_when_the_interfaces_are_replaced_while_the_data_plane_is_dead() {
    let test = "i7_nothing_leaks_when_the_interfaces_are_replaced_while_the_data_plane_is_dead";
    in_shapes(0, 2, test, |_, shape| {
        let mut watched = Watched::start(shape, FAST);
        watched.site.a.kill();
        replace_inner_interface(&watched.site);
        watched.assert_no_leak(&"new interfaces without a filter");
        let Site { a, lab, .. } = &mut watched.site;
        a.start(lab).expect("starts on the new interfaces");
        watched.traffic.flows(5);
        watched.assert_no_leak(&"a start on new interfaces");

        // The proof that it was the routes: without them the same mishap leaks.
        watched.site.a.kill();
        replace_inner_interface(&watched.site);
        for family in ["-4", "-6"] {
            let mut flush = watched.site.topology.a.command("ip");
            command::run(flush.args([family, "route", "flush", "table", "all", "proto", "186"]))
                .expect("flushed");
        }
        support::eventually("plaintext without prohibit routes", || watched.taps.leaked() > 0);
    });
}

/// A's inner interface, and the filter with it, goes and comes back as a new one.
fn replace_inner_interface(site: &Site) {
    let (client, a) = (&site.topology.client, &site.topology.a);
    a.ip("link delete lan0").expect("deleted");
    topology::wire(client, "eth0", a, "lan0").expect("wired");
    a.ip("link set lan0 up\naddress add 10.1.0.1/16 dev lan0").expect("addressed");
    topology::host(client, topology::CLIENT, [10, 1, 0, 1].into()).expect("addressed");
    site.topology.prepare_a_side_for(site.shape).expect("addressed");
}

/// Only the operator takes the protection away.
#[test]
fn i7_protection_ends_with_uninstall_and_not_before() {
    in_shapes(4, 2, "i7_protection_ends_with_uninstall_and_not_before", |_, shape| {
        let mut watched = Watched::start(shape, FAST);
        watched.site.a.stop().expect("a stops");
        watched.site.b.stop().expect("b stops");
        watched.assert_no_leak(&"both were stopped");
        watched.site.a.uninstall().expect("uninstalled");
        watched.site.b.uninstall().expect("uninstalled");
        support::eventually("plaintext after --uninstall", || watched.taps.leaked() > 0);
        watched.traffic.flows(5);
    });
}

/// One of A's configurations that follow each other.
struct Change {
    name: &'static str,
    text: String,
    /// Whether the client's traffic passes with it.
    passes: bool,
}

fn changes(site: &Site) -> [Change; 4] {
    let all = site.a.config_text();
    let other = format!("[udp/{OTHER}]");
    let bypass = all.clone() + &exception(site, "bypass", &other);
    let discard = all.clone() + &exception(site, "discard", "[udp]");
    let nothing = site.a.config_text_with(&[]);
    [
        Change { name: "the tunnel alone", text: all, passes: true },
        Change { name: "a bypass beside it", text: bypass, passes: true },
        Change { name: "a discard before it", text: discard, passes: false },
        Change { name: "no tunnel at all", text: nothing, passes: false },
    ]
}

/// A policy that comes before the tunnel, for what its networks say to these ports.
fn exception(site: &Site, action: &str, ports: &str) -> String {
    let tunnel = &site.a.spec().tunnels[0];
    let (locals, remotes) = (&tunnel.local_selectors[0], &tunnel.remote_selectors[0]);
    format!(
        "\n[[policy]]\nname = \"exception\"\naction = \"{action}\"\npriority = 900\n\
         local_selectors = [\"{locals}[udp]\"]\nremote_selectors = [\"{remotes}{ports}\"]\n"
    )
}

/// The server's port to which a policy lets traffic pass in clear, at times.
const OTHER: u16 = 4711;
/// What goes there carries another marker than what is protected always.
const ASIDE: &[u8] = b"baton-plaintext-that-may-be-seen-outside";

/// Policies change all the time under full load: what is protected, discarded or without any policy never shows.
#[test]
fn i7_nothing_leaks_while_policies_change_under_load() {
    in_shapes(1, 2, "i7_nothing_leaks_while_policies_change_under_load", |_, shape| {
        let watched = Watched::start(shape, Duration::ZERO);
        let [client, server] = shape.hosts();
        let (from, to) = (SocketAddr::new(client, 0), SocketAddr::new(server, OTHER));
        let _aside = Prober::start(&watched.site.topology.client, from, to, ASIDE, FAST).expect("prober");
        let changes = changes(&watched.site);
        // Each follows each other one.
        let order = [0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3];
        for change in order.into_iter().cycle().take(support::count(1, 30) * order.len()) {
            change_policies(&watched, &changes[change]);
        }
        change_policies(&watched, &changes[0]);
        assert!(watched.taps.showing(ASIDE) > 0, "the policies did change what passes");
        watched.finish(&"the last change");
    });
}

fn change_policies(watched: &Watched, Change { name, text, passes }: &Change) {
    reload(&watched.site.a, text);
    if *passes {
        watched.traffic.flows(20);
    } else {
        std::thread::sleep(WATCH / 3);
    }
    assert_eq!(watched.taps.leaked(), 0, "I7 broken with {name} in {:?}", watched.site.shape);
}

fn reload(gateway: &Gateway, text: &str) {
    gateway.write_config(text).expect("written");
    let mut control = ControlSocket::connect(gateway).expect("control socket");
    control.ask(json!({"request": "reload"})).expect("reloaded");
}

/// A's SAs go and come back from a snapshot under full load, with their tunnel and without.
#[test]
fn i7_nothing_leaks_while_sas_come_and_go_under_load() {
    in_shapes(2, 2, "i7_nothing_leaks_while_sas_come_and_go_under_load", |_, shape| {
        let watched = Watched::start(shape, Duration::ZERO);
        let a = &watched.site.a;
        for _ in 0..support::count(3, 100) {
            watched.traffic.flows(20);
            sas_come_and_go(a);
            assert_eq!(watched.taps.leaked(), 0, "I7 broken in {shape:?}");
        }
        watched.finish(&"the last time");
    });
}

fn sas_come_and_go(a: &Gateway) {
    let copy = a.dpctl_output(&["snapshot", TUNNEL], &[]).expect("dpctl starts");
    assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stderr));
    reload(a, &a.config_text_with(&[]));
    assert!(Progress::of(a, "outbound").is_err(), "the SA is gone");
    let waiting = a.spec().tunnels[0].without_keys();
    reload(a, &a.config_text_with(&[waiting]));
    std::thread::sleep(WATCH / 3);
    let restored = a.dpctl_output(&["restore", "-", "--advance", "100"], &copy.stdout).expect("dpctl starts");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    reload(a, &a.config_text());
}
