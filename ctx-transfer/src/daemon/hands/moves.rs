//! Planned moves: what is final here, and what another node has left.

use std::collections::HashMap;
use std::time::Duration;

use baton_dataplane::control::{Client, ClientError, Daemon};
use baton_sad::{Name, NodeId, PutKind, Sender as SaSender, Snapshot, Table};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::{debug, warn};

use super::{Bench, FREEZE};
use crate::cluster::{Octets, Refusal, Segments};
use crate::collect::context_of;
use crate::restore::install_as;
use crate::{Context, Kind};

/// SAs in one part of what is final; a tunnel is not parted.
const IN_ONE_PART: usize = 64;

/// The IKE daemon's answer to `freeze-segments`, and to `context-list`.
#[derive(Deserialize)]
struct Silenced {
    contexts: Vec<Entry>,
    more: bool,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    version: u64,
}

impl Bench {
    /// The IKE daemon acts no more for these segments. One that does not run changes nothing either.
    pub(super) fn silence(&mut self, segments: Segments) -> Result<Vec<(Name, u64)>, String> {
        let list: Vec<u8> = segments.iter().collect();
        let mut answer: Silenced = match self.ask(&json!({ "request": "freeze-segments", "segments": list }))
        {
            Ok(answer) => answer,
            Err(ClientError::NotReachable { .. }) => return Ok(Vec::new()),
            Err(error) => return Err(error.to_string()),
        };
        let mut tunnels = Vec::new();
        loop {
            let end = answer.contexts.last().map(|entry| entry.name.clone());
            for entry in answer.contexts {
                tunnels.push((Name::new(&entry.name).map_err(|error| error.to_string())?, entry.version));
            }
            let Some(after) = end.filter(|_| answer.more) else { return Ok(tunnels) };
            let request = json!({ "request": "context-list", "segments": list, "after": after });
            answer = self.ask(&request).map_err(|error| error.to_string())?;
        }
    }

    /// The leases are dropped already: no worker uses these SAs after its batch. Their counters are final then.
    pub(super) fn freeze(&mut self, segments: Segments) -> Result<Vec<Octets>, String> {
        let table = self.table()?;
        table.wait_until_quiescent(FREEZE).map_err(|error| error.to_string())?;
        let mut keys = Vec::new();
        for edge in table.edges(&segments.words()) {
            let found = table.get(edge.sa.direction, edge.sa.key).map_err(|error| error.to_string())?;
            if found.is_some_and(|found| !found.frozen) {
                keys.push((edge.sa.direction, edge.sa.key));
            }
        }
        for segment in segments.iter() {
            self.frozen.remove(&segment);
        }
        let mut tunnels: HashMap<Name, Vec<Snapshot>> = HashMap::new();
        for found in table.freeze(&keys, FREEZE).map_err(|error| error.to_string())? {
            let key = (found.sa.direction, found.sa.index_key());
            self.frozen.entry(found.sa.segment).or_default().push(key);
            tunnels.entry(found.sa.name).or_default().push(found);
        }
        let contexts = tunnels.into_iter().map(|(name, sas)| context_of(&table, name, sas, None, Kind::Move));
        let mut parts: Vec<(usize, Vec<Context>)> = Vec::new();
        for context in contexts {
            match parts.last_mut().filter(|(sas, _)| sas + context.sas.len() <= IN_ONE_PART) {
                Some((sas, part)) => {
                    *sas += context.sas.len();
                    part.push(context);
                }
                None => parts.push((context.sas.len(), vec![context])),
            }
        }
        parts.iter().map(|(_, part)| self.seal(part)).collect()
    }

    pub(super) fn thaw(&mut self, segments: Segments) {
        for segment in segments.iter() {
            let keys = self.frozen.remove(&segment).unwrap_or_default();
            if let Some(Err(error)) = self.table.as_ref().map(|table| table.thaw(&keys)) {
                warn!(%error, "SAs that were frozen for a move stay so");
            }
        }
        let list: Vec<u8> = segments.iter().collect();
        match self.ask::<Value>(&json!({ "request": "thaw-segments", "segments": list })) {
            Ok(_) | Err(ClientError::NotReachable { .. }) => {}
            Err(error) => {
                warn!(%error, "the IKE daemon goes on with these segments only when it starts again");
            }
        }
    }

    pub(super) fn set_holds(&self, segments: Segments, until: Duration) {
        let Some(table) = &self.table else { return };
        let until = u64::try_from(until.as_nanos()).unwrap_or(baton_sad::NOT_OWNED);
        for segment in segments.iter() {
            table.set_hold(segment, until);
        }
    }

    /// Has packets of segments wait that are about to be ours. When this returns, the filter lets them through; what it drops
    /// where that fails is lost, as it would be without.
    pub(super) fn hold(&self, segments: Segments, until: Duration) {
        self.set_holds(segments, until);
        let Some(gateway) = &self.config.gateway else { return };
        let follow = || -> Result<Value, ClientError> {
            let socket = gateway.control_socket();
            Client::connect_to(Daemon::DataPlane, &socket, FREEZE)?
                .request(&json!({ "request": "segment-follow" }))
        };
        if let Err(error) = follow() {
            debug!(%error, "the filter follows later");
        }
    }

    pub(super) fn stage(&mut self, from: NodeId, number: u64, parts: &[Octets]) -> Result<(), Refusal> {
        let mut contexts = Vec::new();
        // Segments without a tunnel have one part with nothing in it.
        for part in parts.iter().filter(|part| !part.0.is_empty()) {
            contexts.extend(self.open(part)?);
        }
        let table = self.table().map_err(|_| Refusal::Unavailable)?;
        contexts.iter().try_for_each(|context| check_staged(&table, context))?;
        self.staged.insert((from, number), contexts);
        Ok(())
    }

    /// Counters exactly as the old owner has left them; whether all are. One that is not starts above what was reserved.
    pub(super) fn commit(&mut self, from: NodeId, number: u64) -> bool {
        let (Some(contexts), Some(table)) = (self.staged.remove(&(from, number)), self.table.clone()) else {
            return false;
        };
        let mut exact = true;
        let us = SaSender { cluster: table.cluster(), node: table.node() };
        for context in contexts {
            if let Err(error) = install_as(PutKind::Move, &table, &context, us) {
                warn!(%error, tunnel = %context.name, "its counters jump ahead instead of going on exactly");
                exact = false;
            }
        }
        exact
    }
}

/// The tunnel is a standby of ours already, so that only its counters change.
fn check_staged(table: &Table, context: &Context) -> Result<(), Refusal> {
    for offered in &context.sas {
        let found =
            table.get(offered.sa.direction, offered.sa.index_key()).map_err(|_| Refusal::Unavailable)?;
        if found.is_none_or(|found| !found.sa.key.ct_eq(&offered.sa.key)) {
            return Err(Refusal::Unavailable);
        }
    }
    Ok(())
}
