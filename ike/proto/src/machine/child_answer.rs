//! A pair of Child SAs that the peer asks for (RFC 7296 sections 1.2, 1.3.1, 1.3.3, 2.9).

use std::sync::Arc;

use super::algorithms::algorithms;
use super::child_offer::{Dynamic, Made, esp_spi, from_wire, resolve, to_wire};
use super::child_sa::ChildSa;
use super::core::Cx;
use super::head::Head;
use super::init_sent::key_exchange;
use super::message::{Message, flag};
use crate::configuration::{Child, Mode};
use crate::crypto::{KeyShare, Role, Shared};
use crate::proposal::{EspSuite, Selected, select_esp};
use crate::selector::{Narrowed, Sides, TrafficSelector, narrow};
use crate::wire::{NotifyType, Payload, Proposal};

/// Why a pair is not made; the IKE SA stays (RFC 7296 section 2.21).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: NotifyType,
    pub(super) data: Vec<u8>,
    /// For the operator.
    pub(super) problem: String,
}

impl Refusal {
    pub(super) fn new(kind: NotifyType, problem: String) -> Self {
        Self { kind, data: Vec::new(), problem }
    }
}

/// What the peer asks for.
pub(super) struct Asked<'a> {
    pub(super) head: &'a Head,
    pub(super) message: &'a Message,
    pub(super) dynamic: &'a Dynamic,
    /// Whether this is IKE_AUTH, which has no key exchange for the pair.
    pub(super) is_first: bool,
    /// What the new pair replaces.
    pub(super) replaces: Option<&'a ChildSa>,
}

/// A pair as agreed, the secret of its key exchange, and the answer that says so: SA, KE if there is one, TSi, TSr,
/// notifies.
pub(super) struct Granted {
    pub(super) sa: ChildSa,
    pub(super) shared: Option<Shared>,
    pub(super) payloads: Vec<Payload>,
}

/// A configured Child SA that fits what the peer asks for.
struct Fitting {
    child: Arc<Child>,
    narrowed: Narrowed,
}

