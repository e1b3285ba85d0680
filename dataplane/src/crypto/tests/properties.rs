//! What holds for every packet of every suite.

use baton_sad::{Encryption, Suite};
use proptest::prelude::*;

use super::{BACKENDS, Backend, Engine, Job, Outcome, PreparedKey, material, open, packet, seal};

/// An SA and a packet of it.
#[derive(Clone, Debug)]
struct Case {
    suite: Suite,
    extended: bool,
    first: u8,
    spi: u32,
    sequence: u64,
    iv: u64,
    text: Vec<u8>,
}

impl Case {
    fn key(&self, engine: &Engine) -> PreparedKey {
        engine.prepare(self.suite, self.extended, &material(self.suite, self.first)).unwrap()
    }

    fn plain(&self) -> Vec<u8> {
        packet(self.suite, self.spi, self.sequence, &self.text)
    }

    /// Sealed by this back end. Engines of these tests share one secret, so that their CBC IVs are the same.
    fn sealed(&self, backend: Backend) -> Vec<u8> {
        let (mut engine, mut octets) = (engine(backend), self.plain());
        let key = self.key(&engine);
        assert_eq!(seal(&mut engine, &key, self.sequence, self.iv, &mut octets), Outcome::Done);
        octets
    }

    fn text_of<'a>(&self, octets: &'a [u8]) -> &'a [u8] {
        &octets[8 + self.suite.iv_length()..octets.len() - self.suite.icv_length()]
    }

    fn is_encrypted(&self) -> bool {
        !matches!(self.suite.encryption(), Encryption::Null | Encryption::AesGmac)
    }
}

fn engine(backend: Backend) -> Engine {
    Engine::with_secret(backend, &[0x77; 32])
}

prop_compose! {
    fn case()(
        suite in proptest::sample::select(Suite::ALL.to_vec()),
        octets in proptest::collection::vec(any::<u8>(), 16..1600),
        (extended, first, spi) in any::<(bool, u8, u32)>(),
        (sequence, iv) in any::<(u64, u64)>(),
    ) -> Case {
        let length = octets.len() / suite.alignment() * suite.alignment();
        Case { suite, extended, first, spi, sequence, iv, text: octets[..length].to_vec() }
    }
}

/// Runs all cases in one call; what came of each, and its packet.
fn batch(
    backend: Backend,
    cases: &[Case],
    mut packets: Vec<Vec<u8>>,
    is_opening: bool,
) -> Vec<(Outcome, Vec<u8>)> {
    let mut engine = engine(backend);
    let keys: Vec<_> = cases.iter().map(|case| case.key(&engine)).collect();
    let parts = cases.iter().zip(&keys).zip(&mut packets);
    let mut jobs: Vec<_> =
        parts.map(|((case, key), octets)| Job::to_seal(key, case.sequence, case.iv, octets)).collect();
    if is_opening {
        engine.open(&mut jobs);
    } else {
        engine.seal(&mut jobs);
    }
    jobs.into_iter().map(|job| (job.outcome, job.packet.to_vec())).collect()
}

proptest! {
    #[test]
    fn back_ends_agree(case in case()) {
        let sealed = BACKENDS.map(|backend| case.sealed(backend));
        prop_assert_eq!(&sealed[0], &sealed[1]);
        // Long texts are not the same by chance.
        prop_assert_eq!(case.text_of(&sealed[0]) != case.text, case.is_encrypted());
        for backend in BACKENDS {
            let (mut engine, mut octets) = (engine(backend), sealed[0].clone());
            let key = case.key(&engine);
            prop_assert_eq!(open(&mut engine, &key, case.sequence, &mut octets), Outcome::Done);
            prop_assert_eq!(case.text_of(&octets), &case.text);
            prop_assert_eq!(&octets[..8 + case.suite.iv_length()], &sealed[0][..8 + case.suite.iv_length()]);
        }
    }

    #[test]
    fn jobs_of_a_batch_do_not_touch_each_other(
        cases in proptest::collection::vec(case(), 1..12),
        bad in proptest::collection::vec(any::<Option<proptest::sample::Index>>(), 12),
    ) {
        let alone: Vec<_> = cases.iter().map(|case| case.sealed(Backend::AwsLc)).collect();
        for backend in BACKENDS {
            let together = batch(backend, &cases, cases.iter().map(Case::plain).collect(), false);
            for (alone, (outcome, octets)) in alone.iter().zip(&together) {
                prop_assert_eq!((Outcome::Done, alone), (*outcome, octets));
            }
            // One packet in two is damaged, and only those are refused.
            let mut damaged = alone.clone();
            for (octets, bad) in damaged.iter_mut().zip(&bad) {
                if let Some(at) = bad {
                    *at.get_mut(octets) ^= 4;
                }
            }
            let opened = batch(backend, &cases, damaged, true);
            for ((case, bad), (outcome, octets)) in cases.iter().zip(&bad).zip(&opened) {
                let expected = if bad.is_some() { vec![0; case.text.len()] } else { case.text.clone() };
                prop_assert_eq!(*outcome, if bad.is_some() { Outcome::BadIcv } else { Outcome::Done });
                prop_assert_eq!(case.text_of(octets), &expected);
            }
        }
    }

    #[test]
    fn nothing_that_arrives_panics(
        suite in proptest::sample::select(Suite::ALL.to_vec()),
        extended: bool,
        sequence: u64,
        mut octets in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for backend in BACKENDS {
            let mut engine = engine(backend);
            let key = engine.prepare(suite, extended, &material(suite, 1)).unwrap();
            prop_assert_ne!(open(&mut engine, &key, sequence, &mut octets), Outcome::Done);
        }
    }
}

