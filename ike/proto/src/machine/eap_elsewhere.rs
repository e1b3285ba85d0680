//! The responder's IKE_AUTH with EAP that is judged elsewhere (RFC 7296 section 2.16, RFC 3579): an answer to the user
//! waits for one of the judge, and nothing else does.

use super::auth_answer::{self, Half};
use super::core::Cx;
use super::eap_answered::{EapAnswered, Judge, NO_IV, introduce_by_key, request};
use super::message::Message;
use super::session::Granted;
use super::tunnel::Tunnel;
use super::up::Peers;
use crate::eap::{Msk, Opening, Relay};
use crate::host::{Grant, Judgement, Output, Question, QuestionId, Thread};
use crate::identity::Identity;
use crate::wire::Payload;

/// A conversation that is judged elsewhere.
pub(super) struct Elsewhere {
    relay: Relay,
    /// What the session is to be called (RFC 2866 section 5.5).
    session: String,
    thread: Option<Thread>,
    waits: Option<Waits>,
    /// What was judged while there was no IV to tell it.
    kept: Option<(QuestionId, Judgement)>,
    /// What the user is granted, once it is accepted.
    grant: Option<Box<Grant>>,
}

/// A request of the peer's whose answer waits for the judge.
struct Waits {
    question: QuestionId,
    message_id: u32,
    /// What goes before EAP in the answer.
    payloads: Vec<Payload>,
}

impl Elsewhere {
    /// Why the peer may have ended the conversation by other means than a packet.
    pub(super) fn given_up(&self) -> String {
        self.of_user("the peer gave up; look at its log, and at that of the RADIUS server")
    }

    fn of_user(&self, problem: &str) -> String {
        let user = self.relay.user();
        user.map_or_else(|| problem.to_owned(), |user| format!("user \"{user}\": {problem}"))
    }

    /// Of the user, to be taken with its tunnel.
    pub(super) fn granted(&mut self) -> Option<Granted> {
        let grant = self.grant.take()?;
        let user = self.relay.user().map(Identity::to_eap).unwrap_or_default();
        Some(Granted { grant, session: self.session.clone(), told: user })
    }
}

/// Answers the first request of IKE_AUTH, or lets it wait.
pub(super) fn begin(cx: &mut Cx, half: Half, (message_id, first): (u32, Message), peers: Peers) -> Tunnel {
    let (our_id, payloads) = match introduce_by_key(cx, &half, &peers) {
        Ok(introduced) => introduced,
        Err(problem) => return auth_answer::reject(cx, half, request(message_id), problem),
    };
    let remote = half.head.connection.remote.clone();
    let (relay, opening) = cx.with_means(|means| Relay::begin(means, &remote, &peers.remote));
    let session = format!("{:08x}-{:016x}", half.head.number, u64::from_be_bytes(cx.random()));
    let elsewhere = Elsewhere { relay, session, thread: None, waits: None, kept: None, grant: None };
    let mut state = EapAnswered::new(half, Judge::Elsewhere(Box::new(elsewhere)), (first, peers, our_id));
    match opening {
        Opening::Ask(packet) => {
            let payloads: Vec<_> = payloads.into_iter().chain([Payload::Eap(packet)]).collect();
            state.respond(cx, message_id, &payloads);
        }
        Opening::Tell(packet) => state.ask(cx, message_id, payloads, packet),
    }
    Tunnel::EapAnswered(Box::new(state))
}

impl EapAnswered {
    /// What a judge elsewhere works on.
    fn elsewhere(&mut self) -> Option<&mut Elsewhere> {
        match &mut self.judge {
            Judge::Elsewhere(elsewhere) => Some(elsewhere),
            Judge::Here(_) => None,
        }
    }

    /// Asks the judge; the request of that Message ID waits.
    fn ask(&mut self, cx: &mut Cx, message_id: u32, payloads: Vec<Payload>, eap: Vec<u8>) {
        // A conversation has fewer Message IDs than that.
        let id = QuestionId(cx.id << 8 | u64::from(message_id & 0xff));
        let head = &self.half.head;
        let (tunnel, connection, path) = (head.name(), head.connection.name.clone(), head.path);
        let Some(elsewhere) = self.elsewhere() else { return };
        elsewhere.waits = Some(Waits { question: id, message_id, payloads });
        let user = elsewhere.relay.user().map(Identity::to_eap).unwrap_or_default();
        let (session, thread) = (elsewhere.session.clone(), elsewhere.thread.take());
        cx.core.counters.users_asked_about += 1;
        cx.then(Output::Ask(Box::new(Question { id, tunnel, connection, user, path, session, eap, thread })));
    }

