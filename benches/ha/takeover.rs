//! `kill -9` of all daemons of the node that has the tunnel, under traffic, again and again.
//!
//! - `takeover-gap`: from the last ESP packet of the old owner to the first of the new one, on captures.
//! - `takeover-decided`: from the kill to the moment at which the other node's core says that the segments are its own.
//! - `takeover-own`: from there to its first ESP packet: what a takeover costs apart from noticing that it is due.
//! - `takeover-tcp`: the longest time in which a download did not come on, up to the end of the observation, some
//!   seconds after the kill. Nobody but it sends anything towards the gateway.
//! - `takeover-udp`, `takeover-udp-up`: the longest time in which no datagram of a stream with one every 20 ms arrived,
//!   to the client and from it; `takeover-udp-lost`, `takeover-up-lost`: datagrams that never came.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use baton_lab::Namespace;
use baton_lab::http::FileServer;
use baton_lab::site::now;
use baton_lab::topology::{Topology, client_port, server_port};

use crate::Options;
use crate::progress::Progress as Bar;
use crate::report::{Report, Series};
use crate::stage::{PATIENCE, Result, Setup, Stage};
use crate::traffic::{Download, Pace, Stream, longest_gap, lost};
use crate::wire::{Wire, handed_over};

/// Tunnels that stand.
pub const SIZES: [u32; 2] = [10, 10_000];
/// Between datagrams of the stream that makes gaps visible, and of the one that stands for a voice.
const FINE: Duration = Duration::from_millis(1);
const VOICE: Duration = Duration::from_millis(20);
/// Octets of a datagram of either.
const OCTETS: usize = 160;
/// Mbit/s of the download.
const RATE: u32 = 16;
/// Reserved less far ahead: what a peer sends is refused up to there after a takeover.
const CLOSE: &str = "reserve_milliseconds = 10\nreserve_minimum = 4";
/// What a client could not do before a node died.
const CONNECT_NOTE: &str = "a download, and so no takeover in this round";
const SEED: u64 = 77;
/// More than any run downloads.
const FILE: u64 = 8_000_000_000;
/// How long a client does what it does before a node dies, and how long a node that took over is left alone.
const BEFORE: Duration = Duration::from_millis(700);
const ALONE: Duration = Duration::from_secs(3);

/// One takeover.
pub struct Event {
    /// Index of the node that died.
    pub died: usize,
    /// Since the Unix epoch.
    pub killed: Duration,
    /// Until when what clients see belongs to it.
    pub until: Duration,
    /// How long after the kill the other one knew that it has to act, if it says so.
    pub decided: Option<Duration>,
    /// By the client.
    pub seen: Seen,
}

/// What runs through the tunnel towards the client all the time, and a capture.
pub struct Observed {
    wire: Wire,
    fine: Stream,
    voice: Stream,
    site: [Namespace; 2],
    files: SocketAddr,
}

/// What the client does during one takeover: the one sends next to nothing, the other all the time.
pub enum Client {
    Downloads(Download),
    Talks(Stream),
}

/// What a client saw of a takeover.
#[derive(Clone, Copy, Debug)]
pub enum Seen {
    /// ms without progress.
    Download(f64),
    /// ms without a datagram of its at the server, and datagrams that never came there.
    Talk(f64, f64),
}

impl Client {
    /// Ends it.
    pub fn finish(self, killed: Duration, until: Duration) -> Result<Seen> {
        match self {
            Self::Downloads(download) => {
                Ok(Seen::Download(milliseconds(longest_gap(&download.finish()?, killed, until))))
            }
            Self::Talks(stream) => {
                let (arrived, _) = stream.finish();
                let gap = milliseconds(longest_gap(&moments(&arrived), killed, until));
                Ok(Seen::Talk(gap, lost(&arrived, killed, until) as f64))
            }
        }
    }
}

fn moments(arrived: &[(Duration, u64)]) -> Vec<Duration> {
    arrived.iter().map(|(at, _)| *at).collect()
}

impl Observed {
    /// Starts it, between the server and the client.
    pub fn start(topology: &Topology) -> Result<Self> {
        topology.limit_server(RATE)?;
        let wire = Wire::watch(&topology.wan)?;
        let server = FileServer::start(&topology.server, server_port(80), SEED, FILE)?;
        let stream = |port: u16, pace: Duration| {
            Stream::start(&topology.server, &topology.client, client_port(port), OCTETS, Pace::Every(pace))
        };
        let (fine, voice) = (stream(5001, FINE)?, stream(5002, VOICE)?);
        let site = [topology.client.clone(), topology.server.clone()];
        Ok(Self { wire, fine, voice, site, files: server.address() })
    }

    /// Begins what the client does in this round.
    pub fn client(&self, round: usize) -> Result<Client> {
        let [client, server] = &self.site;
        if round.is_multiple_of(2) {
            return Ok(Client::Downloads(Download::start(client, self.files)?));
        }
        let stream = Stream::start(client, server, server_port(5007), OCTETS, Pace::Every(VOICE))?;
        Ok(Client::Talks(stream))
    }

    /// Waits until datagrams come through.
    pub fn flows(&self) -> Result<()> {
        let (wanted, deadline) = (self.fine.count() + 100, Instant::now() + PATIENCE);
        while self.fine.count() < wanted {
            if Instant::now() > deadline {
                return Err("datagrams do not come through".into());
            }
            std::thread::sleep(FINE);
        }
        Ok(())
    }

