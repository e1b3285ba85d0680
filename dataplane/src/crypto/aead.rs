//! Ciphers that authenticate by themselves: AES-GCM (RFC 4106), AES-CCM (RFC 4309), ChaCha20-Poly1305 (RFC 7634), and
//! AES-GMAC (RFC 4543), which is AES-GCM without a plaintext.

use std::ops::Range;

use baton_sad::Suite;
use zeroize::Zeroizing;

use super::{Backend, HEADER, aws_lc, rustcrypto};

/// Octets of the longest nonce: a salt of 4 and an IV of 8. AES-CCM's has 11.
pub(super) const NONCE: usize = 12;
/// Octets of a full tag.
pub(super) const FULL_TAG: usize = 16;
/// Octets of the explicit IV.
const IV: usize = 8;
/// Octets of the upper half of a sequence number.
const UPPER_HALF: usize = 4;

/// A cipher with its key. Dropping it wipes the key.
pub(super) trait Aead: Send {
    /// Encrypts `text` and writes `icv`, whose length is the suite's.
    fn seal(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &mut [u8]) -> bool;

    /// Compares `icv` in constant time and decrypts `text`. If that fails, the text is anything but the plaintext.
    fn open(&self, nonce: &[u8; NONCE], associated: &[u8], text: &mut [u8], icv: &[u8]) -> bool;
}

/// A cipher, its key and its salt.
pub(super) struct AeadKey {
    cipher: Box<dyn Aead>,
    /// The salt, and room for the IV behind it.
    nonce: Zeroizing<[u8; NONCE]>,
    salt_length: usize,
}

impl AeadKey {
    pub(super) fn new(backend: Backend, suite: Suite, material: &[u8]) -> Option<Self> {
        let (key, salt) = material.split_at_checked(suite.cipher_key_length())?;
        let mut nonce = Zeroizing::new([0; NONCE]);
        nonce.get_mut(..salt.len())?.copy_from_slice(salt);
        let cipher = match backend {
            Backend::AwsLc => aws_lc::aead(suite, key)?,
            Backend::RustCrypto => rustcrypto::aead(suite, key)?,
        };
        Some(Self { cipher, nonce, salt_length: suite.salt_length() })
    }

    #[inline]
    fn nonce(&self, front: &[u8]) -> [u8; NONCE] {
        let mut nonce = *self.nonce;
        nonce[self.salt_length..][..IV].copy_from_slice(&front[HEADER..HEADER + IV]);
        nonce
    }

    #[inline]
    pub(super) fn seal(
        &self,
        upper_half: Option<[u8; UPPER_HALF]>,
        packet: &mut [u8],
        text: Range<usize>,
    ) -> bool {
        let (front, text, icv) = split(packet, text);
        let nonce = self.nonce(front);
        match upper_half {
            None => self.cipher.seal(&nonce, &front[..HEADER], text, icv),
            Some(half) => self.cipher.seal(&nonce, &extended_header(front, half), text, icv),
        }
    }

    #[inline]
    pub(super) fn open(
        &self,
        upper_half: Option<[u8; UPPER_HALF]>,
        packet: &mut [u8],
        text: Range<usize>,
    ) -> bool {
        let (front, text, icv) = split(packet, text);
        let nonce = self.nonce(front);
        match upper_half {
            None => self.cipher.open(&nonce, &front[..HEADER], text, icv),
            Some(half) => self.cipher.open(&nonce, &extended_header(front, half), text, icv),
        }
    }

    /// Writes the ICV of a packet that stays readable.
    pub(super) fn authenticate(
        &self,
        upper_half: Option<[u8; UPPER_HALF]>,
        packet: &mut [u8],
        text: Range<usize>,
    ) -> bool {
        let nonce = self.nonce(packet);
        let mut icv = [0; FULL_TAG];
        let done = with_authenticated(upper_half, packet, text.end, |authenticated| {
            self.cipher.seal(&nonce, authenticated, &mut [], &mut icv)
        });
        packet[text.end..].copy_from_slice(&icv);
        done
    }

    /// Compares the ICV of a packet that is readable.
    pub(super) fn verify(
        &self,
        upper_half: Option<[u8; UPPER_HALF]>,
        packet: &mut [u8],
        text: Range<usize>,
    ) -> bool {
        let nonce = self.nonce(packet);
        let mut icv = [0; FULL_TAG];
        icv.copy_from_slice(&packet[text.end..]);
        with_authenticated(upper_half, packet, text.end, |authenticated| {
            self.cipher.open(&nonce, authenticated, &mut [], &icv)
        })
    }
}

/// SPI, sequence number and IV; text; ICV.
#[inline]
fn split(packet: &mut [u8], text: Range<usize>) -> (&[u8], &mut [u8], &mut [u8]) {
    let (front, rest) = packet.split_at_mut(text.start);
    let (text, icv) = rest.split_at_mut(text.end - text.start);
    (front, text, icv)
}

/// SPI and all 64 bits of the sequence number (RFC 4106 section 5, RFC 4309 section 5, RFC 7634 section 2.1).
#[inline]
fn extended_header(front: &[u8], upper_half: [u8; UPPER_HALF]) -> [u8; HEADER + UPPER_HALF] {
    let mut header = [0; HEADER + UPPER_HALF];
    header[..4].copy_from_slice(&front[..4]);
    header[4..8].copy_from_slice(&upper_half);
    header[8..].copy_from_slice(&front[4..HEADER]);
    header
}

/// Calls `compute` with what GMAC authenticates: SPI, sequence number, IV and text, the first `end` octets (RFC 4543
/// section 3.3). The upper half of a sequence number stands between the SPI and the lower half; there is no room for
/// it but in front of the ICV, so all behind the SPI moves back for that time.
#[inline]
fn with_authenticated(
    upper_half: Option<[u8; UPPER_HALF]>,
    packet: &mut [u8],
    end: usize,
    compute: impl FnOnce(&[u8]) -> bool,
) -> bool {
    let Some(half) = upper_half else { return compute(&packet[..end]) };
    let icv: [u8; UPPER_HALF] = packet[end..end + UPPER_HALF].try_into().unwrap_or_default();
    packet.copy_within(4..end, HEADER);
    packet[4..HEADER].copy_from_slice(&half);
    let done = compute(&packet[..end + UPPER_HALF]);
    packet.copy_within(HEADER..end + UPPER_HALF, 4);
    packet[end..end + UPPER_HALF].copy_from_slice(&icv);
    done
}
