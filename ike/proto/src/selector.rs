//! Traffic selectors (RFC 7296 section 2.9).

/// Which traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficSelector;
/// Which traffic, as configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredSelector;
