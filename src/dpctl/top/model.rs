//! From samples to what is shown. No clock, no terminal, no socket.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use baton_dataplane::control::{Counter, WorkerStatus};
use baton_ike::control::IkeEntry;
use baton_sad::Direction;
use serde::Serialize;

use super::sample::{SaSample, Sample};
use crate::dpctl::segments::text_of;

/// What is shown; rates are per second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct View {
    /// Node and cluster, or what is wrong with them.
    pub(super) gateway: String,
    pub(super) uptime_seconds: Option<u64>,
    /// Daemons that do not answer, or that started afresh.
    pub(super) notes: Vec<String>,
    pub(super) alarms: Vec<String>,
    /// Segments of this gateway, as `0-127`; empty while that is not known.
    pub(super) segments_owned: String,
    /// Segments of other gateways, or of none.
    pub(super) segments_elsewhere: String,
    pub(super) workers: Vec<Worker>,
    /// Reasons for which something was dropped at all, the most of now first.
    pub(super) drops: Vec<Drops>,
    pub(super) total: Traffic,
    pub(super) tunnels: Vec<Tunnel>,
}

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Worker {
    pub(super) index: u16,
    pub(super) core: u32,
    pub(super) opened: f64,
    pub(super) sealed: f64,
    pub(super) dropped: f64,
    /// Of all that workers do, in percent.
    pub(super) share: f64,
}

/// A reason for drops.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Drops {
    pub(super) name: String,
    pub(super) rate: f64,
    pub(super) total: u64,
    pub(super) meaning: String,
}

/// Traffic in both directions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Traffic {
    pub(super) inbound_packets: f64,
    pub(super) inbound_bits: f64,
    pub(super) outbound_packets: f64,
    pub(super) outbound_bits: f64,
    /// Packets that SAs refused.
    pub(super) refused: f64,
}

/// A tunnel.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(super) struct Tunnel {
    pub(super) name: String,
    /// The peer's identity, or where it is.
    pub(super) peer: String,
    pub(super) remote: String,
    pub(super) state: String,
    /// Seconds since it stands; `None` where nobody knows.
    pub(super) age: Option<u64>,
    pub(super) segment: u8,
    pub(super) sas: usize,
    #[serde(flatten)]
    pub(super) traffic: Traffic,
}

/// What was counted at the last moment.
#[derive(Default)]
pub(super) struct History {
    at: Option<Duration>,
    sas: HashMap<(Direction, u32), [u64; 3]>,
    workers: HashMap<u16, [u64; 3]>,
    drops: HashMap<String, u64>,
    /// Processes of the data plane and of the IKE daemon.
    processes: [Option<u32>; 2],
}

impl History {
    /// The view of this moment; rates are those since the last one.
    pub(super) fn view(&mut self, sample: &Sample) -> View {
        let seconds = self.at.map(|last| sample.at.saturating_sub(last).as_secs_f64());
        let mut view = View::default();
        self.daemons(sample, &mut view);
        if let Ok(data_plane) = &sample.data_plane {
            view.workers = self.workers(&data_plane.status.workers, seconds);
            view.drops = self.drops(&data_plane.drops, seconds);
            let elsewhere: Vec<u8> =
                (0..=u8::MAX).filter(|segment| !data_plane.owned.contains(segment)).collect();
            view.segments_owned = text_of(&data_plane.owned);
            view.segments_elsewhere = text_of(&elsewhere);
        }
        view.tunnels = self.tunnels(sample, seconds);
        for tunnel in &view.tunnels {
            view.total.add(&tunnel.traffic);
        }
        self.at = Some(sample.at);
        view
    }

    /// Who answers, who does not, who is another process than before.
    fn daemons(&mut self, sample: &Sample, view: &mut View) {
        match &sample.data_plane {
            Ok(data_plane) => {
                let status = &data_plane.status;
                view.gateway = format!("node {} of {}, {}", status.node, status.cluster, status.release);
                view.uptime_seconds = Some(status.uptime_seconds);
                view.alarms.extend(status.alarms.iter().cloned());
                self.process(0, status.pid, "data plane", view);
            }
            Err(problem) => view.notes.push(problem.clone()),
        }
        match &sample.ike {
            Some(Ok(ike)) => {
                view.alarms.extend(ike.status.alarms.iter().cloned());
                self.process(1, ike.status.pid, "IKE daemon", view);
            }
            Some(Err(problem)) => view.notes.push(problem.clone()),
            None => {}
        }
        view.notes.extend(sample.sas.as_ref().err().cloned());
    }

    fn process(&mut self, daemon: usize, pid: u32, name: &str, view: &mut View) {
        if self.processes[daemon].replace(pid).is_some_and(|before| before != pid) {
            view.notes.push(format!("the {name} was started afresh, as process {pid}"));
        }
    }

