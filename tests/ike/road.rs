//! A laptop on the road: its gateways, and what is looked at again and again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use baton_lab::charon::Section;
use baton_lab::content::Content;
use baton_lab::http::{Download, FileServer};
use baton_lab::negotiation::{CHILD, CONNECTION, Negotiation, Side};
use baton_lab::peer_site::RATE;
use baton_lab::ping::ping;
use baton_lab::probe::{Echo, Prober};
use baton_lab::road::{FAR, LAPTOP, NEAR, ROUTER, Road};
use baton_lab::topology::SERVER;
use baton_lab::{Charon, CharonSpec, Direction, Gateway, GatewaySpec, Lab, command, esp};
use serde_json::json;

use crate::cases::{self, DNS};
use crate::support::{MARKER, PATIENCE, Tap, eventually};

pub const TUN: &str = "baton0";
/// What the first guest of a pool is given.
pub const INSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Octets of the file.
pub const FILE: u64 = 20_000_000;
pub const SEED: u64 = 31;
pub const WEB: u16 = 80;
pub const ECHO: u16 = 7;
/// The settings of the laptop's resolver.
pub const RESOLV_CONF: &str = "search lan\nnameserver 203.0.113.254\n";
/// A lost gateway is given up after so many repetitions of a request.
pub const TRIES: u32 = 2;

/// Everything goes through a gateway near by, which gives an address and a DNS server.
pub fn full_tunnel(child: &Section, connection: &Section) -> Negotiation {
    let mut case = cases::road_warrior(Side::Initiator);
    case.responder.networks = vec!["0.0.0.0/0".into()];
    let child = Section::new()
        .set_list("remote_ts", &["0.0.0.0/0"])
        .set_list("esp_proposals", &case.esp_proposals)
        .merged(child);
    let own = Section::new().set_list("local_addrs", &["%any"]).merged(connection);
    case.initiator_options = own.with("children", Section::new().with(CHILD, child));
    case.responder_options = Section::new().set_list("remote_addrs", &["%any"]);
    let ike = [("retransmit_timeout", "0.3"), ("retransmit_base", "1.5")];
    let ike = ike.into_iter().fold(Section::new(), |section, (name, value)| section.set(name, value));
    case.daemon_options = ike.set("retransmit_tries", TRIES);
    case
}

/// Fields drop in order: processes before the lab that holds their namespaces.
pub struct Stage {
    pub charon: Charon,
    pub laptop: Gateway,
    pub road: Road,
    pub lab: Lab,
}

impl Stage {
    pub fn resolv_conf(&self) -> String {
        std::fs::read_to_string(self.lab.path().join("resolv.conf")).expect("settings")
    }

    pub fn addresses(&self) -> String {
        let mut show = self.road.laptop.command("ip");
        command::run(show.args(["-o", "address", "show", "dev", TUN])).expect("addresses")
    }

    /// Where the kernel of the laptop sends a packet; nothing if it refuses.
    pub fn route(&self, to: Ipv4Addr) -> String {
        let mut route = self.road.laptop.command("ip");
        command::run(route.args(["route", "get", &to.to_string()])).unwrap_or_default()
    }

    pub fn set_up(&self) {
        let request = json!({"request": "initiate", "connection": CONNECTION});
        self.laptop.ask_ike(request).expect("begun");
        self.is_inside();
    }

