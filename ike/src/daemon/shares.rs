//! Which segments this node acts for: those that baton-cluster says it owns, without those that a planned move has
//! frozen.

use std::collections::{BTreeMap, BTreeSet};

use baton_ike_proto::host::Owned;

/// What was said.
#[derive(Debug, Default)]
pub(super) struct Shares {
    told: Vec<Owned>,
    /// With the term of the ownership that is to end.
    frozen: BTreeMap<u8, u32>,
}

impl Shares {
    /// All that is owned from now on: whether it is something else than before. What comes with another term was another
    /// node's meanwhile, and is not frozen.
    pub(super) fn tell(&mut self, owned: Vec<Owned>) -> bool {
        let same = |segment: u8, term: u32| {
            owned.iter().find(|owned| owned.segment == segment).is_none_or(|owned| owned.term == term)
        };
        self.frozen.retain(|segment, term| same(*segment, *term));
        let segments = |told: &[Owned]| told.iter().map(|owned| owned.segment).collect::<BTreeSet<_>>();
        let is_other = segments(&self.told) != segments(&owned);
        self.told = owned;
        is_other
    }

    /// These are about to become another node's.
    pub(super) fn freeze(&mut self, segments: &[u8]) {
        let frozen = self.told.iter().filter(|owned| segments.contains(&owned.segment));
        self.frozen.extend(frozen.map(|owned| (owned.segment, owned.term)));
    }

    /// They stay. Whatever had to be done when they came is in their tunnels' contexts.
    pub(super) fn thaw(&mut self, segments: &[u8]) {
        let frozen = &mut self.frozen;
        for owned in self.told.iter_mut().filter(|owned| segments.contains(&owned.segment)) {
            if frozen.remove(&owned.segment).is_some() {
                (owned.advanced, owned.is_stale) = (None, false);
            }
        }
    }

    /// Whether it is owned, frozen or not.
    pub(super) fn has(&self, segment: u8) -> bool {
        self.told.iter().any(|owned| owned.segment == segment)
    }

    /// What this node acts for.
    pub(super) fn acting(&self) -> Vec<Owned> {
        self.told.iter().filter(|owned| !self.frozen.contains_key(&owned.segment)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(segment: u8, term: u32) -> Owned {
        Owned { segment, term, advanced: Some(9), is_stale: true }
    }

    #[test]
    fn what_is_frozen_stays_so_however_often_it_is_said_to_be_owned() {
        let mut shares = Shares::default();
        shares.tell(vec![owned(1, 5), owned(2, 5)]);
        shares.freeze(&[2, 3]);
        shares.tell(vec![owned(1, 5), owned(2, 5)]);
        assert_eq!(shares.acting(), [owned(1, 5)]);
        shares.thaw(&[2]);
        assert_eq!(shares.acting(), [owned(1, 5), Owned { advanced: None, is_stale: false, ..owned(2, 5) }]);
    }

    #[test]
    fn what_has_been_away_is_not_frozen_when_it_comes_back() {
        let mut shares = Shares::default();
        shares.tell(vec![owned(2, 5)]);
        shares.freeze(&[2]);
        shares.tell(vec![]);
        shares.tell(vec![owned(2, 5)]);
        assert_eq!(shares.acting(), [], "a word that was late");
        shares.tell(vec![owned(2, 7)]);
        assert_eq!(shares.acting(), [owned(2, 7)]);
    }
}
