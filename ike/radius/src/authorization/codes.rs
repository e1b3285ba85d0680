//! Why a request is refused (RFC 5176 section 3.5).

/// Error-Cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It has an attribute that we do not heed.
    UnsupportedAttribute = 401,
    /// It lacks one: which session is meant, or what is to change.
    MissingAttribute = 402,
    /// It is meant for another access server.
    NasIdentificationMismatch = 403,
    /// An attribute makes no sense.
    InvalidRequest = 404,
    /// It wants a service that we do not have.
    UnsupportedService = 405,
    /// There is no such session.
    SessionContextNotFound = 503,
    /// It is there, and cannot be ended or changed now.
    SessionContextNotRemovable = 504,
}
