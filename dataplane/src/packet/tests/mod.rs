//! Packets for tests: built from parts, and sent by Linux 6.18.

mod chains;
mod errors;
mod in_place;
mod linux;
mod received_errors;
mod upper_layer;

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::checksum;
use super::ipv4::{Ipv4Fields, Ipv4Template};
use super::ipv6::Ipv6Template;

pub(crate) const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 9)];
pub(crate) const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 9)];

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const DESTINATION_OPTIONS: u8 = 60;

/// An IPv4 packet with these options (a multiple of four octets).
pub(crate) fn ipv4(protocol: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let total_length = (20 + options.len() + payload.len()) as u16;
    let fields = Ipv4Fields { total_length, identification: 7, ..Ipv4Fields::default() };
    let mut packet = Ipv4Template::new(V4[0], V4[1], protocol, 64).emit(fields).to_vec();
    packet[0] += (options.len() / 4) as u8;
    packet.extend(options);
    sum_ipv4(&mut packet);
    packet.extend(payload);
    packet
}

/// Puts the right checksum into a header that is alone.
pub(crate) fn sum_ipv4(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = checksum::checksum(header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
}

/// An IPv6 packet with these extension headers (each with its kind; the first octet is filled in here).
pub(crate) fn ipv6(extensions: &[(u8, Vec<u8>)], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let kinds: Vec<u8> = extensions.iter().map(|(kind, _)| *kind).chain([protocol]).collect();
    let mut body = Vec::new();
    for ((_, octets), next) in extensions.iter().zip(&kinds[1..]) {
        body.push(*next);
        body.extend(&octets[1..]);
    }
    body.extend(payload);
    let mut packet = Ipv6Template::new(V6[0], V6[1], kinds[0], 64).emit(body.len() as u16, 0, 0).to_vec();
    packet.extend(body);
    packet
}

/// Options, or a routing header without hops left, of `units` times eight octets.
pub(crate) fn extension(units: u8) -> Vec<u8> {
    let mut octets = vec![0; usize::from(units) * 8];
    octets[1] = units - 1;
    octets
}

/// A fragment header with this offset and flags field.
pub(crate) fn fragment(field: u16) -> Vec<u8> {
    [&[0, 0][..], &field.to_be_bytes(), &[0, 0, 0, 9]].concat()
}

/// A packet of either family with some options or extension headers in an order that is allowed, and its payload.
pub(crate) fn any_packet() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
    let payload = proptest::collection::vec(any::<u8>(), 20..200);
    let parts = (any::<bool>(), 0_usize..=10, proptest::collection::vec(1_u8..4, 4), any::<[bool; 4]>());
    (payload, parts).prop_map(|(payload, (is_ipv6, words, units, present))| {
        let packet = if is_ipv6 {
            let kinds = [HOP_BY_HOP, DESTINATION_OPTIONS, ROUTING, DESTINATION_OPTIONS];
            let extensions: Vec<_> = kinds.into_iter().zip(units).map(|(k, u)| (k, extension(u))).collect();
            let kept = extensions.into_iter().zip(present).filter(|(_, present)| *present).map(|(e, _)| e);
            ipv6(&kept.collect::<Vec<_>>(), super::ipv4::UDP, &payload)
        } else {
            ipv4(super::ipv4::UDP, &vec![1; words * 4], &payload)
        };
        (packet, payload)
    })
}
