//! SAs that are keyed by the configuration.
//!
//! An SA goes on with its counters for as long as its direction, SPI and key stay the same, whatever else of its
//! tunnel changes: a restart or a reload must not send it back to sequence number 1 (I2), nor open its replay
//! window (I3). What was restored into the table stays, unless a reload takes its tunnel away.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_sad::{Counters, Direction, Sa, Snapshot, Table};
use tracing::{info, warn};

use super::endpoints::{Endpoints, place as peer_of, set_place};
use super::error::DaemonError;
use crate::config::{Config, Lifetimes, Tunnel};

/// How long taking over an SA under another reqid waits for the workers.
const FREEZE_WAIT: Duration = Duration::from_secs(1);

/// An SA's place in the table's index.
type Place = (Direction, u32);

/// Installs what the configuration keys, and removes what it keyed before: SAs of its tunnels with keys, under
/// other SPIs or reqids. A peer that moved stays where it is, unless another place is configured for it than `before`.
/// Returns a sentence for each tunnel that could not be brought in line; the others are.
pub(super) fn install(table: &Table, config: &Config, before: &Endpoints) -> Vec<String> {
    install_at(table, config, before, unix_seconds())
}

/// Since 1970; a clock before that is no better than one at that.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn install_at(table: &Table, config: &Config, before: &Endpoints, now: u64) -> Vec<String> {
    let mut problems = Vec::new();
    let installed = Installed::read(table);
    for tunnel in &config.tunnels {
        if let Err(error) = install_tunnel((table, &installed), tunnel, !before.are_changed_by(tunnel), now) {
            problems.push(format!("tunnel {} is not as configured: {error}", tunnel.name));
        }
    }
    for found in table.iter() {
        if config.tunnel(found.sa.name.as_str()).is_none() {
            warn!(tunnel = %found.sa.name, spi = found.sa.spi, "an SA is installed whose tunnel is not configured");
        }
    }
    problems
}

/// Removes the SAs of these tunnels; to remove is to wipe.
pub(super) fn remove(table: &Table, tunnels: &[String]) -> Result<(), DaemonError> {
    for tunnel in tunnels {
        let places: Vec<Place> = table.read_by_name(tunnel)?.iter().map(|found| place(&found.sa)).collect();
        table.remove(&places)?;
    }
    Ok(())
}

fn place(sa: &Sa) -> Place {
    (sa.direction, sa.index_key())
}

/// Where outbound SAs stood before, by SPI: read once, since many tunnels ask.
struct Installed(HashMap<u32, Vec<Place>>);

impl Installed {
    fn read(table: &Table) -> Self {
        let mut places: HashMap<u32, Vec<Place>> = HashMap::new();
        for found in table.iter().filter(|found| found.sa.direction == Direction::Outbound) {
            places.entry(found.sa.spi).or_default().push(place(&found.sa));
        }
        Self(places)
    }

