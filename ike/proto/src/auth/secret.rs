//! Shared secrets.

use std::fmt;

use zeroize::Zeroizing;

use crate::identity::Identity;

/// A shared secret and whom it is shared by.
pub struct Secret {
    owners: Vec<Identity>,
    octets: Zeroizing<Vec<u8>>,
}

impl Secret {
    /// Without owners it is everybody's.
    pub(super) fn new(mut owners: Vec<Identity>, octets: Zeroizing<Vec<u8>>) -> Self {
        if owners.is_empty() {
            owners.push(Identity::Any);
        }
        Self { owners, octets }
    }

    /// The secret itself.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// How well the best of its owners fits.
    fn owner_matches(&self, identity: &Identity) -> Option<u8> {
        self.owners.iter().filter_map(|owner| owner.matches(identity)).max()
    }
}

/// The secret of which the owners fit best: the peer's match decides, then ours, then which was first.
pub(super) fn best<'a>(secrets: &'a [Secret], local: &Identity, remote: &Identity) -> Option<&'a Secret> {
    let rank = |secret: &Secret| (secret.owner_matches(remote), secret.owner_matches(local));
    let mut best: Option<(&Secret, _)> = None;
    for secret in secrets {
        let rank = rank(secret);
        if rank != (None, None) && best.is_none_or(|(_, other)| rank > other) {
            best = Some((secret, rank));
        }
    }
    best.map(|(secret, _)| secret)
}

/// The secret of which an owner fits one identity best; the first of several.
pub(super) fn best_of_one<'a>(secrets: &'a [Secret], identity: &Identity) -> Option<&'a Secret> {
    let mut best: Option<(&Secret, u8)> = None;
    for secret in secrets {
        let rank = secret.owner_matches(identity);
        if let Some(rank) = rank.filter(|rank| best.is_none_or(|(_, other)| *rank > other)) {
            best = Some((secret, rank));
        }
    }
    best.map(|(secret, _)| secret)
}

/// The secret of which an owner fits the user best: the other end's match decides next, then which was first.
pub(super) fn of_user<'a>(secrets: &'a [Secret], other: &Identity, user: &Identity) -> Option<&'a Secret> {
    let mut best: Option<(&Secret, _)> = None;
    for secret in secrets {
        let Some(fit) = secret.owner_matches(user) else { continue };
        let rank = (fit, secret.owner_matches(other));
        if best.is_none_or(|(_, most)| rank > most) {
            best = Some((secret, rank));
        }
    }
    best.map(|(secret, _)| secret)
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secret").field("owners", &self.owners).finish_non_exhaustive()
    }
}
