//! Several processes on one table: one PUTs and removes (and is killed now and then), one GETs, one
//! looks up as a data plane does, one reserves as a cluster daemon does. `BATON_SOAK=1` makes it ten million operations.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::inspect::assert_sound;
use super::{INBOUND, OUTBOUND, directory, new_table, reopen, seeded, table_path};
use crate::layout::slot;
use crate::sync::Ordering;
use crate::table::key_word;
use crate::{
    ClusterId, ConfigError, Counters, Direction, Reserve, Sa, SaKey, Sender, Senders, SlotState, Snapshot,
    Table,
};

const CHILD: &str = "BATON_SAD_STRESS_CHILD";
/// SAs that are always there, replaced all the time.
const PERMANENT: u32 = 48;
/// SAs that come and go, between them in the index.
const TRANSIENT: u32 = 200;
const FIRST: u32 = 0x2a00_0100;

/// Where the seed of an SA stands, so that whoever reads it can make the same SA again.
fn sa(direction: Direction, key: u32, seed: u64) -> (Sa, Counters) {
    let (sa, mut counters) = seeded(direction, key, seed);
    counters.packets = seed;
    (sa, counters)
}

/// An update of an SA: fields from the first word of the configuration to the last follow from a number,
/// which stands in the first.
fn updated(mut sa: Sa, number: u32) -> Sa {
    sa.peer_spi = number;
    sa.path_mtu = number as u16 ^ 0x5a5a;
    sa.source = std::net::Ipv4Addr::from_bits(number.wrapping_mul(3)).into();
    sa.destination = std::net::Ipv4Addr::from_bits(number.wrapping_mul(7)).into();
    let sender = |n| Sender { cluster: ClusterId::new(u64::from(number) * n), node: super::node(9) };
    sa.senders = Senders::new((1..=8).map(sender).collect()).expect("8");
    sa
}

fn assert_whole(direction: Direction, key: u32, got: &Sa, seed: u64) {
    let put = sa(direction, key, seed).0;
    assert!(*got == put || *got == updated(put, got.peer_spi), "torn: {direction} {key:#x}: {got:?}");
}

struct Random(u64);

impl Random {
    /// A permanent key; one in two is the first, so that processes meet at it.
    fn permanent(&mut self) -> u32 {
        if self.below(2) == 0 { FIRST } else { FIRST + self.below(PERMANENT) }
    }
    fn any_key(&mut self) -> u32 {
        if self.below(2) == 0 { self.permanent() } else { FIRST + PERMANENT + self.below(TRANSIENT) }
    }
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        ((self.0 >> 33) % u64::from(limit)) as u32
    }
    fn direction(&mut self) -> Direction {
        [INBOUND, OUTBOUND][self.below(2) as usize]
    }
}

fn write(table: &Table, operations: u64, random: &mut Random) {
    for seed in 1..=operations {
        let key = random.permanent();
        let transient = FIRST + PERMANENT + random.below(TRANSIENT);
        let seed = seed << 20 | u64::from(random.below(1 << 20));
        match random.below(8) {
            0..=2 => {
                let tunnel = [sa(INBOUND, key, seed), sa(OUTBOUND, key, seed)];
                table.put(&tunnel).expect("put");
            }
            3 | 4 => {
                let old = table.get(INBOUND, key).expect("readable").expect("there").sa;
                table.update(&updated(old, seed as u32)).expect("updated");
            }
            5 => drop(table.put(&[sa(random.direction(), transient, seed)]).expect("put")),
            _ => drop(table.remove(&[(random.direction(), transient)]).expect("removed")),
        }
    }
}

/// Readers go on until they have done their share and the writer has finished.
fn go_on(table: &Table, done: u64, operations: u64) -> bool {
    // When the test has failed the table is gone as well.
    let over = || finished(table.path()).exists() || !table.path().exists();
    done < operations || !done.is_multiple_of(1000) || !over()
}

fn finished(path: &Path) -> PathBuf {
    path.with_extension("finished")
}

fn get(table: &Table, operations: u64, random: &mut Random) {
    for _ in (0..).take_while(|done| go_on(table, *done, operations)) {
        let direction = random.direction();
        let key = random.any_key();
        match table.get(direction, key).expect("readable") {
            Some(Snapshot { sa: got, counters, .. }) => {
                assert_whole(direction, key, &got, counters.packets);
                assert!(
                    counters == sa(direction, key, counters.packets).1,
                    "torn counters: {direction} {key:#x}"
                );
            }
            None => assert!(key >= FIRST + PERMANENT, "lost: {direction} {key:#x}"),
        }
    }
}

