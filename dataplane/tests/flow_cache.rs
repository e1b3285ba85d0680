//! The flow cache never says anything but what policies and SAs would say if they were asked.

mod common;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use baton_dataplane::drop_reason::DropReason;
use baton_dataplane::packet::transport::Flow;
use baton_dataplane::pipeline::flow_cache::{Decision, FlowCache, decide};
use baton_dataplane::spd::{Action, Matcher, Policy, Spd, Way, Ways};
use baton_sad::{
    AddressRange, ClusterId, Counters, Direction, NodeId, PutError, Sa, SaHandle, Selector, Selectors, Table,
    TableOptions,
};
use common::Setup;
use proptest::collection::vec;
use proptest::prelude::*;

const REQIDS: std::ops::RangeInclusive<u32> = 1..=4;

/// What happens between two packets.
#[derive(Clone, Debug)]
enum Event {
    Policies(Vec<Policy>),
    /// An outbound SA for the reqid, in the place of the one that may be there, for hosts up to this one.
    Put(u32, u8),
    /// Two at once.
    PutBoth(u32, u32, u8),
    Remove(u32),
    Update(u32, u8),
    Freeze(u32),
    Thaw(u32),
    /// An SA of the other direction comes or goes.
    Other(bool),
    Packets(Vec<(Flow, Way)>),
}

fn host(side: u8, host: u8) -> IpAddr {
    Ipv4Addr::new(10, side, 0, host).into()
}

fn selector(side: u8, last: u8) -> Selector {
    let hosts = |side| AddressRange::new(host(side, 0), host(side, last)).unwrap();
    Selector::addresses(hosts(side), hosts(1 - side))
}

fn outbound_sa(reqid: u32, last: u8) -> Sa {
    let sa = common::sa(&Setup::default(), 0, Direction::Outbound, reqid);
    Sa { reqid, selectors: Selectors::new(vec![selector(0, last)]).unwrap(), ..sa }
}

struct World {
    _directory: tempfile::TempDir,
    table: Table,
    spd: Spd,
    cache: FlowCache,
    hits: u32,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        // Few slots, so that each is used again and again.
        let options = TableOptions { capacity: 6, node: NodeId::new(1).unwrap(), cluster: ClusterId::new(1) };
        let table = Table::create(&directory.path().join("sa-table"), &options).unwrap();
        Self { _directory: directory, table, spd: Spd::default(), cache: FlowCache::default(), hits: 0 }
    }

    fn change(&mut self, event: &Event) {
        let key = |reqid| [(Direction::Outbound, reqid)];
        let new = |reqid, last| (outbound_sa(reqid, last), Counters::default());
        match event {
            Event::Policies(policies) => self.spd = Spd::new(policies.clone()),
            Event::Put(reqid, last) => drop(self.table.put(&[new(*reqid, *last)]).unwrap()),
            Event::PutBoth(a, b, _) if a == b => {}
            Event::PutBoth(a, b, last) => drop(self.table.put(&[new(*a, *last), new(*b, *last)]).unwrap()),
            Event::Remove(reqid) => drop(self.table.remove(&key(*reqid)).unwrap()),
            // There may be none.
            Event::Update(reqid, last) => drop(self.table.update(&outbound_sa(*reqid, *last))),
            Event::Freeze(reqid) => drop(self.table.freeze(&key(*reqid), std::time::Duration::ZERO)),
            Event::Thaw(reqid) => drop(self.table.thaw(&key(*reqid)).unwrap()),
            Event::Other(comes) => self.other(*comes),
            Event::Packets(_) => {}
        }
    }

    fn other(&self, comes: bool) {
        let sa = common::sa(&Setup::default(), 0, Direction::Inbound, 9);
        if comes {
            self.table.put(&[(sa, Counters::default())]).unwrap();
        } else {
            self.table.remove(&[(Direction::Inbound, sa.spi)]).unwrap();
        }
    }

    fn ask(&self, flow: &Flow, way: Way) -> Result<Decision, DropReason> {
        decide(&self.spd, &self.table, flow, way, |handle| by_sa(&self.table, handle, flow, way))
    }

    /// As the pipeline does it.
    fn ask_cache(&mut self, flow: &Flow, way: Way) -> Result<Decision, DropReason> {
        if let Some(decision) = self.cache.get(&self.table, flow, way) {
            self.hits += 1;
            return Ok(decision);
        }
        let decision = self.ask(flow, way)?;
        self.cache.put(flow, way, decision);
        Ok(decision)
    }
}

