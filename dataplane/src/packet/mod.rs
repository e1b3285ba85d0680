//! Checked views of packet headers: each `parse` looks at every octet it will ever rely on, once, and returns a
//! plain representation or a [`Malformed`]; nothing here panics, whatever the input.
//!
//! A *view* (`parse`) borrows foreign octets and checks them; a *representation* (`*Header`) is plain data that
//! can be emitted. [`ip::IpHeader`] is what the rest of the data plane knows of either IP family.
// Per packet, a struct returned through memory costs more than the work that makes it (benches/pipeline.rs).
#![allow(clippy::inline_always)]

pub mod announcement;
pub mod checksum;
pub mod echo;
pub mod ecn;
pub mod esp;
pub mod ethernet;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
pub mod quoted;
pub mod tcp;
pub mod transport;
pub mod udp;

#[cfg(test)]
mod tests;

use thiserror::Error;

/// Why octets are not the header they should be. Each maps to one drop reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Error)]
pub enum Malformed {
    /// Fewer octets than the header, or the length in it, needs.
    #[error("the packet ends before its header says so")]
    Truncated,
    /// More VLAN tags than the two of 802.1ad.
    #[error("more than two VLAN tags")]
    Vlan,
    /// Another IP version than the field in front of it announced.
    #[error("the IP version does not fit")]
    Version,
    /// A header or total length that contradicts itself.
    #[error("the lengths of the IP header contradict each other")]
    HeaderLength,
    /// An option that runs out of its header, has an impossible length, or is a source route.
    #[error("an IP option is malformed or a source route")]
    Options,
    /// IPv6 extension headers that are too many, too long, or where they may not be.
    #[error("the IPv6 extension headers are too many or in a forbidden place")]
    ExtensionHeaders,
    /// A wrong IPv4 header checksum.
    #[error("the IP header checksum is wrong")]
    Checksum,
    /// A wrong UDP length field.
    #[error("the UDP length is wrong")]
    UdpLength,
}

/// The first `N` octets at `offset`.
#[inline]
pub(crate) fn octets<const N: usize>(bytes: &[u8], offset: usize) -> Result<[u8; N], Malformed> {
    bytes.get(offset..).and_then(<[u8]>::first_chunk::<N>).copied().ok_or(Malformed::Truncated)
}

#[inline]
pub(crate) fn be16(bytes: &[u8], offset: usize) -> Result<u16, Malformed> {
    octets(bytes, offset).map(u16::from_be_bytes)
}

#[inline]
pub(crate) fn be32(bytes: &[u8], offset: usize) -> Result<u32, Malformed> {
    octets(bytes, offset).map(u32::from_be_bytes)
}
