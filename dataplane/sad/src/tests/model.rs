//! The table against a plain map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::inspect::assert_sound;
use super::{INBOUND, OUTBOUND, directory, new_table, reopen, seeded, table_path};
use crate::{Counters, Direction, PutError, Sa, Table};

type Model = BTreeMap<(Direction, u32), (Sa, Counters)>;

#[derive(Debug, Clone)]
enum Operation {
    Put(Vec<(Direction, u32, u64)>),
    Remove(Vec<(Direction, u32)>),
    Update(Direction, u32, u16),
    Reopen,
}

fn direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(INBOUND), Just(OUTBOUND)]
}

/// Few keys, so that they meet; they share low bits, so that they collide in the index.
fn key() -> impl Strategy<Value = u32> {
    (1_u32..20).prop_map(|n| 0x100 * n)
}

fn operation() -> impl Strategy<Value = Operation> {
    let sa = (direction(), key(), any::<u64>());
    prop_oneof![
        4 => prop::collection::vec(sa, 1..5).prop_map(Operation::Put),
        3 => prop::collection::vec((direction(), key()), 1..5).prop_map(Operation::Remove),
        2 => (direction(), key(), any::<u16>()).prop_map(|(d, k, mtu)| Operation::Update(d, k, mtu)),
        1 => Just(Operation::Reopen),
    ]
}

const CAPACITY: u32 = 24;

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_a_map(operations in prop::collection::vec(operation(), 1..60)) {
        let directory = directory();
        let mut table = new_table(&directory, CAPACITY);
        let mut model = Model::new();
        for operation in operations {
            match operation {
                Operation::Put(batch) => put(&table, &mut model, &batch),
                Operation::Remove(keys) => remove(&table, &mut model, &keys),
                Operation::Update(direction, key, mtu) => update(&table, &mut model, direction, key, mtu),
                Operation::Reopen => table = reopen(&table_path(&directory)),
            }
            compare(&table, &model);
        }
        assert_sound(&table);
    }
}

fn put(table: &Table, model: &mut Model, batch: &[(Direction, u32, u64)]) {
    let sas: Vec<_> = batch.iter().map(|(direction, key, seed)| seeded(*direction, *key, *seed)).collect();
    let mut keys: Vec<_> = sas.iter().map(|(sa, _)| (sa.direction, sa.index_key())).collect();
    keys.sort_unstable();
    let doubled = keys.windows(2).any(|pair| pair[0] == pair[1]);
    let added = keys.iter().filter(|key| !model.contains_key(key)).count();
    match table.put(&sas) {
        Err(PutError::Duplicate { .. }) => assert!(doubled),
        Err(PutError::Full(_)) => assert!(model.len() + added > CAPACITY as usize),
        Ok(receipt) => {
            assert!(!doubled && receipt.handles.len() == sas.len());
            assert_eq!(receipt.replaced, sas.len() - added);
            model.extend(
                sas.into_iter().map(|(sa, counters)| ((sa.direction, sa.index_key()), (sa, counters))),
            );
        }
        Err(other) => panic!("{other}"),
    }
}

fn remove(table: &Table, model: &mut Model, keys: &[(Direction, u32)]) {
    let there = keys.iter().filter(|key| model.remove(key).is_some()).count();
    assert_eq!(table.remove(keys).expect("removed"), there);
}

fn update(table: &Table, model: &mut Model, direction: Direction, key: u32, mtu: u16) {
    match model.get_mut(&(direction, key)) {
        Some((sa, _)) => {
            sa.path_mtu = mtu;
            table.update(sa).expect("updated");
        }
        None => assert!(table.update(&seeded(direction, key, 1).0).is_err()),
    }
}

fn compare(table: &Table, model: &Model) {
    assert_eq!(table.installed() as usize, model.len());
    for n in 1..20 {
        for direction in [INBOUND, OUTBOUND] {
            let key = 0x100 * n;
            let got = table.get(direction, key).expect("readable").map(|s| (s.sa, s.counters));
            assert_eq!(got.as_ref(), model.get(&(direction, key)));
            assert_eq!(table.lookup(direction, key).is_some(), got.is_some());
        }
    }
    let all: Model = table.iter().map(|s| ((s.sa.direction, s.sa.index_key()), (s.sa, s.counters))).collect();
    assert_eq!(&all, model);
}