/// As one of two workers.
fn by_sa(table: &Table, handle: SaHandle, flow: &Flow, way: Way) -> Result<Decision, DropReason> {
    if handle.slot() % 2 == 1 {
        return Ok(Decision::HandOver(handle));
    }
    let sa = table.read_config(handle).map_err(|_| DropReason::SaUnusable)?;
    let selected = sa.selectors.iter().filter_map(Matcher::new).any(|selector| selector.matches(flow, way));
    Ok(if selected { Decision::Protect(handle) } else { Decision::Outside(handle) })
}

fn policy() -> impl Strategy<Value = Policy> {
    let ways = prop_oneof![Just(Ways::Both), Just(Ways::Only(Way::Outbound)), Just(Ways::Only(Way::Inbound))];
    let action = prop_oneof![
        4 => REQIDS.prop_map(|reqid| Action::Protect { reqid }),
        1 => ways.clone().prop_map(Action::Bypass),
        1 => ways.prop_map(Action::Discard),
    ];
    (0_u32..3, 0_u8..4, action).prop_map(|(priority, last, action)| Policy {
        name: "policy".to_owned(),
        priority,
        selector: selector(0, last),
        action,
    })
}

fn packets() -> impl Strategy<Value = Vec<(Flow, Way)>> {
    // Now and then the way that its addresses do not suggest.
    let end = || (0_u8..2, 0_u8..4);
    let packet = (end(), end(), any::<bool>()).prop_map(|(source, destination, inbound)| {
        let way = if inbound { Way::Inbound } else { Way::Outbound };
        (Flow::new(host(source.0, source.1), host(destination.0, destination.1), 17, Some((1, 2))), way)
    });
    vec(packet, 1..12)
}

