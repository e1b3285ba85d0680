//! AES-CBC and AES-CTR.

use aes::cipher::common::InnerIvInit;
use aes::cipher::inout::InOutBuf;
use aes::cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, BlockSizeUser,
    KeyInit, StreamCipher, StreamCipherCoreWrapper, consts::U16,
};
use aes::{Aes128, Aes192, Aes256};
use baton_sad::{Encryption, Suite};
use ctr::CtrCore;
use ctr::flavors::Ctr32BE;

use crate::crypto::composed::{Cipher, CounterNonce, Null};

pub(in crate::crypto) fn cipher(suite: Suite, key: &[u8], nonce: &[u8]) -> Option<Box<dyn Cipher>> {
    match (suite.encryption(), suite.cipher_key_length()) {
        (Encryption::Null, _) => Some(Box::new(Null)),
        (Encryption::AesCbc, 16) => cbc::<Aes128>(key),
        (Encryption::AesCbc, 24) => cbc::<Aes192>(key),
        (Encryption::AesCbc, 32) => cbc::<Aes256>(key),
        (Encryption::AesCtr, 16) => ctr::<Aes128>(key, nonce),
        (Encryption::AesCtr, 24) => ctr::<Aes192>(key, nonce),
        (Encryption::AesCtr, 32) => ctr::<Aes256>(key, nonce),
        _ => None,
    }
}

/// AES with one of its key lengths.
trait Aes: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit + Send + 'static {}
impl<C: BlockCipherEncrypt + BlockSizeUser<BlockSize = U16> + KeyInit + Send + 'static> Aes for C {}

fn cbc<C: Aes + BlockCipherDecrypt>(key: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(Box::new(Cbc(C::new_from_slice(key).ok()?)))
}

fn ctr<C: Aes>(key: &[u8], nonce: &[u8]) -> Option<Box<dyn Cipher>> {
    Some(Box::new(Ctr { cipher: C::new_from_slice(key).ok()?, nonce: CounterNonce::new(nonce)? }))
}

struct Cbc<C>(C);

impl<C: Aes + BlockCipherDecrypt> Cipher for Cbc<C> {
    fn encrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        let Ok(iv) = <&Array<u8, U16>>::try_from(iv) else { return false };
        let (blocks, rest) = InOutBuf::from(text).into_chunks();
        cbc::Encryptor::inner_iv_init(&self.0, iv).encrypt_blocks_inout(blocks);
        rest.is_empty()
    }

    fn decrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        let Ok(iv) = <&Array<u8, U16>>::try_from(iv) else { return false };
        let (blocks, rest) = InOutBuf::from(text).into_chunks();
        cbc::Decryptor::inner_iv_init(&self.0, iv).decrypt_blocks_inout(blocks);
        rest.is_empty()
    }
}

struct Ctr<C> {
    cipher: C,
    nonce: CounterNonce,
}

impl<C: Aes> Cipher for Ctr<C> {
    fn encrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        let first = self.nonce.first_block(iv).into();
        let core = CtrCore::<_, Ctr32BE>::inner_iv_init(&self.cipher, &first);
        StreamCipherCoreWrapper::from_core(core).try_apply_keystream(text).is_ok()
    }

    /// The keystream is the same both ways.
    fn decrypt(&self, iv: &[u8], text: &mut [u8]) -> bool {
        self.encrypt(iv, text)
    }
}
