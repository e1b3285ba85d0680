//! Files and SAs that are refused, each with a sentence.

use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use super::{INBOUND, OUTBOUND, directory, new_table, options, reopen, seeded, table_path};
use crate::layout::{Layout, VERSION, header};
use crate::{ClusterId, Key, PutError, ReplayWindow, SaError, Table, TableError, TableOptions, UpdateError};

#[test]
fn a_table_for_a_million_sas_takes_at_most_1536_octets_each() {
    for capacity in [65_536, 1_000_000, 1_048_576, 1_048_577, 2_000_000] {
        assert!(Layout::new(capacity).octets() / u64::from(capacity) <= 1536, "{capacity}");
    }
}

#[test]
fn a_table_is_private_and_made_once() {
    let directory = directory();
    let path = table_path(&directory);
    assert!(matches!(Table::open(&path), Err(TableError::NotFound(_))));
    drop(Table::open_or_create(&path, &options(4)).expect("created"));
    assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);
    assert!(matches!(Table::create(&path, &options(4)), Err(TableError::Exists(_))));
    assert_eq!(Table::open_or_create(&path, &options(99)).expect("opened").capacity(), 4);
    assert!(matches!(Table::create(&path, &options(0)), Err(TableError::Capacity(0))));
}

#[test]
fn a_table_of_another_node_or_cluster_is_refused() {
    let directory = directory();
    let path = table_path(&directory);
    drop(new_table(&directory, 4));
    let node = TableOptions { node: super::node(3), ..options(4) };
    let cluster = TableOptions { cluster: ClusterId::new(7), ..options(4) };
    for other in [node, cluster] {
        assert!(matches!(Table::open_or_create(&path, &other), Err(TableError::OtherNode { found: 2, .. })));
    }
}

/// What opening gives when one word of the header is another.
fn open_with(word: usize, value: u64) -> TableError {
    let directory = directory();
    drop(new_table(&directory, 4));
    let path = table_path(&directory);
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    file.write_all_at(&value.to_ne_bytes(), word as u64 * 8).expect("written");
    Table::open(&path).expect_err("refused")
}

#[test]
fn files_that_are_not_exactly_a_table_are_refused() {
    assert!(matches!(open_with(header::MAGIC, 1), TableError::NotATable(_)));
    for other in [VERSION - 1, VERSION + 1] {
        let refused = open_with(header::VERSION, other);
        assert!(matches!(refused, TableError::OtherVersion { found, .. } if found == other));
    }
    for word in [header::FILE_WORDS, header::CAPACITY, header::SLOTS, header::INDEX_ENTRIES] {
        for value in [0, 5, u64::MAX] {
            assert!(matches!(open_with(word, value), TableError::Damaged { .. }), "word {word} = {value}");
        }
    }
    assert!(matches!(open_with(header::OWNER, 0), TableError::Damaged { .. }));
}

/// I1: a table that outlived the machine's memory would hand out its IVs again.
#[test]
fn a_table_on_a_disk_or_of_another_boot_is_refused() {
    assert!(matches!(open_with(header::BOOT, 7), TableError::OtherBoot(_)));
    // The disk that this program was built on, if it is one.
    let disk = std::env::current_exe().expect("this test").with_file_name(format!("{}", std::process::id()));
    fs::create_dir(&disk).expect("a directory");
    let (memory, path) = (directory(), disk.join("sa-table"));
    drop(new_table(&memory, 4));
    let refused = Table::create(&path, &options(4));
    let left = path.exists() || disk.join("sa-table.new").exists();
    fs::copy(table_path(&memory), &path).expect("copied");
    let copied = Table::open(&path);
    fs::remove_dir_all(&disk).expect("removed");
    if refused.is_ok() {
        println!("SKIPPED: this program is not on a disk");
        return;
    }
    assert!(matches!(refused, Err(TableError::NotInMemory(_))) && !left);
    let refused = copied.expect_err("refused").to_string();
    assert!(refused.contains("set runtime_directory to a tmpfs"), "{refused}");
}

#[test]
fn truncated_open_and_indirect_files_are_refused() {
    let directory = directory();
    let path = table_path(&directory);
    drop(new_table(&directory, 4));
    let whole = fs::read(&path).expect("read");
    for length in [whole.len() - 1, 4096, 64] {
        fs::write(&path, &whole[..length]).expect("written");
        assert!(matches!(Table::open(&path), Err(TableError::Damaged { .. })), "{length}");
    }
    fs::write(&path, &whole[..63]).expect("written");
    assert!(matches!(Table::open(&path), Err(TableError::NotATable(_))));
    fs::write(&path, &whole).expect("written");
    for mode in [0o640, 0o604, 0o620, 0o602] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
        let refused = Table::open(&path).expect_err("refused");
        assert!(matches!(refused, TableError::Permissions { mode: found, .. } if found == mode), "{refused}");
    }
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("set");
    reopen(&path);
    let link = directory.path().join("link");
    symlink(&path, &link).expect("linked");
    assert!(matches!(Table::open(&link), Err(TableError::NotAFile(_))));
}

