//! What only the demo does on its stage.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use baton_lab::charon::IkeSa;
use baton_lab::negotiation::{CHILD, CONNECTION, Side};
use baton_lab::probe::Prober;
use baton_lab::{CharonSpec, Lab, LabError, Namespace, PeerSite, Result, peer_site, topology};

/// How often the heartbeat beats.
pub const BEAT: Duration = Duration::from_micros(500);
const HEARTBEAT_PORT: u16 = 9;

const PATIENCE: Duration = Duration::from_secs(10);

/// The tunnel that strongSwan has negotiated.
#[derive(Clone)]
pub struct Tunnel {
    /// Its name at the gateways.
    pub name: String,
    /// The segment that it belongs to.
    pub segment: u8,
    /// The client's address inside.
    pub client: IpAddr,
    /// The SPI that the client receives with.
    pub spi_to_client: u32,
}

/// Builds the stage and starts everybody on it.
pub fn build() -> Result<PeerSite> {
    let mut site = PeerSite::build_with_client(Lab::with_plain_names()?, &CharonSpec::new("strongswan"))?;
    site.topology.limit_server(peer_site::RATE)?;
    site.configure(&peer_site::road_warrior(Side::Responder))?;
    site.start_b2()?;
    site.start_b()?;
    Ok(site)
}

/// strongSwan sets its connection up.
pub fn negotiate(site: &PeerSite) -> Result<Tunnel> {
    site.charon.initiate(CHILD)?;
    let missing = |what: &str| LabError::Unexpected(format!("no {what} was negotiated"));
    let sa = client_sa(site)?;
    let client = sa.local_virtual.first().and_then(|text| text.parse().ok());
    let known = [site.b.tunnels()?, site.b2.tunnels()?].concat();
    let tunnel = known.into_iter().next().ok_or_else(|| missing("tunnel"))?;
    let segment = tunnel["segment"].as_u64().and_then(|segment| u8::try_from(segment).ok());
    Ok(Tunnel {
        name: tunnel["name"].as_str().ok_or_else(|| missing("name"))?.to_owned(),
        segment: segment.ok_or_else(|| missing("segment"))?,
        client: client.ok_or_else(|| missing("address"))?,
        spi_to_client: sa.children[0].inbound_spi,
    })
}

/// strongSwan's IKE SA, with the one Child SA that it has; one that was deleted is shown for a while.
fn client_sa(site: &PeerSite) -> Result<IkeSa> {
    let mut sas = site.charon.sas()?;
    for sa in &mut sas {
        sa.children.retain(|child| child.state == "INSTALLED");
    }
    let whole = |sa: &IkeSa| sa.state == "ESTABLISHED" && sa.children.len() == 1;
    sas.into_iter()
        .find(whole)
        .ok_or_else(|| LabError::Unexpected("strongSwan has no IKE SA with one Child SA".into()))
}

/// ESP packets that strongSwan accepted with the Child SA that it has.
pub fn received_by_client(site: &PeerSite) -> Result<u64> {
    let count = client_sa(site)?.children[0].all.get("packets-in").and_then(|text| text.parse().ok());
    count.ok_or_else(|| LabError::Unexpected("strongSwan counts no packets".into()))
}

/// strongSwan asks for new keys of both kinds, and gets them.
pub fn rekey(site: &PeerSite) -> Result<()> {
    let keys = |sa: &IkeSa| (sa.spis.clone(), sa.children[0].inbound_spi);
    let before = keys(&client_sa(site)?);
    site.charon.rekey_child(CHILD)?;
    wait_for(site, "new keys of the Child SA", |sa| keys(sa).1 != before.1)?;
    site.charon.rekey_ike(CONNECTION)?;
    wait_for(site, "new keys of the IKE SA", |sa| keys(sa).0 != before.0)
}

fn wait_for(site: &PeerSite, what: &str, is_so: impl Fn(&IkeSa) -> bool) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    // While keys change there may be more than one Child SA.
    while !client_sa(site).is_ok_and(|sa| is_so(&sa)) {
        if Instant::now() > deadline {
            let detail = format!("; strongSwan says:\n{}", site.charon.log());
            return Err(LabError::Timeout { what: what.into(), seconds: PATIENCE.as_secs(), detail });
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Small datagrams from server to client beside the download.
///
/// TCP falls silent by itself after losses; with a heartbeat, silence on the wire is the gateways'.
pub struct Heartbeat {
    _prober: Prober,
    /// Takes the datagrams without an answer.
    _sink: UdpSocket,
}

impl Heartbeat {
    /// Starts beating.
    pub fn start(server: &Namespace, client: &Namespace, address: IpAddr) -> Result<Self> {
        let sink = SocketAddr::new(address, HEARTBEAT_PORT);
        let socket = client.run(|| UdpSocket::bind(sink))?.map_err(LabError::io("bind"))?;
        let source = topology::server_port(HEARTBEAT_PORT);
        let prober = Prober::start(server, source, sink, b"heartbeat", BEAT)?;
        Ok(Self { _prober: prober, _sink: socket })
    }
}

/// Kills B2's daemons, starts them again, and returns how long it took until packets flowed.
pub fn crash_b2(site: &mut PeerSite) -> Result<Duration> {
    let start = Instant::now();
    site.b2.kill();
    site.b2.kill_ike();
    site.b2.start(&site.lab)?;
    let took = start.elapsed();
    site.b2.start_ike(&site.lab)?;
    Ok(took)
}

/// TCP segments that the server has sent again so far.
pub fn server_retransmissions(site: &PeerSite) -> Result<u64> {
    let snmp = site.topology.server.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp"))?;
    let snmp = snmp.map_err(LabError::io("read /proc/thread-self/net/snmp"))?;
    let mut rows = snmp.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let (names, values) = (rows.next().into_iter().flatten(), rows.next().into_iter().flatten());
    let count = names.zip(values).find(|(name, _)| *name == "RetransSegs");
    count
        .and_then(|(_, value)| value.parse().ok())
        .ok_or_else(|| LabError::Unexpected("the kernel counts no TCP retransmissions".into()))
}