fn event() -> impl Strategy<Value = Event> {
    let reqid = || REQIDS;
    prop_oneof![
        1 => vec(policy(), 0..5).prop_map(Event::Policies),
        2 => (reqid(), 0_u8..4).prop_map(|(reqid, last)| Event::Put(reqid, last)),
        1 => (reqid(), reqid(), 0_u8..4).prop_map(|(a, b, last)| Event::PutBoth(a, b, last)),
        1 => reqid().prop_map(Event::Remove),
        1 => (reqid(), 0_u8..4).prop_map(|(reqid, last)| Event::Update(reqid, last)),
        1 => reqid().prop_map(Event::Freeze),
        1 => reqid().prop_map(Event::Thaw),
        1 => any::<bool>().prop_map(Event::Other),
        6 => packets().prop_map(Event::Packets),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_cache_says_what_asking_would_say(
        policies in vec(policy(), 1..5),
        events in vec(event(), 1..60),
    ) {
        let mut world = World::new();
        world.change(&Event::Policies(policies));
        for event in &events {
            world.change(event);
            let Event::Packets(packets) = event else { continue };
            // A batch.
            world.cache.revalidate(world.spd.generation(), world.table.change_count());
            for (flow, way) in packets {
                let asked = world.ask(flow, *way);
                prop_assert_eq!(world.ask_cache(flow, *way), asked, "{:?} {:?}", way, flow);
            }
        }
    }
}

fn protect_everything() -> World {
    let mut world = World::new();
    world.change(&Event::Policies(vec![Policy {
        name: "all".to_owned(),
        priority: 0,
        selector: selector(0, 255),
        action: Action::Protect { reqid: 1 },
    }]));
    world.change(&Event::Put(1, 255));
    world
}

fn flow(source: u8, destination: u8) -> Flow {
    Flow::new(host(0, source), host(1, destination), 17, Some((1, 2)))
}

/// Hits of one packet of each of these flows in a batch of their own.
fn hits(world: &mut World, flows: &[Flow]) -> u32 {
    let before = world.hits;
    world.cache.revalidate(world.spd.generation(), world.table.change_count());
    for flow in flows {
        world.ask_cache(flow, Way::Outbound).unwrap();
    }
    world.hits - before
}

#[test]
fn other_sas_do_not_make_it_cold() {
    let mut world = protect_everything();
    let one = [flow(1, 1)];
    assert_eq!(hits(&mut world, &one), 0);
    for comes in [true, false, true] {
        world.change(&Event::Other(comes));
        assert_eq!(hits(&mut world, &one), 1);
    }
    world.change(&Event::Put(1, 255));
    assert_eq!(hits(&mut world, &one), 0, "its own SA was replaced");
    assert_eq!(hits(&mut world, &one), 1);
    world.change(&Event::Remove(1));
    assert_eq!(hits(&mut world, &one), 0, "its own SA was removed");
    assert_eq!(hits(&mut world, &one), 1, "that there is none is remembered");
    world.change(&Event::Other(false));
    assert_eq!(hits(&mut world, &one), 0, "until any SA comes");
}

/// Of 2,000 flows at random in 4,096 places about 800 share theirs, and 170 with more than one other.
#[test]
fn two_hot_flows_do_not_displace_each_other() {
    let mut world = protect_everything();
    let flows: Vec<Flow> =
        (0..2_000_u32).map(|n| n.wrapping_mul(0x9e37_79b9) ^ n << 7).map(scattered).collect();
    hits(&mut world, &flows);
    let seen = hits(&mut world, &flows);
    assert!((1_700..2_000).contains(&seen), "{seen} of 2,000");
}

fn scattered(bits: u32) -> Flow {
    let [source, destination, ..] = bits.to_be_bytes();
    Flow::new(host(0, source), host(1, destination), 17, Some((bits as u16, 7)))
}

/// A worker asks while SAs are replaced as fast as their slots can be used again. Whatever had been installed when
/// it asked is what it gets, or something newer.
#[test]
fn a_worker_never_gets_an_older_sa_than_there_was() {
    let World { _directory, table, spd, mut cache, .. } = protect_everything();
    let _lease = table.attach().unwrap();
    let worker = table.register_worker(0);
    worker.online();
    let installed = AtomicU32::new(0);
    let done = AtomicBool::new(false);
    let (mut decided, mut spis) = (0, HashMap::new());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for spi in 0x2a00_1000..0x2a00_1000 + 5_000 {
                let sa = Sa { spi, ..outbound_sa(1, 255) };
                put_patiently(&table, sa);
                installed.store(spi, Ordering::Release);
                // Another SA for the slot that this one left.
                put_patiently(&table, outbound_sa(2, 255));
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            worker.quiescent();
            cache.revalidate(spd.generation(), table.change_count());
            for source in 0..8 {
                let before = installed.load(Ordering::Acquire);
                let Some(spi) = sa_of(&mut cache, &mut spis, (&spd, &table), &flow(source, 1)) else {
                    continue;
                };
                assert!(spi >= before, "{spi:#x} after {before:#x}");
                decided += 1;
            }
        }
    });
    assert!(decided > 1_000, "{decided}");
}

/// The worker may be kept off its processor for long.
fn put_patiently(table: &Table, sa: Sa) {
    let batch = [(sa, Counters::default())];
    // Each try waits for a while; not for ever, if the worker's thread has failed.
    for _ in 0..40 {
        match table.put(&batch) {
            Ok(_) => return,
            Err(PutError::WorkerBusy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the worker has stopped");
}

/// The SPI of the flow's SA; `None` if that was replaced before it could be read.
fn sa_of(
    cache: &mut FlowCache,
    spis: &mut HashMap<SaHandle, u32>,
    (spd, table): (&Spd, &Table),
    flow: &Flow,
) -> Option<u32> {
    let decision = cache.get(table, flow, Way::Outbound).or_else(|| {
        let by_sa = |handle| {
            let sa = table.read_config(handle).map_err(|_| DropReason::SaUnusable)?;
            spis.insert(handle, sa.spi);
            Ok(Decision::Protect(handle))
        };
        let decision = decide(spd, table, flow, Way::Outbound, by_sa).ok()?;
        cache.put(flow, Way::Outbound, decision);
        Some(decision)
    })?;
    match decision {
        Decision::Protect(handle) => Some(spis[&handle]),
        other => panic!("{other:?}"),
    }
}