#[test]
fn sas_that_cannot_be_are_refused_and_change_nothing() {
    let directory = directory();
    let table = new_table(&directory, 2);
    let refused = |change: &dyn Fn(&mut crate::Sa)| {
        let (mut sa, counters) = seeded(INBOUND, 0x300, 1);
        change(&mut sa);
        match table.put(&[seeded(OUTBOUND, 7, 1), (sa, counters)]) {
            Err(PutError::Invalid { source, .. }) => source,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(&|sa| sa.spi = 255), SaError::ReservedSpi(255));
    assert_eq!(refused(&|sa| sa.reqid = 0), SaError::ZeroReqid);
    assert_eq!(refused(&|sa| sa.replay_window = 100), SaError::ReplayWindow(100));
    assert_eq!(refused(&|sa| sa.replay_window = 0), SaError::ReplayWindow(0));
    assert_eq!(refused(&|sa| sa.dscp = crate::DscpPolicy::Set(64)), SaError::Dscp(64));
    assert_eq!(refused(&|sa| sa.source = "::1".parse().expect("v6")), SaError::OuterFamilies);
    let short = Key::new(&[1; 3]).expect("fits");
    assert!(matches!(refused(&|sa| sa.key = short.clone()), SaError::KeyLength { has: 3, .. }));
    assert_eq!(table.installed(), 0);
}

#[test]
fn batches_that_cannot_be_are_refused_and_change_nothing() {
    let directory = directory();
    let table = new_table(&directory, 2);
    let (one, two, three) = (seeded(INBOUND, 0x300, 1), seeded(INBOUND, 0x300, 2), seeded(OUTBOUND, 7, 1));
    assert!(matches!(table.put(&[one.clone(), two]), Err(PutError::Duplicate { key: 0x300, .. })));
    let mut pair = [one.clone(), three.clone()];
    pair[0].0.reqid = 7;
    pair[0].0.key = pair[1].0.key.clone();
    pair[0].0.suite = pair[1].0.suite;
    assert!(matches!(table.put(&pair), Err(PutError::SharedKey(_))));
    let full = [one, three, seeded(INBOUND, 0x301, 1)];
    assert!(matches!(table.put(&full), Err(PutError::Full(2))));
    assert_eq!((table.installed(), table.iter().count()), (0, 0));
    assert!(table.put(&full[..2]).is_ok());
}

/// I2, I3: never back under one key.
#[test]
fn an_older_state_of_the_same_key_is_refused() {
    let directory = directory();
    let table = new_table(&directory, 4);
    for (direction, key) in [(INBOUND, 0x300), (OUTBOUND, 7)] {
        let (sa, mut counters) = seeded(direction, key, 3);
        counters.advance(&sa, 1000);
        table.put(&[(sa.clone(), counters.clone())]).expect("put");
        let mut older = counters.clone();
        older.sequence -= 1;
        older.window.top = older.window.top.saturating_sub(1);
        assert!(matches!(table.put(&[(sa.clone(), older.clone())]), Err(PutError::Older { .. })));
        table.put(&[(sa.clone(), counters)]).expect("the same state again");
        let (mut rekeyed, _) = seeded(direction, key, 4);
        rekeyed.spi = sa.spi;
        table.put(&[(rekeyed, older)]).expect("another key starts where it wants");
    }
}

#[test]
fn an_update_of_another_sa_is_refused() {
    let directory = directory();
    let table = new_table(&directory, 4);
    table.put(&[seeded(OUTBOUND, 7, 1)]).expect("put");
    assert!(matches!(table.update(&seeded(OUTBOUND, 8, 1).0), Err(UpdateError::NotFound { .. })));
    assert!(matches!(table.update(&seeded(OUTBOUND, 7, 2).0), Err(UpdateError::OtherSa { .. })));
    let (mut other_spi, _) = seeded(OUTBOUND, 7, 1);
    other_spi.spi += 1;
    assert!(matches!(table.update(&other_spi), Err(UpdateError::OtherSa { .. })));
}

#[test]
fn a_window_below_the_sequence_is_closed() {
    let directory = directory();
    let table = new_table(&directory, 1);
    let (sa, mut counters) = seeded(INBOUND, 0x300, 1);
    counters.sequence += 50;
    table.put(&[(sa.clone(), counters.clone())]).expect("put");
    let got = table.get(INBOUND, 0x300).expect("got").expect("there").counters;
    assert_eq!(got.sequence, counters.sequence);
    assert!((0..=got.sequence).rev().take(5000).all(|n| got.window.has(n, sa.replay_window)));
}

#[test]
fn advancing_closes_the_window_and_stays_within_the_number_space() {
    let (mut sa, _) = seeded(INBOUND, 0x300, 1);
    (sa.extended_sequence, sa.replay_window) = (false, 128);
    let mut counters = crate::Counters { sequence: 1000, ..Default::default() };
    counters.window = ReplayWindow { top: 1000, words: vec![0, 0, 0] };
    assert!(!counters.window.has(999, 128));
    counters.advance(&sa, 1 << 20);
    assert_eq!((counters.sequence, counters.window.top), (1000 + (1 << 20), 1000 + (1 << 20)));
    assert!((0..=counters.sequence).rev().take(300).all(|n| counters.window.has(n, 128)));
    assert!(!counters.window.has(counters.sequence + 1, 128));
    counters.advance(&sa, u64::MAX);
    assert_eq!(counters.sequence, u64::from(u32::MAX));
}
