//! The algorithms of an IKE SA (RFC 8247) with their numbers, names and sizes.

use std::fmt;

use super::AdditionalMethods;

/// How the Encrypted payload is encrypted (transform type 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encryption {
    /// AES-CBC with a 128-bit key (RFC 3602).
    AesCbc128,
    /// AES-CBC with a 192-bit key.
    AesCbc192,
    /// AES-CBC with a 256-bit key.
    AesCbc256,
    /// AES-GCM with a 16-octet ICV and a 128-bit key (RFC 5282).
    AesGcm16_128,
    /// AES-GCM with a 16-octet ICV and a 192-bit key.
    AesGcm16_192,
    /// AES-GCM with a 16-octet ICV and a 256-bit key.
    AesGcm16_256,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305,
}

impl Encryption {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AesCbc128,
        Self::AesCbc192,
        Self::AesCbc256,
        Self::AesGcm16_128,
        Self::AesGcm16_192,
        Self::AesGcm16_256,
        Self::ChaCha20Poly1305,
    ];

    /// The transform's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::AesCbc128 | Self::AesCbc192 | Self::AesCbc256 => 12,
            Self::AesGcm16_128 | Self::AesGcm16_192 | Self::AesGcm16_256 => 20,
            Self::ChaCha20Poly1305 => 28,
        }
    }

    /// The transform's key length attribute in bits, where it has to have one (RFC 7296 section 3.3.5).
    pub const fn key_length_attribute(self) -> Option<u16> {
        match self {
            Self::ChaCha20Poly1305 => None,
            _ => Some(self.key_length() as u16 * 8),
        }
    }

    /// The algorithm with this number and key length attribute.
    pub fn from_id(id: u16, key_length: Option<u16>) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.id() == id && a.key_length_attribute() == key_length)
    }

    /// strongSwan's keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::AesCbc128 => "aes128",
            Self::AesCbc192 => "aes192",
            Self::AesCbc256 => "aes256",
            Self::AesGcm16_128 => "aes128gcm16",
            Self::AesGcm16_192 => "aes192gcm16",
            Self::AesGcm16_256 => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
        }
    }

    /// Whether it authenticates by itself (RFC 5282).
    pub const fn is_aead(self) -> bool {
        !matches!(self, Self::AesCbc128 | Self::AesCbc192 | Self::AesCbc256)
    }

    /// Octets of the cipher's key.
    pub const fn key_length(self) -> usize {
        match self {
            Self::AesCbc128 | Self::AesGcm16_128 => 16,
            Self::AesCbc192 | Self::AesGcm16_192 => 24,
            Self::AesCbc256 | Self::AesGcm16_256 | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// Octets of the salt that follows the key in the keying material (RFC 5282 section 7.1).
    pub const fn salt_length(self) -> usize {
        if self.is_aead() { 4 } else { 0 }
    }

    /// Octets of the IV in each message.
    pub const fn iv_length(self) -> usize {
        if self.is_aead() { 8 } else { 16 }
    }
}

/// How the Encrypted payload is authenticated, if not by its encryption (transform type 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Integrity {
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1_96,
    /// HMAC-SHA2-256-128 (RFC 4868).
    HmacSha2_256_128,
    /// HMAC-SHA2-384-192.
    HmacSha2_384_192,
    /// HMAC-SHA2-512-256.
    HmacSha2_512_256,
}

impl Integrity {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::HmacSha1_96, Self::HmacSha2_256_128, Self::HmacSha2_384_192, Self::HmacSha2_512_256];

    /// The transform's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::HmacSha1_96 => 2,
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
            Self::HmacSha2_256_128 => "sha256",
            Self::HmacSha2_384_192 => "sha384",
            Self::HmacSha2_512_256 => "sha512",
        }
    }

    /// The PRF with the same hash, which strongSwan takes where a proposal names none.
    pub const fn prf(self) -> Prf {
        match self {
            Self::HmacSha1_96 => Prf::HmacSha1,
            Self::HmacSha2_256_128 => Prf::HmacSha2_256,
            Self::HmacSha2_384_192 => Prf::HmacSha2_384,
            Self::HmacSha2_512_256 => Prf::HmacSha2_512,
        }
    }

    /// Octets of its key.
    pub const fn key_length(self) -> usize {
        self.prf().length()
    }

    /// Octets of its ICV.
    pub const fn icv_length(self) -> usize {
        match self {
            Self::HmacSha1_96 => 12,
            Self::HmacSha2_256_128 => 16,
            Self::HmacSha2_384_192 => 24,
            Self::HmacSha2_512_256 => 32,
        }
    }
}

