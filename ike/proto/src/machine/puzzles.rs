//! Client puzzles (RFC 8019) in IKE_SA_INIT: the responder's side, which keeps nothing for them but the solutions that it
//! has taken. `init_sent.rs` is the side that solves.
//!
//! A cookie shows that an initiator is where it says; against many that are, half-open IKE SAs are made expensive. From a
//! threshold on requests have to bring a solved puzzle, the harder the fewer places are left; some of those that bring none
//! are served all the same, by lot (RFC 8019 sections 7.1.4 and 7.1.5). In IKE_AUTH no puzzles are asked for (section 7.2):
//! what they would protect, the key agreement, is done once for a half-open IKE SA, whatever comes for it, and costs less
//! than what that one has cost its initiator here.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use super::core::Core;
use super::message::Message;
use crate::configuration::Limits;
use crate::crypto::{Prf, Puzzle};
use crate::host::Host;
use crate::wire::{NotifyType, Proposal, TransformType};

/// Steps by which puzzles become harder from the threshold to the limit.
const STEPS: usize = 4;
/// Zero bits that are worth something where the initiator has the choice.
const WORTH: u8 = 16;
/// Puzzles in a row; who has solved so many is served.
const MAX_ROUNDS: u8 = 3;
/// Solutions that are remembered: as many as cost more than anybody spends within a cookie's time.
const MAX_USED: usize = 65_536;
/// Octets by which one is remembered: the end of its cookie, which is a MAC.
const MARK: usize = 16;
/// As long as a cookie can be good.
const COOKIE_TIME: Duration = Duration::from_mins(2);

/// What an initiator was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given {
    /// A cookie.
    CookieAlone,
    /// And a puzzle over it.
    Puzzle(Asked),
}

/// What a cookie says of the puzzle that was given with it; integrity protected (RFC 8019 section 7.1.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The PRF.
    pub prf: Prf,
    /// Zero bits; 0 left it to the initiator.
    pub difficulty: u8,
    /// How many in a row this is, from 1.
    pub round: u8,
    /// When (seconds of the monotonic clock): the same request does not get the same puzzle again.
    pub at: u32,
}

/// What becomes of a request that limits and cookies have let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demand {
    Serve,
    /// It gets this puzzle.
    Solve(Asked),
    /// It comes again by itself.
    Drop,
    /// It has no PRF that we know either.
    NoProposal,
}

/// Solutions that were taken: nobody brings one twice (RFC 8019 section 10).
#[derive(Debug, Default)]
pub(super) struct Used {
    marks: HashSet<[u8; MARK]>,
    order: VecDeque<([u8; MARK], Duration)>,
}

impl Used {
    /// Whether the puzzle of this cookie was solved for the first time.
    fn take(&mut self, now: Duration, cookie: &[u8]) -> bool {
        while self.order.front().is_some_and(|(_, until)| *until <= now) || self.order.len() >= MAX_USED {
            let first = self.order.pop_front();
            first.map(|(mark, _)| self.marks.remove(&mark));
        }
        let Some(mark) = cookie.last_chunk::<MARK>().copied() else { return false };
        let is_new = self.marks.insert(mark);
        if is_new {
            self.order.push_back((mark, now.saturating_add(COOKIE_TIME)));
        }
        is_new
    }
}

/// How hard puzzles are while so many IKE SAs of initiators that have shown where they are stand half-open; `None` while
/// none are asked for.
fn difficulty(limits: &Limits, half_open: usize) -> Option<u8> {
    let above = half_open.checked_sub(limits.puzzle_threshold)?;
    let room = limits.half_open.saturating_sub(limits.puzzle_threshold).max(1);
    let step = (STEPS * above / room).min(STEPS) as u8;
    let least = if limits.puzzle_difficulty == 0 { WORTH } else { limits.puzzle_difficulty };
    Some(least.saturating_add(step))
}

/// The PRF of a puzzle: of those that the initiator offers the one that is computed fastest by everybody.
fn prf(offered: &[Proposal]) -> Option<Prf> {
    let of_prf = |proposal: &Proposal| {
        let prfs = proposal.transforms.iter().filter(|transform| transform.kind == TransformType::PRF);
        prfs.filter_map(|transform| Prf::from_id(transform.id)).collect::<Vec<_>>()
    };
    let offered: Vec<Prf> = offered.iter().flat_map(of_prf).collect();
    let preferred = [Prf::HmacSha2_256, Prf::HmacSha2_512, Prf::HmacSha2_384, Prf::HmacSha1];
    preferred.into_iter().find(|prf| offered.contains(prf))
}

