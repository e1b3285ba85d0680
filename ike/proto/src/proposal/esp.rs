//! The algorithms of Child SAs (RFC 8221): every suite that the data plane has.

use std::fmt;

use crate::crypto::{AdditionalMethods, Group};

/// How packets are encrypted (transform type 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EspCipher {
    /// Not at all (RFC 2410).
    Null,
    /// AES-CBC (RFC 3602).
    AesCbc,
    /// AES-CTR (RFC 3686).
    AesCtr,
    /// AES-CCM with an 8-octet ICV (RFC 4309).
    AesCcm8,
    /// AES-CCM with a 12-octet ICV.
    AesCcm12,
    /// AES-CCM with a 16-octet ICV.
    AesCcm16,
    /// AES-GCM with an 8-octet ICV (RFC 4106).
    AesGcm8,
    /// AES-GCM with a 12-octet ICV.
    AesGcm12,
    /// AES-GCM with a 16-octet ICV.
    AesGcm16,
    /// AES-GMAC: authentication without encryption (RFC 4543).
    AesGmac,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
}

impl EspCipher {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AesGcm16,
        Self::ChaCha20Poly1305,
        Self::AesGcm12,
        Self::AesGcm8,
        Self::AesCcm16,
        Self::AesCcm12,
        Self::AesCcm8,
        Self::AesGmac,
        Self::AesCbc,
        Self::AesCtr,
        Self::Null,
    ];

    /// The transform's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::Null => 11,
            Self::AesCbc => 12,
            Self::AesCtr => 13,
            Self::AesCcm8 => 14,
            Self::AesCcm12 => 15,
            Self::AesCcm16 => 16,
            Self::AesGcm8 => 18,
            Self::AesGcm12 => 19,
            Self::AesGcm16 => 20,
            Self::AesGmac => 21,
            Self::ChaCha20Poly1305 => 28,
        }
    }

    /// Whether it authenticates by itself.
    pub const fn is_aead(self) -> bool {
        !matches!(self, Self::Null | Self::AesCbc | Self::AesCtr)
    }

    /// The key lengths that it comes with, in octets.
    const fn key_lengths(self) -> &'static [u8] {
        match self {
            Self::Null => &[0],
            Self::ChaCha20Poly1305 => &[32],
            _ => &[16, 24, 32],
        }
    }

    /// Octets of the implicit part of the nonce, which follow the key.
    const fn salt_length(self) -> usize {
        match self {
            Self::Null | Self::AesCbc => 0,
            Self::AesCcm8 | Self::AesCcm12 | Self::AesCcm16 => 3,
            _ => 4,
        }
    }
}

/// A cipher with a key length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EspEncryption {
    cipher: EspCipher,
    key_length: u8,
}

impl EspEncryption {
    /// `None` if the cipher has no keys of so many octets.
    pub fn new(cipher: EspCipher, key_length: u8) -> Option<Self> {
        cipher.key_lengths().contains(&key_length).then_some(Self { cipher, key_length })
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |cipher: EspCipher| {
            cipher.key_lengths().iter().map(move |&key_length| Self { cipher, key_length })
        };
        EspCipher::ALL.into_iter().flat_map(of)
    }

    /// The cipher.
    pub fn cipher(self) -> EspCipher {
        self.cipher
    }

    /// The transform's key length attribute in bits, where it has to have one (RFC 7296 section 3.3.5).
    pub fn key_length_attribute(self) -> Option<u16> {
        let is_fixed = matches!(self.cipher, EspCipher::Null | EspCipher::ChaCha20Poly1305);
        (!is_fixed).then_some(u16::from(self.key_length) * 8)
    }

    /// The algorithm with this transform number and key length attribute.
    pub fn from_id(id: u16, key_length: Option<u16>) -> Option<Self> {
        Self::all().find(|a| a.cipher.id() == id && a.key_length_attribute() == key_length)
    }

    /// Octets of the key and its salt.
    pub fn key_length(self) -> usize {
        usize::from(self.key_length) + self.cipher.salt_length()
    }
}

