//! Who judges users elsewhere: slowly, or not at all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use baton_ike_proto::auth::Credentials;
use baton_ike_proto::configuration::{EapMethod, RemoteAuthentication, RemoteMethod, Revocation};
use baton_ike_proto::eap::{Means, Server, Turn};
use baton_ike_proto::host::{Grant, Judgement, Question, QuestionId, Thread};
use baton_ike_proto::identity::Identity;

use crate::random::Random;

pub struct Judge {
    random: Random,
    credentials: Arc<Credentials>,
    /// By session.
    conversations: BTreeMap<String, Server>,
    /// What is to be said when.
    judgements: VecDeque<(Duration, QuestionId, Judgement)>,
    pub is_healthy: bool,
    grant: Grant,
}

impl Judge {
    pub fn new(mut random: Random, credentials: Arc<Credentials>) -> Self {
        let after = |random: &mut Random| Duration::from_secs(100 + random.below(300));
        let grant = Grant {
            session_timeout: random.per_mille(300).then(|| after(&mut random)),
            interim_interval: random.per_mille(500).then(|| Duration::from_mins(1)),
            ..Grant::default()
        };
        let (conversations, judgements) = (BTreeMap::new(), VecDeque::new());
        Self { random, credentials, conversations, judgements, is_healthy: false, grant }
    }

    /// Now and then it does not know, or says nothing.
    pub fn ask(&mut self, now: Duration, question: &Question) {
        let after = Duration::from_millis(self.random.below(if self.is_healthy { 200 } else { 3000 }));
        let judgement = match self.random.below(if self.is_healthy { 1 } else { 30 }) {
            29 => return,
            28 => Judgement::Unknown("the server is away".to_owned()),
            _ => self.judge(question),
        };
        self.judgements.push_back((now + after, question.id, judgement));
    }

    /// Of a process that is no more.
    pub fn forget(&mut self) {
        self.judgements.clear();
    }

    pub fn next(&self) -> Option<Duration> {
        self.judgements.iter().map(|(at, ..)| *at).min()
    }

    pub fn due(&mut self, now: Duration) -> Option<(QuestionId, Judgement)> {
        let at = self.judgements.iter().position(|(at, ..)| *at <= now)?;
        self.judgements.remove(at).map(|(_, id, judgement)| (id, judgement))
    }

    fn judge(&mut self, question: &Question) -> Judgement {
        let thread = Thread { server: "judge".to_owned(), state: None };
        let mut random = |octets: &mut [u8]| self.random.fill(octets);
        let mut means = Means { credentials: &self.credentials, random: &mut random, unix: Duration::ZERO };
        let Some(server) = self.conversations.get_mut(&question.session) else {
            let remote = asked(&question.user);
            let ours = (Identity::Fqdn("judge.example".to_owned()), &[][..]);
            let begun = Server::begin(&mut means, EapMethod::MsChapV2, ours, remote, Identity::Any);
            let (server, eap) = begun.expect("a conversation");
            self.conversations.insert(question.session.clone(), server);
            return Judgement::Continue { eap, thread };
        };
        match server.handle(&mut means, &question.eap) {
            Turn::Ask(eap) | Turn::AskLater(eap) => Judgement::Continue { eap, thread },
            Turn::Success { packet, key, .. } => {
                let key = key.map(|key| key.octets().to_vec().into());
                Judgement::Accept(Box::new(Grant { eap: Some(packet), key, ..self.grant.clone() }))
            }
            Turn::Failure { packet, problem } => Judgement::Reject { eap: Some(packet), problem },
        }
    }
}

fn asked(user: &[u8]) -> RemoteAuthentication {
    RemoteAuthentication {
        method: RemoteMethod::Eap(EapMethod::MsChapV2),
        identity: Identity::Any,
        authorities: vec![],
        certificates: vec![],
        revocation: Revocation::default(),
        eap_identity: Some(Identity::from_eap(user).expect("a user")),
    }
}
