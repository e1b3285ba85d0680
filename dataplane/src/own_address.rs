//! Addresses of this host on an interface of ours, as the peers of tunnels give them.

use std::io;
use std::net::IpAddr;

use rtnetlink::packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use thiserror::Error;

use crate::netlink::requests::Requests;
use crate::prohibit::ONCE;

/// Why an address is not as it is to be.
#[derive(Debug, Error)]
pub enum OwnAddressError {
    /// A capability is missing.
    #[error("not allowed to change addresses; run as root or grant CAP_NET_ADMIN")]
    NotPermitted,
    /// No netlink socket, or none that answers.
    #[error("cannot talk to the kernel by netlink: {0}")]
    Netlink(#[from] io::Error),
    /// The interface is not there any more.
    #[error("the interface of address {0} is gone; restart the data plane")]
    NoInterface(IpAddr),
    /// The kernel refused it.
    #[error("the kernel refused address {address}: {reason}")]
    Refused {
        /// The address.
        address: IpAddr,
        /// The kernel's answer.
        reason: io::Error,
    },
}

/// Gives this host an address on the interface of that index, for itself alone. One that is there already stays.
///
/// # Errors
/// [`OwnAddressError`].
pub fn add(address: IpAddr, interface: u32) -> Result<(), OwnAddressError> {
    let mut request = message(address, interface);
    // Nobody else has it: the peer gave it to us (RFC 4862 section 5.4 is about links that are shared).
    request.header.flags = AddressHeaderFlags::Nodad;
    change((RouteNetlinkMessage::NewAddress(request), ONCE), address, &[libc::EEXIST])
}

/// Takes it away. That it is not there is no error.
///
/// # Errors
/// [`OwnAddressError`].
pub fn remove(address: IpAddr, interface: u32) -> Result<(), OwnAddressError> {
    let request = RouteNetlinkMessage::DelAddress(message(address, interface));
    change((request, 0), address, &[libc::EADDRNOTAVAIL, libc::ENODEV])
}

fn change(request: (RouteNetlinkMessage, u16), address: IpAddr, fine: &[i32]) -> Result<(), OwnAddressError> {
    match Requests::open()?.change_one(request)? {
        Ok(()) => Ok(()),
        Err(code) if fine.contains(&code) => Ok(()),
        Err(libc::EPERM) => Err(OwnAddressError::NotPermitted),
        Err(libc::ENODEV) => Err(OwnAddressError::NoInterface(address)),
        Err(code) => Err(OwnAddressError::Refused { address, reason: io::Error::from_raw_os_error(code) }),
    }
}

fn message(address: IpAddr, interface: u32) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.prefix_len = if address.is_ipv4() { 32 } else { 128 };
    message.header.scope = AddressScope::Universe;
    message.header.index = interface;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}
