//! The networks on which peers negotiate, and what flows through what they agree on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use baton_lab::negotiation::{Negotiation, Side};
use baton_lab::probe::{Echo, Prober};
use baton_lab::topology::{SERVER, Topology, client_port};
use baton_lab::{Charon, CharonSpec, Lab, command};

pub use baton_lab::negotiation::{CHILD, CONNECTION};

use crate::support::{self, MARKER};

/// Starts a charon that plays `side`.
pub fn charon(lab: &Lab, topology: &Topology, case: &Negotiation, side: Side) -> Charon {
    let (namespace, name) = match side {
        Side::Initiator => (&topology.a, "charon-a"),
        Side::Responder => (&topology.b, "charon-b"),
    };
    let charon = Charon::start(lab, namespace, &CharonSpec::new(name)).expect("charon starts");
    load(&charon, case, side);
    charon
}

/// Gives a charon its side of the case.
pub fn load(charon: &Charon, case: &Negotiation, side: Side) {
    let own = if side == Side::Initiator { &case.initiator } else { &case.responder };
    if let Some(certified) = &own.certified {
        charon.add_file("x509", &certified.certificate).expect("a certificate");
        charon.add_file("private", &certified.key).expect("a key");
        charon.add_file("x509ca", &certified.authority).expect("an authority");
    }
    charon.load(&case.swanctl(side)).expect("charon takes its configuration");
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

/// Pings from the client to the server; all have to come back.
pub fn ping(topology: &Topology) {
    let mut ping = topology.client.command("ping");
    ping.args(["-n", "-c", "5", "-i", "0.02", "-W", "2", &SERVER.to_string()]);
    let answer = command::run(&mut ping).expect("ping");
    assert!(answer.contains(" 0% packet loss"), "{answer}");
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
    pub fn from(topology: &Topology, namespace: &baton_lab::Namespace, source: SocketAddr) -> Self {
        let to = SocketAddr::new(IpAddr::V4(SERVER), support::ECHO);
        let echo = Echo::start(&topology.server, to).expect("echo");
        let pace = Duration::from_millis(2);
        let prober = Prober::start(namespace, source, to, MARKER, pace).expect("prober");
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
        self.prober.pause();
        let all_back = || self.prober.counts().0 == self.prober.counts().1;
        let deadline = std::time::Instant::now() + Duration::from_secs(2);
        while !all_back() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let (sent, answered) = self.prober.counts();
        assert_eq!(answered, sent, "{what}: lost of {sent}, {} got there", self.echo.received());
        sent
    }
}
