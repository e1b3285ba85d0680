//! The authenticator: who asks a user for its proof.

use super::packet::{Code, Packet, Type, request, verdict};
use super::relay::{judge_identity, known_user};
use super::{Means, Msk, Step, kind, mschapv2, tls};
use crate::auth::{Expected, Secret};
use crate::configuration::{EapMethod, RemoteAuthentication};
use crate::identity::Identity;

/// What follows a packet of the peer.
#[derive(Debug)]
pub enum Turn {
    /// The next request.
    Ask(Vec<u8>),
    /// The next request, which has to wait: the peer has guessed wrong.
    AskLater(Vec<u8>),
    /// The peer is who it says it is.
    Success {
        /// What tells it so.
        packet: Vec<u8>,
        /// Who it is.
        user: Identity,
        /// The key that both ends have now, if the method gives one.
        key: Option<Msk>,
    },
    /// It is over.
    Failure {
        /// What tells the peer so.
        packet: Vec<u8>,
        /// Why, with what to do.
        problem: String,
    },
}

/// A method and its state.
#[derive(Debug)]
enum Running {
    /// The identity is asked for.
    Identity,
    MsChapV2(mschapv2::Server),
    Tls(Box<tls::Server>),
}

/// The authenticator's end of a conversation.
#[derive(Debug)]
pub struct Server {
    method: EapMethod,
    /// Who we are.
    local: Identity,
    /// Names of certificates that say so; empty is any.
    certificates: Vec<String>,
    /// How the peer is to prove itself.
    remote: RemoteAuthentication,
    /// Who it says it is in IKE, which nothing proves.
    claimed: Identity,
    user: Option<Identity>,
    identifier: u8,
    running: Running,
    /// Whether the peer has answered the method's first request with another than a refusal.
    has_agreed: bool,
}

impl Server {
    /// The conversation and its first request. The EAP identity is asked for, unless the configuration says who it is,
    /// or says nothing: then it is that of IKE.
    ///
    /// # Errors
    /// A sentence if we cannot prove ourselves by the method.
    pub fn begin(
        means: &mut Means,
        method: EapMethod,
        (local, certificates): (Identity, &[String]),
        remote: RemoteAuthentication,
        claimed: Identity,
    ) -> Result<(Self, Vec<u8>), String> {
        let mut identifier = [0];
        (means.random)(&mut identifier);
        let identifier = identifier[0];
        let mut server = Self {
            method,
            local,
            certificates: certificates.to_vec(),
            remote,
            claimed,
            user: None,
            identifier,
            running: Running::Identity,
            has_agreed: false,
        };
        let first = match known_user(&server.remote, &server.claimed) {
            Some(user) => server.start_method(means, user)?,
            None => request(identifier, Type::IDENTITY, &[]),
        };
        Ok((server, first))
    }

    /// Works on a packet of the peer.
    pub fn handle(&mut self, means: &mut Means, octets: &[u8]) -> Turn {
        let (kind, data) = match Packet::parse(octets) {
            Ok(Packet { code: Code::Response, identifier, content: Some(content) })
                if identifier == self.identifier =>
            {
                content
            }
            Ok(_) => return self.fail("the peer answers another EAP request than ours"),
            Err(malformed) => return self.fail(&malformed.to_string()),
        };
        match kind {
            Type::IDENTITY if matches!(self.running, Running::Identity) => self.on_identity(means, data),
            Type::NAK if !self.has_agreed && self.user.is_some() => self.on_refusal(data),
            kind if kind == super::kind(self.method) && self.user.is_some() => self.on_method(means, data),
            _ => self.fail(&format!("the peer answers with EAP type {} out of order", kind.0)),
        }
    }

    /// RFC 3748 section 5.1.
    fn on_identity(&mut self, means: &mut Means, data: &[u8]) -> Turn {
        self.identifier = self.identifier.wrapping_add(1);
        let first = judge_identity(&self.remote, data).and_then(|user| self.start_method(means, user));
        match first {
            Ok(first) => Turn::Ask(first),
            Err(problem) => {
                // The verdict is on what was answered.
                self.identifier = self.identifier.wrapping_sub(1);
                self.fail(&problem)
            }
        }
    }

    /// RFC 3748 section 5.3.1.
    fn on_refusal(&mut self, data: &[u8]) -> Turn {
        let wanted: Vec<String> = data.iter().take(8).map(ToString::to_string).collect();
        let wanted = if wanted.is_empty() { "none".to_owned() } else { wanted.join(", ") };
        let ours = kind(self.method).0;
        self.fail(&format!(
            "the peer refuses EAP method {ours} and wants of these: {wanted}; configure the same at both ends"
        ))
    }

    fn start_method(&mut self, means: &mut Means, user: Identity) -> Result<Vec<u8>, String> {
        let kind = kind(self.method);
        let (running, data) = match self.method {
            EapMethod::MsChapV2 => {
                let password = means.credentials.password(&self.local, &user).map(Secret::octets);
                let name = self.local.to_string();
                let (server, data) = mschapv2::Server::begin(name.as_bytes(), password, means.random);
                (Running::MsChapV2(server), data)
            }
            EapMethod::Tls => {
                let (identity, remote) = (user.clone(), self.remote.clone());
                let expected = Expected { identity, remote, unix: means.unix };
                let configuration = means.credentials.tls_server(&self.certificates, &self.local, expected);
                let (server, data) = tls::Server::begin(configuration.map_err(|error| error.to_string())?)?;
                (Running::Tls(Box::new(server)), data)
            }
        };
        (self.running, self.user) = (running, Some(user));
        Ok(request(self.identifier, kind, &data))
    }

    fn on_method(&mut self, means: &mut Means, data: &[u8]) -> Turn {
        self.has_agreed = true;
        let step = match &mut self.running {
            Running::Identity => Step::Failure("the peer answers what was not asked".to_owned()),
            Running::MsChapV2(server) => server.handle(data, means.random),
            Running::Tls(server) => server.handle(data),
        };
        match step {
            Step::Ask(data) => Turn::Ask(self.ask(&data)),
            Step::AskLater(data) => Turn::AskLater(self.ask(&data)),
            Step::Success(key) => self.succeed(key),
            Step::Failure(problem) => self.fail(&problem),
        }
    }

    fn ask(&mut self, data: &[u8]) -> Vec<u8> {
        self.identifier = self.identifier.wrapping_add(1);
        request(self.identifier, kind(self.method), data)
    }

    fn succeed(&mut self, key: Msk) -> Turn {
        let user = self.user.take().unwrap_or(Identity::Any);
        if user.is_pattern() {
            return self.fail(&format!("\"{user}\" cannot be anybody's identity; mend remote.eap_id"));
        }
        self.running = Running::Identity;
        Turn::Success { packet: verdict(Code::Success, self.identifier), user, key: Some(key) }
    }

    fn fail(&self, problem: &str) -> Turn {
        Turn::Failure { packet: verdict(Code::Failure, self.identifier), problem: self.of_user(problem) }
    }

    fn of_user(&self, problem: &str) -> String {
        let who = self.user.as_ref().map_or(String::new(), |user| format!("user \"{user}\": "));
        format!("{who}{problem}")
    }

    /// Why the peer may have ended the conversation by other means than a packet.
    pub fn given_up(&self) -> String {
        self.of_user(&match &self.running {
            Running::Identity => "the peer gave up; look at its log".to_owned(),
            Running::MsChapV2(server) => server.given_up(),
            Running::Tls(server) => server.given_up(),
        })
    }
}
