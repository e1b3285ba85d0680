//! What the control socket's requests do.

use std::sync::Arc;
use std::time::Duration;

use baton_sad::{Direction, Mode};

use super::gateway::{Gateway, WorkerShare};
use super::ownership::LeaseFilter;
use super::{cluster, ownership, policy_changes};
use crate::capture::{Filter, Tap};
use crate::config::PolicySpec;
use crate::control::{
    Announce, AnnounceReport, CaptureNext, CaptureRequest, CaptureSide, CaptureStream, CapturedPacket,
    ClusterAddress, ClusterReport, Code, Counter, Counters, DummyReport, Epoch, FreezeReport, Handler,
    InsideEntry, InsideReport, InterfaceStatus, Listening, MAX_LISTENERS, MonitorRequest, Override,
    OwnerMacs, Policies, PolicyEntry, PolicyOrigin, PolicyReport, Refusal, ReloadReport, Resolved, Segments,
    Status, WorkerStatus,
};
use crate::drop_reason::DropReason;
use crate::io::Side;
use crate::resolver;
use crate::worker::{Command, monotonic_ns};

/// How long a freeze waits for the workers.
const FREEZE_WAIT: Duration = Duration::from_secs(2);

/// Dummy packets of one request: those that a worker's ring of commands has room for, and some for keep-alives.
const MAX_DUMMIES: u32 = 200;

/// The handler of a running gateway.
pub(super) struct Control {
    gateway: Arc<Gateway>,
}

impl Control {
    pub(super) fn new(gateway: Arc<Gateway>) -> Self {
        Self { gateway }
    }

    fn interface(&self, side: Side, name: &str) -> InterfaceStatus {
        InterfaceStatus {
            interface: name.to_owned(),
            xdp_mode: self.gateway.with_filter(|filter| filter.mode(side).to_owned()),
            queues: self.gateway.queues[side.index()],
            mtu: u32::from(self.gateway.mtu(side)),
        }
    }

    /// The sum over all workers.
    fn sum(&self, of: impl Fn(&WorkerShare) -> u64) -> u64 {
        self.gateway.workers.iter().map(of).sum()
    }

    fn drops(&self) -> impl Iterator<Item = Counter> {
        DropReason::ALL.iter().map(|reason| {
            let value = self.gateway.dropped(*reason);
            counter("drop", reason.name(), value, reason.sentence())
        })
    }

    fn traffic(&self) -> impl Iterator<Item = Counter> {
        Side::ALL.into_iter().flat_map(|side| {
            let group = match side {
                Side::Outer => "worker-outer",
                Side::Inner => "worker-inner",
            };
            let sum = |of: fn(&crate::counters::SideCounters) -> &crate::counters::Counter| {
                self.sum(|share| of(share.counters.side(side)).get())
            };
            [
                counter(group, "received", sum(|side| &side.received), "Packets that the workers received."),
                counter(group, "received-octets", sum(|side| &side.received_octets), "Octets of those."),
                counter(
                    group,
                    "sent",
                    sum(|side| &side.sent),
                    "Packets that the workers gave to the interface.",
                ),
                counter(group, "sent-octets", sum(|side| &side.sent_octets), "Octets of those."),
            ]
        })
    }

    fn events(&self) -> Vec<Counter> {
        let mut events: Vec<Counter> = Vec::new();
        let mut add = |group: &str, name: &str, value: u64| match events
            .iter_mut()
            .find(|known| known.group == group && known.name == name)
        {
            Some(known) => known.value += value,
            None => events.push(counter(group, name, value, "")),
        };
        for share in &self.gateway.workers {
            for (name, value) in share.counters.events() {
                add("worker", name, value);
            }
            for (side, name, value) in share.io.read() {
                add(&format!("io-{}", side.name()), name, value);
            }
        }
        events
    }

    fn caretaking(&self) -> impl Iterator<Item = Counter> {
        let (gateway, group) = (&self.gateway, "caretaker");
        let counts = gateway.counts.read().map(|(name, value, meaning)| counter(group, name, value, meaning));
        counts.into_iter().chain([
            counter(group, "events-lost", gateway.events.lost(), "Events of workers that found no room."),
            counter(group, "listeners-cut", gateway.listeners.cut(), "Monitors that were too slow to read."),
        ])
    }

    fn verdicts(&self) -> Result<Vec<Counter>, Refusal> {
        let verdicts = self.gateway.with_filter(|filter| filter.verdicts()).map_err(internal)?;
        let counters = verdicts.into_iter().map(|(side, name, value)| {
            let meaning = crate::xdp::Verdict::all().find(|verdict| verdict.name() == name);
            counter(
                &format!("xdp-{}", side.name()),
                name,
                value,
                meaning.map_or("", crate::xdp::Verdict::meaning),
            )
        });
        Ok(counters.collect())
    }