    /// A packet of the peer's.
    pub(super) fn pass_on(mut self: Box<Self>, cx: &mut Cx, message_id: u32, packet: &[u8]) -> Tunnel {
        let remote = self.half.head.connection.remote.clone();
        let Some(elsewhere) = self.elsewhere() else { return Tunnel::EapAnswered(self) };
        let packet = if elsewhere.waits.is_some() {
            Err("the peer goes on before it is answered".to_owned())
        } else {
            elsewhere.relay.from_peer(&remote, packet)
        };
        match packet {
            Ok(packet) => {
                self.ask(cx, message_id, Vec::new(), packet);
                Tunnel::EapAnswered(self)
            }
            Err(problem) => self.refuse_user(cx, message_id, None, &problem),
        }
    }

    /// What the judge says. Of a question that nobody waits for any more it means nothing.
    pub(super) fn on_judgement(
        mut self: Box<Self>,
        cx: &mut Cx,
        question: QuestionId,
        judgement: Judgement,
    ) -> Tunnel {
        let can_seal = self.half.sa.can_seal(cx);
        let now = cx.now.monotonic;
        let Some(elsewhere) = self.elsewhere() else { return Tunnel::EapAnswered(self) };
        if elsewhere.waits.as_ref().is_none_or(|waits| waits.question != question) {
            return Tunnel::EapAnswered(self);
        }
        if !can_seal {
            elsewhere.kept = Some((question, judgement));
            self.again = Some(now.saturating_add(NO_IV));
            return Tunnel::EapAnswered(self);
        }
        let Some(waits) = elsewhere.waits.take() else { return Tunnel::EapAnswered(self) };
        self.conclude(cx, waits, judgement)
    }

    /// Tries again to tell what was judged while there was no IV.
    pub(super) fn tell_kept(mut self: Box<Self>, cx: &mut Cx) -> Tunnel {
        self.again = None;
        match self.elsewhere().and_then(|elsewhere| elsewhere.kept.take()) {
            Some((question, judgement)) => self.on_judgement(cx, question, judgement),
            None => Tunnel::EapAnswered(self),
        }
    }

    fn conclude(mut self: Box<Self>, cx: &mut Cx, waits: Waits, judgement: Judgement) -> Tunnel {
        let message_id = waits.message_id;
        match judgement {
            Judgement::Continue { eap, thread } => self.go_on(cx, waits, &eap, thread),
            Judgement::Accept(grant) => match self.accept_user(&grant) {
                Ok(packet) => self.tell(cx, waits, packet),
                Err(problem) => self.refuse_user(cx, message_id, None, &problem),
            },
            Judgement::Reject { eap, problem } => self.refuse_user(cx, message_id, eap.as_deref(), &problem),
            Judgement::Unknown(problem) => self.refuse_user(cx, message_id, None, &problem),
        }
    }

    fn go_on(mut self: Box<Self>, cx: &mut Cx, waits: Waits, eap: &[u8], thread: Thread) -> Tunnel {
        let Some(elsewhere) = self.elsewhere() else { return Tunnel::EapAnswered(self) };
        elsewhere.thread = Some(thread);
        match elsewhere.relay.from_judge(eap) {
            Ok(packet) => self.tell(cx, waits, packet),
            Err(problem) => self.refuse_user(cx, waits.message_id, None, &problem),
        }
    }

    fn tell(mut self: Box<Self>, cx: &mut Cx, waits: Waits, packet: Vec<u8>) -> Tunnel {
        let payloads: Vec<_> = waits.payloads.into_iter().chain([Payload::Eap(packet)]).collect();
        self.respond(cx, waits.message_id, &payloads);
        Tunnel::EapAnswered(self)
    }

    /// The user is accepted: what tells it so.
    fn accept_user(&mut self, grant: &Grant) -> Result<Vec<u8>, String> {
        let remote = self.half.head.connection.remote.clone();
        let Some(elsewhere) = self.elsewhere() else { return Err("nobody was asked".to_owned()) };
        if Relay::contradicts(grant.eap.as_deref()) {
            return Err(
                "the RADIUS server accepts the user and tells it otherwise; look at its log".to_owned()
            );
        }
        let wrong = "the RADIUS server's keys (MS-MPPE) are neither of 32 octets each nor of 16";
        let key = grant.key.as_ref().map(|key| Msk::of_halves(key).ok_or(wrong)).transpose()?;
        let user = elsewhere.relay.proved(&remote, grant.user.as_deref())?;
        let packet = elsewhere.relay.verdict(true, grant.eap.as_deref());
        elsewhere.grant = Some(Box::new(Grant { key: None, ..grant.clone() }));
        self.proved = Some((user, key));
        Ok(packet)
    }

    /// The user does not come in. In the first answer nothing of EAP stands, and an error says the same.
    fn refuse_user(
        mut self: Box<Self>,
        cx: &mut Cx,
        message_id: u32,
        eap: Option<&[u8]>,
        problem: &str,
    ) -> Tunnel {
        let Some(elsewhere) = self.elsewhere() else { return Tunnel::EapAnswered(self) };
        let packet = elsewhere.relay.verdict(false, eap);
        cx.core.counters.authentication_failed += 1;
        let problem = elsewhere.of_user(problem);
        auth_answer::refuse(cx, self.half, request(message_id), Payload::Eap(packet), problem)
    }
}
