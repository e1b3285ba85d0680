//! Next hops: an immutable snapshot of routes and neighbours per side, and the requests to resolve more.
//!
//! The netlink thread follows the kernel's tables and publishes a new [`NextHops`] after each change; workers
//! only read. A neighbour that is not known yet is asked for through [`ResolveRequests`], and the packets that
//! wait for it are held by the worker, bounded by count and age ([`HeldPackets`]).

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::queue::ArrayQueue;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::io::{Frame, Side};
use crate::prefix::{Prefix, PrefixTable};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, octet) in self.0.iter().enumerate() {
            write!(f, "{}{octet:02x}", if at == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl FromStr for Mac {
    type Err = NotAMac;

    fn from_str(text: &str) -> Result<Self, NotAMac> {
        let refused = || NotAMac(text.to_owned());
        let mut octets = [0; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part =
                parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or_else(refused)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if parts.next().is_some() { Err(refused()) } else { Ok(Self(octets)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = NotAMac;

    fn try_from(text: String) -> Result<Self, NotAMac> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> Self {
        mac.to_string()
    }
}

/// What is no Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is no MAC address; write six octets in hexadecimal, as in 02:00:5e:00:53:01")]
pub struct NotAMac(String);

impl Mac {
    /// Whether it is a group's (IEEE 802, the lowest bit of the first octet): as a frame's source it cannot be.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }
}

/// Everything of an Ethernet header that a next hop decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The neighbour's address.
    pub destination: Mac,
    /// The address of our interface.
    pub source: Mac,
    /// The VLAN to tag with (12 bits), if the interface is a trunk.
    pub vlan: Option<u16>,
}

/// What is known about the way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHop {
    /// Send it so.
    Known(Link),
    /// Routed, but this neighbour (a router, or the destination itself) has no known link address yet.
    Unresolved(IpAddr),
    /// No route on this side.
    None,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The destination is a neighbour itself.
    Direct,
    /// Through this router.
    Router(IpAddr),
    /// Explicitly nowhere (a `prohibit`, `blackhole` or `unreachable` route, or one by another interface).
    Nowhere,
}

/// Routes, neighbours and the interface's own facts, for one side.
#[derive(Clone, Debug, Default)]
pub struct SideHops {
    /// The interface's own address.
    pub mac: Mac,
    /// The interface's MTU: octets of an IP packet.
    pub mtu: u16,
    /// The VLAN that frames of this side carry, if any.
    pub vlan: Option<u16>,
    /// Own IP addresses on this side, IPv4's and IPv6's: the sources of ICMP errors that leave here.
    pub addresses: [Option<IpAddr>; 2],
    routes: PrefixTable<Via>,
    neighbours: HashMap<IpAddr, Mac>,
}

impl SideHops {
    /// The tables of one side. Of two routes to one prefix the first counts, so give them by rising metric.
    pub fn new(mac: Mac, mtu: u16, routes: Vec<(Prefix, Via)>, neighbours: HashMap<IpAddr, Mac>) -> Self {
        Self { mac, mtu, vlan: None, addresses: [None; 2], routes: PrefixTable::new(routes), neighbours }
    }

    fn lookup(&self, destination: IpAddr) -> NextHop {
        let neighbour = match self.routes.lookup(destination) {
            None | Some(Via::Nowhere) => return NextHop::None,
            Some(Via::Direct) => destination,
            Some(Via::Router(router)) => *router,
        };
        match self.neighbours.get(&neighbour) {
            Some(&mac) => NextHop::Known(Link { destination: mac, source: self.mac, vlan: self.vlan }),
            None => NextHop::Unresolved(neighbour),
        }
    }
}

/// An immutable snapshot of both sides. Workers keep answers for as long as its generation stays the same.
#[derive(Clone, Debug)]
pub struct NextHops {
    sides: [SideHops; 2],
    local: Vec<IpAddr>,
    generation: u64,
}

impl Default for NextHops {
    fn default() -> Self {
        Self::new(SideHops::default(), SideHops::default())
    }
}

impl NextHops {
    /// A new snapshot; its generation is unique in this process.
    pub fn new(outer: SideHops, inner: SideHops) -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        Self {
            sides: [outer, inner],
            local: Vec::new(),
            generation: GENERATION.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The same, with all addresses of this host, on whatever interface, in rising order.
    #[must_use]
    pub fn with_local_addresses(mut self, local: Vec<IpAddr>) -> Self {
        self.local = local;
        self
    }

    /// All addresses of this host: traffic to them is the kernel's.
    pub fn local_addresses(&self) -> &[IpAddr] {
        &self.local
    }

    /// The way to `destination` on `side`.
    pub fn lookup(&self, side: Side, destination: IpAddr) -> NextHop {
        self.sides[side.index()].lookup(destination)
    }

    /// The tables of one side.
    pub fn side(&self, side: Side) -> &SideHops {
        &self.sides[side.index()]
    }

    /// Differs between any two snapshots.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// A bounded queue from the workers to the netlink thread: neighbours to resolve.
pub struct ResolveRequests {
    queue: ArrayQueue<(Side, IpAddr)>,
    wake: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for ResolveRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResolveRequests").field("waiting", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Default for ResolveRequests {
    fn default() -> Self {
        Self { queue: ArrayQueue::new(256), wake: OnceLock::new() }
    }
}

impl ResolveRequests {
    /// Sets what is called after each request, in the worker's thread: it must not block. Only the first call
    /// counts.
    pub fn on_request(&self, wake: impl Fn() + Send + Sync + 'static) {
        let _ = self.wake.set(Box::new(wake));
    }

    /// Asks for a neighbour. Returns `false` when the queue is full: the packet's next one asks again.
    pub fn ask(&self, side: Side, neighbour: IpAddr) -> bool {
        let queued = self.queue.push((side, neighbour)).is_ok();
        if let Some(wake) = self.wake.get() {
            wake();
        }
        queued
    }

    /// The oldest request, for the netlink thread.
    pub fn next(&self) -> Option<(Side, IpAddr)> {
        self.queue.pop()
    }
}

/// Nanoseconds that a packet waits for its neighbour at most.
pub const HOLD_LIMIT_NS: u64 = 1_000_000_000;
/// Packets that wait for one neighbour at most; the oldest goes first (RFC 1122 section 2.3.2.2 asks to keep
/// at least the latest one). The kernel keeps about as many.
pub const HELD_PER_NEIGHBOUR: usize = 128;
/// Packets that one worker holds at most.
pub const HELD_IN_ALL: usize = 256;
/// Nanoseconds between two requests for one neighbour.
const ASK_AGAIN_NS: u64 = 250_000_000;

/// A finished IP packet on its way out, without an Ethernet header yet: [`Frame::start`] is its first octet.
#[derive(Debug)]
pub struct Outgoing {
    /// The packet.
    pub frame: Frame,
    /// The side it leaves on.
    pub side: Side,
    /// Where its route leads: the final destination, or the tunnel's other end.
    pub destination: IpAddr,
    /// The segment whose lease must hold when it leaves, if it needs one.
    pub segment: Option<u8>,
}

/// A packet that waits for its neighbour.
#[derive(Debug)]
struct Held {
    outgoing: Outgoing,
    neighbour: IpAddr,
    since: u64,
    asked: u64,
}

impl Held {
    fn is_for(&self, side: Side, neighbour: IpAddr) -> bool {
        self.outgoing.side == side && self.neighbour == neighbour
    }
}

/// Packets that wait for a neighbour, oldest first.
#[derive(Debug)]
pub struct HeldPackets {
    packets: Vec<Held>,
    generation: u64,
}

impl Default for HeldPackets {
    fn default() -> Self {
        Self { packets: Vec::with_capacity(HELD_IN_ALL), generation: 0 }
    }
}

impl HeldPackets {
    /// How many packets wait.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Holds a packet from `now` (monotonic ns) on and asks for its neighbour. Returns the packet that had to
    /// make room, if one had to.
    pub fn hold(
        &mut self,
        outgoing: Outgoing,
        neighbour: IpAddr,
        now: u64,
        requests: &ResolveRequests,
    ) -> Option<Frame> {
        let side = outgoing.side;
        let asked = match self.last_asked(side, neighbour) {
            Some(at) if now.saturating_sub(at) < ASK_AGAIN_NS => at,
            _ => {
                requests.ask(side, neighbour);
                now
            }
        };
        let evicted = self.make_room(side, neighbour);
        self.packets.push(Held { outgoing, neighbour, since: now, asked });
        evicted
    }

    fn last_asked(&self, side: Side, neighbour: IpAddr) -> Option<u64> {
        self.waiting_for(side, neighbour).map(|held| held.asked).max()
    }

    fn waiting_for(&self, side: Side, neighbour: IpAddr) -> impl Iterator<Item = &Held> {
        self.packets.iter().filter(move |held| held.is_for(side, neighbour))
    }

    fn make_room(&mut self, side: Side, neighbour: IpAddr) -> Option<Frame> {
        let victim = if self.waiting_for(side, neighbour).count() >= HELD_PER_NEIGHBOUR {
            self.packets.iter().position(|held| held.is_for(side, neighbour))
        } else if self.packets.len() >= HELD_IN_ALL {
            Some(0)
        } else {
            None
        };
        victim.map(|index| self.packets.remove(index).outgoing.frame)
    }

    /// Takes one packet that is due at `now`: too old ([`Due::Expired`]), or with an answer in `hops` when they
    /// changed since the last scan that found nothing.
    pub fn take_due(&mut self, hops: &NextHops, now: u64) -> Option<Due> {
        let expired = self.packets.first().is_some_and(|held| now.saturating_sub(held.since) > HOLD_LIMIT_NS);
        if expired {
            return Some(Due::Expired(self.packets.remove(0).outgoing.frame));
        }
        if self.generation == hops.generation() {
            return None;
        }
        let found = self.packets.iter().enumerate().find_map(|(index, held)| {
            match hops.lookup(held.outgoing.side, held.outgoing.destination) {
                NextHop::Known(link) => Some((index, link)),
                NextHop::Unresolved(_) | NextHop::None => None,
            }
        });
        let Some((index, link)) = found else {
            self.generation = hops.generation();
            return None;
        };
        Some(Due::Resolved(self.packets.remove(index).outgoing, link))
    }
}

/// Why a held packet is taken out.
#[derive(Debug)]
pub enum Due {
    /// Its neighbour is known now.
    Resolved(Outgoing, Link),
    /// It waited longer than [`HOLD_LIMIT_NS`].
    Expired(Frame),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_addresses_are_read_as_they_are_written() {
        let mac = Mac([2, 0, 0x5e, 0, 0x53, 0xff]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("02:00:5E:00:53:FF".parse(), Ok(mac));
        for text in [
            "",
            "02:00:5e:00:53",
            "02:00:5e:00:53:ff:00",
            "2:0:5e:0:53:ff",
            "02:00:5e:00:53:+f",
            "02-00-5e-00-53-ff",
        ] {
            assert!(text.parse::<Mac>().is_err(), "{text}");
        }
        assert!(Mac([1, 0, 0x5e, 0, 0, 1]).is_group() && !mac.is_group());
    }
}
