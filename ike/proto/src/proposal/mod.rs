//! Algorithms by strongSwan's keywords, and their negotiation (RFC 7296 section 2.7).

/// IKE SA algorithms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeProposal;
/// Child SA algorithms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspProposal;
/// What was agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspSuite;
