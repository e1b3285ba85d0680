//! The user: who answers.

use super::packet::{Code, MAX_IDENTITY, Packet, Type, response};
use super::{Means, Msk, kind, mschapv2, tls};
use crate::auth::{Expected, Secret};
use crate::configuration::{EapMethod, EapUser, RemoteAuthentication};
use crate::identity::Identity;

/// What follows a packet of the authenticator.
#[derive(Debug)]
pub enum Reply {
    /// The answer.
    Answer(Vec<u8>),
    /// The authenticator accepts us; the key that both ends have now, if the method gives one.
    Success(Option<Msk>),
    /// It does not.
    Failure(String),
    /// We do not accept it: it does not know what it should, or does not speak as it should.
    Refusal(String),
}

/// A method and its state.
#[derive(Debug)]
enum Running {
    /// None was asked for.
    Nothing,
    MsChapV2(mschapv2::Peer),
    Tls(Box<tls::Peer>),
}

/// The user's end of a conversation.
#[derive(Debug)]
pub struct Peer {
    user: EapUser,
    /// As whom.
    identity: Identity,
    /// Who the authenticator is, and whose word is taken for that.
    server: Identity,
    remote: RemoteAuthentication,
    running: Running,
}

impl Peer {
    /// Nothing was asked yet. `identity` is ours in IKE, `server` that of whom we speak with.
    pub fn new(user: EapUser, identity: &Identity, server: Identity, remote: RemoteAuthentication) -> Self {
        let identity = user.identity.as_ref().unwrap_or(identity).clone();
        let server = user.server.clone().unwrap_or(server);
        Self { user, identity, server, remote, running: Running::Nothing }
    }

    /// Works on a packet of the authenticator.
    pub fn handle(&mut self, means: &mut Means, octets: &[u8]) -> Reply {
        match Packet::parse(octets) {
            Ok(Packet { code: Code::Request, identifier, content: Some((kind, data)) }) => {
                match self.answer(means, identifier, kind, data) {
                    Ok(answer) => Reply::Answer(answer),
                    Err(problem) => Reply::Refusal(problem),
                }
            }
            Ok(Packet { code: Code::Success, .. }) => self.finish(),
            Ok(Packet { code: Code::Failure, .. }) => Reply::Failure(self.problem()),
            Ok(_) => Reply::Refusal("the peer answers what we did not ask by EAP".to_owned()),
            Err(malformed) => Reply::Refusal(malformed.to_string()),
        }
    }

    fn answer(
        &mut self,
        means: &mut Means,
        identifier: u8,
        asked: Type,
        data: &[u8],
    ) -> Result<Vec<u8>, String> {
        let ours = kind(self.user.method);
        match asked {
            Type::IDENTITY => Ok(response(identifier, asked, &self.name())),
            Type::NOTIFICATION => Ok(response(identifier, asked, &[])),
            asked if asked == ours => Ok(response(identifier, ours, &self.on_method(means, data)?)),
            // RFC 3748 section 5.3.1: only until a method was agreed.
            _ if matches!(self.running, Running::Nothing) => Ok(response(identifier, Type::NAK, &[ours.0])),
            asked => Err(format!("the peer changes to EAP method {} half-way", asked.0)),
        }
    }

    fn name(&self) -> Vec<u8> {
        let mut name = self.identity.to_eap();
        name.truncate(MAX_IDENTITY);
        name
    }

    fn on_method(&mut self, means: &mut Means, data: &[u8]) -> Result<Vec<u8>, String> {
        if matches!(self.running, Running::Nothing) {
            self.running = self.start_method(means)?;
        }
        match &mut self.running {
            Running::Nothing => Err("no method is agreed".to_owned()),
            Running::MsChapV2(peer) => peer.handle(data, means.random),
            Running::Tls(peer) => peer.handle(data),
        }
    }

    fn start_method(&self, means: &Means) -> Result<Running, String> {
        match self.user.method {
            EapMethod::MsChapV2 => {
                let password = means.credentials.password(&self.server, &self.identity);
                let password = password.map(Secret::octets).ok_or_else(|| {
                    format!("there is no secret of user \"{}\"; add [secrets.eap-...]", self.identity)
                })?;
                Ok(Running::MsChapV2(mschapv2::Peer::new(&self.name(), password)))
            }
            EapMethod::Tls => {
                let (identity, remote) = (self.server.clone(), self.remote.clone());
                let expected = Expected { identity, remote, unix: means.unix };
                let names = &self.user.certificates;
                let configuration = means.credentials.tls_client(names, &self.identity, expected);
                Ok(Running::Tls(Box::new(tls::Peer::new(configuration.map_err(|error| error.to_string())?))))
            }
        }
    }

    /// The authenticator's word that all is well is taken only when the method has come to that.
    fn finish(&mut self) -> Reply {
        let outcome = match std::mem::replace(&mut self.running, Running::Nothing) {
            Running::Nothing => Err("the peer accepts us without having asked for a proof".to_owned()),
            Running::MsChapV2(peer) => peer.finish(),
            Running::Tls(peer) => peer.finish(),
        };
        outcome.map_or_else(Reply::Refusal, |key| Reply::Success(Some(key)))
    }

    fn problem(&self) -> String {
        match &self.running {
            Running::Nothing => {
                format!("the peer does not accept user \"{}\"; look at its log", self.identity)
            }
            Running::MsChapV2(peer) => peer.problem(),
            Running::Tls(peer) => peer.problem(),
        }
    }
}
