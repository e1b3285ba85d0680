//! EAP-TLS (RFC 5216 with TLS 1.2, RFC 9190 with TLS 1.3): both ends prove themselves by certificates.
//!
//! Nothing is resumed: who comes again shows its certificate again, so that a revocation counts.

mod fragments;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};
use rustls_pki_types::ServerName;

use self::fragments::{BEGIN, EMPTY, Frame};
use self::session::{Progress, Session};
use super::{Msk, Step};

/// The name that TLS wants to have; certificates are judged by identities.
const NO_NAME: &str = "eap-tls.invalid";

/// The authenticator's end.
#[derive(Debug)]
pub(super) struct Server(Session);

impl Server {
    /// The conversation and its first question.
    pub(super) fn begin(configuration: ServerConfig) -> Result<(Self, Vec<u8>), String> {
        let tls = ServerConnection::new(Arc::new(configuration)).map_err(|error| error.to_string())?;
        Ok((Self(Session::new(Connection::Server(tls), true)), BEGIN.to_vec()))
    }

    /// Works on an answer.
    pub(super) fn handle(&mut self, data: &[u8]) -> Step {
        match self.0.take(data) {
            Err(problem) => Step::Failure(problem),
            Ok(Progress::Send(data)) => Step::Ask(data),
            Ok(Progress::Quiet) => match (self.0.problem(), self.0.is_done(), self.0.key()) {
                (Some(problem), _, _) => Step::Failure(format!("TLS fails: {problem}")),
                (None, true, Some(key)) => Step::Success(key),
                _ => Step::Failure("the peer falls silent in TLS; look at its log".to_owned()),
            },
        }
    }
}

impl Server {
    /// Why the peer may have ended the conversation.
    pub(super) fn given_up(&self) -> String {
        match self.0.problem() {
            Some(problem) => format!("TLS fails: {problem}"),
            None => "the peer does not accept our certificate; look at its log".to_owned(),
        }
    }
}

/// The user's end.
#[derive(Debug)]
pub(super) struct Peer {
    configuration: Option<ClientConfig>,
    session: Option<Session>,
}

impl Peer {
    pub(super) fn new(configuration: ClientConfig) -> Self {
        Self { configuration: Some(configuration), session: None }
    }

    /// The answer; a sentence if there is none to give.
    pub(super) fn handle(&mut self, data: &[u8]) -> Result<Vec<u8>, String> {
        let frame = Frame::parse(data).map_err(|malformed| malformed.0.to_owned())?;
        if let Some(session) = self.session.as_mut().filter(|_| !frame.is_start) {
            return match session.take(data)? {
                Progress::Send(answer) => Ok(answer),
                Progress::Quiet => Ok(EMPTY.to_vec()),
            };
        }
        let configuration = self.configuration.take().filter(|_| frame.is_start);
        let configuration = configuration.ok_or("the peer begins TLS in the middle, or twice")?;
        let session = self.session.insert(begin(configuration)?);
        Ok(session.first())
    }

    /// The key, if the authenticator may say now that all is well.
    pub(super) fn finish(self) -> Result<Msk, String> {
        let session = self.session.filter(Session::is_confirmed);
        let too_early = "the peer says that all is well before TLS has proved it; do not trust it";
        session.and_then(|session| session.key()).ok_or_else(|| too_early.to_owned())
    }

    /// Why it failed.
    pub(super) fn problem(&self) -> String {
        match self.session.as_ref().and_then(Session::problem) {
            Some(problem) => format!("TLS fails: {problem}"),
            None => "the peer does not accept our certificate; look at its log".to_owned(),
        }
    }
}

fn begin(configuration: ClientConfig) -> Result<Session, String> {
    let name = ServerName::try_from(NO_NAME).map_err(|error| error.to_string())?;
    let tls = ClientConnection::new(Arc::new(configuration), name).map_err(|error| error.to_string())?;
    Ok(Session::new(Connection::Client(tls), false))
}
