//! Socket addresses and control messages as the kernel lays them out (ip(7), ipv6(7), cmsg(3)), read and written
//! octet by octet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Octets of the longest address that is read.
pub(super) const NAME_OCTETS: usize = size_of::<libc::sockaddr_in6>();
/// Octets of room for control messages: that with our address, and some for what the kernel may add.
pub(super) const CONTROL_OCTETS: usize = 128;

const HEADER_OCTETS: usize = size_of::<libc::cmsghdr>();

/// An address that the kernel wrote; `None` if it is of neither family.
pub(super) fn read_name(name: &[u8]) -> Option<SocketAddr> {
    let family = i32::from(u16::from_ne_bytes(*name.first_chunk()?));
    let port = u16::from_be_bytes(*name.get(2..)?.first_chunk()?);
    match family {
        libc::AF_INET => {
            let address: [u8; 4] = *name.get(4..)?.first_chunk()?;
            Some((Ipv4Addr::from(address), port).into())
        }
        libc::AF_INET6 => {
            let address: [u8; 16] = *name.get(8..)?.first_chunk()?;
            let scope = u32::from_ne_bytes(*name.get(24..)?.first_chunk()?);
            Some(SocketAddrV6::new(address.into(), port, 0, scope).into())
        }
        _ => None,
    }
}

/// Our address that a datagram was sent to, from the control messages that came with it.
pub(super) fn read_destination(mut control: &[u8]) -> Option<IpAddr> {
    loop {
        let length = usize::from_ne_bytes(*control.first_chunk()?);
        let kind = |at: usize| control.get(at..)?.first_chunk().copied().map(i32::from_ne_bytes);
        let (level, number) = (kind(size_of::<usize>())?, kind(size_of::<usize>() + 4)?);
        let data = control.get(HEADER_OCTETS..length)?;
        match (level, number) {
            // `in_pktinfo`: interface, the address to answer from, that of the header.
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                return data.get(4..)?.first_chunk().map(|a: &[u8; 4]| Ipv4Addr::from(*a).into());
            }
            // `in6_pktinfo`: the address, interface.
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                return data.first_chunk().map(|a: &[u8; 16]| Ipv6Addr::from(*a).into());
            }
            _ => control = control.get(length.next_multiple_of(size_of::<usize>()).max(HEADER_OCTETS)..)?,
        }
    }
}

/// The control message that makes a datagram leave from `source`, on the interface of that number if it is not 0.
pub(super) fn write_source(source: IpAddr, interface: u32) -> Vec<u8> {
    let (level, kind, data) = match source {
        IpAddr::V4(source) => {
            let parts = [interface.to_ne_bytes(), source.octets(), [0; 4]];
            (libc::IPPROTO_IP, libc::IP_PKTINFO, parts.concat())
        }
        IpAddr::V6(source) => {
            let parts = [&source.octets()[..], &interface.to_ne_bytes()];
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, parts.concat())
        }
    };
    let mut message = Vec::with_capacity(CONTROL_OCTETS);
    message.extend((HEADER_OCTETS + data.len()).to_ne_bytes());
    message.extend(level.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.resize(HEADER_OCTETS, 0);
    message.extend(data);
    message.resize(message.len().next_multiple_of(size_of::<usize>()), 0);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let v4: IpAddr = "192.0.2.1".parse().expect("an address");
        let message = write_source(v4, 0);
        assert_eq!((message.len(), read_destination(&message)), (HEADER_OCTETS + 16, Some(v4)));
        let v6: IpAddr = "2001:db8::1".parse().expect("an address");
        // Behind another message, which is skipped.
        let mut control = [HEADER_OCTETS + 1, 0, 0].map(usize::to_ne_bytes).concat();
        control.extend(write_source(v6, 3));
        assert_eq!(read_destination(&control), Some(v6));
    }

    #[test]
    fn no_octets_lead_astray() {
        for length in [0, 1, 8, 15, 16, 17, 24, usize::MAX] {
            let mut control = length.to_ne_bytes().to_vec();
            control.resize(64, 0xff);
            assert_eq!(read_destination(&control), None, "{length}");
        }
        for cut in 0..16 {
            let message = write_source("192.0.2.1".parse().expect("an address"), 0);
            assert_eq!(read_destination(&message[..cut]), None);
            assert_eq!(read_name(&message[..cut]), None);
        }
    }

    #[test]
    fn names_are_read_as_sockets_write_them() {
        for text in ["192.0.2.1:500", "[2001:db8::1]:4500"] {
            let address: SocketAddr = text.parse().expect("an address");
            let raw = socket2::SockAddr::from(address);
            let octets: Vec<u8> = match address {
                SocketAddr::V4(v4) => [
                    &(libc::AF_INET as u16).to_ne_bytes()[..],
                    &v4.port().to_be_bytes(),
                    &v4.ip().octets(),
                    &[0; 8],
                ]
                .concat(),
                SocketAddr::V6(v6) => [
                    &(libc::AF_INET6 as u16).to_ne_bytes()[..],
                    &v6.port().to_be_bytes(),
                    &[0; 4],
                    &v6.ip().octets(),
                    &[0; 4],
                ]
                .concat(),
            };
            assert_eq!((octets.len(), read_name(&octets)), (raw.len() as usize, Some(address)));
        }
    }
}
