//! strongSwan and Baton on their wires, and what is checked again and again.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use baton_lab::charon::{ChildSa, IkeSa};
use baton_lab::negotiation::{CHILD, CONNECTION, Negotiation, Side};
use baton_lab::probe::{Echo, Prober};
use baton_lab::topology::{CLIENT, SERVER, Topology, client_port};
use baton_lab::{Charon, CharonSpec, Gateway, Lab, Namespace, PeerSite, charon, requirements};
use serde_json::{Value, json};

use crate::support::{self, MARKER, PATIENCE};

/// How long an exchange may take.
pub const EXCHANGE: Duration = Duration::from_secs(10);

/// Whether tests with strongSwan can run here; says SKIPPED and why if not.
pub fn can_run(test: &str) -> bool {
    let answer = charon::requirements().and_then(|()| {
        let missing = ["baton-dataplane", "baton-ike", "dpctl"]
            .into_iter()
            .find(|name| !requirements::binary(name).exists());
        missing.map_or(Ok(()), |name| Err(format!("{name} is not built")))
    });
    if let Err(reason) = &answer {
        requirements::skipped(test, reason);
    }
    answer.is_ok()
}

/// B runs, and strongSwan; both have their sides of `case`.
pub fn site(baton: Side, case: &Negotiation) -> PeerSite {
    site_with(baton, case, &CharonSpec::new("charon"))
}

/// The same with another strongSwan.
pub fn site_with(baton: Side, case: &Negotiation, spec: &CharonSpec) -> PeerSite {
    let mut site = PeerSite::build(Lab::new().expect("lab"), baton, spec).expect("a site");
    site.configure(case).expect("configurations");
    site.start_b().expect("B starts");
    site
}

/// Gives both ends another case; both are without tunnels.
pub fn reconfigure(site: &mut PeerSite, baton: Side, case: &Negotiation) {
    site.baton = baton;
    site.configure(case).expect("configurations");
    site.b.ask_ike(json!({"request": "reload"})).expect("a reload");
}

/// Whoever's part it is sets the connection up.
pub fn set_up(site: &PeerSite) -> Pair {
    match site.baton {
        Side::Responder => drop(site.charon.initiate(CHILD).expect("a Child SA")),
        Side::Initiator => initiate(site),
    }
    Pair::of(site)
}

/// Baton sets the connection up.
pub fn initiate(site: &PeerSite) {
    let request = json!({"request": "initiate", "connection": CONNECTION, "child": CHILD});
    site.b.ask_ike(request).expect("begun");
}

/// What both ends say of the one tunnel with one Child SA that they have.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Baton's view.
    pub tunnel: Value,
    /// strongSwan's view.
    pub ike: IkeSa,
}

impl Pair {
    /// What B and strongSwan have.
    pub fn of(site: &PeerSite) -> Self {
        Self::at(&site.b, &site.charon)
    }

