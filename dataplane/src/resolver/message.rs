//! A question of DNS and what is of use in its answer (RFC 1035 section 4). What comes from the network is not believed:
//! nothing in it leads out of it, or in circles.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name in its text (RFC 1035 section 2.3.4, less what its form in octets adds).
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;
/// Records of an answer that are looked at.
const MAX_RECORDS: u16 = 64;
/// Addresses that are taken.
const MAX_ADDRESSES: usize = 16;
const HEADER: usize = 12;
const INTERNET: u16 = 1;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// IPv4 addresses.
    A = 1,
    /// IPv6 addresses (RFC 3596).
    Aaaa = 28,
}

/// What a datagram says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Nothing about the question.
    None,
    /// The server cannot tell; another one may.
    Failed,
    /// These addresses; there may be none.
    Addresses(Vec<IpAddr>),
}

/// Whether it can be a host's name: letters, digits, `-` and `_` between dots, and not all of them digits and dots.
pub fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        (1..=MAX_LABEL).contains(&label.len()) && label.chars().all(plain) && !label.starts_with('-')
    };
    let has_letter = text.chars().any(|c| c.is_ascii_alphabetic());
    text.len() <= MAX_NAME && has_letter && text.split('.').all(is_label)
}

/// The question, with recursion desired. `name` is one.
pub(super) fn query(id: u16, name: &str, kind: Kind) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    octets.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    octets.extend(question(name, kind));
    octets
}

fn question(name: &str, kind: Kind) -> Vec<u8> {
    let mut octets = Vec::new();
    for label in name.strip_suffix('.').unwrap_or(name).split('.') {
        octets.push(label.len() as u8);
        octets.extend(label.as_bytes());
    }
    octets.push(0);
    octets.extend((kind as u16).to_be_bytes());
    octets.extend(INTERNET.to_be_bytes());
    octets
}

/// What a datagram says about the question.
pub(super) fn answer(octets: &[u8], id: u16, name: &str, kind: Kind) -> Answer {
    let asked = question(name, kind);
    let Some((header, body)) = octets.split_at_checked(HEADER) else { return Answer::None };
    let is_response = header[2] & 0xf8 == 0x80;
    let repeats = body.get(..asked.len()).is_some_and(|there| there.eq_ignore_ascii_case(&asked));
    if header[..2] != id.to_be_bytes() || !is_response || header[4..6] != [0, 1] || !repeats {
        return Answer::None;
    }
    match header[3] & 0x0f {
        0 => {}
        // There is no such name (RFC 2308 section 2.1).
        3 => return Answer::Addresses(Vec::new()),
        _ => return Answer::Failed,
    }
    let count = u16::from_be_bytes([header[6], header[7]]).min(MAX_RECORDS);
    Answer::Addresses(addresses(&body[asked.len()..], count, kind))
}

/// Of the first records, whosever: a recursive server gives the chain of other names that leads to them too.
fn addresses(mut rest: &[u8], count: u16, kind: Kind) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for _ in 0..count {
        let Some((record, data, behind)) = record(rest) else { break };
        if record == kind as u16 && found.len() < MAX_ADDRESSES {
            found.extend(address(data));
        }
        rest = behind;
    }
    found
}

/// The type and data of the first record, and what follows it.
fn record(octets: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let rest = behind_name(octets)?;
    let (fixed, rest) = rest.split_at_checked(10)?;
    let kind = u16::from_be_bytes([fixed[0], fixed[1]]);
    let is_internet = fixed[2..4] == INTERNET.to_be_bytes();
    let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([fixed[8], fixed[9]])))?;
    Some((if is_internet { kind } else { 0 }, data, rest))
}

/// What follows a name, which ends with an empty label or a pointer (RFC 1035 section 4.1.4).
fn behind_name(mut octets: &[u8]) -> Option<&[u8]> {
    loop {
        let (length, rest) = octets.split_first()?;
        match *length {
            0 => return Some(rest),
            pointer if pointer & 0xc0 == 0xc0 => return rest.get(1..),
            length if usize::from(length) <= MAX_LABEL => octets = rest.get(usize::from(length)..)?,
            _ => return None,
        }
    }
}

fn address(data: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into());
    v4().or_else(|| Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAME: &str = "vpn.example.org";

    /// An answer as a server gives it: another name first, then addresses of that.
    fn answered(rcode: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let mut octets = query(7, NAME, Kind::A);
        (octets[2], octets[3], octets[7]) = (0x81, 0x80 | rcode, 1 + addresses.len() as u8);
        octets.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 4, 1, b'a', 0xc0, 16]);
        for address in addresses {
            let (kind, data) = match address {
                IpAddr::V4(v4) => (1, v4.octets().to_vec()),
                IpAddr::V6(v6) => (28, v6.octets().to_vec()),
            };
            octets.extend([1, b'a', 0xc0, 16, 0, kind, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
            octets.extend(data);
        }
        octets
    }

    #[test]
    fn a_question_looks_as_the_figures_say() {
        let octets = query(0x1234, "a.bc.", Kind::Aaaa);
        let expected = [0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, b'a', 2, b'b', b'c', 0, 0, 28, 0, 1];
        assert_eq!(octets, expected);
    }

    #[test]
    fn the_addresses_that_were_asked_for_are_taken() {
        let v6: IpAddr = "2001:db8::1".parse().expect("an address");
        let both = [[192, 0, 2, 1].into(), v6, [192, 0, 2, 2].into()];
        let octets = answered(0, &both);
        assert_eq!(
            answer(&octets, 7, "VPN.example.org.", Kind::A),
            Answer::Addresses(vec![both[0], both[2]])
        );
        assert_eq!(answer(&octets, 8, NAME, Kind::A), Answer::None, "another question");
        assert_eq!(answer(&octets, 7, "vpn.example.com", Kind::A), Answer::None, "another name");
        assert_eq!(answer(&octets, 7, NAME, Kind::Aaaa), Answer::None, "another type");
        assert_eq!(answer(&query(7, NAME, Kind::A), 7, NAME, Kind::A), Answer::None, "a question");
        assert_eq!(answer(&answered(3, &[]), 7, NAME, Kind::A), Answer::Addresses(vec![]));
        assert_eq!(answer(&answered(2, &both), 7, NAME, Kind::A), Answer::Failed);
    }

    #[test]
    fn names_are_names() {
        let long = format!("{}.org", "a".repeat(64));
        let longer = ["a".repeat(63).as_str(); 4].join(".");
        for bad in
            ["", ".", "a..b", "192.0.2.1", "a b", "-a.org", "10.0.0.0/8", "%any", "a/b", &long, &longer]
        {
            assert!(!is_name(bad), "{bad}");
        }
        for good in ["vpn", "vpn.example.org.", "1.example.org", "_a.b-c"] {
            assert!(is_name(good), "{good}");
        }
    }

    proptest! {
        #[test]
        fn no_octets_lead_astray(octets in prop::collection::vec(any::<u8>(), 0..200), tail in any::<bool>()) {
            let whole = if tail { [answered(0, &[]), octets].concat() } else { octets };
            if let Answer::Addresses(found) = answer(&whole, 7, NAME, Kind::A) {
                prop_assert!(found.len() <= MAX_ADDRESSES);
            }
        }

        #[test]
        fn a_damaged_answer_is_read_to_its_end(at in 0_usize..100, value in any::<u8>()) {
            let mut octets = answered(0, &[[192, 0, 2, 1].into(); 3]);
            let length = octets.len();
            octets[at % length] = value;
            answer(&octets, 7, NAME, Kind::A);
            answer(&octets[..at % length], 7, NAME, Kind::A);
        }
    }
}
