//! A gateway in memory, for tests, benches and fuzzers: a real SA table, real workers, and two queues per side.
#![allow(dead_code, missing_docs)]

pub mod clock;
mod packet;
pub mod wire;

#[allow(unused_imports, reason = "each test uses its own part")]
pub use packet::{Packet, ethernet};

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use baton_dataplane::capture::Tap;
use baton_dataplane::counters::WorkerCounters;
use baton_dataplane::crypto::Backend;
use baton_dataplane::drop_reason::DropReason;
use baton_dataplane::events::Events;
use baton_dataplane::io::Side;
use baton_dataplane::io::memory::{MemoryIo, Pool};
use baton_dataplane::next_hop::{Mac, NextHops, ResolveRequests, SideHops, Via};
use baton_dataplane::prefix::Prefix;
use baton_dataplane::spd::{Action, Policy, Spd};
use baton_dataplane::worker::{AcquireLimits, Rings, Worker, WorkerOptions, monotonic_ns};
use baton_sad::{
    AddressRange, ClusterId, Counters, DataplaneLease, DfPolicy, Direction, DscpPolicy, EpochKeeper, Key,
    Lifetime, Mode, Name, NodeId, OWNED, Sa, Selector, Selectors, Sender, Senders, Suite, Table,
    TableOptions, TfcPadding, UdpEncapsulation,
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

/// The same in IPv6.
pub const OUTER6: [Ipv6Addr; 2] = [v6(0xa, 1), v6(0xa, 2)];
pub const HOST6: [Ipv6Addr; 2] = [v6(1, 0x10), v6(2, 0x10)];
pub const INNER6: [Ipv6Addr; 2] = [v6(1, 1), v6(2, 1)];

const fn v6(net: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, net, 0, 0, 0, 0, host)
}

/// What may differ between tests.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Setup {
    pub mode: Mode,
    /// Whether the outer addresses are IPv6's.
    pub outer_ipv6: bool,
    /// Whether the selectors are IPv6's; in transport mode the outer addresses decide.
    pub inner_ipv6: bool,
    /// ESP in UDP, port 4500 at both ends.
    pub encapsulated: bool,
    pub tfc_padding: TfcPadding,
    pub lifetime: Lifetime,
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
    /// Monotonic ns.
    pub clock: fn() -> u64,
    /// Unix seconds.
    pub unix_clock: fn() -> u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            mode: Mode::Tunnel,
            outer_ipv6: false,
            inner_ipv6: false,
            encapsulated: false,
            tfc_padding: TfcPadding::Off,
            lifetime: Lifetime::default(),
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
            clock: monotonic_ns,
            unix_clock: || UNIX_SECONDS,
        }
    }
}

impl Setup {
    /// Outer address of a gateway.
    pub fn outer(&self, end: usize) -> IpAddr {
        if self.outer_ipv6 { OUTER6[end].into() } else { OUTER[end].into() }
    }

    /// The host behind a gateway; in transport mode the gateway itself.
    pub fn host(&self, end: usize) -> IpAddr {
        match (self.mode, self.inner_ipv6) {
            (Mode::Transport, _) => self.outer(end),
            (Mode::Tunnel, false) => HOST[end].into(),
            (Mode::Tunnel, true) => HOST6[end].into(),
        }
    }

    /// From the host behind `end` to the one behind the other.
    pub fn packet(&self, end: usize, length: u16) -> Packet {
        Packet { source: self.host(end), destination: self.host(1 - end), ..Packet::from(end, length) }
    }

    /// What the peer gets of a packet that was sent.
    pub fn arrives(&self, packet: &Packet) -> Packet {
        // Both gateways are next_hops on a tunnel's way.
        let hops = if self.mode == Mode::Tunnel { 2 } else { 0 };
        Packet { ttl: packet.ttl - hops, ..packet.clone() }
    }

    fn selector(&self, end: usize, tunnel: u32) -> Selector {
        Selector::addresses(self.addresses(end, tunnel), self.addresses(1 - end, tunnel))
    }

