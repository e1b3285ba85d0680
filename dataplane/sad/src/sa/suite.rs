//! Cryptographic suites: an encryption algorithm and, unless that authenticates by itself, an integrity algorithm
//! (RFC 8221).

use std::fmt;

/// An encryption algorithm of ESP. The number is that of IKEv2's transform type 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encryption {
    /// No encryption (RFC 2410).
    Null = 11,
    /// AES-CBC (RFC 3602).
    AesCbc = 12,
    /// AES-CTR (RFC 3686).
    AesCtr = 13,
    /// AES-CCM with an 8-octet ICV (RFC 4309).
    AesCcm8 = 14,
    /// AES-CCM with a 12-octet ICV.
    AesCcm12 = 15,
    /// AES-CCM with a 16-octet ICV.
    AesCcm16 = 16,
    /// AES-GCM with an 8-octet ICV (RFC 4106).
    AesGcm8 = 18,
    /// AES-GCM with a 12-octet ICV.
    AesGcm12 = 19,
    /// AES-GCM with a 16-octet ICV.
    AesGcm16 = 20,
    /// AES-GMAC: authentication without encryption (RFC 4543).
    AesGmac = 21,
    /// ChaCha20-Poly1305 (RFC 7634).
    ChaCha20Poly1305 = 28,
}

/// An integrity algorithm of ESP. The number is that of IKEv2's transform type 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Integrity {
    /// The encryption algorithm authenticates.
    None = 0,
    /// HMAC-SHA1-96 (RFC 2404).
    HmacSha1_96 = 2,
    /// AES-CMAC-96 (RFC 4494).
    AesCmac96 = 8,
    /// HMAC-SHA2-256-128 (RFC 4868).
    HmacSha2_256_128 = 12,
    /// HMAC-SHA2-384-192.
    HmacSha2_384_192 = 13,
    /// HMAC-SHA2-512-256.
    HmacSha2_512_256 = 14,
}

impl Integrity {
    /// Those that are algorithms.
    const ALL: [Self; 5] = [
        Self::HmacSha1_96,
        Self::AesCmac96,
        Self::HmacSha2_256_128,
        Self::HmacSha2_384_192,
        Self::HmacSha2_512_256,
    ];

    /// Octets of its key.
    pub const fn key_length(self) -> usize {
        match self {
            Self::None => 0,
            Self::AesCmac96 => 16,
            Self::HmacSha1_96 => 20,
            Self::HmacSha2_256_128 => 32,
            Self::HmacSha2_384_192 => 48,
            Self::HmacSha2_512_256 => 64,
        }
    }

    /// Octets of its ICV.
    pub const fn icv_length(self) -> usize {
        match self {
            Self::None => 0,
            Self::AesCmac96 | Self::HmacSha1_96 => 12,
            Self::HmacSha2_256_128 => 16,
            Self::HmacSha2_384_192 => 24,
            Self::HmacSha2_512_256 => 32,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::AesCmac96 => "-aescmac",
            Self::HmacSha1_96 => "-sha1",
            Self::HmacSha2_256_128 => "-sha256",
            Self::HmacSha2_384_192 => "-sha384",
            Self::HmacSha2_512_256 => "-sha512",
        }
    }
}

/// How an SA's packets are protected: one of [`Suite::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Suite {
    encryption: Encryption,
    /// Octets of the cipher's key, without salt or nonce.
    cipher_key: u8,
    integrity: Integrity,
}

/// AES key sizes in octets.
const AES_KEYS: [u8; 3] = [16, 24, 32];
/// AEADs with AES.
const AES_AEADS: [Encryption; 7] = [
    Encryption::AesGcm8,
    Encryption::AesGcm12,
    Encryption::AesGcm16,
    Encryption::AesGmac,
    Encryption::AesCcm8,
    Encryption::AesCcm12,
    Encryption::AesCcm16,
];
/// Ciphers that need an integrity algorithm.
const AES_CIPHERS: [Encryption; 2] = [Encryption::AesCbc, Encryption::AesCtr];
const COUNT: usize = AES_KEYS.len() * (AES_AEADS.len() + AES_CIPHERS.len() * 5) + 1 + 5;

impl Suite {
    /// AES-128-GCM with a 16-octet ICV: what everybody should speak (RFC 8221 section 5).
    pub const AES128_GCM16: Self = Self::new(Encryption::AesGcm16, 16, Integrity::None);

    /// Every suite: AEADs first, then cipher and integrity, then integrity alone.
    pub const ALL: [Self; COUNT] = {
        let mut all = [Self::AES128_GCM16; COUNT];
        let mut at = 0;
        let mut encryption = 0;
        while encryption < AES_AEADS.len() {
            let mut key = 0;
            while key < AES_KEYS.len() {
                all[at] = Self::new(AES_AEADS[encryption], AES_KEYS[key], Integrity::None);
                at += 1;
                key += 1;
            }
            encryption += 1;
        }
        all[at] = Self::new(Encryption::ChaCha20Poly1305, 32, Integrity::None);
        at += 1;
        let mut integrity = 0;
        while integrity < Integrity::ALL.len() {
            let mut cipher = 0;
            while cipher < AES_CIPHERS.len() {
                let mut key = 0;
                while key < AES_KEYS.len() {
                    all[at] = Self::new(AES_CIPHERS[cipher], AES_KEYS[key], Integrity::ALL[integrity]);
                    at += 1;
                    key += 1;
                }
                cipher += 1;
            }
            all[at] = Self::new(Encryption::Null, 0, Integrity::ALL[integrity]);
            at += 1;
            integrity += 1;
        }
        assert!(at == COUNT);
        all
    };

