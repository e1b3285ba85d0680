//! AES-CBC and AES-CTR.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext,
    UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use baton_sad::{Encryption, Suite};

use crate::crypto::BLOCK;
use crate::crypto::composed::{Cipher, CounterNonce, Null};

pub(in crate::crypto) fn cipher(suite: Suite, key: &[u8], nonce: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(match suite.encryption() {
        Encryption::Null => Box::new(Null),
        Encryption::AesCbc => Box::new(Cbc::new(key)?),
        Encryption::AesCtr => {
            let key = EncryptingKey::ctr(unbound(key)?).ok()?;
            Box::new(Ctr { key, nonce: CounterNonce::new(nonce)? })
        }
        _ => return None,
    })
}

fn unbound(key: &[u8]) -> Option<UnboundCipherKey> {
    let algorithm: &'static Algorithm = match key.len() {
        16 => &AES_128,
        24 => &AES_192,
        32 => &AES_256,
        _ => return None,
    };
    UnboundCipherKey::new(algorithm, key).ok()
}

struct Cbc {
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
}

impl Cbc {
    fn new(key: &[u8]) -> Option<Self> {
        Some(Self {
            encrypting: EncryptingKey::cbc(unbound(key)?).ok()?,
            decrypting: DecryptingKey::cbc(unbound(key)?).ok()?,
        })
    }
}

fn fixed(iv: &[u8]) -> Option<FixedLength<BLOCK>> {
    FixedLength::try_from(iv).ok()
}

impl Cipher for Cbc {
    fn encrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        let context = fixed(iv).map(EncryptionContext::Iv128);
        context.is_some_and(|context| self.encrypting.less_safe_encrypt(text, context).is_ok())
    }

    fn decrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        let context = fixed(iv).map(DecryptionContext::Iv128);
        context.is_some_and(|context| self.decrypting.decrypt(text, context).is_ok())
    }
}

struct Ctr {
    key: EncryptingKey,
    nonce: CounterNonce,
}

impl Cipher for Ctr {
    fn encrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        let context = EncryptionContext::Iv128(FixedLength::from(self.nonce.first_block(iv)));
        self.key.less_safe_encrypt(text, context).is_ok()
    }

    /// The keystream is the same both ways.
    fn decrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        self.encrypt(iv, text)
    }
}
