//! Effects on a table, without a data plane.
