//! The ends on their stage: strongSwan or Baton in namespaces A and B, with the same connections.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;

use baton_lab::charon::{Charon, CharonSpec, Section};
use baton_lab::control::ControlSocket;
use baton_lab::gateway::{Gateway, GatewaySpec, random};
use baton_lab::lab::Lab;
use baton_lab::topology::{A_OUTER, B_OUTER, Topology};
use serde_json::json;

use crate::tunnel::{
    CLIENT_NETWORK, CLIENTS, CONNECTION, ESP_PROPOSAL, IKE_PROPOSAL, SECRET, SERVER, SERVER_NETWORK,
    client_address, client_name,
};

/// Of `/proc`, on every architecture.
const TICKS_PER_SECOND: f64 = 100.0;

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Whose daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    StrongSwan,
    Baton,
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StrongSwan => "strongSwan",
            Self::Baton => "Baton",
        })
    }
}

/// A running daemon.
pub enum End {
    StrongSwan(Charon),
    Baton(Box<Gateway>),
}

/// Fields drop in order: processes before the lab that holds their namespaces.
pub struct Stage {
    pub ends: Vec<End>,
    pub topology: Topology,
    pub lab: Lab,
}

/// At which end, and with how many connections.
#[derive(Clone, Copy)]
pub enum Place {
    /// Namespace A, with so many connections to B.
    Initiator(u32),
    /// Namespace B, open to all clients.
    Responder,
}

impl Stage {
    pub fn build() -> Result<Self> {
        let lab = Lab::new()?;
        let topology = Topology::build(&lab)?;
        for namespace in [&topology.a, &topology.b] {
            // What a local stack sends crosses a veth with partial checksums unless offloads are off.
            let mut command = namespace.command("ethtool");
            let done =
                command.args(["-K", "wan0", "tx", "off"]).stdout(std::process::Stdio::null()).status()?;
            assert!(done.success(), "ethtool");
        }
        Ok(Self { ends: Vec::new(), topology, lab })
    }

    /// Starts a daemon and gives it its connections.
    pub fn start(&mut self, system: System, place: Place) -> Result<()> {
        let namespace = match place {
            Place::Initiator(_) => &self.topology.a,
            Place::Responder => &self.topology.b,
        };
        let end = match system {
            System::StrongSwan => {
                let charon = Charon::start(&self.lab, namespace, &charon(place))?;
                charon.load(&swanctl(place))?;
                End::StrongSwan(charon)
            }
            System::Baton => {
                let mut gateway = Gateway::new(&self.lab, namespace, gateway(place)?)?;
                gateway
                    .write_config(&gateway.config_text().replace("capacity = 1024", "capacity = 65536"))?;
                gateway.start(&self.lab)?;
                gateway.start_ike(&self.lab)?;
                End::Baton(Box::new(gateway))
            }
        };
        self.ends.push(end);
        Ok(())
    }
}

fn name_of(place: Place) -> &'static str {
    if matches!(place, Place::Responder) { "b" } else { "a" }
}

/// Quiet, with room for many IKE SAs, without defences and without a route for each Child SA.
fn charon(place: Place) -> CharonSpec {
    let spec = CharonSpec { log_level: 0, ..CharonSpec::new(name_of(place)) };
    spec.option("dos_protection", "no")
        .option("cookie_threshold", 0)
        .option("block_threshold", 0)
        .option("install_routes", "no")
        .option("ikesa_table_size", 16_384)
        .option("ikesa_table_segments", 16)
}

fn gateway(place: Place) -> Result<GatewaySpec> {
    let (node, outer) = match place {
        Place::Initiator(_) => (1, A_OUTER),
        Place::Responder => (2, B_OUTER),
    };
    Ok(GatewaySpec {
        name: name_of(place).into(),
        node,
        outer: IpAddr::V4(outer),
        outer_io: "auto",
        inner: "lan0",
        owned: "\"all\"".into(),
        core: 0,
        tunnels: Vec::new(),
        snapshot_key: random(32)?,
        ike: toml(place),
    })
}

