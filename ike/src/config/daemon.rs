//! `[ike]`: the process, its limits, its patience.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_dataplane::config as gateway;
use baton_dataplane::config::field::{integer, unicast};
use baton_dataplane::config::reader::{Section, Word, shortened};
use baton_ike_proto::configuration::{Limits, Maintenance, PuzzleEffort, Retransmission};
use baton_ike_proto::pool::Slicing;

use super::field::{boolean, list, time};
use super::{Daemon, moving};

/// Each has two sockets.
const MAX_ADDRESSES: usize = 64;
/// Below the configuration's directory.
const CREDENTIAL_DIRECTORY: &str = "credentials";

/// What the section says.
pub(super) struct Read {
    pub(super) daemon: Daemon,
    pub(super) limits: Limits,
    pub(super) retransmission: Retransmission,
    pub(super) slicing: Slicing,
    pub(super) directory: PathBuf,
    pub(super) directory_is_named: bool,
    pub(super) rsa_pss: bool,
    pub(super) maintenance: Maintenance,
    pub(super) crash_detection: bool,
    pub(super) puzzles: PuzzleEffort,
}

/// What baton-cluster takes to say what it has waited for in vain.
const ANSWER: Duration = Duration::from_millis(20);

pub(super) fn read(
    section: &Section<'_, '_>,
    gateway: Option<&gateway::Config>,
    cluster: &Section<'_, '_>,
) -> Option<Read> {
    let is_clustered = cluster.is_present();
    let listen = read_listen(section, gateway);
    let user = section.get("user").map_or(Some(None), |item| user(&item.text()?).map(Some));
    let directory = read_directory(section);
    let rsa_pss = boolean(section, "rsa_pss", false);
    let limits = read_limits(section);
    let retransmission = read_retransmission(section);
    let slicing = read_slicing(section, gateway, is_clustered);
    let wait = replication_wait(cluster);
    let crash_detection = moving::crash_detection(section, gateway);
    let puzzles = read_puzzles(section);
    let maintenance = moving::maintenance(section, listen.as_deref().unwrap_or_default());
    section.finish();
    Some(Read {
        daemon: Daemon { listen: listen?, user: user?, replication_wait: is_clustered.then_some(wait?) },
        limits: limits?,
        retransmission: retransmission?,
        slicing: slicing?,
        directory: directory?,
        directory_is_named: section.get("credential_directory").is_some(),
        rsa_pss: rsa_pss?,
        maintenance: maintenance?,
        crash_detection: crash_detection?,
        puzzles: puzzles?,
    })
}

fn read_listen(section: &Section<'_, '_>, gateway: Option<&gateway::Config>) -> Option<Vec<IpAddr>> {
    let Some(item) = section.get("listen") else {
        return Some(gateway?.outer.addresses.iter().copied().take(MAX_ADDRESSES).collect());
    };
    let addresses = list(section, "listen", unicast)?;
    let own = gateway.map_or(&[][..], |gateway| &gateway.outer.addresses);
    if let Some(strange) = addresses.iter().find(|address| !own.is_empty() && !own.contains(address)) {
        item.report(format!("{strange} is not one of [outer] addresses"), "ESP would not come there; add it");
    }
    if addresses.is_empty() || addresses.len() > MAX_ADDRESSES {
        let message = format!("{} addresses are not possible", addresses.len());
        item.report(message, format!("list 1 to {MAX_ADDRESSES} of [outer] addresses, or leave it out"));
        return None;
    }
    Some(addresses)
}

fn user(word: &Word<'_, '_>) -> Option<String> {
    let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=32).contains(&word.text.len()) && word.text.chars().all(usable) {
        return Some(word.text.to_owned());
    }
    word.report(format!("\"{}\" is not a user", shortened(word.text)), "write a name or a number");
    None
}

fn read_directory(section: &Section<'_, '_>) -> Option<PathBuf> {
    let beside = section.source().path().parent().unwrap_or(Path::new(""));
    let Some(item) = section.get("credential_directory") else {
        return Some(beside.join(CREDENTIAL_DIRECTORY));
    };
    let text = item.string()?;
    if text.is_empty() || text.contains('\0') {
        item.report("this is not a directory", "write a path, e.g. \"/etc/swanctl\"");
        return None;
    }
    Some(beside.join(text))
}

/// baton-cluster answers as soon as standbys have a change, or are late. If it hangs or is dead its leases end within this
/// time: then nothing leaves that a standby, which takes over, may not have (I6).
fn replication_wait(cluster: &Section<'_, '_>) -> Option<Duration> {
    let milliseconds =
        |key, allowed, default| integer(cluster, key, allowed, default).map(Duration::from_millis);
    let interval = milliseconds("interval_milliseconds", 1..=10_000, 10)?;
    let missed = u32::try_from(integer(cluster, "missed", 1..=100, 3)?).ok()?;
    let fitting = u64::try_from((interval * missed.max(2)).as_millis()).ok()?;
    let lease = milliseconds("lease_milliseconds", 2..=1_000_000, fitting)?;
    let wait = milliseconds("replication_wait_milliseconds", 0..=1000, 20)?;
    Some(lease.max(wait) + ANSWER)
}