    const fn new(encryption: Encryption, cipher_key: u8, integrity: Integrity) -> Self {
        Self { encryption, cipher_key, integrity }
    }

    /// How packets are encrypted.
    pub const fn encryption(self) -> Encryption {
        self.encryption
    }

    /// How packets are authenticated, if not by the encryption algorithm.
    pub const fn integrity(self) -> Integrity {
        self.integrity
    }

    /// The number in tables and contexts: IKEv2's integrity transform, its encryption transform and the octets of
    /// the cipher's key, eight bits each.
    pub const fn number(self) -> u32 {
        (self.integrity as u32) << 16 | (self.encryption as u32) << 8 | self.cipher_key as u32
    }

    /// The suite with this number.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// The suite with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.to_string() == name)
    }

    /// Octets of the cipher's key, without salt or nonce; 0 with NULL.
    pub const fn cipher_key_length(self) -> usize {
        self.cipher_key as usize
    }

    /// Octets of the implicit part of the nonce, which follow the cipher's key in the keying material (the salt of
    /// RFC 4106 section 8.1, RFC 4309 section 7.1, RFC 7634 section 2; the nonce of RFC 3686 section 5.1).
    pub const fn salt_length(self) -> usize {
        match self.encryption {
            Encryption::Null | Encryption::AesCbc => 0,
            Encryption::AesCcm8 | Encryption::AesCcm12 | Encryption::AesCcm16 => 3,
            _ => 4,
        }
    }

    /// Octets of keying material: the cipher's key, the salt, the integrity key (RFC 7296 section 2.17).
    pub const fn key_length(self) -> usize {
        self.cipher_key_length() + self.salt_length() + self.integrity.key_length()
    }

    /// Octets of the explicit IV in each packet.
    pub const fn iv_length(self) -> usize {
        match self.encryption {
            Encryption::Null => 0,
            Encryption::AesCbc => 16,
            _ => 8,
        }
    }

    /// Octets of the integrity check value.
    pub const fn icv_length(self) -> usize {
        match self.encryption {
            Encryption::AesGcm8 | Encryption::AesCcm8 => 8,
            Encryption::AesGcm12 | Encryption::AesCcm12 => 12,
            Encryption::AesGcm16
            | Encryption::AesCcm16
            | Encryption::AesGmac
            | Encryption::ChaCha20Poly1305 => 16,
            Encryption::Null | Encryption::AesCbc | Encryption::AesCtr => self.integrity.icv_length(),
        }
    }

    /// Payload, padding and trailer together are a multiple of so many octets: the cipher's block, and at least
    /// four (RFC 4303 section 2.4).
    pub const fn alignment(self) -> usize {
        if matches!(self.encryption, Encryption::AesCbc) { 16 } else { 4 }
    }
}

/// As strongSwan spells it: `aes128gcm16`, `aes256-sha256`, `aes128ctr-sha1`, `null-sha1`.
impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = u32::from(self.cipher_key) * 8;
        let integrity = self.integrity.name();
        let name = match self.encryption {
            Encryption::Null => format!("null{integrity}"),
            Encryption::AesCbc => format!("aes{bits}{integrity}"),
            Encryption::AesCtr => format!("aes{bits}ctr{integrity}"),
            Encryption::AesCcm8 => format!("aes{bits}ccm8"),
            Encryption::AesCcm12 => format!("aes{bits}ccm12"),
            Encryption::AesCcm16 => format!("aes{bits}ccm16"),
            Encryption::AesGcm8 => format!("aes{bits}gcm8"),
            Encryption::AesGcm12 => format!("aes{bits}gcm12"),
            Encryption::AesGcm16 => format!("aes{bits}gcm16"),
            Encryption::AesGmac => format!("aes{bits}gmac"),
            Encryption::ChaCha20Poly1305 => "chacha20poly1305".to_owned(),
        };
        f.pad(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_unique_and_lead_back() {
        for suite in Suite::ALL {
            assert_eq!(Suite::from_number(suite.number()), Some(suite));
            assert_eq!(Suite::from_name(&suite.to_string()), Some(suite));
            assert!(suite.key_length() <= crate::Key::MAX && suite.icv_length() >= 8);
        }
        assert_eq!(Suite::from_name("aes128gcm16"), Some(Suite::AES128_GCM16));
        assert_eq!(Suite::AES128_GCM16.number(), 0x1410, "as in tables and contexts of the first release");
        assert_eq!(Suite::from_name("aes256-sha512").map(Suite::key_length), Some(96));
        assert_eq!(Suite::from_name("null-none"), None, "ESP without integrity is not offered");
    }
}
