//! What happened, in numbers.

/// Defines the counters and their names, in one list.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Numbers since the start of this instance; each counts up only.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Each with its name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)+].into_iter()
            }
        }
    };
}

counters! {
    /// Datagrams that came.
    received,
    /// Datagrams that we sent.
    sent,
    /// Datagrams that are no IKE message, or that end too early.
    not_ike,
    /// Messages of another major version (RFC 7296 section 2.5).
    major_version,
    /// Messages that are wrong in themselves.
    syntax,
    /// Messages with a payload that is critical and unknown.
    unknown_critical,
    /// Messages to an SPI that is not ours.
    unknown_spi,
    /// Messages whose integrity check fails.
    not_authentic,
    /// Messages outside of the window (RFC 7296 section 2.3).
    out_of_window,
    /// Requests that came again and were answered by the same octets (RFC 7296 section 2.1).
    repeated_requests,
    /// Requests that we sent again.
    retransmissions,
    /// Messages for segments of other nodes.
    foreign,
    /// Messages for tunnels that are being moved.
    frozen,
    /// Messages that waited for an IV, or came again because there was none.
    no_iv,
    /// IKE_SA_INIT requests.
    init_requests,
    /// Of these: answered by a cookie (RFC 7296 section 2.6).
    cookies_sent,
    /// Of these: with a cookie that is wrong or too old.
    cookies_wrong,
    /// Of these: answered by a puzzle (RFC 8019), those with a cookie included.
    puzzles_sent,
    /// Of these: with the solution of one.
    puzzles_solved,
    /// Of these: dropped because they bring no solution that is worth anything.
    puzzles_unsolved,
    /// Puzzles of peers that we solved.
    puzzles_worked,
    /// Puzzles of peers that we did not solve: too hard, too slow.
    puzzles_given_up,
    /// Of these: dropped because of a limit.
    init_limited,
    /// Responders' and initiators' IKE SAs that came to stand.
    ike_established,
    /// Attempts, by either side, that ended before their IKE SA stood.
    ike_failed,
    /// Of these: because one side did not prove who it is.
    authentication_failed,
    /// IKE SAs that were rekeyed.
    ike_rekeyed,
    /// Pairs of Child SAs that came to stand.
    children_established,
    /// Of these: in the place of another pair.
    children_rekeyed,
    /// Child SAs that were refused, by either side.
    children_failed,
    /// Rekeyings that both sides began at once (RFC 7296 section 2.8.1).
    collisions,
    /// Additional key exchanges that were done (RFC 9370).
    additional_key_exchanges,
    /// Peers that were taken for dead (RFC 7296 section 2.4).
    unreachable,
    /// Peers that were found at another address.
    path_changes,
    /// Peers that have proved that they lost their IKE SA (RFC 6290).
    crashes_detected,
    /// Tokens of crash detection that prove nothing.
    crash_tokens_refused,
    /// Tokens of crash detection that we told, of IKE SAs that are not here.
    crash_tokens_sent,
    /// Peers' synchronizations of Message IDs (RFC 6311) that we agreed to.
    synchronizations,
    /// Those that are replayed, forged or impossible.
    synchronizations_refused,
    /// Our own that were answered.
    failovers,
    /// Peers' wishes that we skip sequence numbers (RFC 6311).
    counter_synchronizations,
    /// Peers that were sent to another gateway (RFC 5685).
    redirects_sent,
    /// Redirects to other gateways that we followed.
    redirects_followed,
    /// Redirects that we did not follow: forbidden, forged, too many.
    redirects_refused,
    /// Tunnels, of either side, that were set up by a ticket (RFC 5723).
    resumed,
    /// Our attempts to resume that went on in full.
    resumptions_failed,
    /// Tickets that we gave.
    tickets_issued,
    /// Tickets that were presented and are none of ours, too old, used, or of a peer that may not resume.
    tickets_refused,
    /// Updates of addresses by peers that were heeded (RFC 4555 section 3.5).
    mobike_updates,
    /// Peers whose traffic waits because they have not shown in time that they receive where they say (RFC 4555 section
    /// 3.7).
    mobike_held,
    /// Updates that came too fast, and were to be sent again.
    mobike_limited,
    /// Peers that answered for an address at which they do not receive (RFC 4555 section 3.7).
    mobike_unproven,
    /// Users' packets that an authenticator elsewhere was asked about.
    users_asked_about,
    /// Sessions of users that an authenticator elsewhere has accepted.
    sessions,
    /// Sessions that ended because their time was over, or nothing was sent.
    sessions_timed_out,
    /// Tunnels of other nodes that this one has gone on with.
    activated,
    /// Tunnels that another node acts for since.
    dozed,
    /// Contexts of other nodes' tunnels that were taken.
    standby_taken,
    /// Those that were not: older than what is here, damaged, or not configured.
    standby_refused,
    /// NAT keep-alives sent.
    keep_alives,
}
