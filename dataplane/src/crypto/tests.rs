//! Whole packets through whole engines.

mod known_answers;
mod primitives;
mod properties;

use baton_sad::Suite;

use super::{Backend, Engine, Job, Outcome, PreparedKey};

const BACKENDS: [Backend; 2] = [Backend::AwsLc, Backend::RustCrypto];

fn engines() -> [Engine; 2] {
    BACKENDS.map(|backend| Engine::new(backend).unwrap())
}

/// A packet to be sealed: header, room for the IV, text, room for the ICV.
fn packet(suite: Suite, spi: u32, sequence: u64, text: &[u8]) -> Vec<u8> {
    let header = [spi.to_be_bytes(), (sequence as u32).to_be_bytes()].concat();
    [&header, &vec![0; suite.iv_length()][..], text, &vec![0; suite.icv_length()]].concat()
}

fn seal(engine: &mut Engine, key: &PreparedKey, sequence: u64, iv: u64, packet: &mut [u8]) -> Outcome {
    let mut job = Job::to_seal(key, sequence, iv, packet);
    engine.seal(std::slice::from_mut(&mut job));
    job.outcome
}

fn open(engine: &mut Engine, key: &PreparedKey, sequence: u64, packet: &mut [u8]) -> Outcome {
    let mut job = Job::to_open(key, sequence, packet);
    engine.open(std::slice::from_mut(&mut job));
    job.outcome
}

/// Keying material that differs in every octet.
fn material(suite: Suite, first: u8) -> Vec<u8> {
    (0..suite.key_length()).map(|at| first.wrapping_add(at as u8)).collect()
}

#[test]
fn keying_material_of_another_length_is_refused() {
    for (engine, suite) in engines().iter().flat_map(|engine| Suite::ALL.map(|suite| (engine, suite))) {
        let right = suite.key_length();
        for given in (0..=right + 8).filter(|given| *given != right) {
            let error = engine.prepare(suite, false, &vec![1; given]).unwrap_err();
            assert_eq!(error, super::KeyError::Length { suite, expected: right, given });
        }
        assert_eq!(engine.prepare(suite, true, &vec![1; right]).unwrap().suite(), suite);
    }
}

#[test]
fn nothing_shows_a_key() {
    for mut engine in engines() {
        for suite in Suite::ALL {
            let key = engine.prepare(suite, false, &vec![0xa7; suite.key_length()]).unwrap();
            let mut octets = packet(suite, 1, 1, &[0; 16]);
            let shown = format!("{key:?} {:?} {engine:?}", Job::to_seal(&key, 1, 1, &mut octets));
            // 0xa7 is 167; neither form may appear, nor anything but the names of suite and back end.
            assert!(!shown.contains("167") && !shown.to_lowercase().contains("a7"), "{shown}");
            assert_eq!(seal(&mut engine, &key, 1, 1, &mut octets), Outcome::Done);
        }
    }
}

#[test]
fn packets_of_impossible_lengths_are_malformed_and_untouched() {
    for (backend, suite) in BACKENDS.into_iter().flat_map(|b| Suite::ALL.map(|suite| (b, suite))) {
        let mut engine = Engine::new(backend).unwrap();
        let key = engine.prepare(suite, true, &material(suite, 3)).unwrap();
        let shortest = 8 + suite.iv_length() + suite.alignment() + suite.icv_length();
        for length in 0..shortest + 40 {
            let whole = length >= shortest && (length - shortest).is_multiple_of(suite.alignment());
            for is_opening in [false, true] {
                let mut octets = vec![0x5a; length];
                let outcome = if is_opening {
                    open(&mut engine, &key, 1, &mut octets)
                } else {
                    seal(&mut engine, &key, 1, 9, &mut octets)
                };
                assert_eq!(outcome != Outcome::Malformed, whole, "{suite} {length}");
                assert!(whole || octets == vec![0x5a; length], "{suite} {length}");
            }
        }
    }
}

#[test]
fn cbc_ivs_are_neither_repeated_nor_counted() {
    for mut engine in engines() {
        let suite = Suite::from_name("aes128-sha256").unwrap();
        let key = engine.prepare(suite, false, &material(suite, 1)).unwrap();
        let ivs: Vec<[u8; 16]> = (0..2000_u64)
            .map(|number| {
                let mut octets = packet(suite, 1, 1, &[0; 16]);
                assert_eq!(seal(&mut engine, &key, 1, number, &mut octets), Outcome::Done);
                octets[8..24].try_into().unwrap()
            })
            .collect();
        let distinct: std::collections::HashSet<_> = ivs.iter().collect();
        assert_eq!(distinct.len(), ivs.len());
        // Two numbers in a row differ in their last octet; what they become differs in about half of its 128 bits.
        for pair in ivs.windows(2) {
            let bits = u128::from_be_bytes(pair[0]) ^ u128::from_be_bytes(pair[1]);
            assert!((20..108).contains(&bits.count_ones()), "{pair:?}");
        }
        assert!((0..2000_u128).all(|number| !ivs.contains(&number.to_be_bytes())));
        // Another engine has another secret.
        let mut other = Engine::new(Backend::AwsLc).unwrap();
        let mut octets = packet(suite, 1, 1, &[0; 16]);
        seal(&mut other, &key, 1, 0, &mut octets);
        assert_ne!(octets[8..24], ivs[0]);
    }
}

#[test]
fn counter_modes_send_the_number_itself() {
    for mut engine in engines() {
        for suite in Suite::ALL.into_iter().filter(|suite| suite.iv_length() == 8) {
            let key = engine.prepare(suite, false, &material(suite, 1)).unwrap();
            let mut octets = packet(suite, 1, 1, &[0; 16]);
            assert_eq!(seal(&mut engine, &key, 1, 0x0102_0304_0506_0708, &mut octets), Outcome::Done);
            assert_eq!(octets[8..16], [1, 2, 3, 4, 5, 6, 7, 8], "{suite}");
        }
    }
}
