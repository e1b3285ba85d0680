//! Proof of identity (RFC 7296 section 2.15).
