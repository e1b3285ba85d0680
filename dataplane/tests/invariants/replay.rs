//! I3: a packet that was accepted is not accepted again.

use baton_dataplane::io::Side;
use baton_sad::{Direction, Snapshot};

use super::common::wire::every_kind;
use super::common::{Gateway, Setup, pair};
use super::step::{self, ADVANCE, Step};

/// Two gateways, and what went from A to B.
struct Run {
    setup: Setup,
    a: Gateway,
    b: Gateway,
    accepted: Vec<Vec<u8>>,
}

impl Run {
    fn new(setup: &Setup) -> Self {
        let [a, b] = pair(setup);
        Self { setup: setup.clone(), a, b, accepted: vec![] }
    }

    fn seal(&mut self, packets: usize) -> Vec<Vec<u8>> {
        self.a.pass(Side::Inner, &vec![self.setup.packet(0, 68).frame(); packets])
    }

    /// New packets, each of them three times in the batch in which it comes first.
    fn accept(&mut self, packets: usize, after: &dyn std::fmt::Debug) {
        let sealed = self.seal(packets);
        let arrived = self.b.pass(Side::Outer, sealed.iter().chain(&sealed).chain(&sealed));
        assert_eq!(arrived.len(), packets, "after {after:?}: {:?} {:?}", self.setup, self.b.drops());
        self.accepted.extend(sealed);
    }

    /// All that was accepted comes again.
    fn replay(&mut self, after: &dyn std::fmt::Debug) {
        let arrived = self.b.pass(Side::Outer, &self.accepted);
        assert_eq!(arrived.len(), 0, "I3 broken after {after:?}: {:?}", self.setup);
        assert_eq!(self.b.events.next(), None, "nor does it move the peer");
    }
}

/// Why a packet left of the window is refused: its extended number is taken for one that lies far ahead, under which
/// it is not authentic (RFC 4303 appendix A2.2).
fn too_late(setup: &Setup) -> &'static str {
    if setup.extended { "bad-icv" } else { "too-old" }
}

#[test]
fn i3_nothing_is_accepted_twice_whatever_happens_to_sa_and_process() {
    for (number, setup) in every_kind().enumerate() {
        let mut run = Run::new(&setup);
        run.accept(3, &"the start");
        for step in Step::in_order(number) {
            run.replay(&step);
            step.happen(&mut run.b, &setup, Direction::Inbound);
            run.replay(&step);
            if step == Step::Advance {
                // What the peer sent meanwhile is refused too, as far as the edge was moved.
                let skipped = run.seal(ADVANCE as usize);
                assert_eq!(run.b.pass(Side::Outer, &skipped).len(), 0, "{setup:?}");
            }
            run.accept(2, &step);
        }
        run.replay(&"all");
        let counters = step::get(&run.b, Direction::Inbound).counters;
        assert_eq!(counters.packets, run.accepted.len() as u64);
        let (replayed, late) = (run.b.dropped("replayed"), run.b.dropped(too_late(&setup)));
        assert_eq!(run.b.drops().len(), 2, "{setup:?} {:?}", run.b.drops());
        assert_eq!(counters.replay_drops, replayed + if setup.extended { 0 } else { late });
        assert_eq!(counters.integrity_failures, if setup.extended { late } else { 0 });
    }
}

#[test]
fn i3_late_packets_are_accepted_once_within_the_window_and_never_left_of_it() {
    for setup in every_kind() {
        let mut run = Run::new(&setup);
        let sealed = run.seal(70);
        // 70 of 70: the window holds 7 to 70.
        assert_eq!(run.b.pass(Side::Outer, [&sealed[69]]).len(), 1);
        assert_eq!(run.b.pass(Side::Outer, &sealed[..6]).len(), 0, "{setup:?}");
        assert_eq!(run.b.drops(), [(too_late(&setup), 6)]);
        assert_eq!(run.b.pass(Side::Outer, &sealed[6..]).len(), 63, "{setup:?} {:?}", run.b.drops());
        assert_eq!(run.b.pass(Side::Outer, &sealed).len(), 0, "I3 broken: {setup:?}");
        assert_eq!([run.b.dropped("replayed"), run.b.dropped(too_late(&setup))], [65, 12], "{setup:?}");
    }
}

/// The SA moves to another gateway, which has never seen a packet of it.
#[test]
fn i3_nothing_is_accepted_again_by_the_next_owner() {
    for setup in every_kind() {
        let mut run = Run::new(&setup);
        run.accept(70, &"the start");
        let Snapshot { sa, counters, .. } = step::freeze(&mut run.b, Direction::Inbound);
        let mut next = Gateway::new(1, &setup);
        next.table.put(&[(sa, counters)]).unwrap();
        std::mem::swap(&mut run.b, &mut next);
        run.replay(&"a move");
        run.accept(3, &"a move");
        run.replay(&"a move and new packets");
        // The old owner has given up, and takes nothing of what comes since.
        assert_eq!(next.pass(Side::Outer, &run.accepted).len(), 0, "{setup:?}");
        assert_eq!(next.dropped("sa-frozen"), 73);
    }
}

/// What is not authentic neither takes a number from an authentic packet nor moves the window.
#[test]
fn i3_forged_packets_move_no_window() {
    for setup in every_kind() {
        let mut run = Run::new(&setup);
        run.accept(1, &"the start");
        let sealed = run.seal(1).remove(0);
        let before = step::get(&run.b, Direction::Inbound).counters;
        let sequence = setup.esp_at() + 4;
        let forged: Vec<_> = [(sequence, 0x40), (sequence + 3, 0x20), (sealed.len() - 1, 1)]
            .map(|(at, bits)| {
                let mut forged = sealed.clone();
                forged[at] ^= bits;
                forged
            })
            .into();
        assert_eq!(run.b.pass(Side::Outer, &forged).len(), 0, "{setup:?}");
        let after = step::get(&run.b, Direction::Inbound).counters;
        assert_eq!((after.edge(), &after.window), (before.edge(), &before.window), "{setup:?}");
        assert_eq!((after.integrity_failures, run.b.dropped("bad-icv")), (3, 3), "{setup:?}");
        assert_eq!(run.b.pass(Side::Outer, [&sealed]).len(), 1, "{setup:?} {:?}", run.b.drops());
    }
}