impl Asked<'_> {
    /// Makes the pair.
    pub(super) fn grant(&self, cx: &mut Cx) -> Result<Granted, Refusal> {
        let syntax = || {
            Refusal::new(
                NotifyType::INVALID_SYNTAX,
                "the peer's request for a Child SA lacks a payload".into(),
            )
        };
        let proposals = self.message.proposals.as_deref().ok_or_else(syntax)?;
        let fitting = self.fitting()?;
        let selected = select_esp(&fitting.child.esp_proposals, proposals, !self.is_first)
            .ok_or_else(|| self.no_proposal(&fitting.child, proposals))?;
        let agreed_secret = self.agree(cx, selected.suite)?;
        let outbound_spi = self.peers_spi(selected.proposal.number)?;
        Ok(self.make(cx, fitting, (selected, outbound_spi), agreed_secret))
    }

    /// The pair that is rekeyed stays what it was; otherwise the first configured one whose traffic is asked for
    /// whole, or else the first of which a part is.
    fn fitting(&self) -> Result<Fitting, Refusal> {
        let local = from_wire(self.message.responder_selectors.as_deref());
        let remote = from_wire(self.message.initiator_selectors.as_deref());
        let mut partly = None;
        for child in self.candidates() {
            let (local, remote) = self.offered(&child, &local, &remote);
            let Some(narrowed) = self.narrow(&child, Sides { local: &local, remote: &remote }) else {
                continue;
            };
            let is_whole = narrowed.local == local && narrowed.remote == remote;
            let fitting = Fitting { child, narrowed };
            if is_whole {
                return Ok(fitting);
            }
            partly.get_or_insert(fitting);
        }
        partly.ok_or_else(|| self.unacceptable(&local, &remote))
    }

    /// The peer's selectors; those of transport mode as they are on this side of NATs.
    fn offered(
        &self,
        child: &Child,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
    ) -> (Vec<TrafficSelector>, Vec<TrafficSelector>) {
        if self.mode(child) == Mode::Transport {
            return self.head.beyond_nat(local.to_vec(), remote.to_vec());
        }
        (local.to_vec(), remote.to_vec())
    }

    /// Transport mode if both want it (RFC 7296 section 1.3.1).
    fn mode(&self, child: &Child) -> Mode {
        if self.message.has(NotifyType::USE_TRANSPORT_MODE) { child.mode } else { Mode::Tunnel }
    }

    fn candidates(&self) -> impl Iterator<Item = Arc<Child>> {
        let rekeyed = self.replaces.map(|old| Arc::clone(&old.child));
        let all = self.head.connection.children.iter().filter(move |_| self.replaces.is_none());
        rekeyed.into_iter().chain(all.cloned())
    }

    fn narrow(&self, child: &Child, offered: Sides) -> Option<Narrowed> {
        let local = resolve(&child.local, &self.dynamic.local);
        let remote = resolve(&child.remote, &self.dynamic.remote);
        narrow(Sides { local: &local, remote: &remote }, offered)
    }

    fn unacceptable(&self, local: &[TrafficSelector], remote: &[TrafficSelector]) -> Refusal {
        let text =
            |side: &[TrafficSelector]| side.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        let problem = format!(
            "peer {} asks for traffic between our {} and its {}, which no child of connection {} has; mend local_ts and remote_ts of either side",
            self.head.peer(),
            text(local),
            text(remote),
            self.head.connection.name,
        );
        Refusal::new(NotifyType::TS_UNACCEPTABLE, problem)
    }

    fn no_proposal(&self, child: &Child, offered: &[Proposal]) -> Refusal {
        let ours: Vec<_> = child.esp_proposals.iter().map(ToString::to_string).collect();
        let problem = format!(
            "peer {} offers none of our ESP proposals ({}): it offers {}; add one to child {}'s esp_proposals",
            self.head.peer(),
            ours.join(", "),
            algorithms(offered),
            child.name,
        );
        Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, problem)
    }

    /// Our half of the key exchange and the secret, if the chosen algorithms have one. Another group than the chosen
    /// one's is answered by INVALID_KE_PAYLOAD with the right one (RFC 7296 section 1.3).
    fn agree(&self, cx: &mut Cx, suite: EspSuite) -> Result<Option<(KeyShare, Shared)>, Refusal> {
        let Some(group) = suite.group else { return Ok(None) };
        let public = self.message.key_exchange.as_ref().filter(|(id, _)| *id == group.id());
        let Some((_, public)) = public else {
            let problem =
                format!("peer {} is asked for a key exchange of group {}", self.head.peer(), group.id());
            let data = group.id().to_be_bytes().to_vec();
            return Err(Refusal { kind: NotifyType::INVALID_KE_PAYLOAD, data, problem });
        };
        let share = KeyShare::generate(group, &mut |octets| cx.host.random(octets));
        match share.agree(public) {
            Ok(shared) => Ok(Some((share, shared))),
            Err(error) => Err(Refusal::new(NotifyType::INVALID_SYNTAX, error.to_string())),
        }
    }

    fn make(
        &self,
        cx: &mut Cx,
        fitting: Fitting,
        (selected, outbound_spi): (Selected<EspSuite>, u32),
        secret: Option<(KeyShare, Shared)>,
    ) -> Granted {
        let Fitting { child, narrowed } = fitting;
        let Selected { suite, mut proposal } = selected;
        let mode = self.mode(&child);
        let inbound_spi = cx.esp_spi(self.head.segment());
        proposal.spi = inbound_spi.to_be_bytes().to_vec();
        let (share, shared) = secret.unzip();
        let payloads = answer(proposal, share.as_ref(), &narrowed, mode);
        let reqid = self.reqid(cx, &child);
        let Narrowed { local, remote, .. } = narrowed;
        let agreed = Made { suite, mode, local, remote, inbound_spi, outbound_spi, reqid };
        let sa = agreed.child_sa(cx, &child, Role::Responder, self.message);
        Granted { sa, shared, payloads }
    }

    /// The SPI of the proposal that was chosen.
    fn peers_spi(&self, number: u8) -> Result<u32, Refusal> {
        let proposals = self.message.proposals.iter().flatten();
        let spi = proposals.filter(|proposal| proposal.number == number).find_map(esp_spi);
        spi.ok_or_else(|| Refusal::new(NotifyType::INVALID_SYNTAX, "the peer's SPI is impossible".to_owned()))
    }

    /// That of the pair that is replaced, or of the policy that is trapped for this one, or a new one.
    fn reqid(&self, cx: &mut Cx, child: &Child) -> u32 {
        if let Some(old) = self.replaces {
            return old.reqid;
        }
        let trapped = cx.core.traps.reqid_of(&self.head.connection.name, &child.name);
        let free = trapped.filter(|reqid| cx.claim_reqid(*reqid));
        free.unwrap_or_else(|| cx.reqid(self.head.segment()))
    }
}

fn answer(proposal: Proposal, share: Option<&KeyShare>, narrowed: &Narrowed, mode: Mode) -> Vec<Payload> {
    let mut payloads = vec![Payload::SecurityAssociation(vec![proposal])];
    payloads.extend(share.map(key_exchange));
    payloads.push(Payload::TrafficSelectorsInitiator(to_wire(&narrowed.remote)));
    payloads.push(Payload::TrafficSelectorsResponder(to_wire(&narrowed.local)));
    if mode == Mode::Transport {
        payloads.push(flag(NotifyType::USE_TRANSPORT_MODE));
    }
    if narrowed.more_possible {
        payloads.push(flag(NotifyType::ADDITIONAL_TS_POSSIBLE));
    }
    payloads
}
