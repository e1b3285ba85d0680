//! What the filter does for several gateways under one address: frames for another owner, shared MAC addresses, and who
//! answers for them. Each packet runs through the kernel's program and its twin (BPF_PROG_TEST_RUN).

mod steering_support;

use std::net::IpAddr;
use std::process::Command;

use baton_dataplane::io::Side;
use baton_dataplane::io::membership::Membership;
use baton_dataplane::next_hop::Mac;
use baton_dataplane::packet::checksum;
use baton_dataplane::xdp::{Attachment, Owners, Resolution, Verdict, XdpOptions};
use steering_support::namespaces::Lab;
use steering_support::packets::{
    ESP, ICMP, OWN_MAC, SHARED_MAC, UDP, arp, esp, ethernet, extension, frame, icmp, ike, ip, solicitation,
    udp,
};
use steering_support::pair::Pair;
use steering_support::{World, address, bits, prefix, privileged};

/// Who sends the frames of these tests.
const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 2];
const OWNER: [Mac; 2] = [Mac([2, 0, 0, 0, 0x0f, 1]), Mac([2, 0, 0, 0, 0x0f, 2])];
/// Another node's.
const FOREIGN: u8 = 0x2b;

fn ours() -> IpAddr {
    address("203.0.113.2")
}

fn peer() -> IpAddr {
    address("198.51.100.7")
}

fn owners() -> Owners {
    let mut owners = Owners::default();
    for side in Side::ALL {
        owners.macs[side.index()][usize::from(FOREIGN)] = OWNER[side.index()];
    }
    owners
}

fn world() -> World {
    World {
        owned: bits([0x2a]),
        owners: owners(),
        protected: vec![(prefix("10.1.0.0/16"), FOREIGN)],
        bypassed: vec![(prefix("192.0.2.0/24"), FOREIGN)],
        ..World::default()
    }
}

/// Packets of the foreign segment, and what becomes of each where its owner is known, and where not.
fn foreign_packets() -> Vec<(Side, Vec<u8>, Verdict, Verdict)> {
    let (ours6, peer6) = (address("2001:db8::2"), address("2001:db8::7"));
    let spi = u32::from(FOREIGN) << 24 | 1;
    let message = ike(1, u64::from(FOREIGN) << 56 | 1, 0x20, 0x08);
    let marked = [vec![0; 4], message.clone()].concat();
    let (forwarded, foreign) = (Verdict::EspForwarded, Verdict::EspForeign);
    let behind_options = [extension(ESP, 1), esp(spi)].concat();
    let (udp_forwarded, udp_foreign) = (Verdict::UdpEspForwarded, Verdict::UdpEspForeign);
    let (ike_forwarded, ike_foreign) = (Verdict::IkeForwarded, Verdict::IkeForeign);
    let out = Side::Outer;
    vec![
        (out, frame(peer(), ours(), ESP, &esp(spi)), forwarded, foreign),
        (out, frame(peer6, ours6, ESP, &esp(spi)), forwarded, foreign),
        (out, frame(peer6, ours6, 60, &behind_options), forwarded, foreign),
        (out, ethernet(&[0x8100], 0x0800, &ip(peer(), ours(), ESP, &esp(spi))), forwarded, foreign),
        (out, frame(peer(), ours(), UDP, &udp(4500, 4500, &esp(spi))), udp_forwarded, udp_foreign),
        (out, frame(peer6, ours6, UDP, &udp(61_000, 4500, &esp(spi))), udp_forwarded, udp_foreign),
        (out, frame(peer(), ours(), UDP, &udp(500, 500, &message)), ike_forwarded, ike_foreign),
        (out, frame(peer6, ours6, UDP, &udp(4500, 4500, &marked)), ike_forwarded, ike_foreign),
        (
            out,
            frame(address("192.0.2.9"), address("10.2.0.9"), 6, &[0; 20]),
            Verdict::ClearForwarded,
            Verdict::ClearForeign,
        ),
        (
            Side::Inner,
            frame(address("10.2.0.9"), address("10.1.0.9"), 6, &[0; 20]),
            Verdict::PlaintextForwarded,
            Verdict::PlaintextForeign,
        ),
    ]
}