/// strongSwan's keyword.
impl fmt::Display for EspEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u16::from(self.key_length) * 8;
        let name = match self.cipher {
            EspCipher::Null => "null".to_owned(),
            EspCipher::ChaCha20Poly1305 => "chacha20poly1305".to_owned(),
            EspCipher::AesCbc => format!("aes{bits}"),
            EspCipher::AesCtr => format!("aes{bits}ctr"),
            EspCipher::AesCcm8 => format!("aes{bits}ccm8"),
            EspCipher::AesCcm12 => format!("aes{bits}ccm12"),
            EspCipher::AesCcm16 => format!("aes{bits}ccm16"),
            EspCipher::AesGcm8 => format!("aes{bits}gcm8"),
            EspCipher::AesGcm12 => format!("aes{bits}gcm12"),
            EspCipher::AesGcm16 => format!("aes{bits}gcm16"),
            EspCipher::AesGmac => format!("aes{bits}gmac"),
        };
        f.pad(&name)
    }
}

/// How packets are authenticated, if not by their encryption (transform type 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EspIntegrity {
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1_96,
    /// AES-CMAC-96 (RFC 4494).
    AesCmac96,
    /// HMAC-SHA2-256-128 (RFC 4868).
    HmacSha2_256_128,
    /// HMAC-SHA2-384-192.
    HmacSha2_384_192,
    /// HMAC-SHA2-512-256.
    HmacSha2_512_256,
}

impl EspIntegrity {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::HmacSha2_256_128,
        Self::HmacSha2_384_192,
        Self::HmacSha2_512_256,
        Self::HmacSha1_96,
        Self::AesCmac96,
    ];

    /// The transform's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::HmacSha1_96 => 2,
            Self::AesCmac96 => 8,
            Self::HmacSha2_256_128 => 12,
            Self::HmacSha2_384_192 => 13,
            Self::HmacSha2_512_256 => 14,
        }
    }

    /// The algorithm with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.id() == id)
    }

    /// strongSwan's keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::HmacSha1_96 => "sha1",
            Self::AesCmac96 => "aescmac",
            Self::HmacSha2_256_128 => "sha256",
            Self::HmacSha2_384_192 => "sha384",
            Self::HmacSha2_512_256 => "sha512",
        }
    }

    /// Octets of its key.
    pub const fn key_length(self) -> usize {
        match self {
            Self::AesCmac96 => 16,
            Self::HmacSha1_96 => 20,
            Self::HmacSha2_256_128 => 32,
            Self::HmacSha2_384_192 => 48,
            Self::HmacSha2_512_256 => 64,
        }
    }
}

/// What a pair of Child SAs is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EspSuite {
    /// How packets are encrypted.
    pub encryption: EspEncryption,
    /// How they are authenticated; `None` exactly where the encryption does that.
    pub integrity: Option<EspIntegrity>,
    /// Whether sequence numbers have 64 bits (RFC 4303 section 2.2.1).
    pub extended_sequence: bool,
    /// The group of a key exchange of its own (perfect forward secrecy).
    pub group: Option<Group>,
    /// Further key exchanges.
    pub additional: AdditionalMethods,
}

impl EspSuite {
    /// The name of encryption and integrity in the SA table: `aes128gcm16`, `aes256-sha256`.
    pub fn keyword(&self) -> String {
        let integrity = self.integrity.map_or(String::new(), |i| format!("-{}", i.keyword()));
        format!("{}{integrity}", self.encryption)
    }

    /// Octets of keying material for one direction.
    pub fn key_length(&self) -> usize {
        self.encryption.key_length() + self.integrity.map_or(0, EspIntegrity::key_length)
    }
}

/// As strongSwan spells it: `aes128gcm16-x25519-esn`.
impl fmt::Display for EspSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = self.group.map_or(String::new(), |group| format!("-{}", group.keyword()));
        let extended = if self.extended_sequence { "-esn" } else { "" };
        f.pad(&format!("{}{group}{}{extended}", self.keyword(), self.additional))
    }
}
