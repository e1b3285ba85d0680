//! One vector as an ESP packet, opened and sealed by each back end.

use baton_dataplane::crypto::{Backend, Engine, Job, Outcome, PreparedKey};
use baton_sad::{Encryption, Suite};

use crate::data::Vector;
use crate::judge;

/// Octets of SPI and sequence number.
pub const HEADER: usize = 8;
/// Octets of an explicit IV of the suites with a counter.
pub const COUNTER_IV: usize = 8;

/// The suite of this name.
pub fn suite(name: &str) -> Suite {
    Suite::from_name(name).unwrap_or_else(|| panic!("no suite {name}"))
}

/// A vector's sequence number, and whether it is an extended one: then it has 16 digits.
pub fn sequence(vector: &Vector) -> (u64, bool) {
    let digits = vector.text("sequence");
    (u64::from_str_radix(digits, 16).unwrap(), digits.len() == 16)
}

/// An ESP packet, what it says, and the keying material.
#[derive(Debug)]
pub struct Trial {
    pub suite: Suite,
    /// Cipher key, salt or nonce, integrity key.
    pub material: Vec<u8>,
    /// All 64 bits.
    pub sequence: u64,
    pub extended: bool,
    /// Payload, padding, pad length, next header.
    pub text: Vec<u8>,
    /// From the SPI to the ICV.
    pub packet: Vec<u8>,
}

/// One back end's engine with the trial's key.
struct Bench {
    engine: Engine,
    key: PreparedKey,
}

impl Bench {
    fn new(backend: Backend, trial: &Trial) -> Self {
        let engine = Engine::new(backend).unwrap();
        let key = engine.prepare(trial.suite, trial.extended, &trial.material).unwrap();
        assert_eq!((key.suite(), key.is_extended()), (trial.suite, trial.extended));
        Self { engine, key }
    }

    fn open(&mut self, sequence: u64, packet: &mut [u8]) -> Outcome {
        let mut job = Job { key: &self.key, sequence, iv: 0, packet, outcome: Outcome::Pending };
        self.engine.open(std::slice::from_mut(&mut job));
        job.outcome
    }

    fn seal(&mut self, sequence: u64, iv: u64, packet: &mut [u8]) -> Outcome {
        let mut job = Job { key: &self.key, sequence, iv, packet, outcome: Outcome::Pending };
        self.engine.seal(std::slice::from_mut(&mut job));
        job.outcome
    }
}

impl Trial {
    /// Opening gives the text, sealing gives the packet, and a packet with one wrong bit anywhere in the ICV or in
    /// what it covers is refused.
    pub fn run(&self) {
        for backend in [Backend::AwsLc, Backend::RustCrypto] {
            let mut bench = Bench::new(backend, self);
            self.opens(&mut bench, backend);
            self.seals(&mut bench, backend);
            self.refuses_damage(&mut bench, backend);
        }
    }

    /// A forged packet is refused and shows nothing.
    pub fn run_forged(&self) {
        for backend in [Backend::AwsLc, Backend::RustCrypto] {
            let mut packet = self.packet.clone();
            let outcome = Bench::new(backend, self).open(self.sequence, &mut packet);
            assert_eq!(outcome, Outcome::BadIcv, "{backend:?} {self:x?}");
        }
    }

    fn text_start(&self) -> usize {
        HEADER + self.suite.iv_length()
    }

    fn text_of<'p>(&self, packet: &'p [u8]) -> &'p [u8] {
        &packet[self.text_start()..packet.len() - self.suite.icv_length()]
    }

    fn opens(&self, bench: &mut Bench, backend: Backend) {
        let mut packet = self.packet.clone();
        assert_eq!(bench.open(self.sequence, &mut packet), Outcome::Done, "{backend:?} {self:x?}");
        assert_eq!(hex::encode(self.text_of(&packet)), hex::encode(&self.text), "{backend:?} {}", self.suite);
    }

    fn seals(&self, bench: &mut Bench, backend: Backend) {
        let mut packet = vec![0xAA; self.packet.len()];
        packet[..HEADER].copy_from_slice(&self.packet[..HEADER]);
        packet[self.text_start()..][..self.text.len()].copy_from_slice(&self.text);
        let iv = self.packet[HEADER..][..COUNTER_IV].try_into().map(u64::from_be_bytes).unwrap();
        assert_eq!(bench.seal(self.sequence, iv, &mut packet), Outcome::Done, "{backend:?} {self:x?}");
        if self.suite.encryption() == Encryption::AesCbc {
            self.judge_cbc(&packet);
        } else {
            assert_eq!(hex::encode(packet), hex::encode(&self.packet), "{backend:?} {}", self.suite);
        }
    }

    /// The engine chose an IV of its own, so another implementation says whether the packet is right.
    fn judge_cbc(&self, packet: &[u8]) {
        let (cipher_key, integrity_key) = self.material.split_at(self.suite.cipher_key_length());
        let iv = &packet[HEADER..self.text_start()];
        assert_ne!(iv, &self.packet[HEADER..self.text_start()], "an IV that somebody could foresee");
        assert_eq!(judge::cbc_plaintext(cipher_key, iv, self.text_of(packet)), self.text, "{}", self.suite);
        let (authenticated, icv) = packet.split_at(packet.len() - self.suite.icv_length());
        assert_eq!(icv, self.icv_of(integrity_key, authenticated), "{}", self.suite);
    }

    /// The ICV that the judge gives.
    fn icv_of(&self, integrity_key: &[u8], authenticated: &[u8]) -> Vec<u8> {
        let mut message = authenticated.to_vec();
        if self.extended {
            message.extend_from_slice(&((self.sequence >> 32) as u32).to_be_bytes());
        }
        let mut tag = judge::tag(self.suite.integrity(), integrity_key, &message);
        tag.truncate(self.suite.icv_length());
        tag
    }

    fn refuses_damage(&self, bench: &mut Bench, backend: Backend) {
        for at in [
            0,
            HEADER - 1,
            self.text_start(),
            self.packet.len() - self.suite.icv_length(),
            self.packet.len() - 1,
        ] {
            let mut packet = self.packet.clone();
            packet[at] ^= 1;
            let outcome = bench.open(self.sequence, &mut packet);
            assert_eq!(outcome, Outcome::BadIcv, "{backend:?} {} octet {at}", self.suite);
            // Wiped text looks like the plaintext of vectors that are all zeros.
            let shows = self.text_of(&packet) == self.text && self.text.iter().any(|octet| *octet != 0);
            assert!(!shows, "{backend:?} {}: a refused packet shows its plaintext", self.suite);
        }
        if self.extended {
            let outcome = bench.open(self.sequence ^ 1 << 32, &mut self.packet.clone());
            assert_eq!(outcome, Outcome::BadIcv, "{backend:?} {} with another upper half", self.suite);
        }
    }
}
