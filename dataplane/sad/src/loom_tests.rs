//! The model checker on the code that shares memory without locks. Run with
//! `RUSTFLAGS="--cfg loom" cargo test -p baton-sad --lib --release`.

use loom::sync::Arc;
use loom::thread;

use crate::index::{self, Index};
use crate::reservation::{self, GrantWords};
use crate::sync::{AtomicU64, Ordering, store};
use crate::{publication, quiescence, seqlock, sequence};

/// Explores all interleavings with so many preemptions that the known bugs of such code show.
fn model(test: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(test);
}

fn words(values: &[u64]) -> Arc<Vec<AtomicU64>> {
    Arc::new(values.iter().map(|value| AtomicU64::new(*value)).collect())
}

/// I5: a reader that the sequence lock lets through has read one write, not parts of two.
#[test]
fn no_read_is_torn() {
    model(|| {
        let slot = words(&[0, 10, 10, 10]);
        let writer = {
            let slot = Arc::clone(&slot);
            thread::spawn(move || {
                for value in [11, 12] {
                    let odd = seqlock::begin_write(&slot[0]);
                    seqlock::copy_in(&slot[1..], &[value; 3]);
                    seqlock::end_write(&slot[0], odd);
                }
            })
        };
        if let Some(version) = seqlock::begin_read(&slot[0]) {
            let mut copy = [0; 3];
            seqlock::copy_out(&slot[1..], &mut copy);
            if seqlock::end_read(&slot[0], version) {
                assert!(copy == [10 + version / 2; 3], "torn: {copy:?} at version {version}");
            }
        }
        writer.join().expect("joined");
    });
}

/// Keys with the same home in an index of four entries.
const COLLIDING: [u32; 3] = [1, 11, 14];

/// They have, or the tests below would test nothing.
#[test]
fn the_keys_collide() {
    assert!(COLLIDING.iter().all(|key| index::home(*key, 4) == index::home(COLLIDING[0], 4)));
}

/// I6: a deletion that moves an SA's entry never hides it from a reader.
#[test]
fn a_shifted_entry_is_always_found() {
    model(|| {
        let [gone, stays, _] = COLLIDING;
        let entries = words(&[0; 4]);
        let version = Arc::new(AtomicU64::new(0));
        let index = Index::new(&entries, &version);
        index.set(gone, 1);
        index.set(stays, 2);
        let writer = {
            let (entries, version) = (Arc::clone(&entries), Arc::clone(&version));
            thread::spawn(move || {
                assert!(Index::new(&entries, &version).remove(gone));
            })
        };
        // A first, unverified probe would hide from loom that the verified one is wrong.
        assert_eq!(index.find_verified(stays), Some(2), "lost while another was removed");
        writer.join().expect("joined");
        assert_eq!(index.find(gone), None);
        assert_eq!(index.find(stays), Some(2));
    });
}

/// The same for an entry that moves twice, and for the whole look-up.
#[test]
fn an_entry_that_moves_twice_is_always_found() {
    model(|| {
        let [first, second, stays] = COLLIDING;
        let entries = words(&[0; 4]);
        let version = Arc::new(AtomicU64::new(0));
        let index = Index::new(&entries, &version);
        index.set(first, 1);
        index.set(second, 2);
        index.set(stays, 3);
        let writer = {
            let (entries, version) = (Arc::clone(&entries), Arc::clone(&version));
            thread::spawn(move || {
                let index = Index::new(&entries, &version);
                assert!(index.remove(first));
                assert!(index.remove(second));
            })
        };
        assert_eq!(index.find(stays), Some(3), "lost while others were removed");
        writer.join().expect("joined");
    });
}

/// I5: a PUT of two SAs that replace two others is seen whole from the commit on, and never a gap.
#[test]
fn a_put_is_published_by_one_word() {
    model(|| {
        // Slots 0 and 1 are replaced by 2 and 3. Per slot: transaction, predecessor + 1.
        let slots = words(&[0, 0, 0, 0, 0, 0, 0, 0]);
        let indexed = words(&[0, 1]);
        let committed = Arc::new(AtomicU64::new(0));
        let writer = {
            let (slots, indexed, committed) =
                (Arc::clone(&slots), Arc::clone(&indexed), Arc::clone(&committed));
            thread::spawn(move || {
                for old in 0..2 {
                    store(&slots[2 * (old + 2)], 7, Ordering::Relaxed);
                    store(&slots[2 * (old + 2) + 1], old as u64 + 1, Ordering::Relaxed);
                }
                for old in 0..2 {
                    store(&indexed[old], old as u64 + 2, Ordering::Release);
                }
                store(&committed, 7, Ordering::Release);
                for old in 0..2 {
                    store(&slots[2 * (old + 2)], publication::SETTLED, Ordering::Release);
                }
            })
        };
        let read = |key: usize| {
            let number = indexed[key].load(Ordering::Acquire) as u32;
            let at = 2 * number as usize;
            publication::resolve(number, &slots[at], &slots[at + 1], &committed)
        };
        let (first, second) = (read(0), read(1));
        assert!(matches!(first, Some(0 | 2)) && matches!(second, Some(1 | 3)), "{first:?} {second:?}");
        assert!(first != Some(2) || second == Some(3), "half of a PUT: {first:?} {second:?}");
        writer.join().expect("joined");
    });
}

