//! The authenticator's end of a conversation whose judge is elsewhere (RFC 3579 section 2): every method passes.

use super::Means;
use super::packet::{Code, Packet, Type, request, response, verdict};
use crate::configuration::RemoteAuthentication;
use crate::identity::Identity;

/// The conversation, as far as we follow it.
#[derive(Debug)]
pub struct Relay {
    /// Who the user says it is; not yet, while it is being asked.
    user: Option<Identity>,
    /// Of the request that the peer is to answer, or of its answer.
    identifier: u8,
}

/// How a conversation begins.
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// The peer is asked who it is.
    Ask(Vec<u8>),
    /// The judge is told who it is.
    Tell(Vec<u8>),
}

impl Relay {
    /// As [`super::Server::begin`]: the EAP identity is asked for, unless it is known.
    pub fn begin(means: &mut Means, remote: &RemoteAuthentication, claimed: &Identity) -> (Self, Opening) {
        let mut identifier = [0];
        (means.random)(&mut identifier);
        let identifier = identifier[0];
        let user = known_user(remote, claimed);
        let opening = match &user {
            Some(user) => Opening::Tell(response(identifier, Type::IDENTITY, &user.to_eap())),
            None => Opening::Ask(request(identifier, Type::IDENTITY, &[])),
        };
        (Self { user, identifier }, opening)
    }

    /// What the judge is to be told of a packet of the peer's.
    ///
    /// # Errors
    /// A sentence: it is no answer to what was asked, or the user may not come in.
    pub fn from_peer(&mut self, remote: &RemoteAuthentication, octets: &[u8]) -> Result<Vec<u8>, String> {
        let packet = Packet::parse(octets).map_err(|malformed| malformed.to_string())?;
        let Packet { code: Code::Response, identifier, content: Some((kind, data)) } = packet else {
            return Err("the peer sends something else than an EAP response".to_owned());
        };
        if identifier != self.identifier {
            return Err("the peer answers another EAP request than ours".to_owned());
        }
        if self.user.is_none() {
            if kind != Type::IDENTITY {
                return Err("the peer does not say who it is in EAP".to_owned());
            }
            self.user = Some(judge_identity(remote, data)?);
        }
        Ok(packet.emit())
    }

    /// What the peer is to be asked.
    ///
    /// # Errors
    /// A sentence: the judge asks nothing.
    pub fn from_judge(&mut self, octets: &[u8]) -> Result<Vec<u8>, String> {
        match Packet::parse(octets) {
            Ok(packet @ Packet { code: Code::Request, identifier, .. }) => {
                self.identifier = identifier;
                Ok(packet.emit())
            }
            Ok(_) => Err("the RADIUS server goes on with EAP and asks nothing; look at its log".to_owned()),
            Err(malformed) => Err(format!("what the RADIUS server asks is wrong: {malformed}")),
        }
    }

    /// The last word to the peer: the judge's if it fits, our own otherwise (RFC 3579 section 2.6.3).
    pub fn verdict(&self, is_success: bool, octets: Option<&[u8]>) -> Vec<u8> {
        let code = if is_success { Code::Success } else { Code::Failure };
        match octets.map(Packet::parse) {
            Some(Ok(packet)) if packet.code == code => packet.emit(),
            _ => verdict(code, self.identifier),
        }
    }

    /// Whether the judge tells the peer the opposite of what it tells us.
    pub fn contradicts(octets: Option<&[u8]>) -> bool {
        octets.is_some_and(|octets| !matches!(Packet::parse(octets), Ok(Packet { code: Code::Success, .. })))
    }

    /// Who the user is that the judge has accepted: what it is called by who has proved it, or else what it calls itself,
    /// which may hide who it is (RFC 7542 section 2.4).
    ///
    /// # Errors
    /// A sentence: nobody has said who it is; or the connection is not for the one that the judge names, however the user
    /// has called itself.
    pub fn proved(&self, remote: &RemoteAuthentication, named: Option<&[u8]>) -> Result<Identity, String> {
        match named {
            Some(named) => judge_identity(remote, named)
                .map_err(|problem| format!("by the RADIUS server's User-Name, {problem}")),
            None => self.user.clone().ok_or_else(|| "nobody has said who the user is".to_owned()),
        }
    }

    /// Who the user says it is.
    pub fn user(&self) -> Option<&Identity> {
        self.user.as_ref()
    }
}

/// Who the user is before it is asked, if that is said: by the configuration, or by nothing: then it is as in IKE.
pub(super) fn known_user(remote: &RemoteAuthentication, claimed: &Identity) -> Option<Identity> {
    match &remote.eap_identity {
        None => Some(claimed.clone()),
        Some(identity) if identity.is_pattern() => None,
        Some(identity) => Some(identity.clone()),
    }
}

/// The identity has to fit `eap_id`. If that is anybody, it has to fit `id` itself: what the peer calls itself in
/// IKE proves nothing (RFC 7296 section 2.16).
pub(super) fn judge_identity(remote: &RemoteAuthentication, data: &[u8]) -> Result<Identity, String> {
    let user = Identity::from_eap(data).map_err(|error| error.to_string())?;
    let pattern = match &remote.eap_identity {
        Some(pattern) if *pattern != Identity::Any => pattern,
        _ => &remote.identity,
    };
    match pattern.matches(&user) {
        Some(_) => Ok(user),
        None => Err(format!(
            "the user is \"{user}\", which is not \"{pattern}\" as the connection demands; mend remote.eap_id"
        )),
    }
}
