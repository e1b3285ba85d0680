//! The XDP filter's life: installing, dying, taking over, failing, uninstalling. On veth, with real traffic.

mod steering_support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aya::maps::{Array, Map, MapData};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_programs;
use baton_dataplane::io::Side;
use baton_dataplane::next_hop::Mac;
use baton_dataplane::xdp::{AttachMode, Attachment, DryRun, FilterPolicies, XdpError, XdpOptions};
use steering_support::namespaces::{Lab, SEGMENT};
use steering_support::{bits, prefix, privileged};

const SPI: u32 = 0x2a00_0001;

/// Names the lab to a child process that plays the data plane.
const CHILD: &str = "BATON_STEERING_CHILD";

fn install(lab: &Lab) -> Result<Attachment, XdpError> {
    install_with(lab, &lab.options())
}

fn install_with(lab: &Lab, options: &XdpOptions) -> Result<Attachment, XdpError> {
    lab.within("gw", || Attachment::install(options))
}

/// As a data plane would: it owns the segment, but its sockets are not open yet.
fn protect(lab: &Lab) -> Attachment {
    let attachment = install(lab).unwrap_or_else(|error| panic!("{error}"));
    attachment.ownership().unwrap().set(bits([SEGMENT])).unwrap();
    attachment
}

fn protecting(network: &str) -> FilterPolicies {
    FilterPolicies { protected: vec![(prefix(network), SEGMENT)], ..FilterPolicies::default() }
}

fn count(attachment: &Attachment, side: Side, name: &str) -> u64 {
    let verdicts = attachment.verdicts().unwrap();
    verdicts.into_iter().find(|verdict| verdict.0 == side && verdict.1 == name).unwrap().2
}

/// (link, program) numbers of a pinned link.
fn numbers(pins: &Path, side: Side) -> (u32, u32) {
    let link = PinnedLink::from_pin(pins.join(format!("{}_link", side.name()))).unwrap();
    let info = FdLink::from(link).info().unwrap();
    (info.id(), info.program_id())
}

/// The kernel detaches a little after a pin was removed by hand.
fn loses_xdp(lab: &Lab, interface: &str) -> bool {
    (0..200).any(|_| {
        thread::sleep(std::time::Duration::from_millis(5));
        !has_xdp(lab, interface)
    })
}

fn has_xdp(lab: &Lab, interface: &str) -> bool {
    let output = Command::new("nsenter")
        .args([&lab.network("gw"), "ip", "-d", "link", "show", "dev", interface])
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).contains("prog/xdp")
}

/// What passes will do so at last, however busy the machine is.
fn until(passes: impl Fn() -> bool) -> bool {
    (0..20).any(|_| passes())
}

fn pins_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn i7_without_a_socket_owned_esp_and_plaintext_are_dropped() {
    if !privileged("i7_without_a_socket_owned_esp_and_plaintext_are_dropped") {
        return;
    }
    let lab = Lab::new();
    let (plain, esp) = (lab.listener(), lab.esp_listener());
    // The lab can show a leak: without the filter the kernel forwards plaintext and takes ESP.
    assert!(until(|| lab.leaks(&plain)) && until(|| lab.esp_passes(&esp, SPI)));
    let attachment = protect(&lab);
    assert_eq!(Side::ALL.map(|side| attachment.mode(side)), [Some(AttachMode::Native); 2]);
    lab.ip_in("wan", &["neigh", "flush", "all"]);
    assert!(!lab.leaks(&plain), "plaintext passed");
    assert!(!lab.esp_passes(&esp, SPI), "owned ESP passed");
    assert!(!lab.esp_passes(&esp, 0x7700_0001), "foreign ESP passed");
    for side in Side::ALL {
        assert!(count(&attachment, side, "no-socket") > 0, "{side:?}");
    }
    assert!(count(&attachment, Side::Outer, "esp-foreign") > 0);
    // The wan host asked for our MAC address again: ARP passes.
    assert!(count(&attachment, Side::Outer, "not-ip") > 0);
}

