//! Addresses in notifies (RFC 4555 sections 4.2.2 to 4.2.7).

use std::net::{IpAddr, SocketAddr};

use super::super::message::{Message, flag, notify};
use crate::configuration::{Connection, Mode};
use crate::host::{Host, Path};
use crate::wire::{Notify, NotifyType, Payload};

/// Addresses of the peer that are kept; who tells of more is reached by these.
pub(in crate::machine) const MAX_ADDITIONAL: usize = 16;

/// Whether we speak it: the SAs that move are those of tunnel mode (RFC 4555 section 1.3).
pub(in crate::machine) fn speaks(connection: &Connection) -> bool {
    connection.mobike.is_some() && connection.children.iter().any(|child| child.mode == Mode::Tunnel)
}

pub(super) fn forbids_nats(connection: &Connection) -> bool {
    connection.mobike.is_some_and(|mobike| !mobike.nats)
}

/// What our IKE_AUTH message says of it (RFC 4555 sections 3.1 and 3.4), and the addresses in it.
pub(in crate::machine) fn announcement(
    host: &dyn Host,
    connection: &Connection,
    path: Path,
    is_initiator: bool,
) -> (Vec<Payload>, Vec<IpAddr>) {
    let addresses = own(host, connection, path.local.ip());
    let mut payloads = vec![flag(NotifyType::MOBIKE_SUPPORTED)];
    payloads.extend(addresses.iter().map(|address| additional(*address)));
    payloads.extend((is_initiator && forbids_nats(connection)).then(|| no_nats(path)));
    (payloads, addresses)
}

/// Our further addresses: those that the operator has named for the connection and that are there. What else this host
/// has is nobody's business.
pub(super) fn own(host: &dyn Host, connection: &Connection, present: IpAddr) -> Vec<IpAddr> {
    let (named, there) = (&connection.local_addresses, host.local_addresses());
    let is_further = |address: &&IpAddr| **address != present && there.contains(address);
    named.iter().filter(is_further).take(MAX_ADDITIONAL).copied().collect()
}

/// The complete list of our further addresses (RFC 4555 section 3.6).
pub(super) fn list(addresses: &[IpAddr]) -> Vec<Payload> {
    match addresses {
        [] => vec![flag(NotifyType::NO_ADDITIONAL_ADDRESSES)],
        some => some.iter().map(|address| additional(*address)).collect(),
    }
}

fn additional(address: IpAddr) -> Payload {
    match address {
        IpAddr::V4(address) => notify(NotifyType::ADDITIONAL_IP4_ADDRESS, address.octets()),
        IpAddr::V6(address) => notify(NotifyType::ADDITIONAL_IP6_ADDRESS, address.octets()),
    }
}

/// The peer's further addresses; malformed ones and those that are no single host's are left out.
pub(super) fn read(message: &Message) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for address in message.notifies.iter().filter_map(address) {
        if addresses.len() < MAX_ADDITIONAL && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

fn address(notify: &Notify) -> Option<IpAddr> {
    let address: IpAddr = match notify.kind {
        NotifyType::ADDITIONAL_IP4_ADDRESS => <[u8; 4]>::try_from(notify.data.as_slice()).ok()?.into(),
        NotifyType::ADDITIONAL_IP6_ADDRESS => <[u8; 16]>::try_from(notify.data.as_slice()).ok()?.into(),
        _ => return None,
    };
    is_host(address).then_some(address)
}

/// Whether it can be one host's, and is not merely this one's own.
pub(in crate::machine) fn is_host(address: IpAddr) -> bool {
    let is_broadcast = address == IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_broadcast)
}

/// Whether the message brings the complete list.
pub(super) fn has_list(message: &Message) -> bool {
    let kinds = [
        NotifyType::ADDITIONAL_IP4_ADDRESS,
        NotifyType::ADDITIONAL_IP6_ADDRESS,
        NotifyType::NO_ADDITIONAL_ADDRESSES,
    ];
    kinds.into_iter().any(|kind| message.has(kind))
}

/// NO_NATS_ALLOWED of a message that goes along `path` (RFC 4555 section 4.2.7): source and destination address,
/// source and destination port.
pub(super) fn no_nats(path: Path) -> Payload {
    notify(NotifyType::NO_NATS_ALLOWED, ends(path.local, path.remote))
}

/// Whether a message that came along `path` forbids NATs, and one has been on the way (RFC 4555 section 3.9).
pub(in crate::machine) fn has_met_nat(message: &Message, path: Path) -> bool {
    let forbidden = message.notify(NotifyType::NO_NATS_ALLOWED);
    forbidden.is_some_and(|notify| notify.data != ends(path.remote, path.local))
}