    /// Waits until the laptop has its address, and its DNS server.
    pub fn is_inside(&self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        let inside = format!("{INSIDE}/32");
        while !(self.addresses().contains(&inside) && self.resolv_conf().contains(&DNS.to_string())) {
            assert!(std::time::Instant::now() < deadline, "{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
        let settled =
            || self.laptop.ask_ike(json!({"request": "status"})).expect("status")["policies_pending"] == 0;
        eventually("policies in force", settled);
    }

    /// Waits until there is a way to the server in clear.
    pub fn is_outside(&self) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.route(SERVER).contains("via 192.0.2.1") {
            let show = |words: &[&str]| {
                let mut ip = self.road.laptop.command("ip");
                command::run(ip.args(words)).unwrap_or_default()
            };
            let tables = || [show(&["rule"]), show(&["route", "show", "table", "all"])].concat();
            assert!(std::time::Instant::now() < deadline, "{}\n{}", tables(), self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn logs(&self) -> String {
        let (ike, data) = (self.laptop.ike_log(), self.laptop.log());
        format!("IKE:\n{ike}\ndata plane:\n{data}\nstrongSwan:\n{}", self.charon.log())
    }

    pub fn reaches_the_server(&self) {
        if let Err(error) = ping(&self.road.laptop, &[], SERVER.into(), 3) {
            panic!("{error}\n{}\n{}", self.route(SERVER), self.logs());
        }
    }

    pub fn start_download(&self) -> Download {
        let server = FileServer::start(&self.road.server, SocketAddr::new(SERVER.into(), WEB), SEED, FILE);
        Download::start(&self.road.laptop, server.expect("a server").address()).expect("a download")
    }

    pub fn finish(&self, download: Download) {
        let downloaded = download.finish().unwrap_or_else(|error| panic!("{error}\n{}", self.logs()));
        assert_eq!(downloaded.sha256, Content::new(SEED, FILE).sha256());
    }
}

/// A laptop whose inner side is a TUN device, and that is at whatever addresses it has.
pub fn laptop(lab: &Lab, road: &Road) -> Gateway {
    Gateway::new(lab, &road.laptop, spec("socket")).expect("configured")
}

pub fn spec(outer_io: &'static str) -> GatewaySpec {
    let last_core = std::thread::available_parallelism().map_or(0, |cores| (cores.get() - 1).min(1));
    GatewaySpec {
        name: "laptop".into(),
        node: 9,
        outer: IpAddr::V4(LAPTOP),
        outer_io,
        inner: "tun:baton0",
        owned: "\"all\"".into(),
        core: last_core,
        tunnels: Vec::new(),
        snapshot_key: vec![7; 32],
        ike: String::new(),
    }
}

pub fn configure(laptop: &mut Gateway, lab: &Lab, case: &Negotiation) {
    laptop.set_negotiation(case, Side::Initiator).expect("a configuration");
    let file = lab.path().join("resolv.conf");
    let inner = format!("interface = \"tun:{TUN}\"");
    let text = laptop.config_text().replace(&format!("addresses = [\"{LAPTOP}\"]"), "addresses = [\"%any\"]");
    let text = text.replace(&inner, &format!("{inner}\nresolv_conf = {:?}", file.display().to_string()));
    laptop.write_config(&text).expect("a configuration");
}

pub fn stage(case: &Negotiation) -> Stage {
    stage_with(case, |_| {})
}

pub fn stage_with(case: &Negotiation, prepare: impl FnOnce(&Road)) -> Stage {
    let lab = Lab::new().expect("a lab");
    let road = Road::build(&lab).expect("a road");
    prepare(&road);
    let charon = Charon::start(&lab, &road.near, &CharonSpec::new("charon")).expect("strongSwan");
    charon.set_negotiation(case, Side::Responder).expect("a configuration");
    std::fs::write(lab.path().join("resolv.conf"), RESOLV_CONF).expect("settings");
    let mut laptop = laptop(&lab, &road);
    configure(&mut laptop, &lab, case);
    laptop.start(&lab).expect("the data plane starts");
    laptop.start_ike(&lab).expect("the IKE daemon starts");
    Stage { charon, laptop, road, lab }
}

/// The server sends no more than strongSwan's ESP keeps up with.
pub fn limit(road: &Road) {
    let rate = format!("{RATE}mbit");
    let mut tc = road.server.command("tc");
    let words =
        ["qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", &rate, "burst", "32kb", "limit", "2mb"];
    command::run(tc.args(words)).expect("a rate");
}

/// Knows where one host is, on the laptop's router.
pub fn serve_names(road: &Road) {
    let socket = road.router.run(|| UdpSocket::bind((ROUTER, 53))).expect("a namespace").expect("a port");
    // It answers until the process ends.
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let mut answer = buffer[..length].to_vec();
            let is_a = answer.ends_with(&[0, 1, 0, 1]);
            (answer[2], answer[3], answer[7]) = (0x81, 0x80, u8::from(is_a));
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
                answer.extend(NEAR.octets());
            }
            let _ = socket.send_to(&answer, from);
        }
    });
}