impl Core {
    /// What becomes of an IKE_SA_INIT request. `given` is what its cookie says, if it is one of ours.
    pub(super) fn demand(
        &mut self,
        now: Duration,
        message: &Message,
        given: Option<Given>,
        host: &mut dyn Host,
    ) -> Demand {
        let limits = &self.configuration.limits;
        let (open, threshold) = (self.half_open.proven(), limits.puzzle_threshold);
        let Some(needed) = difficulty(limits, open) else { return Demand::Serve };
        let asked = |round| self.puzzle(now, message, needed, round);
        let next = match given {
            None => return asked(1),
            Some(Given::CookieAlone) => asked(1),
            Some(Given::Puzzle(puzzle)) => match solved(message, puzzle) {
                Some(zeros) if zeros >= u32::from(needed) || puzzle.round >= MAX_ROUNDS => {
                    return self.take_solution(now, message);
                }
                Some(_) => return asked(puzzle.round + 1),
                None => Demand::Drop,
            },
        };
        // Who does not know puzzles, or does not like them, is served by lot: the fewer the more places are taken.
        let room = limits.half_open.saturating_sub(threshold).max(1) as u64;
        let free = limits.half_open.saturating_sub(open) as u64;
        let is_lucky =
            !matches!(next, Demand::Solve(Asked { round: 2.., .. })) && draw(host, 2 * room) < free;
        if is_lucky { Demand::Serve } else { next }
    }

    fn take_solution(&mut self, now: Duration, message: &Message) -> Demand {
        let cookie = message.notify(NotifyType::COOKIE);
        if cookie.is_some_and(|cookie| self.used_puzzles.take(now, &cookie.data)) {
            self.counters.puzzles_solved += 1;
            Demand::Serve
        } else {
            Demand::Drop
        }
    }

    fn puzzle(&self, now: Duration, message: &Message, needed: u8, round: u8) -> Demand {
        let Some(prf) = message.proposals.as_deref().and_then(prf) else { return Demand::NoProposal };
        // The first one may be the initiator's choice; who chose too little is told what is needed.
        let is_free = self.configuration.limits.puzzle_difficulty == 0 && round == 1;
        let difficulty = if is_free { 0 } else { needed };
        Demand::Solve(Asked { prf, difficulty, round, at: now.as_secs() as u32 })
    }
}

/// The zero bits of the solution, if it has what was asked for.
fn solved(message: &Message, asked: Asked) -> Option<u32> {
    let cookie = &message.notify(NotifyType::COOKIE)?.data;
    let puzzle = Puzzle { prf: asked.prf, octets: cookie.clone() };
    let zeros = puzzle.judge(message.solution.as_ref()?)?;
    (zeros >= u32::from(asked.difficulty)).then_some(zeros)
}

/// A number below `below`, by chance.
fn draw(host: &mut dyn Host, below: u64) -> u64 {
    let mut octets = [0; 8];
    host.random(&mut octets);
    ((u128::from(u64::from_be_bytes(octets)) * u128::from(below)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ProtocolId, Transform};

    #[test]
    fn puzzles_become_harder_as_places_become_few() {
        let limits =
            Limits { half_open: 100, puzzle_threshold: 60, puzzle_difficulty: 16, ..Limits::default() };
        let at = |open| difficulty(&limits, open);
        assert_eq!(
            [at(0), at(59), at(60), at(70), at(80), at(99)],
            [None, None, Some(16), Some(17), Some(18), Some(19)]
        );
        let always = Limits { puzzle_threshold: 0, puzzle_difficulty: 0, ..limits.clone() };
        assert_eq!(difficulty(&always, 0), Some(WORTH));
        let never = Limits { puzzle_threshold: 101, ..limits };
        assert_eq!(difficulty(&never, 100), None);
    }

    #[test]
    fn the_prf_is_one_of_the_offer() {
        let offer = |ids: &[u16]| {
            let prfs = ids.iter().map(|id| Transform::new(TransformType::PRF, *id, None)).collect();
            vec![Proposal { number: 1, protocol: ProtocolId::IKE, spi: Vec::new(), transforms: prfs }]
        };
        assert_eq!(prf(&offer(&[2, 7, 5])), Some(Prf::HmacSha2_256));
        assert_eq!(prf(&offer(&[2])), Some(Prf::HmacSha1));
        assert_eq!(prf(&offer(&[4, 8])), None);
    }

    #[test]
    fn no_solution_is_taken_twice_and_memory_stays_flat() {
        let (mut used, second) = (Used::default(), Duration::from_secs(1));
        let cookie = |n: usize| [&[0; 30][..], &[0; 8], &n.to_be_bytes()].concat();
        assert!(used.take(second, &cookie(1)) && !used.take(second, &cookie(1)));
        assert!(!used.take(second, &[0; 3]));
        for n in 2..MAX_USED + 10 {
            assert!(used.take(second, &cookie(n)));
        }
        assert!(used.marks.len() <= MAX_USED && used.marks.len() == used.order.len());
        assert!(used.take(second + COOKIE_TIME, &cookie(MAX_USED)), "its cookie is too old by then");
    }
}
