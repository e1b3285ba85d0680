//! Puzzles of gateways that are under attack (RFC 8019), solved by a thread of its own: the protocol never waits for it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use baton_ike_proto::Command;
use baton_ike_proto::crypto::Puzzle;

use crate::reports::{Report, Reports};

/// Puzzles that may wait; for more than these there would be no time.
const MAX_WAITING: usize = 256;

/// Where puzzles go.
#[derive(Clone, Debug)]
pub(super) struct Puzzles(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    work: Mutex<Work>,
    there_is_work: Condvar,
}

#[derive(Debug, Default)]
struct Work {
    waiting: VecDeque<Job>,
    /// The one that is being solved: for whom, and whether it is wanted still.
    present: Option<(u64, Arc<AtomicBool>)>,
    is_over: bool,
}

/// A puzzle to be solved.
#[derive(Debug)]
struct Job {
    spi: u64,
    puzzle: Puzzle,
    zeros: u32,
}

impl Puzzles {
    pub(super) fn start(reports: Reports) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("puzzles".to_owned()).spawn(move || work(&theirs, &reports))?;
        Ok(Self(shared))
    }

    /// The solution is reported when it is there. Where too many wait, the protocol's own patience ends the wait.
    pub(super) fn solve(&self, spi: u64, puzzle: Puzzle, zeros: u32) {
        let mut work = self.0.work();
        if work.waiting.len() < MAX_WAITING {
            work.waiting.push_back(Job { spi, puzzle, zeros });
            self.0.there_is_work.notify_one();
        }
    }

    /// Nobody wants the solution any more.
    pub(super) fn stop(&self, spi: u64) {
        let mut work = self.0.work();
        work.waiting.retain(|job| job.spi != spi);
        if let Some((_, is_wanted)) = work.present.as_ref().filter(|(present, _)| *present == spi) {
            is_wanted.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for Puzzles {
    /// The thread ends with the last one who could ask it; the present puzzle is dropped.
    fn drop(&mut self) {
        if Arc::strong_count(&self.0) <= 2 {
            let mut work = self.0.work();
            work.is_over = true;
            work.waiting.clear();
            if let Some((_, is_wanted)) = &work.present {
                is_wanted.store(false, Ordering::Relaxed);
            }
            self.0.there_is_work.notify_one();
        }
    }
}

impl Shared {
    fn work(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next puzzle, and whether it is wanted; `None` at the end.
    fn next(&self) -> Option<(Job, Arc<AtomicBool>)> {
        let mut work = self.work();
        loop {
            work.present = None;
            if work.is_over {
                return None;
            }
            if let Some(job) = work.waiting.pop_front() {
                let is_wanted = Arc::new(AtomicBool::new(true));
                work.present = Some((job.spi, Arc::clone(&is_wanted)));
                return Some((job, is_wanted));
            }
            work = self.there_is_work.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn work(shared: &Shared, reports: &Reports) {
    while let Some((Job { spi, puzzle, zeros }, is_wanted)) = shared.next() {
        let solution = puzzle.solve(zeros, &|| is_wanted.load(Ordering::Relaxed));
        let is_heard = solution.is_none() || reports.send(Report::Heard(Command::Solved { spi, solution }));
        if !is_heard {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use baton_ike_proto::crypto::Prf;

    use super::*;
    use crate::wake::Wake;

    fn puzzle(octet: u8) -> Puzzle {
        Puzzle { prf: Prf::HmacSha2_256, octets: vec![octet; 32] }
    }

    #[test]
    fn what_is_solved_is_told_and_what_nobody_wants_is_dropped() {
        let (reports, received) = Reports::channel(Wake::new().expect("an event"));
        let puzzles = Puzzles::start(reports).expect("a thread");
        // Nobody lives to see this one solved.
        puzzles.solve(1, puzzle(1), 200);
        puzzles.solve(2, puzzle(2), 200);
        puzzles.solve(3, puzzle(3), 8);
        puzzles.stop(2);
        puzzles.stop(1);
        let report = received.recv_timeout(Duration::from_secs(30)).expect("a solution");
        let Report::Heard(Command::Solved { spi: 3, solution: Some(solution) }) = report else {
            panic!("{report:?}")
        };
        assert!(puzzle(3).judge(&solution).is_some_and(|zeros| zeros >= 8));
        puzzles.solve(4, puzzle(4), 200);
        drop(puzzles);
        let end = received.recv_timeout(Duration::from_secs(30));
        assert!(end.is_err(), "the thread goes with who asked it");
    }

    #[test]
    fn no_flood_of_puzzles_takes_memory() {
        let (reports, _received) = Reports::channel(Wake::new().expect("an event"));
        let puzzles = Puzzles::start(reports).expect("a thread");
        for spi in 0..10_000 {
            puzzles.solve(spi, puzzle(0), 200);
        }
        assert!(puzzles.0.work().waiting.len() <= MAX_WAITING);
    }
}