    fn tunnel_keys(&self, name: &str) -> Result<Vec<(Direction, u32)>, Refusal> {
        let found = self.gateway.table.read_by_name(name).map_err(internal)?;
        if found.is_empty() {
            let message = format!("no SA of a tunnel {name} is installed");
            return Err(Refusal::new(Code::NotFound, message, "`dpctl sa list` shows what is"));
        }
        Ok(found.iter().map(|found| (found.sa.direction, found.sa.index_key())).collect())
    }
}

impl Handler for Control {
    fn status(&self) -> Result<Status, Refusal> {
        let gateway = &self.gateway;
        let config = gateway.config();
        let epochs = gateway.table.epoch_state();
        let owned = gateway.table.owned_segments(monotonic_ns());
        let workers = (0_u16..).zip(&gateway.workers).map(|(index, share)| WorkerStatus {
            index,
            core: share.core as u32,
            inbound_packets: share.counters.side(Side::Inner).sent.get(),
            outbound_packets: share.counters.side(Side::Outer).sent.get(),
            drops: share.counters.drops().map(|(_, dropped)| dropped).sum(),
        });
        Ok(Status {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: gateway.started.elapsed().as_secs(),
            node: config.node.id.get(),
            cluster: config.node.cluster.clone(),
            outer: self.interface(Side::Outer, &config.outer.interface),
            inner: self.interface(Side::Inner, config.inner.interface.name()),
            workers: workers.collect(),
            sas: u64::from(gateway.table.installed()),
            capacity: u64::from(gateway.table.capacity()),
            owned_segments: owned.iter().map(|word| word.count_ones() as u16).sum(),
            epoch: Epoch { current: epochs.current, spare: epochs.spare },
            alarms: gateway.standing_alarms(),
        })
    }

    fn counters(&self) -> Result<Counters, Refusal> {
        let mut counters: Vec<Counter> = self.traffic().chain(self.drops()).collect();
        counters.extend(self.events());
        counters.extend(self.caretaking());
        counters.extend(self.verdicts()?);
        Ok(Counters { counters })
    }

    fn policies(&self) -> Result<Policies, Refusal> {
        let mut policies: Vec<PolicyEntry> = self.gateway.change_policies(|config, dynamic| {
            let configured = config.policies();
            let configured =
                configured.iter().map(|policy| PolicyEntry::new(policy, PolicyOrigin::Configured));
            let others = dynamic.policies().map(|policy| PolicyEntry::new(policy, PolicyOrigin::Dynamic));
            configured.chain(others).collect()
        });
        policies.sort_by_key(|policy| policy.priority);
        Ok(Policies { policies })
    }

    fn policy_add(&self, policies: &[PolicySpec]) -> Result<PolicyReport, Refusal> {
        policy_changes::add(&self.gateway, policies)
    }

    fn policy_remove(&self, names: &[String], keep_prohibited: bool) -> Result<PolicyReport, Refusal> {
        policy_changes::remove(&self.gateway, names, keep_prohibited)
    }

    fn inside(&self) -> Result<InsideReport, Refusal> {
        self.gateway.with_inside(|inside| Ok(inside.report()))
    }

    fn inside_set(&self, entry: InsideEntry) -> Result<InsideReport, Refusal> {
        self.gateway.with_inside(|inside| inside.set(entry).map(|()| inside.report()))
    }

    fn inside_remove(&self, tunnels: &[String]) -> Result<InsideReport, Refusal> {
        self.gateway.with_inside(|inside| inside.remove(tunnels).map(|()| inside.report()))
    }

    fn resolve(&self, name: &str) -> Result<Resolved, Refusal> {
        let mut files = resolver::Files::default();
        if let Some(path) = &self.gateway.config().inner.resolv_conf {
            files.resolv_conf.clone_from(path);
        }
        resolver::resolve(name, &files).map(|addresses| Resolved { addresses }).map_err(|error| {
            Refusal::new(Code::NotFound, error, "name the address instead, or mend the DNS server")
        })
    }

