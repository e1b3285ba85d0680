//! Numbers of attributes (RFC 2865 section 5 and those that it grew later), and lists of attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// What an attribute is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(pub u8);

#[allow(missing_docs)]
impl Kind {
    // RFC 2865.
    pub const USER_NAME: Self = Self(1);
    pub const NAS_IP_ADDRESS: Self = Self(4);
    pub const NAS_PORT: Self = Self(5);
    pub const SERVICE_TYPE: Self = Self(6);
    pub const FRAMED_IP_ADDRESS: Self = Self(8);
    pub const FRAMED_MTU: Self = Self(12);
    pub const REPLY_MESSAGE: Self = Self(18);
    pub const STATE: Self = Self(24);
    pub const CLASS: Self = Self(25);
    pub const VENDOR_SPECIFIC: Self = Self(26);
    pub const SESSION_TIMEOUT: Self = Self(27);
    pub const IDLE_TIMEOUT: Self = Self(28);
    pub const CALLED_STATION_ID: Self = Self(30);
    pub const CALLING_STATION_ID: Self = Self(31);
    pub const NAS_IDENTIFIER: Self = Self(32);
    pub const PROXY_STATE: Self = Self(33);
    pub const NAS_PORT_TYPE: Self = Self(61);
    // RFC 2866.
    pub const ACCT_STATUS_TYPE: Self = Self(40);
    pub const ACCT_DELAY_TIME: Self = Self(41);
    pub const ACCT_INPUT_OCTETS: Self = Self(42);
    pub const ACCT_OUTPUT_OCTETS: Self = Self(43);
    pub const ACCT_SESSION_ID: Self = Self(44);
    pub const ACCT_AUTHENTIC: Self = Self(45);
    pub const ACCT_SESSION_TIME: Self = Self(46);
    pub const ACCT_INPUT_PACKETS: Self = Self(47);
    pub const ACCT_OUTPUT_PACKETS: Self = Self(48);
    pub const ACCT_TERMINATE_CAUSE: Self = Self(49);
    // RFC 2869.
    pub const ACCT_INPUT_GIGAWORDS: Self = Self(52);
    pub const ACCT_OUTPUT_GIGAWORDS: Self = Self(53);
    pub const EVENT_TIMESTAMP: Self = Self(55);
    pub const EAP_MESSAGE: Self = Self(79);
    pub const MESSAGE_AUTHENTICATOR: Self = Self(80);
    pub const ACCT_INTERIM_INTERVAL: Self = Self(85);
    pub const NAS_PORT_ID: Self = Self(87);
    // RFC 3162, RFC 6911, RFC 5176.
    pub const NAS_IPV6_ADDRESS: Self = Self(95);
    pub const ERROR_CAUSE: Self = Self(101);
    pub const FRAMED_IPV6_ADDRESS: Self = Self(168);
    pub const DNS_SERVER_IPV6_ADDRESS: Self = Self(169);
}

/// Microsoft's vendor number (RFC 2548).
pub(crate) const MICROSOFT: u32 = 311;
/// Microsoft's attributes (RFC 2548 sections 2.4.2, 2.4.3, 2.7.1, 2.7.2).
pub(crate) const MS_MPPE_SEND_KEY: u8 = 16;
pub(crate) const MS_MPPE_RECV_KEY: u8 = 17;
pub(crate) const MS_PRIMARY_DNS: u8 = 28;
pub(crate) const MS_SECONDARY_DNS: u8 = 29;

/// Octets of one attribute's value at most.
pub const MAX_VALUE: usize = 253;

/// Attributes in their order, as octets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Attributes(Vec<u8>);

// They say who a user is and what it is doing.
impl std::fmt::Debug for Attributes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Attributes({} octets)", self.0.len())
    }
}

impl Attributes {
    /// One with this value, cut where an attribute ends; an empty one is left out (RFC 2865 section 5).
    pub fn add(&mut self, kind: Kind, value: &[u8]) -> &mut Self {
        let value = &value[..value.len().min(MAX_VALUE)];
        if !value.is_empty() {
            self.0.extend_from_slice(&[kind.0, value.len() as u8 + 2]);
            self.0.extend_from_slice(value);
        }
        self
    }

    /// A text, cut between characters.
    pub fn add_text(&mut self, kind: Kind, text: &str) -> &mut Self {
        self.add(kind, &text.as_bytes()[..text.floor_char_boundary(MAX_VALUE)])
    }

    /// A number.
    pub fn add_number(&mut self, kind: Kind, value: u32) -> &mut Self {
        self.add(kind, &value.to_be_bytes())
    }

    /// A time in seconds.
    pub fn add_seconds(&mut self, kind: Kind, time: Duration) -> &mut Self {
        self.add_number(kind, u32::try_from(time.as_secs()).unwrap_or(u32::MAX))
    }

    /// An address, under the number that its IP version has.
    pub fn add_address(&mut self, kinds: (Kind, Kind), address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.add(kinds.0, &address.octets()),
            IpAddr::V6(address) => self.add(kinds.1, &address.octets()),
        }
    }

    /// A value that is spread over as many attributes as it takes (RFC 3579 section 3.1).
    pub fn add_spread(&mut self, kind: Kind, value: &[u8]) -> &mut Self {
        value.chunks(MAX_VALUE).for_each(|part| {
            self.add(kind, part);
        });
        self
    }

    /// Others behind these.
    pub fn extend(&mut self, others: &Self) -> &mut Self {
        self.0.extend_from_slice(&others.0);
        self
    }

    pub(crate) fn octets(&self) -> &[u8] {
        &self.0
    }
}

/// Addresses of ours by IP version: NAS-IP-Address, NAS-IPv6-Address.
pub const NAS_ADDRESS: (Kind, Kind) = (Kind::NAS_IP_ADDRESS, Kind::NAS_IPV6_ADDRESS);
/// Addresses of users by IP version: Framed-IP-Address, Framed-IPv6-Address.
pub const FRAMED_ADDRESS: (Kind, Kind) = (Kind::FRAMED_IP_ADDRESS, Kind::FRAMED_IPV6_ADDRESS);

/// An address of four octets.
pub(crate) fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// An address of sixteen.
pub(crate) fn ipv6(value: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(value).ok().map(Ipv6Addr::from)
}

/// A number of four octets.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}