fn connection(local: &str, remote: &str, networks: (&str, &str), child: &str) -> Section {
    let child_section = Section::new()
        .set_list("local_ts", &[networks.0])
        .set_list("remote_ts", &[networks.1])
        .set_list("esp_proposals", &[ESP_PROPOSAL]);
    Section::new()
        .set_list("proposals", &[IKE_PROPOSAL])
        .set("unique", "never")
        .with("local", Section::new().set("auth", "psk").set("id", local))
        .with("remote", Section::new().set("auth", "psk").set("id", remote))
        .with("children", Section::new().with(child, child_section))
}

fn connections(place: Place) -> Section {
    let Place::Initiator(count) = place else {
        let networks = (SERVER_NETWORK, CLIENT_NETWORK);
        let open = connection(SERVER, CLIENTS, networks, "net").set_list("local_addrs", &[B_OUTER]);
        return Section::new().with(CONNECTION, open);
    };
    (0..count).fold(Section::new(), |all, number| {
        let own = format!("{}/32", client_address(number));
        let client = connection(&client_name(number), SERVER, (&own, SERVER_NETWORK), &child_name(number));
        let client = client.set_list("local_addrs", &[A_OUTER]).set_list("remote_addrs", &[B_OUTER]);
        all.with(&connection_name(number), client)
    })
}

fn connection_name(number: u32) -> String {
    format!("c{number}")
}

fn child_name(number: u32) -> String {
    format!("n{number}")
}

fn swanctl(place: Place) -> Section {
    let secret = Section::new().set("secret", SECRET);
    Section::new()
        .with("connections", connections(place))
        .with("secrets", Section::new().with("ike-1", secret))
}

fn toml(place: Place) -> String {
    let secret = Section::new().set("secret", SECRET);
    let open = ["half_open", "half_open_per_source", "cookie_threshold"];
    let daemon = open.iter().fold(Section::new(), |section, name| section.set(name, 100_000));
    Section::new()
        .with("connections", connections(place))
        .with("secrets", Section::new().with("all", secret))
        .with("ike", daemon.set("init_per_source", 0))
        .to_toml()
}

/// Begins set-ups without waiting for them.
pub enum Starter {
    StrongSwan(baton_lab::charon::Vici),
    Baton(ControlSocket),
}

impl End {
    /// Of the IKE daemon.
    pub fn pid(&self) -> u32 {
        let pid = match self {
            Self::StrongSwan(charon) => charon.pid(),
            Self::Baton(gateway) => gateway.ike_pid(),
        };
        pid.expect("it runs")
    }

    pub fn starter(&self) -> Result<Starter> {
        Ok(match self {
            Self::StrongSwan(charon) => Starter::StrongSwan(charon.vici()?),
            Self::Baton(gateway) => Starter::Baton(ControlSocket::connect_ike(gateway)?),
        })
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        let log = match self {
            Self::StrongSwan(charon) => charon.log(),
            Self::Baton(gateway) => gateway.ike_log(),
        };
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// CPU time that its process has used, in seconds.
    pub fn cpu(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let behind_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = behind_name.split_whitespace().collect();
        let ticks =
            [11, 12].map(|at| fields.get(at).and_then(|field| field.parse::<f64>().ok()).unwrap_or(0.0));
        Ok((ticks[0] + ticks[1]) / TICKS_PER_SECOND)
    }

    /// Its proportional share of memory, in octets.
    pub fn memory(&self) -> Result<f64> {
        let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", self.pid()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or("0");
        let kibibytes: f64 = line.split_whitespace().next().unwrap_or("0").parse()?;
        Ok(kibibytes * 1024.0)
    }
}

impl Starter {
    /// Begins connection `number` of an initiator.
    pub fn begin(&mut self, number: u32) -> Result<()> {
        let (connection, child) = (connection_name(number), child_name(number));
        match self {
            Self::StrongSwan(vici) => vici.initiate(&connection, &child)?,
            Self::Baton(socket) => {
                socket.ask(json!({"request": "initiate", "connection": connection}))?;
            }
        }
        Ok(())
    }
}
