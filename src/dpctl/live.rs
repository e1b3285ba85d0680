//! What is asked of the running data plane.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use baton_ctx_transfer::collect::is_negotiated;
use baton_dataplane::config::Config;
use baton_dataplane::control::{Client, Counters, DummyReport, ReloadReport, Request, Status};
use baton_ike::control::{RadiusServerStatus, Reloaded, Request as IkeRequest, Status as IkeStatus};
use baton_sad::{Name, Table};
use serde::Serialize;

use super::cli::{CountersOptions, DummyOptions};
use super::error::DpctlError;
use super::ike;
use super::open;
use super::output::Output;

/// How long the data plane may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn connect(config: &Config) -> Result<Client, DpctlError> {
    Ok(Client::connect(&config.control_socket(), PATIENCE)?)
}

/// How both daemons are.
#[derive(Serialize)]
struct Gateway {
    #[serde(flatten)]
    data_plane: Status,
    /// `null` where no IKE daemon runs.
    ike: Option<IkeStatus>,
}

pub(super) fn status(config: &Config, output: Output) -> Result<(), DpctlError> {
    let mut status: Status = connect(config)?.request(&Request::Status)?;
    let ike: Option<IkeStatus> = match ike::connect_if_running(config)? {
        Some(mut client) => Some(client.request(&IkeRequest::Status)?),
        None => None,
    };
    status.alarms.extend(ike.iter().flat_map(|ike| ike.alarms.clone()));
    match open(config) {
        Ok(table) => status.alarms.extend(frozen_alarms(config, &table)),
        Err(error) => status.alarms.push(format!("frozen SAs cannot be looked for: {error}")),
    }
    output.answer(&Gateway { data_plane: status.clone(), ike: ike.clone() }, |out| {
        writeln!(out, "node {} of cluster {}, release {}", status.node, status.cluster, status.release)?;
        writeln!(out, "process {}, up for {} s", status.pid, status.uptime_seconds)?;
        for (side, interface) in [("outer", &status.outer), ("inner", &status.inner)] {
            let name = &interface.interface;
            let (mode, queues, mtu) = (&interface.xdp_mode, interface.queues, interface.mtu);
            writeln!(out, "{side}: {name}, XDP {mode}, {queues} queues, MTU {mtu}")?;
        }
        writeln!(out, "SAs: {} of {}", status.sas, status.capacity)?;
        writeln!(out, "segments owned: {} of 256", status.owned_segments)?;
        let epoch = |epoch: Option<u32>| epoch.map_or_else(|| "none".to_owned(), |epoch| epoch.to_string());
        writeln!(out, "epoch: {}, spare {}", epoch(status.epoch.current), epoch(status.epoch.spare))?;
        if let Some(ike) = &ike {
            ike_status(out, ike)?;
        }
        let rows = status.workers.iter().map(|worker| {
            let numbers = [worker.inbound_packets, worker.outbound_packets, worker.drops];
            let mut row = vec![worker.index.to_string(), worker.core.to_string()];
            row.extend(numbers.map(|number| number.to_string()));
            row
        });
        let rows: Vec<_> = rows.collect();
        writeln!(out)?;
        output.table(out, &["WORKER", "CORE", "OPENED", "SEALED", "DROPPED"], &rows)?;
        status.alarms.iter().try_for_each(|alarm| writeln!(out, "\nALARM: {alarm}"))
    })
}

fn ike_status(out: &mut dyn Write, ike: &IkeStatus) -> io::Result<()> {
    writeln!(
        out,
        "IKE: process {}, up for {} s, at {}",
        ike.pid,
        ike.uptime_seconds,
        ike.listening.join(", ")
    )?;
    let (established, half_open, children) = (ike.established, ike.half_open, ike.children);
    writeln!(
        out,
        "IKE SAs: {established} established, {half_open} half-open, {children} Child SAs; connections: {}",
        ike.connections
    )?;
    ike.radius.iter().try_for_each(|server| radius_status(out, server))
}

fn radius_status(out: &mut dyn Write, server: &RadiusServerStatus) -> io::Result<()> {
    let RadiusServerStatus { name, address, authentication, requests, accepts, rejects, .. } = server;
    let accounting =
        server.accounting.as_ref().map_or(String::new(), |word| format!(", {word} for accounting"));
    writeln!(
        out,
        "RADIUS server {name} ({address}): {authentication}{accounting}; {requests} requests, {accepts} accepted, \
         {rejects} rejected, {} unanswered, {} forged, {} records taken",
        server.timeouts, server.bad_authenticators, server.records_taken
    )
}

/// A sentence for each tunnel that stands still. A freeze has no end of its own: whoever froze it may have died.
fn frozen_alarms(config: &Config, table: &Table) -> Vec<String> {
    let mut frozen: BTreeMap<Name, usize> = BTreeMap::new();
    for found in table.iter().filter(|found| found.frozen) {
        *frozen.entry(found.sa.name).or_default() += 1;
    }
    let sentence = |(name, sas): (Name, usize)| {
        let gone = if is_negotiated(config, name.as_str()) {
            format!("`dpctl ike release {name}`")
        } else {
            "remove it from this configuration and reload".to_owned()
        };
        format!(
            "{sas} SAs of tunnel {name} are frozen: no packet passes through them. If it was moved to another gateway, \
             {gone}; if a move or a restore broke off, `dpctl sa thaw {name}`"
        )
    };
    frozen.into_iter().map(sentence).collect()
}

