//! Suites as strongSwan calls them, in the words of Linux's XFRM.

use std::fmt::Write as _;

use crate::content::hex;
use crate::error::{LabError, Result};

/// Octets of an HMAC-SHA1 key (RFC 2404 section 3).
const SHA1: usize = 20;

/// An ESP suite, such as `aes128gcm16` or `aes256-sha256`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    name: String,
    cipher: Cipher,
    integrity: Option<Integrity>,
}

/// What encrypts, or does both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cipher {
    /// As the kernel's crypto API calls it.
    algorithm: &'static str,
    /// Octets of key and salt.
    key: usize,
    /// Bits of the ICV, if it authenticates too.
    icv: Option<u16>,
}

/// What authenticates beside a cipher that only encrypts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Integrity {
    /// As the kernel's crypto API calls it.
    algorithm: &'static str,
    /// Octets of the key.
    key: usize,
    /// Bits of the ICV.
    icv: u16,
}

impl Suite {
    /// The suite of a name.
    ///
    /// # Errors
    /// If the name is none, or a cipher that needs integrity has none.
    pub fn named(name: &str) -> Result<Self> {
        let (cipher, integrity) =
            name.split_once('-').map_or((name, None), |(left, right)| (left, Some(right)));
        let unknown = || LabError::Unexpected(format!("XFRM has no suite called {name}"));
        let cipher = Cipher::named(cipher).ok_or_else(unknown)?;
        let integrity = integrity.map(|name| Integrity::named(name).ok_or_else(unknown)).transpose()?;
        if cipher.icv.is_some() == integrity.is_some() {
            return Err(unknown());
        }
        Ok(Self { name: name.to_owned(), cipher, integrity })
    }

    /// Its name, as strongSwan writes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Octets of keying material: the cipher's key and salt, then the integrity key (RFC 7296 section 2.17).
    pub fn key_octets(&self) -> usize {
        self.cipher.key + self.integrity.map_or(0, |integrity| integrity.key)
    }

    /// The words of `ip xfrm state add` for this suite with `key`.
    ///
    /// # Errors
    /// If the key has another length than [`Suite::key_octets`].
    pub(super) fn words(&self, key: &[u8]) -> Result<String> {
        if key.len() != self.key_octets() {
            let (name, wanted, length) = (&self.name, self.key_octets(), key.len());
            return Err(LabError::Unexpected(format!("a key of {name} has {wanted} octets, not {length}")));
        }
        let (cipher_key, integrity_key) = key.split_at(self.cipher.key);
        let (cipher, cipher_key) = (self.cipher.algorithm, number(cipher_key));
        let mut words = match self.cipher.icv {
            Some(icv) => format!("aead {cipher} {cipher_key} {icv}"),
            None => format!("enc {cipher} {cipher_key}"),
        };
        if let Some(Integrity { algorithm, icv, .. }) = self.integrity {
            let _ = write!(words, " auth-trunc {algorithm} {} {icv}", number(integrity_key));
        }
        Ok(words)
    }
}

/// A key as `ip` reads it; the empty one as an empty word.
fn number(key: &[u8]) -> String {
    if key.is_empty() { "\"\"".into() } else { format!("0x{}", hex(key)) }
}

impl Cipher {
    fn named(name: &str) -> Option<Self> {
        if name == "chacha20poly1305" {
            let algorithm = "rfc7539esp(chacha20,poly1305)";
            return Some(Self { algorithm, key: 32 + 4, icv: Some(128) });
        }
        if name == "null" {
            return Some(Self { algorithm: "ecb(cipher_null)", key: 0, icv: None });
        }
        Self::aes(name.strip_prefix("aes")?)
    }

    /// AES with the key's bits and the mode, as in `128gcm16`. RFC 4106, 4543 and 3686 have a salt of four octets,
    /// RFC 4309 one of three.
    fn aes(name: &str) -> Option<Self> {
        let (bits, mode) = name.split_at_checked(3)?;
        let key = match bits {
            "128" => 16,
            "192" => 24,
            "256" => 32,
            _ => return None,
        };
        let (algorithm, salt, icv) = match mode {
            "" => ("cbc(aes)", 0, None),
            "ctr" => ("rfc3686(ctr(aes))", 4, None),
            "gmac" => ("rfc4543(gcm(aes))", 4, Some(128)),
            "gcm8" | "gcm12" | "gcm16" => ("rfc4106(gcm(aes))", 4, icv(&mode[3..])),
            "ccm8" | "ccm12" | "ccm16" => ("rfc4309(ccm(aes))", 3, icv(&mode[3..])),
            _ => return None,
        };
        Some(Self { algorithm, key: key + salt, icv })
    }
}

/// Bits of an ICV from its octets in a suite's name.
fn icv(octets: &str) -> Option<u16> {
    octets.parse::<u16>().ok().map(|octets| octets * 8)
}

impl Integrity {
    /// RFC 2404, RFC 4868 section 2.3 and RFC 4494.
    fn named(name: &str) -> Option<Self> {
        let (algorithm, key, icv) = match name {
            "sha1" => ("hmac(sha1)", SHA1, 96),
            "sha256" => ("hmac(sha256)", 32, 128),
            "sha384" => ("hmac(sha384)", 48, 192),
            "sha512" => ("hmac(sha512)", 64, 256),
            "aescmac" => ("cmac(aes)", 16, 96),
            _ => return None,
        };
        Some(Self { algorithm, key, icv })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_have_the_key_lengths_of_their_rfcs() {
        let octets = |name| Suite::named(name).expect("known").key_octets();
        assert_eq!(octets("aes128gcm16"), 20);
        assert_eq!(octets("aes256ccm8"), 35);
        assert_eq!(octets("aes128-sha1"), 36);
        assert_eq!(octets("aes256-sha256"), 64);
        assert_eq!(octets("aes192ctr-sha512"), 24 + 4 + 64);
        assert_eq!(octets("null-sha256"), 32);
    }

    #[test]
    fn an_unprotected_or_doubly_protected_suite_is_none() {
        for name in ["aes128", "aes128gcm16-sha1", "aes512gcm16", "aes", "null", "aes128-md4", "", "-sha1"] {
            assert!(Suite::named(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_key_is_split_between_cipher_and_integrity() {
        let key: Vec<u8> = (0..36).collect();
        let words = Suite::named("aes128-sha1").expect("known").words(&key).expect("words");
        let (cipher, integrity) = (hex(&key[..16]), hex(&key[16..]));
        assert_eq!(words, format!("enc cbc(aes) 0x{cipher} auth-trunc hmac(sha1) 0x{integrity} 96"));
        assert!(Suite::named("aes128-sha1").expect("known").words(&key[1..]).is_err());
    }
}
