//! RustCrypto's primitives, called directly: they say what an ICV or a CBC ciphertext should be where a vector does not.

use aes::cipher::consts::U16;
use aes::cipher::{BlockModeDecrypt, BlockSizeUser, KeyInit, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use baton_sad::Integrity;
use cmac::Cmac;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// The whole tag of `message`.
pub fn tag(integrity: Integrity, key: &[u8], message: &[u8]) -> Vec<u8> {
    match integrity {
        Integrity::HmacSha1_96 => mac::<Hmac<Sha1>>(key, message),
        Integrity::HmacSha2_256_128 => mac::<Hmac<Sha256>>(key, message),
        Integrity::HmacSha2_384_192 => mac::<Hmac<Sha384>>(key, message),
        Integrity::HmacSha2_512_256 => mac::<Hmac<Sha512>>(key, message),
        Integrity::AesCmac96 => mac::<Cmac<Aes128>>(key, message),
        Integrity::None => panic!("no integrity algorithm"),
    }
}

fn mac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
    <M as KeyInit>::new_from_slice(key).unwrap().chain_update(message).finalize().into_bytes().to_vec()
}

/// What HMAC makes of a key that is longer than its hash's block: its hash (RFC 2104 section 2).
pub fn hashed_key(integrity: Integrity, key: &[u8]) -> Vec<u8> {
    match integrity {
        Integrity::HmacSha1_96 if key.len() > 64 => Sha1::digest(key).to_vec(),
        Integrity::HmacSha2_256_128 if key.len() > 64 => Sha256::digest(key).to_vec(),
        Integrity::HmacSha2_384_192 if key.len() > 128 => Sha384::digest(key).to_vec(),
        Integrity::HmacSha2_512_256 if key.len() > 128 => Sha512::digest(key).to_vec(),
        _ => key.to_vec(),
    }
}

/// AES-CBC decryption of whole blocks.
pub fn cbc_plaintext(key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    match key.len() {
        16 => decrypt::<cbc::Decryptor<Aes128>>(key, iv, ciphertext),
        24 => decrypt::<cbc::Decryptor<Aes192>>(key, iv, ciphertext),
        _ => decrypt::<cbc::Decryptor<Aes256>>(key, iv, ciphertext),
    }
}

fn decrypt<C>(key: &[u8], iv: &[u8], ciphertext: &[u8]) -> Vec<u8>
where
    C: KeyIvInit + BlockModeDecrypt + BlockSizeUser<BlockSize = U16>,
{
    let mut cipher = C::new_from_slices(key, iv).unwrap();
    let mut text = ciphertext.to_vec();
    let (blocks, rest) = text.as_chunks_mut::<16>();
    assert!(rest.is_empty());
    for block in blocks {
        cipher.decrypt_block(block.into());
    }
    text
}
