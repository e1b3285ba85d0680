//! Messages of others, with the keys that they were sealed with.
