//! Traffic selectors (RFC 4301 section 4.4.1.1).

use std::fmt;
use std::net::IpAddr;
use std::ops::{Deref, RangeInclusive};

use super::SaError;

/// A range of addresses of one family, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    start: IpAddr,
    end: IpAddr,
}

impl AddressRange {
    /// # Errors
    /// [`SaError::AddressRange`] if the end is below the start or of another family.
    pub fn new(start: IpAddr, end: IpAddr) -> Result<Self, SaError> {
        let range = Self { start, end };
        if start.is_ipv4() != end.is_ipv4() || start > end {
            return Err(SaError::AddressRange(range.to_string()));
        }
        Ok(range)
    }

    /// The range of one address.
    pub const fn single(address: IpAddr) -> Self {
        Self { start: address, end: address }
    }

    /// The lowest address.
    pub const fn start(&self) -> IpAddr {
        self.start
    }

    /// The highest address.
    pub const fn end(&self) -> IpAddr {
        self.end
    }

    /// Whether the address lies in it.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.start.is_ipv4() && self.start <= address && address <= self.end
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.start, self.end)
    }
}

/// What traffic an SA carries; local and remote from this gateway's point of view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// Inner addresses on our side.
    pub local: AddressRange,
    /// Inner addresses on the peer's side.
    pub remote: AddressRange,
    /// IP protocol number; `None` is any.
    pub protocol: Option<u8>,
    /// Ports on our side; 0..=65535 is any, [`Selector::OPAQUE`] is none to see. With ICMP, type (upper octet) and
    /// code; with Mobility, the header's type in the upper octet.
    pub local_ports: RangeInclusive<u16>,
    /// Ports on the peer's side, as `local_ports`.
    pub remote_ports: RangeInclusive<u16>,
}

impl Selector {
    /// Ports that cannot be seen, as in a later fragment: RFC 4301's OPAQUE in IKEv2's form (RFC 7296 section 3.13.1).
    /// It contains no port. 0..=65535, ANY, covers OPAQUE too (RFC 4301 section 4.4.1.1).
    pub const OPAQUE: RangeInclusive<u16> = RangeInclusive::new(u16::MAX, 0);

    /// All protocols and ports between two ranges of addresses.
    pub const fn addresses(local: AddressRange, remote: AddressRange) -> Self {
        Self { local, remote, protocol: None, local_ports: 0..=u16::MAX, remote_ports: 0..=u16::MAX }
    }

    fn validate(&self) -> Result<(), SaError> {
        if self.local.start.is_ipv4() != self.remote.start.is_ipv4() {
            return Err(SaError::SelectorFamilies);
        }
        for ports in [&self.local_ports, &self.remote_ports] {
            if ports.start() > ports.end() && *ports != Self::OPAQUE {
                return Err(SaError::PortRange(*ports.start(), *ports.end()));
            }
        }
        Ok(())
    }
}

/// The selectors of an SA: 1 to 4, any of which may match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selectors(Vec<Selector>);

impl Selectors {
    /// The most that an SA has.
    pub const MAX: usize = 4;

    /// # Errors
    /// If there is none or more than four, or one of them is not possible.
    pub fn new(selectors: Vec<Selector>) -> Result<Self, SaError> {
        if !(1..=Self::MAX).contains(&selectors.len()) {
            return Err(SaError::SelectorCount(selectors.len()));
        }
        selectors.iter().try_for_each(Selector::validate)?;
        Ok(Self(selectors))
    }
}

impl Deref for Selectors {
    type Target = [Selector];
    fn deref(&self) -> &[Selector] {
        &self.0
    }
}
