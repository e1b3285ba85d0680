//! Answers that nobody here computed.
