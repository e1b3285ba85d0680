//! The capture tap: copies of packets for `dpctl capture`, at the price of one relaxed load while nobody looks.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use crossbeam::queue::ArrayQueue;

use crate::io::{Medium, Side};
use crate::packet::esp::EspHeader;
use crate::packet::ethernet::{self, EthernetHeader};
use crate::packet::ip::IpHeader;
use crate::packet::ipv4::ESP;

/// Packets that wait for the reader at most; more are lost and counted.
const BACKLOG: usize = 4096;

/// Which packets are wanted; an absent field wants all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only this side: outer is encrypted, inner decrypted.
    pub side: Option<Side>,
    /// Source or destination address.
    pub host: Option<IpAddr>,
    /// ESP with this SPI.
    pub spi: Option<u32>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// Source or destination port.
    pub port: Option<u16>,
}

impl Filter {
    /// Whether this frame is wanted. What does not parse matches no address, SPI, protocol or port.
    pub fn matches(&self, side: Side, frame: &[u8]) -> bool {
        let wants_header =
            self.host.is_some() || self.spi.is_some() || self.protocol.is_some() || self.port.is_some();
        self.side.is_none_or(|wanted| wanted == side)
            && (!wants_header || self.matches_header(frame).unwrap_or(false))
    }

    fn matches_header(&self, frame: &[u8]) -> Option<bool> {
        let packet = frame.get(EthernetHeader::parse(frame).ok()?.length..)?;
        let header = IpHeader::parse(packet).ok()?;
        let flow = header.flow(packet);
        let spi = || {
            let esp = EspHeader::parse(header.payload(packet)).ok();
            esp.filter(|_| header.protocol == ESP).map(|esp| esp.spi)
        };
        Some(
            self.host.is_none_or(|host| host == flow.source() || host == flow.destination())
                && self.protocol.is_none_or(|protocol| protocol == flow.protocol())
                && self.port.is_none_or(|port| flow.ports().is_some_and(|(a, b)| a == port || b == port))
                && self.spi.is_none_or(|wanted| spi() == Some(wanted)),
        )
    }
}

/// One copied packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// The side on which it was seen.
    pub side: Side,
    /// When.
    pub at: SystemTime,
    /// The frame from its Ethernet header on.
    pub octets: Box<[u8]>,
}

/// Shared by all workers and the control thread. One capture runs at a time.
#[derive(Debug)]
pub struct Tap {
    on: AtomicBool,
    /// By side: its packets begin with the IP header ([`Medium::Ip`]).
    bare: [AtomicBool; 2],
    /// Somebody captures, or is about to.
    taken: AtomicBool,
    filter: ArcSwap<Filter>,
    queue: ArrayQueue<Captured>,
    lost: AtomicU64,
}

impl Default for Tap {
    fn default() -> Self {
        Self {
            on: AtomicBool::new(false),
            bare: Default::default(),
            taken: AtomicBool::new(false),
            filter: ArcSwap::from_pointee(Filter::default()),
            queue: ArrayQueue::new(BACKLOG),
            lost: AtomicU64::new(0),
        }
    }
}

impl Tap {
    /// Says what the packets of a side begin with; an Ethernet header if nobody says.
    pub fn set_medium(&self, side: Side, medium: Medium) {
        self.bare[side.index()].store(medium == Medium::Ip, Ordering::Relaxed);
    }

    /// Starts a capture. Returns `false`, and changes nothing, if one runs already.
    pub fn start(&self, filter: Filter) -> bool {
        if self.taken.swap(true, Ordering::AcqRel) {
            return false;
        }
        while self.queue.pop().is_some() {}
        self.lost.store(0, Ordering::Relaxed);
        self.filter.store(std::sync::Arc::new(filter));
        self.on.store(true, Ordering::Release);
        true
    }

    /// Ends the capture.
    pub fn stop(&self) {
        self.on.store(false, Ordering::Release);
        while self.queue.pop().is_some() {}
        self.taken.store(false, Ordering::Release);
    }

