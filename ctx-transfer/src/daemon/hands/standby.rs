//! What other nodes own, installed here.

use baton_dataplane::worker::monotonic_ns;
use baton_sad::{Name, PutKind, Sender as SaSender, Snapshot, Table};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::warn;

use super::super::judge;
use super::Bench;
use crate::cluster::{Octets, Refusal, Reserved};
use crate::collect::is_negotiated;
use crate::restore::{RestoreError, install_as};
use crate::{Context, IkePart};

/// Its answer to `standby-put`.
#[derive(Deserialize)]
struct StandbyAnswer {
    results: Vec<StandbyResult>,
}

#[derive(Deserialize)]
struct StandbyResult {
    #[serde(default)]
    version: Option<u64>,
    #[serde(default)]
    problem: Option<String>,
}

impl Bench {
    /// Installs a copy of what another node owns. The IKE daemon, which knows the versions, is asked before the table is
    /// touched.
    pub(super) fn apply(
        &mut self,
        about: (Name, u8),
        octets: &Octets,
        floors: &[Reserved],
        supersedes: bool,
    ) -> Result<(), Refusal> {
        let contexts = self.open(octets)?;
        judge::is_about(&contexts, about, floors)?;
        let table = self.table().map_err(|_| Refusal::Unavailable)?;
        for context in &contexts {
            self.check(&table, context)?;
            if let Some(part) = &context.ike {
                self.hand_over(context.name, part, supersedes)?;
            }
            remove_others(&table, context)?;
            let us = SaSender { cluster: table.cluster(), node: table.node() };
            install_as(PutKind::Standby, &table, context, us).map_err(|error| refusal(&error))?;
        }
        let floors: Vec<_> = floors
            .iter()
            .map(|floor| baton_sad::Floor { sa: floor.key.in_table(), floor: floor.number })
            .collect();
        table.raise_floors(&floors).map_err(|_| Refusal::Unavailable)?;
        Ok(())
    }

    /// Not what this node owns itself, and not what its configuration has otherwise.
    fn check(&self, table: &Table, context: &Context) -> Result<(), Refusal> {
        let now = monotonic_ns();
        if context.sas.iter().any(|offered| table.lease(offered.sa.segment) > now) {
            return Err(Refusal::Policy);
        }
        let gateway = self.config.gateway.as_ref().ok_or(Refusal::Policy)?;
        let name = context.name.as_str();
        let fits = match &context.ike {
            Some(_) => is_negotiated(gateway, name),
            None => crate::collect::differences(gateway, context).is_some_and(|found| found.is_empty()),
        };
        if fits { Ok(()) } else { Err(Refusal::Policy) }
    }

    /// What a new owner has takes the place of what the former one had, though it may be of an earlier change.
    fn hand_over(&mut self, tunnel: Name, part: &IkePart, supersedes: bool) -> Result<(), Refusal> {
        let mut refusal = self.put_in_ike(part)?;
        if supersedes && refusal.as_ref().is_some_and(|result| result.version.is_some()) {
            let request = json!({ "request": "standby-remove", "names": [tunnel.as_str()] });
            self.ask::<Value>(&request).map_err(|_| Refusal::Unavailable)?;
            refusal = self.put_in_ike(part)?;
        }
        let Some(problem) = refusal.and_then(|result| result.problem) else { return Ok(()) };
        warn!(problem, "the IKE daemon refuses a context");
        Err(Refusal::Policy)
    }

    /// Why the IKE daemon does not take a context; with a version if it has one of a later change.
    fn put_in_ike(&mut self, part: &IkePart) -> Result<Option<StandbyResult>, Refusal> {
        let request = json!({ "request": "standby-put", "contexts": [hex::encode(part.octets())] });
        let answer: StandbyAnswer = self.ask(&request).map_err(|problem| {
            warn!(%problem, "the IKE daemon takes no context");
            Refusal::Unavailable
        })?;
        Ok(answer.results.into_iter().find(|result| result.problem.is_some()))
    }

    /// Removes what another node has ended, its SAs first: whatever becomes of the rest, nobody uses them here again (I2).
    /// The IKE daemon refuses while it has not heard that the segment is not this node's any more, and is asked again.
    pub(super) fn remove(&mut self, tunnel: Name) -> Result<(), Refusal> {
        let table = self.table().map_err(|_| Refusal::Unavailable)?;
        let installed = table.read_by_name(tunnel.as_str()).map_err(|_| Refusal::Unavailable)?;
        let now = monotonic_ns();
        if installed.iter().any(|found| table.lease(found.sa.segment) > now) {
            return Err(Refusal::Policy);
        }
        let keys: Vec<_> = installed.iter().map(|found| (found.sa.direction, found.sa.index_key())).collect();
        table.remove(&keys).map_err(|_| Refusal::Unavailable)?;
        if self.is_negotiated(tunnel) {
            let request = json!({ "request": "standby-remove", "names": [tunnel.as_str()] });
            self.ask::<Value>(&request).map_err(|_| Refusal::Unavailable)?;
        }
        Ok(())
    }
}

/// SAs that the owner does not have any more.
fn remove_others(table: &Table, context: &Context) -> Result<(), Refusal> {
    let installed = table.read_by_name(context.name.as_str()).map_err(|_| Refusal::Unavailable)?;
    let is_offered = |found: &&Snapshot| {
        context.sas.iter().any(|offered| {
            (offered.sa.direction, offered.sa.index_key()) == (found.sa.direction, found.sa.index_key())
        })
    };
    let others: Vec<_> = installed
        .iter()
        .filter(|found| !is_offered(found))
        .map(|found| (found.sa.direction, found.sa.index_key()))
        .collect();
    if !others.is_empty() {
        table.remove(&others).map_err(|_| Refusal::Unavailable)?;
    }
    Ok(())
}

fn refusal(error: &RestoreError) -> Refusal {
    warn!(%error, "a context of another node is not installed");
    match error {
        RestoreError::Put(baton_sad::PutError::Full(_)) => Refusal::Full,
        RestoreError::Get(_) | RestoreError::Freeze(_) | RestoreError::Write(_) | RestoreError::Put(_) => {
            Refusal::Unavailable
        }
        RestoreError::Later { .. } => Refusal::Malformed,
        _ => Refusal::Policy,
    }
}
