//! ML-KEM (FIPS 203) as a key exchange: the request has the encapsulation key, the response the ciphertext
//! (draft-ietf-ipsecme-ikev2-mlkem).

use aws_lc_rs::kem::{
    Algorithm, AlgorithmId, Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_512, ML_KEM_768,
    ML_KEM_1024,
};
use zeroize::Zeroizing;

use super::key_exchange::Shared;
use super::prf::Secret;
use super::{KeyExchangeError, KeyExchangeMethod};

/// A parameter set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MlKem {
    /// Of NIST's category 1.
    MlKem512,
    /// Of category 3.
    MlKem768,
    /// Of category 5.
    MlKem1024,
}

impl MlKem {
    /// All of them, the usual one first.
    pub const ALL: [Self; 3] = [Self::MlKem768, Self::MlKem1024, Self::MlKem512];

    /// The transform's number.
    pub const fn id(self) -> u16 {
        match self {
            Self::MlKem512 => 35,
            Self::MlKem768 => 36,
            Self::MlKem1024 => 37,
        }
    }

    /// strongSwan's keyword.
    pub const fn keyword(self) -> &'static str {
        match self {
            Self::MlKem512 => "mlkem512",
            Self::MlKem768 => "mlkem768",
            Self::MlKem1024 => "mlkem1024",
        }
    }

    /// k of FIPS 203 section 8.
    const fn rank(self) -> usize {
        match self {
            Self::MlKem512 => 2,
            Self::MlKem768 => 3,
            Self::MlKem1024 => 4,
        }
    }

    /// Octets of an encapsulation key.
    pub const fn key_length(self) -> usize {
        384 * self.rank() + 32
    }

    /// Octets of a ciphertext.
    pub const fn ciphertext_length(self) -> usize {
        match self {
            Self::MlKem512 => 768,
            Self::MlKem768 => 1088,
            Self::MlKem1024 => 1568,
        }
    }

    fn algorithm(self) -> &'static Algorithm<AlgorithmId> {
        match self {
            Self::MlKem512 => &ML_KEM_512,
            Self::MlKem768 => &ML_KEM_768,
            Self::MlKem1024 => &ML_KEM_1024,
        }
    }

    const fn method(self) -> KeyExchangeMethod {
        KeyExchangeMethod::MlKem(self)
    }
}

/// A key pair, for one exchange.
pub(super) struct Share {
    kem: MlKem,
    key: DecapsulationKey,
    private: Secret,
    public: Vec<u8>,
}

impl Share {
    pub(super) fn generate(kem: MlKem) -> Result<Self, KeyExchangeError> {
        let failed = |_| KeyExchangeError::Random(kem.method());
        let key = DecapsulationKey::generate(kem.algorithm()).map_err(failed)?;
        let private = key.key_bytes().map_err(failed)?;
        Self::from_private(kem, private.as_ref()).ok_or(KeyExchangeError::Random(kem.method()))
    }

    /// The decapsulation key has the encapsulation key in it, behind 384 k octets (FIPS 203 section 7.1).
    pub(super) fn from_private(kem: MlKem, octets: &[u8]) -> Option<Self> {
        let key = DecapsulationKey::new(kem.algorithm(), octets).ok()?;
        let start = 384 * kem.rank();
        let public = octets.get(start..start + kem.key_length())?.to_vec();
        Some(Self { kem, key, private: Zeroizing::new(octets.to_vec()), public })
    }

    pub(super) fn kem(&self) -> MlKem {
        self.kem
    }

    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(super) fn private(&self) -> &[u8] {
        &self.private
    }

    /// A ciphertext of the right length always gives a secret; of a damaged one it is another than the peer's, which
    /// shows when a message does not open (FIPS 203 section 6.3: implicit rejection).
    pub(super) fn agree(&self, ciphertext: &[u8]) -> Result<Shared, KeyExchangeError> {
        check_length(self.kem, ciphertext, self.kem.ciphertext_length())?;
        let secret = self.key.decapsulate(Ciphertext::from(ciphertext));
        let secret = secret.map_err(|_| KeyExchangeError::Value(self.kem.method()))?;
        Ok(Shared::new(secret.as_ref()))
    }
}

/// Encapsulates a secret for the peer's key, which AWS-LC checks (FIPS 203 section 7.2).
pub(super) fn answer(kem: MlKem, peer: &[u8]) -> Result<(Vec<u8>, Shared), KeyExchangeError> {
    check_length(kem, peer, kem.key_length())?;
    let refused = KeyExchangeError::Value(kem.method());
    let key = EncapsulationKey::new(kem.algorithm(), peer).map_err(|_| refused)?;
    let (ciphertext, secret) = key.encapsulate().map_err(|_| refused)?;
    Ok((ciphertext.as_ref().to_vec(), Shared::new(secret.as_ref())))
}

fn check_length(kem: MlKem, octets: &[u8], wanted: usize) -> Result<(), KeyExchangeError> {
    if octets.len() == wanted {
        return Ok(());
    }
    Err(KeyExchangeError::Length { method: kem.method(), got: octets.len(), wanted })
}
