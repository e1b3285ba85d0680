//! I5 and I6 against writers that die: at every single store, inside a sequence lock, inside a PUT, a
//! removal, an update, and inside the recovery from each of these.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::inspect::assert_sound;
use super::{INBOUND, OUTBOUND, directory, new_table, reopen, seeded, table_path};
use crate::fault::{self, End};
use crate::layout::header;
use crate::{Counters, Direction, Sa, Table};

type Installed = Vec<(Sa, Counters)>;
type Key = (Direction, u32);

const CHILD: &str = "BATON_SAD_CRASH_CHILD";

/// What a writer was doing when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    PutNew,
    PutReplacing,
    Remove,
    Update,
    Freeze,
    Recover,
}

const ALL: [Work; 5] = [Work::PutNew, Work::PutReplacing, Work::Remove, Work::Update, Work::Freeze];

/// Inbound SPIs and outbound reqids that are installed before. A full index of 16 entries has clusters,
/// so that deletions shift entries.
const KEYS: [u32; 4] = [0x2a00_0001, 0x2a00_0002, 0x2a00_0003, 0x2a00_0004];

fn before() -> Installed {
    let both = KEYS.into_iter().flat_map(|key| [seeded(INBOUND, key, 1), seeded(OUTBOUND, key, 1)]);
    both.take(7).collect()
}

fn new_batch() -> Installed {
    vec![seeded(OUTBOUND, KEYS[3], 9)]
}

fn replacing_batch() -> Installed {
    vec![seeded(INBOUND, KEYS[0], 2), seeded(OUTBOUND, KEYS[0], 2), seeded(OUTBOUND, KEYS[3], 2)]
}

fn removed_keys() -> Vec<Key> {
    vec![(INBOUND, KEYS[1]), (OUTBOUND, KEYS[0]), (INBOUND, KEYS[2])]
}

fn updated() -> (Sa, Counters) {
    let (mut sa, counters) = seeded(INBOUND, KEYS[1], 1);
    sa.path_mtu = 999;
    sa.name = crate::Name::new("another name").expect("short");
    (sa, counters)
}

fn do_work(table: &Table, work: Work) {
    match work {
        Work::PutNew => drop(table.put(&new_batch()).expect("put")),
        Work::PutReplacing => drop(table.put(&replacing_batch()).expect("put")),
        Work::Remove => drop(table.remove(&removed_keys()).expect("removed")),
        Work::Update => drop(table.update(&updated().0).expect("updated")),
        Work::Freeze => drop(table.freeze(&[(INBOUND, KEYS[0])], Duration::from_secs(1)).expect("frozen")),
        Work::Recover => drop(table.remove(&[]).expect("locked")),
    }
}

/// The sets of SAs that may be there after the work died.
fn outcomes(work: Work) -> Vec<Installed> {
    let replace = |with: Installed| {
        let key = |sa: &Sa| (sa.direction, sa.index_key());
        let kept = before().into_iter().filter(|(old, _)| with.iter().all(|(new, _)| key(new) != key(old)));
        kept.chain(with.clone()).collect::<Installed>()
    };
    let without = |keys: &[Key]| {
        let kept = before().into_iter().filter(|(sa, _)| !keys.contains(&(sa.direction, sa.index_key())));
        kept.collect::<Installed>()
    };
    match work {
        Work::PutNew => vec![before(), replace(new_batch())],
        Work::PutReplacing => vec![before(), replace(replacing_batch())],
        // Each SA as a whole, one after the other.
        Work::Remove => (0..=3).map(|n| without(&removed_keys()[..n])).collect(),
        Work::Update => vec![before(), replace(vec![updated()])],
        Work::Freeze | Work::Recover => vec![before()],
    }
}

fn sorted(mut set: Installed) -> Vec<(Direction, u32, Sa, Counters)> {
    set.sort_by_key(|(sa, _)| (sa.direction, sa.index_key()));
    set.into_iter().map(|(sa, counters)| (sa.direction, sa.index_key(), sa, counters)).collect()
}

