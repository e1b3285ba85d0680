//! Every way in which the pipeline refuses a packet: one name, one counter, one sentence.

use crate::packet::Malformed;
use crate::replay::Refused;

macro_rules! reasons {
    ($($variant:ident $name:literal $sentence:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason { $(#[doc = $sentence] $variant,)* }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The operator's name of the reason, in kebab case; it does not change between releases.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// What happened, as a sentence for an operator.
            pub const fn sentence(self) -> &'static str {
                match self { $(Self::$variant => $sentence,)* }
            }
        }
    };
}

reasons! {
    Truncated "truncated" "The packet ends before its headers say so.",
    Vlan "vlan" "The frame carries more than two VLAN tags.",
    NotIp "not-ip" "The frame carries neither IPv4 nor IPv6.",
    IpHeader "ip-header" "The IP header's version or lengths contradict themselves.",
    IpOptions "ip-options" "An IPv4 option is malformed or a source route (RFC 7126 sections 4.3 and 4.4).",
    IpChecksum "ip-checksum" "The IPv4 header checksum is wrong.",
    Fragment "fragment" "A fragment where only a whole packet may be: around ESP, or in transport mode (RFC 4303 sections 3.1.1, 3.4.1).",
    Unprotected "unprotected" "A packet came in clear that a policy wants protected (RFC 4301 section 5.2).",
    IcmpHeeded "icmp-heeded" "An ICMP error about a tunnel's packet, taken note of.",
    KeepAlive "keep-alive" "A NAT keep-alive, discarded as intended (RFC 3948 section 2.3).",
    Spoofed "spoofed" "An inner host used an address to which no route leads on the inner side.",
    NotForwardable "not-forwardable" "An address of the packet is loopback, link-local, unspecified or a group's.",
    LifetimeOver "lifetime-over" "The SA reached a hard limit; it needs a rekey.",
    EspLength "esp-length" "The ESP payload is too short for IV, trailer and ICV, or not aligned to its cipher.",
    UnknownSpi "unknown-spi" "No inbound SA has this SPI.",
    OuterAddress "outer-address" "The outer addresses are not those of the SA.",
    NotOwned "not-owned" "The lease of the SA's segment is with another node, or over.",
    SaFrozen "sa-frozen" "The SA is frozen: it is being moved.",
    SaUnusable "sa-unusable" "The SA changed while it was used, or its suite or addresses are not supported.",
    Replayed "replayed" "The sequence number was seen before (RFC 4303 section 3.4.3).",
    TooOld "too-old" "The sequence number lies left of the replay window.",
    SequenceWrap "sequence-wrap" "The SA's sequence numbers are used up; it needs a rekey (RFC 4303 section 3.3.3).",
    BadIcv "bad-icv" "The integrity check failed: damaged, forged, or another key.",
    BadPadding "bad-padding" "The ESP padding is not 1, 2, 3, ... (RFC 4303 section 2.4).",
    NextHeader "next-header" "The ESP payload is of a kind that this SA does not carry.",
    Dummy "dummy" "A dummy packet, discarded as intended (RFC 4303 section 2.6).",
    InnerMalformed "inner-malformed" "The packet inside ESP is not a well-formed IP packet.",
    EcnDrop "ecn-drop" "Congestion was marked on a packet whose ends do not speak ECN (RFC 6040 section 4.2).",
    Selectors "selectors" "The inner packet does not match the SA's selectors (RFC 4301 section 5.2).",
    NoPolicy "no-policy" "No policy matches the packet (RFC 4301 section 5: discard).",
    PolicyDiscard "policy-discard" "A policy says discard.",
    NoSa "no-sa" "The policy wants protection, but there is no outbound SA.",
    TtlExpired "ttl-expired" "The time to live ran out here.",
    TooBig "too-big" "The packet would not fit the tunnel's path MTU (RFC 4301 section 8.2.1).",
    Oversized "oversized" "The packet exceeds the MTU of the interface where it leaves, or its frame.",
    IvUnavailable "iv-unavailable" "No initialization vector may be granted now; see the epoch alarm.",
    NoRoute "no-route" "There is no route to the destination on the side where it must leave.",
    HeldTooLong "held-too-long" "The neighbour did not answer in time.",
    HeldTooMany "held-too-many" "Too many packets waited for the neighbour; the oldest went.",
    RingFull "ring-full" "The worker that owns the SA is behind; its ring is full.",
    ExtensionHeaders "ipv6-extension-headers" "Too many IPv6 extension headers, or one where it may not be (RFC 8200 section 4.1).",
    HiddenPorts "hidden-ports" "A fragment shows no ports, and policies protect some: it may not leave in clear (RFC 4301 section 7.4).",
    ReservationOutbound "reservation-outbound" "The standbys have not confirmed the next sequence numbers yet.",
    ReservationInbound "reservation-inbound" "The sequence number is beyond those that the standbys have confirmed.",
    ReservationFloor "reservation-floor" "The node that owned the SA before may have accepted this sequence number.",
    EchoReply "echo-reply" "The reply to an echo request of this gateway's own, which has carried a peer past the floor of a takeover.",
}

/// How many reasons there are.
pub const COUNT: usize = DropReason::ALL.len();

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Truncated | Malformed::UdpLength => Self::Truncated,
            Malformed::Vlan => Self::Vlan,
            Malformed::Version | Malformed::HeaderLength => Self::IpHeader,
            Malformed::Options => Self::IpOptions,
            Malformed::ExtensionHeaders => Self::ExtensionHeaders,
            Malformed::Checksum => Self::IpChecksum,
        }
    }
}

impl From<Refused> for DropReason {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Replayed => Self::Replayed,
            Refused::TooOld => Self::TooOld,
            Refused::Wrapped => Self::SequenceWrap,
            Refused::BelowFloor => Self::ReservationFloor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_kebab_case_and_in_order() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert!(reason.name().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            assert!(DropReason::ALL[..index].iter().all(|earlier| earlier.name() != reason.name()));
        }
    }
}
