//! The states of a tunnel. Each is consumed by what happens to it and gives the next one, or none.

use std::time::Duration;

use super::auth_sent::AuthSent;
use super::claims::Claims;
use super::core::Cx;
use super::dormant::Dormant;
use super::eap_answered::EapAnswered;
use super::head::Head;
use super::init_answered::InitAnswered;
use super::init_sent::InitSent;
use super::intermediate::IntermediateSent;
use super::lingering::Lingering;
use super::resumption::ResumeSent;
use super::up::Up;
use super::waiting::Waiting;
use crate::host::{Judgement, Path, QuestionId};
use crate::wire::Datagram;

/// A tunnel, or what may become or was one.
pub(super) enum Tunnel {
    /// Initiator: between two attempts.
    Waiting(Box<Waiting>),
    /// Initiator: IKE_SA_INIT is outstanding.
    InitSent(Box<InitSent>),
    /// Initiator: IKE_SESSION_RESUME is outstanding.
    ResumeSent(Box<ResumeSent>),
    /// Initiator: IKE_INTERMEDIATE is outstanding.
    IntermediateSent(Box<IntermediateSent>),
    /// Initiator: IKE_AUTH is outstanding.
    AuthSent(Box<AuthSent>),
    /// Responder: IKE_SA_INIT was answered.
    InitAnswered(Box<InitAnswered>),
    /// Responder: a user is being asked for its proof.
    EapAnswered(Box<EapAnswered>),
    /// It stands.
    Up(Box<Up>),
    /// It stands, and another node acts for it.
    Dormant(Box<Dormant>),
    /// It is over.
    Lingering(Box<Lingering>),
}

impl Tunnel {
    /// A sealed message for one of its IKE SAs.
    pub(super) fn on_sealed(self, cx: &mut Cx, path: Path, datagram: &Datagram) -> Option<Self> {
        match self {
            Self::IntermediateSent(mut state) => match state.sa.receive(cx, path, datagram) {
                Some(opened) => state.on_message(cx, &opened),
                None => Some(Self::IntermediateSent(state)),
            },
            Self::AuthSent(mut state) => match state.sa.receive(cx, path, datagram) {
                Some(opened) => state.on_message(cx, opened),
                None => Some(Self::AuthSent(state)),
            },
            Self::InitAnswered(state) => state.on_sealed(cx, path, datagram),
            Self::EapAnswered(state) => Some(state.on_sealed(cx, path, datagram)),
            Self::Up(state) => state.on_sealed(cx, path, datagram),
            Self::Lingering(state) => Some(state.on_sealed(cx, path, datagram)),
            state @ (Self::Waiting(_) | Self::InitSent(_) | Self::ResumeSent(_) | Self::Dormant(_)) => {
                Some(state)
            }
        }
    }

    /// An authenticator elsewhere has judged a user.
    pub(super) fn on_judgement(self, cx: &mut Cx, question: QuestionId, judgement: Judgement) -> Self {
        match self {
            Self::EapAnswered(state) => state.on_judgement(cx, question, judgement),
            state => state,
        }
    }

    /// Something is due.
    pub(super) fn on_timeout(self, cx: &mut Cx) -> Option<Self> {
        match self {
            Self::Waiting(state) => Some(state.on_timeout(cx)),
            Self::InitSent(state) => state.on_timeout(cx),
            Self::ResumeSent(state) => Some(state.on_timeout(cx)),
            Self::IntermediateSent(state) => state.on_timeout(cx),
            Self::AuthSent(state) => state.on_timeout(cx),
            // Nobody has authenticated in time: it is forgotten (RFC 7296 section 2.6).
            Self::InitAnswered(_) => {
                cx.core.counters.ike_failed += 1;
                None
            }
            Self::EapAnswered(state) => state.on_timeout(cx),
            Self::Up(state) => state.on_timeout(cx),
            Self::Dormant(_) => Some(self),
            Self::Lingering(_) => None,
        }
    }

    /// When something is due (monotonic).
    pub(super) fn due(&self, now: Duration) -> Option<Duration> {
        match self {
            Self::Waiting(state) => Some(state.until),
            Self::InitSent(state) => Some(state.due),
            Self::ResumeSent(state) => Some(state.due),
            Self::IntermediateSent(state) => Some(state.sa.only_due(now)),
            Self::AuthSent(state) => Some(state.sa.only_due(now)),
            Self::InitAnswered(state) => Some(state.deadline),
            Self::EapAnswered(state) => Some(state.due()),
            Self::Up(state) => state.due(now),
            Self::Dormant(_) => None,
            Self::Lingering(state) => Some(state.until),
        }
    }

    pub(super) fn head(&self) -> &Head {
        match self {
            Self::Waiting(state) => &state.head,
            Self::InitSent(state) => &state.head,
            Self::ResumeSent(state) => &state.head,
            Self::IntermediateSent(state) => &state.head,
            Self::AuthSent(state) => &state.head,
            Self::InitAnswered(state) => &state.head,
            Self::EapAnswered(state) => &state.half.head,
            Self::Up(state) => &state.head,
            Self::Dormant(state) => &state.head,
            Self::Lingering(state) => &state.head,
        }
    }

    /// The names by which it is found.
    pub(super) fn claims(&self) -> Claims {
        let number = Some(self.head().number);
        let connection = self.is_alive().then(|| self.head().connection.name.clone());
        let own = Claims { number, connection, ..Claims::default() };
        match self {
            Self::Waiting(_) => own,
            Self::InitSent(state) => Claims { ike_spis: vec![state.spi], ..own },
            Self::ResumeSent(state) => Claims { ike_spis: vec![state.spi], ..own },
            Self::IntermediateSent(state) => Claims { ike_spis: vec![state.sa.our_spi()], ..own },
            Self::AuthSent(state) => {
                let (esp_spis, reqids) = state.offer.iter().map(|offer| (offer.spi, offer.reqid)).unzip();
                Claims { ike_spis: vec![state.sa.our_spi()], esp_spis, reqids, ..own }
            }
            Self::InitAnswered(state) => {
                Claims { ike_spis: vec![state.spis.1], half_open: Some(state.half_open()), ..own }
            }
            Self::EapAnswered(state) => {
                let (ike_spis, half_open) = (vec![state.half.sa.our_spi()], Some(state.half.origin));
                Claims { ike_spis, half_open, ..own }
            }
            Self::Up(state) => Claims { connection: own.connection, ..state.claims() },
            Self::Dormant(state) => state.claims.clone(),
            Self::Lingering(state) => {
                let (ike_spis, half_open) = (vec![state.sa.our_spi()], state.half_open);
                Claims { ike_spis, half_open, ..Claims::default() }
            }
        }
    }
}
