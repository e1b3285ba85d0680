//! `dpctl cluster status`.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::Duration;

use baton_ctx_transfer::config::Config;
use baton_ctx_transfer::control::{MemberEntry, Request, StandbyWord, Status};

use super::connect;
use crate::dpctl::error::DpctlError;
use crate::dpctl::output::Output;
use crate::dpctl::segments::text_of;

pub(super) fn run(config: &Config, again: Option<Duration>, output: Output) -> Result<(), DpctlError> {
    loop {
        let status: Status = connect(config)?.request(&Request::Status)?;
        if again.is_some() && !output.is_json() && io::stdout().is_terminal() {
            // The screen begins anew.
            write!(io::stdout(), "\x1b[2J\x1b[H")?;
        }
        output.answer(&status, |out| print(out, &status, output))?;
        let Some(interval) = again else { return Ok(()) };
        thread::sleep(interval);
    }
}

fn print(out: &mut dyn Write, status: &Status, output: Output) -> io::Result<()> {
    let Status { role, node, cluster, release, pid, uptime_seconds, .. } = status;
    writeln!(out, "{role} {node} of cluster {cluster}, release {release}")?;
    writeln!(out, "process {pid}, up for {uptime_seconds} s")?;
    writeln!(out, "rule: {}", rule(status))?;
    if role == "node" {
        own(out, status)?;
    }
    writeln!(out)?;
    let rows: Vec<_> = status.members.iter().map(row).collect();
    output.table(out, &["MEMBER", "ROLE", "HEARD", "OWNS", "STANDBY", "READY", "LAG"], &rows)?;
    for member in &status.members {
        details(out, member)?;
    }
    status.notes.iter().try_for_each(|note| writeln!(out, "\nnote: {note}"))?;
    status.alarms.iter().try_for_each(|alarm| writeln!(out, "\nALARM: {alarm}"))
}

fn rule(status: &Status) -> &'static str {
    match status.rule.as_str() {
        "majority" => "a segment is owned with more than half of all votes: at most one owner at any time",
        _ => "a pair without a witness: availability first",
    }
}

fn own(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    let mut words = Vec::new();
    if status.maintenance {
        words.push("in maintenance");
    }
    if !status.data_plane {
        words.push("no data plane");
    }
    if !status.no_link.is_empty() {
        words.push("an interface without a link");
    }
    let words = if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) };
    writeln!(out, "owns: {} ({} of 256){words}", text_of(&status.owned), status.owned.len())?;
    if !status.moving.is_empty() {
        writeln!(out, "moving: {}", text_of(&status.moving))?;
    }
    if let Some(last) = &status.last_took {
        let (segments, seconds) = (text_of(&last.segments), last.ago_ms / 1000);
        writeln!(out, "came last: {segments}, {seconds} s ago ({})", last.cause)?;
    }
    let totals = &status.totals;
    writeln!(
        out,
        "since the start: {} segments taken over, {} moved, {} contexts sent, {} reservations ({} again, {} too late), {} late, {} stale",
        totals.takeovers,
        totals.moves,
        totals.contexts,
        totals.reservations,
        totals.repeated_reservations,
        status.reservation_misses,
        totals.late,
        totals.stale
    )
}

fn row(member: &MemberEntry) -> Vec<String> {
    let heard = match (member.alive, member.heard_ms) {
        (true, Some(ms)) => format!("{ms} ms ago"),
        (_, Some(ms)) => format!("SILENT for {ms} ms"),
        (_, None) => "never".to_owned(),
    };
    let standby = match member.standby.state {
        StandbyWord::Absent => "-".to_owned(),
        StandbyWord::Filling => format!("filling {}/{}", member.standby.done, member.standby.total),
        StandbyWord::Synced => "synced".to_owned(),
        StandbyWord::Stale => format!("STALE for {} ms", member.standby.stale_ms),
    };
    vec![
        member.id.to_string(),
        member.role.clone(),
        heard,
        format!("{}", member.owns.len()),
        standby,
        format!("{}", member.ready.len()),
        format!("{} contexts, {} packets, {} ms", member.lag_contexts, member.lag_packets, member.lag_ms),
    ]
}

fn details(out: &mut dyn Write, member: &MemberEntry) -> io::Result<()> {
    if member.maintenance {
        writeln!(out, "member {} is in maintenance", member.id)?;
    }
    if member.idle && member.alive {
        writeln!(out, "member {} serves nobody: its data plane is away, or a link of it", member.id)?;
    }
    if let Some(problem) = &member.problem {
        writeln!(out, "member {}: {problem}", member.id)?;
    }
    member
        .refused
        .iter()
        .try_for_each(|(tunnel, why)| writeln!(out, "member {} refuses {tunnel}: {why}", member.id))
}
