//! CREATE_CHILD_SA for an IKE SA in the place of another one (RFC 7296 sections 1.3.2, 2.8, 2.8.2, 2.18, 2.25.2).

use std::time::Duration;

use super::algorithms::algorithms;
use super::auth_sent::window_size;
use super::child_rekey::lowest;
use super::core::Cx;
use super::ike_sa::{Fate, IkeSa};
use super::init_sent::{key_exchange, offers_group, preferred_group};
use super::message::{Message, flag, notify};
use super::pending::Pending;
use super::tasks::Task;
use super::unfinished::{Unfinished, What};
use super::up::Up;
use super::window::Window;
use crate::crypto::{AdditionalSecrets, Group, IkeSuite, KeyShare, Role};
use crate::host::Event;
use crate::proposal::{Selected, accept_ike, offer_ike, select_ike};
use crate::wire::{ExchangeType, NotifyType, Payload, Proposal};

/// For how long the initiator of a rekeying may take to delete the old IKE SA; then we do.
const DELETE_TIME: Duration = Duration::from_secs(30);
/// Answers that ask for another group, before the rekeying is given up.
const MAX_DETOURS: u32 = 2;
/// IKE SAs of one tunnel: the one in use, candidates, and those on their way out. A peer that rekeys without deleting
/// waits until old ones are gone.
const MAX_IKE_SAS: usize = 8;

/// Our request to rekey the IKE SA.
pub(super) struct IkeRekeying {
    pub(super) spi: u64,
    pub(super) nonce: Vec<u8>,
    pub(super) share: KeyShare,
    pub(super) detours: u32,
    /// The IKE SA that the peer's request has made meanwhile.
    pub(super) rival: Option<IkeRival>,
    /// Of its additional key exchanges.
    pub(super) additional: AdditionalSecrets,
}

/// What the peer's simultaneous request has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IkeRival {
    /// Our SPI.
    pub(super) spi: u64,
    /// The lower one of its exchange's nonces.
    pub(super) lowest: Vec<u8>,
}

impl Up {
    /// Asks for it.
    pub(super) fn ask_ike_rekey(&mut self, cx: &mut Cx) {
        let group = preferred_group(&self.head.connection);
        let rekeying = IkeRekeying {
            spi: cx.ike_spi(self.head.segment()),
            nonce: cx.nonce(),
            share: KeyShare::generate(group, &mut |octets| cx.host.random(octets)),
            detours: 0,
            rival: None,
            additional: AdditionalSecrets::default(),
        };
        self.send_ike_rekey(cx, rekeying);
    }

    fn send_ike_rekey(&mut self, cx: &mut Cx, rekeying: IkeRekeying) {
        let offer = offer_ike(&self.head.connection.ike_proposals, &rekeying.spi.to_be_bytes());
        let payloads = [
            Payload::SecurityAssociation(offer),
            Payload::Nonce(rekeying.nonce.clone()),
            key_exchange(&rekeying.share),
        ];
        if !self.ask(cx, ExchangeType::CREATE_CHILD_SA, &payloads, Pending::RekeyIke(Box::new(rekeying))) {
            self.tasks.add(Task::RekeyIke);
        }
    }

    /// The answer.
    pub(super) fn on_ike_rekeyed(
        &mut self,
        cx: &mut Cx,
        at: usize,
        mut rekeying: IkeRekeying,
        message: &Message,
    ) {
        // The peer may have deleted it already, because it has lost.
        rekeying.rival = rekeying.rival.take().filter(|rival| self.is_undecided(rival.spi));
        match self.made_by_answer(at, &rekeying, message) {
            Ok((sa, ours)) => match &rekeying.rival {
                Some(rival) if ours < rival.lowest => self.lose_ike(cx, sa, rival.spi),
                _ => self.replace_ike(cx, at, sa),
            },
            Err(kind) => self.on_ike_rekey_refused(cx, rekeying, kind, message),
        }
    }

    fn is_undecided(&self, spi: u64) -> bool {
        self.sas.iter().any(|sa| sa.our_spi() == spi && sa.fate == Fate::Undecided)
    }

