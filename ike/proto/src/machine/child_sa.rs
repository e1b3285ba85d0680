//! A pair of Child SAs.

use std::sync::Arc;
use std::time::Duration;

use super::core::Cx;
use super::head::Head;
use super::lifetime;
use crate::configuration::{Child, Handling, Mode};
use crate::crypto::{ChildKeys, Role};
use crate::host::{ChildLifetime, DownReason, Install, Movement, OuterEnds, Output, PolicyInstall};
use crate::proposal::EspSuite;
use crate::selector::TrafficSelector;

/// How long the outbound half of a rekeyed pair waits for the peer to delete the old one, which shows that the peer
/// has installed its inbound half (RFC 7296 section 2.8): a lost answer comes again only when the peer asks again, which
/// may take some seconds.
pub(super) const OUTBOUND_DELAY: Duration = Duration::from_secs(20);

/// A pair of Child SAs.
pub(super) struct ChildSa {
    pub(super) child: Arc<Child>,
    pub(super) reqid: u32,
    pub(super) inbound_spi: u32,
    pub(super) outbound_spi: u32,
    pub(super) suite: EspSuite,
    pub(super) mode: Mode,
    pub(super) local: Vec<TrafficSelector>,
    pub(super) remote: Vec<TrafficSelector>,
    /// Our role in the exchange that made its keys.
    pub(super) role: Role,
    /// The peer does not take TFC padding (RFC 7296 section 1.3.1).
    pub(super) no_tfc: bool,
    pub(super) outbound: Outbound,
    /// Whether what its outbound half has carried is accounted for already.
    pub(super) is_counted: bool,
    pub(super) stage: Stage,
    /// Why it is being deleted, if it is not because another one has taken its place.
    pub(super) ending: Option<DownReason>,
    /// Since when it stands (unix time).
    pub(super) established: Duration,
    /// When its keys are to be replaced.
    pub(super) rekey_at: Option<Duration>,
    /// When it ends.
    pub(super) expires_at: Option<Duration>,
    /// How many sequence numbers our inbound edge is ahead of where the peer may be, because it was restored from a
    /// copy.
    pub(super) gap: u64,
}

/// The outbound half.
pub(super) enum Outbound {
    /// In use.
    Installed,
    /// The peer may not be able to receive by it yet: installed at that time, or when the peer deletes the old one.
    Delayed(Duration, ChildKeys),
    /// Never: another pair is used instead (RFC 7296 section 2.8.1).
    Unused,
}

/// Where a pair is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It carries traffic.
    Live,
    /// Another pair has taken its place, and the peer is to delete it; after that time we do.
    Replaced(Duration),
    /// We are to delete it.
    Doomed,
    /// Our request to delete it is outstanding.
    Deleting,
}

/// Which halves to install, and whether the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) inbound: bool,
    pub(super) outbound: bool,
    pub(super) policy: bool,
}

impl Parts {
    /// A new pair, and its policy.
    pub(super) const ALL: Self = Self { inbound: true, outbound: true, policy: true };
    /// A pair under the policy of the one that it replaces.
    pub(super) const BOTH: Self = Self { inbound: true, outbound: true, policy: false };
    /// What the responder of a rekeying installs first.
    pub(super) const INBOUND: Self = Self { inbound: true, outbound: false, policy: false };
    /// And then.
    pub(super) const OUTBOUND: Self = Self { inbound: false, outbound: true, policy: false };
    /// After a restart.
    pub(super) const POLICY: Self = Self { inbound: false, outbound: false, policy: true };
}

impl ChildSa {
    /// The output that installs parts of it.
    pub(super) fn install(&self, cx: &Cx, head: &Head, parts: Parts, keys: Option<&ChildKeys>) -> Output {
        Output::Install(Box::new(Install {
            tunnel: head.name(),
            segment: head.segment(),
            reqid: self.reqid,
            inbound_spi: self.inbound_spi,
            outbound_spi: self.outbound_spi,
            inbound: parts.inbound,
            outbound: parts.outbound,
            suite: self.suite,
            role: self.role,
            keys: keys.cloned(),
            mode: self.mode,
            ends: self.ends(head),
            local: self.local.clone(),
            remote: self.remote.clone(),
            connection: Arc::clone(&head.connection),
            child: self.configured(),
            lifetime: self.lifetime(cx),
            policy: parts.policy.then(|| self.policy(head)),
        }))
    }

    /// Outer addresses. In transport mode they are the packets' own and do not move (RFC 4555 section 1.3).
    pub(super) fn ends(&self, head: &Head) -> OuterEnds {
        let ends = head.ends();
        match (ends.movement, self.mode) {
            (Movement::Roams, Mode::Transport) => OuterEnds { movement: Movement::Fixed, ..ends },
            _ => ends,
        }
    }

    /// Its configuration, without padding that the peer does not take.
    fn configured(&self) -> Arc<Child> {
        if !self.no_tfc || self.child.handling.tfc_padding == 0 {
            return Arc::clone(&self.child);
        }
        let handling = Handling { tfc_padding: 0, ..self.child.handling.clone() };
        Arc::new(Child { handling, ..Child::clone(&self.child) })
    }

    fn lifetime(&self, cx: &Cx) -> ChildLifetime {
        let hard = self.expires_at.map(|at| lifetime::to_unix(cx.now, at));
        ChildLifetime {
            soft_octets: self.child.rekey_bytes,
            hard_octets: self.child.life_bytes,
            soft_packets: self.child.rekey_packets,
            hard_packets: self.child.life_packets,
            hard_unix: hard.map_or(0, |hard| hard.as_secs() + 1),
        }
    }

    pub(super) fn policy(&self, head: &Head) -> PolicyInstall {
        PolicyInstall {
            name: policy_name(&head.connection.name, self.reqid),
            reqid: self.reqid,
            segment: head.segment(),
            local: self.local.clone(),
            remote: self.remote.clone(),
            priority: self.child.priority,
        }
    }

    /// Takes both halves out of the table.
    pub(super) fn removal(&self) -> Output {
        Output::Remove { inbound: vec![self.inbound_spi], outbound: vec![(self.reqid, self.outbound_spi)] }
    }

    /// From now on it is to be deleted.
    pub(super) fn doom(&mut self, reason: DownReason) {
        self.stage = Stage::Doomed;
        self.ending.get_or_insert(reason);
    }

    /// Whether it carries the traffic of its reqid.
    pub(super) fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Whether the outbound SA of its reqid is its own.
    pub(super) fn is_sending(&self) -> bool {
        self.is_live() && matches!(self.outbound, Outbound::Installed)
    }

    /// When something about it is due (monotonic).
    pub(super) fn due(&self) -> Option<Duration> {
        let outbound = match &self.outbound {
            Outbound::Delayed(at, _) => Some(*at),
            Outbound::Installed | Outbound::Unused => None,
        };
        let stage = match self.stage {
            Stage::Live => self.rekey_at,
            Stage::Replaced(at) => Some(at),
            Stage::Doomed | Stage::Deleting => None,
        };
        let expiry = self.expires_at.filter(|_| matches!(self.stage, Stage::Live | Stage::Replaced(_)));
        [outbound, stage, expiry].into_iter().flatten().min()
    }
}

/// A name of at most 32 octets, unique on the node as the reqid is: as much of the connection's name as fits.
pub(super) fn policy_name(connection: &str, reqid: u32) -> String {
    let end = connection.floor_char_boundary(23);
    format!("{}.{reqid:08x}", &connection[..end])
}
