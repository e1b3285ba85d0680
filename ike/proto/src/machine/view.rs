//! What an operator may see of a tunnel. No keys.

use std::time::Duration;

use super::child_sa::{ChildSa, policy_name};
use super::head::Head;
use super::ike_sa::Fate;
use super::lifetime;
use super::mobility::Mobility;
use super::redirect::Redirection;
use super::resumption::Resumption;
use super::tunnel::Tunnel;
use super::up::Up;
use crate::configuration::Mode;
use crate::crypto::{IkeSuite, Role};
use crate::host::{Now, OuterEnds, Path, SessionView, TunnelName};
use crate::identity::Identity;
use crate::proposal::EspSuite;
use crate::selector::TrafficSelector;

/// How far a tunnel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TunnelState {
    /// It waits for its next attempt.
    Waiting,
    /// The peer is not authenticated.
    Connecting,
    /// It stands.
    Established,
    /// Its IKE SA's keys are being replaced.
    Rekeying,
    /// It is being deleted.
    Deleting,
    /// It is frozen for a move.
    Frozen,
    /// Another node acts for it.
    Standby,
}

/// A tunnel: an IKE SA and its Child SAs.
#[derive(Debug, Clone, PartialEq)]
pub struct TunnelView {
    /// Its name.
    pub name: TunnelName,
    /// Its connection.
    pub connection: String,
    /// How far it is.
    pub state: TunnelState,
    /// Our role in its present IKE SA.
    pub role: Role,
    /// SPIs of that IKE SA: the initiator's and the responder's, 0 if not known yet.
    pub spis: (u64, u64),
    /// Whose segment it is in.
    pub segment: u8,
    /// Who we are, once that is said.
    pub local: Option<Identity>,
    /// Who the peer is, once that is proved.
    pub remote: Option<Identity>,
    /// Which user the peer is, if it has proved that by EAP.
    pub user: Option<Identity>,
    /// Where both are.
    pub path: Path,
    /// Whether a NAT stands in front of us, and in front of the peer.
    pub nat: (bool, bool),
    /// Algorithms of the IKE SA.
    pub suite: Option<IkeSuite>,
    /// The postquantum preshared key in its keys (RFC 8784).
    pub ppk: Option<Identity>,
    /// Inner addresses that the peer was given, or that we were given.
    pub virtual_addresses: Vec<std::net::IpAddr>,
    /// DNS servers that the peer has told us of.
    pub dns: Vec<std::net::IpAddr>,
    /// Since when it stands (unix time).
    pub established: Option<Duration>,
    /// When its keys are to be replaced (unix time).
    pub rekey_at: Option<Duration>,
    /// The Message ID of our next request, and of the next one that we expect.
    pub message_ids: (u32, u32),
    /// What was agreed beyond RFC 7296, by keywords.
    pub extensions: Vec<&'static str>,
    /// Of a user who was judged elsewhere.
    pub session: Option<SessionView>,
    /// How it may move, if both ends speak RFC 4555.
    pub mobility: Option<MobilityView>,
    /// By what it comes back if it is lost, and whether it has (RFC 5723).
    pub resumption: Option<ResumptionView>,
    /// Its Child SAs.
    pub children: Vec<ChildView>,
}

/// How a tunnel comes back that was lost (RFC 5723).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumptionView {
    /// Whether it was set up by a ticket.
    pub is_resumed: bool,
    /// Whether we hold a ticket of the peer's; otherwise the peer holds ours.
    pub is_ours: bool,
    /// How long the newest one is good (unix time).
    pub until: Option<Duration>,
    /// When both ends have proved who they are (unix time).
    pub authenticated: Duration,
}

/// How a tunnel may move (RFC 4555).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MobilityView {
    /// Whether we say where both ends are; otherwise we follow the peer.
    pub leads: bool,
    /// Where the peer is besides.
    pub additional: Vec<std::net::IpAddr>,
    /// Changes of the path so far.
    pub changes: u32,
    /// Where the Child SAs send, while the present path is not shown to lead to the peer.
    pub unproven: Option<Path>,
}

/// A pair of Child SAs.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildView {
    /// Its configured name.
    pub name: String,
    /// Links it with its policy.
    pub reqid: u32,
    /// Our SPI.
    pub inbound_spi: u32,
    /// The peer's SPI.
    pub outbound_spi: u32,
    /// Whether packets leave by it: not yet while the peer may not be able to receive by it (RFC 7296 section 2.8), and
    /// no more when another pair has taken its place.
    pub is_sending: bool,
    /// What it carries.
    pub mode: Mode,
    /// Algorithms.
    pub suite: EspSuite,
    /// Outer addresses.
    pub ends: OuterEnds,
    /// What of ours it protects.
    pub local: Vec<TrafficSelector>,
    /// What of the peer's it protects.
    pub remote: Vec<TrafficSelector>,
    /// Whether the policy of that name leads to it, and under which name.
    pub policy: Option<String>,
    /// Since when it stands (unix time).
    pub established: Duration,
    /// When its keys are to be replaced (unix time).
    pub rekey_at: Option<Duration>,
    /// When it ends (unix time).
    pub expires_at: Option<Duration>,
}