const LIVE: u64 = 2;
const FROZEN: u64 = 3;

/// The freeze protocol: when the freezer is told that the worker has stopped, the worker never counts
/// again, be it that it was online or came online just then.
#[test]
fn a_frozen_sa_does_not_move() {
    model(|| {
        let shared = words(&[LIVE, 0, quiescence::OFFLINE, 1]);
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                quiescence::go_online(&shared[2], &shared[3]);
                for _ in 0..2 {
                    if shared[0].load(Ordering::Acquire) == LIVE {
                        let sequence = shared[1].load(Ordering::Relaxed);
                        store(&shared[1], sequence + 1, Ordering::Release);
                    }
                    quiescence::pass(&shared[2], &shared[3]);
                }
                quiescence::go_offline(&shared[2]);
            })
        };
        store(&shared[0], FROZEN, Ordering::Release);
        let period = quiescence::start_grace_period(&shared[3]);
        let stopped = quiescence::has_passed(&shared[2], period);
        let exported = shared[1].load(Ordering::Acquire);
        worker.join().expect("joined");
        assert!(!stopped || exported == shared[1].load(Ordering::Acquire), "it counted on after the freeze");
    });
}

/// Reclaim: a slot whose grace period is over is not used by the worker any more.
#[test]
fn a_freed_slot_is_not_in_use() {
    model(|| {
        // Index entry (1 = the slot), the worker's word, the counter, the slot's content.
        let shared = words(&[1, quiescence::OFFLINE, 1, 5]);
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                quiescence::go_online(&shared[1], &shared[2]);
                for _ in 0..2 {
                    if shared[0].load(Ordering::Acquire) == 1 {
                        assert_eq!(shared[3].load(Ordering::Relaxed), 5, "used after it was freed");
                    }
                    quiescence::pass(&shared[1], &shared[2]);
                }
                quiescence::go_offline(&shared[1]);
            })
        };
        store(&shared[0], 0, Ordering::Release);
        let period = quiescence::start_grace_period(&shared[2]);
        if quiescence::has_passed(&shared[1], period) {
            store(&shared[3], 99, Ordering::Relaxed);
        }
        worker.join().expect("joined");
    });
}

/// I1: two workers that draw from one counter across the end of an epoch get different IVs.
#[test]
fn no_iv_is_drawn_twice() {
    use crate::iv::{IvError, IvSource};
    model(|| {
        let shared = Arc::new([AtomicU64::new(3 << 40 | ((1 << 32) - 2)), AtomicU64::new(0)]);
        let draw = |shared: &[AtomicU64; 2]| IvSource { word: &shared[0], spare: &shared[1] }.take(2);
        let keeper = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || IvSource { word: &shared[0], spare: &shared[1] }.install(4))
        };
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || draw(&shared))
        };
        let ours = [draw(&shared), draw(&shared)];
        let theirs = worker.join().expect("joined");
        keeper.join().expect("joined");
        let all = [ours[0], ours[1], theirs];
        let mut drawn: Vec<(u32, u32)> = all.iter().copied().filter_map(Result::ok).collect();
        assert!(drawn.iter().all(|iv| matches!(iv, (3, 0xffff_fffe) | (4, 0 | 2))), "{drawn:?}");
        // Whoever got none found no spare yet; nobody who could have one went without.
        assert!(all.iter().all(|result| matches!(result, Ok(_) | Err(IvError::NoSpare(3)))));
        assert!(!drawn.is_empty());
        let count = drawn.len();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), count, "an IV was drawn twice");
    });
}

/// I2: a worker that takes sequence numbers while some are skipped takes none twice, and none that was skipped once it
/// is known to be.
#[test]
fn no_skipped_sequence_number_is_taken() {
    model(|| {
        let shared = words(&[10, 0]);
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || [1, 2].map(|count| sequence::take(&shared[0], &shared[1], count, 1000)))
        };
        let raised = sequence::skip(&shared[0], &shared[1], 100, 1000).expect("numbers are left");
        assert!((110..=113).contains(&raised));
        assert!(sequence::edge(&shared[0], &shared[1]) >= raised);
        let [first, second] = worker.join().expect("joined").map(|number| number.expect("some are left"));
        assert!(second > first);
        let taken_before = raised - 100;
        assert!([first, second].iter().all(|number| *number <= 13 || *number > raised), "{first} {second}");
        assert!(taken_before >= 10);
        let next = sequence::take(&shared[0], &shared[1], 1, 1000).expect("one is left");
        assert!(next > raised && next > second);
    });
}