/// What is there, looked up one by one as readers do.
fn found(table: &Table) -> Installed {
    let keys = KEYS.into_iter().flat_map(|key| [(INBOUND, key), (OUTBOUND, key)]);
    let snapshots = keys.filter_map(|(direction, key)| table.get(direction, key).expect("readable"));
    snapshots.map(|snapshot| (snapshot.sa, snapshot.counters)).collect()
}

fn assert_one_of(table: &Table, outcomes: &[Installed], when: &str) -> usize {
    let there = sorted(found(table));
    let which = outcomes.iter().position(|outcome| sorted(outcome.clone()) == there);
    which.unwrap_or_else(|| panic!("{when}: {} SAs that are none of the allowed sets", there.len()))
}

/// Readers find whole SAs while the writer lies dead, and the same ones after recovery; nothing leaks.
fn check_after_death(path: &Path, work: Work, when: &str) {
    let table = reopen(path);
    let outcomes = outcomes(work);
    // A half-done update or removal is seen only once it is decided; GET itself decides it.
    let seen = assert_one_of(&table, &outcomes, when);
    let locked = table.remove(&[]).expect("locked");
    assert_eq!(locked, 0);
    assert_eq!(assert_one_of(&table, &outcomes, when), seen, "{when}: recovery changed what readers saw");
    assert_sound(&table);
    assert_eq!(sorted(table.iter().map(|s| (s.sa, s.counters)).collect()), sorted(outcomes[seen].clone()));
    for (sa, _) in &outcomes[seen] {
        assert!(table.find_by_name(sa.name.as_str()).iter().any(|s| s.sa == *sa), "{when}: name lost");
    }
    use_whole_capacity(&table, when);
}

/// The full capacity can be used, and replaced, again and again.
fn use_whole_capacity(table: &Table, when: &str) {
    for seed in 100..103 {
        let batch: Installed = KEYS
            .into_iter()
            .flat_map(|key| [seeded(INBOUND, key, seed), seeded(OUTBOUND, key, seed)])
            .collect();
        assert!(table.put(&batch).is_ok(), "{when}: capacity leaked");
        assert_eq!(sorted(found(table)), sorted(batch), "{when}");
    }
    assert_sound(table);
}

fn prepare(path: &Path) {
    let table = Table::create(path, &super::options(8)).expect("created");
    // Slots that were used before, some of them still retired.
    for seed in 50..53 {
        let earlier: Installed = KEYS.into_iter().map(|key| seeded(INBOUND, key, seed)).collect();
        table.put(&earlier).expect("put");
    }
    table.remove(&KEYS.map(|key| (INBOUND, key))).expect("removed");
    table.put(&before()).expect("put");
    assert_sound(&table);
}

#[test]
fn a_writer_that_dies_before_any_store_leaves_all_or_nothing() {
    let directory = directory();
    let (clean, path) = (directory.path().join("clean"), table_path(&directory));
    prepare(&clean);
    for work in ALL {
        let mut step = 1;
        loop {
            fs::copy(&clean, &path).expect("copied");
            let table = reopen(&path);
            let finished = fault::survive(step, || do_work(&table, work));
            drop(table);
            check_after_death(&path, work, &format!("{work:?} died at step {step}"));
            if finished {
                break;
            }
            step += 1;
        }
        assert!(step > 1, "{work:?} stores nothing?");
    }
}

#[test]
fn a_recovery_that_dies_is_completed_by_the_next() {
    let directory = directory();
    let (clean, dead, path) =
        (directory.path().join("clean"), directory.path().join("dead"), table_path(&directory));
    prepare(&clean);
    for work in [Work::PutNew, Work::PutReplacing, Work::Remove, Work::Update] {
        // Primes, so that all kinds of stores are met over the two numbers.
        for first in (1..).step_by(13) {
            fs::copy(&clean, &dead).expect("copied");
            if fault::survive(first, || do_work(&reopen(&dead), work)) {
                break;
            }
            for second in (1..).step_by(61) {
                fs::copy(&dead, &path).expect("copied");
                let finished = fault::survive(second, || do_work(&reopen(&path), Work::Recover));
                check_after_death(&path, work, &format!("{work:?} died at {first}, recovery at {second}"));
                if finished {
                    break;
                }
            }
        }
    }
}

