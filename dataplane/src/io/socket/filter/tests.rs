//! The programs on an interpreter that knows as much of classic BPF as they use.

use proptest::prelude::*;

use super::*;

fn load(packet: &[u8], code: u32, at: usize, packet_type: u32) -> Option<u32> {
    if at as u32 == PACKET_TYPE {
        return Some(packet_type);
    }
    let octets = match code & 0x18 {
        libc::BPF_W => 4,
        libc::BPF_H => 2,
        _ => 1,
    };
    let value = packet.get(at..at + octets)?;
    Some(value.iter().fold(0, |value, octet| value << 8 | u32::from(*octet)))
}

/// What the kernel would return: a load behind the end returns nothing.
fn run(program: &[Instruction], packet: &[u8], packet_type: u32) -> u32 {
    let (mut a, mut x, mut at) = (0, 0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        let code = u32::from(code);
        at += 1;
        let loaded = match code {
            LOAD_WORD | LOAD_HALF | LOAD_OCTET => load(packet, code, k as usize, packet_type),
            LOAD_WORD_AT | LOAD_HALF_AT | LOAD_OCTET_AT => load(packet, code, (k + x) as usize, packet_type),
            LOAD_HEADER_LENGTH => packet.get(k as usize).map(|first| u32::from(first & 15) * 4),
            LOAD_INDEX => Some(k),
            IF_EQUAL | IF_ANY_BIT => {
                let holds = if code == IF_EQUAL { a == k } else { a & k != 0 };
                at += usize::from(if holds { jt } else { jf });
                continue;
            }
            JUMP => {
                at += k as usize;
                continue;
            }
            TO_INDEX => {
                x = a;
                continue;
            }
            AND => Some(a & k),
            SHIFT_LEFT => Some(a << k),
            ADD => Some(a + k),
            ADD_INDEX => Some(a + x),
            RETURN => return k,
            RETURN_VALUE => return a,
            other => panic!("instruction {other:#x}"),
        };
        match (loaded, code) {
            (None, _) => return 0,
            (Some(value), LOAD_HEADER_LENGTH | LOAD_INDEX) => x = value,
            (Some(value), _) => a = value,
        }
    }
}

#[derive(Clone, Debug)]
struct Datagram {
    ipv6: bool,
    options: usize,
    fragment: u16,
    protocol: u8,
    destination: IpAddr,
    port: u16,
    payload: Vec<u8>,
    /// What an ICMP message quotes, and its type.
    quoted: Option<(u8, Box<Datagram>)>,
}

impl Datagram {
    fn octets(&self) -> Vec<u8> {
        let mut body = self.payload.clone();
        if self.protocol == UDP {
            let [high, low] = self.port.to_be_bytes();
            // The same as source and destination port.
            body.splice(0..0, [high, low, high, low, 0, 0, 0, 0]);
        }
        if let Some((kind, quoted)) = &self.quoted {
            body = [[*kind, 0, 0, 0, 0, 0, 0, 0].as_slice(), &quoted.octets()].concat();
        }
        let mut header = match self.destination {
            IpAddr::V4(to) => {
                let mut header = vec![0x45 + (self.options / 4) as u8, 0, 0, 0, 0, 0];
                header.extend(self.fragment.to_be_bytes());
                header.extend([64, self.protocol, 0, 0, 9, 9, 9, 9]);
                header.extend(to.octets());
                header.resize(20 + self.options, 1);
                header
            }
            IpAddr::V6(to) => {
                let mut header = vec![0x60, 0, 0, 0, 0, 0, self.protocol, 64];
                header.extend([7; 16]);
                header.extend(to.octets());
                header
            }
        };
        header.extend(body);
        header
    }

    /// The rule in plain words.
    fn is_ours(&self, addresses: &[IpAddr], ports: &[u16]) -> bool {
        let mut own = addresses.iter().filter(|address| address.is_ipv6() == self.ipv6).peekable();
        let to_us = own.peek().is_none() || own.any(|address| *address == self.destination);
        let first = self.ipv6 || self.fragment.trailing_zeros() >= 13;
        let errors: &[u8] = if self.ipv6 { &[1, 2, 3, 4] } else { &[3, 11, 12] };
        let about =
            |(kind, quoted): &(u8, Box<Self>)| first && errors.contains(kind) && quoted.carries_esp(ports);
        to_us && self.quoted.as_ref().map_or_else(|| self.carries_esp(ports), about)
    }

    fn carries_esp(&self, ports: &[u16]) -> bool {
        let marked = self.payload.len() >= 4 && self.payload[..4] != [0; 4];
        let first = self.ipv6 || self.fragment.trailing_zeros() >= 13;
        match self.protocol {
            ESP => true,
            UDP => ports.contains(&self.port) && marked && first,
            _ => false,
        }
    }

