//! Cryptographic suites.

/// How an SA's packets are protected. The number is the IKEv2 transform id (RFC 4106 section 8.2: 18,
/// 19, 20 for ICVs of 8, 12, 16 octets) in the high octet and the cipher key's octets in the low one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
#[non_exhaustive]
pub enum Suite {
    /// AES-128-GCM with an 8-octet ICV.
    AesGcm128Icv8 = 0x1210,
    /// AES-128-GCM with a 12-octet ICV.
    AesGcm128Icv12 = 0x1310,
    /// AES-128-GCM with a 16-octet ICV.
    AesGcm128Icv16 = 0x1410,
    /// AES-192-GCM with an 8-octet ICV.
    AesGcm192Icv8 = 0x1218,
    /// AES-192-GCM with a 12-octet ICV.
    AesGcm192Icv12 = 0x1318,
    /// AES-192-GCM with a 16-octet ICV.
    AesGcm192Icv16 = 0x1418,
    /// AES-256-GCM with an 8-octet ICV.
    AesGcm256Icv8 = 0x1220,
    /// AES-256-GCM with a 12-octet ICV.
    AesGcm256Icv12 = 0x1320,
    /// AES-256-GCM with a 16-octet ICV.
    AesGcm256Icv16 = 0x1420,
}

impl Suite {
    /// Every suite.
    pub const ALL: [Self; 9] = [
        Self::AesGcm128Icv8,
        Self::AesGcm128Icv12,
        Self::AesGcm128Icv16,
        Self::AesGcm192Icv8,
        Self::AesGcm192Icv12,
        Self::AesGcm192Icv16,
        Self::AesGcm256Icv8,
        Self::AesGcm256Icv12,
        Self::AesGcm256Icv16,
    ];

    /// The number in tables and contexts.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The suite with this number.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.number() == number)
    }

    /// The suite with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// The name, as strongSwan spells it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesGcm128Icv8 => "aes128gcm8",
            Self::AesGcm128Icv12 => "aes128gcm12",
            Self::AesGcm128Icv16 => "aes128gcm16",
            Self::AesGcm192Icv8 => "aes192gcm8",
            Self::AesGcm192Icv12 => "aes192gcm12",
            Self::AesGcm192Icv16 => "aes192gcm16",
            Self::AesGcm256Icv8 => "aes256gcm8",
            Self::AesGcm256Icv12 => "aes256gcm12",
            Self::AesGcm256Icv16 => "aes256gcm16",
        }
    }

    /// Octets of keying material: the cipher's key and the 4-octet salt (RFC 4106 section 8.1).
    pub const fn key_length(self) -> usize {
        (self.number() & 0xff) as usize + 4
    }

    /// Octets of the integrity check value (RFC 4106 section 6).
    pub const fn icv_length(self) -> usize {
        match self.number() >> 8 {
            18 => 8,
            19 => 12,
            _ => 16,
        }
    }
}

impl std::fmt::Display for Suite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}
