//! Identities (RFC 7296 section 3.5).

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Anybody.
    Any,
}
