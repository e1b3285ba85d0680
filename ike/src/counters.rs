//! What the daemon itself counts; the protocol counts its own.

use std::sync::atomic::{AtomicU64, Ordering};

use baton_dataplane::control::Counter;

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub struct Counted {
    /// Messages received.
    pub received: Count,
    /// Datagrams that were no messages.
    pub ignored: Count,
    /// Datagrams sent.
    pub sent: Count,
    /// Datagrams that the system did not take.
    pub send_failures: Count,
    /// Child SAs that did not get into the table.
    pub install_failures: Count,
    /// Policies that the data plane refused.
    pub policies_refused: Count,
    /// Stored contexts that could not be used.
    pub bad_contexts: Count,
    /// SAs that were removed because no tunnel knew them.
    pub orphans_removed: Count,
    /// Datagrams that waited for a standby in vain.
    pub replication_late: Count,
    /// Datagrams that did not wait because no standby is there that has all.
    pub replication_skipped: Count,
    /// Datagrams that did not leave because the segment's lease had lapsed meanwhile.
    pub sent_without_lease: Count,
    /// Log lines of strangers' doing that were left out.
    pub lines_left_out: Count,
}

impl Counted {
    /// As the control socket shows them.
    pub fn entries(&self) -> Vec<Counter> {
        [
            ("received", &self.received, "messages received"),
            ("ignored", &self.ignored, "datagrams without a message, or from nowhere"),
            ("sent", &self.sent, "datagrams sent"),
            (
                "send-failures",
                &self.send_failures,
                "datagrams that the system did not take; they count as lost",
            ),
            ("install-failures", &self.install_failures, "Child SAs that did not get into the SA table"),
            ("policies-refused", &self.policies_refused, "policies that the data plane refused"),
            ("bad-contexts", &self.bad_contexts, "stored contexts that could not be used and were set aside"),
            ("orphans-removed", &self.orphans_removed, "SAs that were removed because no tunnel knew them"),
            (
                "replication-late",
                &self.replication_late,
                "datagrams that waited in vain for a standby to have their tunnel's state",
            ),
            (
                "replication-skipped",
                &self.replication_skipped,
                "datagrams that left without waiting because no standby has all",
            ),
            (
                "lease-lapsed",
                &self.sent_without_lease,
                "datagrams that were dropped because their segment was given up while they waited",
            ),
            (
                "lines-left-out",
                &self.lines_left_out,
                "failures of strangers that are not in the log, which has its limit",
            ),
        ]
        .map(|(name, count, meaning)| Counter {
            group: "daemon".to_owned(),
            name: name.to_owned(),
            value: count.value(),
            meaning: meaning.to_owned(),
        })
        .into()
    }
}