fn look_up(table: &Table, operations: u64, random: &mut Random) {
    let _lease = table.attach().expect("the only data plane");
    let worker = table.register_worker(0);
    worker.online();
    for operation in (0..).take_while(|done| go_on(table, *done, operations)) {
        if operation % 32 == 0 {
            worker.quiescent();
        }
        if operation % 1000 == 0 {
            worker.offline();
            worker.online();
        }
        let direction = random.direction();
        let key = random.any_key();
        let Some(handle) = table.lookup(direction, key) else {
            assert!(key >= FIRST + PERMANENT, "lost: {direction} {key:#x}");
            continue;
        };
        let Some(view) = table.slot(handle) else {
            // Updated since; perhaps replaced after that, but not given to another SA under a worker.
            let words = table.shared().slot(handle.slot()).expect("a slot");
            assert_eq!(words[slot::KEY].load(Ordering::Relaxed), key_word(direction, key), "reused");
            continue;
        };
        assert_ne!(view.state(), SlotState::Frozen);
        match table.read_config(handle) {
            Ok(found) => assert_whole(direction, key, &found, view.packets()),
            // Replaced or removed since the look-up, or its writer was killed inside.
            Err(ConfigError::Stale | ConfigError::Busy) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// As the cluster daemon does: what it reads of an SA belongs to one content, and what it reserves for one is never found
/// at another.
fn reserve(table: &Table, operations: u64, random: &mut Random) {
    let mut edges = Vec::new();
    for operation in (0..).take_while(|done| go_on(table, *done, operations)) {
        table.enforce_reservations(&[u64::MAX; 4], operation % 2 == 0);
        table.drain_attention(&mut edges);
        edges.extend(table.edges(&[u64::MAX; 4]));
        for edge in edges.drain(..) {
            let SaKey { direction, key, spi } = edge.sa;
            let (put, counters) = sa(direction, key, edge.packets);
            assert_eq!(
                (spi, edge.segment, edge.edge),
                (put.spi, put.segment, counters.edge()),
                "torn: {edge:?}"
            );
            let reserved = edge.reservation.reserved;
            assert!(reserved == edge.edge || reserved == promised(edge.sa), "another SA's: {edge:?}");
            if random.below(8) == 0 {
                let reserved = promised(edge.sa);
                table.reserve(&[Reserve { sa: edge.sa, reserved, mark: reserved }]).expect("reserved");
            }
        }
    }
}

/// A reservation above every edge that tells whose it is.
fn promised(sa: SaKey) -> u64 {
    1 << 62 | u64::from(sa.key) << 24 ^ u64::from(sa.spi)
}

fn start(role: &str, operations: u64, path: &Path, seed: u64) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "tests::stress::child", "--ignored", "--nocapture"])
        .env(CHILD, format!("{role}:{operations}:{seed}:{}", path.display()))
        .stdout(Stdio::null())
        .spawn()
        .expect("started")
}

#[test]
#[ignore = "the processes of the test below"]
fn child() {
    let order = std::env::var(CHILD).expect("run by the test below");
    let mut parts = order.splitn(4, ':');
    let mut next = || parts.next().expect("role:operations:seed:path");
    let (role, operations) = (next(), next().parse().expect("a number"));
    let mut random = Random(next().parse().expect("a number"));
    let table = reopen(Path::new(next()));
    match role {
        "write" => write(&table, operations, &mut random),
        "get" => get(&table, operations, &mut random),
        "reserve" => reserve(&table, operations, &mut random),
        _ => look_up(&table, operations, &mut random),
    }
}

/// Runs writers until one has finished all; those before it are killed in the middle of what they do.
fn write_and_kill(operations: u64, kills: u64, path: &Path) {
    for seed in 0..kills {
        let mut writer = start("write", u64::MAX >> 20, path, seed);
        thread::sleep(Duration::from_millis(20 + seed * 7 % 40));
        writer.kill().expect("killed");
        writer.wait().expect("waited");
    }
    assert!(start("write", operations, path, kills).wait().expect("waited").success());
}

#[test]
fn nothing_is_torn_or_lost_between_processes() {
    let soak = std::env::var("BATON_SOAK").is_ok_and(|value| value == "1");
    let (operations, kills) = if soak { (10_000_000, 200) } else { (200_000, 10) };
    let directory = directory();
    let path = table_path(&directory);
    let table = new_table(&directory, 2 * (PERMANENT + TRANSIENT));
    for key in FIRST..FIRST + PERMANENT {
        table.put(&[sa(INBOUND, key, 0), sa(OUTBOUND, key, 0)]).expect("put");
    }
    let start_time = Instant::now();
    // A quarter each for writing, half for GET, a quarter for looking up.
    let mut readers = [
        start("get", operations / 2, &path, 1001),
        start("look-up", operations / 4, &path, 1002),
        start("reserve", operations / 1000, &path, 1003),
    ];
    write_and_kill(operations / 4, kills, &path);
    std::fs::write(finished(&path), "").expect("written");
    for reader in &mut readers {
        assert!(reader.wait().expect("waited").success(), "a reader found a torn or lost SA");
    }
    println!("{operations} operations in {:?}, {kills} writers killed", start_time.elapsed());
    table.remove(&[]).expect("locked");
    assert_sound(&table);
}