    /// The new IKE SA, and the lower nonce of the exchange; or what is wrong.
    fn made_by_answer(
        &self,
        at: usize,
        rekeying: &IkeRekeying,
        message: &Message,
    ) -> Result<(IkeSa, Vec<u8>), NotifyType> {
        if let Some(error) = message.error() {
            return Err(error.kind);
        }
        let Message {
            proposals: Some(proposals),
            key_exchange: Some((group, public)),
            nonce: Some(nonce),
            ..
        } = message
        else {
            return Err(NotifyType::INVALID_SYNTAX);
        };
        let suite = accept_ike(&self.head.connection.ike_proposals, proposals)
            .map_err(|_| NotifyType::NO_PROPOSAL_CHOSEN)?;
        let peer = proposals.first().and_then(ike_spi).ok_or(NotifyType::INVALID_SYNTAX)?;
        if suite.group != rekeying.share.group() || *group != suite.group.id() {
            return Err(NotifyType::INVALID_SYNTAX);
        }
        let shared = rekeying.share.agree(public).map_err(|_| NotifyType::INVALID_SYNTAX)?;
        let spis = (rekeying.spi, peer);
        let secrets = (&shared, &rekeying.additional);
        let keys = self.sas[at].keys.rekey_additionally(suite, secrets, (&rekeying.nonce, nonce), spis);
        let mut sa = self.next_sa(at, Role::Initiator, spis, keys);
        sa.take_token(message);
        Ok((sa, lowest(&rekeying.nonce, nonce)))
    }

    /// A new IKE SA, with what was negotiated for the old one. Message IDs begin anew (RFC 7296 section 2.2), and so
    /// do windows (section 2.8).
    pub(super) fn next_sa(
        &self,
        at: usize,
        role: Role,
        spis: (u64, u64),
        keys: crate::crypto::IkeKeys,
    ) -> IkeSa {
        let mut sa = IkeSa::new(role, spis, keys, Window::new(0, 0));
        sa.peer_reassembles = self.sas[at].peer_reassembles;
        sa
    }

    /// Ours takes the old one's place, which is deleted by us; and a rival's, which is deleted by the peer.
    fn replace_ike(&mut self, cx: &mut Cx, at: usize, sa: IkeSa) {
        self.sas[at].fate = Fate::Doomed;
        let until = cx.now.monotonic + DELETE_TIME;
        for rival in self.sas.iter_mut().filter(|sa| sa.fate == Fate::Undecided) {
            rival.fate = Fate::AwaitsDelete(until);
        }
        self.use_sa(cx, sa);
    }

    /// The rival stays; ours is deleted by us, the old one by the peer.
    fn lose_ike(&mut self, cx: &mut Cx, mut sa: IkeSa, rival: u64) {
        sa.fate = Fate::Doomed;
        self.sas.push(sa);
        self.use_rival(cx, rival);
    }

    /// The IKE SA that the peer's request has made takes the place of the present one, which the peer deletes.
    fn use_rival(&mut self, cx: &mut Cx, spi: u64) {
        let Some(at) = self.sas.iter().position(|sa| sa.our_spi() == spi) else { return };
        let mut sa = self.sas.remove(at);
        sa.fate = Fate::Lives;
        if self.sas[0].fate == Fate::Lives {
            self.sas[0].fate = Fate::AwaitsDelete(cx.now.monotonic + DELETE_TIME);
        }
        self.use_sa(cx, sa);
    }

    /// From now on it is used for what we ask; all Child SAs are its (RFC 7296 section 2.8).
    fn use_sa(&mut self, cx: &mut Cx, sa: IkeSa) {
        let spis = (sa.initiator_spi, sa.responder_spi);
        self.ask_counters_again();
        self.sas.insert(0, sa);
        self.start_lifetime(cx);
        self.tasks.remove(&Task::RekeyIke);
        self.tasks.succeeded();
        self.renew_ticket(cx);
        let tells_token = cx.core.configuration.crash_detection;
        if tells_token || window_size(self.head.connection.window).is_some() {
            self.tasks.add(Task::AnnounceWindow);
        }
        if self.ending.is_some() {
            self.sas[0].fate = Fate::Doomed;
        }
        cx.core.counters.ike_rekeyed += 1;
        cx.event(Event::IkeRekeyed { tunnel: self.head.name(), spis });
    }