    fn addresses(&self, end: usize, tunnel: u32) -> AddressRange {
        match (self.mode, self.host(end)) {
            (Mode::Tunnel, IpAddr::V4(host)) => {
                let [first, second, ..] = host.octets();
                let address = |last| Ipv4Addr::new(first, second, tunnel as u8, last).into();
                AddressRange::new(address(0), address(255)).unwrap()
            }
            (Mode::Tunnel, IpAddr::V6(host)) => {
                let net = host.to_bits() >> 16 << 16;
                AddressRange::new(IpAddr::V6(net.into()), IpAddr::V6((net | 0xffff).into())).unwrap()
            }
            (Mode::Transport, host) => AddressRange::single(host),
        }
    }
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
        mode: setup.mode,
        segment: (SPI[end] >> 24) as u8,
        suite: setup.suite,
        key: Key::new(&octets).unwrap(),
        source: setup.outer(1 - receiver),
        destination: setup.outer(receiver),
        selectors: Selectors::new(vec![setup.selector(end, tunnel)]).unwrap(),
        encapsulation: setup.encapsulated.then_some(UdpEncapsulation {
            source_port: 4500,
            destination_port: 4500,
            follows_peer: true,
            keepalive_seconds: 0,
        }),
        extended_sequence: setup.extended,
        replay_window: setup.window,
        dscp: setup.dscp,
        df: setup.df,
        path_mtu: setup.path_mtu,
        clamp_mss: true,
        tfc_padding: setup.tfc_padding,
        lifetime: setup.lifetime,
        senders: Senders::new(vec![Sender { cluster: ClusterId::new(1), node }]).unwrap(),
    }
}

/// What a gateway protects.
pub fn policies(end: usize, setup: &Setup) -> Vec<Policy> {
    (0..setup.tunnels)
        .map(|tunnel| Policy {
            name: format!("t{tunnel}"),
            priority: 1,
            selector: setup.selector(end, tunnel),
            action: Action::Protect { reqid: REQID + tunnel },
        })
        .collect()
}

/// Next hops with every host a direct neighbour on its side.
pub fn hops(end: usize, setup: &Setup) -> NextHops {
    let mac = |n: u8| Mac([2, 0, 0, 0, end as u8, n]);
    let next_hops = [IpAddr::from([192, 0, 2, 254]), IpAddr::from(v6(0xb, 254))];
    let everything: [Prefix; 2] = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
    let routes = everything.into_iter().zip(next_hops.map(Via::Router)).collect::<Vec<_>>();
    let neighbours =
        if setup.neighbours { next_hops.map(|router| (router, mac(99))).into() } else { HashMap::new() };
    let side = |n| SideHops::new(mac(n), setup.mtu, routes.clone(), neighbours.clone());
    let mut inner = side(2);
    inner.addresses = [Some(INNER[end].into()), Some(INNER6[end].into())];
    NextHops::new(side(1), inner)
}

/// An empty table with an epoch, whose segment is ours.
fn new_table(end: usize, setup: &Setup, directory: &Path) -> Arc<Table> {
    let node = NodeId::new(end as u8 + 1).unwrap();
    let options = TableOptions { capacity: setup.tunnels * 2 + 16, node, cluster: ClusterId::new(1) };
    let table = Table::create(&directory.join("sa-table"), &options).unwrap();
    table.epoch_maintain(&EpochKeeper::new(directory, directory, node)).unwrap();
    table.set_lease((SPI[end] >> 24) as u8, OWNED);
    Arc::new(table)
}

/// A gateway with its workers.
pub struct Gateway {
    pub end: usize,
    pub table: Arc<Table>,
    pub spd: Arc<ArcSwap<Spd>>,
    pub hops: Arc<ArcSwap<NextHops>>,
    pub resolve: Arc<ResolveRequests>,
    pub tap: Arc<Tap>,
    pub events: Arc<Events>,
    pub rings: Arc<Rings>,
    pub counters: Vec<Arc<WorkerCounters>>,
    pub workers: Vec<Worker<MemoryIo>>,
    lease: Option<DataplaneLease>,
    directory: tempfile::TempDir,
}

