//! What was joined must fall into the same segments again.

use proptest::prelude::*;

use super::*;
use crate::io::tun::segment::tests::{Model, segments};

type SuperPacket = (OffloadHeader, Vec<u8>);

/// How many of a connection's segments go together each time, and what they become.
fn join_all(packets: &[Vec<u8>]) -> Vec<(usize, Option<SuperPacket>)> {
    let mut runs = Vec::new();
    let mut rest = packets;
    while let Some((first, behind)) = rest.split_first() {
        let run = Run::start(first).map(|mut run| {
            let _ = behind.iter().take_while(|packet| run.join(first, packet)).count();
            run
        });
        let count = run.map_or(1, |run| run.packets());
        let whole = run.filter(|_| count > 1).map(|mut run| {
            let start = run.payload_start();
            let (offload, headers) = run.headers();
            assert_eq!(usize::from(u16::from_ne_bytes([offload[2], offload[3]])), headers.len());
            let payload = rest[..count].iter().flat_map(|packet| packet[start..].to_vec());
            (OffloadHeader::parse(offload), headers.iter().copied().chain(payload).collect())
        });
        runs.push((count, whole));
        rest = &rest[count..];
    }
    runs
}

/// Divides again what was joined.
fn divide_all(packets: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut divided = Vec::new();
    let mut at = 0;
    for (count, whole) in join_all(packets) {
        match whole {
            Some((header, whole)) => {
                assert!(whole.len() <= LONGEST);
                divided.extend(segments(header, &whole, 4000).expect("a sound super-packet"));
            }
            None => divided.extend_from_slice(&packets[at..at + count]),
        }
        at += count;
    }
    divided
}

fn connection() -> impl Strategy<Value = Model> {
    let fields = (any::<bool>(), 0..=10_usize, any::<u16>(), any::<u32>(), any::<bool>());
    (fields, proptest::collection::vec(any::<u8>(), 1..40_000)).prop_map(|(fields, payload)| Model {
        ipv6: fields.0,
        tcp: true,
        network_options: 0,
        transport_options: fields.1 * 4,
        identification: fields.2,
        sequence: fields.3,
        flags: if fields.4 { ACK | PSH } else { ACK },
        payload,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn an_undisturbed_connection_is_joined_and_divided_without_change(model in connection(), size in 500_usize..3000) {
        let packets = model.expected(size);
        let runs = join_all(&packets);
        prop_assert_eq!(runs.len(), 1, "one super-packet");
        prop_assert_eq!(divide_all(&packets), packets);
    }

    #[test]
    fn whatever_happens_on_the_way_nothing_is_joined_that_is_not_divided_the_same(
        model in connection(),
        size in 500_usize..3000,
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0..80_usize, any::<u8>()), 0..6),
        swaps in proptest::collection::vec(any::<(prop::sample::Index, prop::sample::Index)>(), 0..3),
    ) {
        let mut packets = model.expected(size);
        for (index, place, value) in changes {
            let packet = index.get(&packets).clone();
            let index = index.index(packets.len());
            packets[index] = packet;
            if let Some(octet) = packets[index].get_mut(place) {
                *octet = value;
            }
        }
        for (a, b) in swaps {
            let (a, b) = (a.index(packets.len()), b.index(packets.len()));
            packets.swap(a, b);
        }
        prop_assert_eq!(divide_all(&packets), packets);
    }
}

fn plain(size: usize, count: usize) -> Vec<Vec<u8>> {
    let model = Model {
        ipv6: false,
        tcp: true,
        network_options: 0,
        transport_options: 12,
        identification: 5,
        sequence: u32::MAX - 900,
        flags: ACK,
        payload: (0..size * count).map(|i| i as u8).collect(),
    };
    model.expected(size)
}

fn counts(packets: &[Vec<u8>]) -> Vec<usize> {
    join_all(packets).into_iter().map(|(count, _)| count).collect()
}

#[test]
fn a_run_ends_where_the_receiver_would_notice() {
    assert_eq!(counts(&plain(1000, 10)), [10]);
    // 64 KiB are full.
    assert_eq!(counts(&plain(1448, 60)), [45, 15]);
    let with = |change: fn(&mut Model)| {
        let mut packets = plain(1000, 5);
        let mut model = Model {
            ipv6: false,
            tcp: true,
            network_options: 0,
            transport_options: 12,
            identification: 10,
            sequence: (u32::MAX - 900).wrapping_add(5000),
            flags: ACK,
            payload: vec![1; 1000],
        };
        change(&mut model);
        packets.push(model.whole());
        counts(&packets)
    };
    assert_eq!(with(|_| {}), [6]);
    assert_eq!(with(|model| model.sequence += 1), [5, 1]);
    assert_eq!(with(|model| model.flags |= 0x40), [5, 1], "congestion was echoed");
    assert_eq!(with(|model| model.flags |= 1), [5, 1], "the end");
    assert_eq!(with(|model| model.transport_options = 8), [5, 1]);
    assert_eq!(with(|model| model.payload.push(1)), [5, 1], "longer than the others");
    assert_eq!(with(|model| model.identification = 99), [6], "it must not be fragmented in any case");
    assert_eq!(with(|model| model.payload.clear()), [5, 1], "an acknowledgement alone");
}

#[test]
fn what_is_damaged_stays_alone() {
    for damaged in 0..4 {
        for place in [8, 60] {
            let mut packets = plain(1000, 4);
            packets[damaged][place] ^= 0x10;
            let runs = counts(&packets);
            let mut at = 0;
            let ends = runs.iter().map(|count| {
                at += count;
                at
            });
            let run = ends.take_while(|end| *end <= damaged).count();
            assert_eq!(runs[run], 1, "packet {damaged}, octet {place}: {runs:?}");
        }
    }
}
