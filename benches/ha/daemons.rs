//! What being ready for a takeover costs the daemons, under a stream at full rate through one tunnel.
//!
//! A gateway by itself, and clusters that reserve more or less far ahead, all of them started and measured in turns:
//! `load-rate`, packets per second from end to end; `load-cpu`, CPU ns per packet of all data planes and cluster daemons;
//! `load-rate-ratio`, `load-cpu-ratio`: each round beside the gateway by itself in the same round. `load-dropped`: packets
//! per million that arrived, which met the end of what was reserved: replication lags behind by more than N.
//!
//! The filter is the same program in a gateway by itself and in a cluster, so that its cost is in both.

use std::fs;
use std::time::{Duration, Instant};

use baton_lab::control::ControlSocket;
use baton_lab::site::{Site, find};
use baton_lab::topology::client_port;
use baton_lab::{Gateway, Lab};
use serde_json::{Value, json};

use crate::Options;
use crate::cost::{AHEAD, name};
use crate::progress::Progress;
use crate::report::{Report, Series};
use crate::stage::{Result, Setup, Stage};
use crate::traffic::{Pace, Stream};

const OCTETS: usize = 64;
const WINDOW: u64 = 256;
/// Before the figures count.
const WARM_UP: Duration = Duration::from_millis(300);
const TIME: Duration = Duration::from_millis(1500);
/// Heartbeats that do not mind two saturated cores.
const PATIENT: (Duration, u32) = (Duration::from_millis(40), 4);

/// What is measured.
enum Running {
    Alone(Box<Site>),
    Cluster(Box<Stage>),
}

/// One round of one of them.
#[derive(Clone, Copy)]
struct Measured {
    rate: f64,
    cpu: f64,
    dropped: f64,
}

impl Running {
    fn start(ahead: Option<u64>) -> Result<Self> {
        let Some(ahead) = ahead else {
            let mut site = Site::build(Lab::new()?)?;
            site.b.start(&site.lab)?;
            site.a.start(&site.lab)?;
            return Ok(Self::Alone(Box::new(site)));
        };
        let options = format!("reserve_packets = {ahead}\nreserve_minimum = {}", ahead.min(64));
        let (interval, missed) = PATIENT;
        Ok(Self::Cluster(Box::new(Stage::start(&Setup { interval, missed, options, ..Setup::new(1) })?)))
    }

    fn site(&self) -> &Site {
        match self {
            Self::Alone(site) => site,
            Self::Cluster(stage) => &stage.site,
        }
    }

    fn owner(&self) -> Result<&Gateway> {
        match self {
            Self::Alone(site) => Ok(&site.b),
            Self::Cluster(stage) => Ok(stage.gateway(stage.owner()?)),
        }
    }

    /// Of the gateways' daemons; those of a witness and of the peer are not the cluster's cost.
    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Alone(site) => site.b.pid().into_iter().collect(),
            Self::Cluster(stage) => [stage.pids(0), stage.pids(1)].concat(),
        }
    }

    fn measure(&self) -> Result<Measured> {
        let topology = &self.site().topology;
        let stream = Stream::start(
            &topology.server,
            &topology.client,
            client_port(5006),
            OCTETS,
            Pace::Window(WINDOW),
        )?;
        std::thread::sleep(WARM_UP);
        let mut socket = ControlSocket::connect(self.owner()?)?;
        let look = |socket: &mut ControlSocket| -> Result<_> {
            Ok((Instant::now(), stream.count(), cpu_time(&self.pids()), dropped(socket)?))
        };
        let before = look(&mut socket)?;
        std::thread::sleep(TIME);
        let after = look(&mut socket)?;
        let packets = (after.1 - before.1).max(1) as f64;
        Ok(Measured {
            rate: packets / (after.0 - before.0).as_secs_f64(),
            cpu: after.2.saturating_sub(before.2) as f64 / packets,
            dropped: (after.3 - before.3) as f64 * 1e6 / packets,
        })
    }
}

/// ns on a CPU of all threads of these processes.
fn cpu_time(pids: &[u32]) -> u64 {
    let threads =
        pids.iter().filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok()).flatten().flatten();
    let on_cpu = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    threads.filter_map(|thread| on_cpu(thread.path())).sum()
}

/// Packets that a gateway has dropped for want of a reservation.
fn dropped(socket: &mut ControlSocket) -> Result<u64> {
    let answer = socket.ask(json!({"request": "counters"}))?;
    let of = |name: &str| {
        let named = |value: &Value| value["name"] == name;
        find(&answer, &named).and_then(|counter| counter["value"].as_u64()).unwrap_or(0)
    };
    Ok(of("reservation-outbound") + of("reservation-inbound"))
}

pub fn run(report: &mut Report, options: Options) -> Result<()> {
    let rounds = if options.quick { 5 } else { 40 };
    let variants: Vec<Option<u64>> = std::iter::once(None).chain(AHEAD.map(Some)).collect();
    let bar = Progress::new("cost, daemons under load", rounds * variants.len());
    let running = variants.iter().map(|ahead| Running::start(*ahead)).collect::<Result<Vec<_>>>()?;
    let mut measured: Vec<Vec<Measured>> = vec![Vec::new(); running.len()];
    for round in 0..rounds {
        for turn in 0..running.len() {
            let which = (round + turn) % running.len();
            measured[which].push(running[which].measure()?);
            bar.step();
        }
    }
    bar.end();
    for (ahead, own) in variants.iter().zip(&measured) {
        let mut add = |part, unit, samples| {
            report.add(Series { part, system: name(*ahead), tunnels: 0, unit, samples });
        };
        let each = |of: fn(&Measured) -> f64| own.iter().map(of).collect::<Vec<f64>>();
        let beside =
            |of: fn(&Measured) -> f64| own.iter().zip(&measured[0]).map(|(a, b)| of(a) / of(b)).collect();
        add("load-rate", "1/s", each(|m| m.rate));
        add("load-cpu", "ns", each(|m| m.cpu));
        add("load-dropped", "ppm", each(|m| m.dropped));
        if ahead.is_some() {
            add("load-rate-ratio", "1", beside(|m| m.rate));
            add("load-cpu-ratio", "1", beside(|m| m.cpu));
        }
    }
    Ok(())
}