/// The pseudorandom function (transform type 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prf {
    /// PRF_HMAC_SHA1 (RFC 2104).
    HmacSha1,
    /// PRF_HMAC_SHA2_256 (RFC 4868).
    HmacSha2_256,
    /// PRF_HMAC_SHA2_384.
    HmacSha2_384,
    /// PRF_HMAC_SHA2_512.
    HmacSha2_512,
}

impl Prf {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::HmacSha1, Self::HmacSha2_256, Self::HmacSha2_384, Self::HmacSha2_512];

    /// The transform's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::HmacSha1 => 2,
            Self::HmacSha2_256 => 5,
            Self::HmacSha2_384 => 6,
            Self::HmacSha2_512 => 7,
        }
    }

    /// The algorithm with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.id() == id)
    }

    /// strongSwan's keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::HmacSha1 => "prfsha1",
            Self::HmacSha2_256 => "prfsha256",
            Self::HmacSha2_384 => "prfsha384",
            Self::HmacSha2_512 => "prfsha512",
        }
    }

    /// Octets of its output, which are also the octets of its preferred key (RFC 7296 section 2.13).
    pub const fn length(self) -> usize {
        match self {
            Self::HmacSha1 => 20,
            Self::HmacSha2_256 => 32,
            Self::HmacSha2_384 => 48,
            Self::HmacSha2_512 => 64,
        }
    }
}

/// A Diffie-Hellman group (transform type 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// 2048-bit MODP (RFC 3526).
    Modp2048,
    /// 3072-bit MODP.
    Modp3072,
    /// 4096-bit MODP.
    Modp4096,
    /// NIST P-256 (RFC 5903).
    Ecp256,
    /// NIST P-384.
    Ecp384,
    /// NIST P-521.
    Ecp521,
    /// Curve25519 (RFC 8031).
    Curve25519,
}

impl Group {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Modp2048,
        Self::Modp3072,
        Self::Modp4096,
        Self::Ecp256,
        Self::Ecp384,
        Self::Ecp521,
        Self::Curve25519,
    ];

    /// The transform's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::Modp2048 => 14,
            Self::Modp3072 => 15,
            Self::Modp4096 => 16,
            Self::Ecp256 => 19,
            Self::Ecp384 => 20,
            Self::Ecp521 => 21,
            Self::Curve25519 => 31,
        }
    }

    /// The group with this number.
    pub fn from_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.id() == id)
    }

    /// strongSwan's keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::Modp2048 => "modp2048",
            Self::Modp3072 => "modp3072",
            Self::Modp4096 => "modp4096",
            Self::Ecp256 => "ecp256",
            Self::Ecp384 => "ecp384",
            Self::Ecp521 => "ecp521",
            Self::Curve25519 => "x25519",
        }
    }

    /// Octets of the public value in a Key Exchange payload.
    pub const fn public_length(self) -> usize {
        match self {
            Self::Modp2048 => 256,
            Self::Modp3072 => 384,
            Self::Modp4096 => 512,
            Self::Ecp256 => 64,
            Self::Ecp384 => 96,
            Self::Ecp521 => 132,
            Self::Curve25519 => 32,
        }
    }
}

/// What an IKE SA is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IkeSuite {
    /// How messages are encrypted.
    pub encryption: Encryption,
    /// How they are authenticated; `None` exactly where the encryption does that.
    pub integrity: Option<Integrity>,
    /// How keys are derived and AUTH is computed.
    pub prf: Prf,
    /// How the secret is agreed.
    pub group: Group,
    /// How further ones are.
    pub additional: AdditionalMethods,
}

/// As strongSwan spells it: `aes128gcm16-prfsha256-x25519`, `aes128-sha256-prfsha256-modp2048`.
impl fmt::Display for IkeSuite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let integrity = self.integrity.map_or(String::new(), |i| format!("-{}", i.keyword()));
        f.pad(&format!(
            "{}{integrity}-{}-{}{}",
            self.encryption.keyword(),
            self.prf.keyword(),
            self.group.keyword(),
            self.additional
        ))
    }
}