#[test]
fn i7_the_filter_outlives_a_killed_process_and_is_taken_over() {
    if !privileged("i7_the_filter_outlives_a_killed_process_and_is_taken_over") {
        return;
    }
    let lab = Lab::new();
    let plain = lab.listener();
    let mut child = Command::new("nsenter")
        .arg(lab.network("gw"))
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_protects", "--ignored", "--nocapture"])
        .env(CHILD, lab.pin_directory())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    assert!(output.lines().map_while(Result::ok).any(|line| line.contains("protecting")), "the child failed");
    child.kill().unwrap();
    child.wait().unwrap();

    let pins = lab.pin_directory();
    let before = Side::ALL.map(|side| numbers(&pins, side));
    assert!(!lab.leaks(&plain), "plaintext passed after kill -9");

    let attachment = install(&lab).unwrap_or_else(|error| panic!("{error}"));
    let after = Side::ALL.map(|side| numbers(&pins, side));
    for (before, after) in before.into_iter().zip(after) {
        assert_eq!(before.0, after.0, "the link is another one");
        assert_ne!(before.1, after.1, "the program was not swapped");
    }
    assert_eq!(attachment.ownership().unwrap().get().unwrap(), bits([SEGMENT]), "ownership was lost");
    assert!(count(&attachment, Side::Inner, "no-socket") > 0, "counters were lost");
    assert!(!lab.leaks(&plain), "plaintext passed after the take-over");
    attachment.ownership().unwrap().set(bits([SEGMENT + 1])).unwrap();
    assert_eq!(attachment.ownership().unwrap().get().unwrap(), bits([SEGMENT + 1]));
}

/// Not a test of its own: the process that the test above kills.
#[test]
#[ignore = "runs as the child of another test"]
fn child_that_protects() {
    let Ok(pins) = std::env::var(CHILD) else { return };
    let options = XdpOptions {
        outer: Some("wan0".to_owned()),
        inner: Some("lan0".to_owned()),
        pin_directory: pins.into(),
        hash_mode: baton_dataplane::steering::HashMode::SourceIp,
        hash_seed: 0,
        outer_addresses: vec!["203.0.113.2".parse().unwrap()],
        inner_addresses: vec!["10.2.0.1".parse().unwrap()],
        policies: protecting("10.1.0.0/16"),
    };
    let attachment = Attachment::install(&options).unwrap_or_else(|error| panic!("{error}"));
    attachment.ownership().unwrap().set(bits([SEGMENT])).unwrap();
    println!("protecting");
    loop {
        thread::park();
    }
}

#[test]
fn i7_plaintext_never_passes_while_filters_take_over_from_each_other() {
    if !privileged("i7_plaintext_never_passes_while_filters_take_over_from_each_other") {
        return;
    }
    let lab = Lab::new();
    let plain = lab.listener();
    let mut attachment = protect(&lab);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                lab.send_plaintext(100);
            }
        });
        for _ in 0..20 {
            attachment = install(&lab).unwrap_or_else(|error| panic!("{error}"));
            // All prefixes are replaced and put back: what has no entry meanwhile is dropped.
            attachment.set_policies(&protecting("10.9.0.0/16")).unwrap();
            attachment.set_policies(&protecting("10.1.0.0/16")).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        flood.join().unwrap();
    });
    assert!(count(&attachment, Side::Inner, "no-socket") > 100);
    assert!(plain.recv(&mut [0; 64]).is_err(), "plaintext passed");
}

#[test]
fn uninstall_removes_everything_and_only_that_does() {
    if !privileged("uninstall_removes_everything_and_only_that_does") {
        return;
    }
    let lab = Lab::new();
    let plain = lab.listener();
    drop(protect(&lab));
    assert!(has_xdp(&lab, "wan0") && has_xdp(&lab, "lan0"));
    assert!(!lab.leaks(&plain), "plaintext passed after a drop");
    Attachment::uninstall(&lab.pin_directory()).unwrap();
    assert!(!lab.pin_directory().exists());
    assert!(!has_xdp(&lab, "wan0") && !has_xdp(&lab, "lan0"));
    assert!(until(|| lab.leaks(&plain)), "the filter is gone, but traffic is not forwarded");
    Attachment::uninstall(&lab.pin_directory()).unwrap();
}

/// The verifier gives up at a million instructions; newer kernels and compilers must find some room to be different.
#[test]
fn the_verifier_has_room_to_spare() {
    if !privileged("the_verifier_has_room_to_spare") {
        return;
    }
    let lab = Lab::new();
    let _attached = install(&lab).unwrap();
    let _traced = lab.within("gw", DryRun::load).unwrap();
    let mut seen = 0;
    for program in loaded_programs().flatten() {
        let Some(name @ ("outer" | "inner")) = program.name_as_str() else { continue };
        let (Some(verified), Some(size)) = (program.verified_instruction_count(), program.size_translated())
        else {
            println!("SKIPPED the_verifier_has_room_to_spare: the kernel does not tell (before Linux 5.16)");
            return;
        };
        println!("{name}: {verified} instructions verified, {size} octets");
        assert!(verified < 500_000, "{name}: {verified} instructions verified");
        seen += 1;
    }
    assert!(seen >= 4, "both programs, with tracing and without");
}

