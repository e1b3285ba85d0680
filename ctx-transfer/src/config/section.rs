//! `[cluster]`: patience, bounds and rates; the names are those of the core's [`Configuration`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_dataplane::config::field::{integer, word};
use baton_dataplane::config::quantity::{self, OCTETS};
use baton_dataplane::config::reader::{Section, shortened};
use baton_dataplane::config::{self as gateway, Node};

use super::member::{self, Address};
use super::{Config, DIRECTORY, Sharing, announce};
use crate::cluster::{
    Balance, Configuration, ConfigurationError, Member, Replicating, Reserving, Role, Trigger,
};

/// Heartbeats; the rest is on the next one.
const PORT: u64 = 4740;

/// What was read; good only if no problem was reported.
pub(super) struct Read {
    pub(super) role: Role,
    cluster: Configuration,
    addresses: Vec<Address>,
    pub(super) sharing: Sharing,
    directory: PathBuf,
    metrics: Option<SocketAddr>,
    user: Option<String>,
}

impl Read {
    pub(super) fn into_config(
        self,
        path: &Path,
        node: Node,
        gateway: Option<gateway::Config>,
        digests: Vec<(String, u64)>,
    ) -> Config {
        Config {
            path: path.to_owned(),
            node,
            gateway,
            cluster: Configuration { digests, ..self.cluster },
            addresses: self.addresses,
            sharing: self.sharing,
            directory: self.directory,
            metrics: self.metrics,
            user: self.user,
        }
    }
}

pub(super) fn read(section: &Section<'_, '_>, node: Option<&Node>) -> Option<Read> {
    let port = integer(section, "port", 1..=65_534, PORT).and_then(|port| u16::try_from(port).ok());
    let members = section.sections("member");
    let members: Vec<_> =
        members.iter().map(|section| member::read(section, port.unwrap_or(PORT as u16))).collect();
    let members: Option<Vec<_>> = members.into_iter().collect();
    let directory = directory(section);
    let metrics = section.get("metrics").map_or(Some(None), |item| listening(&item).map(Some));
    let user = section.get("user").map_or(Some(None), |item| user(&item).map(Some));
    let timing = timing(section);
    let replicating = replicating(section);
    let reserving = reserving(section);
    let moving = moving(section);
    let trigger = trigger(section);
    let sharing = announce::read(section, node.map(|node| node.cluster.as_str()));
    section.finish();
    let members = members?;
    member::check(section, &members, node.map(|node| node.id));
    let own = members.iter().find(|read| Some(read.member.id) == node.map(|node| node.id));
    let role = own.map_or(Role::Node, |own| own.member.role);
    let all: Vec<Member> = members.iter().map(|read| read.member).collect();
    let (timing, moving) = (timing?, moving?);
    let cluster = Configuration {
        interval: timing.interval,
        missed: timing.missed,
        lease: timing.lease,
        drift: timing.drift,
        standbys: moving.standbys,
        replicating: replicating?,
        reserving: reserving?,
        balance: moving.balance,
        settle: moving.settle,
        move_batch: moving.batch,
        move_wait: moving.wait,
        trigger: trigger?,
        ..Configuration::new(node?.id, all)
    };
    validate(section, &cluster);
    let addresses = members.iter().map(|read| read.address).collect();
    let sharing = sharing?;
    Some(Read { role, cluster, addresses, sharing, directory: directory?, metrics: metrics?, user: user? })
}

/// The core's own rules, at the field that it names.
fn validate(section: &Section<'_, '_>, cluster: &Configuration) {
    let Err(ConfigurationError::Bounds { field, remedy }) = cluster.validate() else { return };
    let key = match field {
        "interval" => "interval_milliseconds",
        "lease" => "lease_milliseconds",
        "move_wait" => "move_wait_milliseconds",
        "wait" => "reserve_wait_milliseconds",
        "minimum" => "reserve_minimum",
        "packets" => "reserve_packets",
        other => other,
    };
    section.place().report(section.source(), format!("{key} does not fit the rest"), remedy);
}

struct Timing {
    interval: Duration,
    missed: u32,
    lease: Duration,
    drift: u32,
}

fn timing(section: &Section<'_, '_>) -> Option<Timing> {
    let default = Configuration::new(baton_sad::NodeId::new(1)?, Vec::new());
    let interval = milliseconds(section, "interval_milliseconds", 1..=10_000, default.interval);
    let missed = integer(section, "missed", 1..=100, default.missed.into());
    let missed = missed.and_then(|missed| u32::try_from(missed).ok());
    let fitting = interval.zip(missed).map_or(default.lease, |(interval, missed)| interval * missed.max(2));
    let lease = milliseconds(section, "lease_milliseconds", 2..=1_000_000, fitting);
    let drift = integer(section, "drift", 0..=100, default.drift.into());
    Some(Timing { interval: interval?, missed: missed?, lease: lease?, drift: u32::try_from(drift?).ok()? })
}

