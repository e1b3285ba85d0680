//! A gateway in memory, for tests, benches and fuzzers: a real SA table, real workers, and two queues per side.
#![allow(dead_code, missing_docs)]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use baton_dataplane::capture::Tap;
use baton_dataplane::counters::WorkerCounters;
use baton_dataplane::crypto::Backend;
use baton_dataplane::drop_reason::DropReason;
use baton_dataplane::io::Side;
use baton_dataplane::io::memory::{MemoryIo, Pool};
use baton_dataplane::next_hop::{Mac, NextHops, ResolveRequests, SideHops, Via};
use baton_dataplane::packet::ipv4::{self, Ipv4Fields, Ipv4Template};
use baton_dataplane::prefix::Prefix;
use baton_dataplane::spd::{Action, Policy, Spd};
use baton_dataplane::worker::{Rings, Worker, WorkerOptions, monotonic_ns};
use baton_sad::{
    AddressRange, ClusterId, Counters, DataplaneLease, DfPolicy, Direction, DscpPolicy, EpochKeeper, Key,
    Lifetime, Mode, Name, NodeId, OWNED, Sa, Selector, Selectors, Sender, Senders, Suite, Table,
    TableOptions, TfcPadding,
};

/// Outer addresses of the two gateways.
pub const OUTER: [Ipv4Addr; 2] = [Ipv4Addr::new(203, 0, 113, 1), Ipv4Addr::new(203, 0, 113, 2)];
/// One host behind each.
pub const HOST: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 10), Ipv4Addr::new(10, 2, 0, 10)];
/// Own inner addresses.
pub const INNER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1)];
/// Our inbound SPIs; the top octet is the segment.
pub const SPI: [u32; 2] = [0x1100_0001, 0x2a00_0001];
pub const REQID: u32 = 7;

/// What may differ between tests.
#[derive(Clone, Debug)]
pub struct Setup {
    pub suite: Suite,
    pub extended: bool,
    pub window: u16,
    pub dscp: DscpPolicy,
    pub df: DfPolicy,
    pub path_mtu: u16,
    pub mtu: u16,
    pub crypto: Backend,
    pub workers: u16,
    pub batch: usize,
    /// Tunnels beside each other: one SA pair each, for host 10.x.n.10.
    pub tunnels: u32,
    /// Whether neighbours are known from the start.
    pub neighbours: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            suite: Suite::AES128_GCM16,
            extended: true,
            window: 64,
            dscp: DscpPolicy::Copy,
            df: DfPolicy::Copy,
            path_mtu: 0,
            mtu: 1500,
            crypto: Backend::AwsLc,
            workers: 1,
            batch: 32,
            tunnels: 1,
            neighbours: true,
        }
    }
}

fn subnet(end: usize, tunnel: u32) -> AddressRange {
    let [first, second, ..] = HOST[end].octets();
    let address = |last| Ipv4Addr::new(first, second, tunnel as u8, last).into();
    AddressRange::new(address(0), address(255)).unwrap()
}

fn selector(end: usize, tunnel: u32) -> Selector {
    Selector::addresses(subnet(end, tunnel), subnet(1 - end, tunnel))
}

/// One of the SAs of a tunnel, as gateway `end` has it.
pub fn sa(setup: &Setup, end: usize, direction: Direction, tunnel: u32) -> Sa {
    // The key belongs to the receiver, so that both ends agree and the two directions differ (I1).
    let receiver = if direction == Direction::Inbound { end } else { 1 - end };
    let octets: Vec<u8> = (0..setup.suite.key_length())
        .map(|i| (i as u8).wrapping_mul(7) ^ (receiver as u8) << 6 ^ (tunnel as u8))
        .collect();
    let node = NodeId::new(end as u8 + 1).unwrap();
    Sa {
        name: Name::new(&format!("t{tunnel}")).unwrap(),
        direction,
        spi: SPI[receiver] + tunnel,
        peer_spi: SPI[1 - receiver] + tunnel,
        reqid: REQID + tunnel,
        mode: Mode::Tunnel,
        segment: (SPI[end] >> 24) as u8,
        suite: setup.suite,
        key: Key::new(&octets).unwrap(),
        source: OUTER[1 - receiver].into(),
        destination: OUTER[receiver].into(),
        selectors: Selectors::new(vec![selector(end, tunnel)]).unwrap(),
        encapsulation: None,
        extended_sequence: setup.extended,
        replay_window: setup.window,
        dscp: setup.dscp,
        df: setup.df,
        path_mtu: setup.path_mtu,
        tfc_padding: TfcPadding::Off,
        lifetime: Lifetime::default(),
        senders: Senders::new(vec![Sender { cluster: ClusterId::new(1), node }]).unwrap(),
    }
}

