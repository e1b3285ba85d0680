//! A strongSwan client downloads through a tunnel that it negotiated; the tunnel moves to another gateway in the middle
//! of it, both of the new gateway's daemons are killed in the middle of the next download, and in the last one the
//! gateway dies, of two that are a cluster. `./dev demo` runs it.

mod report;
mod stage;
mod takeover;
mod trace;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use baton_lab::content::Content;
use baton_lab::http::{Download, Downloaded, FileServer};
use baton_lab::site::{self, Handover, Progress};
use baton_lab::{LabError, Namespace, PeerSite, Result, charon, requirements, topology};
use clap::Parser;

use report::{CrashFigures, DownloadFigures, Edge, Figures, MoveFigures, WireFigures, milliseconds};
use stage::{Heartbeat, Tunnel};
use trace::{Gaps, Sighting, Tap};
use view::View;

const SEED: u64 = 0xba70;
/// How long after a move its losses are counted.
const SETTLE: Duration = Duration::from_millis(300);
/// Gaps that begin so soon before or after an event belong to it.
const MARGIN: Duration = Duration::from_millis(50);
/// After a download, until its last packets have arrived.
const LULL: Duration = Duration::from_millis(100);
/// ESP packets longer than this carry the download, shorter ones heartbeats.
const DATA: usize = 1000;

