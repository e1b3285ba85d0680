//! Frames by which a node tells its link that an address is now at its MAC address: ARP announcements (RFC 5227 section
//! 3) and unsolicited neighbour advertisements (RFC 4861 section 7.2.6).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ethernet;
use super::{checksum, ipv6};
use crate::next_hop::{Link, Mac};

const ARP: u16 = 0x0806;
const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 136;
/// Router, override (RFC 4861 section 4.4).
const FLAGS: u8 = 0xa0;
const TARGET_LINK_LAYER_ADDRESS: u8 = 2;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

/// ARP's operations: neighbours differ in which of the two they heed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A request, or a neighbour advertisement.
    Request,
    /// A reply; IPv6 has but one form.
    Reply,
}

/// The frame that says that `address` is at `mac`; `None` for the second form of an IPv6 address.
pub fn announcement(address: IpAddr, mac: Mac, form: Form) -> Option<Vec<u8>> {
    match (address, form) {
        (IpAddr::V4(address), form) => Some(arp(address, mac, form)),
        (IpAddr::V6(address), Form::Request) => Some(advertisement(address, mac)),
        (IpAddr::V6(_), Form::Reply) => None,
    }
}

fn framed(destination: [u8; 6], source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER];
    let link = Link { destination: Mac(destination), source, vlan: None };
    // There is just the room that an untagged header takes.
    let _ = ethernet::emit_before(&mut frame, ethernet::HEADER, &link, ethertype);
    frame.extend(payload);
    frame
}

fn arp(address: Ipv4Addr, mac: Mac, form: Form) -> Vec<u8> {
    let operation = if form == Form::Request { 1 } else { 2 };
    let target = if form == Form::Request { [0; 6] } else { mac.0 };
    let ip = address.octets();
    let message = [&[0, 1, 8, 0, 6, 4, 0, operation][..], &mac.0, &ip, &target, &ip].concat();
    framed([0xff; 6], mac, ARP, &message)
}

fn advertisement(address: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let mut message = [&[ADVERTISEMENT, 0, 0, 0, FLAGS, 0, 0, 0][..], &address.octets()].concat();
    message.extend([TARGET_LINK_LAYER_ADDRESS, 1]);
    message.extend(mac.0);
    let pseudo = checksum::pseudo_header(address.to_bits(), ALL_NODES.to_bits(), ICMPV6, message.len());
    let sum = !checksum::fold(pseudo + u64::from(checksum::sum(&message)));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = (message.len() as u16).to_be_bytes();
    let mut packet = Vec::with_capacity(ipv6::HEADER + message.len());
    packet.extend([0x60, 0, 0, 0, length[0], length[1], ICMPV6, 255]);
    packet.extend(address.octets());
    packet.extend(ALL_NODES.octets());
    packet.extend(message);
    framed([0x33, 0x33, 0, 0, 0, 1], mac, ethernet::IPV6, &packet)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0x5e, 0, 0x53, 1]);

    #[test]
    fn an_ipv4_address_is_announced_in_both_forms() {
        let address = IpAddr::from([192, 0, 2, 7]);
        let request = announcement(address, MAC, Form::Request).unwrap();
        let expected = [
            &[0xff; 6][..],
            &MAC.0,
            &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
            &MAC.0,
            &[192, 0, 2, 7],
            &[0; 6],
            &[192, 0, 2, 7],
        ];
        assert_eq!(request, expected.concat());
        let reply = announcement(address, MAC, Form::Reply).unwrap();
        assert_eq!((reply[21], &reply[32..38]), (2, &MAC.0[..]));
        assert_eq!(reply.len(), 42);
    }

    #[test]
    fn an_ipv6_address_is_announced_to_all_nodes_with_a_right_checksum() {
        let address: IpAddr = "2001:db8::7".parse().unwrap();
        let frame = announcement(address, MAC, Form::Request).unwrap();
        assert_eq!(&frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        let IpAddr::V6(source) = address else { unreachable!("given") };
        let message = &frame[54..];
        let pseudo = checksum::pseudo_header(source.to_bits(), ALL_NODES.to_bits(), 58, message.len());
        assert_eq!(checksum::fold(pseudo + u64::from(checksum::sum(message))), 0xffff);
        assert_eq!((message[0], message[4], &message[26..32]), (136, 0xa0, &MAC.0[..]));
        assert_eq!((frame[20], frame[21], frame.len()), (58, 255, 86));
        assert_eq!(announcement(address, MAC, Form::Reply), None);
    }
}
