//! Inner addresses for peers (RFC 7296 section 2.19).
