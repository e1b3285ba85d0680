//! I7: prohibit routes keep the kernel from forwarding or sending in clear, and outlive the process.

mod af_xdp_support;

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::process::Command;
use std::time::Duration;

use af_xdp_support::{BEHIND, EXPERIMENT, Lab, PROTECTED, eventually, prefix, privileged};
use baton_dataplane::prefix::Prefix;
use baton_dataplane::prohibit::{self, ProhibitError};
use socket2::{Domain, Socket, Type};

/// A gateway whose kernel forwards to the protected prefix by a route of the operator's.
fn forwarding_lab() -> Lab {
    let lab = Lab::new(1);
    lab.run_in("gw", "sysctl", "-qw net.ipv4.ip_forward=1");
    lab.ip_in("gw", &format!("route add {PROTECTED} via 203.0.113.1"));
    lab
}

/// How long the kernel gets to forward in clear: more than it needs to resolve a neighbour.
const WHILE: Duration = Duration::from_millis(1_500);

/// Whether a packet from a host to an address in the protected prefix arrives within this time.
fn arrives(lab: &Lab, from: &str, own: Ipv4Addr, within: Duration) -> bool {
    let receiver = lab.raw_socket("outer", EXPERIMENT, BEHIND);
    let sender = lab.raw_socket(from, EXPERIMENT, own);
    let mut buffer = [0; 128];
    eventually(within, || {
        // The kernel refuses what it would have to send itself.
        let _ = sender.send_to(b"secret", &SocketAddrV4::new(BEHIND, 0).into());
        (&receiver).read(&mut buffer).is_ok()
    })
}

fn install(lab: &Lab, prefixes: &[Prefix]) -> Result<usize, ProhibitError> {
    lab.within("gw", || prohibit::install(prefixes))
}

#[test]
fn i7_the_kernel_neither_forwards_nor_sends_to_a_protected_prefix() {
    if !privileged("i7_the_kernel_neither_forwards_nor_sends_to_a_protected_prefix") {
        return;
    }
    let lab = forwarding_lab();
    let inner = Ipv4Addr::new(10, 2, 0, 9);
    let own = Ipv4Addr::new(10, 2, 0, 1);
    for (from, own) in [("inner", inner), ("gw", own)] {
        assert!(arrives(&lab, from, own, Duration::from_secs(20)), "the kernel forwards without them");
    }
    assert_eq!(install(&lab, &[prefix(PROTECTED)]).expect("to install"), 1);
    assert!(!arrives(&lab, "inner", inner, WHILE), "forwarded in clear");
    assert!(!arrives(&lab, "gw", own, WHILE), "sent in clear");
    // Other routes, as the operator adds them later, do not help: same or shorter prefix, any metric.
    lab.ip_in("gw", &format!("route add {PROTECTED} via 203.0.113.1 metric 1"));
    lab.ip_in("gw", "route add default via 203.0.113.1");
    assert!(!arrives(&lab, "inner", inner, WHILE), "forwarded in clear after more routes came");
    lab.ip_in("gw", "link set wan0 down");
    lab.ip_in("gw", "link set wan0 up");
    assert!(!arrives(&lab, "inner", inner, WHILE), "forwarded in clear after the link went");
    assert_eq!(lab.within("gw", prohibit::remove).expect("to remove"), 1);
}

#[test]
fn i7_prohibit_routes_outlive_the_process_that_made_them() {
    if !privileged("i7_prohibit_routes_outlive_the_process_that_made_them") {
        return;
    }
    let lab = forwarding_lab();
    let program = std::env::current_exe().expect("this program");
    let child = Command::new("nsenter")
        .arg(lab.network("gw"))
        .arg(program)
        .args(["--exact", "installs_and_exits", "--ignored"])
        .output()
        .expect("to run");
    assert!(child.status.success(), "{child:?}");
    assert!(!arrives(&lab, "inner", Ipv4Addr::new(10, 2, 0, 9), WHILE), "forwarded in clear");
    assert_eq!(lab.within("gw", prohibit::installed).expect("a list"), [prefix(PROTECTED)]);
}

#[test]
#[ignore = "run by i7_prohibit_routes_outlive_the_process_that_made_them, in a namespace"]
fn installs_and_exits() {
    // Never outside of the namespace that has the address.
    let inside = Command::new("ip").args(["addr", "show", "wan0"]).output().expect("ip");
    if String::from_utf8_lossy(&inside.stdout).contains("203.0.113.2/24") {
        prohibit::install(&[prefix(PROTECTED)]).expect("to install");
    }
}

