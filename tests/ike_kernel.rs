//! Negotiation with daemons of others that key the Linux kernel's own ESP: strongSwan, IP protocol 50 in both
//! families, and OpenBSD's iked.

#[path = "kernel/cases.rs"]
mod cases;
#[path = "ike/kernel.rs"]
mod kernel;
#[path = "kernel/stage.rs"]
mod stage;
mod support;

use baton_lab::kernel_peer::{self, Daemons, GuestCharon, GuestIked, IkedSpec};
use baton_lab::negotiation::{CHILD, CONNECTION, Side};
use baton_lab::ping::{ping, ping_from_kernel};
use baton_lab::topology::{CLIENT, SERVER};
use baton_lab::{Charon, CharonSpec, Direction, requirements};
use cases::{Case, Tunnel, V4, V6, hosts};
use kernel::{Kernel, PATIENCE, negotiation};
use serde_json::{Value, json};
use stage::Stage;
use support::Tap;

const PLAIN: Case = Case::new("IPv4", Tunnel, V4, V4, "aes128gcm16");
const CASES: [Case; 3] = [
    PLAIN,
    Case::new("IPv6", Tunnel, V6, V6, "aes256-sha256"),
    Case::new("IPv4 in IPv6", Tunnel, V6, V4, "chacha20poly1305"),
];

fn can_run(test: &str) -> bool {
    let answer = kernel_peer::daemon_requirements().and_then(|()| {
        let missing = ["baton-dataplane", "baton-ike", "dpctl"]
            .into_iter()
            .find(|name| !requirements::binary(name).exists());
        missing.map_or(Ok(()), |name| Err(format!("{name} is not built")))
    });
    if let Err(reason) = &answer {
        requirements::skipped(test, reason);
    }
    answer.is_ok()
}

/// Traffic both ways, by protocol 50, set up by either end; new keys asked for by both under traffic; the end.
#[test]
fn strongswan_on_the_kernels_esp() {
    if !can_run("strongswan_on_the_kernels_esp") {
        return;
    }
    for (case, baton) in CASES.iter().zip([Side::Responder, Side::Initiator, Side::Responder]) {
        let negotiation = negotiation(case, baton);
        let mut site = Kernel::build(case, &negotiation, baton);
        let guest = GuestCharon::start(&mut site.stage.peer).expect("charon");
        guest.load(&mut site.stage.peer, &negotiation, baton.other()).expect("a configuration");
        let taps = [("a", "esp or ip6 proto 50"), ("a", "udp port 4500 and udp[8:4] != 0")]
            .map(|(port, filter)| Tap::start_filtered(&site.stage.wire, port, Direction::In, filter));
        if baton == Side::Responder {
            guest.initiate(&mut site.stage.peer, CHILD).expect("a Child SA");
        } else {
            site.initiate();
        }
        site.tunnel();
        site.ping_both_ways(hosts(case));
        let [esp, in_udp] = taps.map(Tap::finish);
        assert!(esp.len() >= 10 && in_udp.is_empty(), "{case:?}: {} and {}", esp.len(), in_udp.len());

        site.under_traffic(hosts(case).0, |site| rekeys(site, guest));
        site.ping_both_ways(hosts(case));
        if baton == Side::Responder {
            guest.swanctl(&mut site.stage.peer, &["--terminate", "--ike", CONNECTION]).expect("an end");
        } else {
            let target = json!({"connection": CONNECTION});
            site.baton.ask_ike(json!({"request": "terminate", "target": target})).expect("begun");
        }
        site.assert_nothing_is_left();
    }
}

/// New keys of the Child SA and of the IKE SA, from the kernel's side and from Baton's.
fn rekeys(site: &mut Kernel, guest: GuestCharon) {
    for (what, part) in [("--child", CHILD), ("--ike", CONNECTION)] {
        let before = keys(&site.tunnel(), what);
        guest.swanctl(&mut site.stage.peer, &["--rekey", what, part]).expect("a rekey");
        changes(site, what, &before);
        let before = keys(&site.tunnel(), what);
        let target = if what == "--child" {
            json!({"child": {"name": CHILD}})
        } else {
            json!({"connection": CONNECTION})
        };
        let request = json!({"request": "rekey", "target": target, "what": &what[2..]});
        site.baton.ask_ike(request).expect("begun");
        changes(site, what, &before);
    }
}

/// The SPIs of the IKE SA, or of its Child SA.
fn keys(tunnel: &Value, what: &str) -> [Value; 2] {
    if what == "--ike" {
        ["initiator_spi", "responder_spi"].map(|name| tunnel[name].clone())
    } else {
        ["inbound_spi", "outbound_spi"].map(|name| tunnel["children"][0][name].clone())
    }
}

