//! What is asked of the running data plane.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_dataplane::config::Config;
use baton_dataplane::control::{Client, Counters, DummyReport, ReloadReport, Request, Status};
use baton_sad::{Name, Table};

use super::cli::{CountersOptions, DummyOptions};
use super::error::DpctlError;
use super::open;
use super::output::Output;

/// How long the data plane may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn connect(config: &Config) -> Result<Client, DpctlError> {
    Ok(Client::connect(&config.control_socket(), PATIENCE)?)
}

pub(super) fn status(config: &Config, output: Output) -> Result<(), DpctlError> {
    let mut status: Status = connect(config)?.request(&Request::Status)?;
    match open(config) {
        Ok(table) => status.alarms.extend(frozen_alarms(&table)),
        Err(error) => status.alarms.push(format!("frozen SAs cannot be looked for: {error}")),
    }
    output.answer(&status, |out| {
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

/// A sentence for each tunnel that stands still. A freeze has no end of its own: whoever froze it may have died.
fn frozen_alarms(table: &Table) -> Vec<String> {
    let mut frozen: BTreeMap<Name, usize> = BTreeMap::new();
    for found in table.iter().filter(|found| found.frozen) {
        *frozen.entry(found.sa.name).or_default() += 1;
    }
    let sentence = |(name, sas): (Name, usize)| {
        format!(
            "{sas} SAs of tunnel {name} are frozen: no packet passes through them. If it was moved to another gateway, \
             remove it from this configuration and reload; if a move or a restore broke off, `dpctl sa thaw {name}`"
        )
    };
    frozen.into_iter().map(sentence).collect()
}

pub(super) fn counters(config: &Config, options: &CountersOptions, output: Output) -> Result<(), DpctlError> {
    let mut counters: Counters = connect(config)?.request(&Request::Counters)?;
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

pub(super) fn reload(config: &Config, output: Output) -> Result<(), DpctlError> {
    let report: ReloadReport = connect(config)?.request(&Request::Reload)?;
    output.answer(&report, |out| {
        for (what, names) in
            [("added", &report.added), ("removed", &report.removed), ("changed", &report.changed)]
        {
            if !names.is_empty() {
                writeln!(out, "{what}: {}", names.join(", "))?;
            }
        }
        writeln!(out, "{} tunnels as they were", report.unchanged)?;
        report
            .needs_restart
            .iter()
            .chain(&report.problems)
            .try_for_each(|sentence| writeln!(out, "{sentence}"))
    })
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
        assert!(frozen_alarms(&table).is_empty());
        let keys = [(Direction::Inbound, 0x2a00_0001), (Direction::Outbound, 7)];
        table.freeze(&keys, PATIENCE).expect("frozen");
        let alarms = frozen_alarms(&table);
        assert_eq!(alarms.len(), 1);
        assert!(alarms[0].starts_with("2 SAs of tunnel site-a are frozen"), "{alarms:?}");
        table.thaw(&keys).expect("thawed");
        assert!(frozen_alarms(&table).is_empty());
    }
}