/// Sequence, floor, enforced, reserved, mark, wanted, attention.
fn reserved(words: &[AtomicU64]) -> GrantWords<'_> {
    let [_, _, enforced, reserved, mark, wanted, attention, ..] = words else {
        unreachable!("there are so many")
    };
    GrantWords { enforced, reserved, mark, wanted, attention: (attention, 1) }
}

/// A worker takes a number if it is reserved, and looks once if it is not known to be.
fn take_reserved(words: &[AtomicU64], limit: &mut u64) -> Option<u64> {
    sequence::take(&words[0], &words[1], 1, *limit).or_else(|| {
        *limit = reservation::grant(reserved(words), sequence::edge(&words[0], &words[1]) + 1);
        sequence::take(&words[0], &words[1], 1, *limit)
    })
}

/// I2: nothing above the reservation is taken while it is raised, and who waits for more has asked for it.
#[test]
fn nothing_is_taken_that_is_not_reserved() {
    model(|| {
        let shared = words(&[10, 0, 1, 11, 11, 0, 0]);
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let mut limit = 0;
                [0; 3].map(|_| take_reserved(&shared, &mut limit))
            })
        };
        sequence::raise(&shared[4], 12);
        sequence::raise(&shared[3], 12);
        let asked_before = reservation::drain(&shared[6]) != 0;
        let edge_then = sequence::edge(&shared[0], &shared[1]);
        let tries = worker.join().expect("joined");
        let taken: Vec<u64> = tries.into_iter().flatten().collect();
        assert!(taken.is_sorted_by(|a, b| a < b) && taken.iter().all(|number| *number <= 12), "{taken:?}");
        // Who was refused last has asked, and whoever heard it saw how far it was.
        let asked = reservation::drain(&shared[6]) != 0;
        let was_heard = asked_before && edge_then == sequence::edge(&shared[0], &shared[1]);
        assert!(tries[2].is_some() || asked || was_heard, "it waits unheard");
    });
}

/// I2: a floor that is raised under the hands of a worker that should have stopped is never sent below again once it is
/// seen, and what the worker had taken stays counted.
#[test]
fn a_floor_holds_against_a_worker_that_runs_on() {
    model(|| {
        let shared = words(&[10, 0]);
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || [(); 2].map(|()| sequence::take(&shared[0], &shared[1], 1, 1000)))
        };
        sequence::raise(&shared[1], 100);
        sequence::raise(&shared[1], 50);
        assert!(sequence::edge(&shared[0], &shared[1]) >= 100);
        let [first, second] = worker.join().expect("joined").map(|number| number.expect("some are left"));
        assert!(second > first && [first, second].iter().all(|n| *n <= 12 || *n > 100), "{first} {second}");
        assert!(sequence::take(&shared[0], &shared[1], 1, 1000).expect("left") > 100.max(second));
    });
}

/// I2: when the enforcer is told that the worker has passed a quiescent point, what is above the reservation is final:
/// the worker takes nothing more, be it that it remembered that nothing is enforced.
#[test]
fn enforcement_is_heeded_after_a_quiescent_point() {
    model(|| {
        // As above, then: enforcement count, the worker's word, the counter of grace periods.
        let shared = words(&[10, 0, 0, 10, 10, 0, 0, 0, quiescence::OFFLINE, 1]);
        let worker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                quiescence::go_online(&shared[8], &shared[9]);
                let (mut limit, mut known) = (0, u64::MAX);
                for _ in 0..2 {
                    let count = shared[7].load(Ordering::Acquire);
                    if count != known {
                        (limit, known) = (0, count);
                    }
                    take_reserved(&shared, &mut limit);
                    quiescence::pass(&shared[8], &shared[9]);
                }
                quiescence::go_offline(&shared[8]);
            })
        };
        store(&shared[2], 1, Ordering::Release);
        shared[7].fetch_add(1, Ordering::AcqRel);
        let period = quiescence::start_grace_period(&shared[9]);
        let heeded = quiescence::has_passed(&shared[8], period);
        let edge = sequence::edge(&shared[0], &shared[1]);
        worker.join().expect("joined");
        assert!(!heeded || edge == sequence::edge(&shared[0], &shared[1]), "it went on unreserved");
    });
}
