//! The replay window against its definition: a set of accepted numbers (RFC 4303 section 3.4.3, appendix A2).

mod common;

use std::collections::BTreeSet;

use baton_dataplane::replay::{Refused, Window};
use baton_sad::{Counters, Direction, ReplayWindow, Table};
use common::{Gateway, SPI, Setup};
use proptest::prelude::*;

/// The definition: what was accepted, and the highest of it.
struct Model {
    seen: BTreeSet<u64>,
    top: u64,
    size: u64,
}

impl Model {
    fn accept(&mut self, sequence: u64) -> Result<u64, Refused> {
        if sequence == 0 {
            return Err(Refused::Replayed);
        }
        if sequence <= self.top && self.top - sequence >= self.size {
            return Err(Refused::TooOld);
        }
        if !self.seen.insert(sequence) {
            return Err(Refused::Replayed);
        }
        self.top = self.top.max(sequence);
        Ok(sequence)
    }
}

/// Installs an SA with this window, all numbers up to `top` received, and gives the window.
fn install(table: &Table, blocks: u16, top: u64) -> Window<'_> {
    let size = blocks * 64;
    let sa = common::sa(&Setup { window: size, ..Setup::default() }, 1, Direction::Inbound, 0);
    let window = if top == 0 { ReplayWindow::default() } else { ReplayWindow::closed(top, size) };
    // Replacing it would be refused: its edge would go back (I3).
    table.remove(&[(Direction::Inbound, SPI[1])]).unwrap();
    table.put(&[(sa, Counters { sequence: top, window, ..Counters::default() })]).unwrap();
    let handle = table.lookup(Direction::Inbound, SPI[1]).unwrap();
    Window::new(table.slot(handle).unwrap(), size)
}

/// So that slots of removed SAs are free again at once.
fn without_workers() -> Gateway {
    Gateway::new(1, &Setup { workers: 0, ..Setup::default() })
}

fn accept(window: &Window<'_>, low: u32, extended: bool) -> Result<u64, Refused> {
    let sequence = window.check(low, extended)?;
    window.commit(sequence).unwrap();
    Ok(sequence)
}

fn steps() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![4 => 0..4_i64, 2 => -70..70_i64, 1 => -9000..9000_i64];
    proptest::collection::vec(step, 1..400)
}

#[test]
fn equals_the_set_model() {
    let gateway = without_workers();
    let strategy = (1_u16..=64, 1_u64..5000, steps());
    proptest!(|((blocks, start, steps) in strategy)| {
        let window = install(&gateway.table, blocks, 0);
        let mut model = Model { seen: BTreeSet::new(), top: 0, size: u64::from(blocks) * 64 };
        let mut at = start;
        for step in steps {
            at = at.saturating_add_signed(step);
            prop_assert_eq!(accept(&window, at as u32, false), model.accept(at));
        }
    });
}

/// The sender's true number is inferred from its lower half across every wrap, as long as it lies within the
/// window behind the highest, or less than 2^32 minus the window ahead.
#[test]
fn equals_the_set_model_across_wraps() {
    let gateway = without_workers();
    let strategy = (1_u16..=64, 1_u64..4, 0_u64..6000, steps());
    proptest!(|((blocks, near, off, steps) in strategy)| {
        let mut at = (near << 32) - 3000 + off;
        let window = install(&gateway.table, blocks, at);
        let mut model = Model { seen: BTreeSet::new(), top: at, size: u64::from(blocks) * 64 };
        model.seen.extend(at - model.size..=at);
        for step in steps {
            let next = at.saturating_add_signed(step);
            // Further behind than the window a number cannot be told from one of the next subspace.
            if model.top >= next && model.top - next >= model.size {
                continue;
            }
            at = next;
            prop_assert_eq!(accept(&window, at as u32, true), model.accept(at));
        }
    });
}

#[test]
fn a_window_restored_above_its_packets_refuses_them() {
    let gateway = without_workers();
    let window = install(&gateway.table, 1, 1 << 20);
    assert_eq!(accept(&window, 5, false), Err(Refused::TooOld));
    assert_eq!(accept(&window, 1 << 20, false), Err(Refused::Replayed));
    assert_eq!(accept(&window, (1 << 20) + 1, false), Ok((1 << 20) + 1));
}
