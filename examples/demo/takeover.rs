//! The last act: B and B2 are a cluster, and the node that owns the tunnel dies under the download.

use std::time::{Duration, Instant};

use baton_lab::http::FileServer;
use baton_lab::members::{is_settled, owned, status};
use baton_lab::negotiation::Side;
use baton_lab::{CharonSpec, ClusterSpec, Gateway, Lab, LabError, Members, PeerSite, Result};
use baton_lab::{peer_site, site, topology};

use crate::report::{TakeoverFigures, milliseconds};
use crate::stage::{self, Tunnel};
use crate::trace::{Gaps, Tap};
use crate::view::View;
use crate::{Act, Cast, MARGIN, SEED, act, download_figures, download_only, edge};

/// The default heartbeat first; where it takes living nodes for dead, the next one.
const INTERVALS: [u32; 4] = [10, 20, 40, 80];
const MISSED: u32 = 3;
const NODES: [u8; 2] = [2, 3];
const PATIENCE: Duration = Duration::from_secs(20);

/// Two gateways that are one to strongSwan, and their witness.
struct Stage {
    members: Members,
    site: PeerSite,
    tunnel: Tunnel,
    /// Segments taken over, and how often each node had lost its leases, when all had settled for the first time.
    taken: u64,
    lost: [u64; 2],
}

/// What happened to the owner.
struct Fall {
    owner: usize,
    killed: Duration,
    /// Until the other node had all segments, as `dpctl` saw it.
    taken: Duration,
}

/// Plays it with the shortest heartbeat that raises no false alarm under the download.
pub fn play(view: &mut View, octets: u64, sha256: &str) -> Result<TakeoverFigures> {
    for interval in INTERVALS {
        view.done(&format!("heartbeats every {interval} ms; a node is dead when {MISSED} were missed"));
        match attempt(view, octets, sha256, interval) {
            Ok(Some(figures)) => return Ok(figures),
            // Nodes that take each other for dead all the time never get ready.
            Ok(None) | Err(LabError::Timeout { .. }) => {}
            Err(error) => return Err(error),
        }
        view.event("a living node was taken for dead: this machine is too busy for this heartbeat");
    }
    Err(LabError::Unexpected("the machine is too busy for a cluster: nodes that live fall silent".into()))
}

fn attempt(view: &mut View, octets: u64, sha256: &str, interval: u32) -> Result<Option<TakeoverFigures>> {
    let mut stage = Stage::start(interval)?;
    view.done("strongSwan has negotiated a tunnel with the cluster; each node has the other one's contexts");
    let topology = &stage.site.topology;
    let server = FileServer::start(&topology.server, topology::server_port(80), SEED, octets)?;
    let taps = [Tap::start(&topology.wan, "b")?, Tap::start(&topology.wan, "b2")?];
    let cast = Cast {
        server: topology.server.clone(),
        client: topology.client.clone(),
        tunnel: stage.tunnel.clone(),
    };
    if stage.has_been_wrong() {
        return Ok(None);
    }
    let played = match act(view, &cast, &server, octets, |view| stage.fall(view)) {
        Err(_) if stage.has_lost_leases() => return Ok(None),
        played => played?,
    };
    let mut seen = Vec::new();
    for tap in taps {
        seen.push(tap.finish()?);
    }
    let Act { event: Some(fall), downloaded, .. } = played else { return Ok(None) };
    let spi = stage.tunnel.spi_to_client;
    let of = |index: usize| seen[index].0.iter().filter(move |sighting| sighting.spi == spi);
    let (start, end) = (fall.killed.saturating_sub(MARGIN), fall.killed + fall.taken + MARGIN);
    let both = || of(0).chain(of(1));
    let (log, other) = (stage.site.charon.log(), 1 - fall.owner);
    let count = |what: &str| log.lines().filter(|line| line.contains(what)).count();
    Ok(Some(TakeoverFigures {
        heartbeat_ms: interval,
        missed: MISSED,
        dead_node: NODES[fall.owner],
        new_node: NODES[other],
        interruption_ms: milliseconds(Gaps::of(both()).longest_within(start, end).length),
        download_paused_ms: milliseconds(Gaps::of(download_only(both())).longest_within(start, end).length),
        taken_ms: milliseconds(fall.taken),
        authentications: count("generating IKE_AUTH request"),
        rekeyings: count("CREATE_CHILD_SA"),
        download: download_figures(&downloaded, sha256),
        before: edge(of(fall.owner).max_by_key(|sighting| sighting.at)),
        after: edge(
            of(other).filter(|sighting| sighting.at >= fall.killed).min_by_key(|sighting| sighting.at),
        ),
        repeated_ivs: crate::trace::repeated_ivs(both()),
    }))
}

