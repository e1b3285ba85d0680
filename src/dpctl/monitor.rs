//! What happens, as it happens.

use std::io::Write;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use baton_dataplane::config::Config;
use baton_dataplane::control::{
    ClientError, Daemon, Endpoint, FlowText, Happening, MonitorRequest, Notice, SaText,
};
use baton_ike::control::{MonitorRequest as IkeMonitorRequest, Occurred, Request as IkeRequest};
use serde::Serialize;
use serde_json::json;

use super::cli::MonitorOptions;
use super::error::DpctlError;
use super::ike;
use super::live::connect;
use super::output::Output;

/// Lines that wait to be printed.
const QUEUE: usize = 1024;

/// What a daemon told, or that its stream is over.
enum Told {
    DataPlane(Notice<Happening>),
    Ike(Notice<Occurred>),
    Over(DpctlError),
}

pub(super) fn run(config: &Config, options: &MonitorOptions, output: Output) -> Result<(), DpctlError> {
    let (teller, told) = sync_channel(QUEUE);
    listen(config, options, &teller, output)?;
    let mut left = options.count.unwrap_or(u64::MAX);
    while left > 0 {
        match told.recv() {
            Ok(Told::DataPlane(notice)) => {
                print(&notice, Daemon::DataPlane, output, &sentence(&notice.happening))?;
            }
            Ok(Told::Ike(notice)) => {
                print(&notice, Daemon::Ike, output, &ike::sentence(&notice.happening))?;
            }
            Ok(Told::Over(error)) => return Err(error),
            Err(_) => return Err(DpctlError::MonitorEnded(Daemon::DataPlane)),
        }
        left -= 1;
    }
    Ok(())
}

/// Begins to listen to the daemons that tell of the wanted kinds; one that runs is enough.
fn listen(
    config: &Config,
    options: &MonitorOptions,
    teller: &SyncSender<Told>,
    output: Output,
) -> Result<(), DpctlError> {
    let kinds: Vec<_> = options.kind.iter().filter_map(|kind| kind.of_data_plane()).collect();
    let ike_kinds: Vec<_> = options.kind.iter().filter_map(|kind| kind.of_ike()).collect();
    let mut missing = Vec::new();
    let mut heard = 0;
    if options.kind.is_empty() || !kinds.is_empty() {
        match connect(config) {
            Ok(client) => {
                let notices = client.monitor(&MonitorRequest { kinds })?;
                tell(notices, Daemon::DataPlane, Told::DataPlane, teller);
                heard += 1;
            }
            Err(error) => missing.push(error),
        }
    }
    if options.kind.is_empty() || !ike_kinds.is_empty() {
        match ike::connect(config) {
            Ok(client) => {
                let request = IkeRequest::Monitor(IkeMonitorRequest { kinds: ike_kinds });
                tell(client.lines(&request)?, Daemon::Ike, Told::Ike, teller);
                heard += 1;
            }
            Err(error) => missing.push(error),
        }
    }
    for error in missing {
        match error {
            DpctlError::Client(ClientError::NotReachable { .. }) if heard > 0 => {
                output.aside(
                    &json!({ "missing": error.to_string() }),
                    &format!("{error}. Its events are missing"),
                );
            }
            error => return Err(error),
        }
    }
    Ok(())
}

/// Passes a daemon's events on, until its stream or the reader ends.
fn tell<N: Send + 'static>(
    notices: impl Iterator<Item = Result<N, ClientError>> + Send + 'static,
    daemon: Daemon,
    wrap: fn(N) -> Told,
    teller: &SyncSender<Told>,
) {
    let teller = teller.clone();
    thread::spawn(move || {
        for notice in notices {
            let told = notice.map_or_else(|error| Told::Over(error.into()), wrap);
            if teller.send(told).is_err() {
                return;
            }
        }
        let _ = teller.send(Told::Over(DpctlError::MonitorEnded(daemon)));
    });
}

/// A notice, and whose it is.
#[derive(Serialize)]
struct Line<'a, H> {
    #[serde(flatten)]
    notice: &'a Notice<H>,
    daemon: &'static str,
}

/// One line, at once.
fn print<H: Serialize>(
    notice: &Notice<H>,
    daemon: Daemon,
    output: Output,
    sentence: &str,
) -> Result<(), DpctlError> {
    let mut out = std::io::stdout().lock();
    if output.is_json() {
        serde_json::to_writer(&mut out, &Line { notice, daemon: daemon.program() })
            .map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        writeln!(out, "{}  {sentence}", utc(notice.time_ms))?;
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
