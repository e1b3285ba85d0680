//! The addresses of this host, and word of their changes and of those of its routes (rtnetlink(7)).
//!
//! Two sockets, opened while there are privileges: one is told of changes, the other one asks.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::{Errno, read, write};

use crate::netlink::{BUFFER, attribute, message, open, request_all};

/// Addresses and routes of both IP versions.
const GROUPS: u32 =
    (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR | libc::RTMGRP_IPV4_ROUTE | libc::RTMGRP_IPV6_ROUTE)
        as u32;
/// Readings of one answer: a host with more addresses than fit knows the first ones.
const READINGS: usize = 64;
/// Addresses that are known.
const MOST: usize = 1024;
/// `struct ifaddrmsg`.
const ADDRESS_HEADER: usize = 8;
/// Not yet, or not any more, fit to be used.
const UNUSABLE: u32 = libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED | libc::IFA_F_DEPRECATED;

/// Both sockets.
#[derive(Debug)]
pub struct Changes {
    told: OwnedFd,
    asking: OwnedFd,
}

impl Changes {
    /// Opens them.
    ///
    /// # Errors
    /// If the kernel lacks netlink, or there are no file descriptors left.
    pub fn open() -> io::Result<Self> {
        Ok(Self { told: open(GROUPS)?, asking: open(0)? })
    }

    /// Takes back what was told; whether it was anything. If the kernel had to drop some of it, that counts too.
    pub fn take(&self) -> bool {
        let (mut buffer, mut is_any) = (vec![0; BUFFER], false);
        for _ in 0..READINGS {
            match read(&self.told, &mut *buffer) {
                Ok(_) | Err(Errno::NOBUFS) => is_any = true,
                Err(Errno::INTR) => {}
                Err(_) => break,
            }
        }
        is_any
    }

    /// The addresses that can be used beyond one link.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn addresses(&self) -> io::Result<Vec<IpAddr>> {
        write(&self.asking, &request_all(libc::RTM_GETADDR, ADDRESS_HEADER))?;
        let (mut buffer, mut addresses) = (vec![0; BUFFER], Vec::new());
        for _ in 0..READINGS {
            let length = read(&self.asking, &mut *buffer)?;
            if collect(&buffer[..length.min(BUFFER)], &mut addresses) == Rest::Nothing {
                break;
            }
        }
        Ok(addresses)
    }
}

impl AsFd for Changes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
}

/// Whether more of the answer is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    Some,
    Nothing,
}

/// Takes the addresses out of some messages.
fn collect(mut octets: &[u8], addresses: &mut Vec<IpAddr>) -> Rest {
    while let Some((kind, body, rest)) = message(octets) {
        match i32::from(kind) {
            libc::NLMSG_DONE | libc::NLMSG_ERROR => return Rest::Nothing,
            _ if kind == libc::RTM_NEWADDR => {
                let found = address(body).filter(|found| !addresses.contains(found));
                addresses.extend(found.filter(|_| addresses.len() < MOST));
            }
            _ => {}
        }
        octets = rest;
    }
    Rest::Some
}

/// The address that a message is about, if others than neighbours can use it.
fn address(body: &[u8]) -> Option<IpAddr> {
    let [_, _, flags, scope, ..] = *body.first_chunk::<ADDRESS_HEADER>()?;
    let (mut local, mut address, mut flags) = (None, None, u32::from(flags));
    let mut attributes = body.get(ADDRESS_HEADER..)?;
    while let Some((kind, value, rest)) = attribute(attributes) {
        match kind {
            libc::IFA_LOCAL => local = ip(value),
            libc::IFA_ADDRESS => address = ip(value),
            libc::IFA_FLAGS => flags = u32::from_ne_bytes(value.try_into().ok()?),
            _ => {}
        }
        attributes = rest;
    }
    let is_usable = scope < libc::RT_SCOPE_LINK && flags & UNUSABLE == 0;
    // On a link between two, the other one is the peer's.
    local.or(address).filter(|found| is_usable && !found.is_loopback())
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?).into());
    v4().or_else(|| Some(Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?).into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::{ATTRIBUTE_HEADER, HEADER};

    fn attribute_of(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut octets = ((ATTRIBUTE_HEADER + value.len()) as u16).to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend(value);
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    fn message_of(kind: u16, body: &[u8]) -> Vec<u8> {
        let mut octets = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        octets.extend(kind.to_ne_bytes());
        octets.extend([0; 10]);
        octets.extend(body);
        octets
    }

    fn new(scope: u8, flags: u32, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = vec![2, 24, 0, scope, 1, 0, 0, 0];
        for (kind, value) in attributes {
            body.extend(attribute_of(*kind, value));
        }
        body.extend(attribute_of(libc::IFA_FLAGS, &flags.to_ne_bytes()));
        message_of(libc::RTM_NEWADDR, &body)
    }

    #[test]
    fn usable_addresses_are_taken_once() {
        let mut octets = new(0, 0, &[(libc::IFA_ADDRESS, &[192, 0, 2, 1])]);
        octets.extend(new(0, 0, &[(libc::IFA_ADDRESS, &[192, 0, 2, 9]), (libc::IFA_LOCAL, &[192, 0, 2, 1])]));
        octets.extend(new(0, 0, &[(libc::IFA_ADDRESS, &[192, 0, 2, 9]), (libc::IFA_LOCAL, &[192, 0, 2, 2])]));
        octets.extend(new(0, 0, &[(libc::IFA_ADDRESS, &[0x20; 16])]));
        octets.extend(new(253, 0, &[(libc::IFA_ADDRESS, &[0xfe; 16])]));
        octets.extend(new(0, libc::IFA_F_TENTATIVE, &[(libc::IFA_ADDRESS, &[0x21; 16])]));
        octets.extend(new(0, 0, &[(libc::IFA_ADDRESS, &[127, 0, 0, 1])]));
        octets.extend(new(0, 0, &[(libc::IFA_ADDRESS, &[1, 2, 3])]));
        let mut addresses = Vec::new();
        assert_eq!(collect(&octets, &mut addresses), Rest::Some);
        let expected: Vec<IpAddr> = vec![[192, 0, 2, 1].into(), [192, 0, 2, 2].into(), [0x20_u8; 16].into()];
        assert_eq!(addresses, expected);
        assert_eq!(collect(&message_of(3, &[0; 4]), &mut addresses), Rest::Nothing);
    }

    #[test]
    fn no_octets_lead_astray() {
        let whole = new(0, 0, &[(libc::IFA_ADDRESS, &[192, 0, 2, 1])]);
        for at in 0..whole.len() {
            for value in [0, 1, 3, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                collect(&damaged, &mut Vec::new());
            }
            let mut addresses = Vec::new();
            collect(&whole[..at], &mut addresses);
            assert!(addresses.is_empty());
        }
    }

    #[test]
    fn the_kernel_answers() {
        let Ok(changes) = Changes::open() else {
            println!("SKIPPED: no netlink socket is to be had");
            return;
        };
        let addresses = changes.addresses().expect("addresses");
        assert!(addresses.iter().all(|address| !address.is_loopback()));
        assert!(!changes.take() || !changes.take(), "nothing changes all the time");
    }
}