    /// Waits until both ends have the same IKE SA and the same Child SA, and nothing else, and packets can flow.
    pub fn at(baton: &Gateway, charon: &Charon) -> Self {
        let deadline = Instant::now() + EXCHANGE;
        loop {
            let (tunnels, mut sas) = (baton.tunnels().expect("tunnels"), charon.sas().expect("SAs"));
            // Somebody may have left one half-open.
            sas.retain(|sa| sa.state != "CONNECTING");
            if let ([tunnel], [ike]) = (&*tunnels, &*sas) {
                let mut pair = Self { tunnel: tunnel.clone(), ike: ike.clone() };
                // strongSwan shows a Child SA that was deleted for another few seconds.
                pair.ike.children.retain(|child| child.state == "INSTALLED");
                let status = baton.ask_ike(json!({"request": "status"})).expect("status");
                if pair.agrees() && status["policies_pending"] == 0 {
                    return pair;
                }
            }
            let logs = || format!("Baton:\n{}\nstrongSwan:\n{}", baton.ike_log(), charon.log());
            assert!(Instant::now() < deadline, "no agreement: {tunnels:?}\n{sas:?}\n{}", logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn agrees(&self) -> bool {
        let children = self.tunnel["children"].as_array().map_or(0, Vec::len);
        let spi =
            |name: &str| self.tunnel[name].as_str().unwrap_or_default().trim_start_matches("0x").to_owned();
        (children, self.ike.children.len()) == (1, 1)
            && self.tunnel["state"] == "established"
            && self.ike.state == "ESTABLISHED"
            && (spi("initiator_spi"), spi("responder_spi")) == self.ike.spis
            && self.spis() == (self.child().outbound_spi, self.child().inbound_spi)
    }

    /// strongSwan's Child SA.
    pub fn child(&self) -> &ChildSa {
        &self.ike.children[0]
    }

    /// SPIs of the Child SA, Baton's and the peer's, as Baton says.
    pub fn spis(&self) -> (u32, u32) {
        let child = &self.tunnel["children"][0];
        let spi = |name: &str| {
            let text = child[name].as_str().and_then(|text| text.strip_prefix("0x")).unwrap_or_default();
            u32::from_str_radix(text, 16).unwrap_or_default()
        };
        (spi("inbound_spi"), spi("outbound_spi"))
    }

    /// The tunnel's name at Baton.
    pub fn name(&self) -> &str {
        self.tunnel["name"].as_str().expect("a name")
    }
}

/// Who does something.
#[derive(Clone, Copy, Debug)]
pub enum By {
    StrongSwan,
    Baton,
}

/// The two ends of a tunnel.
#[derive(Clone, Copy)]
pub struct Ends<'a> {
    pub baton: &'a Gateway,
    pub charon: &'a Charon,
}

impl<'a> Ends<'a> {
    /// B and strongSwan.
    pub fn of(site: &'a PeerSite) -> Self {
        Self { baton: &site.b, charon: &site.charon }
    }

    /// B2 and strongSwan.
    pub fn of_b2(site: &'a PeerSite) -> Self {
        Self { baton: &site.b2, charon: &site.charon }
    }

    /// Waits until `condition` holds; if it does not, the ends' logs are told.
    fn eventually(self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            let logs = || format!("Baton:\n{}\nstrongSwan:\n{}", self.baton.ike_log(), self.charon.log());
            assert!(Instant::now() < deadline, "{what} did not happen within {PATIENCE:?}\n{}", logs());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What they say of their tunnel.
    pub fn pair(self) -> Pair {
        Pair::at(self.baton, self.charon)
    }

    /// New keys of the Child SA.
    pub fn rekey_child(self, by: By) {
        let before = self.pair().spis();
        match by {
            By::StrongSwan => drop(self.charon.rekey_child(CHILD).expect("a rekey")),
            By::Baton => self.ask_for_rekey(&json!({"child": {"name": CHILD}}), "child"),
        }
        self.eventually("new keys of the Child SA", || self.pair().spis() != before);
    }

    /// New keys of the IKE SA.
    pub fn rekey_ike(self, by: By) {
        let before = self.pair().ike.spis;
        match by {
            By::StrongSwan => drop(self.charon.rekey_ike(CONNECTION).expect("a rekey")),
            By::Baton => self.ask_for_rekey(&json!({"connection": CONNECTION}), "ike"),
        }
        self.eventually("new keys of the IKE SA", || self.pair().ike.spis != before);
    }

    /// Baton begins a rekey of one thing.
    pub fn ask_for_rekey(self, target: &Value, what: &str) {
        let request = json!({"request": "rekey", "target": target, "what": what});
        assert_eq!(self.baton.ask_ike(request).expect("begun")["concerned"], 1);
    }

    /// The end of the IKE SA, and of all that comes with it, at both ends.
    pub fn delete(self, by: By) {
        match by {
            By::StrongSwan => drop(self.charon.terminate_ike(CONNECTION).expect("an end")),
            By::Baton => {
                let request = json!({"request": "terminate", "target": {"connection": CONNECTION}});
                assert_eq!(self.baton.ask_ike(request).expect("begun")["concerned"], 1);
            }
        }
        self.assert_nothing_is_left();
    }

    /// Waits until nothing of a tunnel is left at either end: IKE SAs, SAs, policies.
    pub fn assert_nothing_is_left(self) {
        self.eventually("the end of all IKE SAs", || {
            self.baton.tunnels().expect("tunnels").is_empty() && self.charon.sas().expect("SAs").is_empty()
        });
        self.assert_no_sa_is_left();
    }

    /// Waits until no SA is in Baton's table, where an old inbound SA stays for a few seconds for what is under way,
    /// and no policy.
    pub fn assert_no_sa_is_left(self) {
        let listed = |what: [&str; 2]| self.baton.dpctl_json(&what).expect("dpctl").to_string();
        self.eventually("the end of all SAs", || !listed(["sa", "list"]).contains("\"spi\""));
        self.eventually("the end of all policies", || !listed(["policy", "list"]).contains(CONNECTION));
    }
}

/// The address that this charon was given.
pub fn leased_address(charon: &Charon) -> IpAddr {
    let sas = charon.sas().expect("SAs");
    let addresses: Vec<IpAddr> =
        sas.iter().flat_map(|sa| &sa.local_virtual).map(|text| text.parse().expect("an address")).collect();
    assert_eq!(addresses.len(), 1, "{sas:?}");
    addresses[0]
}

/// The DNS servers that this charon was told of.
pub fn dns_servers(charon: &Charon) -> Vec<IpAddr> {
    let text = std::fs::read_to_string(charon.resolv_conf()).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.strip_prefix("nameserver "));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

/// Datagrams from the client to the server, from the server to the client, and their answers; none may be lost. How
/// many went each way.
pub fn ping(topology: &Topology) -> u64 {
    let (client, server) = ((&topology.client, CLIENT.into()), (&topology.server, SERVER.into()));
    ping_between(client, server) + ping_between(server, client)
}

/// Datagrams from one address to another, and their answers; none may be lost. How many went each way.
pub fn ping_between(from: (&Namespace, IpAddr), to: (&Namespace, IpAddr)) -> u64 {
    let traffic = Steady::between((from.0, SocketAddr::new(from.1, 0)), to);
    traffic.finish(&format!("from {} to {}", from.1, to.1))
}

/// Datagrams from a host and back while something happens; not one of them may be lost.
pub struct Steady {
    echo: Echo,
    prober: Prober,
}

impl Steady {
    /// From the client behind A.
    pub fn from_client(topology: &Topology) -> Self {
        Self::from(topology, &topology.client, client_port(0))
    }

    /// From an address of its own in a namespace.
    pub fn from(topology: &Topology, namespace: &Namespace, source: SocketAddr) -> Self {
        Self::between((namespace, source), (&topology.server, SERVER.into()))
    }

    fn between(from: (&Namespace, SocketAddr), to: (&Namespace, IpAddr)) -> Self {
        let at = SocketAddr::new(to.1, support::ECHO);
        let echo = Echo::start(to.0, at).expect("echo");
        let pace = Duration::from_millis(1);
        let prober = Prober::start(from.0, from.1, at, MARKER, pace).expect("prober");
        let steady = Self { echo, prober };
        steady.flows();
        steady
    }

    /// Waits until another hundred have come back.
    pub fn flows(&self) {
        self.prober.wait_for_answers(100, support::PATIENCE).expect("traffic");
    }

    /// Ends it; how many were sent. Each has to have come back.
    pub fn finish(self, what: &str) -> u64 {
        let (sent, answered) = self.settle();
        assert_eq!(answered, sent, "{what}: lost of {sent}, {} got there", self.echo.received());
        sent
    }

    /// Ends it; how many were sent, and how many of them did not come back.
    pub fn losses(self) -> (u64, u64) {
        let (sent, answered) = self.settle();
        (sent, sent - answered)
    }

    fn settle(&self) -> (u64, u64) {
        self.prober.pause();
        let deadline = Instant::now() + Duration::from_secs(2);
        let is_settled = || self.prober.counts().0 == self.prober.counts().1;
        while !is_settled() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.prober.counts()
    }
}