    fn on_ike_rekey_refused(
        &mut self,
        cx: &mut Cx,
        rekeying: IkeRekeying,
        kind: NotifyType,
        message: &Message,
    ) {
        match (kind, &rekeying.rival) {
            // The peer had begun before it saw ours (RFC 7296 section 2.25.2).
            (_, Some(rival)) => self.use_rival(cx, rival.spi),
            (NotifyType::INVALID_KE_PAYLOAD, None) => self.rekey_ike_with_group(cx, rekeying, message),
            (NotifyType::TEMPORARY_FAILURE, None) => self.retry(cx, Task::RekeyIke),
            _ => self.ike_rekey_failed(cx, kind),
        }
    }

    fn ike_rekey_failed(&mut self, cx: &mut Cx, kind: NotifyType) {
        let (peer, name) = (self.head.peer(), &self.head.connection.name);
        let problem = format!(
            "peer {peer} refuses to rekey the IKE SA: {kind}; compare the proposals of connection {name} with its"
        );
        self.head.failed(cx, problem);
    }

    fn rekey_ike_with_group(&mut self, cx: &mut Cx, rekeying: IkeRekeying, message: &Message) {
        let wanted = wanted_group(message).filter(|group| offers_group(&self.head.connection, *group));
        let is_new =
            wanted.filter(|group| *group != rekeying.share.group() && rekeying.detours < MAX_DETOURS);
        let Some(group) = is_new else { return self.ike_rekey_failed(cx, NotifyType::INVALID_KE_PAYLOAD) };
        let share = KeyShare::generate(group, &mut |octets| cx.host.random(octets));
        let (nonce, detours) = (cx.nonce(), rekeying.detours + 1);
        self.send_ike_rekey(cx, IkeRekeying { nonce, share, detours, ..rekeying });
    }

    /// The peer asks for it.
    pub(super) fn answer_ike_rekey(&mut self, cx: &mut Cx, at: usize, message: &Message) -> Vec<Payload> {
        if !self.may_rekey_ike(at) {
            return vec![flag(NotifyType::TEMPORARY_FAILURE)];
        }
        let Message { proposals: Some(offered), key_exchange: Some(public), nonce: Some(nonce), .. } =
            message
        else {
            return vec![flag(NotifyType::INVALID_SYNTAX)];
        };
        let Some(selected) = select_ike(&self.head.connection.ike_proposals, offered) else {
            return vec![self.no_ike_proposal(cx, offered)];
        };
        let group = selected.suite.group.id();
        if public.0 != group {
            return vec![notify(NotifyType::INVALID_KE_PAYLOAD, group.to_be_bytes())];
        }
        match self.grant_ike(cx, at, (offered, selected), (&public.1, nonce)) {
            Ok(payloads) => payloads.into_iter().chain(self.promise_ticket(message)).collect(),
            Err(kind) => vec![flag(kind)],
        }
    }

    /// Whether the peer may have another IKE SA in the place of this one now (RFC 7296 section 2.25.2).
    pub(super) fn may_rekey_ike(&self, at: usize) -> bool {
        let is_busy = self.sas[at].pending.iter().any(|(_, pending)| pending.is_about_children());
        let present = self.sas.iter().filter(|sa| !matches!(sa.fate, Fate::Gone(_))).count();
        self.sas[at].fate == Fate::Lives && !is_busy && present < MAX_IKE_SAS
    }

    fn no_ike_proposal(&self, cx: &mut Cx, offered: &[Proposal]) -> Payload {
        let (peer, name) = (self.head.peer(), &self.head.connection.name);
        let offered = algorithms(offered);
        let problem = format!(
            "peer {peer} wants to rekey with none of our IKE proposals: it offers {offered}; add one to connection {name}'s proposals"
        );
        self.head.failed(cx, problem);
        flag(NotifyType::NO_PROPOSAL_CHOSEN)
    }