    /// Whether a capture runs.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// Offers a frame; the only cost while off is the load of one flag. Copying allocates, which is what a
    /// capture costs while it runs; it never blocks.
    #[inline]
    pub fn offer(&self, side: Side, frame: &[u8]) {
        if self.is_on() {
            self.copy(side, frame);
        }
    }

    #[cold]
    fn copy(&self, side: Side, frame: &[u8]) {
        let is_bare = self.bare[side.index()].load(Ordering::Relaxed);
        let octets = if is_bare { with_ethernet_header(frame) } else { frame.into() };
        if !self.filter.load().matches(side, &octets) {
            return;
        }
        let captured = Captured { side, at: SystemTime::now(), octets };
        if self.queue.push(captured).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The oldest packet not read yet.
    pub fn next(&self) -> Option<Captured> {
        self.queue.pop()
    }

    /// Packets of this capture that the reader was too slow for.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// A bare IP packet behind a header without addresses: a capture file has one link type for all its packets.
fn with_ethernet_header(packet: &[u8]) -> Box<[u8]> {
    let is_ipv6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let kind = if is_ipv6 { ethernet::IPV6 } else { ethernet::IPV4 };
    [&[0; 12][..], &kind.to_be_bytes(), packet].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ipv6::Ipv6Template;

    #[test]
    fn filters_see_both_families() {
        let hosts = ["2001:db8::1", "2001:db8::2"].map(|host| host.parse().unwrap());
        let header = Ipv6Template::new(hosts[0], hosts[1], ESP, 64).emit(8, 0, 0);
        let frame = [&[0; 12][..], &[0x86, 0xdd], &header, &[0x2a, 0, 0, 1, 0, 0, 0, 1]].concat();
        let matches = |filter: Filter| filter.matches(Side::Outer, &frame);
        for host in hosts {
            assert!(matches(Filter { host: Some(host.into()), ..Filter::default() }));
        }
        assert!(matches(Filter { spi: Some(0x2a00_0001), protocol: Some(ESP), ..Filter::default() }));
        assert!(!matches(Filter { spi: Some(0x2a00_0002), ..Filter::default() }));
        assert!(!matches(Filter { host: Some("192.0.2.1".parse().unwrap()), ..Filter::default() }));
        assert!(!matches(Filter { port: Some(4500), ..Filter::default() }));
    }

    #[test]
    fn bare_packets_are_filtered_and_get_a_header() {
        let hosts = ["2001:db8::1", "2001:db8::2"].map(|host| host.parse().unwrap());
        let packet = [&Ipv6Template::new(hosts[0], hosts[1], ESP, 64).emit(8, 0, 0)[..], &[7; 8]].concat();
        let tap = Tap::default();
        tap.set_medium(Side::Inner, Medium::Ip);
        assert!(tap.start(Filter { host: Some(hosts[1].into()), ..Filter::default() }));
        tap.offer(Side::Inner, &packet);
        assert_eq!(tap.next().unwrap().octets[..], [&[0; 12][..], &[0x86, 0xdd], &packet].concat());
        tap.offer(Side::Inner, &[]);
        tap.offer(Side::Outer, &packet);
        assert_eq!(tap.next(), None);
    }

    #[test]
    fn captures_only_when_on_and_never_more_than_fits() {
        let tap = Tap::default();
        tap.offer(Side::Outer, &[1]);
        assert_eq!(tap.next(), None);
        assert!(tap.start(Filter { side: Some(Side::Inner), ..Filter::default() }));
        assert!(!tap.start(Filter::default()), "one at a time");
        tap.offer(Side::Outer, &[1]);
        for _ in 0..BACKLOG + 3 {
            tap.offer(Side::Inner, &[2]);
        }
        assert_eq!(tap.lost(), 3);
        assert_eq!(tap.next().unwrap().octets[..], [2]);
        tap.stop();
        assert_eq!(tap.next(), None);
    }
}