impl Gateway {
    /// Gateway 0 or 1 of a pair with the same set-up.
    pub fn new(end: usize, setup: &Setup) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let table = new_table(end, setup, directory.path());
        for tunnel in 0..setup.tunnels {
            let fresh = |direction| (sa(setup, end, direction, tunnel), Counters::default());
            table.put(&[fresh(Direction::Inbound), fresh(Direction::Outbound)]).unwrap();
        }
        let mut gateway = Self {
            end,
            spd: Arc::new(ArcSwap::from_pointee(Spd::new(policies(end, setup)))),
            hops: Arc::new(ArcSwap::from_pointee(hops(end, setup))),
            resolve: Arc::default(),
            tap: Arc::default(),
            events: Arc::default(),
            rings: Rings::new(setup.workers),
            counters: (0..setup.workers).map(|_| Arc::default()).collect(),
            workers: Vec::new(),
            lease: Some(table.attach().unwrap()),
            table,
            directory,
        };
        gateway.restart(setup);
        gateway
    }

    /// The workers end, and others begin on the same table.
    pub fn restart(&mut self, setup: &Setup) {
        self.workers.clear();
        let pool = Pool::new(1024);
        for index in 0..setup.workers {
            let options = self.worker_options(index, setup);
            self.workers.push(Worker::new(&options, MemoryIo::on(Arc::clone(&pool))).unwrap());
        }
    }

    /// As a process that dies and starts again: its table is mapped anew.
    pub fn reopen(&mut self, setup: &Setup) {
        self.workers.clear();
        self.lease = None;
        self.table = Arc::new(Table::open(self.table.path()).unwrap());
        self.lease = Some(self.table.attach().unwrap());
        self.restart(setup);
    }

    /// The table is lost, and everything that was known of its SAs with it; only what is durable stays.
    pub fn lose_table(&mut self, setup: &Setup) {
        self.workers.clear();
        self.lease = None;
        std::fs::remove_file(self.table.path()).unwrap();
        self.table = new_table(self.end, setup, self.directory.path());
        self.lease = Some(self.table.attach().unwrap());
        self.restart(setup);
    }

    /// Worker 0 on another I/O, in place of those in memory.
    pub fn worker_on<I: baton_dataplane::io::PacketIo>(&mut self, setup: &Setup, io: I) -> Worker<I> {
        self.workers.clear();
        Worker::new(&self.worker_options(0, setup), io).unwrap()
    }

    fn worker_options(&self, index: u16, setup: &Setup) -> WorkerOptions {
        WorkerOptions {
            index,
            workers: setup.workers,
            table: Arc::clone(&self.table),
            spd: Arc::clone(&self.spd),
            next_hops: Arc::clone(&self.hops),
            resolve: Arc::clone(&self.resolve),
            counters: Arc::clone(&self.counters[usize::from(index)]),
            rings: Arc::clone(&self.rings),
            tap: Arc::clone(&self.tap),
            crypto: setup.crypto,
            batch: setup.batch,
            clock: setup.clock,
            unix_clock: setup.unix_clock,
            anti_spoofing: true,
            errors_per_second: 100,
            acquire: AcquireLimits { hold: 3_000_000_000, packets: 256, repeat: 1_000_000_000 },
            events: Arc::clone(&self.events),
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

    /// Frames that come in at once, and what is sent on the other side.
    pub fn pass<'f>(&mut self, from: Side, frames: impl IntoIterator<Item = &'f Vec<u8>>) -> Vec<Vec<u8>> {
        for frame in frames {
            assert!(self.workers[0].io().inject(from, frame), "the pool is empty or the frame too long");
        }
        self.run();
        self.sent(from.opposite())
    }

    /// How many packets were dropped for one reason.
    pub fn dropped(&self, name: &str) -> u64 {
        self.drops().into_iter().find(|(reason, _)| *reason == name).map_or(0, |(_, count)| count)
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

/// What the workers take for the time.
pub const UNIX_SECONDS: u64 = 1_800_000_000;
