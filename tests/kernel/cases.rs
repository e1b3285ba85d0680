//! Ways to speak ESP, and who speaks.
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use baton_lab::kernel_peer::{Connection, Key, Mode, Prefix, Suite};
pub use baton_lab::topology::{A_HOST as HOST, A_HOST6 as HOST6, A_OUTER6, B_OUTER6, CLIENT6, SERVER6};
use baton_lab::topology::{A_OUTER, B_OUTER, CLIENT, SERVER};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    V4,
    V6,
}

pub use Family::{V4, V6};
pub use Mode::{Transport, Tunnel};

/// One way to speak ESP.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub name: &'static str,
    pub mode: Mode,
    pub outer: Family,
    pub inner: Family,
    pub suite: &'static str,
    pub extended_sequence: bool,
    /// UDP port of both ends, for RFC 3948.
    pub encapsulation: Option<u16>,
}

impl Case {
    pub const fn new(
        name: &'static str,
        mode: Mode,
        outer: Family,
        inner: Family,
        suite: &'static str,
    ) -> Self {
        Self { name, mode, outer, inner, suite, extended_sequence: false, encapsulation: None }
    }

    pub const fn with_esn(self) -> Self {
        Self { extended_sequence: true, ..self }
    }

    pub const fn in_udp(self) -> Self {
        Self { encapsulation: Some(4500), ..self }
    }
}

pub const SPI_TO_BATON: u32 = 0x1100_0001;
pub const SPI_TO_KERNEL: u32 = 0x2a00_0001;
pub const REQID: u32 = 7;
pub const REPLAY_WINDOW: u16 = 1024;

pub const A_INNER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);
pub const A_INNER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0x1, 0, 0, 0, 0, 1);

/// The ends of the SAs: Baton's and the kernel's.
pub fn ends(case: &Case) -> (IpAddr, IpAddr) {
    match (case.mode, case.outer) {
        (Tunnel, V4) => (A_OUTER.into(), B_OUTER.into()),
        (Tunnel, V6) => (A_OUTER6.into(), B_OUTER6.into()),
        (Transport, V4) => (HOST.into(), B_OUTER.into()),
        (Transport, V6) => (HOST6.into(), B_OUTER6.into()),
    }
}

/// The hosts that speak through the SAs: on Baton's side and on the kernel's.
pub fn hosts(case: &Case) -> (IpAddr, IpAddr) {
    match (case.mode, case.inner) {
        (Transport, _) => ends(case),
        (Tunnel, V4) => (CLIENT.into(), SERVER.into()),
        (Tunnel, V6) => (CLIENT6.into(), SERVER6.into()),
    }
}

/// What a case protects of a host: its /16 or /48 in tunnel mode, itself in transport mode.
pub fn protected(case: &Case, host: IpAddr) -> Prefix {
    match case.mode {
        Tunnel => network(host),
        Transport => Prefix::host(host),
    }
}

/// The /16 or /48 of an address.
pub fn network(address: IpAddr) -> Prefix {
    match address {
        IpAddr::V4(address) => {
            Prefix { address: Ipv4Addr::from(u32::from(address) & (!0 << 16)).into(), length: 16 }
        }
        IpAddr::V6(address) => {
            Prefix { address: Ipv6Addr::from(u128::from(address) & (!0 << 80)).into(), length: 48 }
        }
    }
}

/// A case as the kernel has it, with fresh keys.
pub fn connection(case: &Case) -> Connection {
    let suite = Suite::named(case.suite).expect("a suite of the kernel");
    let key = || Key::random(&suite).expect("random");
    let ((remote, local), (remote_host, local_host)) = (ends(case), hosts(case));
    Connection {
        local,
        remote,
        local_network: protected(case, local_host),
        remote_network: protected(case, remote_host),
        mode: case.mode,
        inbound: (SPI_TO_KERNEL, key()),
        outbound: (SPI_TO_BATON, key()),
        reqid: REQID,
        extended_sequence: case.extended_sequence,
        replay_window: REPLAY_WINDOW.into(),
        encapsulation: case.encapsulation.map(|port| (port, port)),
        suite,
    }
}

/// Every suite in the plainest case, and the commonest ones in all others.
pub fn every_case() -> Vec<Case> {
    let suites = [
        "aes128gcm8",
        "aes192gcm12",
        "aes256gcm16",
        "aes128ccm8",
        "aes192ccm12",
        "aes256ccm16",
        "chacha20poly1305",
        "aes128gmac",
        "aes256gmac",
        "aes128-sha1",
        "aes256-sha256",
        "aes192-sha384",
        "aes256-sha512",
        "aes128-aescmac",
        "aes128ctr-sha1",
        "aes256ctr-sha256",
        "null-sha1",
        "null-sha256",
    ];
    let plain = suites.into_iter().map(|suite| Case::new(suite, Tunnel, V4, V4, suite));
    let families = [(V4, V4), (V4, V6), (V6, V4), (V6, V6)].map(|(outer, inner)| (Tunnel, outer, inner));
    let families = families.into_iter().chain([(Transport, V4, V4), (Transport, V6, V6)]);
    let mixed = families.flat_map(|(mode, outer, inner)| {
        ["aes128gcm16", "aes256-sha256"].map(|suite| Case::new(suite, mode, outer, inner, suite))
    });
    let mixed = mixed.flat_map(|case| [case, case.with_esn().in_udp()]);
    plain.map(Case::with_esn).chain(mixed).collect()
}
