//! Networks of tunnels that we have set up and that ended unasked: nothing leaves for them in clear (I7) until a tunnel
//! leads there again, or the operator says that it may.

use std::collections::HashMap;

use super::Ike;
use super::child_sa::ChildSa;
use super::head::Head;
use super::traps::Trap;
use super::waiting::path_for_later;
use crate::configuration::Connection;
use crate::host::{DownReason, Host, Output, PolicyInstall, Target, TunnelName};

/// By connection and child; as many as are configured.
#[derive(Debug, Default)]
pub(super) struct Closed(HashMap<(String, String), PolicyInstall>);

impl Closed {
    /// Takes note of the end of a pair of Child SAs; whether its networks stay closed.
    pub(super) fn note(&mut self, head: &Head, child: &ChildSa, reason: DownReason) -> bool {
        let is_asked = matches!(reason, DownReason::Command | DownReason::Reconfigured);
        let stays = head.connection.fails_closed && !is_asked;
        let key = (head.connection.name.clone(), child.child.name.clone());
        if stays && head.connection.peers().next().is_some() {
            self.0.insert(key, child.policy(head));
        } else {
            self.0.remove(&key);
        }
        stays
    }

    /// Those of connections that are no longer there.
    pub(super) fn take_others(&mut self, connections: &[std::sync::Arc<Connection>]) -> Vec<PolicyInstall> {
        let is_gone = |name: &str| connections.iter().all(|connection| connection.name != name);
        self.0.extract_if(|(connection, _), _| is_gone(connection)).map(|(_, policy)| policy).collect()
    }
}

/// Lets traffic to the networks of a policy out that is in force no longer: the data plane knows networks by policies.
pub(super) fn opening(policy: PolicyInstall) -> [Output; 2] {
    let names = vec![policy.name.clone()];
    [Output::Trap(Box::new(policy)), Output::RemovePolicies { names, keep_prohibited: false }]
}

impl Ike {
    /// The operator wants no tunnel: its networks are open then. How many children's were closed.
    ///
    /// If no tunnel stood that opens its own, there may be some all the same, from before a restart. What a peer had
    /// narrowed them to is forgotten: those that are configured are opened.
    pub(super) fn open(&mut self, host: &mut dyn Host, target: &Target, stood: bool) -> usize {
        let name = match target {
            Target::Connection(name) => name.as_str(),
            Target::Tunnel(name) => TunnelName::parse(name).map_or("", |(connection, _)| connection),
            Target::Child(..) | Target::Spi(_) => return 0,
        };
        let Some(connection) = self.configured(name).cloned() else { return 0 };
        let mut count = 0;
        for child in &connection.children {
            let key = (connection.name.clone(), child.name.clone());
            let is_trapped = self.core.traps.reqid_of(&key.0, &key.1).is_some();
            let known = self.core.closed.0.remove(&key);
            count += usize::from(known.is_some());
            let known =
                if stood { known } else { known.or_else(|| self.as_configured(host, &connection, child)) };
            if let Some(policy) = known.filter(|_| !is_trapped) {
                self.core.outputs.extend(opening(policy));
            }
        }
        count
    }

    fn as_configured(
        &mut self,
        host: &mut dyn Host,
        connection: &std::sync::Arc<Connection>,
        child: &std::sync::Arc<crate::configuration::Child>,
    ) -> Option<PolicyInstall> {
        connection.peers().next()?;
        let path = path_for_later(host, connection, 0, None)?;
        let segment = host.segment_of(path.remote.ip());
        let reqid = self.core.trap_reqid(host, segment);
        let (connection, child) = (std::sync::Arc::clone(connection), std::sync::Arc::clone(child));
        Some(Trap { connection, child, reqid, path }.policy())
    }
}
