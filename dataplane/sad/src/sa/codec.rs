//! An SA's configuration as the words of a slot, and back.
//!
//! | word | high to low |
//! |---|---|
//! | 0 | SPI 32, other direction's SPI 32 |
//! | 1 | reqid 32, suite's lower half 16, segment 8, flags 8 |
//! | 2 | replay window 16, path MTU 16, DSCP 8, DF 8, name length 8, selector count 8 |
//! | 3 | suite's upper half 16, key length 8, sender count 8 |
//! | 4-7 | name |
//! | 8-20 | key |
//! | 21-22, 23-24 | outer source, outer destination |
//! | 25 | per selector 16: protocol 8, any protocol 1, IPv6 1 |
//! | 26-61 | per selector 9: four ports in one word, then the ends of local and remote |
//! | 62-69 | senders: node 8, cluster 56 |
//! | 70 | keep-alive seconds 16, UDP source port 16, UDP destination port 16, TFC padding 16 |
//! | 71-78 | soft, then hard bounds: octets, packets, sequence, end |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zeroize::Zeroizing;

use super::{
    AddressRange, ClusterId, DfPolicy, Direction, DscpPolicy, Key, Lifetime, Mode, Name, NodeId, Sa,
    Selector, Selectors, Sender, Senders, Suite, TfcPadding, UdpEncapsulation,
};
use crate::layout::CONFIG_WORDS;
use crate::sync::{AtomicU64, Ordering};

const NAME: usize = 4;
const KEY: usize = 8;
const SOURCE: usize = 21;
const DESTINATION: usize = 23;
const SELECTOR_KINDS: usize = 25;
const SELECTORS: usize = 26;
const SELECTOR_WORDS: usize = 9;
const SENDERS: usize = 62;
const UDP: usize = 70;
const LIFETIME: usize = 71;

const OUTBOUND: u64 = 1;
const EXTENDED_SEQUENCE: u64 = 2;
const OUTER_IPV6: u64 = 4;
const TRANSPORT: u64 = 8;
const FOLLOWS_PEER: u64 = 16;
const CLAMP_MSS: u64 = 32;
/// TFC padding up to the path MTU; 0 is none.
const TO_PATH_MTU: u64 = 0xffff;
const ANY_PROTOCOL: u64 = 0x100;
const SELECTOR_IPV6: u64 = 0x200;
const COPY_DSCP: u64 = 0xff;

/// The words of a configuration; they hold a key, so they are wiped.
pub(crate) type ConfigWords = Zeroizing<[u64; CONFIG_WORDS]>;

/// A tag to scan for when an SA is looked for by name (FNV-1a); never 0.
pub(crate) fn name_tag(name: &str) -> u64 {
    fnv1a(name.as_bytes()).max(1)
}

/// FNV-1a: the same in every process and release, as what stands in the table has to be.
pub(crate) fn fnv1a(octets: &[u8]) -> u64 {
    octets
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, octet| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3))
}

pub(crate) fn encode(sa: &Sa) -> ConfigWords {
    let mut words = Zeroizing::new([0; CONFIG_WORDS]);
    words[0] = u64::from(sa.spi) << 32 | u64::from(sa.peer_spi);
    words[1] = u64::from(sa.reqid) << 32
        | u64::from(sa.suite.number() & 0xffff) << 16
        | u64::from(sa.segment) << 8
        | encode_flags(sa);
    words[2] = u64::from(sa.replay_window) << 48
        | u64::from(sa.path_mtu) << 32
        | encode_dscp(sa.dscp) << 24
        | encode_df(sa.df) << 16
        | (sa.name.as_str().len() as u64) << 8
        | sa.selectors.len() as u64;
    words[3] =
        u64::from(sa.suite.number() >> 16) << 16 | (sa.key.len() as u64) << 8 | sa.senders.len() as u64;
    put_octets(&mut words[NAME..KEY], sa.name.as_str().as_bytes());
    put_octets(&mut words[KEY..SOURCE], sa.key.expose());
    put_address(&mut words[SOURCE..DESTINATION], sa.source);
    put_address(&mut words[DESTINATION..SELECTOR_KINDS], sa.destination);
    for (i, selector) in sa.selectors.iter().enumerate() {
        words[SELECTOR_KINDS] |= encode_selector_kind(selector) << (16 * i);
        put_selector(&mut words[SELECTORS + i * SELECTOR_WORDS..][..SELECTOR_WORDS], selector);
    }
    words[UDP] = encode_udp(sa);
    words[LIFETIME..LIFETIME + Lifetime::WORDS].copy_from_slice(&sa.lifetime.to_words());
    for (word, sender) in words[SENDERS..UDP].iter_mut().zip(sa.senders.iter()) {
        *word = u64::from(sender.node.get()) << 56 | sender.cluster.get();
    }
    words
}

