//! The user.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::hashes::{
    PasswordHash, authenticator_response, challenge_hash, msk, nt_password_hash, nt_response,
};
use super::packet::{self, FromServer};
use super::without_domain;
use crate::eap::Msk;

/// Where the conversation is.
enum Stage {
    /// Not asked yet.
    Begun,
    /// We have answered a challenge: what the server has to show, and the key.
    Answered([u8; 20], Msk),
    /// The server knows the password as well.
    Shown(Msk),
    /// The server does not take the password.
    Refused(String),
}

/// The user's end.
pub(in crate::eap) struct Peer {
    name: Vec<u8>,
    password: PasswordHash,
    stage: Stage,
}

impl Peer {
    pub(in crate::eap) fn new(name: &[u8], password: &[u8]) -> Self {
        Self { name: name.to_vec(), password: nt_password_hash(password), stage: Stage::Begun }
    }

    /// The answer; a sentence if there is none to give.
    pub(in crate::eap) fn handle(
        &mut self,
        data: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Vec<u8>, String> {
        let question =
            FromServer::parse(data).map_err(|malformed| format!("the peer sends {}", malformed.0))?;
        match (std::mem::replace(&mut self.stage, Stage::Begun), question) {
            (Stage::Begun, FromServer::Challenge { id, challenge }) => Ok(self.answer(id, challenge, random)),
            (Stage::Answered(expected, key), FromServer::Success { message }) => {
                self.check(&expected, key, message)
            }
            (Stage::Answered(..), FromServer::Failure { message }) => {
                self.stage = Stage::Refused(refusal(message));
                Ok(packet::FAILURE_RESPONSE.to_vec())
            }
            _ => Err("the peer's questions are out of order".to_owned()),
        }
    }

    fn answer(&mut self, id: u8, authenticator: &[u8; 16], random: &mut dyn FnMut(&mut [u8])) -> Vec<u8> {
        let mut ours = [0; 16];
        random(&mut ours);
        let challenge = challenge_hash(&ours, authenticator, without_domain(&self.name));
        let response = nt_response(challenge, &self.password);
        let expected = authenticator_response(&self.password, &response, challenge);
        self.stage = Stage::Answered(expected, msk(&self.password, &response));
        packet::response(id, &ours, &response, &self.name)
    }

    fn check(&mut self, expected: &[u8; 20], key: Msk, message: &[u8]) -> Result<Vec<u8>, String> {
        let shown = packet::proof(message).unwrap_or_default();
        if verify_slices_are_equal(&shown, expected).is_err() {
            return Err("the peer accepts our password without knowing it; do not trust it".to_owned());
        }
        self.stage = Stage::Shown(key);
        Ok(packet::SUCCESS_RESPONSE.to_vec())
    }

    /// The key, if the peer may say now that all is well.
    pub(in crate::eap) fn finish(self) -> Result<Msk, String> {
        match self.stage {
            Stage::Shown(key) => Ok(key),
            Stage::Refused(problem) => Err(problem),
            Stage::Begun | Stage::Answered(..) => {
                Err("the peer says that all is well without having shown that it knows our password"
                    .to_owned())
            }
        }
    }

    /// Why it failed.
    pub(in crate::eap) fn problem(&self) -> String {
        match &self.stage {
            Stage::Refused(problem) => problem.clone(),
            _ => "the peer does not accept us; look at its log".to_owned(),
        }
    }
}

/// RFC 2759 section 6.
fn refusal(message: &[u8]) -> String {
    let why = match packet::error_number(message) {
        Some(646) => "not at this hour",
        Some(647) => "the account is disabled",
        Some(648) => "the password has expired",
        Some(649) => "no permission to dial in",
        Some(691) => "wrong name or password; compare the secret of [secrets.eap-...] with the peer's",
        _ => "it does not say why; look at its log",
    };
    format!("the peer does not accept us as a user: {why}")
}

impl std::fmt::Debug for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.escape_ascii().to_string();
        f.debug_struct("Peer").field("name", &name).finish_non_exhaustive()
    }
}