    fn workers(&mut self, workers: &[WorkerStatus], seconds: Option<f64>) -> Vec<Worker> {
        let before = std::mem::take(&mut self.workers);
        let rows = workers.iter().map(|worker| {
            let counted = [worker.inbound_packets, worker.outbound_packets, worker.drops];
            self.workers.insert(worker.index, counted);
            let [opened, sealed, dropped] = rates(counted, before.get(&worker.index), seconds);
            Worker { index: worker.index, core: worker.core, opened, sealed, dropped, share: 0.0 }
        });
        let mut rows: Vec<Worker> = rows.collect();
        let all: f64 = rows.iter().map(Worker::work).sum();
        rows.iter_mut().filter(|_| all > 0.0).for_each(|row| row.share = 100.0 * row.work() / all);
        rows
    }

    fn drops(&mut self, counters: &[Counter], seconds: Option<f64>) -> Vec<Drops> {
        let before = std::mem::take(&mut self.drops);
        self.drops = counters.iter().map(|counter| (counter.name.clone(), counter.value)).collect();
        let rows = counters.iter().filter(|counter| counter.value > 0).map(|counter| {
            let known = before.get(&counter.name).map(|value| [*value]);
            let [rate] = rates([counter.value], known.as_ref(), seconds);
            let (name, meaning) = (counter.name.clone(), counter.meaning.clone());
            Drops { name, rate, total: counter.value, meaning }
        });
        let mut rows: Vec<Drops> = rows.collect();
        rows.sort_by(|a, b| b.rate.total_cmp(&a.rate).then(b.total.cmp(&a.total)));
        rows
    }

    /// Those that IKE knows and those that have SAs.
    fn tunnels(&mut self, sample: &Sample, seconds: Option<f64>) -> Vec<Tunnel> {
        let mut tunnels: BTreeMap<&str, Tunnel> = BTreeMap::new();
        if let Some(Ok(ike)) = &sample.ike {
            tunnels.extend(ike.tunnels.iter().map(|entry| (entry.name.as_str(), Tunnel::of_ike(entry))));
        }
        if let Ok(sas) = &sample.sas {
            let before = std::mem::take(&mut self.sas);
            for sa in sas {
                let key = (sa.direction, sa.spi);
                let counted = [sa.packets, sa.octets, sa.refused];
                self.sas.insert(key, counted);
                let tunnel = tunnels.entry(&sa.tunnel).or_insert_with(|| Tunnel::of_sa(sa));
                // An SA that is new since the last moment has counted all it has since then.
                tunnel.count(sa, rates(counted, before.get(&key).or(Some(&[0; 3])), seconds));
            }
        }
        tunnels.into_values().collect()
    }
}

/// Rates since before; nothing of what a daemon forgot by starting afresh.
fn rates<const N: usize>(now: [u64; N], before: Option<&[u64; N]>, seconds: Option<f64>) -> [f64; N] {
    let (Some(before), Some(seconds)) = (before, seconds.filter(|seconds| *seconds > 0.0)) else {
        return [0.0; N];
    };
    std::array::from_fn(|n| now[n].saturating_sub(before[n]) as f64 / seconds)
}

impl Worker {
    fn work(&self) -> f64 {
        self.opened + self.sealed + self.dropped
    }
}

impl Traffic {
    fn add(&mut self, other: &Self) {
        self.inbound_packets += other.inbound_packets;
        self.inbound_bits += other.inbound_bits;
        self.outbound_packets += other.outbound_packets;
        self.outbound_bits += other.outbound_bits;
        self.refused += other.refused;
    }
}

impl Tunnel {
    fn of_ike(entry: &IkeEntry) -> Self {
        let remote = entry.remote.map(|remote| remote.to_string()).unwrap_or_default();
        Self {
            name: entry.name.clone(),
            peer: if entry.remote_identity.is_empty() {
                remote.clone()
            } else {
                entry.remote_identity.clone()
            },
            remote,
            state: if entry.frozen { "frozen" } else { &entry.state }.to_owned(),
            age: entry.established_seconds,
            segment: entry.segment,
            ..Self::default()
        }
    }

    fn of_sa(sa: &SaSample) -> Self {
        Self {
            name: sa.tunnel.clone(),
            peer: sa.remote.clone(),
            remote: sa.remote.clone(),
            state: "installed".to_owned(),
            segment: sa.segment,
            ..Self::default()
        }
    }

    fn count(&mut self, sa: &SaSample, [packets, octets, refused]: [f64; 3]) {
        self.sas += 1;
        self.traffic.refused += refused;
        let (of_packets, of_bits) = match sa.direction {
            Direction::Inbound => (&mut self.traffic.inbound_packets, &mut self.traffic.inbound_bits),
            Direction::Outbound => (&mut self.traffic.outbound_packets, &mut self.traffic.outbound_bits),
        };
        *of_packets += packets;
        *of_bits += 8.0 * octets;
        if sa.frozen {
            "frozen".clone_into(&mut self.state);
        }
    }
}