/// SPI and segment in the words of a configuration; the caller brackets it with the slot's sequence lock.
pub(crate) fn spi_and_segment(config: &[AtomicU64]) -> (u32, u8) {
    let word = |i: usize| config[i].load(Ordering::Relaxed);
    ((word(0) >> 32) as u32, (word(1) >> 8) as u8)
}

/// `None` if the words are not a configuration that [`encode`] made: the table is damaged.
pub(crate) fn decode(words: &[u64; CONFIG_WORDS]) -> Option<Sa> {
    let flags = words[1];
    let direction = if flags & OUTBOUND == 0 { Direction::Inbound } else { Direction::Outbound };
    let outer_ipv6 = flags & OUTER_IPV6 != 0;
    Some(Sa {
        name: get_name(words)?,
        direction,
        spi: (words[0] >> 32) as u32,
        peer_spi: words[0] as u32,
        reqid: (words[1] >> 32) as u32,
        segment: (words[1] >> 8) as u8,
        mode: if flags & TRANSPORT == 0 { Mode::Tunnel } else { Mode::Transport },
        suite: Suite::from_number(((words[3] >> 16) as u32) << 16 | u32::from((words[1] >> 16) as u16))?,
        key: get_key(words)?,
        source: get_address(&words[SOURCE..DESTINATION], outer_ipv6),
        destination: get_address(&words[DESTINATION..SELECTOR_KINDS], outer_ipv6),
        encapsulation: decode_udp(words),
        selectors: get_selectors(words)?,
        extended_sequence: flags & EXTENDED_SEQUENCE != 0,
        replay_window: (words[2] >> 48) as u16,
        dscp: decode_dscp(words[2] >> 24 & 0xff),
        df: decode_df(words[2] >> 16 & 0xff)?,
        path_mtu: (words[2] >> 32) as u16,
        clamp_mss: flags & CLAMP_MSS != 0,
        tfc_padding: decode_padding(words[UDP] & 0xffff),
        lifetime: Lifetime::from_words(words[LIFETIME..].first_chunk()?),
        senders: get_senders(words)?,
    })
}

fn encode_flags(sa: &Sa) -> u64 {
    let mut flags = 0;
    if sa.direction == Direction::Outbound {
        flags |= OUTBOUND;
    }
    if sa.extended_sequence {
        flags |= EXTENDED_SEQUENCE;
    }
    if sa.source.is_ipv6() {
        flags |= OUTER_IPV6;
    }
    if sa.mode == Mode::Transport {
        flags |= TRANSPORT;
    }
    if sa.encapsulation.is_some_and(|udp| udp.follows_peer) {
        flags |= FOLLOWS_PEER;
    }
    if sa.clamp_mss {
        flags |= CLAMP_MSS;
    }
    flags
}

/// Ports of 0 say that there is no encapsulation.
fn encode_udp(sa: &Sa) -> u64 {
    let udp =
        sa.encapsulation.map_or([0; 3], |udp| [udp.keepalive_seconds, udp.source_port, udp.destination_port]);
    let padding = match sa.tfc_padding {
        TfcPadding::Off => 0,
        TfcPadding::To(octets) => u64::from(octets),
        TfcPadding::PathMtu => TO_PATH_MTU,
    };
    udp.iter().fold(0, |word, part| word << 16 | u64::from(*part)) << 16 | padding
}

fn decode_udp(words: &[u64; CONFIG_WORDS]) -> Option<UdpEncapsulation> {
    let part = |shift: u32| (words[UDP] >> shift) as u16;
    let follows_peer = words[1] & FOLLOWS_PEER != 0;
    (part(32) != 0).then(|| UdpEncapsulation {
        source_port: part(32),
        destination_port: part(16),
        follows_peer,
        keepalive_seconds: part(48),
    })
}

fn decode_padding(value: u64) -> TfcPadding {
    match value {
        0 => TfcPadding::Off,
        TO_PATH_MTU => TfcPadding::PathMtu,
        octets => TfcPadding::To(octets as u16),
    }
}

fn encode_dscp(policy: DscpPolicy) -> u64 {
    match policy {
        DscpPolicy::Copy => COPY_DSCP,
        DscpPolicy::Set(value) => u64::from(value),
    }
}

fn decode_dscp(value: u64) -> DscpPolicy {
    if value == COPY_DSCP { DscpPolicy::Copy } else { DscpPolicy::Set(value as u8) }
}

