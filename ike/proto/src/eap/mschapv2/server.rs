//! Who knows the password of the user and asks for it.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use super::hashes::{
    PasswordHash, authenticator_response, challenge_hash, msk, nt_password_hash, nt_response,
};
use super::packet::{self, FromPeer};
use super::without_domain;
use crate::eap::{Msk, Step};

/// Passwords that one conversation may try.
const MAX_TRIES: u32 = 3;
/// The peer does not take our proof.
const UNBELIEVED: &str = "the peer does not believe that we know its password; compare it with the peer's";

/// Where the conversation is.
enum Stage {
    /// A challenge is out.
    Asked,
    /// The password was right, and the peer has been shown that we know it.
    Shown(Msk),
    /// Wrong, and that was the last one.
    Refused,
}

/// The authenticator's end.
pub(in crate::eap) struct Server {
    /// Our name, for people.
    name: Vec<u8>,
    /// `None`: nobody of that name. The work is the same.
    password: Option<PasswordHash>,
    challenge: [u8; 16],
    id: u8,
    tries: u32,
    stage: Stage,
}

impl Server {
    /// The conversation and its first question.
    pub(in crate::eap) fn begin(
        name: &[u8],
        password: Option<&[u8]>,
        random: &mut dyn FnMut(&mut [u8]),
    ) -> (Self, Vec<u8>) {
        let (mut challenge, mut id) = ([0; 16], [0]);
        random(&mut challenge);
        random(&mut id);
        let password = password.map(nt_password_hash);
        let (name, id) = (name.to_vec(), id[0]);
        let question = packet::challenge(id, &challenge, &name);
        (Self { name, password, challenge, id, tries: 0, stage: Stage::Asked }, question)
    }

    /// Works on an answer.
    pub(in crate::eap) fn handle(&mut self, data: &[u8], random: &mut dyn FnMut(&mut [u8])) -> Step {
        let answer = match FromPeer::parse(data) {
            Ok(answer) => answer,
            Err(malformed) => return Step::Failure(format!("the peer's answer is {}", malformed.0)),
        };
        match (std::mem::replace(&mut self.stage, Stage::Refused), answer) {
            // Its identifier says nothing that EAP's has not said.
            (Stage::Asked, FromPeer::Response { challenge, response, name }) => {
                self.judge(challenge, response, name, random)
            }
            (Stage::Shown(key), FromPeer::Success) => Step::Success(key),
            (Stage::Shown(_), FromPeer::Failure) => Step::Failure(UNBELIEVED.to_owned()),
            (_, FromPeer::Failure) | (Stage::Refused, _) => Step::Failure(self.wrong()),
            _ => Step::Failure("the peer's answers are out of order".to_owned()),
        }
    }

    /// Why the peer may have ended the conversation.
    pub(in crate::eap) fn given_up(&self) -> String {
        match self.stage {
            Stage::Shown(_) => UNBELIEVED.to_owned(),
            Stage::Asked | Stage::Refused => self.wrong(),
        }
    }

    fn wrong(&self) -> String {
        match (&self.password, self.tries) {
            (_, 0) => "the peer gave up; look at its log".to_owned(),
            (None, _) => "no secret is of that user; add [secrets.eap-...] with this id".to_owned(),
            (Some(_), tries) => {
                let times = if tries == 1 { "once" } else { "several times" };
                format!("the password was wrong {times}; compare it with that of [secrets.eap-...]")
            }
        }
    }

    /// The same work and the same answer whether there is such a user or not.
    fn judge(
        &mut self,
        peer: &[u8; 16],
        response: &[u8; 24],
        name: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
    ) -> Step {
        let nobody = nt_password_hash(b"nobody's password");
        let hash = self.password.as_ref().unwrap_or(&nobody);
        let challenge = challenge_hash(peer, &self.challenge, without_domain(name));
        let is_right = verify_slices_are_equal(&nt_response(challenge, hash), response).is_ok();
        if is_right && self.password.is_some() {
            let proof = authenticator_response(hash, response, challenge);
            self.stage = Stage::Shown(msk(hash, response));
            return Step::Ask(packet::success(self.id, &proof));
        }
        self.refuse(random)
    }

    fn refuse(&mut self, random: &mut dyn FnMut(&mut [u8])) -> Step {
        self.tries += 1;
        let may_retry = self.tries < MAX_TRIES;
        let id = self.id;
        if may_retry {
            // RFC 2759 section 6: the peer answers the new challenge.
            random(&mut self.challenge);
            self.id = id.wrapping_add(1);
            self.stage = Stage::Asked;
        }
        Step::AskLater(packet::failure(id, may_retry, &self.challenge))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.name.escape_ascii().to_string();
        f.debug_struct("Server").field("name", &name).field("tries", &self.tries).finish_non_exhaustive()
    }
}