#[test]
fn installing_twice_adds_nothing_and_removing_takes_only_ours() {
    if !privileged("installing_twice_adds_nothing_and_removing_takes_only_ours") {
        return;
    }
    let lab = forwarding_lab();
    let before = (lab.ip_in("gw", "route show"), lab.ip_in("gw", "-6 route show"));
    lab.ip_in("gw", "route add prohibit 198.51.100.0/24");
    let prefixes = ["10.1.0.0/24", "192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "::/0"].map(prefix);
    assert_eq!(install(&lab, &prefixes).expect("to install"), 5);
    assert_eq!(install(&lab, &prefixes).expect("to install again"), 0);
    let mut installed = lab.within("gw", prohibit::installed).expect("a list");
    installed.sort();
    let mut expected = prefixes.to_vec();
    expected.sort();
    assert_eq!(installed, expected);
    assert_eq!(lab.within("gw", prohibit::remove).expect("to remove"), 5);
    assert_eq!(lab.within("gw", prohibit::remove).expect("to remove again"), 0);
    lab.ip_in("gw", "route del prohibit 198.51.100.0/24");
    assert_eq!(before, (lab.ip_in("gw", "route show"), lab.ip_in("gw", "-6 route show")));
}

/// Whether a socket of the gateway's, with this mark or none, finds a way to an address.
fn finds_way(lab: &Lab, to: &str, mark: u32) -> bool {
    lab.within("gw", || {
        let to = SocketAddr::new(to.parse().expect("an address"), 500);
        let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).expect("a socket");
        socket.set_mark(mark).expect("to mark");
        match socket.connect(&to.into()) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EACCES) => false,
            Err(error) => panic!("{to}: {error}"),
        }
    })
}

/// A peer's address within what it protects, in all the ways that this can be; longer routes of the operator's.
#[test]
fn marked_packets_take_the_operators_routes_and_others_only_longer_ones() {
    if !privileged("marked_packets_take_the_operators_routes_and_others_only_longer_ones") {
        return;
    }
    let lab = forwarding_lab();
    lab.ip_in("gw", "addr add 2001:db8::2/64 dev wan0 nodad");
    for route in ["default via 203.0.113.1 metric 7", "198.51.100.0/25 via 203.0.113.1 metric 9"] {
        lab.ip_in("gw", &format!("route add {route}"));
    }
    for route in ["default via 2001:db8::1 metric 7", "2001:db8:5:1::/64 via 2001:db8::1 metric 9"] {
        lab.ip_in("gw", &format!("-6 route add {route}"));
    }
    let closed = ["192.0.2.7", "198.51.100.200", "8.8.8.8", "2001:db8:5:2::1", "2001:db8:7::9", "2600::1"];
    let by_longer = ["198.51.100.7", "203.0.113.9", "2001:db8:5:1::1", "2001:db8::9"];
    let ways = |addresses: &[&str], mark: u32| -> Vec<bool> {
        addresses.iter().map(|address| finds_way(&lab, address, mark)).collect()
    };
    assert_eq!(ways(&closed, 0), [true; 6]);
    let prefixes =
        ["192.0.2.7/32", "198.51.100.0/24", "0.0.0.0/0", "2001:db8:5::/48", "2001:db8:7::9/128", "::/0"];
    let prefixes = prefixes.map(prefix);
    assert_eq!(install(&lab, &prefixes).expect("to install"), 6);
    assert_eq!(ways(&closed, 0), [false; 6], "closed");
    assert_eq!(ways(&by_longer, 0), [true; 4], "by longer routes of the operator's");
    assert_eq!(ways(&closed, prohibit::MARK), [true; 6], "marked");
    assert_eq!(ways(&by_longer, prohibit::MARK), [true; 4], "marked");
    assert_eq!(ways(&closed, 1), [false; 6], "with a mark of somebody else's");

    // Without routes of the operator's there is no way for anybody, and no way past ours.
    assert_eq!(install(&lab, &[prefix("203.0.113.0/24")]).expect("to install"), 1);
    assert!(!finds_way(&lab, "203.0.113.9", 0), "of equal length ours wins");
    assert!(finds_way(&lab, "203.0.113.9", prohibit::MARK));
    assert_eq!(lab.within("gw", || prohibit::release(&[prefix("203.0.113.0/24")])).expect("to release"), 1);
    assert!(finds_way(&lab, "203.0.113.9", 0));

    for family in ["-4", "-6"] {
        lab.ip_in("gw", &format!("{family} rule flush proto 186"));
        lab.ip_in("gw", &format!("{family} route flush table 18600"));
    }
    assert_eq!(ways(&closed, 0), [true; 6], "nothing is closed without the rules");
    let mut missing = lab.within("gw", || prohibit::missing(&prefixes)).expect("a look");
    missing.sort();
    assert_eq!(missing, ["0.0.0.0/0", "::/0"].map(prefix));
    install(&lab, &missing).expect("to install");
    assert_eq!(ways(&closed, 0), [false; 6], "closed again");
    assert_eq!(lab.within("gw", prohibit::remove).expect("to remove"), 6);
    assert_eq!(lab.ip_in("gw", "rule show").lines().count(), 3, "no rule of ours is left");
}

#[test]
fn without_privileges_installing_is_refused_with_a_remedy() {
    if !privileged("without_privileges_installing_is_refused_with_a_remedy") {
        return;
    }
    let lab = Lab::new(1);
    let refused = lab.within("gw", || {
        let none = rustix::thread::CapabilitySet::empty();
        let sets = rustix::thread::CapabilitySets { effective: none, permitted: none, inheritable: none };
        rustix::thread::set_capabilities(None, sets).expect("to give up privileges");
        prohibit::install(&[prefix(PROTECTED)])
    });
    assert!(matches!(refused, Err(ProhibitError::NotPermitted)), "{refused:?}");
}