    /// The same SA, wherever it stands now.
    fn find(&self, table: &Table, sa: &Sa) -> Result<Option<Snapshot>, DaemonError> {
        for (direction, key) in self.0.get(&sa.spi).into_iter().flatten() {
            if let Some(found) = table.get(*direction, *key)?.filter(|found| is_same_sa(&found.sa, sa)) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

fn install_tunnel(
    (table, installed): (&Table, &Installed),
    tunnel: &Tunnel,
    keeps_place: bool,
    now: u64,
) -> Result<(), DaemonError> {
    let (Some(inbound), Some(outbound)) = (tunnel.inbound_sa(now), tunnel.outbound_sa(now)) else {
        return Ok(());
    };
    let configured = [place(&inbound), place(&outbound)];
    let mut fresh = Vec::new();
    for sa in [inbound, outbound] {
        if let Some(sa) = take_over((table, installed), sa, keeps_place)? {
            fresh.push((sa, Counters::default()));
        }
    }
    if !fresh.is_empty() {
        table.put(&fresh)?;
        info!(
            tunnel = %tunnel.name,
            sas = fresh.len(),
            "installed from the configuration, beginning at sequence number 1: if these keys were in use before, \
             the peer drops what it takes for replays until it is restarted too"
        );
    }
    // Last, so that there is no gap; a key that was replaced accepts nothing any more.
    let replaced: Vec<Place> = table
        .read_by_name(&tunnel.name)?
        .iter()
        .map(|found| place(&found.sa))
        .filter(|place| !configured.contains(place))
        .collect();
    table.remove(&replaced)?;
    Ok(())
}

/// Goes on with the installed SA of the same SPI and key, or gives the configured one back.
fn take_over(
    (table, others): (&Table, &Installed),
    sa: Sa,
    keeps_place: bool,
) -> Result<Option<Sa>, DaemonError> {
    if let Some(installed) = table.get(sa.direction, sa.index_key())?
        && is_same_sa(&installed.sa, &sa)
    {
        if let Some(sa) = differing(&installed.sa, sa, keeps_place) {
            table.update(&sa)?;
        }
        return Ok(None);
    }
    // Outbound SAs are found by their reqid: under another one, the same SA may stand elsewhere.
    let elsewhere = if sa.direction == Direction::Outbound { others.find(table, &sa)? } else { None };
    let Some(elsewhere) = elsewhere else { return Ok(Some(sa)) };
    if elsewhere.frozen {
        // Perhaps it went to another gateway. Installed under its new reqid, it would send here too (I2).
        let sentence = "its outbound SA is frozen under another reqid; if it was moved to another gateway, take the tunnel \
                        out of this configuration, else thaw it with `dpctl sa thaw`";
        return Err(DaemonError::StaticSas(sentence.to_owned()));
    }
    let old = place(&elsewhere.sa);
    let frozen = table.freeze(&[old], FREEZE_WAIT)?;
    let counters = frozen.into_iter().next().map(|found| found.counters).unwrap_or_default();
    let sa = differing(&elsewhere.sa, sa, keeps_place).unwrap_or(elsewhere.sa);
    if let Err(refused) = table.put(&[(sa, counters)]) {
        // It goes on as it was, rather than standing still.
        table.thaw(&[old])?;
        return Err(refused.into());
    }
    table.remove(&[old])?;
    Ok(None)
}

/// Whether the counters of one go on in the other.
fn is_same_sa(installed: &Sa, configured: &Sa) -> bool {
    installed.direction == configured.direction
        && installed.spi == configured.spi
        && installed.key.ct_eq(&configured.key)
}

/// The configured SA with what only the table knows, if it differs from the installed one.
fn differing(installed: &Sa, mut configured: Sa, keeps_place: bool) -> Option<Sa> {
    if let (Some(moved), Some(_), true) = (peer_of(installed), peer_of(&configured), keeps_place) {
        set_place(&mut configured, moved);
    }
    configured.senders = installed.senders.clone();
    configured.lifetime = Lifetimes::continued(&installed.lifetime, configured.lifetime);
    (configured != *installed).then_some(configured)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use baton_sad::{ClusterId, NodeId, ReplayWindow, TableOptions};

    use super::*;
    use crate::control::Endpoint;

    const TUNNEL: &str = r#"
[node]
id = 1
cluster = "test"
state_directory = "/var/lib/baton"
runtime_directory = "/run/baton"
pin_directory = "/sys/fs/bpf/baton"
[outer]
interface = "wan0"
addresses = ["203.0.113.2"]
[inner]
interface = "lan0"
[[tunnel]]
name = "NAME"
reqid = REQID
local = "203.0.113.2"
remote = "203.0.113.1"
local_selectors = ["10.2.0.0/16"]
remote_selectors = ["10.1.0.0/16"]
suite = "aes128gcm16"
[tunnel.inbound]
spi = SPI
key = "1111111111111111111111111111111111111111"
[tunnel.outbound]
spi = 0x11000001
key = "2222222222222222222222222222222222222222"
"#;

    fn config(name: &str, reqid: u32, spi: u32) -> Config {
        let text = TUNNEL
            .replace("NAME", name)
            .replace("REQID", &reqid.to_string())
            .replace("SPI", &format!("{spi:#x}"));
        Config::parse_as(&text, Path::new("test.toml"), true).expect("a good configuration")
    }

    /// A table in which the tunnel of `config` has sent and received.
    fn used_table(config: &Config) -> (tempfile::TempDir, Table) {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let node = NodeId::new(1).expect("not 0");
        let options = TableOptions { capacity: 16, node, cluster: ClusterId::new(1) };
        let table = Table::create(&directory.path().join("sa-table"), &options).expect("a table");
        let used = |sa: Sa| {
            let window = ReplayWindow::closed(500, sa.replay_window);
            (sa, Counters { sequence: 500, window, ..Counters::default() })
        };
        let tunnel = &config.tunnels[0];
        let sas = [tunnel.inbound_sa(1000), tunnel.outbound_sa(1000)].map(|sa| used(sa.expect("keyed")));
        table.put(&sas).expect("installed");
        (directory, table)
    }

    fn edges(table: &Table) -> Vec<(Direction, u32, u64)> {
        let mut edges: Vec<_> = table
            .iter()
            .map(|found| (found.sa.direction, found.sa.index_key(), found.counters.edge()))
            .collect();
        edges.sort_unstable();
        edges
    }

    #[test]
    fn i2_i3_a_restart_keeps_the_counters() {
        let config = config("a", 7, 0x2a00_0001);
        let (_directory, table) = used_table(&config);
        assert_eq!(install(&table, &config, &Endpoints::default()), Vec::<String>::new());
        assert_eq!(edges(&table), [(Direction::Inbound, 0x2a00_0001, 500), (Direction::Outbound, 7, 500)]);
    }

    #[test]
    fn i2_i3_a_renamed_tunnel_with_another_reqid_keeps_the_counters() {
        let before = config("a", 7, 0x2a00_0001);
        let (_directory, table) = used_table(&before);
        let after = config("b", 8, 0x2a00_0001);
        assert_eq!(install(&table, &after, &Endpoints::default()), Vec::<String>::new());
        remove(&table, &["a".to_owned()]).expect("removed");
        assert_eq!(edges(&table), [(Direction::Inbound, 0x2a00_0001, 500), (Direction::Outbound, 8, 500)]);
        assert!(table.iter().all(|found| found.sa.name.as_str() == "b" && !found.frozen));
    }

    #[test]
    fn a_restart_does_not_move_the_end_of_an_sa() {
        let text = |life: &str| {
            let text = TUNNEL.replace("NAME", "a").replace("REQID", "7").replace("= SPI", "= 0x2a000001");
            let text = text.replace("suite =", &format!("{life}\nsuite ="));
            Config::parse_as(&text, Path::new("test.toml"), true).expect("a good configuration")
        };
        let config = text("rekey_time = \"8m\"\nlife_time = 600\nlife_packets = 9");
        let (_directory, table) = used_table(&config);
        let ends = |table: &Table| {
            let of = |l: baton_sad::Lifetime| (l.soft.expires_at, l.hard.expires_at, l.hard.packets);
            table.iter().map(|found| of(found.sa.lifetime)).collect::<Vec<_>>()
        };
        assert_eq!(install_at(&table, &config, &Endpoints::default(), 1300), Vec::<String>::new());
        assert_eq!(ends(&table), [(1480, 1600, 9); 2]);
        assert_eq!(
            install_at(&table, &text("life_packets = 10"), &Endpoints::default(), 1300),
            Vec::<String>::new()
        );
        assert_eq!(ends(&table), [(0, 0, 10); 2], "what the configuration does not bound is unbounded");
    }

    #[test]
    fn i2_an_sa_that_was_moved_away_does_not_come_back_under_another_reqid() {
        let before = config("a", 7, 0x2a00_0001);
        let (_directory, table) = used_table(&before);
        table.freeze(&[(Direction::Outbound, 7)], FREEZE_WAIT).expect("frozen");
        let problems = install(&table, &config("a", 8, 0x2a00_0001), &Endpoints::default());
        assert!(problems.len() == 1 && problems[0].contains("frozen"), "{problems:?}");
        assert!(table.iter().all(|found| found.frozen || found.sa.direction == Direction::Inbound));
    }

    #[test]
    fn an_sa_that_cannot_be_taken_over_goes_on() {
        let before = config("a", 7, 0x2a00_0001);
        let (_directory, table) = used_table(&before);
        let outbound = before.tunnels[0].outbound_sa(1000).expect("keyed");
        let other = |number: u32| {
            let key = baton_sad::Key::new(&[number as u8; 20]).expect("fits");
            let sa = Sa { reqid: 100 + number, key, ..outbound.clone() };
            (sa, Counters::default())
        };
        let free = table.capacity() - table.installed();
        table.put(&(0..free).map(other).collect::<Vec<_>>()).expect("installed");
        let problems = install(&table, &config("a", 8, 0x2a00_0001), &Endpoints::default());
        assert!(problems.len() == 1 && problems[0].contains("full"), "{problems:?}");
        assert!(table.iter().all(|found| !found.frozen), "the tunnel stands still");
    }

    #[test]
    fn a_moved_peer_stays_where_it_is_until_another_place_is_configured() {
        let text = |remote: &str, udp: &str| {
            let text = TUNNEL.replace("NAME", "a").replace("REQID", "7").replace("= SPI", "= 0x2a000001");
            let text = text.replace("203.0.113.1\"", &format!("{remote}\"\nencapsulation = \"udp\"\n{udp}"));
            Config::parse_as(&text, Path::new("test.toml"), true).expect("a good configuration")
        };
        let config = text("203.0.113.1", "");
        let (directory, table) = used_table(&config);
        let places = |table: &Table| table.iter().map(|found| peer_of(&found.sa)).collect::<Vec<_>>();
        let somewhere =
            |address: &str, port| Some(Endpoint { address: address.parse().expect("good"), port });
        let moved = somewhere("198.51.100.7", 61_000);
        for mut found in table.iter() {
            set_place(&mut found.sa, moved.expect("a place"));
            table.update(&found.sa).expect("updated");
        }

        let file = directory.path().join("endpoints");
        install(&table, &config, &Endpoints::load(&file));
        assert_eq!(places(&table), [moved; 2], "nothing is known of what was configured before");
        Endpoints::of(&config).save(&file).expect("saved");
        install(&table, &config, &Endpoints::load(&file));
        assert_eq!(places(&table), [moved; 2], "a restart");
        let other = text("203.0.113.1", "remote_port = 4501");
        install(&table, &other, &Endpoints::load(&file));
        assert_eq!(places(&table), [somewhere("203.0.113.1", 4501); 2], "the operator knows better");
        let still = text("203.0.113.1", "follow_peer = false");
        install(&table, &still, &Endpoints::of(&other));
        assert_eq!(places(&table), [None; 2]);
    }

    #[test]
    fn a_replaced_inbound_sa_accepts_nothing_any_more() {
        let before = config("a", 7, 0x2a00_0001);
        let (_directory, table) = used_table(&before);
        let after = config("a", 7, 0x2a00_0002);
        install(&table, &after, &Endpoints::default());
        assert_eq!(edges(&table), [(Direction::Inbound, 0x2a00_0002, 0), (Direction::Outbound, 7, 500)]);
    }

    #[test]
    fn i6_a_restored_sa_of_an_unknown_tunnel_survives_a_start() {
        let before = config("moved", 7, 0x2a00_0001);
        let (_directory, table) = used_table(&before);
        let text = TUNNEL.split("[[tunnel]]").next().expect("a head");
        let other = Config::parse_as(text, Path::new("test.toml"), true).expect("a good configuration");
        install(&table, &other, &Endpoints::default());
        assert_eq!(edges(&table).len(), 2);
    }
}
