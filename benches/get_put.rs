//! GET, PUT and look-up of SAs in a table of 10 to 1,000,000, in process, and the whole command `dpctl snapshot` of one
//! tunnel in it: `cargo bench --bench get_put`.
//!
//! Each operation is timed alone, on random SAs; printed are the median and the 10th and 90th
//! percentiles over all rounds, and what the clock itself costs (which is part of every figure).

use std::fs;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use baton_dataplane::config::cluster_id_of;
use baton_sad::{
    AddressRange, Counters, DfPolicy, Direction, DscpPolicy, Key, Lifetime, MAX_BATCH, Mode, Name, NodeId,
    ReplayWindow, Sa, Selector, Selectors, Senders, Suite, Table, TableOptions, TfcPadding,
};

const SIZES: [u32; 4] = [10, 1_000, 100_000, 1_000_000];
const ROUNDS: usize = 5;
const PER_ROUND: usize = 4_000;
/// Whole commands per size.
const COMMANDS: usize = 101;
const CLUSTER: &str = "bench";
/// Below this a look-up cannot be timed alone.
const LOOKUPS_AT_ONCE: u32 = 64;

/// SAs with odd numbers are inbound, the others outbound.
fn key(number: u32) -> (Direction, u32) {
    let direction = if number % 2 == 1 { Direction::Inbound } else { Direction::Outbound };
    (direction, 0x2a00_0100 + number / 2)
}

fn sa(number: u32, sequence: u64) -> (Sa, Counters) {
    let (direction, key) = key(number);
    let any = AddressRange::new(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::BROADCAST.into()).expect("a range");
    let one = AddressRange::single(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)));
    let mut material = [0x5a; 20];
    material[..4].copy_from_slice(&number.to_be_bytes());
    let sa = Sa {
        name: Name::new(&format!("tunnel-{}", number / 2)).expect("short"),
        direction,
        spi: key,
        peer_spi: key,
        reqid: key,
        mode: Mode::Tunnel,
        segment: 42,
        suite: Suite::AES128_GCM16,
        key: Key::new(&material).expect("fits"),
        source: Ipv4Addr::new(203, 0, 113, 1).into(),
        destination: Ipv4Addr::new(203, 0, 113, 2).into(),
        selectors: Selectors::new(vec![Selector::addresses(one, any)]).expect("one"),
        encapsulation: None,
        extended_sequence: true,
        replay_window: 1024,
        dscp: DscpPolicy::Copy,
        df: DfPolicy::Copy,
        path_mtu: 1400,
        clamp_mss: true,
        tfc_padding: TfcPadding::Off,
        lifetime: Lifetime::default(),
        senders: Senders::default(),
    };
    let window = match direction {
        Direction::Inbound => ReplayWindow::closed(sequence, 1024),
        Direction::Outbound => ReplayWindow::default(),
    };
    (sa, Counters { sequence, window, ..Counters::default() })
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((u64::from((self.0 >> 32) as u32) * u64::from(limit)) >> 32) as u32
    }
}

fn time(samples: &mut Vec<Duration>, run: impl FnOnce()) {
    let start = Instant::now();
    run();
    samples.push(start.elapsed());
}

/// "median (10th-90th percentile)" in nanoseconds, each sample divided by `per`.
fn summary(samples: &mut [Duration], per: u32) -> String {
    samples.sort_unstable();
    let at = |percent: usize| samples[(samples.len() - 1) * percent / 100].as_nanos() / u128::from(per);
    format!("{} ({}-{})", at(50), at(10), at(90))
}

fn measure(size: u32) -> String {
    let directory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
    let options = TableOptions {
        capacity: size,
        node: NodeId::new(2).expect("not 0"),
        cluster: cluster_id_of(CLUSTER),
    };
    let table = Table::create(&directory.path().join("sa-table"), &options).expect("created");
    for first in (0..size).step_by(MAX_BATCH) {
        let batch: Vec<_> = (first..size.min(first + MAX_BATCH as u32)).map(|n| sa(n, 1)).collect();
        table.put(&batch).expect("put");
    }
    let mut random = Random(7);
    let (mut gets, mut puts, mut lookups) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        for i in 0..PER_ROUND {
            let (direction, key) = key(random.below(size));
            time(&mut gets, || drop(black_box(table.get(direction, key).expect("got").expect("there"))));
            let replacement = [sa(random.below(size), (round * PER_ROUND + i + 2) as u64)];
            time(&mut puts, || drop(black_box(table.put(&replacement).expect("put"))));
        }
        for _ in 0..PER_ROUND / 16 {
            let keys: [_; LOOKUPS_AT_ONCE as usize] = std::array::from_fn(|_| self::key(random.below(size)));
            time(&mut lookups, || {
                for (direction, key) in keys {
                    black_box(table.lookup(direction, key));
                }
            });
        }
    }
    let (get, put) = (summary(&mut gets, 1), summary(&mut puts, 1));
    let mut commands = snapshot_commands(directory.path(), size, &mut random);
    let (lookup, command) = (summary(&mut lookups, LOOKUPS_AT_ONCE), summary(&mut commands, 1_000));
    format!("{size:>9}  {get:>22}  {put:>22}  {lookup:>18}  {command:>22}")
}

/// `dpctl snapshot` of random tunnels, sealed, from the start of the process to its end.
fn snapshot_commands(directory: &Path, size: u32, random: &mut Random) -> Vec<Duration> {
    let private = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("private");
        path
    };
    private("cluster.key", &"5a".repeat(32));
    let place = directory.display();
    let config = private(
        "baton.toml",
        &format!(
            "[node]\nid = 2\ncluster = \"{CLUSTER}\"\nstate_directory = \"{place}\"\nruntime_directory = \
             \"{place}\"\n[outer]\ninterface = \"wan0\"\naddresses = [\"203.0.113.2\"]\n[inner]\n\
             interface = \"lan0\"\n[snapshot]\nkey_file = \"cluster.key\"\n"
        ),
    );
    let mut samples = Vec::new();
    for _ in 0..COMMANDS {
        let tunnel = format!("tunnel-{}", random.below(size) / 2);
        let mut command = Command::new(env!("CARGO_BIN_EXE_dpctl"));
        command.arg("--config").arg(&config).args(["snapshot", &tunnel]).stdout(Stdio::null());
        time(&mut samples, || assert!(command.status().expect("dpctl starts").success()));
    }
    samples
}

fn main() {
    let mut clock = Vec::new();
    (0..10_000).for_each(|_| time(&mut clock, || ()));
    println!("nanoseconds: median (10th-90th percentile) of {} operations each", ROUNDS * PER_ROUND);
    println!("reading the clock costs {}, within each figure but the look-up's", summary(&mut clock, 1));
    println!(
        "{:>9}  {:>22}  {:>22}  {:>18}  {:>22}",
        "SAs", "GET", "PUT (replaces)", "look-up", "dpctl snapshot, us"
    );
    for size in SIZES {
        println!("{}", measure(size));
    }
    println!("goals: GET at most 2000, PUT at most 5000, the command at most 5000 us, at every size");
}