/// A strongSwan client's download through a tunnel that moves to another gateway, survives kill -9, and its gateway.
#[derive(Parser)]
struct Options {
    /// Size of the file; k, M and G are powers of 1000.
    #[arg(long, default_value = "100M", value_parser = parse_size)]
    size: u64,
    /// Also write every figure of the table to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1_000),
        Some((at, 'M')) => (&text[..at], 1_000_000),
        Some((at, 'G')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let size = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.filter(|size| (10_000_000..=8_000_000_000).contains(size))
        .ok_or_else(|| format!("{text} is not a size from 10M to 8G"))
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(reason) = charon::requirements() {
        eprintln!("the demo cannot run here: {reason}");
        return ExitCode::FAILURE;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("the demo failed: see the table");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("the demo failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What the demo saw of one download.
struct Act<T> {
    event: T,
    start: Duration,
    end: Duration,
    /// When nothing moved any more.
    finish: Duration,
    downloaded: Downloaded,
}

/// What the first download's move brought.
struct Moved {
    handover: Handover,
    lost_to_gateways: u64,
}

fn run(options: &Options) -> Result<bool> {
    let mut view = View::new();
    introduce(&view);
    let octets = options.size;
    let digest = std::thread::spawn(move || Content::new(SEED, octets).sha256());
    let mut site = stage::build()?;
    view.done("namespaces and wires: baton-client, -wan, -b, -b2, -lan, -server");
    view.done("gateways B and B2 are up; B2 has B's addresses, and nothing to do");
    let tunnel = stage::negotiate(&site)?;
    view.done(&format!(
        "strongSwan has negotiated tunnel {} with B; it is {} inside",
        tunnel.name, tunnel.client
    ));
    let server = FileServer::start(&site.topology.server, topology::server_port(80), SEED, octets)?;
    let sha256 = digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    view.done(&format!("the server has a file of {octets} octets, SHA-256 {}...", &sha256[..16]));
    let wan = &site.topology.wan;
    let taps = [Tap::start(wan, "a")?, Tap::start(wan, "b")?, Tap::start(wan, "b2")?];

    view.chapter("First download: the tunnel moves from B to B2");
    let cast = Cast { server: site.topology.server.clone(), client: site.topology.client.clone(), tunnel };
    let first = act(&mut view, &cast, &server, octets, |view| first_event(view, &site, &cast.tunnel))?;
    let accepted = stage::received_by_client(&site)?;
    let retransmissions = stage::server_retransmissions(&site)?;

    view.chapter("Second download: B2's daemons are killed");
    let second = act(&mut view, &cast, &server, octets, |view| second_event(view, &mut site))?;
    let (seen, missed) = finish(taps)?;
    view.chapter("Afterwards: strongSwan asks B2 for new keys");
    stage::rekey(&site)?;
    view.done("new keys for the IKE SA and the Child SA, by exchanges that B never saw the beginning of");

    // The next stage has the same names.
    let move_and_crash = (
        move_figures(&first, &seen, &cast.tunnel, accepted, retransmissions),
        crash_figures(&second, &seen[2], &cast.tunnel),
    );
    drop(site);
    view.chapter("Third download: B and B2 are a cluster, and the one that owns the tunnel dies");
    let takeover = takeover::play(&mut view, octets, &sha256)?;

    let figures = Figures {
        machine: requirements::machine(),
        takeover,
        planned_move: move_and_crash.0,
        crash: move_and_crash.1,
        first: download_figures(&first.downloaded, &sha256),
        second: download_figures(&second.downloaded, &sha256),
        wire: wire_figures(&seen, missed),
    };
    report::print(&view, &figures);
    write_json(options, &figures)?;
    view.line("\n  everything is cleaned up");
    Ok(figures.is_good())
}

/// Who takes part in a download.
struct Cast {
    server: Namespace,
    client: Namespace,
    tunnel: Tunnel,
}

fn introduce(view: &View) {
    view.line(&view.bold("\n  Baton: a tunnel changes gateways, and nobody at either end notices\n"));
    view.line("    strongSwan client ═══ ESP ══╦══ B  ───┬─── server");
    view.line("                                ╚══ B2 ───┘");
    let rate = baton_lab::peer_site::RATE;
    view.line(&format!(
        "\n    The server sends {rate} Mbit/s, which strongSwan's ESP in userspace keeps up with.\n"
    ));
}

/// Downloads the file, beside a heartbeat, and lets `event` happen at two fifths of it.
fn act<T>(
    view: &mut View,
    cast: &Cast,
    server: &FileServer,
    size: u64,
    event: impl FnOnce(&mut View) -> Result<T>,
) -> Result<Act<T>> {
    let heartbeat = Heartbeat::start(&cast.server, &cast.client, cast.tunnel.client)?;
    let download = Download::start(&cast.client, server.address())?;
    view.follow(&download, size, size / 5 * 2);
    if download.is_finished() {
        view.end_bar();
        let ended = download.finish()?;
        return Err(LabError::Unexpected(format!("the download ended before its time: {ended:?}")));
    }
    let start = site::now();
    let event = event(view)?;
    let end = site::now();
    view.follow(&download, size, size);
    view.end_bar();
    let downloaded = download.finish()?;
    drop(heartbeat);
    std::thread::sleep(LULL);
    view.done(&format!(
        "the client has {} octets in {:.1} s",
        downloaded.octets,
        downloaded.duration.as_secs_f64()
    ));
    Ok(Act { event, start, end, finish: site::now(), downloaded })
}

fn first_event(view: &mut View, site: &PeerSite, tunnel: &Tunnel) -> Result<Moved> {
    let name = &tunnel.name;
    view.event(&format!(
        "dpctl snapshot {name} --move | dpctl restore -, and the segment follows from B to B2"
    ));
    let handover = site::move_named(&site.b, &site.b2, name, tunnel.segment)?;
    std::thread::sleep(SETTLE);
    let progress = Progress::of_named(&site.b2, name, "inbound")?;
    view.done(&format!("moved in {:.1} ms", milliseconds(handover.end.saturating_sub(handover.start))));
    Ok(Moved { handover, lost_to_gateways: progress.sequence.saturating_sub(progress.packets) })
}

fn second_event(view: &mut View, site: &mut PeerSite) -> Result<Duration> {
    view.event("kill -9 of B2's data plane and of its IKE daemon, and start them again");
    let restart = stage::crash_b2(site)?;
    view.done(&format!("B2 attached itself to its SA table: {:.0} ms", milliseconds(restart)));
    Ok(restart)
}

/// The sightings of the three taps, in the order A, B, B2.
type Seen = [Vec<Sighting>; 3];

fn finish(taps: [Tap; 3]) -> Result<(Seen, u64)> {
    let [a, b, b2] = taps;
    let ((a, missed_a), (b, missed_b), (b2, missed_b2)) = (a.finish()?, b.finish()?, b2.finish()?);
    Ok(([a, b, b2], missed_a + missed_b + missed_b2))
}

fn move_figures(first: &Act<Moved>, seen: &Seen, tunnel: &Tunnel, accepted: u64, again: u64) -> MoveFigures {
    let [_, b, b2] = seen;
    let spi = tunnel.spi_to_client;
    let to_client =
        || b.iter().chain(b2).filter(|sighting| sighting.spi == spi && sighting.at < first.finish);
    let gaps = Gaps::of(to_client());
    let Moved { handover, lost_to_gateways } = &first.event;
    let (start, end) = (handover.start.saturating_sub(MARGIN), handover.end + MARGIN);
    MoveFigures {
        interruption_ms: milliseconds(gaps.longest_within(start, end).length),
        download_paused_ms: milliseconds(
            Gaps::of(download_only(to_client())).longest_within(start, end).length,
        ),
        typical_gap_ms: milliseconds(gaps.typical()),
        longest_other_gap_ms: milliseconds(gaps.longest_outside(start, end).length),
        lost_to_gateways: *lost_to_gateways,
        lost_to_client: (to_client().count() as u64).saturating_sub(accepted),
        tcp_retransmissions: again,
        get_us: milliseconds(handover.get) * 1e3,
        put_us: milliseconds(handover.put) * 1e3,
        snapshot_command_ms: milliseconds(handover.snapshot),
        restore_command_ms: milliseconds(handover.restore),
        move_ms: milliseconds(handover.end.saturating_sub(handover.start)),
        before: edge(b.iter().rfind(|sighting| sighting.spi == spi)),
        after: edge(b2.iter().find(|sighting| sighting.spi == spi)),
    }
}

fn crash_figures(second: &Act<Duration>, b2: &[Sighting], tunnel: &Tunnel) -> CrashFigures {
    let (spi, start) = (tunnel.spi_to_client, second.start.saturating_sub(MARGIN));
    let to_client = || b2.iter().filter(move |sighting| sighting.spi == spi && sighting.at >= start);
    let gap = Gaps::of(to_client()).longest_within(second.start, second.end + MARGIN);
    let pause = Gaps::of(download_only(to_client())).longest_within(second.start, second.end + MARGIN);
    CrashFigures {
        interruption_ms: milliseconds(gap.length),
        download_paused_ms: milliseconds(pause.length),
        restart_ms: milliseconds(second.event),
        before: edge(to_client().rfind(|sighting| sighting.at <= gap.start)),
        after: edge(to_client().find(|sighting| sighting.at > gap.start)),
    }
}

fn download_only<'a>(all: impl Iterator<Item = &'a Sighting>) -> impl Iterator<Item = &'a Sighting> {
    all.filter(|sighting| sighting.length > DATA)
}

fn edge(sighting: Option<&Sighting>) -> Edge {
    sighting.map(|&Sighting { sequence, iv, .. }| Edge { sequence, iv }).unwrap_or_default()
}

fn download_figures(downloaded: &Downloaded, sha256: &str) -> DownloadFigures {
    let seconds = downloaded.duration.as_secs_f64();
    DownloadFigures {
        octets: downloaded.octets,
        seconds,
        megabits_per_second: downloaded.octets as f64 * 8.0 / 1e6 / seconds,
        sha256_sent: sha256.to_owned(),
        sha256_received: downloaded.sha256.clone(),
    }
}

fn wire_figures(seen: &Seen, missed_by_sniffers: u64) -> WireFigures {
    WireFigures {
        esp_packets: seen.iter().map(Vec::len).sum(),
        repeated_ivs: trace::repeated_ivs(seen.iter().flatten()),
        missed_by_sniffers,
    }
}

fn write_json(options: &Options, figures: &Figures) -> Result<()> {
    let Some(path) = &options.json else { return Ok(()) };
    let text =
        serde_json::to_string_pretty(figures).map_err(|error| LabError::Unexpected(error.to_string()))?;
    std::fs::write(path, text + "\n").map_err(LabError::path("write", path))
}