    fn grant_ike(
        &mut self,
        cx: &mut Cx,
        at: usize,
        (offered, selected): (&[Proposal], Selected<IkeSuite>),
        (public, nonce): (&[u8], &[u8]),
    ) -> Result<Vec<Payload>, NotifyType> {
        let Selected { suite, mut proposal } = selected;
        let peer = offered.iter().find(|offer| offer.number == proposal.number).and_then(ike_spi);
        let peer = peer.filter(|spi| *spi != 0).ok_or(NotifyType::INVALID_SYNTAX)?;
        let share = KeyShare::generate(suite.group, &mut |octets| cx.host.random(octets));
        let shared = share.agree(public).map_err(|_| NotifyType::INVALID_SYNTAX)?;
        let spis = (peer, cx.ike_spi(self.head.segment()));
        let our_nonce = cx.nonce();
        proposal.spi = spis.1.to_be_bytes().to_vec();
        let what = What::Ike(suite, spis);
        let unfinished = Unfinished::new(what, Some(shared), (nonce, &our_nonce));
        let payloads = vec![
            Payload::SecurityAssociation(vec![proposal]),
            Payload::Nonce(our_nonce),
            key_exchange(&share),
        ];
        Ok(self.advance(cx, at, unfinished, payloads))
    }

    /// If we have asked for the same, which one stays is decided by our answer; otherwise the new one is used.
    pub(super) fn add_ike_replacement(&mut self, cx: &mut Cx, at: usize, mut sa: IkeSa, rival: IkeRival) {
        let mut pending = self.sas[at].pending.iter_mut();
        let ours = pending.find_map(|(_, pending)| pending.ike_rekeying());
        if let Some(ours) = ours {
            ours.rival = Some(rival);
            sa.fate = Fate::Undecided;
            cx.core.counters.collisions += 1;
            self.sas.push(sa);
        } else {
            self.sas[at].fate = Fate::AwaitsDelete(cx.now.monotonic + DELETE_TIME);
            self.use_sa(cx, sa);
        }
    }

    /// The IKE SA that is used is deleted by the peer. If one is there that the peer has made in its place, that one
    /// is used from now on, and our own request is forgotten (RFC 7296 section 2.25.2).
    pub(super) fn succeed(&mut self, cx: &mut Cx) -> bool {
        let Some(rival) = self.sas.iter().find(|sa| sa.fate == Fate::Undecided).map(IkeSa::our_spi) else {
            return false;
        };
        self.ask_counters_again();
        self.sas[0].pending.clear();
        self.use_rival(cx, rival);
        true
    }
}

impl Pending {
    fn ike_rekeying(&mut self) -> Option<&mut IkeRekeying> {
        match self.about_mut() {
            Self::RekeyIke(rekeying) => Some(rekeying),
            _ => None,
        }
    }

    /// Our SPI of the IKE SA that is asked for.
    pub(super) fn ike_spi(&self) -> Option<u64> {
        match self.about() {
            Self::RekeyIke(rekeying) => Some(rekeying.spi),
            _ => None,
        }
    }

    pub(super) fn is_ike_rekeying(&self) -> bool {
        matches!(self.about(), Self::RekeyIke(_))
    }

    /// Whether Child SAs are being made, rekeyed or deleted.
    pub(super) fn is_about_children(&self) -> bool {
        matches!(self.about(), Self::NewChild(_) | Self::RekeyChild(_) | Self::DeleteChildren(_))
    }
}

/// The SPI of a proposal for an IKE SA.
fn ike_spi(proposal: &Proposal) -> Option<u64> {
    Some(u64::from_be_bytes(proposal.spi.as_slice().try_into().ok()?)).filter(|spi| *spi != 0)
}

/// The group that INVALID_KE_PAYLOAD asks for (RFC 7296 section 1.3).
pub(super) fn wanted_group(message: &Message) -> Option<Group> {
    let data = &message.notify(NotifyType::INVALID_KE_PAYLOAD)?.data;
    Group::from_id(u16::from_be_bytes(data.as_slice().try_into().ok()?))
}
