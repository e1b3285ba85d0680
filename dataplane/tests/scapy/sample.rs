//! Packets for ESP to carry, made by scapy.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;

use serde_json::json;

use crate::common::Setup;
use crate::python::Scapy;

/// Many packets for each pair of hosts.
pub struct Samples {
    count: usize,
    packets: HashMap<[IpAddr; 2], Vec<Vec<u8>>>,
}

/// Octets behind the upper layer's header of packet `number`: around the border of one and two cipher blocks, now and
/// then much more.
fn length(number: usize) -> usize {
    if number % 16 == 15 { 180 + number * 7 % 1000 } else { number * 5 % 37 }
}

impl Samples {
    /// So many for each pair.
    pub fn new(count: usize) -> Self {
        Self { count, packets: HashMap::new() }
    }

    /// Some packets from the host behind gateway `end` to the other; after the last one the first comes again.
    pub fn take(&mut self, scapy: &mut Scapy, setup: &Setup, end: usize, some: Range<usize>) -> Vec<Vec<u8>> {
        let ends = [setup.host(end), setup.host(1 - end)];
        let count = self.count;
        let all = self.packets.entry(ends).or_insert_with(|| make(scapy, ends, count));
        some.map(|number| all[number % count].clone()).collect()
    }
}

fn make(scapy: &mut Scapy, [source, destination]: [IpAddr; 2], count: usize) -> Vec<Vec<u8>> {
    let numbers: Vec<_> = (0..count).map(|number| (number, length(number))).collect();
    let question =
        json!({"ask": "packets", "source": source, "destination": destination, "numbers": numbers});
    let packets: Vec<String> = scapy.ask(&question);
    packets.iter().map(|packet| hex::decode(packet).expect("hex")).collect()
}
