//! Socket filters (classic BPF): which packets of the outer interface are ours, and which worker gets them.
//!
//! Ours is what is addressed to this host, to one of the outer addresses: ESP; UDP to one of the encapsulation ports
//! that carries ESP (RFC 3948 section 2.2: four octets of zero mark IKE); ICMP errors about either. Everything else
//! stays the kernel's, IKE and NAT keepalives included. These are the rules of the XDP program, except that IPv6
//! extension headers are not walked, and that segments are left to the workers. Offsets are those in the IP packet.

use std::net::IpAddr;

use crate::packet::ipv4::{ESP, UDP};

type Instruction = libc::sock_filter;

/// The kernel's limit on a filter (linux/bpf_common.h).
const LONGEST: usize = 4096;

/// `SKF_AD_OFF + SKF_AD_PKTTYPE`: how the packet was addressed on the link; 0 is to us.
const PACKET_TYPE: u32 = libc::SKF_AD_OFF.cast_unsigned() + libc::SKF_AD_PKTTYPE.cast_unsigned();

const IPV6_HEADER: u32 = 40;
const ICMP_HEADER: u32 = 8;
/// Within the word of flags and offset.
const FRAGMENT_OFFSET: u32 = 0x1fff;

const WHOLE: u32 = u32::MAX;
const NOTHING: u32 = 0;

const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_OCTET: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_WORD_AT: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_IND;
const LOAD_OCTET_AT: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_IND;
const LOAD_HALF_AT: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_IND;
/// The octets of an IPv4 header: four times the low half of its first octet.
const LOAD_HEADER_LENGTH: u32 = libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH;
const LOAD_INDEX: u32 = libc::BPF_LDX | libc::BPF_W | libc::BPF_IMM;
const AND: u32 = libc::BPF_ALU | libc::BPF_AND | libc::BPF_K;
const SHIFT_LEFT: u32 = libc::BPF_ALU | libc::BPF_LSH | libc::BPF_K;
const ADD: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K;
const ADD_INDEX: u32 = libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X;
const TO_INDEX: u32 = libc::BPF_MISC | libc::BPF_TAX;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const IF_ANY_BIT: u32 = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
const JUMP: u32 = libc::BPF_JMP | libc::BPF_JA;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;
const RETURN_VALUE: u32 = libc::BPF_RET | libc::BPF_A;

/// The IP version that a socket receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    const fn protocol(self) -> u32 {
        match self {
            Self::V4 => 9,
            Self::V6 => 6,
        }
    }

    const fn destination(self) -> u32 {
        match self {
            Self::V4 => 16,
            Self::V6 => 24,
        }
    }

    /// The protocol number of ICMP.
    const fn icmp(self) -> u32 {
        match self {
            Self::V4 => 1,
            Self::V6 => 58,
        }
    }

    /// ICMP types about packets that we sent: unreachable, time exceeded, parameter problem (RFC 792), and packet too
    /// big among them (RFC 4443 section 3).
    const fn icmp_errors(self) -> &'static [u32] {
        match self {
            Self::V4 => &[3, 11, 12],
            Self::V6 => &[1, 2, 3, 4],
        }
    }

    /// Whether the address is of this family.
    pub(super) fn owns(self, address: &IpAddr) -> bool {
        address.is_ipv4() == (self == Self::V4)
    }
}

const fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> Instruction {
    Instruction { code: code as u16, jt, jf, k }
}

/// A filter that takes nothing.
pub(super) fn nothing() -> Vec<Instruction> {
    vec![instruction(RETURN, 0, 0, NOTHING)]
}

/// The filter of the sockets that receive.
///
/// Where the addresses are too many for a filter, any address will do: the SA's own addresses are compared later in
/// any case.
pub(super) fn ours(family: Family, addresses: &[IpAddr], ports: &[u16]) -> Vec<Instruction> {
    let filter = |addresses: &[IpAddr]| {
        let mut code = vec![instruction(LOAD_OCTET, 0, 0, PACKET_TYPE)];
        code.extend(require_equal(0));
        code.extend(is_esp(family, ports));
        code.extend(is_to(family, addresses));
        code
    };
    let own: Vec<_> = addresses.iter().filter(|address| family.owns(address)).copied().collect();
    let code = filter(&own);
    if code.len() <= LONGEST { code } else { filter(&[]) }
}

/// Returns nothing unless the packet is ESP or about it; goes on behind otherwise.
fn is_esp(family: Family, ports: &[u16]) -> Vec<Instruction> {
    let mut udp = require_equal(u32::from(UDP)).to_vec();
    udp.extend(udp_carries_esp(family, ports));
    let icmp = icmp_is_about_esp(family, ports);
    udp.push(instruction(JUMP, 0, 0, icmp.len() as u32));
    let (to_icmp, to_end) = (udp.len() as u32, (udp.len() + icmp.len()) as u32);
    let mut code = vec![
        instruction(LOAD_OCTET, 0, 0, family.protocol()),
        instruction(IF_EQUAL, 0, 1, u32::from(ESP)),
        instruction(JUMP, 0, 0, to_end + 2),
        instruction(IF_EQUAL, 0, 1, family.icmp()),
        instruction(JUMP, 0, 0, to_icmp),
    ];
    code.extend(udp);
    code.extend(icmp);
    code
}

/// Returns nothing unless the datagram is to one of the ports and begins with an SPI. Later fragments tell neither.
fn udp_carries_esp(family: Family, ports: &[u16]) -> Vec<Instruction> {
    let mut code = behind_header(family);
    code.push(instruction(LOAD_HALF_AT, 0, 0, 2));
    code.extend(begins_with_spi(ports));
    code
}