    /// Ends it: what each of these takeovers looked like.
    pub fn judge(self, events: &[Event]) -> Result<Vec<Outcome>> {
        let sent = self.wire.finish()?;
        let (voice, _) = self.voice.finish();
        let arrivals = moments(&voice);
        let outcome = |event: &Event| {
            let edge = handed_over(&sent, event.died, event.killed);
            let own = |(_, first): (Duration, Duration)| {
                Some(milliseconds(first.saturating_sub(event.killed + event.decided?)))
            };
            Outcome {
                gap: edge.map(|(last, first)| milliseconds(first.saturating_sub(last))),
                decided: event.decided.map(milliseconds),
                own: edge.and_then(own),
                seen: event.seen,
                udp: milliseconds(longest_gap(&arrivals, event.killed, event.until)),
                lost: lost(&voice, event.killed, event.until) as f64,
            }
        };
        Ok(events.iter().map(outcome).collect())
    }
}

/// What one takeover looked like: ms, and datagrams.
pub struct Outcome {
    gap: Option<f64>,
    decided: Option<f64>,
    own: Option<f64>,
    seen: Seen,
    udp: f64,
    lost: f64,
}

/// Adds what all of them looked like.
pub fn add(report: &mut Report, system: &str, tunnels: usize, outcomes: &[Outcome]) {
    let mut add = |part, unit, of: &dyn Fn(&Outcome) -> Option<f64>| {
        let samples: Vec<f64> = outcomes.iter().filter_map(of).collect();
        if !samples.is_empty() {
            report.add(Series { part, system: system.to_owned(), tunnels, unit, samples });
        }
    };
    add("takeover-gap", "ms", &|outcome| outcome.gap);
    add("takeover-decided", "ms", &|outcome| outcome.decided);
    add("takeover-own", "ms", &|outcome| outcome.own);
    add("takeover-udp", "ms", &|outcome| Some(outcome.udp));
    add("takeover-udp-lost", "1", &|outcome| Some(outcome.lost));
    add("takeover-tcp", "ms", &|outcome| {
        if let Seen::Download(gap) = outcome.seen { Some(gap) } else { None }
    });
    add("takeover-udp-up", "ms", &|outcome| {
        if let Seen::Talk(gap, _) = outcome.seen { Some(gap) } else { None }
    });
    add("takeover-up-lost", "1", &|outcome| {
        if let Seen::Talk(_, lost) = outcome.seen { Some(lost) } else { None }
    });
}

pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Measures Baton with few tunnels and with many.
pub fn run(report: &mut Report, options: Options) -> Result<()> {
    for tunnels in SIZES {
        let rounds = match (tunnels, options.quick) {
            (10, true) => 10,
            (10, false) => 60,
            (_, true) => 4,
            (_, false) => 20,
        };
        measure(report, "Baton", &Setup::new(tunnels), rounds)?;
        if tunnels == SIZES[0] {
            let options = CLOSE.to_owned();
            measure(
                report,
                "Baton, T = 10 ms, least 4",
                &Setup { options, ..Setup::new(tunnels) },
                rounds.div_ceil(2),
            )?;
        }
    }
    Ok(())
}

fn measure(report: &mut Report, system: &str, setup: &Setup, rounds: usize) -> Result<()> {
    let bar = Bar::new(&format!("takeover, {} tunnels", setup.tunnels), rounds);
    let mut stage = Stage::start(setup)?;
    let observed = Observed::start(&stage.site.topology)?;
    let mut events = Vec::new();
    for round in 0..rounds {
        observed.flows()?;
        match observed.client(round) {
            Ok(client) => {
                std::thread::sleep(BEFORE);
                events.push(one(&mut stage, client)?);
            }
            Err(problem) => println!("no connection for {CONNECT_NOTE}: {problem}"),
        }
        bar.step();
    }
    bar.end();
    add(report, system, setup.tunnels as usize, &observed.judge(&events)?);
    Ok(())
}

/// One node dies, the other takes over, and the first comes back and has everything.
fn one(stage: &mut Stage, client: Client) -> Result<Event> {
    let died = stage.owner()?;
    stage.wait_for_standby(died)?;
    let killed = stage.kill_node(died);
    stage.wait("the other node owns everything", || Ok(stage.owned(1 - died)?.len() == 256))?;
    std::thread::sleep(ALONE);
    let decided = decided(&stage.log(1 - died), killed);
    stage.start_node(died)?;
    stage.wait_for_standby(1 - died)?;
    let until = now();
    Ok(Event { died, killed, until, decided, seen: client.finish(killed, until)? })
}

/// How long after `killed` a daemon logged that it took over.
fn decided(log: &str, killed: Duration) -> Option<Duration> {
    let line = log.lines().rev().find(|line| line.contains("took") && line.contains("takeover"))?;
    let time = line.split('T').nth(1)?.split('Z').next()?;
    let mut parts = time.split(':').map(str::parse::<f64>);
    let (hours, minutes, seconds) = (parts.next()?.ok()?, parts.next()?.ok()?, parts.next()?.ok()?);
    let day = 86_400.0;
    let after = (hours * 3600.0 + minutes * 60.0 + seconds - killed.as_secs_f64() % day).rem_euclid(day);
    Some(Duration::from_secs_f64(after))
}
