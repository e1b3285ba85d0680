//! Keys and what is done with them (RFC 7296 section 2.14 onwards).

/// Key material of a pair of Child SAs.
#[derive(Debug)]
pub struct ChildKeys;

/// Which end of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It asked.
    Initiator,
    /// It answered.
    Responder,
}