fn policies(end: usize, tunnels: u32) -> Vec<Policy> {
    (0..tunnels)
        .map(|tunnel| Policy {
            name: format!("t{tunnel}"),
            priority: 1,
            selector: selector(end, tunnel),
            action: Action::Protect { reqid: REQID + tunnel },
        })
        .collect()
}

/// Next hops with every host a direct neighbour on its side.
pub fn hops(end: usize, setup: &Setup) -> NextHops {
    let mac = |n: u8| Mac([2, 0, 0, 0, end as u8, n]);
    let everything: Prefix = "0.0.0.0/0".parse().unwrap();
    let router = IpAddr::from([192, 0, 2, 254]);
    let neighbours = if setup.neighbours { HashMap::from([(router, mac(99))]) } else { HashMap::new() };
    let side =
        |n| SideHops::new(mac(n), setup.mtu, vec![(everything, Via::Router(router))], neighbours.clone());
    let mut inner = side(2);
    inner.address = Some(INNER[end].into());
    NextHops::new(side(1), inner)
}

/// A gateway with its workers.
pub struct Gateway {
    pub end: usize,
    pub table: Arc<Table>,
    pub spd: Arc<ArcSwap<Spd>>,
    pub hops: Arc<ArcSwap<NextHops>>,
    pub resolve: Arc<ResolveRequests>,
    pub tap: Arc<Tap>,
    pub counters: Vec<Arc<WorkerCounters>>,
    pub workers: Vec<Worker<MemoryIo>>,
    _lease: DataplaneLease,
    _directory: tempfile::TempDir,
}