    fn send_dummy(&self, name: &str, count: u32) -> Result<DummyReport, Refusal> {
        if !(1..=MAX_DUMMIES).contains(&count) {
            let message = format!("{count} dummy packets; 1 to {MAX_DUMMIES} at once are possible");
            return Err(Refusal::new(Code::Refused, message, "ask several times"));
        }
        let found = self.gateway.table.read_by_name(name).map_err(internal)?;
        let outbound = found.iter().find(|found| found.sa.direction == Direction::Outbound);
        let Some(outbound) = outbound else {
            let message = format!("no outbound SA of a tunnel {name} is installed");
            return Err(Refusal::new(Code::NotFound, message, "`dpctl sa list` shows what is"));
        };
        if outbound.sa.mode != Mode::Tunnel {
            let message = format!("{name} is in transport mode, in which dummy packets are not sent");
            return Err(Refusal::new(Code::Refused, message, "choose a tunnel-mode SA"));
        }
        let room = || self.gateway.rings.command(Command::Dummy(outbound.handle));
        let asked = (0..count).take_while(|_| room()).count();
        Ok(DummyReport { asked: asked as u32 })
    }

    fn segments(&self) -> Result<Segments, Refusal> {
        let config = self.gateway.config();
        Ok(Segments {
            owned: Segments::members(&self.gateway.table.owned_segments(monotonic_ns())),
            hash: config.segments.hash.to_string(),
            seed: config.segments.seed,
        })
    }

    fn segment_take(&self, segments: &[u8]) -> Result<Segments, Refusal> {
        ownership::may_take(&self.gateway.config().segments)?;
        self.gateway.with_ownership(|filter| filter.take(segments))?;
        self.segments()
    }

    fn segment_follow(&self) -> Result<Segments, Refusal> {
        self.gateway.with_ownership(LeaseFilter::follow).map_err(internal)?;
        self.segments()
    }

    fn segment_drop(&self, segments: &[u8]) -> Result<Segments, Refusal> {
        self.gateway.with_ownership(|filter| filter.give_up(segments))?;
        ownership::wait_for_workers(&self.gateway.table)?;
        self.segments()
    }

    fn cluster_address(&self, shared: &ClusterAddress) -> Result<ClusterReport, Refusal> {
        cluster::share(&self.gateway, shared)
    }

    fn owner_macs(&self, macs: &OwnerMacs) -> Result<ClusterReport, Refusal> {
        cluster::learn_owners(&self.gateway, macs)
    }

    fn override_segment(&self, spis: &Override) -> Result<ClusterReport, Refusal> {
        cluster::override_segment(&self.gateway, spis)
    }

    fn announce(&self, addresses: &Announce) -> Result<AnnounceReport, Refusal> {
        cluster::announce(&self.gateway, addresses)
    }

    fn reload(&self) -> Result<ReloadReport, Refusal> {
        self.gateway.reload()
    }

    fn freeze(&self, name: &str) -> Result<FreezeReport, Refusal> {
        let frozen = self.gateway.table.freeze(&self.tunnel_keys(name)?, FREEZE_WAIT).map_err(internal)?;
        Ok(FreezeReport { sas: frozen.len() as u64 })
    }

    fn thaw(&self, name: &str) -> Result<FreezeReport, Refusal> {
        let thawed = self.gateway.table.thaw(&self.tunnel_keys(name)?).map_err(internal)?;
        Ok(FreezeReport { sas: thawed as u64 })
    }

    fn capture(&self, request: &CaptureRequest) -> Result<Box<dyn CaptureStream>, Refusal> {
        let filter = capture_filter(request);
        let tap = Arc::clone(&self.gateway.tap);
        if !tap.start(filter) {
            return Err(Refusal::new(Code::Busy, "a capture is running already", "wait for it, or end it"));
        }
        Ok(Box::new(RunningCapture(tap)))
    }

    fn monitor(&self, request: &MonitorRequest) -> Result<Listening, Refusal> {
        self.gateway.listeners.listen(&request.kinds).ok_or_else(|| {
            let message = format!("{MAX_LISTENERS} monitors listen already");
            Refusal::new(Code::Busy, message, "try again when one has left")
        })
    }
}

fn capture_filter(request: &CaptureRequest) -> Filter {
    let side = Some(match request.side {
        CaptureSide::Encrypted => Side::Outer,
        CaptureSide::Decrypted => Side::Inner,
    });
    Filter { side, host: request.host, spi: request.spi, protocol: request.protocol, port: request.port }
}

/// A capture that ends when its client goes.
struct RunningCapture(Arc<Tap>);

impl CaptureStream for RunningCapture {
    fn next(&mut self) -> CaptureNext {
        match self.0.next() {
            Some(captured) => {
                CaptureNext::Packet(CapturedPacket { at: captured.at, octets: captured.octets })
            }
            None => CaptureNext::Idle,
        }
    }
}

impl Drop for RunningCapture {
    fn drop(&mut self) {
        self.0.stop();
    }
}

fn counter(group: &str, name: &str, value: u64, meaning: &str) -> Counter {
    Counter { group: group.to_owned(), name: name.to_owned(), value, meaning: meaning.to_owned() }
}

fn internal(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(Code::Internal, error, "see the data plane's log")
}