impl Stage {
    fn start(interval: u32) -> Result<Self> {
        let lab = Lab::with_plain_names()?;
        let mut site = PeerSite::build_with_client(lab, &CharonSpec::new("strongswan"))?;
        site.topology.limit_server(peer_site::RATE)?;
        site.configure(&peer_site::road_warrior(Side::Responder))?;
        let spec =
            ClusterSpec { nodes: NODES, witness: true, interval, missed: MISSED, options: String::new() };
        site.b = spec.gateway(&site.lab, &site.b)?;
        site.b2 = spec.gateway(&site.lab, &site.b2)?;
        let mut members = Members::build(&site.lab, &spec, [&site.b, &site.b2])?;
        site.start_b2()?;
        site.start_b()?;
        members.start(&site.lab, 0, &site.b)?;
        members.start(&site.lab, 1, &site.b2)?;
        members.start_witness(&site.lab)?;
        settle(&site)?;
        let gateways = [&site.b, &site.b2];
        let taken = gateways.into_iter().map(|gateway| total(gateway, "takeovers")).sum();
        let lost = gateways.map(lost);
        let tunnel = stage::negotiate(&site)?;
        settle(&site)?;
        Ok(Self { members, site, tunnel, taken, lost })
    }

    fn gateways(&self) -> [&Gateway; 2] {
        [&self.site.b, &self.site.b2]
    }

    /// Whether a node has taken another one for dead that was not, since all had settled.
    fn has_been_wrong(&self) -> bool {
        let taken: u64 = self.gateways().into_iter().map(|gateway| total(gateway, "takeovers")).sum();
        taken > self.taken || self.has_lost_leases()
    }

    fn has_lost_leases(&self) -> bool {
        self.gateways().map(lost).into_iter().zip(self.lost).any(|(now, then)| now > then)
    }

    /// The owner dies, unless the heartbeat has been wrong before.
    fn fall(&mut self, view: &View) -> Result<Option<Fall>> {
        let segment = u64::from(self.tunnel.segment);
        let is_right = !self.has_been_wrong() && is_settled(self.gateways());
        let owner = (0..2).find(|index| owned(self.gateways()[*index]).contains(&segment));
        let Some(owner) = owner.filter(|_| is_right) else { return Ok(None) };
        let name = ["B", "B2"][owner];
        view.event(&format!(
            "kill -9 of all daemons of {name}, which owns the tunnel; nobody starts them again"
        ));
        let killed = site::now();
        let clock = Instant::now();
        let gateway = if owner == 0 { &mut self.site.b } else { &mut self.site.b2 };
        self.members.kill_node(owner, gateway);
        let other = self.gateways()[1 - owner];
        wait_until("the takeover", || owned(other).len() == 256)?;
        let taken = clock.elapsed();
        view.done(&format!("{} owns all segments: {:.0} ms", ["B2", "B"][owner], milliseconds(taken)));
        Ok(Some(Fall { owner, killed, taken }))
    }
}

/// Since the start of a node's daemon; nothing if it does not run.
fn total(gateway: &Gateway, kind: &str) -> u64 {
    status(gateway)["totals"][kind].as_u64().unwrap_or_default()
}

fn lost(gateway: &Gateway) -> u64 {
    total(gateway, "lapses") + total(gateway, "pauses")
}

fn settle(site: &PeerSite) -> Result<()> {
    wait_until("each node's half of the segments", || is_settled([&site.b, &site.b2]))
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        if Instant::now() > deadline {
            let (what, seconds) = (what.to_owned(), PATIENCE.as_secs());
            return Err(LabError::Timeout { what, seconds, detail: String::new() });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
