//! What a context has of other gateways.

use super::numbers::{Impossible, monotonic, time};
use super::stored::{StoredIkeSa, StoredRedirection, Time};
use crate::crypto::TokenDigest;
use crate::host::Now;
use crate::machine::redirect::{MAX_REDIRECTS, Redirection, Trail};
use crate::machine::synchronization::Synchronization;

/// The kind of a request, or of something that waits to be one, that sends the peer elsewhere.
pub(super) const REDIRECT: u8 = 45;

/// The kind of one that asks the peer to skip sequence numbers.
pub(super) const COUNTERS: u8 = 70;

pub(super) fn stored_redirection(now: Now, redirection: &Redirection) -> StoredRedirection {
    StoredRedirection {
        is_follower: redirection.is_follower,
        can_send: redirection.can_send,
        trail: redirection.trail.0.iter().map(|at| time(now, *at)).collect(),
        following: redirection.following.as_ref().map(ToString::to_string),
        leave_at: redirection.leave_at.map(|at| time(now, at)),
        was_sent: redirection.was_sent,
    }
}

/// None is of an earlier release, which knew nothing of it.
pub(super) fn redirection(now: Now, stored: Option<&StoredRedirection>) -> Result<Redirection, Impossible> {
    let Some(stored) = stored else { return Ok(Redirection::default()) };
    if stored.trail.len() > MAX_REDIRECTS {
        return Err(Impossible("redirects that were followed"));
    }
    let at = |at: Time| monotonic(now, at);
    let following = stored.following.as_ref().map(|gateway| gateway.parse());
    Ok(Redirection {
        is_follower: stored.is_follower,
        can_send: stored.can_send,
        trail: Trail(stored.trail.iter().copied().map(at).collect()),
        following: following.transpose().map_err(|_| Impossible("a gateway"))?,
        leave_at: stored.leave_at.map(at),
        was_sent: stored.was_sent,
    })
}

/// By what the peer proves that it has lost the IKE SA.
pub(super) fn token(stored: &StoredIkeSa) -> Result<Option<TokenDigest>, Impossible> {
    let digest = stored.peer_token.as_ref().map(|octets| <[u8; 32]>::try_from(octets.as_slice()));
    let digest = digest.transpose().map_err(|_| Impossible("a token of crash detection"))?;
    Ok(digest.map(TokenDigest::restored))
}

pub(super) fn synchronization(stored: &StoredIkeSa) -> Synchronization {
    let is_ongoing = stored.is_synchronizing.unwrap_or(false);
    Synchronization::restored(stored.synchronized, is_ongoing, stored.failovers.unwrap_or(0))
}
