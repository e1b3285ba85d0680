//! What of a configuration can change while a member runs: patience and rates of its own. What members have to agree on,
//! what standbys believe of reservations, and how long the IKE daemon waits for them, needs a restart.

use super::Cluster;
use super::configuration::{Configuration, Replicating};

/// Names of keys, as operators write them.
type Keys = Vec<&'static str>;

impl Configuration {
    /// Which keys differ that can change while a member runs; `None` if anything else differs too, apart from what other
    /// members are told.
    pub fn tuned(&self, other: &Self) -> Option<Keys> {
        let same = Self { digests: Vec::new(), links: self.links, ..self.with_tuning_of(other) };
        if same != (Self { digests: Vec::new(), links: self.links, ..other.clone() }) {
            return None;
        }
        let (ours, theirs) = (&self.replicating, &other.replicating);
        let differs = [
            ("balance", self.balance != other.balance),
            ("settle_milliseconds", self.settle != other.settle),
            ("move_batch", self.move_batch != other.move_batch),
            ("move_wait_milliseconds", self.move_wait != other.move_wait),
            ("window", ours.window != theirs.window),
            ("fill_rate", ours.fill_rate != theirs.fill_rate),
        ];
        Some(differs.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect())
    }

    /// With all that can change as in another one.
    #[must_use]
    pub fn with_tuning_of(&self, other: &Self) -> Self {
        let Replicating { window, fill_rate, .. } = other.replicating;
        Self {
            balance: other.balance,
            settle: other.settle,
            move_batch: other.move_batch,
            move_wait: other.move_wait,
            replicating: Replicating { window, fill_rate, ..self.replicating },
            ..self.clone()
        }
    }
}

impl Cluster {
    /// Goes on with another patience and other rates.
    pub(crate) fn tune(&mut self, other: &Configuration) {
        self.config = self.config.with_tuning_of(other);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use baton_sad::NodeId;

    use super::*;
    use crate::cluster::{Balance, Event, Member, Role};

    #[test]
    fn rates_change_while_a_member_runs_and_what_members_agree_on_does_not() {
        let id = NodeId::new(1).unwrap();
        let member = Member { id, role: Role::Node, priority: 100 };
        let old = Configuration::new(id, vec![member]);
        assert_eq!(old.tuned(&old), Some(Vec::new()));
        let fast = Replicating { fill_rate: 1 << 30, ..old.replicating };
        let new = Configuration { balance: Balance::Manual, replicating: fast, ..old.clone() };
        assert_eq!(old.tuned(&new), Some(vec!["balance", "fill_rate"]));
        let mut cluster = Cluster::new(old.clone(), Duration::ZERO, 1, &[]).unwrap();
        cluster.handle(Duration::ZERO, Event::Tuned(Box::new(new.clone())));
        assert_eq!(cluster.config, new);
        assert_eq!(old.tuned(&Configuration { missed: 9, ..new.clone() }), None);
        let more = crate::cluster::Reserving { packets: 20_000, ..old.reserving };
        assert_eq!(old.tuned(&Configuration { reserving: more, ..old.clone() }), None);
        let patient = Replicating { wait: Duration::from_secs(1), ..old.replicating };
        let patient = Configuration { replicating: patient, ..old.clone() };
        assert_eq!(old.tuned(&patient), None, "the IKE daemon would not wait for so long");
        let one_tunnel = Replicating { tunnels: 1, ..old.replicating };
        assert_eq!(old.tuned(&Configuration { replicating: one_tunnel, ..old.clone() }), None);
    }
}
