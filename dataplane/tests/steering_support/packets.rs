//! Packets: hand-made and random ones of every kind that the filter knows, and of some that it does not.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::World;
use super::random::Random;
use baton_dataplane::next_hop::Mac;
use baton_dataplane::steering::{HashMode, LocalRule, Spi};
use baton_dataplane::xdp::Resolution;
use baton_sad::{AddressRange, Selector};

/// Where the frames of these tests go.
pub const OWN_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// What several nodes share.
pub const SHARED_MAC: Mac = Mac([1, 0, 0x5e, 0, 0, 1]);

pub const ESP: u8 = 50;
pub const UDP: u8 = 17;
pub const ICMP: u8 = 1;
pub const ICMPV6: u8 = 58;

/// What stands in front of an IP packet: addresses, then `tags`, then the protocol's number.
pub fn ethernet(tags: &[u16], protocol: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [OWN_MAC.0, [2, 0, 0, 0, 0, 2]].concat();
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 10]);
    }
    frame.extend(protocol.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An IPv4 or IPv6 packet in a frame.
pub fn frame(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let packet = ip(source, destination, protocol, payload);
    ethernet(&[], if source.is_ipv4() { 0x0800 } else { 0x86dd }, &packet)
}

pub fn ip(source: IpAddr, destination: IpAddr, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            ipv4(source.octets(), destination.octets(), protocol, 0, &[], payload)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            ipv6(source.octets(), destination.octets(), protocol, payload)
        }
        _ => panic!("a packet has one family"),
    }
}