#[test]
fn what_another_node_owns_goes_on_to_it() {
    if !privileged("what_another_node_owns_goes_on_to_it") {
        return;
    }
    let mut pair = Pair::with_socket(world());
    for (side, packet, forwarded, _) in foreign_packets() {
        pair.expect(side, &packet, forwarded, Some(FOREIGN));
        let sent = pair.sent_back(side, &packet, forwarded);
        assert_eq!(sent[..12], [OWNER[side.index()].0, OWN_MAC.0].concat(), "{side:?}");
        assert_eq!(sent[12..], packet[12..], "nothing else is touched");
    }
    // What is ours is not sent on, whatever the map says of it.
    let packet = frame(peer(), ours(), ESP, &esp(0x2a00_0001));
    let mut known = owners();
    *known.macs[0] = [OWNER[0]; 256];
    pair.retell(World { owners: known, ..world() });
    pair.expect(Side::Outer, &packet, Verdict::EspOwned, Some(0x2a));
}

#[test]
fn nothing_goes_on_twice_or_where_the_owner_has_it_already() {
    if !privileged("nothing_goes_on_twice_or_where_the_owner_has_it_already") {
        return;
    }
    let mut pair = Pair::with_socket(World { macs: vec![OWN_MAC, SHARED_MAC], ..world() });
    for (side, packet, forwarded, foreign) in foreign_packets() {
        let to = |mac: [u8; 6]| [&mac[..], &packet[6..]].concat();
        // By the shared address, or flooded: the owner sees it too. Transit that is not for us is no business of ours.
        if !matches!(foreign, Verdict::ClearForeign) {
            pair.expect(side, &to(SHARED_MAC.0), foreign, Some(FOREIGN));
            pair.expect(side, &to([2, 0, 0, 0, 0, 77]), foreign, Some(FOREIGN));
        }
        pair.expect(side, &packet, forwarded, Some(FOREIGN));
        let members = vec![Mac([9; 6]), Mac(SENDER)];
        pair.retell(World { owners: Owners { members, ..owners() }, ..pair.world.clone() });
        pair.expect(side, &packet, Verdict::ForwardLoop, Some(FOREIGN));
        // A member that has left may send.
        pair.retell(World { owners: owners(), ..pair.world.clone() });
        pair.expect(side, &packet, forwarded, Some(FOREIGN));
        pair.retell(World { owners: Owners::default(), ..pair.world.clone() });
        pair.expect(side, &packet, foreign, Some(FOREIGN));
        pair.retell(World { owners: owners(), ..pair.world.clone() });
    }
}

fn shared(resolution: Resolution) -> World {
    let shared = vec![ours(), address("2001:db8::2")];
    World { macs: vec![OWN_MAC, SHARED_MAC], resolution, shared, ..world() }
}

#[test]
fn arp_requests_for_a_shared_address_get_the_shared_mac_address_or_nothing() {
    if !privileged("arp_requests_for_a_shared_address_get_the_shared_mac_address_or_nothing") {
        return;
    }
    let (router, us) = ([203, 0, 113, 1], [203, 0, 113, 2]);
    let request = |tags: &[u16]| ethernet(tags, 0x0806, &arp(1, router, us));
    let mut pair = Pair::new(shared(Resolution::SharedMac));
    for (side, tags) in [(Side::Outer, &[][..]), (Side::Outer, &[0x8100]), (Side::Inner, &[])] {
        let sent = pair.sent_back(side, &request(tags), Verdict::ArpAnswered);
        assert_eq!(sent[..12], [SENDER, OWN_MAC.0].concat());
        let head = 14 + 4 * tags.len();
        let reply = [&[0, 1, 8, 0, 6, 4, 0, 2][..], &SHARED_MAC.0, &us, &SENDER, &router].concat();
        assert_eq!(sent[head..], reply);
        assert_eq!(sent[12..head], request(tags)[12..head]);
    }
    // Announcements, replies, questions for others and to others are the kernel's.
    for (operation, sender, target) in
        [(1, us, us), (2, router, us), (1, router, [203, 0, 113, 3]), (3, router, us)]
    {
        let other = ethernet(&[], 0x0806, &arp(operation, sender, target));
        pair.expect(Side::Outer, &other, Verdict::NotIp, None);
        assert_eq!(pair.afterwards(Side::Outer, &other), other, "untouched");
    }
    pair.expect(Side::Outer, &request(&[])[..41], Verdict::NotIp, None);
    pair.retell(shared(Resolution::Silent));
    pair.expect(Side::Outer, &request(&[]), Verdict::ArpSilent, None);
    pair.retell(World { macs: vec![OWN_MAC], ..shared(Resolution::SharedMac) });
    pair.expect(Side::Outer, &request(&[]), Verdict::ArpSilent, None);
    pair.retell(shared(Resolution::Kernel));
    pair.expect(Side::Outer, &request(&[]), Verdict::NotIp, None);
}

