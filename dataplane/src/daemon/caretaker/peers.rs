//! Peers behind NATs that appear somewhere else (RFC 7296 section 2.23).

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::ControlFlow;

use baton_sad::{Direction, Sa, UpdateError, WriteError};
use tracing::{info, warn};

use super::{Caretaker, Present, count, describe};
use crate::control::{Endpoint, Happening};
use crate::daemon::endpoints::{place, set_place};
use crate::packet::ip::is_unicast_source;

/// Nanoseconds between two moves of one SA: a NAT that changes its mind with every packet, or somebody who sends
/// copies of the peer's packets from elsewhere, must not keep the table changing.
const PAUSE: u64 = 1_000_000_000;
/// SAs whose last move is remembered.
const REMEMBERED: usize = 16_384;

/// When SAs were moved last, by SPI.
#[derive(Debug, Default)]
pub(super) struct Moves(HashMap<u32, u64>);

impl Moves {
    /// Whether the SA may be moved now; if so, that is remembered.
    fn admit(&mut self, spi: u32, now: u64) -> bool {
        let is_over = |at: u64| now.saturating_sub(at) >= PAUSE;
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, at| !is_over(*at));
        }
        let is_due = self.0.get(&spi).is_none_or(|at| is_over(*at)) && self.0.len() < REMEMBERED;
        if is_due {
            self.0.insert(spi, now);
        }
        is_due
    }
}

impl Caretaker {
    /// An authentic packet, the newest of its SA, came from there.
    /// Breaks if the table was busy.
    pub(super) fn peer_moved(
        &mut self,
        spi: u32,
        address: IpAddr,
        port: u16,
        present: &Present<'_>,
    ) -> ControlFlow<()> {
        let to = Endpoint { address, port };
        let Some((inbound, from)) = self.moved_from(spi, present.now).filter(|(_, from)| *from != to) else {
            // The last: told by a packet of the same batch as the one that was heeded.
            return ControlFlow::Continue(());
        };
        if !may_move(&inbound, to, present) || !self.moves.admit(spi, present.now) {
            count(&self.counts.moves_refused);
            return ControlFlow::Continue(());
        }
        match self.move_both(inbound, from, to) {
            Ok(inbound) => {
                count(&self.counts.moved);
                info!(tunnel = %inbound.name, from = ?from, to = ?to, "the peer moved, and is followed");
                self.listeners.tell(Happening::PeerMoved { sa: describe(&inbound), from, to });
            }
            Err(error) => {
                warn!(%error, "a peer moved and could not be followed; its next packet tries again");
                if matches!(error, UpdateError::Write(WriteError::Busy { .. })) {
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The SA, if it is ours to look after and follows its peer, and where that is.
    fn moved_from(&self, spi: u32, now: u64) -> Option<(Sa, Endpoint)> {
        let handle = self.table.lookup(Direction::Inbound, spi)?;
        let inbound = self.config(handle).filter(|inbound| self.is_ours(handle, inbound.segment, now))?;
        let from = place(&inbound)?;
        Some((inbound, from))
    }

    /// The outbound SA goes first: if the second step fails, the next packet tells of the move again.
    fn move_both(&self, mut inbound: Sa, from: Endpoint, to: Endpoint) -> Result<Sa, UpdateError> {
        if let Some(handle) = self.table.lookup(Direction::Outbound, inbound.reqid)
            && let Some(mut outbound) = self.config(handle)
            && place(&outbound) == Some(from)
        {
            set_place(&mut outbound, to);
            let handle = self.table.update(&outbound)?;
            if let Some(slot) = self.table.slot(handle) {
                // Learned on another path.
                slot.learn_path_mtu(0, 0);
            }
        }
        set_place(&mut inbound, to);
        self.table.update(&inbound)?;
        Ok(inbound)
    }
}

/// What a worker says was true of one packet; that its source can be somebody's place is checked here.
fn may_move(inbound: &Sa, to: Endpoint, present: &Present<'_>) -> bool {
    to.port != 0
        && to.address.is_ipv4() == inbound.source.is_ipv4()
        && is_unicast_source(to.address)
        && to.address != inbound.destination
        && !present.own_addresses.contains(&to.address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_move_per_sa_and_second() {
        let mut moves = Moves::default();
        assert!(moves.admit(1, PAUSE) && moves.admit(2, PAUSE) && !moves.admit(1, 2 * PAUSE - 1));
        assert!(moves.admit(1, 2 * PAUSE));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut moves = Moves::default();
        let admitted = (0..=REMEMBERED as u32).filter(|spi| moves.admit(*spi, PAUSE)).count();
        assert_eq!((admitted, moves.0.len()), (REMEMBERED, REMEMBERED));
        assert!(moves.admit(u32::MAX, 2 * PAUSE) && moves.0.len() == 1, "what is over is forgotten");
    }
}
