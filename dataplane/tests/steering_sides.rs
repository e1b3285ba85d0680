//! The XDP filter on one side alone, and what it is told before it sees a packet. On veth, with real traffic.

mod steering_support;

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use baton_dataplane::io::Side;
use baton_dataplane::steering::LocalRule;
use baton_dataplane::xdp::{AttachMode, Attachment, FilterPolicies, XdpError, XdpOptions};
use baton_sad::{AddressRange, Selector};
use steering_support::namespaces::{Lab, SEGMENT};
use steering_support::{address, bits, prefix, privileged};

fn install(lab: &Lab, options: &XdpOptions) -> Result<Attachment, XdpError> {
    lab.within("gw", || Attachment::install(options))
}

fn installed(lab: &Lab, options: &XdpOptions) -> Attachment {
    install(lab, options).unwrap_or_else(|error| panic!("{error}"))
}

fn count(attachment: &Attachment, side: Side, name: &str) -> Option<u64> {
    let verdicts = attachment.verdicts().unwrap();
    verdicts.into_iter().find(|verdict| verdict.0 == side && verdict.1 == name).map(|verdict| verdict.2)
}

fn outer_only(lab: &Lab) -> XdpOptions {
    XdpOptions { inner: None, ..lab.options() }
}

fn inner_only(lab: &Lab) -> XdpOptions {
    XdpOptions { outer: None, ..lab.options() }
}

/// Whether UDP from an address of the wan host reaches a socket of `host`.
fn reaches(lab: &Lab, source: &str, host: &str, to: (&str, u16)) -> bool {
    let server = lab.within(host, || UdpSocket::bind(to)).unwrap();
    server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    lab.within("wan", || {
        let socket = UdpSocket::bind((source, 0)).unwrap();
        for _ in 0..5 {
            socket.send_to(b"clear", to).unwrap();
        }
    });
    server.recv(&mut [0; 64]).is_ok()
}

#[test]
fn the_outer_side_alone_is_filtered_taken_over_and_removed() {
    if !privileged("the_outer_side_alone_is_filtered_taken_over_and_removed") {
        return;
    }
    let lab = Lab::new();
    let (plain, esp) = (lab.listener(), lab.esp_listener());
    for _ in 0..2 {
        let attachment = installed(&lab, &outer_only(&lab));
        attachment.ownership().unwrap().set(bits([SEGMENT])).unwrap();
        assert_eq!(Side::ALL.map(|side| attachment.mode(side)), [Some(AttachMode::Native), None]);
        assert!(!lab.esp_passes(&esp, 0x2a00_0001), "owned ESP passed");
        assert!(count(&attachment, Side::Outer, "no-socket").unwrap() > 0);
        assert_eq!(
            count(&attachment, Side::Inner, "no-policy"),
            None,
            "a side without a filter has no counters"
        );
    }
    // Nothing of ours is in the way on the inner side.
    assert!((0..20).any(|_| lab.leaks(&plain)));
    let pins = lab.pin_directory();
    assert!(pins.join("outer_link").exists() && !pins.join("inner_link").exists());
    Attachment::uninstall(&pins).unwrap();
    assert!(!pins.exists());
}

#[test]
fn the_inner_side_alone_holds_plaintext_back() {
    if !privileged("the_inner_side_alone_holds_plaintext_back") {
        return;
    }
    let lab = Lab::new();
    let (plain, esp) = (lab.listener(), lab.esp_listener());
    let attachment = installed(&lab, &inner_only(&lab));
    assert_eq!(Side::ALL.map(|side| attachment.mode(side)), [None, Some(AttachMode::Native)]);
    assert!(!lab.leaks(&plain), "plaintext passed");
    assert!(count(&attachment, Side::Inner, "plaintext-foreign").unwrap() > 0);
    assert_eq!(count(&attachment, Side::Outer, "local"), None);
    // A socket is to have the outer side's packets: they pass.
    assert!((0..20).any(|_| lab.esp_passes(&esp, 0x2a00_0001)));
}

#[test]
fn a_side_is_added_but_not_left_behind_in_silence() {
    if !privileged("a_side_is_added_but_not_left_behind_in_silence") {
        return;
    }
    let lab = Lab::new();
    let plain = lab.listener();
    let none = install(&lab, &XdpOptions { outer: None, ..outer_only(&lab) }).unwrap_err();
    assert!(matches!(none, XdpError::NoSide), "{none}");
    drop(installed(&lab, &outer_only(&lab)));
    let both = installed(&lab, &lab.options());
    assert_eq!(Side::ALL.map(|side| both.mode(side)), [Some(AttachMode::Native); 2]);
    drop(both);
    let refused = install(&lab, &outer_only(&lab)).unwrap_err();
    assert!(matches!(refused, XdpError::Unwanted { side: Side::Inner, .. }), "{refused}");
    assert!(refused.to_string().contains("--uninstall"), "{refused}");
    assert!(!lab.leaks(&plain), "plaintext passed after a refusal");
    // An interface that is gone protects nothing: its pin goes.
    lab.ip_in("gw", &["link", "del", "lan0"]);
    let outer = installed(&lab, &outer_only(&lab));
    assert_eq!(outer.mode(Side::Inner), None);
    assert!(!lab.pin_directory().join("inner_link").exists());
}

