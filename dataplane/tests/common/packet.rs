//! Packets of tests.

use std::net::IpAddr;

use baton_dataplane::packet::ipv4::{self, Ipv4Fields, Ipv4Template};
use baton_dataplane::packet::ipv6::Ipv6Template;

use super::HOST;

/// The IP packet of a test.
#[derive(Clone, Debug)]
pub struct Packet {
    pub source: IpAddr,
    pub destination: IpAddr,
    pub protocol: u8,
    pub ttl: u8,
    pub traffic_class: u8,
    pub dont_fragment: bool,
    /// Octets of the IP packet.
    pub length: u16,
}

impl Packet {
    /// From the host behind `end` to the one behind the other.
    pub fn from(end: usize, length: u16) -> Self {
        Self {
            source: HOST[end].into(),
            destination: HOST[1 - end].into(),
            protocol: ipv4::UDP,
            ttl: 64,
            traffic_class: 0,
            dont_fragment: false,
            length,
        }
    }

    /// The packet's octets.
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let fields = Ipv4Fields {
                    total_length: self.length,
                    traffic_class: self.traffic_class,
                    identification: 0x1234,
                    dont_fragment: self.dont_fragment,
                };
                Ipv4Template::new(source, destination, self.protocol, self.ttl).emit(fields).to_vec()
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let template = Ipv6Template::new(source, destination, self.protocol, self.ttl);
                template.emit(self.length - 40, self.traffic_class, 0x12345).to_vec()
            }
            _ => panic!("a packet has addresses of one family"),
        };
        octets.extend((octets.len()..self.length.into()).map(|i| i as u8));
        octets
    }

    /// The packet in an Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        ethernet(&self.octets())
    }
}

/// An untagged frame with this IP packet.
pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&[2, 0, 0, 0, 9, 1, 2, 0, 0, 0, 9, 2], &ethertype[..], packet].concat()
}
