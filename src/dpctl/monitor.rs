//! What happens, as it happens.

use std::io::Write;

use baton_dataplane::config::Config;
use baton_dataplane::control::{Endpoint, FlowText, Happening, MonitorRequest, Notice, SaText};

use super::cli::MonitorOptions;
use super::error::DpctlError;
use super::live::connect;
use super::output::Output;

pub(super) fn run(config: &Config, options: &MonitorOptions, output: Output) -> Result<(), DpctlError> {
    let kinds = options.kind.iter().map(|kind| (*kind).into()).collect();
    let notices = connect(config)?.monitor(&MonitorRequest { kinds })?;
    let mut left = options.count.unwrap_or(u64::MAX);
    for notice in notices {
        print(&notice?, output)?;
        left -= 1;
        if left == 0 {
            return Ok(());
        }
    }
    Err(DpctlError::MonitorEnded)
}

/// One line, at once.
fn print(notice: &Notice, output: Output) -> Result<(), DpctlError> {
    let mut out = std::io::stdout().lock();
    if output.is_json() {
        serde_json::to_writer(&mut out, notice).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}  {}", utc(notice.time_ms), sentence(&notice.happening))?;
    }
    Ok(out.flush()?)
}

fn sentence(happening: &Happening) -> String {
    match happening {
        Happening::SoftLimit(sa) => format!("soft-limit  {}: time for a rekey", of(sa)),
        Happening::HardLimit(sa) => format!("hard-limit  {}: used no more", of(sa)),
        Happening::Acquire { policy, reqid, flow } => {
            format!("acquire  {policy} (reqid {reqid}) wants an SA for {}", packet(flow))
        }
        Happening::PeerMoved { sa, from, to } => {
            format!("peer-moved  {}: from {} to {}", of(sa), place(from), place(to))
        }
        Happening::PathMtu { sa, destination, mtu, seconds } => {
            format!("path-mtu  {}: {mtu} octets to {destination}, for {seconds} s", of(sa))
        }
        Happening::SelectorViolation { sa, flow } => {
            format!("selector-violation  {}: {} does not belong into it", of(sa), packet(flow))
        }
        Happening::Alarm { raised: true, alarm } => format!("alarm  {alarm}"),
        Happening::Alarm { raised: false, alarm } => format!("alarm  over: {alarm}"),
        Happening::SegmentsChanged { owned } => format!("segments-changed  {} owned now", owned.len()),
        Happening::Reload(report) => format!(
            "reload  {} added, {} removed, {} changed",
            report.added.len(),
            report.removed.len(),
            report.changed.len()
        ),
        Happening::PoliciesChanged { added, removed } => {
            format!("policies-changed  in force: {}; removed: {}", list(added), list(removed))
        }
    }
}

fn of(sa: &SaText) -> String {
    format!("{} {} {}", sa.name, sa.direction, sa.spi)
}

fn place(place: &Endpoint) -> String {
    std::net::SocketAddr::new(place.address, place.port).to_string()
}

fn packet(flow: &FlowText) -> String {
    let ports = match (flow.source_port, flow.destination_port) {
        (Some(source), Some(destination)) => format!(" ports {source} -> {destination}"),
        _ => String::new(),
    };
    format!("{} -> {} protocol {}{ports}", flow.source, flow.destination, flow.protocol)
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// As `2026-08-01 12:34:56.789Z`.
fn utc(time_ms: u64) -> String {
    let (seconds, milliseconds) = (time_ms / 1000, time_ms % 1000);
    let (mut days, second) = (seconds / 86_400, seconds % 86_400);
    let is_leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut year = 1970;
    while year < 9999 && days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(is_leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while month < 11 && days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{:02}-{:02} {hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc() {
        // Reference: `date -u -d @SECONDS`.
        assert_eq!(utc(0), "1970-01-01 00:00:00.000Z");
        assert_eq!(utc(951_782_399_999), "2000-02-28 23:59:59.999Z");
        assert_eq!(utc(951_868_800_000), "2000-03-01 00:00:00.000Z");
        assert_eq!(utc(1_798_761_599_001), "2026-12-31 23:59:59.001Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01 00:00:00.000Z");
        utc(u64::MAX);
    }
}
