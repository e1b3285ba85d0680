//! RustCrypto's primitives, called directly, judge what AWS-LC's made.

use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use aes_gcm::aead::{AeadInOut, KeyInit};
use hmac::{Hmac, Mac};

use super::super::{Encryption, IkeKeys, Prf, Role, Shared};
use super::{Counting, keys, suites};
use crate::wire::{self, Datagram, ExchangeType, Flags, Header, Payload};

fn mac(prf: Prf, key: &[u8], text: &[u8]) -> Vec<u8> {
    macro_rules! with {
        ($hash:ty) => {{
            let mut mac = <Hmac<$hash>>::new_from_slice(key).unwrap();
            mac.update(text);
            mac.finalize().into_bytes().to_vec()
        }};
    }
    match prf {
        Prf::HmacSha1 => with!(sha1::Sha1),
        Prf::HmacSha2_256 => with!(sha2::Sha256),
        Prf::HmacSha2_384 => with!(sha2::Sha384),
        Prf::HmacSha2_512 => with!(sha2::Sha512),
    }
}

/// prf+ as RFC 7296 section 2.13 writes it.
fn prf_plus(prf: Prf, key: &[u8], seed: &[u8], length: usize) -> Vec<u8> {
    let (mut stream, mut block) = (Vec::new(), Vec::new());
    for counter in 1.. {
        block = mac(prf, key, &[&block, seed, &[counter]].concat());
        stream.extend_from_slice(&block);
        if stream.len() >= length {
            break;
        }
    }
    stream.truncate(length);
    stream
}

#[test]
fn keys_of_every_suite_are_what_the_judge_derives() {
    for suite in suites() {
        let keys = IkeKeys::derive(suite, &[1; 32], &[2; 32], &Shared::for_test(&[3; 32]), 4, 5);
        let nonces = [[1; 32], [2; 32]].concat();
        let seed = mac(suite.prf, &nonces, &[3; 32]);
        let spis = [4_u64.to_be_bytes(), 5_u64.to_be_bytes()].concat();
        let material = prf_plus(suite.prf, &seed, &[nonces, spis].concat(), keys.material().len());
        assert_eq!(keys.material(), material, "{suite}");
    }
}

#[test]
fn proofs_by_shared_secret_are_what_the_judge_computes() {
    for suite in suites() {
        let keys = keys(suite, 1);
        for side in [Role::Initiator, Role::Responder] {
            let signed = keys.auth_octets(side, b"message", b"nonce", b"identity");
            let key = match side {
                Role::Initiator => &keys.material()[keys.material().len() - 2 * suite.prf.length()..],
                Role::Responder => &keys.material()[keys.material().len() - suite.prf.length()..],
            };
            let expected = mac(suite.prf, &key[..suite.prf.length()], b"identity");
            assert_eq!(signed, [&b"messagenonce"[..], &expected].concat());
            let proof = mac(suite.prf, &mac(suite.prf, b"secret", b"Key Pad for IKEv2"), &signed);
            assert_eq!(keys.psk_auth(&signed, b"secret"), proof);
            assert!(keys.verify_psk_auth(&signed, b"secret", &proof));
            assert!(!keys.verify_psk_auth(&signed, b"secret", &proof[1..]));
            assert!(!keys.verify_psk_auth(&signed, b"secre", &proof));
        }
    }
}

/// The text of a message, padding and its length included.
fn open(keys: &IkeKeys, sealed: &wire::Encrypted) -> Vec<u8> {
    let suite = keys.suite();
    let key = keys.encryption_key(Role::Initiator);
    match suite.integrity {
        None => open_aead(suite.encryption, key, sealed),
        Some(integrity) => {
            let (front, icv) = sealed.whole.split_at(sealed.whole.len() - integrity.icv_length());
            let tag = mac(integrity.prf(), keys.integrity_key(Role::Initiator), front);
            assert_eq!(icv, &tag[..icv.len()]);
            let body = &sealed.body[..sealed.body.len() - icv.len()];
            open_cbc(key, &body[..16], &body[16..])
        }
    }
}

fn open_aead(encryption: Encryption, key: &[u8], sealed: &wire::Encrypted) -> Vec<u8> {
    let (key, salt) = key.split_at(key.len() - 4);
    let nonce = [salt, &sealed.body[..8]].concat();
    let mut text = sealed.body[8..].to_vec();
    macro_rules! with {
        ($cipher:ty) => {{
            let cipher = <$cipher>::new_from_slice(key).unwrap();
            let nonce = nonce.as_slice().try_into().unwrap();
            cipher.decrypt_in_place(nonce, sealed.associated, &mut text).expect("authentic");
        }};
    }
    match encryption {
        Encryption::AesGcm16_128 => with!(aes_gcm::Aes128Gcm),
        Encryption::AesGcm16_192 => with!(aes_gcm::AesGcm<aes::Aes192, aes_gcm::aead::consts::U12>),
        Encryption::AesGcm16_256 => with!(aes_gcm::Aes256Gcm),
        _ => with!(chacha20poly1305::ChaCha20Poly1305),
    }
    text
}

fn open_cbc(key: &[u8], iv: &[u8], text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    macro_rules! with {
        ($cipher:ty) => {{
            let mut cipher = cbc::Decryptor::<$cipher>::new_from_slices(key, iv).unwrap();
            for block in text.chunks_exact_mut(16) {
                cipher.decrypt_block(block.try_into().unwrap());
            }
        }};
    }
    match key.len() {
        16 => with!(aes::Aes128),
        24 => with!(aes::Aes192),
        _ => with!(aes::Aes256),
    }
    text
}

#[test]
fn messages_of_every_suite_are_opened_by_the_judge() {
    let header = Header {
        initiator_spi: 4,
        responder_spi: 5,
        exchange: ExchangeType::IKE_AUTH,
        flags: Flags { initiator: true, response: false },
        message_id: 1,
    };
    let mut host = Counting(0);
    for suite in suites() {
        let keys = keys(suite, 1);
        let payloads = [Payload::VendorId(b"whatever is inside".to_vec())];
        let datagram = keys.seal(Role::Initiator, &header, &payloads, &mut host).unwrap();
        let Ok(Datagram::Encrypted(sealed)) = wire::parse(&datagram) else { panic!("an Encrypted payload") };
        let text = open(&keys, &sealed);
        let padding = usize::from(*text.last().unwrap());
        assert!(padding < if suite.integrity.is_some() { 16 } else { 1 }, "no more than there has to be");
        let chain = &text[..text.len() - 1 - padding];
        assert_eq!(wire::parse_chain(sealed.first, chain).unwrap(), payloads, "{suite}");
    }
}
