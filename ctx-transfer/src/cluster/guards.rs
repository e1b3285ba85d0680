//! What a simulation takes away to see that it is missed.

/// Each guard keeps an invariant; nothing but a test ever switches one off.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)]
pub struct Guards {
    /// Reservations wait for standbys in good order (I2, I3).
    pub wait_for_standbys: bool,
    /// Voters know that a standby is stale before anybody goes on without it (I2).
    pub tell_voters: bool,
    /// A voter promises a segment to one claimant at a time (I4).
    pub promises: bool,
    /// A voter that has just started promises nothing (I4).
    pub voters_pause: bool,
    /// A standby is in good order when it has all contexts (I6).
    pub complete_first: bool,
    /// Counters are final when nobody uses them any more (I2).
    pub freeze_first: bool,
    /// Counters are those of the old owner before anybody uses them (I2).
    pub prepare_first: bool,
    /// Of a segment only its owner is believed (I6).
    pub owners_only: bool,
}

impl Default for Guards {
    fn default() -> Self {
        Self {
            wait_for_standbys: true,
            tell_voters: true,
            promises: true,
            voters_pause: true,
            complete_first: true,
            freeze_first: true,
            prepare_first: true,
            owners_only: true,
        }
    }
}