    fn family(&self) -> Family {
        if self.ipv6 { Family::V6 } else { Family::V4 }
    }
}

fn address(ipv6: bool) -> impl Strategy<Value = IpAddr> {
    (0..4_u8, 0..4_u8).prop_map(move |(a, b)| {
        if ipv6 {
            [0x2001 + u16::from(a), 0, 0, u16::from(b), 0, 0, 0, 1].into()
        } else {
            [192, 0, a, b].into()
        }
    })
}

/// Datagrams, and ICMP messages about such.
fn datagrams() -> impl Strategy<Value = Datagram> {
    any::<bool>().prop_flat_map(|ipv6| {
        let quoting =
            (datagrams_of(ipv6), datagrams_of(ipv6), 0..14_u8).prop_map(move |(message, quoted, kind)| {
                let protocol = if ipv6 { 58 } else { 1 };
                Datagram { protocol, quoted: Some((kind, Box::new(quoted))), ..message }
            });
        prop_oneof![datagrams_of(ipv6), quoting]
    })
}

fn datagrams_of(ipv6: bool) -> impl Strategy<Value = Datagram> {
    // ICMP messages that quote nothing sensible are made of the other kinds.
    let protocol = prop_oneof![Just(ESP), Just(UDP), any::<u8>().prop_filter("", |p| !matches!(p, 1 | 58))];
    let fragment = prop_oneof![Just(0_u16), Just(0x4000), any::<u16>()];
    let payload = prop_oneof![
        Just(vec![0xff]),
        Just(vec![0, 0, 0, 0, 1, 2, 3]),
        proptest::collection::vec(any::<u8>(), 0..20)
    ];
    let fields = (0..=10_usize, fragment, protocol, address(ipv6), 4498..4503_u16, payload);
    fields.prop_map(move |(options, fragment, protocol, destination, port, payload)| Datagram {
        ipv6,
        options: options * 4,
        fragment,
        protocol,
        destination,
        port,
        payload,
        quoted: None,
    })
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    proptest::collection::vec(any::<bool>().prop_flat_map(address), 0..8)
}

proptest! {
    #[test]
    fn ours_is_what_the_rule_says(
        datagram in datagrams(),
        addresses in addresses(),
        ports in proptest::collection::vec(4498..4503_u16, 0..4),
    ) {
        let program = ours(datagram.family(), &addresses, &ports);
        let taken = run(&program, &datagram.octets(), 0);
        let expected = if datagram.is_ours(&addresses, &ports) { WHOLE } else { NOTHING };
        prop_assert_eq!(taken, expected);
        for elsewhere in 1..5 {
            prop_assert_eq!(run(&program, &datagram.octets(), elsewhere), NOTHING);
        }
    }

    #[test]
    fn no_octets_are_too_few(datagram in datagrams(), cut in 0..80_usize, addresses in addresses()) {
        let octets = datagram.octets();
        let octets = &octets[..octets.len().min(cut)];
        run(&ours(datagram.family(), &addresses, &[4500]), octets, 0);
        run(&by_spi(datagram.family()), octets, 0);
    }

    #[test]
    fn packets_are_divided_by_spi(datagram in any::<bool>().prop_flat_map(datagrams_of)) {
        prop_assume!(datagram.payload.len() >= 4 && matches!(datagram.protocol, ESP | UDP));
        let spi = u32::from_be_bytes(datagram.payload[..4].try_into().expect("four octets"));
        prop_assert_eq!(run(&by_spi(datagram.family()), &datagram.octets(), 0), spi);
    }
}

#[test]
fn more_addresses_than_a_filter_takes_stand_for_any() {
    let many =
        |count: u32| (0..count).map(|i| IpAddr::from((0x0a00_0000 + i).to_be_bytes())).collect::<Vec<_>>();
    let longest = ours(Family::V4, &many(1200), &[4500]);
    assert!(longest.len() <= LONGEST && longest.len() > 3600);
    let any = ours(Family::V4, &many(3000), &[4500]);
    assert_eq!(any.len(), ours(Family::V4, &[], &[4500]).len());
    let last = many(1200)[1199];
    let to = |destination| Datagram {
        ipv6: false,
        options: 0,
        fragment: 0,
        protocol: ESP,
        destination,
        port: 0,
        payload: vec![1; 8],
        quoted: None,
    };
    assert_eq!(run(&longest, &to(last).octets(), 0), WHOLE);
    assert_eq!(run(&longest, &to(many(1201)[1200]).octets(), 0), NOTHING);
}
