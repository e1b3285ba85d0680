//! The ways to speak ESP that a site may be built for.

use std::net::IpAddr;

use baton_sad::Suite;

use crate::topology::{
    A_HOST, A_HOST6, A_NETWORK, A_NETWORK6, A_OUTER, A_OUTER6, B_HOST, B_HOST6, B_NETWORK, B_NETWORK6,
    B_OUTER, B_OUTER6, CLIENT, CLIENT6, SERVER, SERVER6,
};

/// One way to speak ESP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent of each other")]
pub struct Shape {
    /// How packets are protected.
    pub suite: Suite,
    /// Transport mode, in which the gateways protect what single hosts say, instead of tunnel mode.
    pub transport: bool,
    /// IPv6 between the gateways.
    pub outer_ipv6: bool,
    /// IPv6 between client and server; in transport mode the same as outside.
    pub inner_ipv6: bool,
    /// ESP in UDP.
    pub in_udp: bool,
    /// 64-bit sequence numbers.
    pub extended_sequence: bool,
}

impl Shape {
    /// What the demo shows: a tunnel of IPv4 in IPv4.
    pub const DEFAULT: Self = Self::tunnel(Suite::AES128_GCM16).with_esn();

    /// A tunnel of IPv4 in IPv4.
    pub const fn tunnel(suite: Suite) -> Self {
        Self {
            suite,
            transport: false,
            outer_ipv6: false,
            inner_ipv6: false,
            in_udp: false,
            extended_sequence: false,
        }
    }

    /// Transport mode in IPv4.
    pub const fn transport(suite: Suite) -> Self {
        Self { transport: true, ..Self::tunnel(suite) }
    }

    /// With IPv6 between client and server.
    #[must_use]
    pub const fn of_ipv6(self) -> Self {
        Self { inner_ipv6: true, ..self }
    }

    /// With IPv6 between the gateways.
    #[must_use]
    pub const fn in_ipv6(self) -> Self {
        Self { outer_ipv6: true, ..self }
    }

    /// In UDP (RFC 3948).
    #[must_use]
    pub const fn in_udp(self) -> Self {
        Self { in_udp: true, ..self }
    }

    /// With 64-bit sequence numbers.
    #[must_use]
    pub const fn with_esn(self) -> Self {
        Self { extended_sequence: true, ..self }
    }

    /// Whether anything needs IPv6.
    pub const fn has_ipv6(self) -> bool {
        self.outer_ipv6 || self.inner_ipv6
    }

    /// The hosts that speak through the gateways: client and server.
    pub fn hosts(self) -> [IpAddr; 2] {
        match (self.transport, self.outer_ipv6, self.inner_ipv6) {
            (true, false, _) => [A_HOST.into(), B_HOST.into()],
            (true, true, _) => [A_HOST6.into(), B_HOST6.into()],
            (false, _, false) => [CLIENT.into(), SERVER.into()],
            (false, _, true) => [CLIENT6.into(), SERVER6.into()],
        }
    }

    /// The ends of the SAs: at A and at B. In transport mode the hosts are.
    pub fn ends(self) -> [IpAddr; 2] {
        match (self.transport, self.outer_ipv6) {
            (true, _) => self.hosts(),
            (false, false) => [A_OUTER.into(), B_OUTER.into()],
            (false, true) => [A_OUTER6.into(), B_OUTER6.into()],
        }
    }

    /// What is protected behind A and behind B.
    pub fn networks(self) -> [String; 2] {
        if self.transport {
            let length = if self.outer_ipv6 { 128 } else { 32 };
            return self.hosts().map(|host| format!("{host}/{length}"));
        }
        if self.inner_ipv6 { [A_NETWORK6, B_NETWORK6] } else { [A_NETWORK, B_NETWORK] }.map(str::to_owned)
    }
}