/// Routing clear packets inwards is not the kernel's, whoever sends them, and whether or not a tunnel is about them.
#[test]
fn the_kernel_forwards_nothing_inwards() {
    if !privileged("the_kernel_forwards_nothing_inwards") {
        return;
    }
    let lab = Lab::new();
    let inside = ("10.2.0.9", 7_778);
    assert!((0..20).any(|_| reaches(&lab, "203.0.113.1", "lan", inside)), "the lab cannot show the leak");
    let mut attachment = installed(&lab, &lab.options());
    assert!(!reaches(&lab, "203.0.113.1", "lan", inside));
    assert_eq!(count(&attachment, Side::Outer, "no-policy"), Some(5));
    let bypassed = vec![(prefix("203.0.113.0/24"), SEGMENT)];
    attachment.set_policies(&FilterPolicies { bypassed, ..lab.options().policies }).unwrap();
    assert!(!reaches(&lab, "203.0.113.1", "lan", inside));
    assert_eq!(count(&attachment, Side::Outer, "clear-foreign"), Some(5));
    attachment.ownership().unwrap().set(bits([SEGMENT])).unwrap();
    assert!(!reaches(&lab, "203.0.113.1", "lan", inside));
    // It is the data plane's, and there is none.
    assert_eq!(count(&attachment, Side::Outer, "no-socket"), Some(5));
}

fn bypass(local: &str, port: u16) -> LocalRule {
    let any = AddressRange::new(address("0.0.0.0"), address("255.255.255.255")).unwrap();
    let selector = Selector::addresses(AddressRange::single(address(local)), any);
    LocalRule {
        selector: Selector { protocol: Some(17), local_ports: port..=port, ..selector },
        permits: true,
    }
}

#[test]
fn rules_for_ourselves_follow_policies_and_our_addresses() {
    if !privileged("rules_for_ourselves_follow_policies_and_our_addresses") {
        return;
    }
    let lab = Lab::new();
    let everything = |local| FilterPolicies {
        protected: vec![(prefix("0.0.0.0/0"), SEGMENT)],
        local,
        ..FilterPolicies::default()
    };
    let options = XdpOptions { policies: everything(vec![bypass("203.0.113.2", 53)]), ..lab.options() };
    let mut attachment = installed(&lab, &options);
    let to = |address, port| reaches(&lab, "203.0.113.1", "gw", (address, port));
    assert!((0..20).any(|_| to("203.0.113.2", 53)), "in force as soon as the filter is");
    assert!(!to("203.0.113.2", 54));
    assert!(count(&attachment, Side::Outer, "clear-bypass").unwrap() >= 1);
    // More rules than there is room for, but they are about addresses that we do not have. Until we do.
    let mut local = vec![bypass("192.0.2.1", 1); 64];
    local.push(bypass("203.0.113.2", 54));
    attachment.set_policies(&everything(local)).unwrap();
    assert!(!to("203.0.113.2", 53));
    assert!((0..20).any(|_| to("203.0.113.2", 54)));
    let own = [address("10.2.0.1"), address("203.0.113.2")];
    attachment.set_inner_local(&[&own[..], &[address("192.0.2.1")]].concat()).unwrap();
    assert!(!to("203.0.113.2", 54), "what there is no room for is refused");
    attachment.set_inner_local(&own).unwrap();
    assert!((0..20).any(|_| to("203.0.113.2", 54)));
}

/// From the moment at which the filter is there, it knows what must not be clear.
#[test]
fn i7_a_new_filter_knows_its_policies_before_its_first_packet() {
    if !privileged("i7_a_new_filter_knows_its_policies_before_its_first_packet") {
        return;
    }
    let lab = Lab::new();
    let server = lab.within("gw", || UdpSocket::bind(("203.0.113.2", 53))).unwrap();
    server.set_nonblocking(true).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let flood = scope.spawn(|| {
            lab.within("wan", || {
                let socket = UdpSocket::bind(("10.1.0.5", 0)).unwrap();
                while !done.load(Ordering::Relaxed) {
                    let _ = socket.send_to(b"forged", ("203.0.113.2", 53));
                }
            });
        });
        let mut passed = Vec::new();
        for _ in 0..10 {
            let attachment = installed(&lab, &lab.options());
            let is_seen = (0..1_000).any(|_| {
                thread::sleep(Duration::from_millis(5));
                count(&attachment, Side::Outer, "clear-protected").unwrap() > 0
            });
            passed.push((is_seen, count(&attachment, Side::Outer, "local")));
            drop(attachment);
            Attachment::uninstall(&lab.pin_directory()).unwrap();
        }
        // Before anything is asserted: a scope waits for its threads.
        done.store(true, Ordering::Relaxed);
        flood.join().unwrap();
        assert_eq!(passed, [(true, Some(0)); 10], "a filter that did not know its policies let packets pass");
    });
}
