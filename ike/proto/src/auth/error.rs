//! What goes wrong with credentials: in our files, or with the peer.

use thiserror::Error;

use crate::identity::Identity;
use crate::wire::AuthenticationMethod;

/// Why a credential cannot be used. It names the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{name}: {problem}; {remedy}")]
pub struct CredentialError {
    /// The file, or the secret's name.
    pub name: String,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub remedy: String,
}

impl CredentialError {
    pub(super) fn new(name: &str, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.to_owned(), problem: problem.into(), remedy: remedy.into() }
    }
}

/// Why authentication failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// We have no key to prove ourselves with.
    #[error(
        "no private key with a certificate for our identity \"{0}\"; add both to the credential directory"
    )]
    NoPrivateKey(Identity),
    /// The peer understands no signature that our key can make.
    #[error(
        "the peer understands no signature that our {0} key can make without SHA-1: it does not announce RFC 7427 \
         with a hash that we have; use an ECDSA key, or mend the peer"
    )]
    NoCommonSignature(String),
    /// The back end failed.
    #[error("our signature could not be made; look for a shortage of memory")]
    Internal,
    /// The peer proves itself by something else than configured.
    #[error("the peer authenticates by {0}, which is not accepted here; see the connection's remote.auth")]
    Method(AuthenticationMethod),
    /// The peer's signature is of an algorithm that is not accepted; its AlgorithmIdentifier in hexadecimal.
    #[error(
        "the peer signs with an algorithm that is not accepted ({0}); RSA with SHA-2, ECDSA and Ed25519 are"
    )]
    Algorithm(String),
    /// The peer's signature is not of the type of its key.
    #[error("the peer's signature is of an algorithm that its {0} key cannot make")]
    OtherKey(String),
    /// The peer has sent no certificate, and none of ours is its.
    #[error("the peer has sent no certificate, and none here is of \"{0}\"; let it send one, or add it")]
    NoCertificate(Identity),
    /// The peer's certificates are not acceptable.
    #[error("the peer's certificate is refused: {0}")]
    Certificate(String),
    /// The peer's identity is not the configured one.
    #[error("the peer is \"{identity}\", which is not \"{pattern}\" as the connection demands")]
    Identity {
        /// Whom it claims to be.
        identity: Identity,
        /// Whom we expect.
        pattern: Identity,
    },
    /// The peer claims to be somebody else than its certificate says.
    #[error("the peer claims to be \"{identity}\", but its certificate is for {subjects}")]
    NotInCertificate {
        /// Whom it claims to be.
        identity: Identity,
        /// For whom the certificate is.
        subjects: String,
    },
    /// The signature is wrong.
    #[error(
        "the peer's signature does not verify; its key is not that of its certificate, or the messages differ"
    )]
    Signature,
}
