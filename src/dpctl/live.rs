//! What is asked of the running data plane.

use std::time::Duration;

use baton_dataplane::config::Config;
use baton_dataplane::control::{Client, Counters, DummyReport, ReloadReport, Request, Status};

use super::cli::{CountersOptions, DummyOptions};
use super::error::DpctlError;
use super::output::Output;

/// How long the data plane may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn connect(config: &Config) -> Result<Client, DpctlError> {
    Ok(Client::connect(&config.control_socket(), PATIENCE)?)
}

pub(super) fn status(config: &Config, output: Output) -> Result<(), DpctlError> {
    let status: Status = connect(config)?.request(&Request::Status)?;
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