fn ends(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut octets = Vec::with_capacity(36);
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(address) => octets.extend(address.octets()),
            IpAddr::V6(address) => octets.extend(address.octets()),
        }
    }
    octets.extend(source.port().to_be_bytes());
    octets.extend(destination.port().to_be_bytes());
    octets
}

/// COOKIE2 of the peer's, to be given back (RFC 4555 section 4.2.5): 8 to 64 octets.
pub(super) fn cookie(message: &Message) -> Option<&[u8]> {
    let cookie = &message.notify(NotifyType::COOKIE2)?.data;
    (8..=64).contains(&cookie.len()).then_some(cookie)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(local: &str, remote: &str) -> Path {
        Path { local: local.parse().unwrap(), remote: remote.parse().unwrap(), marked: true }
    }

    fn body(payload: &Payload) -> (u16, Vec<u8>) {
        let Payload::Notify(notify) = payload else { panic!("no notify") };
        assert!(notify.spi.is_empty() && notify.protocol.0 == 0, "section 4.2: both zero");
        (notify.kind.0, notify.data.clone())
    }

    /// Figures of RFC 4555 section 4, numbers of IANA's registry.
    #[test]
    fn notifies_look_as_the_figures_say() {
        assert_eq!(body(&additional([192, 0, 2, 1].into())), (16397, vec![192, 0, 2, 1]));
        let v6: IpAddr = "2001:db8::1".parse().unwrap();
        let octets = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        assert_eq!(body(&additional(v6)), (16398, octets.to_vec()));
        assert_eq!(list(&[]).iter().map(body).collect::<Vec<_>>(), [(16399, vec![])]);
        let no_nats = body(&no_nats(path("192.0.2.1:4500", "198.51.100.2:4501")));
        assert_eq!(no_nats, (16402, vec![192, 0, 2, 1, 198, 51, 100, 2, 0x11, 0x94, 0x11, 0x95]));
        let v6 = path("[2001:db8::1]:4500", "[2001:db8::2]:4500");
        assert_eq!(ends(v6.local, v6.remote).len(), 36);
        let numbers = [
            (NotifyType::UNACCEPTABLE_ADDRESSES, 40),
            (NotifyType::UNEXPECTED_NAT_DETECTED, 41),
            (NotifyType::MOBIKE_SUPPORTED, 16396),
            (NotifyType::UPDATE_SA_ADDRESSES, 16400),
            (NotifyType::COOKIE2, 16401),
        ];
        assert!(numbers.iter().all(|(kind, number)| kind.0 == *number));
    }

    #[test]
    fn only_hosts_are_kept_and_not_many() {
        let message = |payloads| Message::sort(payloads).unwrap();
        let odd: Vec<IpAddr> =
            ["0.0.0.0", "224.0.0.1", "127.0.0.1", "255.255.255.255", "::", "ff02::1", "::1"]
                .map(|text| text.parse().unwrap())
                .to_vec();
        assert!(read(&message(list(&odd))).is_empty());
        let short = notify(NotifyType::ADDITIONAL_IP4_ADDRESS, [1, 2, 3]);
        assert!(read(&message(vec![short])).is_empty());
        let many: Vec<IpAddr> = (1..=100).map(|last| [192, 0, 2, last].into()).collect();
        let twice = [list(&many), list(&many)].concat();
        assert_eq!(read(&message(twice)).len(), MAX_ADDITIONAL);
    }

    #[test]
    fn a_nat_on_the_way_is_seen() {
        let sent = path("192.0.2.1:4500", "198.51.100.2:4500");
        let came = Path { local: sent.remote, remote: sent.local, marked: true };
        let message = Message::sort(vec![no_nats(sent)]).unwrap();
        assert!(!has_met_nat(&message, came));
        for changed in ["192.0.2.1:4501", "192.0.2.9:4500", "[2001:db8::1]:4500"] {
            assert!(has_met_nat(&message, Path { remote: changed.parse().unwrap(), ..came }));
        }
        assert!(!has_met_nat(&Message::default(), came));
    }

    #[test]
    fn cookies_have_8_to_64_octets() {
        for (length, is_one) in [(0, false), (7, false), (8, true), (64, true), (65, false)] {
            let message = Message::sort(vec![notify(NotifyType::COOKIE2, vec![1; length])]).unwrap();
            assert_eq!(cookie(&message).is_some(), is_one, "{length}");
        }
    }
}
