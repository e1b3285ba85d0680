//! What baton-cluster wants: contexts of other nodes' tunnels, and which segments are this node's.

use baton_dataplane::control::{Code, Refusal};
use baton_ike_proto::host::Owned;
use baton_ike_proto::machine::StandbyError;
use tracing::{info, warn};

use super::desk::Answer;
use super::reconcile::Reconciliation;
use super::turn::Loop;
use crate::clock;
use crate::control::{
    ContextEntry, ContextList, ContextListRequest, Done, MAX_CONTEXTS_LISTED, OwnedSegment, StandbyAnswer,
    StandbyResult,
};
use crate::host::owns;

impl Loop {
    /// In a cluster this node acts at first for what it holds leases of: its baton-cluster may live, and says so again.
    pub(super) fn look_at_leases(&mut self) {
        if !self.effects.is_clustered() {
            return;
        }
        let held = (0..=u8::MAX).filter(|segment| owns(&self.table, *segment));
        let owned: Vec<_> =
            held.map(|segment| Owned { segment, term: 0, advanced: None, is_stale: false }).collect();
        self.ike.own(&owned);
        self.owned = owned.iter().map(|owned| owned.segment).collect();
        self.shares.tell(owned);
    }

    /// From now on these segments are ours, and no others.
    pub(super) fn own(&mut self, segments: &[OwnedSegment]) -> Result<Answer, Refusal> {
        self.check_clustered()?;
        let owned = segments
            .iter()
            .map(|&OwnedSegment { segment, term, advanced, stale }| Owned {
                segment,
                term,
                advanced,
                is_stale: stale,
            })
            .collect();
        let is_other = self.shares.tell(owned);
        let concerned = self.act_for_shares();
        self.effects.fall_silent(|segment| self.shares.has(segment));
        if is_other {
            self.effects.tell_of_segments(segments.len());
        }
        self.receive_held();
        Ok(Answer::Done(Done { concerned: concerned as u64 }))
    }

    fn check_clustered(&self) -> Result<(), Refusal> {
        if self.effects.is_clustered() {
            return Ok(());
        }
        let remedy = "add [cluster], and start the daemon again";
        Err(Refusal::new(Code::Refused, "this gateway is in no cluster", remedy))
    }

    /// How many tunnels wake up or fall silent.
    fn act_for_shares(&mut self) -> usize {
        let owned = self.shares.acting();
        let concerned = self.ike.own(&owned);
        let before = std::mem::replace(&mut self.owned, owned.iter().map(|owned| owned.segment).collect());
        if !self.owned.is_subset(&before) {
            // A standby may have SAs that the owner has removed since.
            self.reconciliation = Reconciliation::begin();
        }
        if before != self.owned {
            info!(segments = self.owned.len(), tunnels = concerned, "owns other segments than before");
        }
        concerned
    }

    /// Nothing of these segments changes any more, nothing new is sent or answered. What was to be sent before leaves
    /// when the standby has what it is about.
    pub(super) fn freeze_segments(&mut self, segments: &[u8]) -> Result<Answer, Refusal> {
        self.check_clustered()?;
        self.shares.freeze(segments);
        self.act_for_shares();
        let segments = segments.to_vec();
        Ok(self.list_contexts(&ContextListRequest { segments, ..ContextListRequest::default() }))
    }

    pub(super) fn thaw_segments(&mut self, segments: &[u8]) -> Result<Answer, Refusal> {
        self.check_clustered()?;
        self.shares.thaw(segments);
        let concerned = self.act_for_shares();
        self.receive_held();
        Ok(Answer::Done(Done { concerned: concerned as u64 }))
    }

    /// Keeps contexts of other nodes' tunnels. One that is refused stops no other.
    pub(super) fn put_standby(&mut self, contexts: &[String]) -> Answer {
        let results = contexts.iter().map(|context| self.put_one(context)).collect();
        self.carry_out();
        Answer::Standby(StandbyAnswer { results })
    }

    fn put_one(&mut self, context: &str) -> StandbyResult {
        let Ok(context) = hex::decode(context) else {
            let problem = "the context is not in hexadecimal digits; pass it as context-get gave it";
            return StandbyResult { problem: Some(problem.to_owned()), ..StandbyResult::default() };
        };
        match self.ike.put_standby(clock::now(), &context, &mut self.node) {
            Ok(heading) => StandbyResult {
                name: Some(heading.tunnel.to_string()),
                version: Some(heading.version),
                problem: None,
            },
            Err(error) => {
                warn!(%error, "the context of another node's tunnel is not taken");
                refused(&error)
            }
        }
    }

    /// Forgets other nodes' tunnels. One that stays stops no other, and none is said to be gone that is not.
    pub(super) fn remove_standby(&mut self, names: &[String]) -> Result<Answer, Refusal> {
        let (mut removed, mut stays) = (0, None);
        for name in names {
            match self.ike.remove_standby(clock::now(), name, &mut self.node) {
                Ok(was_here) => removed += u64::from(was_here),
                Err(error) => stays = stays.or(Some(error)),
            }
        }
        self.carry_out();
        let Some(error) = stays else { return Ok(Answer::Done(Done { concerned: removed })) };
        let remedy = "try again when this node has heard that its segment is another node's";
        Err(Refusal::new(Code::Refused, error.to_string(), remedy))
    }

    pub(super) fn advance(&mut self, segments: &[u8], packets: u64) -> Answer {
        let concerned = self.ike.advance(clock::now(), segments, packets, &mut self.node);
        self.carry_out();
        Answer::Done(Done { concerned: concerned as u64 })
    }

    pub(super) fn rekey_tunnels(&mut self, names: &[String]) -> Answer {
        let concerned = self.ike.rekey_slowly(clock::now(), names, &mut self.node);
        self.carry_out();
        Answer::Done(Done { concerned: concerned as u64 })
    }

    pub(super) fn list_contexts(&self, request: &ContextListRequest) -> Answer {
        let is_after = |name: &str| request.after.as_deref().is_none_or(|after| name > after);
        let is_in = |segment: u8| request.segments.is_empty() || request.segments.contains(&segment);
        let headings = self.ike.headings().filter(|(heading, _)| is_in(heading.segment));
        let entries = headings.map(|(heading, is_ours)| ContextEntry {
            name: heading.tunnel.to_string(),
            segment: heading.segment,
            version: heading.version,
            standby: !is_ours,
        });
        let mut contexts: Vec<_> = entries.filter(|entry| is_after(&entry.name)).collect();
        contexts.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let more = contexts.len() > MAX_CONTEXTS_LISTED;
        contexts.truncate(MAX_CONTEXTS_LISTED);
        Answer::Contexts(ContextList { contexts, more })
    }
}

fn refused(error: &StandbyError) -> StandbyResult {
    let problem = Some(error.to_string());
    match error {
        StandbyError::Outdated { tunnel, present, .. } => {
            StandbyResult { name: Some(tunnel.to_string()), version: Some(*present), problem }
        }
        StandbyError::Owned(tunnel) => {
            StandbyResult { name: Some(tunnel.to_string()), version: None, problem }
        }
        _ => StandbyResult { name: None, version: None, problem },
    }
}