/// Two gateways of ours instead of strongSwan.
pub struct Moving {
    pub near: Gateway,
    pub far: Gateway,
    pub laptop: Gateway,
    pub road: Road,
    pub lab: Lab,
}

impl Moving {
    pub fn gateway(lab: &Lab, road: &Road, is_near: bool, case: &Negotiation) -> Gateway {
        let (name, node, outer, namespace) =
            if is_near { ("near", 2, NEAR, &road.near) } else { ("far", 3, FAR, &road.far) };
        let spec =
            GatewaySpec { name: name.into(), node, outer: outer.into(), inner: "lan0", ..spec("auto") };
        let mut gateway = Gateway::new(lab, namespace, spec).expect("configured");
        let mut case = case.clone();
        case.responder.address = outer.into();
        gateway.set_negotiation(&case, Side::Responder).expect("a configuration");
        gateway.start(lab).expect("the data plane starts");
        gateway.start_ike(lab).expect("the IKE daemon starts");
        gateway
    }

    pub fn build(case: &Negotiation) -> Self {
        let lab = Lab::new().expect("a lab");
        let road = Road::build(&lab).expect("a road");
        let (near, far) = (Self::gateway(&lab, &road, true, case), Self::gateway(&lab, &road, false, case));
        std::fs::write(lab.path().join("resolv.conf"), RESOLV_CONF).expect("settings");
        let mut laptop = laptop(&lab, &road);
        configure(&mut laptop, &lab, case);
        laptop.start(&lab).expect("the data plane starts");
        laptop.start_ike(&lab).expect("the IKE daemon starts");
        Self { near, far, laptop, road, lab }
    }

    pub fn logs(&self) -> String {
        let [laptop, near, far] = [&self.laptop, &self.near, &self.far].map(Gateway::ike_log);
        format!("laptop:\n{laptop}\nnear:\n{near}\nfar:\n{far}")
    }

    /// Waits until the only tunnel of the laptop is with this gateway.
    pub fn is_with(&self, gateway: Ipv4Addr) {
        let deadline = std::time::Instant::now() + PATIENCE;
        let start = format!("{gateway}:");
        loop {
            let tunnels = self.laptop.tunnels().expect("tunnels");
            if let [tunnel] = &*tunnels
                && tunnel["state"] == "established"
                && tunnel["remote"].as_str().is_some_and(|remote| remote.starts_with(&start))
                && tunnel["children"].as_array().is_some_and(|children| children.len() == 1)
            {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "{tunnels:?}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// What the laptop tries to send all the time, and what of it is seen in clear.
pub struct Watched {
    tap: Tap,
    prober: Prober,
    _echo: Echo,
}

impl Watched {
    pub fn start(stage: &Stage) -> Self {
        let tap = Tap::start(&stage.road.wan, "router", Direction::In);
        let at = SocketAddr::new(SERVER.into(), ECHO);
        let echo = Echo::start(&stage.road.server, at).expect("an echo");
        let from = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        let prober =
            Prober::start(&stage.road.laptop, from, at, MARKER, Duration::from_millis(5)).expect("a prober");
        Self { tap, prober, _echo: echo }
    }

    pub fn leaked(&self) -> usize {
        self.tap.frames().iter().filter(|captured| esp::contains(&captured.frame, MARKER)).count()
    }

    pub fn flows(&self, what: &str, stage: &Stage) {
        if let Err(error) = self.prober.wait_for_answers(20, Duration::from_secs(20)) {
            panic!("{what}: {error}\n{}\n{}", stage.route(SERVER), stage.logs());
        }
    }
}