/// Returns nothing unless the message is an error about ESP, or about UDP from one of the ports with an SPI. We send
/// no extension headers, so none are looked for.
fn icmp_is_about_esp(family: Family, ports: &[u16]) -> Vec<Instruction> {
    let mut udp = require_equal(u32::from(UDP)).to_vec();
    udp.extend(behind_quoted_header(family));
    udp.push(instruction(LOAD_HALF_AT, 0, 0, 0));
    udp.extend(begins_with_spi(ports));

    let mut code = behind_header(family);
    code.push(instruction(LOAD_OCTET_AT, 0, 0, 0));
    code.extend(require_any_of(family.icmp_errors()));
    code.push(instruction(LOAD_OCTET_AT, 0, 0, ICMP_HEADER + family.protocol()));
    code.push(instruction(IF_EQUAL, 0, 1, u32::from(ESP)));
    code.push(instruction(JUMP, 0, 0, udp.len() as u32));
    code.extend(udp);
    code
}

/// Moves the index behind the IP header. Returns nothing for a later fragment: what follows there is no header.
fn behind_header(family: Family) -> Vec<Instruction> {
    match family {
        Family::V4 => {
            let mut code = vec![instruction(LOAD_HALF, 0, 0, 6)];
            code.extend(require_no_bit(FRAGMENT_OFFSET));
            code.push(instruction(LOAD_HEADER_LENGTH, 0, 0, 0));
            code
        }
        Family::V6 => vec![instruction(LOAD_INDEX, 0, 0, IPV6_HEADER)],
    }
}

/// Moves the index from the ICMP header behind the IP header that it quotes.
fn behind_quoted_header(family: Family) -> Vec<Instruction> {
    match family {
        Family::V4 => {
            let mut code = vec![instruction(LOAD_HALF_AT, 0, 0, ICMP_HEADER + 6)];
            code.extend(require_no_bit(FRAGMENT_OFFSET));
            code.extend([
                instruction(LOAD_OCTET_AT, 0, 0, ICMP_HEADER),
                instruction(AND, 0, 0, 15),
                instruction(SHIFT_LEFT, 0, 0, 2),
                instruction(ADD_INDEX, 0, 0, 0),
                instruction(ADD, 0, 0, ICMP_HEADER),
                instruction(TO_INDEX, 0, 0, 0),
            ]);
            code
        }
        Family::V6 => vec![instruction(LOAD_INDEX, 0, 0, IPV6_HEADER + ICMP_HEADER + IPV6_HEADER)],
    }
}

/// Returns nothing unless the port that was loaded is one of these, and an SPI follows the UDP header.
fn begins_with_spi(ports: &[u16]) -> Vec<Instruction> {
    let ports: Vec<_> = ports.iter().map(|port| u32::from(*port)).collect();
    let mut code = require_any_of(&ports);
    code.extend([
        // A load behind the end returns nothing: so much for keepalives.
        instruction(LOAD_WORD_AT, 0, 0, 8),
        instruction(IF_EQUAL, 0, 1, 0),
        instruction(RETURN, 0, 0, NOTHING),
    ]);
    code
}

fn require_equal(value: u32) -> [Instruction; 2] {
    [instruction(IF_EQUAL, 1, 0, value), instruction(RETURN, 0, 0, NOTHING)]
}

fn require_no_bit(mask: u32) -> [Instruction; 2] {
    [instruction(IF_ANY_BIT, 0, 1, mask), instruction(RETURN, 0, 0, NOTHING)]
}

fn require_any_of(values: &[u32]) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (left, value) in (0..values.len()).rev().zip(values) {
        code.push(instruction(IF_EQUAL, 0, 1, *value));
        code.push(instruction(JUMP, 0, 0, 2 * left as u32 + 1));
    }
    code.push(instruction(RETURN, 0, 0, NOTHING));
    code
}

/// Returns the whole packet if it is to one of the addresses, or if there are none.
fn is_to(family: Family, addresses: &[IpAddr]) -> Vec<Instruction> {
    let mut code = Vec::new();
    for address in addresses {
        code.extend(match address {
            IpAddr::V4(address) => is_to_words(family, &[address.to_bits()]),
            IpAddr::V6(address) => {
                let bits = address.to_bits();
                is_to_words(family, &[96, 64, 32, 0].map(|shift| (bits >> shift) as u32))
            }
        });
    }
    let otherwise = if addresses.is_empty() { WHOLE } else { NOTHING };
    code.push(instruction(RETURN, 0, 0, otherwise));
    code
}

fn is_to_words(family: Family, words: &[u32]) -> Vec<Instruction> {
    let mut code = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let left = (words.len() - 1 - index) as u8;
        code.push(instruction(LOAD_WORD, 0, 0, family.destination() + 4 * index as u32));
        code.push(instruction(IF_EQUAL, 0, 2 * left + 1, *word));
    }
    code.push(instruction(RETURN, 0, 0, WHOLE));
    code
}

/// The program that divides packets among workers: by SPI, so that every SA has one worker, and SAs of one peer
/// have several.
pub(super) fn by_spi(family: Family) -> Vec<Instruction> {
    let header = match family {
        Family::V4 => instruction(LOAD_HEADER_LENGTH, 0, 0, 0),
        Family::V6 => instruction(LOAD_INDEX, 0, 0, IPV6_HEADER),
    };
    vec![
        header,
        instruction(LOAD_OCTET, 0, 0, family.protocol()),
        instruction(IF_EQUAL, 0, 2, u32::from(UDP)),
        instruction(LOAD_WORD_AT, 0, 0, 8),
        instruction(RETURN_VALUE, 0, 0, 0),
        instruction(LOAD_WORD_AT, 0, 0, 0),
        instruction(RETURN_VALUE, 0, 0, 0),
    ]
}

#[cfg(test)]
mod tests;