/// A worker that has passed a quiescent point in the grace period does not remember what is freed after it.
#[test]
fn recovery_tells_the_workers_before_its_grace_period_starts() {
    let directory = directory();
    let (clean, path) = (directory.path().join("clean"), table_path(&directory));
    prepare(&clean);
    // After its announcement, before it has told anybody.
    assert!(!fault::survive(10, || do_work(&reopen(&clean), Work::PutReplacing)));
    let mut started = 0;
    for step in 1.. {
        fs::copy(&clean, &path).expect("copied");
        let table = reopen(&path);
        let period = || table.shared().header_value(header::GRACE_PERIOD);
        let (changes, before) = (table.change_count(), period());
        let finished = fault::survive(step, || do_work(&table, Work::Recover));
        if period() > before {
            started += 1;
            assert!(table.change_count() > changes, "died at step {step}");
        }
        if finished {
            break;
        }
    }
    assert!(started > 1);
}

#[test]
fn a_process_killed_inside_the_sequence_lock_or_a_put_loses_nothing() {
    let directory = directory();
    let (clean, path) = (directory.path().join("clean"), table_path(&directory));
    prepare(&clean);
    for work in ALL {
        for step in (1..).step_by(17) {
            fs::copy(&clean, &path).expect("copied");
            let finished = run_child(&path, work, step);
            check_after_death(&path, work, &format!("{work:?} was killed at step {step}"));
            if finished {
                break;
            }
        }
    }
}

/// Runs the work in a process that is killed at a step; whether it finished before.
fn run_child(path: &Path, work: Work, step: u64) -> bool {
    let number = ALL.iter().position(|w| *w == work).expect("one of all");
    let status = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "tests::crash::child", "--ignored", "--quiet"])
        .env(CHILD, format!("{number}:{step}:{}", path.display()))
        .stdout(std::process::Stdio::null())
        .status()
        .expect("ran");
    assert!(status.success() || status.signal() == Some(9), "the child ended with {status}");
    status.success()
}

#[test]
#[ignore = "the process that the test above kills"]
fn child() {
    let order = std::env::var(CHILD).expect("run by the test above");
    let mut parts = order.splitn(3, ':');
    let mut next = || parts.next().expect("work:step:path");
    let work = ALL[next().parse::<usize>().expect("a number")];
    let step = next().parse().expect("a number");
    let table = reopen(Path::new(next()));
    fault::die_at_step(step, End::Kill);
    do_work(&table, work);
    fault::die_at_step(0, End::Kill);
}

#[test]
fn a_get_alone_gets_over_a_writer_that_died_inside_an_update() {
    let directory = directory();
    let path = table_path(&directory);
    let table = new_table(&directory, 8);
    table.put(&before()).expect("put");
    // Somewhere among the configuration words, with the version odd.
    assert!(!fault::survive(150, || do_work(&table, Work::Update)));
    let reader = reopen(&path);
    let snapshot = reader.get(INBOUND, KEYS[1]).expect("got").expect("there");
    assert_eq!((snapshot.sa, snapshot.counters), seeded(INBOUND, KEYS[1], 1));
    assert_sound(&reader);
}

#[test]
fn a_tick_alone_recovers_from_a_dead_writer_and_leaves_a_living_one_alone() {
    let directory = directory();
    let path = table_path(&directory);
    let table = new_table(&directory, 8);
    table.put(&before()).expect("put");
    let other = reopen(&path);
    assert!(!other.recover_if_abandoned().expect("looked"), "nothing to recover");
    let writer = table.write().expect("locked");
    writer.begin();
    assert!(!other.recover_if_abandoned().expect("looked"), "another one's writer lives");
    assert!(!table.recover_if_abandoned().expect("looked"), "our own writer lives");
    writer.end();
    drop(writer);
    assert!(!fault::survive(150, || do_work(&table, Work::Update)));
    assert!(other.recover_if_abandoned().expect("locked"));
    assert!(!table.recover_if_abandoned().expect("looked"), "once");
    assert_sound(&table);
}