/// One small packet of each suite, extended or not, on each back end.
fn every_suite(check: impl Fn(Backend, &Case)) {
    for (backend, suite) in BACKENDS.into_iter().flat_map(|b| Suite::ALL.map(|suite| (b, suite))) {
        for extended in [false, true] {
            let text = (1..=16).collect();
            let sequence = 0x0102_0304_8506_0708;
            check(backend, &Case { suite, extended, first: 9, spi: 0xc0de_0001, sequence, iv: 77, text });
        }
    }
}

#[test]
fn every_bit_of_a_packet_is_authenticated() {
    every_suite(|backend, case| {
        let (mut engine, sealed) = (engine(backend), case.sealed(backend));
        let key = case.key(&engine);
        for bit in 0..sealed.len() * 8 {
            let mut octets = sealed.clone();
            octets[bit / 8] ^= 1 << (bit % 8);
            let outcome = open(&mut engine, &key, case.sequence, &mut octets);
            assert_eq!(outcome, Outcome::BadIcv, "{backend:?} {} bit {bit}", case.suite);
            assert_eq!(case.text_of(&octets), [0; 16], "{backend:?} {} bit {bit}", case.suite);
        }
        assert_eq!(open(&mut engine, &key, case.sequence, &mut sealed.clone()), Outcome::Done);
    });
}

#[test]
fn the_upper_half_counts_with_extended_sequence_numbers_only() {
    every_suite(|backend, case| {
        let (mut engine, sealed) = (engine(backend), case.sealed(backend));
        let key = case.key(&engine);
        assert_eq!(key.is_extended(), case.extended);
        for bit in 32..64 {
            let outcome = open(&mut engine, &key, case.sequence ^ 1 << bit, &mut sealed.clone());
            let expected = if case.extended { Outcome::BadIcv } else { Outcome::Done };
            assert_eq!(outcome, expected, "{backend:?} {}", case.suite);
        }
    });
}

#[test]
fn another_key_opens_nothing() {
    every_suite(|backend, case| {
        let (mut engine, sealed) = (engine(backend), case.sealed(backend));
        let right = material(case.suite, case.first);
        for at in 0..right.len() {
            let mut wrong = right.clone();
            wrong[at] ^= 1;
            let key = engine.prepare(case.suite, case.extended, &wrong).unwrap();
            let outcome = open(&mut engine, &key, case.sequence, &mut sealed.clone());
            // Integrity keys and salts count wholly; a cipher's key under a separate authenticator does not show.
            let shows = at >= case.suite.key_length() - case.suite.integrity().key_length()
                || case.suite.integrity().key_length() == 0;
            assert_eq!(outcome == Outcome::BadIcv, shows, "{backend:?} {} octet {at}", case.suite);
        }
    });
}

#[test]
fn prepared_keys_can_move_to_their_worker_and_wipe_themselves() {
    fn moves<T: Send>() {}
    fn wipes<T: zeroize::ZeroizeOnDrop>() {}
    moves::<(Engine, PreparedKey)>();
    wipes::<(aes::Aes128, aes::Aes192, aes::Aes256)>();
    wipes::<(aes_gcm::Aes128Gcm, aes_gcm::Aes256Gcm, chacha20poly1305::ChaCha20Poly1305)>();
    // What an HMAC consists of: two states of the hash's core.
    wipes::<(sha1::Sha1, sha2::Sha256, sha2::Sha384, sha2::Sha512)>();
}