impl Gateway {
    /// Gateway 0 or 1 of a pair with the same set-up.
    pub fn new(end: usize, setup: &Setup) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let node = NodeId::new(end as u8 + 1).unwrap();
        let options = TableOptions { capacity: setup.tunnels * 2 + 16, node, cluster: ClusterId::new(1) };
        let table = Arc::new(Table::create(&directory.path().join("sa-table"), &options).unwrap());
        table.epoch_maintain(&EpochKeeper::new(directory.path(), directory.path(), node)).unwrap();
        table.set_lease((SPI[end] >> 24) as u8, OWNED);
        for tunnel in 0..setup.tunnels {
            let fresh = |direction| (sa(setup, end, direction, tunnel), Counters::default());
            table.put(&[fresh(Direction::Inbound), fresh(Direction::Outbound)]).unwrap();
        }
        let lease = table.attach().unwrap();
        let mut gateway = Self {
            end,
            spd: Arc::new(ArcSwap::from_pointee(Spd::new(policies(end, setup.tunnels)))),
            hops: Arc::new(ArcSwap::from_pointee(hops(end, setup))),
            resolve: Arc::default(),
            tap: Arc::default(),
            counters: (0..setup.workers).map(|_| Arc::default()).collect(),
            workers: Vec::new(),
            table,
            _lease: lease,
            _directory: directory,
        };
        let (rings, pool) = (Rings::new(setup.workers), Pool::new(1024));
        for index in 0..setup.workers {
            let options = gateway.worker_options(index, setup, &rings);
            let worker = Worker::new(&options, MemoryIo::on(Arc::clone(&pool)));
            gateway.workers.push(worker.expect("crypto"));
        }
        gateway
    }

    /// Worker 0 on another I/O, in place of those in memory.
    pub fn worker_on<I: baton_dataplane::io::PacketIo>(&mut self, setup: &Setup, io: I) -> Worker<I> {
        self.workers.clear();
        Worker::new(&self.worker_options(0, setup, &Rings::new(1)), io).expect("crypto")
    }

    fn worker_options(&self, index: u16, setup: &Setup, rings: &Arc<Rings>) -> WorkerOptions {
        WorkerOptions {
            index,
            workers: setup.workers,
            table: Arc::clone(&self.table),
            spd: Arc::clone(&self.spd),
            next_hops: Arc::clone(&self.hops),
            resolve: Arc::clone(&self.resolve),
            counters: Arc::clone(&self.counters[usize::from(index)]),
            rings: Arc::clone(rings),
            tap: Arc::clone(&self.tap),
            crypto: setup.crypto,
            batch: setup.batch,
            clock: monotonic_ns,
        }
    }

    /// Lets worker 0 receive a frame, and runs all workers until nothing is left to do.
    pub fn receive(&mut self, side: Side, frame: &[u8]) {
        assert!(self.workers[0].io().inject(side, frame), "the pool is empty or the frame too long");
        self.run();
    }

    /// Turns until two rounds found nothing.
    pub fn run(&mut self) {
        let mut quiet = 0;
        while quiet < 2 {
            let handled: usize = self.workers.iter_mut().map(Worker::turn).sum();
            quiet = if handled == 0 { quiet + 1 } else { 0 };
        }
    }

    /// All frames sent on one side since the last call.
    pub fn sent(&mut self, side: Side) -> Vec<Vec<u8>> {
        let workers = self.workers.iter_mut();
        workers
            .flat_map(|worker| std::iter::from_fn(|| worker.io().transmitted(side)).collect::<Vec<_>>())
            .collect()
    }

    /// The one frame sent on one side.
    pub fn sent_one(&mut self, side: Side) -> Vec<u8> {
        let mut frames = self.sent(side);
        assert_eq!(frames.len(), 1, "drops: {:?}", self.drops());
        frames.remove(0)
    }

    /// A packet from the inside goes in, its ESP frame comes out.
    pub fn seal(&mut self, frame: &[u8]) -> Vec<u8> {
        self.receive(Side::Inner, frame);
        self.sent_one(Side::Outer)
    }

    /// All drop reasons that were counted.
    pub fn drops(&self) -> Vec<(&'static str, u64)> {
        DropReason::ALL
            .iter()
            .map(|reason| (reason.name(), self.counters.iter().map(|c| c.dropped(*reason)).sum()))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

/// Two gateways that know each other.
pub fn pair(setup: &Setup) -> [Gateway; 2] {
    [Gateway::new(0, setup), Gateway::new(1, setup)]
}

/// The IPv4 packet of a test.
#[derive(Clone, Debug)]
pub struct Packet {
    pub source: Ipv4Addr,
    pub destination: Ipv4Addr,
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
            source: HOST[end],
            destination: HOST[1 - end],
            protocol: ipv4::UDP,
            ttl: 64,
            traffic_class: 0,
            dont_fragment: false,
            length,
        }
    }

    /// The packet's octets.
    pub fn octets(&self) -> Vec<u8> {
        let fields = Ipv4Fields {
            total_length: self.length,
            traffic_class: self.traffic_class,
            identification: 0x1234,
            dont_fragment: self.dont_fragment,
        };
        let template = Ipv4Template::new(self.source, self.destination, self.protocol, self.ttl);
        let mut octets = template.emit(fields).to_vec();
        octets.extend((20..self.length).map(|i| i as u8));
        octets
    }

    /// The packet in an Ethernet frame.
    pub fn frame(&self) -> Vec<u8> {
        ethernet(&self.octets())
    }
}

/// An untagged frame with this IPv4 packet.
pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 9, 1, 2, 0, 0, 0, 9, 2, 8, 0], packet].concat()
}
