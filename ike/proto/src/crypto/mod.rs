//! Keys and what is done with them (RFC 7296 section 2.14 onwards).

/// Key material of a pair of Child SAs.
#[derive(Debug)]
pub struct ChildKeys;
