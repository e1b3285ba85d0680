//! What routers say about packets of ours that were too big for a link (RFC 1191, RFC 8201).
//!
//! Anybody can send such a word. It is believed only about an SA that exists, towards the peer that it names, and if
//! it quotes a sequence number among the last that the SA sent: who cannot see the traffic would have to guess SPI
//! and number (RFC 5927 section 7.1 checks TCP's sequence numbers for the same reason). What it can do then is
//! bounded from below, and is forgotten after a while.

use std::net::IpAddr;

use baton_sad::{Sa, SaHandle, SlotView};
use tracing::info;

use super::{Caretaker, Present, count, describe};
use crate::control::Happening;

/// How far back a quoted packet may lie: more than are under way at once.
const RECENT: u64 = 1 << 16;
/// What every IPv4 host can take (RFC 791 section 3.1); links with less are not found today, but forgeries are.
const IPV4_FLOOR: u16 = 576;
/// The least MTU of an IPv6 link; a smaller word is to be ignored (RFC 8201 section 4).
const IPV6_FLOOR: u16 = 1280;

impl Caretaker {
    /// A router says so, of a packet with our peer's SPI.
    pub(super) fn too_big(&mut self, of: (u32, IpAddr), sequence: u32, mtu: u16, present: &Present<'_>) {
        let Some((handle, sa)) = self.outbound_to(of.0, of.1) else {
            return count(&self.counts.path_mtus_refused);
        };
        let Some(slot) = self.table.slot(handle) else { return };
        if !was_sent_lately(slot.sequence(), sequence) || !is_worth_learning(&sa, slot, mtu, present) {
            return count(&self.counts.path_mtus_refused);
        }
        let seconds = present.learned_mtu_seconds;
        slot.learn_path_mtu(mtu, present.now.saturating_add(seconds.saturating_mul(1_000_000_000)));
        count(&self.counts.path_mtus);
        let destination = sa.destination;
        info!(tunnel = %sa.name, %destination, mtu, seconds, "the path MTU is smaller");
        self.listeners.tell(Happening::PathMtu { sa: describe(&sa), destination, mtu, seconds });
    }

    /// The outbound SA with the peer's SPI and address, among those that the rounds have seen.
    fn outbound_to(&self, spi: u32, destination: IpAddr) -> Option<(SaHandle, Sa)> {
        let candidates = self.rounds.outbound_with(spi).filter_map(|slot| self.table.handle_at(slot));
        let mut read = candidates.filter_map(|handle| Some((handle, self.config(handle)?)));
        read.find(|(_, sa)| sa.spi == spi && sa.destination == destination)
    }
}

/// Whether the lower half of a sequence number is that of one of the last packets up to `last`.
fn was_sent_lately(last: u64, lower_half: u32) -> bool {
    let back = u64::from((last as u32).wrapping_sub(lower_half));
    back < RECENT && back < last
}

fn is_worth_learning(sa: &Sa, slot: SlotView<'_>, mtu: u16, present: &Present<'_>) -> bool {
    let configured = if sa.path_mtu == 0 { present.outer_mtu } else { sa.path_mtu.min(present.outer_mtu) };
    let current = slot.learned_path_mtu(present.now).map_or(configured, |learned| learned.min(configured));
    let floor = if sa.destination.is_ipv4() { IPV4_FLOOR.min(configured) } else { IPV6_FLOOR };
    (floor..current).contains(&mtu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_packets_that_were_sent_are_quoted() {
        assert!(was_sent_lately(5, 5) && was_sent_lately(5, 1));
        assert!(!was_sent_lately(5, 6) && !was_sent_lately(5, 0) && !was_sent_lately(5, u32::MAX));
        assert!(!was_sent_lately(0, 0), "nothing was sent");
        assert!(was_sent_lately(100_000, 34_465) && !was_sent_lately(100_000, 34_464));
        let extended = (7 << 32) + 5;
        assert!(was_sent_lately(extended, 0) && was_sent_lately(extended, u32::MAX));
        assert!(!was_sent_lately(extended, 6));
    }
}