impl Tunnel {
    /// What may be seen; nothing of what is half-open or over.
    pub(super) fn view(&self, now: Now) -> Option<TunnelView> {
        match self {
            Self::InitAnswered(_) | Self::EapAnswered(_) | Self::Lingering(_) => None,
            Self::Up(up) => Some(up.view(now)),
            Self::Dormant(dormant) => Some(attempt(&dormant.head, TunnelState::Standby)),
            Self::Waiting(state) => Some(attempt(&state.head, TunnelState::Waiting)),
            Self::InitSent(state) => {
                let view = attempt(&state.head, TunnelState::Connecting);
                Some(TunnelView { spis: (state.spi, 0), ..view })
            }
            Self::ResumeSent(state) => {
                let view = attempt(&state.head, TunnelState::Connecting);
                Some(TunnelView { spis: (state.spi, 0), ..view })
            }
            Self::IntermediateSent(state) => {
                let view = attempt(&state.head, TunnelState::Connecting);
                let spis = (state.sa.initiator_spi, state.sa.responder_spi);
                Some(TunnelView { spis, suite: Some(state.sa.keys.suite()), ..view })
            }
            Self::AuthSent(state) => {
                let view = attempt(&state.head, TunnelState::Connecting);
                let spis = (state.sa.initiator_spi, state.sa.responder_spi);
                let suite = Some(state.sa.keys.suite());
                Some(TunnelView { spis, suite, local: Some(state.local.clone()), ..view })
            }
        }
    }
}

/// A tunnel that is to stand.
fn attempt(head: &Head, state: TunnelState) -> TunnelView {
    TunnelView {
        name: head.name(),
        connection: head.connection.name.clone(),
        state,
        role: Role::Initiator,
        spis: (0, 0),
        segment: head.segment(),
        local: None,
        remote: None,
        user: None,
        path: head.path,
        nat: (head.nat.ours, head.nat.peers),
        suite: None,
        ppk: None,
        virtual_addresses: Vec::new(),
        dns: Vec::new(),
        established: None,
        rekey_at: None,
        message_ids: (0, 0),
        extensions: Vec::new(),
        session: None,
        mobility: None,
        resumption: None,
        children: Vec::new(),
    }
}

impl Mobility {
    fn view(&self, head: &Head) -> MobilityView {
        MobilityView {
            leads: self.leads,
            additional: self.additional.clone(),
            changes: self.changes,
            unproven: head.roaming.held.map(|(path, _)| path),
        }
    }
}

impl Resumption {
    /// Nothing if there is nothing to say.
    fn view(&self) -> Option<ResumptionView> {
        let held = self.ticket.as_ref().map(|ticket| ticket.until);
        let until = held.or_else(|| self.issued.map(|(_, until)| until));
        (self.is_resumed || until.is_some()).then_some(ResumptionView {
            is_resumed: self.is_resumed,
            is_ours: self.is_client,
            until,
            authenticated: self.authenticated,
        })
    }
}

impl Up {
    fn view(&self, now: Now) -> TunnelView {
        let sa = self.current();
        TunnelView {
            role: sa.role,
            spis: (sa.initiator_spi, sa.responder_spi),
            local: Some(self.peers.local.clone()),
            remote: Some(self.peers.remote.clone()),
            user: self.peers.user.clone(),
            suite: Some(sa.keys.suite()),
            ppk: self.ppk.clone(),
            virtual_addresses: self.virtual_addresses.clone(),
            dns: self.dns.clone(),
            established: Some(self.established),
            rekey_at: self.rekey_at.map(|at| lifetime::to_unix(now, at)),
            message_ids: (sa.window.requests.next_id(), sa.window.responses.expected()),
            extensions: self.extensions(),
            session: self.session.as_ref().map(|session| session.view(now)),
            mobility: self.mobility.as_ref().map(|mobility| mobility.view(&self.head)),
            resumption: self.resumption.view(),
            children: self.children.iter().map(|child| child.view(&self.head, now)).collect(),
            ..attempt(&self.head, self.state())
        }
    }

    fn extensions(&self) -> Vec<&'static str> {
        let Redirection { is_follower, can_send, .. } = self.redirection;
        let all = [
            ("redirect", is_follower || can_send),
            ("crash-detection", self.current().peer_token.is_some()),
            ("message-id-sync", self.can_synchronize),
            ("replay-counter-sync", self.can_synchronize_counters),
            ("mobike", self.mobility.is_some()),
            ("resumed", self.resumption.is_resumed),
            ("resumption", self.resumption.ticket.is_some() || self.resumption.issued.is_some()),
        ];
        all.into_iter().filter(|(_, is_agreed)| *is_agreed).map(|(word, _)| word).collect()
    }

    fn state(&self) -> TunnelState {
        let is_asked = self.current().pending.iter().any(|(_, pending)| pending.is_ike_rekeying());
        let is_rekeying = is_asked || self.sas.iter().any(|sa| sa.fate == Fate::Undecided);
        match () {
            () if self.is_frozen => TunnelState::Frozen,
            () if self.is_ending() => TunnelState::Deleting,
            () if is_rekeying => TunnelState::Rekeying,
            () => TunnelState::Established,
        }
    }
}

impl ChildSa {
    fn view(&self, head: &Head, now: Now) -> ChildView {
        ChildView {
            name: self.child.name.clone(),
            reqid: self.reqid,
            inbound_spi: self.inbound_spi,
            outbound_spi: self.outbound_spi,
            is_sending: self.is_sending(),
            mode: self.mode,
            suite: self.suite,
            ends: self.ends(head),
            local: self.local.clone(),
            remote: self.remote.clone(),
            policy: self.is_live().then(|| policy_name(&head.connection.name, self.reqid)),
            established: self.established,
            rekey_at: self.rekey_at.map(|at| lifetime::to_unix(now, at)),
            expires_at: self.expires_at.map(|at| lifetime::to_unix(now, at)),
        }
    }
}
