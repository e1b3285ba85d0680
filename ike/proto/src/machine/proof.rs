//! AUTH payloads (RFC 7296 section 2.15).

use super::core::Cx;
use super::head::Head;
use super::init_sent::Initialised;
use super::message::Message;
use crate::auth::Secret;
use crate::configuration::{LocalMethod, RemoteMethod, SendCertificate};
use crate::crypto::{IkeKeys, Role};
use crate::eap::Msk;
use crate::identity::Identity;
use crate::wire::{AuthenticationMethod, CertificateEncoding, Identification, Payload};

/// A shared secret's method.
pub(super) const SHARED_KEY: AuthenticationMethod = AuthenticationMethod::SHARED_KEY_MESSAGE_INTEGRITY_CODE;

/// What both proofs of an IKE SA cover, and what the peer has said about them.
pub(super) struct Proofs<'a> {
    pub(super) head: &'a Head,
    pub(super) keys: &'a IkeKeys,
    pub(super) begun: &'a Initialised,
    /// Ours.
    pub(super) role: Role,
}

impl Proofs<'_> {
    /// What `side` proves itself over.
    fn octets(&self, side: Role, id: &Identification) -> Vec<u8> {
        let Initialised { request, response, initiator_nonce, responder_nonce, intermediates, .. } =
            self.begun;
        let (message, peer_nonce) = match side {
            Role::Initiator => (request, responder_nonce),
            Role::Responder => (response, initiator_nonce),
        };
        let mut octets = self.keys.auth_octets(side, message, peer_nonce, &id.body());
        octets.extend(intermediates.octets());
        octets
    }

    /// Our certificates, if they are to be sent, and our AUTH payload; a sentence if we cannot prove who we are.
    pub(super) fn prove(
        &self,
        cx: &Cx,
        ours: &Identity,
        peer: &Identity,
        id: &Identification,
    ) -> Result<(Vec<Payload>, Payload), String> {
        let octets = self.octets(self.role, id);
        match &self.head.connection.local.method {
            LocalMethod::PreSharedKey => {
                let secret =
                    cx.core.credentials.shared_secret(ours, peer).ok_or_else(|| no_secret(ours, peer))?;
                let data = self.keys.psk_auth(&octets, secret.octets());
                Ok((Vec::new(), Payload::Authentication { method: SHARED_KEY, data }))
            }
            local @ LocalMethod::Signature(_) => self.sign(cx, local, ours, &octets),
            LocalMethod::Eap(_) => {
                Err("local.auth is EAP, by which only users prove themselves; set it to pubkey or psk"
                    .to_owned())
            }
        }
    }

    fn sign(
        &self,
        cx: &Cx,
        local: &LocalMethod,
        ours: &Identity,
        octets: &[u8],
    ) -> Result<(Vec<Payload>, Payload), String> {
        let signed = cx
            .core
            .credentials
            .sign(local, ours, &self.begun.peer_hashes, octets)
            .map_err(|error| error.to_string())?;
        let sends = match self.head.connection.send_certificate {
            SendCertificate::Always => true,
            SendCertificate::IfAsked => self.begun.certificates_asked,
            SendCertificate::Never => false,
        };
        let certificates = signed.certificates.into_iter().filter(|_| sends);
        let encoding = CertificateEncoding::X509_SIGNATURE;
        let certificates = certificates.map(|data| Payload::Certificate { encoding, data }).collect();
        Ok((certificates, Payload::Authentication { method: signed.method, data: signed.data }))
    }

    /// Whether the peer has proved to be `peer`; a sentence if not.
    pub(super) fn verify(
        &self,
        cx: &Cx,
        ours: &Identity,
        peer: &Identity,
        id: &Identification,
        message: &Message,
    ) -> Result<(), String> {
        let Some((kind, data)) = &message.authentication else {
            return Err(self.unproved(message).to_owned());
        };
        let octets = self.octets(self.role.peer(), id);
        let remote = &self.head.connection.remote;
        match remote.method {
            RemoteMethod::PreSharedKey if *kind == SHARED_KEY => {
                self.verify_secret(cx, (ours, peer), &octets, data)
            }
            RemoteMethod::PreSharedKey => Err(format!(
                "the peer proves itself by method {kind} instead of a pre-shared key; set auth of its side"
            )),
            RemoteMethod::Eap(_) | RemoteMethod::Radius => {
                Err(format!("the peer proves itself by method {kind} instead of EAP; set auth of its side"))
            }
            RemoteMethod::Signature => cx
                .core
                .credentials
                .verify(remote, peer, &message.x509(), *kind, data, &octets, cx.now.unix)
                .map(|_| ())
                .map_err(|error| error.to_string()),
        }
    }

    /// A request without AUTH asks for EAP (RFC 7296 section 2.16).
    fn unproved(&self, message: &Message) -> &'static str {
        if self.role == Role::Responder || message.eap.is_some() {
            "the peer wants EAP instead of its own proof; set auth of this side, or of the peer's"
        } else {
            "the peer has not proved who it is; look at its log"
        }
    }

    /// Our AUTH payload after EAP (RFC 7296 section 2.16).
    pub(super) fn prove_by_key(&self, id: &Identification, key: Option<&Msk>) -> Payload {
        let data = self.keys.eap_auth(self.role, &self.octets(self.role, id), key.map(Msk::octets));
        Payload::Authentication { method: SHARED_KEY, data }
    }

    /// Whether the peer has the key of the EAP conversation as well; a sentence if not.
    pub(super) fn verify_by_key(
        &self,
        id: Option<&Identification>,
        key: Option<&Msk>,
        message: &Message,
    ) -> Result<(), String> {
        let side = self.role.peer();
        let is_right = match (&message.authentication, id) {
            (Some((SHARED_KEY, data)), Some(id)) => {
                self.keys.verify_eap_auth(side, &self.octets(side, id), key.map(Msk::octets), data)
            }
            _ => false,
        };
        let problem = "the peer does not have the key of the EAP conversation; somebody may be in between";
        is_right.then_some(()).ok_or_else(|| problem.to_owned())
    }

    /// Our AUTH payload in a resumed IKE SA (RFC 5723 section 4.3.3).
    pub(super) fn prove_resumed(&self, id: &Identification) -> Payload {
        let data = self.keys.resumption_auth(self.role, &self.octets(self.role, id));
        Payload::Authentication { method: SHARED_KEY, data }
    }

    /// Whether the peer says that it is `peer`, and has the keys of the IKE SA that it resumes; a sentence if not.
    pub(super) fn verify_resumed(
        &self,
        peer: &Identity,
        id: Option<&Identification>,
        message: &Message,
    ) -> Result<(), String> {
        let side = self.role.peer();
        let id = id.ok_or("the peer does not say who it is")?;
        if identity(id)? != *peer {
            return Err(format!("the peer resumes a tunnel of \"{peer}\" as somebody else; look at its log"));
        }
        let is_right = message.authentication.as_ref().is_some_and(|(kind, data)| {
            *kind == SHARED_KEY && self.keys.verify_resumption_auth(side, &self.octets(side, id), data)
        });
        let problem =
            "the peer does not have the keys of the tunnel that it resumes; somebody may be in between";
        is_right.then_some(()).ok_or_else(|| problem.to_owned())
    }

    /// The same work and the same answer whether there is a secret or not.
    fn verify_secret(
        &self,
        cx: &Cx,
        (ours, peer): (&Identity, &Identity),
        octets: &[u8],
        data: &[u8],
    ) -> Result<(), String> {
        let secret = cx.core.credentials.shared_secret(ours, peer);
        let is_right = self.keys.verify_psk_auth(octets, secret.map_or(b"no secret", Secret::octets), data);
        match secret {
            None => Err(no_secret(ours, peer)),
            Some(_) if is_right => Ok(()),
            Some(_) => Err(format!(
                "the secret of \"{ours}\" and \"{peer}\" is another one at the peer; compare them"
            )),
        }
    }
}

fn no_secret(ours: &Identity, peer: &Identity) -> String {
    format!("there is no secret for \"{ours}\" and \"{peer}\"; add one")
}

/// Who an IDi or IDr payload says that it is. A peer that claims to be a pattern would be everybody that fits it.
pub(super) fn identity(id: &Identification) -> Result<Identity, String> {
    match Identity::from_wire(id) {
        Ok(pattern) if pattern.is_pattern() => Err(format!(
            "\"{pattern}\" is a pattern and cannot be anybody's identity; mend the peer's local id"
        )),
        other => other.map_err(|error| error.to_string()),
    }
}
