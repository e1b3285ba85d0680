//! SAs get other outer addresses and ports while packets flow: what a peer that moves costs. It is to cost nothing.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use baton_dataplane::io::Side;
use baton_sad::{Direction, Mode, Table, UdpEncapsulation};
use common::{REQID, SPI, Setup, pair};

/// What changes beside the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moves {
    /// What we know of the peer's address.
    Address,
    /// Whether either end takes a NAT to be there.
    Encapsulation,
}

/// Gives an SA other ends and back for as long as `stop` is not set; says how often.
fn move_about(
    table: &Table,
    moves: Moves,
    (direction, key): (Direction, u32),
    stop: &AtomicBool,
    updates: &AtomicU64,
) {
    let first = table.get(direction, key).expect("readable").expect("installed").sa;
    let elsewhere = |mut sa: baton_sad::Sa, round: u64| {
        let udp = UdpEncapsulation {
            source_port: 4500 + (round % 7) as u16,
            destination_port: 4500,
            follows_peer: true,
            keepalive_seconds: 0,
        };
        let is_encapsulated =
            moves == Moves::Address && direction == Direction::Outbound || !round.is_multiple_of(3);
        sa.encapsulation = is_encapsulated.then_some(udp);
        if moves == Moves::Address && direction == Direction::Inbound && is_encapsulated {
            sa.source = [198, 51, 100, (round % 5) as u8 + 1].into();
        }
        sa
    };
    for round in 1.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        table.update(&elsewhere(first.clone(), round)).expect("updated");
        updates.fetch_add(1, Ordering::AcqRel);
        // Some thousand a second: with a turn of its own for each, it is not interrupted within one.
        thread::sleep(Duration::from_micros(200));
    }
    table.update(&first).expect("updated");
}

/// Ends the updates, however the test ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

fn no_packet_is_lost(mode: Mode, moves: Moves, batches: usize) {
    const BATCH: usize = 64;
    let setup = Setup { mode, encapsulated: true, batch: BATCH, ..Setup::default() };
    let [mut a, mut b] = pair(&setup);
    let (stop, updates) = (AtomicBool::new(false), [AtomicU64::new(0), AtomicU64::new(0)]);
    let tables = [Arc::clone(&a.table), Arc::clone(&b.table)];
    let plain: Vec<_> = (0..BATCH).map(|_| setup.packet(0, 60).frame()).collect();
    let passed = thread::scope(|scope| {
        let _stop = Stop(&stop);
        scope.spawn(|| move_about(&tables[0], moves, (Direction::Outbound, REQID), &stop, &updates[0]));
        scope.spawn(|| move_about(&tables[1], moves, (Direction::Inbound, SPI[1]), &stop, &updates[1]));
        let mut passed = 0;
        while passed / BATCH < batches || updates.iter().any(|count| count.load(Ordering::Acquire) < 200) {
            let sealed = a.pass(Side::Inner, &plain);
            assert_eq!((sealed.len(), a.drops()), (BATCH, vec![]), "sealed in {mode:?}, {moves:?}");
            let opened = b.pass(Side::Outer, &sealed);
            assert_eq!((opened.len(), b.drops()), (BATCH, vec![]), "opened in {mode:?}, {moves:?}");
            assert_eq!(opened[0], opened[BATCH - 1], "all alike");
            passed += BATCH;
        }
        passed
    });
    let counted = |table: &Table, direction, key| {
        let counters = table.get(direction, key).expect("readable").expect("installed").counters;
        (counters.packets, counters.integrity_failures, counters.replay_drops)
    };
    let all = (passed as u64, 0, 0);
    assert_eq!(counted(&tables[0], Direction::Outbound, REQID), all);
    assert_eq!(counted(&tables[1], Direction::Inbound, SPI[1]), all);
}

#[test]
fn an_sa_that_is_updated_loses_no_packet_and_no_count() {
    no_packet_is_lost(Mode::Tunnel, Moves::Address, 150);
    no_packet_is_lost(Mode::Tunnel, Moves::Encapsulation, 150);
    // Where the peer's address is the inner one too, only how it is reached can change.
    no_packet_is_lost(Mode::Transport, Moves::Encapsulation, 150);
}
