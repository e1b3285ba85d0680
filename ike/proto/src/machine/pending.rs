//! What our outstanding requests are about.

use super::child_offer::ChildOffer;
use super::child_rekey::ChildRekeying;
use super::follow_up::FollowUp;
use super::ike_rekey::IkeRekeying;
use super::mobility::{Check, Update};
use crate::crypto::KeyShare;

/// What an outstanding request is about.
pub(super) enum Pending {
    /// IKE_INTERMEDIATE.
    Intermediate,
    /// IKE_AUTH.
    Authentication,
    /// Tells the peer of a failure of IKE_AUTH; nobody waits for its answer.
    Farewell,
    /// Whether the peer lives, or something that needs no more than an empty answer.
    Liveness,
    /// The peer is sent to another gateway.
    Redirect,
    /// Whether the peer receives where it says that it is (RFC 4555 section 3.7).
    Routability(Check),
    /// The peer skips sequence numbers (RFC 6311).
    Counters,
    /// The peer is told of our addresses (RFC 4555 sections 3.5 and 3.6).
    Update(Update),
    /// A ticket is asked for (RFC 5723 section 4.1).
    Ticket,
    /// The IKE SA itself is deleted.
    DeleteIke,
    /// Child SAs are deleted, by our SPIs.
    DeleteChildren(Vec<u32>),
    /// A new pair of Child SAs.
    NewChild(Box<ChildOffer>),
    /// A pair of Child SAs in the place of another one.
    RekeyChild(Box<ChildRekeying>),
    /// An IKE SA in the place of the one that asks.
    RekeyIke(Box<IkeRekeying>),
    /// The next key exchange of an SA that one of the three above has asked for.
    FollowUp(Box<FollowUp>),
}

impl Pending {
    /// The private value of its key exchange.
    pub(super) fn share(&self) -> Option<&KeyShare> {
        match self.about() {
            Self::NewChild(offer) => offer.share.as_ref(),
            Self::RekeyChild(rekeying) => rekeying.offer.share.as_ref(),
            Self::RekeyIke(rekeying) => Some(&rekeying.share),
            _ => None,
        }
    }

    /// Whether a pair of that configured name is asked for.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        matches!(self.about(), Self::NewChild(offer) if offer.child.name == name)
    }
}
