//! I2: the sequence numbers of an SA rise, and none comes twice.

use baton_dataplane::io::Side;
use baton_sad::{Counters, Direction, ReplayWindow};

use super::common::wire::every_kind;
use super::common::{self, Gateway, Setup, pair};
use super::step::{self, ADVANCE, Step};

/// A sends packets, all of which B accepts: what B takes for the whole number is what A authenticated. Gives the
/// whole numbers.
fn send([a, b]: &mut [Gateway; 2], setup: &Setup, packets: usize) -> Vec<u64> {
    let sealed = a.pass(Side::Inner, &vec![setup.packet(0, 68).frame(); packets]);
    let last = step::get(a, Direction::Outbound).counters.edge();
    let numbers: Vec<u64> = (0..packets as u64).rev().map(|back| last - back).collect();
    let seen: Vec<u32> = sealed.iter().map(|frame| setup.on_wire(frame).sequence).collect();
    assert_eq!(seen, numbers.iter().map(|number| *number as u32).collect::<Vec<_>>(), "{setup:?}");
    assert_eq!(b.pass(Side::Outer, &sealed).len(), packets, "{setup:?} {:?}", b.drops());
    assert_eq!(step::get(b, Direction::Inbound).counters.edge(), last);
    numbers
}

#[test]
fn i2_sequence_numbers_rise_whatever_happens_to_sa_and_process() {
    for (number, setup) in every_kind().enumerate() {
        let mut gateways = pair(&setup);
        let mut last = start(&gateways, &setup);
        for step in [None].into_iter().chain(Step::in_order(number).map(Some)) {
            if let Some(step) = step {
                step.happen(&mut gateways[0], &setup, Direction::Outbound);
            }
            let skipped = if step == Some(Step::Advance) { ADVANCE } else { 0 };
            let sent = send(&mut gateways, &setup, 3);
            assert_eq!(sent, [1, 2, 3].map(|n| last + skipped + n), "I2 broken by {step:?}: {setup:?}");
            last += skipped + 3;
        }
    }
}

/// Extended numbers begin where they soon cross the border of the lower half.
fn start([a, b]: &[Gateway; 2], setup: &Setup) -> u64 {
    if !setup.extended {
        return 0;
    }
    let edge = (1 << 32) - 8;
    let outbound = Counters { sequence: edge, ..Counters::default() };
    let inbound = Counters { window: ReplayWindow::closed(edge, setup.window), ..outbound.clone() };
    a.table.put(&[(common::sa(setup, 0, Direction::Outbound, 0), outbound)]).unwrap();
    b.table.put(&[(common::sa(setup, 1, Direction::Inbound, 0), inbound)]).unwrap();
    edge
}

/// At the last number an SA stops, whatever happens then (RFC 4303 section 3.3.3).
#[test]
fn i2_used_up_numbers_stay_used_up() {
    for (number, setup) in every_kind().enumerate() {
        let mut a = Gateway::new(0, &setup);
        let last = if setup.extended { u64::MAX } else { u64::from(u32::MAX) };
        let counters = Counters { sequence: last - 1, ..Counters::default() };
        a.table.put(&[(common::sa(&setup, 0, Direction::Outbound, 0), counters)]).unwrap();
        let frame = setup.packet(0, 68).frame();
        assert_eq!(a.pass(Side::Inner, &vec![frame.clone(); 3]).len(), 1);
        for step in Step::in_order(number) {
            step.happen(&mut a, &setup, Direction::Outbound);
            assert_eq!(a.pass(Side::Inner, [&frame]).len(), 0, "I2 broken by {step:?}: {setup:?}");
        }
        assert_eq!(a.drops(), [("sequence-wrap", 9)]);
    }
}
