//! Baton and the daemons of a user-mode kernel: `client --- a === wire === linux-b`.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use baton_lab::charon::Section;
use baton_lab::gateway::random;
use baton_lab::kernel_peer::{Counters, Daemons};
use baton_lab::negotiation::{Authentication, CHILD, CONNECTION, Negotiation, Party, Side};
use baton_lab::peer_site::{A_IDENTITY, B_IDENTITY};
use baton_lab::ping::{ping, ping_from_kernel};
use baton_lab::{Gateway, GatewaySpec, command};
use serde_json::{Value, json};

use crate::cases::{Case, ends, hosts, protected};
use crate::stage::Stage;

/// How long the kernel's one CPU may take for what happens at once elsewhere.
pub const PATIENCE: Duration = Duration::from_secs(20);
const SECRET: &str = "thirty-two octets of no meaning.";

/// A case by a shared secret; Baton is A, the kernel B.
pub fn negotiation(case: &Case, baton: Side) -> Negotiation {
    let ((a, b), (client, server)) = (ends(case), hosts(case));
    let party = |address: IpAddr, identity: &str, host: IpAddr| Party {
        address,
        identity: identity.into(),
        networks: vec![protected(case, host).to_string()],
        certified: None,
    };
    let (own, other) = (party(a, A_IDENTITY, client), party(b, B_IDENTITY, server));
    let (initiator, responder) = if baton == Side::Initiator { (own, other) } else { (other, own) };
    Negotiation {
        authentication: Authentication::PreSharedKey(SECRET.into()),
        ike_proposals: vec!["aes128-sha256-x25519".into()],
        esp_proposals: vec![case.suite.into()],
        initiator,
        responder,
        lease: None,
        connection_options: Section::new(),
        initiator_options: Section::new(),
        responder_options: Section::new(),
        child_options: Section::new(),
        baton_options: Section::new(),
        daemon_options: Section::new(),
        secrets: Section::new(),
    }
}

/// Baton at A, with its daemons running, and a kernel with daemons of its own that do not run yet.
pub struct Kernel {
    pub baton: Gateway,
    pub stage: Stage,
}

impl Kernel {
    pub fn build(case: &Case, negotiation: &Negotiation, side: Side) -> Self {
        let stage = Stage::build_with(Daemons::Ike);
        for namespace in [&stage.a, &stage.client] {
            let device = if namespace.name() == stage.a.name() { "wan0" } else { "eth0" };
            command::run(namespace.command("ethtool").args(["-K", device, "tx", "off"])).expect("ethtool");
        }
        let spec = GatewaySpec {
            name: "a".into(),
            node: 1,
            outer: ends(case).0,
            outer_io: "auto",
            inner: "lan0",
            owned: "\"all\"".into(),
            core: 0,
            tunnels: Vec::new(),
            snapshot_key: random(32).expect("random"),
            ike: String::new(),
        };
        let mut baton = Gateway::new(&stage.lab, &stage.a, spec).expect("a gateway");
        baton.set_negotiation(negotiation, side).expect("a configuration");
        baton.start(&stage.lab).expect("the data plane starts");
        baton.start_ike(&stage.lab).expect("the IKE daemon starts");
        Self { baton, stage }
    }

    /// Baton begins to set the connection up.
    pub fn initiate(&self) {
        let request = json!({"request": "initiate", "connection": CONNECTION, "child": CHILD});
        self.baton.ask_ike(request).expect("begun");
    }

    /// The one tunnel, once it stands with one Child SA.
    pub fn tunnel(&self) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tunnels = self.baton.tunnels().expect("tunnels");
            if let [tunnel] = &*tunnels
                && tunnel["state"] == "established"
                && tunnel["children"].as_array().is_some_and(|children| children.len() == 1)
            {
                return tunnel.clone();
            }
            assert!(Instant::now() < deadline, "no tunnel: {tunnels:?}\n{}", self.baton.ike_log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Pings both ways; all come back, and through the kernel's SAs.
    pub fn ping_both_ways(&mut self, (client, server): (IpAddr, IpAddr)) {
        let before = carried(&self.settled());
        let answered = ping(&self.stage.client, &[], server, 5);
        answered.unwrap_or_else(|error| panic!("{error}\n{}", self.baton.ike_log()));
        ping_from_kernel(&mut self.stage.peer, "", client, 5).expect("answers to the kernel");
        let counters = self.counters();
        assert_eq!((carried(&counters) - before, &counters.drops), (20, &[].into()));
    }

    /// What the kernel counts once it has one pair of SAs: an old inbound one stays for a while for what is under way.
    fn settled(&mut self) -> Counters {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counters = self.counters();
            if counters.states.len() == 2 {
                return counters;
            }
            assert!(Instant::now() < deadline, "more than a pair of SAs: {counters:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// What the kernel counts.
    pub fn counters(&mut self) -> Counters {
        self.stage.peer.counters().expect("counters")
    }

    /// Something happens while the kernel pings the client; none of the pings is lost.
    pub fn under_traffic(&mut self, client: IpAddr, mut work: impl FnMut(&mut Self)) {
        let script = format!("ping -c 300 -i 0.01 -W 2 -q {client}");
        let job = self.stage.peer.start(&script).expect("pings");
        work(self);
        let answer = self.stage.peer.finish(job, PATIENCE).expect("pings end");
        assert!(answer.contains(" 0% packet loss"), "{answer}");
    }

    /// Waits until there is no tunnel and no SA.
    pub fn assert_nothing_is_left(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tunnels = self.baton.tunnels().expect("tunnels");
            let table = self.baton.dpctl_json(&["sa", "list"]).expect("dpctl").to_string();
            let states = self.counters().states;
            if tunnels.is_empty() && states.is_empty() && !table.contains("\"spi\"") {
                return;
            }
            assert!(Instant::now() < deadline, "left: {tunnels:?} {table} {states:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Packets of all SAs that the kernel has.
fn carried(counters: &Counters) -> u64 {
    counters.states.iter().map(|state| state.packets).sum()
}