#[test]
fn what_was_attached_in_vain_is_withdrawn_and_what_was_there_stays() {
    if !privileged("what_was_attached_in_vain_is_withdrawn_and_what_was_there_stays") {
        return;
    }
    let lab = Lab::new();
    let pins = lab.options().pin_directory;
    install(&lab).unwrap().withdraw().unwrap();
    assert!(!has_xdp(&lab, "wan0") && !has_xdp(&lab, "lan0"));
    Attachment::require_none(&pins).unwrap();
    drop(install(&lab).unwrap());
    install(&lab).unwrap().withdraw().unwrap();
    assert!(has_xdp(&lab, "wan0") && has_xdp(&lab, "lan0"), "I7: what protected before still does");
    let refused = Attachment::require_none(&pins);
    assert!(matches!(refused, Err(XdpError::Unwanted { .. })), "{refused:?}");
    Attachment::uninstall(&pins).unwrap();
    Attachment::require_none(&pins).unwrap();
}

#[test]
fn a_failed_installation_leaves_nothing() {
    if !privileged("a_failed_installation_leaves_nothing") {
        return;
    }
    let lab = Lab::new();
    let refused = |change: &dyn Fn(&mut XdpOptions)| {
        let mut options = lab.options();
        change(&mut options);
        install_with(&lab, &options).unwrap_err()
    };
    let missing = refused(&|options| options.inner = Some("lan9".to_owned()));
    assert!(matches!(missing, XdpError::NoInterface { side: Side::Inner, .. }), "{missing}");
    let same = refused(&|options| options.inner = Some("wan0".to_owned()));
    assert!(matches!(same, XdpError::OneInterface(_)), "{same}");
    assert!(!lab.pin_directory().exists());

    // Somebody else is on the outer interface; the inner one is free and comes first.
    let other = lab.pin_directory().with_file_name("other");
    lab.connect("lan", "lan1", "10.3.0.1/24", "10.3.0.9/24");
    let theirs = XdpOptions { inner: Some("lan1".to_owned()), pin_directory: other.clone(), ..lab.options() };
    install_with(&lab, &theirs).unwrap_or_else(|error| panic!("{error}"));
    let busy = install(&lab).unwrap_err();
    assert!(matches!(&busy, XdpError::Busy { interface, .. } if interface == "wan0"), "{busy}");
    assert!(busy.to_string().contains("ip link set dev wan0 xdp off"), "{busy}");
    assert!(!has_xdp(&lab, "lan0"), "the inner side stayed attached");
    assert!(pins_in(&lab.pin_directory()).is_empty(), "{:?}", pins_in(&lab.pin_directory()));
    assert!(has_xdp(&lab, "wan0") && has_xdp(&lab, "lan1"), "the other filter was harmed");
    Attachment::uninstall(&other).unwrap();
}

#[test]
fn i7_a_refused_take_over_leaves_the_old_filter_in_place() {
    if !privileged("i7_a_refused_take_over_leaves_the_old_filter_in_place") {
        return;
    }
    let lab = Lab::new();
    let plain = lab.listener();
    drop(protect(&lab));
    let pins = lab.pin_directory();
    let before = Side::ALL.map(|side| numbers(&pins, side));
    lab.connect("lan", "lan1", "10.3.0.1/24", "10.3.0.9/24");
    let moved =
        install_with(&lab, &XdpOptions { inner: Some("lan1".to_owned()), ..lab.options() }).unwrap_err();
    assert!(matches!(moved, XdpError::OtherInterface { side: Side::Inner, .. }), "{moved}");

    set_layout(&pins, 999);
    let foreign = install(&lab).unwrap_err();
    assert!(matches!(foreign, XdpError::Layout { found: 999, .. }), "{foreign}");
    assert!(foreign.to_string().contains("--uninstall"), "{foreign}");
    set_layout(&pins, 0);
    let unfinished = install(&lab).unwrap_err();
    assert!(matches!(unfinished, XdpError::Damaged { .. }), "{unfinished}");

    assert_eq!(before, Side::ALL.map(|side| numbers(&pins, side)));
    assert!(!has_xdp(&lab, "lan1"));
    assert!(!lab.leaks(&plain), "plaintext passed after a refusal");
    Attachment::uninstall(&pins).unwrap();
}

