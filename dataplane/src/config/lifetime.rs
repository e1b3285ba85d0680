//! How long SAs may be used: `rekey_*` tells that the end is near, `life_*` is the end.

use std::time::Duration;

use baton_sad::{Bounds, Lifetime};

use super::quantity::{self, Units, quantity};
use super::reader::Section;

/// Bounds of one kind; zero is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LifetimeBounds {
    /// Octets of inner packets.
    pub octets: u64,
    /// Packets.
    pub packets: u64,
    /// Sequence numbers.
    pub sequence: u64,
    /// Time since the SA was installed, in whole seconds.
    pub time: Duration,
}

/// How long an SA may be used (RFC 4301 section 4.4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// From here on a new SA should be negotiated: an event says so.
    pub soft: LifetimeBounds,
    /// From here on nothing is sent or accepted.
    pub hard: LifetimeBounds,
}

impl LifetimeBounds {
    fn starting_at(&self, unix_seconds: u64) -> Bounds {
        let seconds = self.time.as_secs();
        let expires_at = if seconds == 0 { 0 } else { unix_seconds.saturating_add(seconds) };
        Bounds { octets: self.octets, packets: self.packets, sequence: self.sequence, expires_at }
    }
}

impl Lifetimes {
    /// The lifetime of an SA that is installed at this Unix time.
    pub fn starting_at(&self, unix_seconds: u64) -> Lifetime {
        Lifetime { soft: self.soft.starting_at(unix_seconds), hard: self.hard.starting_at(unix_seconds) }
    }

    /// `configured`, from [`Self::starting_at`], as it applies to an SA that is installed already: the ends in time
    /// that it has stay, or else each restart would move them. A bound in time that is new counts from now; one
    /// that is configured no longer goes.
    pub fn continued(installed: &Lifetime, configured: Lifetime) -> Lifetime {
        let end = |old: u64, new: u64| if old == 0 || new == 0 { new } else { old };
        let mut lifetime = configured;
        lifetime.hard.expires_at = end(installed.hard.expires_at, configured.hard.expires_at);
        lifetime.soft.expires_at = end(installed.soft.expires_at, configured.soft.expires_at);
        if lifetime.hard.expires_at != 0 {
            lifetime.soft.expires_at = lifetime.soft.expires_at.min(lifetime.hard.expires_at);
        }
        lifetime
    }
}

/// Reads a tunnel's lifetimes. Without `extended_sequence` a sequence number has 32 bits.
pub(super) fn read(section: &Section<'_, '_>, extended_sequence: Option<bool>) -> Option<Lifetimes> {
    let octets = bounds(section, "rekey_bytes", "life_bytes", &quantity::OCTETS);
    let packets = bounds(section, "rekey_packets", "life_packets", &quantity::COUNT);
    let sequence = bounds(section, "rekey_sequence", "life_sequence", &quantity::COUNT);
    let time = bounds(section, "rekey_time", "life_time", &quantity::TIME);
    if extended_sequence == Some(false) {
        refuse_long_sequence(section, "rekey_sequence", sequence.map(|s| s[0]));
        refuse_long_sequence(section, "life_sequence", sequence.map(|s| s[1]));
    }
    let (octets, packets, sequence, time) = (octets?, packets?, sequence?, time?);
    let of = |kind: usize| LifetimeBounds {
        octets: octets[kind],
        packets: packets[kind],
        sequence: sequence[kind],
        time: Duration::from_secs(time[kind]),
    };
    Some(Lifetimes { soft: of(0), hard: of(1) })
}

/// A soft and a hard bound.
fn bounds(
    section: &Section<'_, '_>,
    soft_key: &'static str,
    hard_key: &'static str,
    units: &Units,
) -> Option<[u64; 2]> {
    let (soft, hard) = (quantity(section, soft_key, units), quantity(section, hard_key, units));
    let (soft, hard) = (soft?, hard?);
    if hard != 0
        && soft >= hard
        && let Some(item) = section.get(soft_key)
    {
        let message = format!("{soft} is not below {hard_key}, {hard}: the end would come unannounced");
        item.report(message, format!("choose a smaller {soft_key}, e.g. {}", hard - hard / 10 - 1));
    }
    Some([soft, hard])
}

fn refuse_long_sequence(section: &Section<'_, '_>, key: &'static str, bound: Option<u64>) {
    if bound.is_some_and(|bound| bound > u64::from(u32::MAX))
        && let Some(item) = section.get(key)
    {
        let message = "without extended_sequence, numbers end at 4294967295";
        item.report(message, "choose a smaller one, or extended_sequence = true");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lasting(soft: u64, hard: u64) -> Lifetimes {
        let bounds = |seconds| LifetimeBounds { time: Duration::from_secs(seconds), ..Default::default() };
        Lifetimes { soft: bounds(soft), hard: bounds(hard) }
    }

    fn ends(lifetime: &Lifetime) -> (u64, u64) {
        (lifetime.soft.expires_at, lifetime.hard.expires_at)
    }

    #[test]
    fn time_counts_from_the_installation() {
        assert_eq!(ends(&lasting(50, 60).starting_at(1000)), (1050, 1060));
        assert_eq!(ends(&lasting(0, 0).starting_at(1000)), (0, 0), "0 is no bound");
        assert_eq!(ends(&lasting(0, 60).starting_at(u64::MAX)), (0, u64::MAX));
    }

    #[test]
    fn an_installed_sa_ends_when_it_was_to_end() {
        let installed = lasting(50, 60).starting_at(1000);
        let again =
            |lifetimes: Lifetimes| ends(&Lifetimes::continued(&installed, lifetimes.starting_at(1040)));
        assert_eq!(again(lasting(50, 60)), (1050, 1060));
        assert_eq!(again(lasting(0, 0)), (0, 0), "bounds that were taken away go");
        let hard_only = lasting(0, 60).starting_at(1000);
        let with_soft = lasting(50, 60).starting_at(1040);
        assert_eq!(
            ends(&Lifetimes::continued(&hard_only, with_soft)),
            (1060, 1060),
            "a new bound is not above the old one"
        );
        let unbounded = Lifetime::default();
        assert_eq!(
            ends(&Lifetimes::continued(&unbounded, with_soft)),
            (1090, 1100),
            "new bounds count from now"
        );
    }

    #[test]
    fn counts_follow_the_configuration() {
        let hard = LifetimeBounds { octets: 7, packets: 8, sequence: 9, ..Default::default() };
        let now = Lifetimes { hard, ..Default::default() }.starting_at(5);
        assert_eq!(Lifetimes::continued(&lasting(1, 2).starting_at(0), now), now);
    }
}