fn encode_df(policy: DfPolicy) -> u64 {
    match policy {
        DfPolicy::Copy => 0,
        DfPolicy::Set => 1,
        DfPolicy::Clear => 2,
    }
}

fn decode_df(value: u64) -> Option<DfPolicy> {
    [DfPolicy::Copy, DfPolicy::Set, DfPolicy::Clear].get(value as usize).copied()
}

fn put_octets(words: &mut [u64], octets: &[u8]) {
    for (word, chunk) in words.iter_mut().zip(octets.chunks(8)) {
        let mut padded = Zeroizing::new([0; 8]);
        padded[..chunk.len()].copy_from_slice(chunk);
        *word = u64::from_le_bytes(*padded);
    }
}

fn get_octets(words: &[u64], octets: &mut [u8]) {
    for (chunk, word) in octets.chunks_mut(8).zip(words) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

fn get_name(words: &[u64; CONFIG_WORDS]) -> Option<Name> {
    let mut octets = [0; Name::MAX];
    get_octets(&words[NAME..KEY], &mut octets);
    let length = (words[2] >> 8 & 0xff) as usize;
    Name::new(std::str::from_utf8(octets.get(..length)?).ok()?).ok()
}

fn get_key(words: &[u64; CONFIG_WORDS]) -> Option<Key> {
    let mut octets = Zeroizing::new([0; Key::MAX]);
    get_octets(&words[KEY..SOURCE], &mut *octets);
    Key::new(octets.get(..(words[3] >> 8 & 0xff) as usize)?).ok()
}

fn put_address(words: &mut [u64], address: IpAddr) {
    let number = match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    words[0] = (number >> 64) as u64;
    words[1] = number as u64;
}

fn get_address(words: &[u64], ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::from_bits(u128::from(words[0]) << 64 | u128::from(words[1])).into()
    } else {
        Ipv4Addr::from_bits(words[1] as u32).into()
    }
}

fn encode_selector_kind(selector: &Selector) -> u64 {
    let protocol = selector.protocol.map_or(ANY_PROTOCOL, u64::from);
    if selector.local.start().is_ipv6() { protocol | SELECTOR_IPV6 } else { protocol }
}

fn put_selector(words: &mut [u64], selector: &Selector) {
    let (local, remote) = (&selector.local_ports, &selector.remote_ports);
    words[0] = [*local.start(), *local.end(), *remote.start(), *remote.end()]
        .iter()
        .fold(0, |word, port| word << 16 | u64::from(*port));
    let ends = [selector.local.start(), selector.local.end(), selector.remote.start(), selector.remote.end()];
    for (pair, end) in words[1..].chunks_mut(2).zip(ends) {
        put_address(pair, end);
    }
}

fn get_selectors(words: &[u64; CONFIG_WORDS]) -> Option<Selectors> {
    let count = (words[2] & 0xff) as usize;
    if count > Selectors::MAX {
        return None;
    }
    let selectors = (0..count)
        .map(|i| get_selector(&words[SELECTORS + i * SELECTOR_WORDS..], words[SELECTOR_KINDS] >> (16 * i)));
    Selectors::new(selectors.collect::<Option<Vec<_>>>()?).ok()
}

fn get_selector(words: &[u64], kind: u64) -> Option<Selector> {
    let end = |i: usize| get_address(&words[1 + 2 * i..], kind & SELECTOR_IPV6 != 0);
    let port = |i: u32| (words[0] >> (48 - 16 * i)) as u16;
    Some(Selector {
        local: AddressRange::new(end(0), end(1)).ok()?,
        remote: AddressRange::new(end(2), end(3)).ok()?,
        protocol: (kind & ANY_PROTOCOL == 0).then_some(kind as u8),
        local_ports: port(0)..=port(1),
        remote_ports: port(2)..=port(3),
    })
}

fn get_senders(words: &[u64; CONFIG_WORDS]) -> Option<Senders> {
    let count = (words[3] & 0xff) as usize;
    let senders = words[SENDERS..UDP].get(..count)?.iter().map(|word| {
        let node = NodeId::new((word >> 56) as u8)?;
        Some(Sender { cluster: ClusterId::new(*word), node })
    });
    Senders::new(senders.collect::<Option<Vec<_>>>()?).ok()
}

/// Whether the configuration in these words has this key. Under the writer lock.
pub(crate) fn holds_key(config: &[AtomicU64], key: &Key) -> bool {
    let mut words = Zeroizing::new([0; CONFIG_WORDS]);
    for (word, shared) in words.iter_mut().zip(config) {
        *word = shared.load(Ordering::Relaxed);
    }
    get_key(&words).is_some_and(|held| held.ct_eq(key))
}
