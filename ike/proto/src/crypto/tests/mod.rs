//! Known answers (docs/KNOWN_ANSWERS.md says whose), and what holds for all keys.

mod additional;
mod captures;
mod judge;
mod key_exchange;
mod key_schedule;
mod message;
mod state;

use std::net::IpAddr;

use super::{AdditionalMethods, Encryption, Group, IkeKeys, IkeSuite, Integrity, Prf, Shared};
use crate::host::Host;

/// A host that gives what it counts, until it is at the end of numbers.
struct Counting(u64);

impl Host for Counting {
    fn random(&mut self, octets: &mut [u8]) {
        fill(&mut self.0, octets);
    }

    fn explicit_iv(&mut self) -> Option<[u8; 8]> {
        self.0 = self.0.checked_add(1)?;
        Some(self.0.to_be_bytes())
    }

    fn segment_of(&self, _: IpAddr) -> u8 {
        0
    }

    fn owns(&self, _: u8) -> bool {
        true
    }

    fn source_for(&self, _: IpAddr) -> Option<IpAddr> {
        None
    }

    fn spi_is_taken(&self, _: u32) -> bool {
        false
    }
}

/// Octets that look random and are the same every time (SplitMix64).
fn fill(state: &mut u64, octets: &mut [u8]) {
    for chunk in octets.chunks_mut(8) {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(mixed ^ (mixed >> 31)).to_be_bytes()[..chunk.len()]);
    }
}

/// Lines of a file of vectors, without comments, taken apart at spaces.
fn lines(file: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    file.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect())
}

fn octets(text: &str) -> Vec<u8> {
    hex::decode(text).expect("hexadecimal digits")
}

/// Every suite that can be negotiated, with one group.
fn suites() -> impl Iterator<Item = IkeSuite> {
    let integrities = |encryption: Encryption| {
        if encryption.is_aead() { vec![None] } else { Integrity::ALL.map(Some).to_vec() }
    };
    let all = Encryption::ALL.into_iter().flat_map(move |encryption| {
        integrities(encryption).into_iter().map(move |integrity| (encryption, integrity))
    });
    all.flat_map(|(encryption, integrity)| {
        Prf::ALL.map(|prf| IkeSuite {
            encryption,
            integrity,
            prf,
            group: Group::Curve25519,
            additional: AdditionalMethods::default(),
        })
    })
}

fn keys(suite: IkeSuite, seed: u8) -> IkeKeys {
    IkeKeys::derive(suite, &[seed; 32], &[2; 32], &Shared::for_test(&[3; 32]), 4, 5)
}