fn set_layout(pins: &Path, layout: u32) {
    let map = Map::from_map_data(MapData::from_pin(pins.join("config")).unwrap()).unwrap();
    Array::<_, u32>::try_from(map).unwrap().set(0, layout, 0).unwrap();
}

/// What a process killed in the middle of its first installation may leave: maps without the layout's number
/// and one side attached. The first is cleaned up, the second completed.
#[test]
fn a_half_installation_is_cleaned_up_or_completed() {
    if !privileged("a_half_installation_is_cleaned_up_or_completed") {
        return;
    }
    let lab = Lab::new();
    let plain = lab.listener();
    let pins = lab.pin_directory();
    drop(protect(&lab));
    fs::remove_file(pins.join("outer_link")).unwrap();
    assert!(loses_xdp(&lab, "wan0") && has_xdp(&lab, "lan0"));
    drop(install(&lab).unwrap_or_else(|error| panic!("{error}")));
    assert!(has_xdp(&lab, "wan0") && has_xdp(&lab, "lan0"));

    for side in Side::ALL {
        fs::remove_file(pins.join(format!("{}_link", side.name()))).unwrap();
    }
    assert!(loses_xdp(&lab, "wan0") && loses_xdp(&lab, "lan0"));
    set_layout(&pins, 0);
    fs::remove_file(pins.join("owned")).unwrap();
    let attachment = protect(&lab);
    assert_eq!(count(&attachment, Side::Inner, "plaintext-foreign"), 0, "leftover maps were used");
    assert!(!lab.leaks(&plain));
}

#[test]
fn an_interface_that_was_made_anew_is_attached_anew() {
    if !privileged("an_interface_that_was_made_anew_is_attached_anew") {
        return;
    }
    let lab = Lab::new();
    drop(protect(&lab));
    lab.ip_in("gw", &["link", "del", "lan0"]);
    lab.connect("lan", "lan0", "10.2.0.1/24", "10.2.0.9/24");
    lab.ip_in("lan", &["route", "add", "default", "via", "10.2.0.1"]);
    assert!(!has_xdp(&lab, "lan0"));
    let attachment = install(&lab).unwrap_or_else(|error| panic!("{error}"));
    assert!(has_xdp(&lab, "lan0"));
    assert_eq!(attachment.ownership().unwrap().get().unwrap(), bits([SEGMENT]));
    assert!(!lab.leaks(&lab.listener()));
    // Its address is another one, and the filter knows it.
    assert!(count(&attachment, Side::Inner, "no-socket") > 0);
    assert_eq!(count(&attachment, Side::Inner, "other-host"), 0);
}

#[test]
fn a_driver_without_xdp_gets_generic_mode_and_keeps_it() {
    if !privileged("a_driver_without_xdp_gets_generic_mode_and_keeps_it") {
        return;
    }
    let lab = Lab::new();
    let plain = lab.listener();
    // A bridge has no native XDP. It takes the wire's place on the inner side.
    lab.ip_in("gw", &["link", "add", "br0", "type", "bridge"]);
    lab.ip_in("gw", &["addr", "flush", "dev", "lan0"]);
    lab.ip_in("gw", &["link", "set", "lan0", "master", "br0"]);
    lab.ip_in("gw", &["addr", "add", "10.2.0.1/24", "dev", "br0"]);
    lab.ip_in("gw", &["link", "set", "br0", "up"]);
    assert!(until(|| lab.leaks(&plain)));
    let options = XdpOptions { inner: Some("br0".to_owned()), ..lab.options() };
    for _ in 0..2 {
        let attachment = install_with(&lab, &options).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(attachment.mode(Side::Outer), Some(AttachMode::Native));
        assert_eq!(attachment.mode(Side::Inner), Some(AttachMode::Generic));
        assert!(!lab.leaks(&plain));
        assert!(count(&attachment, Side::Inner, "plaintext-foreign") > 0);
    }
}