/// Gateways that each own a part of the segments give addresses of their own part; one that owns all needs no parts.
fn read_slicing(
    section: &Section<'_, '_>,
    gateway: Option<&gateway::Config>,
    is_clustered: bool,
) -> Option<Slicing> {
    let shares = is_clustered || gateway.is_some_and(|gateway| gateway.segments.owned != [u64::MAX; 4]);
    let sliced = boolean(section, "slice_pools", shares)?;
    Some(if sliced { Slicing::BySegment } else { Slicing::Whole })
}

fn read_limits(section: &Section<'_, '_>) -> Option<Limits> {
    let default = Limits::default();
    let count = |key, allowed: RangeInclusive<u64>, default: usize| {
        integer(section, key, allowed, default as u64).and_then(|value| usize::try_from(value).ok())
    };
    let max_ike_sas = count("max_ike_sas", 1..=10_000_000, default.max_ike_sas);
    let half_open = count("half_open", 1..=1_000_000, default.half_open);
    let per_source = count("half_open_per_source", 1..=1_000_000, default.half_open_per_source);
    let cookie_threshold = count("cookie_threshold", 0..=1_000_000, default.cookie_threshold);
    let puzzle_threshold = count("puzzle_threshold", 0..=1_000_000, default.puzzle_threshold);
    let puzzle_difficulty = bits(section, "puzzle_difficulty", default.puzzle_difficulty);
    let init_per_source = integer(section, "init_per_source", 0..=1_000_000, default.init_per_source.into());
    let half_open_timeout = bounded_time(section, "half_open_timeout", 5..=600, default.half_open_timeout);
    let max_children = count("max_children", 1..=256, default.max_children);
    Some(Limits {
        max_ike_sas: max_ike_sas?,
        half_open: half_open?,
        half_open_per_source: per_source?,
        cookie_threshold: cookie_threshold?,
        puzzle_threshold: puzzle_threshold?,
        puzzle_difficulty: puzzle_difficulty?,
        init_per_source: u32::try_from(init_per_source?).ok()?,
        half_open_timeout: half_open_timeout?,
        max_children: max_children?,
    })
}

/// What is done for gateways that ask us to solve puzzles.
fn read_puzzles(section: &Section<'_, '_>) -> Option<PuzzleEffort> {
    let default = PuzzleEffort::default();
    let most = bits(section, "puzzle_limit", default.most);
    let time = bounded_time(section, "puzzle_time", 1..=60, default.time);
    Some(PuzzleEffort { most: most?, time: time? })
}

/// Zero bits of a puzzle: 0, which is said otherwise where it stands, or what is worth the trouble and can be done.
fn bits(section: &Section<'_, '_>, key: &'static str, default: u8) -> Option<u8> {
    let value = integer(section, key, 0..=32, default.into())?;
    if (1..8).contains(&value) {
        section.get(key)?.report(format!("{value} bits are no trouble at all"), "choose 0, or 8 to 32");
        return None;
    }
    u8::try_from(value).ok()
}

/// The time under `key`, in seconds within bounds.
pub(super) fn bounded_time(
    section: &Section<'_, '_>,
    key: &'static str,
    allowed: RangeInclusive<u64>,
    default: Duration,
) -> Option<Duration> {
    let value = time(section, key, default)?;
    if !allowed.contains(&value.as_secs()) {
        let range = format!("{}..={} seconds", allowed.start(), allowed.end());
        section
            .get(key)?
            .report(format!("{} s is outside {range}", value.as_secs()), format!("choose {range}"));
        return None;
    }
    Some(value)
}

/// With strongswan.conf's names and, unless they are said, its values.
fn read_retransmission(section: &Section<'_, '_>) -> Option<Retransmission> {
    let default = Retransmission::default();
    let number = |key, allowed, default| section.get(key).map_or(Some(default), |item| item.number(allowed));
    let first = number("retransmit_timeout", 0.1..=60.0, default.first.as_secs_f64());
    let base = number("retransmit_base", 1.0..=10.0, default.base);
    let tries = integer(section, "retransmit_tries", 1..=50, default.tries.into());
    let limit = number("retransmit_limit", 1.0..=3600.0, default.limit.as_secs_f64());
    Some(Retransmission {
        first: Duration::from_secs_f64(first?),
        base: base?,
        tries: u32::try_from(tries?).ok()?,
        limit: Duration::from_secs_f64(limit?),
    })
}
