//! Packets that no honest sender makes, and gateways that let all in.

use std::sync::Arc;

use baton_dataplane::crypto::{Backend, Engine, Job};
use baton_dataplane::packet::checksum::checksum;
use baton_dataplane::spd::{Action, Policy, Spd};
use baton_sad::{AddressRange, Direction, Sa, Selector, Selectors};

use crate::ETH;
use crate::common::{self, Gateway, Packet, Setup, pair};

/// All of IPv4.
pub(crate) fn everything() -> Selector {
    let all = AddressRange::new([0; 4].into(), [255; 4].into()).unwrap();
    Selector::addresses(all, all)
}

/// Puts the checksum of an IPv4 header right whose first octet is there.
pub(crate) fn correct(packet: &mut [u8]) {
    let header = (usize::from(packet[0] & 15) * 4).clamp(20, packet.len());
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// Lets SAs and policies of the first tunnel take any IPv4 packet.
pub(crate) fn widen(gateway: &Gateway, setup: &Setup) {
    for direction in [Direction::Inbound, Direction::Outbound] {
        let mut sa = common::sa(setup, gateway.end, direction, 0);
        sa.selectors = Selectors::new(vec![everything()]).unwrap();
        gateway.table.update(&sa).unwrap();
    }
    let action = Action::Protect { reqid: common::REQID };
    let policy = Policy { name: "all".into(), priority: 0, selector: everything(), action };
    gateway.spd.store(Arc::new(Spd::new(vec![policy])));
}

/// A pair whose selectors and policies are for any IPv4 packet.
pub(crate) fn open_pair() -> [Gateway; 2] {
    let setup = Setup::default();
    let gateways = pair(&setup);
    for gateway in &gateways {
        widen(gateway, &setup);
    }
    gateways
}

/// A frame for B with this payload, TFC padding left out, authentic under A's key.
pub(crate) fn authentic(setup: &Setup, sequence: u32, payload: &[u8], next_header: u8) -> Vec<u8> {
    let sa = common::sa(setup, 0, Direction::Outbound, 0);
    let header = [sa.spi.to_be_bytes(), sequence.to_be_bytes()].concat();
    let pad = (payload.len() + 2).next_multiple_of(4) - payload.len() - 2;
    let trailer: Vec<u8> = (1..=pad as u8).chain([pad as u8, next_header]).collect();
    let mut esp = [&header[..], &[0; 8], payload, &trailer, &[0; 16]].concat();
    let mut engine = Engine::new(Backend::RustCrypto).unwrap();
    let key = engine.prepare(sa.suite, sa.extended_sequence, sa.key.expose()).unwrap();
    engine.seal(&mut [Job::to_seal(&key, u64::from(sequence), u64::from(sequence), &mut esp)]);
    outer_frame(&sa, &esp)
}

fn outer_frame(sa: &Sa, esp: &[u8]) -> Vec<u8> {
    let headers = if sa.source.is_ipv6() { 40 } else { 20 };
    let words = [4500, 4500, 8 + esp.len() as u16, 0];
    let udp: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    let (protocol, udp) = if sa.encapsulation.is_some() { (17, udp) } else { (50, vec![]) };
    let length = (headers + udp.len() + esp.len()) as u16;
    let (source, destination) = (sa.source, sa.destination);
    let outer = Packet { source, destination, protocol, ..Packet::from(0, length) };
    [&outer.frame()[..ETH + headers], &udp, esp].concat()
}

/// An IPv4 packet with these options.
pub(crate) fn with_options(packet: &Packet, options: &[u8]) -> Vec<u8> {
    let plain = packet.octets();
    let mut octets = [&plain[..20], options, &plain[20..]].concat();
    octets[0] += (options.len() / 4) as u8;
    let length = octets.len() as u16;
    octets[2..4].copy_from_slice(&length.to_be_bytes());
    correct(&mut octets);
    octets
}