/// `fragment` is the whole field: flags and offset.
pub fn ipv4(s: [u8; 4], d: [u8; 4], protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header = 20 + options.len();
    let mut packet = vec![0x40 | (header / 4) as u8, 0];
    packet.extend(((header + payload.len()) as u16).to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(s);
    packet.extend(d);
    packet.extend(options);
    packet.extend(payload);
    packet
}

pub fn ipv6(s: [u8; 16], d: [u8; 16], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([protocol, 64]);
    packet.extend(s);
    packet.extend(d);
    packet.extend(payload);
    packet
}

/// An IPv6 extension header of `8 * (extra + 1)` octets.
pub fn extension(next: u8, extra: u8) -> Vec<u8> {
    let mut header = vec![0; 8 * (usize::from(extra) + 1)];
    header[0] = next;
    header[1] = extra;
    header
}

/// An IPv6 fragment header; `field` holds offset and flag.
pub fn fragment_header(next: u8, field: u16) -> Vec<u8> {
    let [high, low] = field.to_be_bytes();
    vec![next, 0, high, low, 0, 0, 0, 9]
}

pub fn esp(spi: u32) -> Vec<u8> {
    [&spi.to_be_bytes()[..], &[0, 0, 0, 1], &[0xa5; 40]].concat()
}

pub fn udp(source: u16, destination: u16, payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    [&source.to_be_bytes()[..], &destination.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

/// An IKE header without payloads.
pub fn ike(initiator: u64, responder: u64, version: u8, flags: u8) -> Vec<u8> {
    [
        &initiator.to_be_bytes()[..],
        &responder.to_be_bytes(),
        &[33, version, 34, flags],
        &[0; 4],
        &[0, 0, 0, 28],
    ]
    .concat()
}

pub fn icmp(kind: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, 4, 0, 0, 0, 0, 5, 0x78][..], quoted].concat()
}

/// An ARP request for `target` (RFC 826).
pub fn arp(operation: u8, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let (mac, nobody) = (&[2, 0, 0, 0, 0, 2][..], &[0; 6]);
    [&[0, 1, 8, 0, 6, 4, 0, operation][..], mac, &sender, nobody, &target].concat()
}

/// A neighbour solicitation (RFC 4861 section 4.3) with its sender's MAC address, or without.
pub fn solicitation(source: IpAddr, destination: IpAddr, target: IpAddr, with_mac: bool) -> Vec<u8> {
    let IpAddr::V6(target) = target else { panic!("an IPv6 address") };
    let option: &[u8] = if with_mac { &[1, 1, 2, 0, 0, 0, 0, 2] } else { &[] };
    let message = [&[135, 0, 0, 0, 0, 0, 0, 0][..], &target.octets(), option].concat();
    let mut packet = ip(source, destination, ICMPV6, &message);
    packet[7] = 255;
    ethernet(&[], 0x86dd, &packet)
}

/// Somebody asks for a MAC address, more or less rightly.
fn random_question(random: &mut Random, world: &World) -> Vec<u8> {
    let mut frame = if random.one_in(2) {
        let (sender, target) = (random_v4(random, world), random_v4(random, world));
        ethernet(&[], 0x0806, &arp(random.pick(&[1, 1, 1, 2]), sender, target))
    } else {
        let (source, target) = (random_v6(random, world), random_v6(random, world));
        let source = if random.one_in(6) { [0; 16] } else { source };
        solicitation(source.into(), random_v6(random, world).into(), target.into(), random.one_in(2))
    };
    damage(random, &mut frame, 14);
    frame
}

/// A frame that somebody might send, more or less whole.
pub fn random_frame(random: &mut Random, world: &World) -> Vec<u8> {
    if random.one_in(12) {
        return random_question(random, world);
    }
    let v6 = random.one_in(3);
    let mut tags = Vec::new();
    while tags.len() < 3 && random.one_in(4) {
        tags.push(random.pick(&[0x8100, 0x88a8]));
    }
    let protocol = if random.one_in(30) {
        random.pick(&[0x0806, 0x88cc, 0x0800, 0x86dd, 0x0026, 0x8847])
    } else if v6 {
        0x86dd
    } else {
        0x0800
    };
    let mut packet = if v6 { random_ipv6(random, world) } else { random_ipv4(random, world) };
    if random.one_in(3) {
        packet[if v6 { 7 } else { 8 }] = 255;
    }
    let mut frame = ethernet(&tags, protocol, &packet);
    if random.one_in(6) {
        let other = [1, 0, 0x5e, 0, 0, 1];
        frame[..6].copy_from_slice(&random.pick(&[[0; 6], [0xff; 6], other, [2, 0, 0, 0, 0, 3]]));
    }
    damage(random, &mut frame, 14 + 4 * tags.len());
    frame
}

/// Padding, truncation, a changed octet in the headers: each now and then.
fn damage(random: &mut Random, frame: &mut Vec<u8>, header: usize) {
    if random.one_in(5) {
        let padding = random.below(40);
        frame.extend(random.octets(padding));
    }
    if random.one_in(6) {
        frame.truncate(random.below(frame.len()).max(14));
    }
    if random.one_in(6) {
        let at = random.below(frame.len().min(header + 80));
        frame[at] = random.next() as u8;
    }
    if random.one_in(20) && frame.len() > header {
        frame[header] = random.next() as u8;
    }
}

fn random_ipv4(random: &mut Random, world: &World) -> Vec<u8> {
    let (source, destination) = (random_v4(random, world), random_v4(random, world));
    let protocol = random_protocol(random, ICMP);
    let fragment = match random.below(8) {
        0 => 0x2000,
        1 => random.next() as u16 & 0x3fff,
        2 => 0x4000,
        _ => 0,
    };
    let options = if random.one_in(5) { 4 * random.below(11) } else { 0 };
    let (options, payload) = (random.octets(options), random_payload(random, world, protocol, false));
    ipv4(source, destination, protocol, fragment, &options, &payload)
}

fn random_ipv6(random: &mut Random, world: &World) -> Vec<u8> {
    let (source, destination) = (random_v6(random, world), random_v6(random, world));
    let protocol = random_protocol(random, ICMPV6);
    let mut payload = random_payload(random, world, protocol, true);
    let mut next = protocol;
    let count = if random.one_in(2) { 0 } else { random.below(9) };
    for _ in 0..count {
        let (kind, header) = random_extension(random, next);
        payload = [header, payload].concat();
        next = kind;
    }
    ipv6(source, destination, next, &payload)
}

fn random_extension(random: &mut Random, next: u8) -> (u8, Vec<u8>) {
    match random.pick(&[0, 43, 60, 44]) {
        44 => {
            let field = match random.below(3) {
                0 => 0,
                1 => 1,
                _ => random.next() as u16,
            };
            (44, fragment_header(next, field))
        }
        kind => {
            let extra = if random.one_in(6) { random.below(256) } else { random.below(3) };
            (kind, extension(next, extra as u8))
        }
    }
}

fn random_v4(random: &mut Random, world: &World) -> [u8; 4] {
    let ours = |addresses: &[IpAddr]| {
        addresses.iter().find_map(|a| if let IpAddr::V4(a) = a { Some(a.octets()) } else { None })
    };
    match random.below(12) {
        0..=5 => ours(&world.outer).unwrap_or_default(),
        6 => ours(&world.inner).unwrap_or_default(),
        7 => random.pick(&[[224, 0, 0, 5], [255; 4], [239, 1, 2, 3], [240, 0, 0, 1], [223, 255, 255, 255]]),
        8 | 9 => [10, 1, random.pick(&[7, 8]), random.pick(&[9, 10])],
        _ => (random.next() as u32).to_be_bytes(),
    }
}

fn random_v6(random: &mut Random, world: &World) -> [u8; 16] {
    let ours = |addresses: &[IpAddr]| {
        addresses.iter().find_map(|a| if let IpAddr::V6(a) = a { Some(a.octets()) } else { None })
    };
    let mut any = (u128::from(random.next()) << 64 | u128::from(random.next())).to_be_bytes();
    match random.below(12) {
        0..=5 => return ours(&world.outer).unwrap_or_default(),
        6 => return ours(&world.inner).unwrap_or_default(),
        7 => any[..2].copy_from_slice(&random.pick(&[[0xff, 2], [0xfe, 0x80], [0xfe, 0xbf], [0xfe, 0xc0]])),
        8 | 9 => any[..6].copy_from_slice(&[0xfd, 0, 0, 1, 0, random.pick(&[9, 8])]),
        // An IPv4-mapped address must not be taken for IPv4.
        10 => any = std::net::Ipv4Addr::new(10, 1, 7, 9).to_ipv6_mapped().octets(),
        _ => {}
    }
    any
}

fn random_protocol(random: &mut Random, icmp: u8) -> u8 {
    match random.below(16) {
        0..=4 => ESP,
        5..=10 => UDP,
        11..=13 => icmp,
        14 => random.pick(&[6, 6, 6, 1, 58, 51, 4, 41, 59, 89, 132, 135, 136, 33]),
        _ => random.next() as u8,
    }
}

fn random_payload(random: &mut Random, world: &World, protocol: u8, v6: bool) -> Vec<u8> {
    let mut payload = match protocol {
        ESP => esp(random_spi(random, world)),
        UDP => random_udp(random, world),
        ICMP | ICMPV6 => random_icmp(random, world, v6),
        _ if random.one_in(2) => {
            let ports = [random.pick(&[22, 53]), random.next() as u16];
            let [a, b] = if random.one_in(2) { ports } else { [ports[1], ports[0]] };
            [a.to_be_bytes(), b.to_be_bytes()].concat()
        }
        _ => {
            let length = random.below(60);
            random.octets(length)
        }
    };
    if random.one_in(8) {
        payload.truncate(random.below(payload.len() + 1));
    }
    payload
}

fn random_spi(random: &mut Random, world: &World) -> u32 {
    let known: Vec<u32> = world
        .overrides
        .keys()
        .filter_map(|spi| if let Spi::Esp(spi) = spi { Some(*spi) } else { None })
        .collect();
    if random.one_in(3) && !known.is_empty() { random.pick(&known) } else { random.next() as u32 }
}

fn random_ike_spi(random: &mut Random, world: &World) -> u64 {
    let known: Vec<u64> = world
        .overrides
        .keys()
        .filter_map(|spi| if let Spi::Ike(spi) = spi { Some(*spi) } else { None })
        .collect();
    match random.below(3) {
        0 => 0,
        1 if !known.is_empty() => random.pick(&known),
        _ => random.next(),
    }
}

fn random_udp(random: &mut Random, world: &World) -> Vec<u8> {
    let ports = [500, 4500, 4500, 53];
    let (source, destination) = (random.pick(&ports), random.pick(&ports));
    let source = if random.one_in(2) { random.next() as u16 } else { source };
    let content = match random.below(8) {
        0 => vec![0xff],
        1 => vec![random.next() as u8; random.below(5)],
        2 | 3 => esp(random_spi(random, world)),
        4 | 5 if destination == 4500 => [vec![0; 4], random_ike(random, world)].concat(),
        _ => random_ike(random, world),
    };
    let mut datagram = udp(source, destination, &content);
    if random.one_in(8) {
        let length = random.pick(&[0, 7, 8, 9, 12, 20, 35, 36, 40, 100, 65535]);
        datagram[4..6].copy_from_slice(&u16::to_be_bytes(length));
    }
    datagram
}

fn random_ike(random: &mut Random, world: &World) -> Vec<u8> {
    let version = random.pick(&[0x20, 0x20, 0x20, 0x21, 0x10, 0x30]);
    let flags = random.pick(&[0x08, 0x20, 0x28, 0x00, 0xff]);
    ike(random_ike_spi(random, world), random_ike_spi(random, world), version, flags)
}

fn random_icmp(random: &mut Random, world: &World, v6: bool) -> Vec<u8> {
    let kind = random.pick(&[0, 1, 2, 3, 4, 5, 8, 11, 12, 128, 132, 133, 135, 137, 138]);
    let quoted = match random.below(4) {
        0 => esp(1),
        1 => udp(random.pick(&[4500, 500]), 4500, &esp(random.pick(&[0, 1, 0x0100_0000]))),
        2 => random_udp(random, world),
        _ => random.octets(20),
    };
    let protocol = random.pick(&[ESP, UDP, UDP, 6]);
    let packet = if v6 {
        let (mut next, mut payload) = (protocol, quoted);
        for _ in 0..random.pick(&[0, 0, 1, 2, 6, 7]) {
            let (kind, header) = random_extension(random, next);
            payload = [header, payload].concat();
            next = kind;
        }
        ipv6([1; 16], [2; 16], next, &payload)
    } else {
        let options = if random.one_in(4) { 4 * random.below(11) } else { 0 };
        let fragment = random.pick(&[0, 0, 0, 0x2000, 0x4000, 1, 0x1fff]);
        ipv4([1; 4], [2; 4], protocol, fragment, &vec![0; options], &quoted)
    };
    let keep = if random.one_in(3) { random.below(packet.len() + 1) } else { packet.len() };
    icmp(kind, &packet[..keep])
}

/// Another ownership, other overrides, another hash.
pub fn random_world(random: &mut Random) -> World {
    let mut world = World {
        mode: random.pick(&HashMode::ALL),
        seed: random.next() as u32,
        owned: [(); 4].map(|()| random.next()),
        ..World::default()
    };
    world.macs = match random.below(6) {
        0 => vec![],
        1 => vec![Mac([1, 0, 0x5e, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 9]), Mac([6; 6]), OWN_MAC],
        _ => world.macs,
    };
    if random.one_in(3) {
        for segment in 0..256 {
            let mac = Mac([2, 0, 0, 0, 1, segment as u8]);
            let _ = [0, 1].map(|side| {
                if random.one_in(2) {
                    world.owners.macs[side][segment] = mac;
                }
            });
        }
        if random.one_in(4) {
            world.owners.members = vec![Mac([2, 0, 0, 0, 0, 2]), Mac([2, 0, 0, 0, 0, 3])];
        }
    }
    if random.one_in(2) {
        world.resolution = random.pick(&[Resolution::SharedMac, Resolution::Silent]);
        world.shared.clone_from(&world.outer);
        if world.resolution == Resolution::SharedMac && random.one_in(2) {
            world.macs = vec![OWN_MAC, SHARED_MAC];
        }
    }
    for _ in 0..random.below(8) {
        world.overrides.insert(Spi::Esp(random.next() as u32), random.next() as u8);
        world.overrides.insert(Spi::Ike(random.next()), random.next() as u8);
        // An ESP SPI and an IKE SPI of the same number are two things.
        let both = random.next() as u32;
        world.overrides.insert(Spi::Esp(both), random.next() as u8);
        world.overrides.insert(Spi::Ike(both.into()), random.next() as u8);
    }
    if random.one_in(3) {
        world.protected.push(("0.0.0.0/0".parse().expect("a prefix"), random.next() as u8));
    }
    if random.one_in(3) {
        world.protected.push(("::/0".parse().expect("a prefix"), random.next() as u8));
    }
    if random.one_in(3) {
        world.protected.retain(|_| random.one_in(2));
    }
    let everything = ["0.0.0.0/0", "::/0"];
    for text in
        ["10.1.7.0/24", "10.0.0.0/8", "fd00:1::/32", "2000::/3", "128.0.0.0/1"].into_iter().chain(everything)
    {
        if random.one_in(3) {
            world.bypassed.push((text.parse().expect("a prefix"), random.next() as u8));
        }
    }
    let rules = random.pick(&[0, 1, 3, 20, 64]);
    world.rules = (0..rules).map(|_| random_rule(random)).collect();
    world
}

/// A rule that packets of these tests may meet; some that none can.
fn random_rule(random: &mut Random) -> LocalRule {
    let v6 = random.one_in(2);
    let address = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (local, remote) = if v6 {
        (
            ["::", "2001:db8::1", "2001:db8::2", "2001:db8::2", "ff02::", "ffff::"],
            ["::", "fd00:1:8::", "fd00:1:9::", "fd00:2::"],
        )
    } else {
        (
            ["0.0.0.0", "203.0.113.1", "203.0.113.2", "203.0.113.2", "224.0.0.0", "255.255.255.255"],
            ["0.0.0.0", "10.1.7.9", "10.1.7.10", "10.1.8.9"],
        )
    };
    let last = address(if v6 { "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" } else { "255.255.255.255" });
    let mut range = |ends: &[&str]| {
        let (a, b) = (address(random.pick(ends)), address(random.pick(ends)));
        match random.below(3) {
            0 => AddressRange::new(a.min(b), a.max(b)),
            1 => AddressRange::new(a, last),
            _ => Ok(AddressRange::single(a)),
        }
        .expect("a range")
    };
    let (local, remote) = (range(&local), range(&remote));
    let protocol =
        if random.one_in(3) { None } else { Some(random.pick(&[6, 17, 1, 58, 135, 132, 33, 136, 89, 4])) };
    let (local_ports, remote_ports) = (random_ports(random), random_ports(random));
    LocalRule {
        selector: Selector { local, remote, protocol, local_ports, remote_ports },
        permits: random.one_in(2),
    }
}

fn random_ports(random: &mut Random) -> RangeInclusive<u16> {
    let (a, b) = (random.next() as u16, random.pick(&[22, 53, 500, 4500, 0x0800, 0x8000, 0x8500, 0]));
    match random.below(6) {
        0..=2 => 0..=u16::MAX,
        3 => a.min(b)..=a.max(b),
        4 => b..=b | 0xff,
        _ => Selector::OPAQUE,
    }
}
