//! The initiator's puzzles (RFC 8019 sections 7.1.2 and 9): solved by the host, beside all else, within what the
//! configuration allows. Without a solution the request is sent with the cookie alone, as by who knows no puzzles.

use super::Ike;
use super::core::Cx;
use super::init_sent::{InitSent, Solving};
use super::message::Message;
use super::tunnel::Tunnel;
use crate::crypto::{Prf, Puzzle};
use crate::host::{Host, Now, Output, Path};
use crate::wire::{Header, Notify, NotifyType, PuzzleRequest};

/// Zero bits that we look for where the choice is ours.
const OUR_CHOICE: u8 = 16;

impl InitSent {
    /// Whether the host is to solve the puzzle.
    pub(super) fn begin_solving(&mut self, cx: &mut Cx, notify: &Notify) -> bool {
        let effort = cx.core.configuration.puzzles;
        let Some((puzzle, difficulty)) = self.puzzle(notify).filter(|_| effort.most > 0) else {
            return false;
        };
        if difficulty > effort.most {
            let peer = self.head.peer();
            let problem = format!(
                "peer {peer} asks for a puzzle of {difficulty} bits before it serves us, and puzzle_limit is {}; if that is worth the work, raise it",
                effort.most
            );
            cx.core.counters.puzzles_given_up += 1;
            self.head.failed(cx, problem);
            return false;
        }
        let zeros = u32::from(if difficulty == 0 { OUR_CHOICE.min(effort.most) } else { difficulty });
        self.let_solve(cx, Solving { puzzle, zeros, held: None });
        true
    }

    fn let_solve(&mut self, cx: &mut Cx, solving: Solving) {
        let (puzzle, zeros) = (solving.puzzle.clone(), solving.zeros);
        cx.then(Output::Solve { spi: self.spi, puzzle, zeros });
        self.due = cx.now.monotonic.saturating_add(cx.core.configuration.puzzles.time);
        self.solving = Some(solving);
    }

    /// Who knows puzzles has to solve this one: an IKE_AUTH request without the solution is not read (RFC 8019 sections
    /// 7.2.2 and 7.2.4). The answer waits meanwhile.
    pub(super) fn solve_for_auth(
        mut self: Box<Self>,
        cx: &mut Cx,
        (puzzle, difficulty): (Puzzle, u8),
        held: (Vec<u8>, Path),
    ) -> Option<Tunnel> {
        let most = cx.core.configuration.puzzles.most;
        if difficulty > most {
            let peer = self.head.peer();
            cx.core.counters.puzzles_given_up += 1;
            let problem = format!(
                "peer {peer} wants a puzzle of {difficulty} bits solved before IKE_AUTH, and puzzle_limit is {most}; if that is worth the work, raise it"
            );
            return self.fail(cx, problem);
        }
        self.stop_solving(cx);
        self.let_solve(cx, Solving { puzzle, zeros: difficulty.into(), held: Some(held) });
        Some(Tunnel::InitSent(self))
    }

    /// Over the cookie, by a PRF that we have offered, which we know then.
    fn puzzle(&self, notify: &Notify) -> Option<(Puzzle, u8)> {
        let PuzzleRequest { prf, difficulty } = PuzzleRequest::parse(&notify.data).ok()?;
        let octets = self.cookie.clone()?;
        Some((Puzzle { prf: Prf::from_id(prf)?, octets }, difficulty))
    }

    /// Nobody waits for the solution any more.
    pub(super) fn stop_solving(&mut self, cx: &mut Cx) {
        if self.solving.take().is_some() {
            cx.then(Output::StopSolving { spi: self.spi });
        }
    }
}

/// What the answer to IKE_SA_INIT asks for before IKE_AUTH: over the responder's nonce and SPI, of a difficulty that
/// is said (RFC 8019 sections 7.2.1.1 and 7.2.3).
pub(super) fn puzzle_of_auth(
    header: &Header,
    message: &Message,
    responder_nonce: &[u8],
) -> Option<(Puzzle, u8)> {
    let asked = PuzzleRequest::parse(&message.notify(NotifyType::PUZZLE)?.data).ok()?;
    let octets = [responder_nonce, &header.responder_spi.to_be_bytes()].concat();
    let puzzle = Puzzle { prf: Prf::from_id(asked.prf)?, octets };
    (asked.difficulty > 0).then_some((puzzle, asked.difficulty))
}

impl Ike {
    /// The host has solved a puzzle, or given up; how many tunnels wait for it.
    pub(super) fn on_solved(
        &mut self,
        now: Now,
        host: &mut dyn Host,
        spi: u64,
        solution: Option<Vec<u8>>,
    ) -> usize {
        let Some(id) = self.core.index.ike_spis.get(&spi).copied() else { return 0 };
        let mut is_waited_for = false;
        self.with_tunnel(now, host, id, |tunnel, cx| match tunnel {
            Tunnel::InitSent(state) if state.solving.is_some() => {
                is_waited_for = true;
                state.solved(cx, solution)
            }
            other => Some(other),
        });
        usize::from(is_waited_for)
    }
}
