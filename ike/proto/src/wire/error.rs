use thiserror::Error;

use super::{Header, PayloadType};

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseError {
    /// No IKE message of version 2 or above. Nothing to answer.
    #[error("not an IKEv2 message")]
    NotIke,
    /// It ends before it says so. Nothing to answer.
    #[error("the message is cut short")]
    Truncated,
    /// A later major version: INVALID_MAJOR_VERSION (RFC 7296 section 2.5).
    #[error("IKE version {major} is not spoken here")]
    MajorVersion {
        /// The header, as far as version 2 reads it, for the answer.
        header: Header,
        /// The version.
        major: u8,
    },
    /// A payload that must be understood and is not: UNSUPPORTED_CRITICAL_PAYLOAD (RFC 7296 section 2.5).
    #[error("payload type {0} is critical and unknown")]
    UnsupportedCritical(PayloadType),
    /// Something is malformed: INVALID_SYNTAX (RFC 7296 section 3.10.1).
    #[error("malformed: {0}")]
    Syntax(&'static str),
}