#[test]
fn clear_traffic_from_behind_a_tunnel_is_not_forwarded_inwards() {
    if !privileged("clear_traffic_from_behind_a_tunnel_is_not_forwarded_inwards") {
        return;
    }
    let lab = Lab::new();
    let victim = lab.within("lan", || UdpSocket::bind(("10.2.0.9", 7_778))).unwrap();
    victim.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
    let inject = || {
        lab.within("wan", || {
            let socket = UdpSocket::bind(("10.1.0.5", 0)).unwrap();
            for _ in 0..10 {
                socket.send_to(b"forged", ("10.2.0.9", 7_778)).unwrap();
            }
        });
        let heard = victim.recv(&mut [0; 64]).is_ok();
        while victim.recv(&mut [0; 64]).is_ok() {}
        heard
    };
    assert!(inject(), "the lab cannot show the leak");
    let attachment = protect(&lab);
    assert!(!inject(), "the kernel forwarded it");
    assert_eq!(count(&attachment, Side::Outer, "clear-protected"), 10);
}

#[test]
fn frames_for_other_hosts_stay_out_until_their_address_is_ours() {
    const SHARED: Mac = Mac([2, 0, 0, 0, 0, 0x99]);
    if !privileged("frames_for_other_hosts_stay_out_until_their_address_is_ours") {
        return;
    }
    let lab = Lab::new();
    let mut attachment = protect(&lab);
    lab.ip_in("lan", &["neigh", "replace", "10.2.0.1", "lladdr", &SHARED.to_string(), "dev", "lan0"]);
    let fate = |attachment: &Attachment| {
        ["other-host", "no-socket"].map(|name| count(attachment, Side::Inner, name))
    };
    lab.send_plaintext(5);
    assert_eq!(fate(&attachment), [5, 0]);
    attachment.set_own_macs(Side::Inner, &[SHARED]).unwrap();
    lab.send_plaintext(5);
    assert_eq!(fate(&attachment), [5, 5]);
    let attachment = install(&lab).unwrap_or_else(|error| panic!("{error}"));
    lab.send_plaintext(5);
    assert_eq!(fate(&attachment), [10, 5], "a new data plane knows the interface's own address alone");
    let refused =
        install_with(&lab, &XdpOptions { inner: Some("lo".to_owned()), ..lab.options() }).unwrap_err();
    assert!(matches!(refused, XdpError::NoMac { side: Side::Inner, .. }), "{refused}");
}

#[test]
fn traffic_of_our_own_addresses_passes() {
    if !privileged("traffic_of_our_own_addresses_passes") {
        return;
    }
    let lab = Lab::new();
    let _attachment = protect(&lab);
    for (host, gateway) in [("wan", "203.0.113.2"), ("lan", "10.2.0.1")] {
        let server = lab.within("gw", || UdpSocket::bind((gateway, 53))).unwrap();
        server.set_read_timeout(Some(std::time::Duration::from_secs(2))).unwrap();
        lab.within(host, || {
            let client = UdpSocket::bind(("0.0.0.0", 0)).unwrap();
            client.send_to(b"query", (gateway, 53)).unwrap();
        });
        assert_eq!(server.recv(&mut [0; 64]).unwrap(), 5, "from the {host} host");
    }
}

#[test]
fn no_bpffs_is_mounted_over_somebodys_files() {
    if !privileged("no_bpffs_is_mounted_over_somebodys_files") {
        return;
    }
    let lab = Lab::new();
    let pins = lab.pin_directory();
    fs::create_dir_all(&pins).unwrap();
    fs::write(pins.join("letter"), "dear reader").unwrap();
    let refused = install(&lab).unwrap_err();
    assert!(matches!(refused, XdpError::PinDirectory { .. }), "{refused}");
    assert_eq!(fs::read_to_string(pins.join("letter")).unwrap(), "dear reader");
    assert!(!has_xdp(&lab, "wan0") && !has_xdp(&lab, "lan0"));
}

/// A takeover flips all segments of a dead node at once; what it costs does not depend on how many there are.
#[test]
fn a_flip_of_all_segments_takes_below_a_millisecond() {
    if !privileged("a_flip_of_all_segments_takes_below_a_millisecond") {
        return;
    }
    let lab = Lab::new();
    let attachment = protect(&lab);
    let mut ownership = attachment.ownership().unwrap();
    let mut times: Vec<Duration> = (0..501_u32)
        .map(|round| {
            let wanted = if round.is_multiple_of(2) { [u64::MAX; 4] } else { bits(0..=127) };
            let start = Instant::now();
            ownership.set(wanted).unwrap();
            let elapsed = start.elapsed();
            assert_eq!(ownership.get().unwrap(), wanted);
            elapsed
        })
        .collect();
    times.sort_unstable();
    let [median, worst] = [250, 500].map(|at| times[at]);
    println!("a flip of 128 segments: median {median:?}, longest of 501 {worst:?}");
    assert!(median < Duration::from_millis(1), "{median:?}");
}