#[test]
fn neighbour_solicitations_for_a_shared_address_get_the_shared_mac_address_or_nothing() {
    if !privileged("neighbour_solicitations_for_a_shared_address_get_the_shared_mac_address_or_nothing") {
        return;
    }
    let (router, us) = (address("2001:db8::1"), address("2001:db8::2"));
    let group = address("ff02::1:ff00:2");
    let mut pair = Pair::new(shared(Resolution::SharedMac));
    for (side, destination, padding) in
        [(Side::Outer, group, 0), (Side::Outer, us, 20), (Side::Inner, group, 0)]
    {
        let question = [solicitation(router, destination, us, true), vec![0; padding]].concat();
        let sent = pair.sent_back(side, &question, Verdict::NdAnswered);
        assert_eq!(sent[..12], [SENDER, OWN_MAC.0].concat());
        let (IpAddr::V6(source), IpAddr::V6(asked)) = (router, us) else { unreachable!("IPv6") };
        assert_eq!((&sent[22..38], &sent[38..54]), (&asked.octets()[..], &source.octets()[..]));
        assert_eq!((&sent[18..20], sent[20], sent[21]), (&[0, 32][..], 58, 255));
        let message = &sent[54..86];
        assert_eq!((message[0], message[1], message[4]), (136, 0, 0xe0));
        assert_eq!(
            (&message[8..24], &message[24..32]),
            (&asked.octets()[..], &[&[2, 1][..], &SHARED_MAC.0].concat()[..])
        );
        let pseudo = checksum::pseudo_header(asked.to_bits(), source.to_bits(), 58, 32);
        assert_eq!(
            checksum::fold(pseudo + u64::from(checksum::sum(message))),
            0xffff,
            "its checksum is wrong"
        );
    }
    // Who does not say where he is, or who he is, gets no answer of the kernel's either.
    for silent in [solicitation(router, us, us, false), solicitation(address("::"), group, us, true)] {
        pair.expect(Side::Outer, &silent, Verdict::NdSilent, None);
    }
    let other = solicitation(router, address("ff02::1:ff00:3"), address("2001:db8::3"), true);
    pair.expect(Side::Outer, &other, Verdict::NotOurs, None);
    let mut forwarded = solicitation(router, us, us, true);
    forwarded[21] = 254;
    pair.expect(Side::Outer, &forwarded, Verdict::Local, None);
    let question = solicitation(router, group, us, true);
    pair.retell(shared(Resolution::Silent));
    pair.expect(Side::Outer, &question, Verdict::NdSilent, None);
    pair.retell(shared(Resolution::Kernel));
    pair.expect(Side::Outer, &question, Verdict::NotOurs, None);
}

/// The kernel takes what comes under a multicast MAC address for multicast, and answers no TCP of that.
#[test]
fn what_the_kernel_gets_under_the_shared_mac_address_is_addressed_to_our_own() {
    if !privileged("what_the_kernel_gets_under_the_shared_mac_address_is_addressed_to_our_own") {
        return;
    }
    let mut pair = Pair::with_socket(shared(Resolution::SharedMac));
    let to = |mac: Mac, packet: Vec<u8>| [&mac.0[..], &packet[6..]].concat();
    let ping = frame(peer(), ours(), ICMP, &icmp(8, &[0; 8]));
    let message = frame(peer(), ours(), UDP, &udp(500, 500, &ike(1, 0x2a00_0000_0000_0001, 0x20, 0x08)));
    for (packet, verdict) in [(ping, Verdict::Local), (message, Verdict::IkeOwned)] {
        let shared = to(SHARED_MAC, packet.clone());
        assert_eq!(pair.verdict(Side::Outer, &shared).verdict, verdict);
        assert_eq!(pair.afterwards(Side::Outer, &shared), packet);
        let broadcast = to(Mac([0xff; 6]), packet);
        assert_eq!(pair.afterwards(Side::Outer, &broadcast), broadcast, "another address stays");
    }
    let sealed = to(SHARED_MAC, frame(peer(), ours(), ESP, &esp(0x2a00_0001)));
    pair.expect(Side::Outer, &sealed, Verdict::EspOwned, Some(0x2a));
}

