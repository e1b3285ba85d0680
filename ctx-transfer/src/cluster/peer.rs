//! Another member.

use std::time::Duration;

use super::configuration::{Configuration, Member};
use super::neighbours::LinkAddresses;
use super::segments::Segments;
use super::trust::Trust;
use super::wire::Heartbeat;

/// What is known of another member.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) member: Member,
    /// All lanes stand.
    pub(crate) connected: bool,
    /// Its incarnation as of its last hello.
    pub(crate) life: Option<u64>,
    /// Its release, as of its last hello.
    pub(crate) release: Option<String>,
    /// Its place on the links, as of this or an earlier connection.
    pub(crate) links: LinkAddresses,
    /// When it was heard last, while it is alive.
    pub(crate) alive_since: Option<Duration>,
    pub(crate) heard: Option<Duration>,
    /// Its last heartbeat.
    pub(crate) beat: Heartbeat,
    pub(crate) trust: Trust,
}

impl Peer {
    pub(crate) fn new(member: Member) -> Self {
        Self {
            member,
            connected: false,
            life: None,
            release: None,
            links: LinkAddresses::default(),
            alive_since: None,
            heard: None,
            beat: Heartbeat::default(),
            trust: Trust::default(),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.alive_since.is_some()
    }

    /// When it will be silent, if it is alive.
    pub(crate) fn silent_at(&self, config: &Configuration) -> Option<Duration> {
        self.alive_since.and(self.heard).map(|heard| heard + config.dead_time())
    }

    /// What it claims, as long as it is alive.
    pub(crate) fn claims(&self) -> Segments {
        if self.is_alive() { self.beat.claims } else { Segments::NONE }
    }

    /// What it has signed off, as long as it is alive.
    pub(crate) fn handed(&self) -> Segments {
        let handed = self.beat.handed.iter().filter(|_| self.is_alive());
        handed.fold(Segments::NONE, |all, (_, segments)| all | *segments)
    }

    /// What it owns for all we know.
    pub(crate) fn owns(&self) -> Segments {
        self.claims() - self.beat.fresh
    }
}
