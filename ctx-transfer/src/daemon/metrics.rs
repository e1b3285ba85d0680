//! Numbers for Prometheus: its text format, version 0.0.4, and a listener that gives it to whoever asks.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::DaemonError;
use super::desk::{Answer, ask};
use super::error::system;
use super::input::Inputs;
use crate::control::{MemberEntry, Request, StandbyWord, Status};

/// A question is a line and some headers.
const MAX_REQUEST_OCTETS: u64 = 8 << 10;
const PATIENCE: Duration = Duration::from_secs(2);

/// All of it.
pub(super) fn text(status: &Status) -> String {
    let mut out = String::new();
    let mut one = |name: &str, kind: &str, help: &str, value: u64| {
        let _ = writeln!(
            out,
            "# HELP baton_cluster_{name} {help}\n# TYPE baton_cluster_{name} {kind}\nbaton_cluster_{name} {value}"
        );
    };
    one("segments_owned", "gauge", "Segments that this node owns.", status.owned.len() as u64);
    one("segments_moving", "gauge", "Segments that are being moved.", status.moving.len() as u64);
    one("term", "gauge", "The term of this node's claims.", status.term);
    one("majority", "gauge", "Whether at most one owner is sure.", (status.rule == "majority").into());
    one("maintenance", "gauge", "Whether this node is in maintenance.", status.maintenance.into());
    one("data_plane", "gauge", "Whether the data plane is there.", status.data_plane.into());
    let down = status.no_link.len() as u64;
    one("interfaces_without_link", "gauge", "Sides of this node whose interface has no link.", down);
    one("real_time", "gauge", "Whether heartbeats have real-time priority.", status.real_time.into());
    one("alarms", "gauge", "States that need an operator.", status.alarms.len() as u64);
    one(
        "certificate_expires_seconds",
        "gauge",
        "When the certificate ends, since 1970.",
        status.certificate.expires,
    );
    let last = status.last_took.as_ref().map_or(0, |last| last.ago_ms / 1000);
    one("last_took_seconds", "gauge", "How long ago segments came last; 0 if none have.", last);
    let totals = &status.totals;
    for (name, help, value) in [
        ("takeovers", "Segments taken over unplanned.", totals.takeovers),
        ("moves", "Segments moved away as planned.", totals.moves),
        ("moves_failed", "Planned moves given up.", totals.moves_failed),
        ("yielded", "Segments yielded after a partition.", totals.yielded),
        ("pauses", "Times that this node found itself paused.", totals.pauses),
        ("lapses", "Times that a lease ended without a majority.", totals.lapses),
        ("contexts", "Contexts sent to standbys.", totals.contexts),
        ("fills", "Fills of standbys completed.", totals.fills),
        ("refusals", "Contexts that a standby refused.", totals.refusals),
        ("late", "IKE messages that waited for the bound.", totals.late),
        ("reservations", "Reservations of counters sent.", totals.reservations),
        ("repeated_reservations", "Reservations sent again.", totals.repeated_reservations),
        ("reservation_misses", "Times that an SA had used up what was reserved.", status.reservation_misses),
        ("stale", "Standbys declared stale.", totals.stale),
        ("rekeyed", "Segments taken over that had to be rekeyed.", totals.rekeyed),
        ("malformed", "Messages that could not be read.", totals.malformed),
        ("disbelieved", "Messages of members that may not say what they said.", totals.disbelieved),
        ("channel_strangers", "Calls from where no member is.", status.channel.strangers),
        ("channel_retries", "Calls that had to prove their address.", status.channel.retries),
        ("channel_refused", "Calls that were refused.", status.channel.refused),
        ("channel_failed", "Handshakes that failed.", status.channel.failed),
        ("channel_dropped", "Messages for which there was no room.", status.channel.dropped),
    ] {
        one(&format!("{name}_total"), "counter", help, value);
    }
    members(&mut out, &status.members);
    out
}

type Of = fn(&MemberEntry) -> u64;

fn members(out: &mut String, members: &[MemberEntry]) {
    let metrics: [(&str, &str, Of); 9] = [
        ("lag_packets", "Packets whose numbers wait to be reserved there.", |member| member.lag_packets),
        ("lag_milliseconds", "How long the oldest change or reservation is on its way.", |member| {
            member.lag_ms
        }),
        ("alive", "Whether the member's heartbeats are heard.", |member| member.alive.into()),
        ("connected", "Whether both connections with the member stand.", |member| member.connected.into()),
        ("segments", "Segments that the member owns.", |member| member.owns.len() as u64),
        ("synced", "Whether the member has all contexts of this node.", |member| {
            (member.standby.state == StandbyWord::Synced).into()
        }),
        (
            "ready_segments",
            "Segments of this node that the member could take over without a loss.",
            |member| member.ready.len() as u64,
        ),
        ("lag_contexts", "Contexts that the member has not acknowledged.", |member| member.lag_contexts),
        ("lag_octets", "Octets that wait to be sent to the member.", |member| member.lag_octets),
    ];
    for (name, help, of) in metrics {
        let _ = writeln!(
            out,
            "# HELP baton_cluster_member_{name} {help}\n# TYPE baton_cluster_member_{name} gauge"
        );
        for member in members {
            let _ = writeln!(
                out,
                "baton_cluster_member_{name}{{member=\"{}\",role=\"{}\"}} {}",
                member.id,
                member.role,
                of(member)
            );
        }
    }
}

pub(super) fn bind(address: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(address).map_err(|source| DaemonError::Metrics { address, source })
}

/// One client after the other: scrapers are few and patient.
pub(super) fn start(listener: TcpListener, inputs: Inputs) -> Result<(), DaemonError> {
    let serve = move || {
        for stream in listener.incoming() {
            match stream {
                // A client that goes away in the middle is no event.
                Ok(stream) => drop(answer(&stream, &inputs)),
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    thread::Builder::new().name("metrics".to_owned()).spawn(serve).map_err(system("start a thread"))?;
    Ok(())
}

fn answer(mut stream: &TcpStream, inputs: &Inputs) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.take(MAX_REQUEST_OCTETS)).read_line(&mut line)?;
    let (state, body) = match line.split(' ').next() {
        Some("GET") => match ask(inputs, Request::Metrics) {
            Ok(Answer::Metrics(metrics)) => ("200 OK", metrics.text),
            _ => ("503 Service Unavailable", String::new()),
        },
        _ => ("405 Method Not Allowed", String::new()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {state}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_help_and_its_type() {
        let member = MemberEntry { id: 2, role: "node".to_owned(), alive: true, ..MemberEntry::default() };
        let status = Status { owned: vec![1, 2, 3], members: vec![member], ..Status::default() };
        let text = text(&status);
        assert!(
            text.contains("\nbaton_cluster_segments_owned 3\n")
                || text.contains("baton_cluster_segments_owned 3\n")
        );
        assert!(text.contains("baton_cluster_member_alive{member=\"2\",role=\"node\"} 1\n"));
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().expect("a name");
            assert!(text.contains(&format!("# HELP {name} ")), "{name}");
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