/// The MAC address of an interface, or what a neighbour is known under.
fn mac_in(lab: &Lab, name: &str, arguments: &[&str], before: &str) -> String {
    let out = Command::new("ip").args(["-n", &lab.namespace(name), "-o"]).args(arguments).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != before);
    words.nth(1).unwrap_or_else(|| panic!("no {before} in {text}")).to_owned()
}

/// A host that knows nothing of clusters asks for the address, gets the shared MAC address, and talks to the kernel.
#[test]
fn a_host_reaches_the_kernel_under_the_shared_mac_address() {
    if !privileged("a_host_reaches_the_kernel_under_the_shared_mac_address") {
        return;
    }
    let lab = Lab::new();
    let mut attachment = lab.within("gw", || Attachment::install(&lab.options())).unwrap();
    // What XDP sends out again arrives at a veth's other end only if that has a program too: here another filter.
    let host_options = XdpOptions {
        inner: None,
        pin_directory: lab.pin_directory().with_file_name("host"),
        outer_addresses: vec![address("203.0.113.1")],
        inner_addresses: vec![address("203.0.113.1")],
        ..lab.options()
    };
    let _host = lab.within("wan", || Attachment::install(&host_options)).unwrap();
    // Or the kernel asks for the host, and names its own MAC address.
    let host = mac_in(&lab, "wan", &["link", "show", "wan0"], "link/ether");
    lab.ip_in("gw", &["neigh", "replace", "203.0.113.1", "lladdr", &host, "dev", "wan0", "nud", "permanent"]);
    let own = mac_in(&lab, "gw", &["link", "show", "wan0"], "link/ether").parse().unwrap();
    attachment.set_own_macs(Side::Outer, &[own, SHARED_MAC]).unwrap();
    attachment.set_shared(Resolution::SharedMac, [&[ours()], &[]]).unwrap();
    lab.ip_in("wan", &["neigh", "flush", "dev", "wan0"]);
    let ping = |attachment: &Attachment| {
        let namespace = lab.namespace("wan");
        let arguments =
            ["netns", "exec", &namespace, "ping", "-q", "-c", "3", "-i", "0.2", "-W", "2", "203.0.113.2"];
        let answered = Command::new("ip").args(arguments).output().unwrap().status.success();
        assert!(answered, "{:?}", attachment.verdicts().unwrap());
    };
    ping(&attachment);
    let known = mac_in(&lab, "wan", &["neigh", "show", "203.0.113.2"], "lladdr");
    assert_eq!(known, SHARED_MAC.to_string());
    // Taken over by another filter, it is still shared.
    drop(attachment);
    let attachment = lab.within("gw", || Attachment::install(&lab.options())).unwrap();
    assert_eq!(attachment.shared_mac(Side::Outer).unwrap(), Some(SHARED_MAC));
    ping(&attachment);
    lab.within("wan", || Attachment::uninstall(&host_options.pin_directory)).unwrap();
    // The card lets frames for it in as long as somebody wants them.
    let groups = || {
        let out =
            Command::new("ip").args(["-n", &lab.namespace("gw"), "maddress", "show", "dev", "wan0"]).output();
        String::from_utf8(out.unwrap().stdout).unwrap()
    };
    let group = Mac([1, 0, 0x5e, 0, 0x53, 1]);
    let membership = lab.within("gw", || Membership::join("wan0", group)).unwrap();
    assert!(groups().contains(&group.to_string()), "{}", groups());
    drop(membership);
    assert!(!groups().contains(&group.to_string()), "{}", groups());
}
