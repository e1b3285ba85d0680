//! Tests that look inside, or that kill the process.

mod basics;
mod crash;
mod dataplane;
mod epoch_property;
mod epochs;
mod inspect;
mod machine;
mod model;
mod refusals;
mod reserve;
mod reserve_model;
mod skip;
mod stress;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::{
    AddressRange, Bounds, ClusterId, Counters, DfPolicy, Direction, DscpPolicy, Key, Lifetime, Mode, Name,
    NodeId, ReplayWindow, Sa, Selector, Selectors, Sender, Senders, Suite, Table, TableOptions, TfcPadding,
    UdpEncapsulation,
};

pub(crate) const INBOUND: Direction = Direction::Inbound;
pub(crate) const OUTBOUND: Direction = Direction::Outbound;

pub(crate) fn node(id: u8) -> NodeId {
    NodeId::new(id).expect("not 0")
}

pub(crate) fn options(capacity: u32) -> TableOptions {
    TableOptions { capacity, node: node(2), cluster: ClusterId::new(0xc1u64) }
}

/// A directory on tmpfs that goes with the test.
pub(crate) fn directory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs")
}

pub(crate) fn table_path(directory: &TempDir) -> PathBuf {
    directory.path().join("sa-table")
}

pub(crate) fn new_table(directory: &TempDir, capacity: u32) -> Table {
    Table::create(&table_path(directory), &options(capacity)).expect("created")
}

pub(crate) fn reopen(path: &Path) -> Table {
    Table::open(path).expect("opened")
}

/// An SA of which every field follows from the key and the seed.
pub(crate) fn seeded(direction: Direction, key: u32, seed: u64) -> (Sa, Counters) {
    let mut state = seed ^ u64::from(key) << 32 | 1;
    let mut next = move || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state >> 17
    };
    let suite = Suite::ALL[next() as usize % Suite::ALL.len()];
    let octets: Vec<u8> = (0..suite.key_length()).map(|_| next() as u8).collect();
    let address = |n: u64| IpAddr::V4(Ipv4Addr::from_bits(n as u32));
    let selectors = (0..=next() % 4).map(|_| {
        let (local, remote) = (AddressRange::single(address(next())), AddressRange::single(address(next())));
        let protocol = (next() % 2 == 0).then_some(next() as u8);
        let port = next() as u16;
        Selector {
            protocol,
            local_ports: port..=port.saturating_add(9),
            ..Selector::addresses(local, remote)
        }
    });
    let selectors = Selectors::new(selectors.collect()).expect("1 to 4");
    let sender = Sender { cluster: ClusterId::new(next()), node: node(next() as u8 | 1) };
    let replay_window = (next() % 64 + 1) as u16 * 64;
    let sequence = next() >> 20;
    let sa = Sa {
        name: Name::new(&format!("tunnel-{key:x}")).expect("short"),
        direction,
        spi: if direction == INBOUND { key } else { 0x1000 | next() as u32 },
        peer_spi: next() as u32,
        reqid: if direction == OUTBOUND { key } else { next() as u32 | 1 },
        mode: if next() % 2 == 0 { Mode::Tunnel } else { Mode::Transport },
        segment: next() as u8,
        suite,
        key: Key::new(&octets).expect("fits"),
        source: address(next()),
        destination: address(next()),
        selectors,
        encapsulation: (next() % 2 == 0).then(|| UdpEncapsulation {
            source_port: next() as u16 | 1,
            destination_port: next() as u16 | 1,
            follows_peer: next() % 2 == 0,
            keepalive_seconds: next() as u16,
        }),
        extended_sequence: next() % 2 == 0,
        replay_window,
        dscp: if next() % 2 == 0 { DscpPolicy::Copy } else { DscpPolicy::Set(next() as u8 & 63) },
        df: [DfPolicy::Copy, DfPolicy::Set, DfPolicy::Clear][(next() % 3) as usize],
        path_mtu: next() as u16,
        clamp_mss: next() % 2 == 0,
        tfc_padding: TfcPadding::Off,
        lifetime: Lifetime {
            soft: Bounds { octets: next(), packets: next(), sequence: next(), expires_at: next() },
            hard: Bounds { octets: u64::MAX, packets: 0, sequence: u64::MAX, expires_at: 0 },
        },
        senders: Senders::new(vec![sender]).expect("one"),
    };
    let window = match direction {
        INBOUND => window(sequence, replay_window, &mut next),
        OUTBOUND => ReplayWindow::default(),
    };
    let counters = Counters {
        sequence,
        window,
        packets: next(),
        octets: next(),
        replay_drops: next(),
        integrity_failures: next(),
    };
    (sa, counters)
}

/// A window in its complete form, as a GET gives it.
fn window(top: u64, size: u16, next: &mut impl FnMut() -> u64) -> ReplayWindow {
    let blocks = (u64::from(size) / 64).min(top / 64) + 1;
    let mut words: Vec<u64> = (0..blocks).map(|_| next()).collect();
    words[0] = words[0] & u64::MAX >> (63 - top % 64) | 1 << (top % 64);
    ReplayWindow { top, words }
}
