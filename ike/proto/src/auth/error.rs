//! What goes wrong with credentials: in our files, or with the peer.

use thiserror::Error;

use crate::identity::Identity;
use crate::wire::AuthenticationMethod;

/// Why a credential cannot be used. It names the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CredentialError {
    /// Not what it ought to be.
    #[error("{name}: {problem}; {remedy}")]
    Unusable {
        /// The file, or the secret's name.
        name: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        remedy: &'static str,
    },
}

/// Why authentication failed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AuthError {
    /// We have no key to prove ourselves with.
    #[error("no private key and certificate for our identity \"{0}\"; add both to the credential directory")]
    NoPrivateKey(Identity),
    /// The peer understands no signature that our key can make.
    #[error("the peer understands no signature that our {0} key can make; {1}")]
    NoCommonSignature(&'static str, &'static str),
    /// The peer proves itself by something else than configured.
    #[error("the peer authenticates by method {0}, which is not accepted here")]
    Method(AuthenticationMethod),
    /// The peer's certificates are not acceptable.
    #[error("the peer's certificate is refused: {0}")]
    Certificate(String),
    /// The identity does not stand in the certificate, or is not the configured one.
    #[error("the peer is \"{0}\", which {1}")]
    Identity(Identity, String),
    /// The signature is wrong.
    #[error("the peer's signature does not verify")]
    Signature,
}
