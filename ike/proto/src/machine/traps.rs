//! Policies whose traffic sets up their Child SAs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::child_offer::{everything, resolve};
use super::child_sa::policy_name;
use crate::configuration::{Child, Connection};
use crate::host::{Output, Path, PolicyInstall};
use crate::selector::ConfiguredSelector;

/// A Child SA that traffic sets up.
#[derive(Debug, Clone)]
pub(super) struct Trap {
    pub(super) connection: Arc<Connection>,
    pub(super) child: Arc<Child>,
    pub(super) reqid: u32,
    /// Between where the peer is and us.
    pub(super) path: Path,
}

impl Trap {
    /// Puts it into force; or takes it out, because a pair of a tunnel with another gateway carries its traffic, which
    /// stays protected by that.
    pub(super) fn output(&self, is_carried: bool) -> Output {
        let policy = self.policy();
        if is_carried {
            Output::RemovePolicies { names: vec![policy.name], keep_prohibited: true }
        } else {
            Output::Trap(Box::new(policy))
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Traps {
    by_reqid: HashMap<u32, Trap>,
    by_name: HashMap<(String, String), u32>,
}

impl Traps {
    pub(super) fn insert(&mut self, trap: Trap) {
        self.by_name.insert((trap.connection.name.clone(), trap.child.name.clone()), trap.reqid);
        self.by_reqid.insert(trap.reqid, trap);
    }

    pub(super) fn remove(&mut self, reqid: u32) -> Option<Trap> {
        let trap = self.by_reqid.remove(&reqid)?;
        self.by_name.remove(&(trap.connection.name.clone(), trap.child.name.clone()));
        Some(trap)
    }

    pub(super) fn get(&self, reqid: u32) -> Option<&Trap> {
        self.by_reqid.get(&reqid)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Trap> {
        self.by_reqid.values()
    }

    /// The number of the trapped policy of a child.
    pub(super) fn reqid_of(&self, connection: &str, child: &str) -> Option<u32> {
        if self.by_name.is_empty() {
            return None;
        }
        self.by_name.get(&(connection.to_owned(), child.to_owned())).copied()
    }
}

impl Trap {
    /// The policy, for all traffic that is configured.
    pub(super) fn policy(&self) -> PolicyInstall {
        let side = |configured: &[_], address: IpAddr| resolve(configured, &[address]);
        // Which address this host will have inside is not known yet.
        let asked = &self.connection.virtual_addresses;
        let is_dynamic = self.child.local.iter().all(ConfiguredSelector::is_dynamic);
        let local = if is_dynamic && !asked.is_empty() {
            everything(asked)
        } else {
            side(&self.child.local, self.path.local.ip())
        };
        PolicyInstall {
            name: policy_name(&self.connection.name, self.reqid),
            reqid: self.reqid,
            segment: self.reqid.to_be_bytes()[0],
            local,
            remote: side(&self.child.remote, self.path.remote.ip()),
            priority: self.child.priority,
        }
    }
}
