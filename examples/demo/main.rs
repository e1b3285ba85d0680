//! A download through an IPsec tunnel; the tunnel moves to another gateway in the middle of it, and the new
//! gateway's data plane is killed in the middle of the next. `./dev demo` runs it.

mod report;
mod stage;
mod trace;
mod view;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use baton_lab::content::Content;
use baton_lab::http::{Download, Downloaded, FileServer};
use baton_lab::site::{self, Handover, Progress, SPI_TO_A, Site};
use baton_lab::{Lab, LabError, Namespace, Result, requirements, topology};
use clap::Parser;

use report::{CrashFigures, DownloadFigures, Edge, Figures, MoveFigures, WireFigures, milliseconds};
use stage::Heartbeat;
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

/// A download through a tunnel that moves to another gateway and survives kill -9.
#[derive(Parser)]
struct Options {
    /// Size of the file; k, M and G are powers of 1000.
    #[arg(long, default_value = "1G", value_parser = parse_size)]
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
    if let Err(reason) = requirements::lab() {
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
    let mut site = Site::build(Lab::with_plain_names()?)?;
    view.done("namespaces and wires: baton-client, -a, -wan, -b, -b2, -lan, -server");
    site.start()?;
    view.done("gateways A, B and B2 are up; B2 has B's addresses, and nothing to do");
    let server = FileServer::start(&site.topology.server, topology::server_port(80), SEED, octets)?;
    let sha256 = digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    view.done(&format!("the server has a file of {octets} octets, SHA-256 {}...", &sha256[..16]));
    let wan = &site.topology.wan;
    let taps = [Tap::start(wan, "a")?, Tap::start(wan, "b")?, Tap::start(wan, "b2")?];

    view.chapter("First download: the tunnel moves from B to B2");
    let hosts = (site.topology.server.clone(), site.topology.client.clone());
    let first = act(&mut view, &hosts, &server, octets, |view| first_event(view, &site))?;
    let accepted = Progress::of(&site.a, "inbound")?.packets;
    let retransmissions = stage::server_retransmissions(&site)?;

    view.chapter("Second download: B2's data plane is killed");
    let second = act(&mut view, &hosts, &server, octets, |view| second_event(view, &mut site))?;

    let (seen, missed) = finish(taps)?;
    let figures = Figures {
        machine: requirements::machine(),
        planned_move: move_figures(&first, &seen, accepted, retransmissions),
        crash: crash_figures(&second, &seen[2]),
        first: download_figures(&first.downloaded, &sha256),
        second: download_figures(&second.downloaded, &sha256),
        wire: wire_figures(&seen, missed),
    };
    report::print(&view, &figures);
    write_json(options, &figures)?;
    drop(site);
    view.line("\n  everything is cleaned up");
    Ok(figures.first.is_intact() && figures.second.is_intact() && figures.wire.repeated_ivs == 0)
}

fn introduce(view: &View) {
    view.line(&view.bold("\n  Baton: a tunnel changes gateways, and nobody at either end notices\n"));
    view.line("    client ─── A ═══ ESP ══╦══ B  ───┬─── server");
    view.line("                           ╚══ B2 ───┘");
    view.line("");
}

/// Downloads the file, beside a heartbeat, and lets `event` happen at two fifths of it.
fn act<T>(
    view: &mut View,
    (server_host, client): &(Namespace, Namespace),
    server: &FileServer,
    size: u64,
    event: impl FnOnce(&mut View) -> Result<T>,
) -> Result<Act<T>> {
    let heartbeat = Heartbeat::start(server_host, client)?;
    let download = Download::start(client, server.address())?;
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

fn first_event(view: &mut View, site: &Site) -> Result<Moved> {
    view.event("dpctl snapshot site-a --move | dpctl restore -, and the segment follows from B to B2");
    let handover = site::move_tunnel(&site.b, &site.b2)?;
    std::thread::sleep(SETTLE);
    // B's SA is frozen, so its counters are those of the snapshot that B2 continued from.
    let (last, now) = (Progress::of(&site.b, "inbound")?, Progress::of(&site.b2, "inbound")?);
    let sent = now.sequence.saturating_sub(last.sequence);
    let accepted = now.packets.saturating_sub(last.packets);
    view.done(&format!("moved in {:.1} ms", milliseconds(handover.end.saturating_sub(handover.start))));
    Ok(Moved { handover, lost_to_gateways: sent.saturating_sub(accepted) })
}

fn second_event(view: &mut View, site: &mut Site) -> Result<Duration> {
    let pid = site.b2.pid().unwrap_or_default();
    view.event(&format!("kill -9 {pid}, and start it again"));
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

fn move_figures(first: &Act<Moved>, seen: &Seen, accepted: u64, again: u64) -> MoveFigures {
    let [_, b, b2] = seen;
    let to_a =
        || b.iter().chain(b2).filter(|sighting| sighting.spi == SPI_TO_A && sighting.at < first.finish);
    let gaps = Gaps::of(to_a());
    let Moved { handover, lost_to_gateways } = &first.event;
    let (start, end) = (handover.start.saturating_sub(MARGIN), handover.end + MARGIN);
    MoveFigures {
        interruption_ms: milliseconds(gaps.longest_within(start, end).length),
        download_paused_ms: milliseconds(Gaps::of(download_only(to_a())).longest_within(start, end).length),
        typical_gap_ms: milliseconds(gaps.typical()),
        longest_other_gap_ms: milliseconds(gaps.longest_outside(start, end).length),
        lost_to_gateways: *lost_to_gateways,
        lost_to_a: (to_a().count() as u64).saturating_sub(accepted),
        tcp_retransmissions: again,
        get_us: milliseconds(handover.get) * 1e3,
        put_us: milliseconds(handover.put) * 1e3,
        snapshot_command_ms: milliseconds(handover.snapshot),
        restore_command_ms: milliseconds(handover.restore),
        move_ms: milliseconds(handover.end.saturating_sub(handover.start)),
        before: edge(b.iter().rfind(|sighting| sighting.spi == SPI_TO_A)),
        after: edge(b2.iter().find(|sighting| sighting.spi == SPI_TO_A)),
    }
}

fn crash_figures(second: &Act<Duration>, b2: &[Sighting]) -> CrashFigures {
    let to_a = || {
        b2.iter()
            .filter(|sighting| sighting.spi == SPI_TO_A && sighting.at >= second.start.saturating_sub(MARGIN))
    };
    let gap = Gaps::of(to_a()).longest_within(second.start, second.end + MARGIN);
    let pause = Gaps::of(download_only(to_a())).longest_within(second.start, second.end + MARGIN);
    CrashFigures {
        interruption_ms: milliseconds(gap.length),
        download_paused_ms: milliseconds(pause.length),
        restart_ms: milliseconds(second.event),
        before: edge(to_a().rfind(|sighting| sighting.at <= gap.start)),
        after: edge(to_a().find(|sighting| sighting.at > gap.start)),
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