fn changes(site: &Kernel, what: &str, before: &[Value; 2]) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while keys(&site.tunnel(), what) == *before {
        assert!(std::time::Instant::now() < deadline, "no new keys: {}", site.baton.ike_log());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// What iked's PF_KEY can do on Linux.
const IKED: IkedSpec = IkedSpec {
    ike: "enc aes-128 prf hmac-sha2-256 auth hmac-sha2-256 group curve25519",
    esp: "enc aes-256 auth hmac-sha2-512 group none noesn",
    ike_lifetime: 0,
    child_lifetime: 3600,
    settings: "set dpd_check_interval 1",
};
const IKED_CASE: Case = Case::new("iked", Tunnel, V4, V4, "aes256-sha512");

/// Set up by either end, with traffic; new keys from Baton; liveness; the end from Baton.
#[test]
fn openiked_on_the_kernels_esp() {
    if !can_run("openiked_on_the_kernels_esp") {
        return;
    }
    for baton in [Side::Responder, Side::Initiator] {
        let negotiation = negotiation(&IKED_CASE, baton);
        let mut site = Kernel::build(&IKED_CASE, &negotiation, baton);
        let iked = GuestIked::start(&mut site.stage.peer, &IKED, &negotiation, baton.other()).expect("iked");
        if baton == Side::Initiator {
            site.initiate();
        }
        // It answers before it keys its kernel.
        iked.wait_for_log(&mut site.stage.peer, "established peer", 20).expect("an IKE SA");
        site.tunnel();
        site.ping_both_ways(hosts(&IKED_CASE));
        for (what, target) in
            [("child", json!({"child": {"name": CHILD}})), ("ike", json!({"connection": CONNECTION}))]
        {
            let option = format!("--{what}");
            let before = keys(&site.tunnel(), &option);
            site.baton.ask_ike(json!({"request": "rekey", "target": target, "what": what})).expect("begun");
            changes(&site, &option, &before);
        }
        site.ping_both_ways(hosts(&IKED_CASE));
        // It asks every second whether Baton is there.
        std::thread::sleep(std::time::Duration::from_secs(3));
        site.tunnel();
        let target = json!({"connection": CONNECTION});
        site.baton.ask_ike(json!({"request": "terminate", "target": target})).expect("begun");
        site.assert_nothing_is_left();
    }
}

/// iked asks for new keys of the Child SA when their time is over.
#[test]
fn openiked_asks_for_new_keys() {
    if !can_run("openiked_asks_for_new_keys") {
        return;
    }
    let negotiation = negotiation(&IKED_CASE, Side::Responder);
    let mut site = Kernel::build(&IKED_CASE, &negotiation, Side::Responder);
    let spec = IkedSpec { child_lifetime: 4, ..IKED };
    GuestIked::start(&mut site.stage.peer, &spec, &negotiation, Side::Initiator).expect("iked");
    let before = keys(&site.tunnel(), "--child");
    changes(&site, "--child", &before);
    site.tunnel();
}

/// What the other tests do, with strongSwan in Baton's place.
#[test]
fn strongswan_on_both_kinds_of_esp_agrees_with_itself() {
    if !can_run_control("strongswan_on_both_kinds_of_esp_agrees_with_itself") {
        return;
    }
    let mut stage = Stage::build_with(Daemons::Ike);
    let case = negotiation(&PLAIN, Side::Initiator);
    let a = Charon::start(&stage.lab, &stage.a, &CharonSpec::new("charon-a")).expect("charon");
    a.set_negotiation(&case, Side::Initiator).expect("a configuration");
    let guest = GuestCharon::start(&mut stage.peer).expect("charon in the kernel");
    guest.load(&mut stage.peer, &case, Side::Responder).expect("a configuration");
    guest.initiate(&mut stage.peer, CHILD).expect("a Child SA");
    let sas = guest.sas(&mut stage.peer).expect("SAs");
    assert_eq!((sas.len(), sas[0].children.len()), (1, 1), "{sas:?}");
    ping_both_ways(&mut stage);
    assert_carried(&mut stage);
}

/// The same with OpenBSD's daemon at the kernel's end.
#[test]
fn strongswan_and_openiked_agree() {
    if !can_run_control("strongswan_and_openiked_agree") {
        return;
    }
    let mut stage = Stage::build_with(Daemons::Ike);
    let case = negotiation(&IKED_CASE, Side::Initiator);
    let a = Charon::start(&stage.lab, &stage.a, &CharonSpec::new("charon-a")).expect("charon");
    a.set_negotiation(&case, Side::Initiator).expect("a configuration");
    let iked = GuestIked::start(&mut stage.peer, &IKED, &case, Side::Responder).expect("iked");
    a.initiate(CHILD).expect("a Child SA");
    iked.wait_for_log(&mut stage.peer, "established peer", 5).expect("an IKE SA");
    ping_both_ways(&mut stage);
    assert_carried(&mut stage);
    a.terminate_ike(CONNECTION).expect("an end");
    iked.wait_for_log(&mut stage.peer, "sa_free", 5).expect("an end");
}

fn can_run_control(test: &str) -> bool {
    let answer = kernel_peer::daemon_requirements();
    if let Err(reason) = &answer {
        requirements::skipped(test, reason);
    }
    answer.is_ok()
}

fn ping_both_ways(stage: &mut Stage) {
    ping(&stage.client, &[], SERVER.into(), 5).expect("answers");
    ping_from_kernel(&mut stage.peer, "", CLIENT.into(), 5).expect("answers to the kernel");
}

/// All ten packets of the pings each way went through the kernel's SAs, and none was refused.
fn assert_carried(stage: &mut Stage) {
    let counters = stage.peer.counters().expect("counters");
    let packets: Vec<u64> = counters.states.iter().map(|state| state.packets).collect();
    assert_eq!((packets, counters.drops), (vec![10, 10], [].into()));
}