pub(super) fn counters(config: &Config, options: &CountersOptions, output: Output) -> Result<(), DpctlError> {
    let mut counters: Counters = connect(config)?.request(&Request::Counters)?;
    if let Some(mut client) = ike::connect_if_running(config)? {
        let of_ike: Counters = client.request(&IkeRequest::Counters)?;
        counters.counters.extend(of_ike.counters);
    }
    counters.counters.retain(|counter| {
        (!options.nonzero || counter.value > 0)
            && options.group.as_ref().is_none_or(|group| *group == counter.group)
    });
    output.answer(&counters, |out| {
        let rows = counters.counters.iter().map(|counter| {
            vec![
                counter.group.clone(),
                counter.name.clone(),
                counter.value.to_string(),
                counter.meaning.clone(),
            ]
        });
        output.table(out, &["GROUP", "COUNTER", "VALUE", "MEANING"], &rows.collect::<Vec<_>>())
    })
}

pub(super) fn dummy(config: &Config, options: &DummyOptions, output: Output) -> Result<(), DpctlError> {
    let request = Request::SendDummy { name: options.name.clone(), count: options.count };
    let report: DummyReport = connect(config)?.request(&request)?;
    output.answer(&report, |out| {
        writeln!(out, "{} of {} dummy packets are on their way", report.asked, options.count)
    })
}

/// What both daemons made of the configuration.
#[derive(Serialize)]
struct Reloads {
    #[serde(flatten)]
    data_plane: ReloadReport,
    /// `null` where no IKE daemon runs.
    ike: Option<Reloaded>,
}

pub(super) fn reload(config: &Config, output: Output) -> Result<(), DpctlError> {
    let report: ReloadReport = connect(config)?.request(&Request::Reload)?;
    let ike: Option<Reloaded> = match ike::connect_if_running(config)? {
        Some(mut client) => Some(client.request(&IkeRequest::Reload)?),
        None => None,
    };
    output.answer(&Reloads { data_plane: report.clone(), ike: ike.clone() }, |out| {
        let names = [("added", &report.added), ("removed", &report.removed), ("changed", &report.changed)];
        changes(out, names)?;
        writeln!(out, "{} tunnels as they were", report.unchanged)?;
        if let Some(ike) = &ike {
            let names = [("added", &ike.added), ("removed", &ike.removed), ("changed", &ike.changed)];
            changes(out, names)?;
            writeln!(out, "{} connections as they were", ike.unchanged)?;
        }
        let of_ike = ike.iter().flat_map(|ike| &ike.needs_restart);
        let mut sentences = report.needs_restart.iter().chain(&report.problems).chain(of_ike);
        sentences.try_for_each(|sentence| writeln!(out, "{sentence}"))
    })
}

fn changes(out: &mut dyn Write, names: [(&str, &Vec<String>); 3]) -> io::Result<()> {
    let some = names.into_iter().filter(|(_, names)| !names.is_empty());
    for (what, names) in some {
        writeln!(out, "{what}: {}", names.join(", "))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use baton_sad::{Counters, Direction, NodeId, TableOptions};

    use super::*;

    const CONFIGURATION: &str = r#"
[node]
id = 2
cluster = "demo"
[outer]
interface = "wan0"
addresses = ["203.0.113.2"]
[inner]
interface = "lan0"
[[tunnel]]
name = "site-a"
local = "203.0.113.2"
remote = "203.0.113.1"
local_selectors = ["10.2.0.0/16"]
remote_selectors = ["10.1.0.0/16"]
suite = "aes128gcm16"
reqid = 7
[tunnel.inbound]
spi = 0x2a000001
key = "00112233445566778899aabbccddeeff01020304"
[tunnel.outbound]
spi = 0x11000001
key = "ffeeddccbbaa9988776655443322110005060708"
"#;

    #[test]
    fn a_tunnel_that_stands_still_is_an_alarm() {
        let config = Config::parse_as(CONFIGURATION, "baton.toml".as_ref(), true).expect("good");
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory in memory");
        let options =
            TableOptions { capacity: 8, node: NodeId::new(2).expect("not 0"), cluster: config.cluster_id() };
        let table = Table::create(&directory.path().join("sa-table"), &options).expect("a table");
        let tunnel = &config.tunnels[0];
        let sas =
            [tunnel.inbound_sa(0), tunnel.outbound_sa(0)].map(|sa| (sa.expect("keyed"), Counters::default()));
        table.put(&sas).expect("installed");
        assert!(frozen_alarms(&config, &table).is_empty());
        let keys = [(Direction::Inbound, 0x2a00_0001), (Direction::Outbound, 7)];
        table.freeze(&keys, PATIENCE).expect("frozen");
        let alarms = frozen_alarms(&config, &table);
        assert_eq!(alarms.len(), 1);
        assert!(alarms[0].starts_with("2 SAs of tunnel site-a are frozen"), "{alarms:?}");
        table.thaw(&keys).expect("thawed");
        assert!(frozen_alarms(&config, &table).is_empty());
    }
}