fn replicating(section: &Section<'_, '_>) -> Option<Replicating> {
    let default = Replicating::default();
    let window = octets(section, "window", 1 << 12..=1 << 23, default.window as u64);
    let fill_rate = octets(section, "fill_rate", 1 << 10..=1 << 40, default.fill_rate);
    let wait = milliseconds(section, "replication_wait_milliseconds", 0..=1000, default.wait);
    Some(Replicating {
        window: usize::try_from(window?).ok()?,
        fill_rate: fill_rate?,
        wait: wait?,
        tunnels: default.tunnels,
    })
}

fn reserving(section: &Section<'_, '_>) -> Option<Reserving> {
    let default = Reserving::default();
    let packets = integer(section, "reserve_packets", 2..=1 << 24, default.packets);
    let time = milliseconds(section, "reserve_milliseconds", 1..=60_000, default.time);
    let fitting = packets.map_or(default.minimum, |packets| default.minimum.min(packets));
    let minimum = integer(section, "reserve_minimum", 1..=1 << 24, fitting);
    let wait = milliseconds(section, "reserve_wait_milliseconds", 5..=5000, default.wait);
    let continuity = section.get("continuity").map_or(Some(false), |item| item.boolean());
    Some(Reserving {
        packets: packets?,
        time: time?,
        minimum: minimum?,
        again: default.again,
        wait: wait?,
        continuity: continuity?,
    })
}

struct Moving {
    standbys: u8,
    balance: Balance,
    settle: Duration,
    batch: usize,
    wait: Duration,
}

#[derive(Clone, Copy, Default)]
struct Manual(bool);

fn moving(section: &Section<'_, '_>) -> Option<Moving> {
    let default = Configuration::new(baton_sad::NodeId::new(1)?, Vec::new());
    let standbys = integer(section, "standbys", 1..=7, default.standbys.into());
    let balance = word(section, "balance", &[("automatic", Manual(false)), ("manual", Manual(true))]);
    let settle = milliseconds(section, "settle_milliseconds", 0..=3_600_000, default.settle);
    let batch = integer(section, "move_batch", 1..=256, default.move_batch as u64);
    let wait = milliseconds(section, "move_wait_milliseconds", 1..=60_000, default.move_wait);
    Some(Moving {
        standbys: u8::try_from(standbys?).ok()?,
        balance: if balance?.0 { Balance::Manual } else { Balance::Automatic },
        settle: settle?,
        batch: usize::try_from(batch?).ok()?,
        wait: wait?,
    })
}

/// Thresholds; what is not set does not count.
fn trigger(section: &Section<'_, '_>) -> Option<Trigger> {
    let threshold = |key, most| match section.get(key) {
        Some(_) => integer(section, key, 1..=most, most).map(Some),
        None => Some(None),
    };
    let percent = threshold("load_cpu_percent", 100);
    let drops_per_second = threshold("load_drops_per_second", u64::from(u32::MAX));
    let tunnels = threshold("load_tunnels", 1 << 24);
    let hold = integer(section, "load_seconds", 1..=86_400, Trigger::default().hold.as_secs());
    Some(Trigger {
        cpu_per_mille: percent?.and_then(|percent| u16::try_from(percent * 10).ok()),
        drops_per_second: drops_per_second?,
        tunnels: tunnels?,
        hold: Duration::from_secs(hold?),
    })
}

fn milliseconds(
    section: &Section<'_, '_>,
    key: &'static str,
    allowed: RangeInclusive<u64>,
    default: Duration,
) -> Option<Duration> {
    let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
    integer(section, key, allowed, default).map(Duration::from_millis)
}

fn octets(
    section: &Section<'_, '_>,
    key: &'static str,
    allowed: RangeInclusive<u64>,
    default: u64,
) -> Option<u64> {
    let Some(item) = section.get(key) else { return Some(default) };
    let value = quantity::read(&item, &OCTETS)?;
    if !allowed.contains(&value) {
        let range = format!("{}..={} octets", allowed.start(), allowed.end());
        item.report(format!("{value} is outside {range}"), format!("choose {range}, for example \"1M\""));
        return None;
    }
    Some(value)
}

fn directory(section: &Section<'_, '_>) -> Option<PathBuf> {
    let beside = section.source().path().parent().unwrap_or(Path::new(""));
    let Some(item) = section.get("directory") else { return Some(beside.join(DIRECTORY)) };
    let text = item.string()?;
    if text.is_empty() || text.contains('\0') {
        item.report("this is not a directory", "write a path, e.g. \"/etc/baton/cluster\"");
        return None;
    }
    Some(beside.join(text))
}

/// An address with a port.
fn listening(item: &baton_dataplane::config::reader::Item<'_, '_>) -> Option<SocketAddr> {
    let text = item.string()?;
    let found = text.parse::<SocketAddr>().ok().filter(|at| at.port() != 0);
    if found.is_none() {
        let example = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9740);
        let message = format!("\"{}\" is no address with a port", shortened(text));
        item.report(message, format!("write for example \"{example}\""));
    }
    found
}

fn user(item: &baton_dataplane::config::reader::Item<'_, '_>) -> Option<String> {
    let text = item.string()?;
    let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if (1..=32).contains(&text.len()) && text.chars().all(usable) {
        return Some(text.to_owned());
    }
    item.report(format!("\"{}\" is not a user", shortened(text)), "write a name or a number");
    None
}
