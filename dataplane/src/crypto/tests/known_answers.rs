//! Answers that nobody here computed, where they are small.

use baton_sad::{Integrity, Suite};

use super::{BACKENDS, Engine, Job, Outcome, open};
use crate::crypto::composed::Cipher;
use crate::crypto::{Backend, aws_lc, rustcrypto};

fn octets(hex: &str) -> Vec<u8> {
    hex::decode(hex).unwrap()
}

fn cipher(backend: Backend, suite: &str, key: &str, nonce: &str) -> Box<dyn Cipher> {
    let suite = Suite::from_name(suite).unwrap();
    match backend {
        Backend::AwsLc => aws_lc::cipher(suite, &octets(key), &octets(nonce)),
        Backend::RustCrypto => rustcrypto::cipher(suite, &octets(key), &octets(nonce)),
    }
    .unwrap()
}

/// Suite, key, nonce, IV, plaintext, ciphertext: RFC 3602 section 4, case 1; RFC 3686 section 6, vectors 1, 4 and 9
/// (two blocks and a part of 4 octets).
const CIPHERS: [[&str; 6]; 4] = [
    [
        "aes128-sha256",
        "06a9214036b8a15b512e03d534120006",
        "",
        "3dafba429d9eb430b422da802c9fac41",
        "53696e676c6520626c6f636b206d7367",
        "e353779c1079aeb82708942dbe77181a",
    ],
    [
        "aes128ctr-sha1",
        "ae6852f8121067cc4bf7a5765577f39e",
        "00000030",
        "0000000000000000",
        "53696e676c6520626c6f636b206d7367",
        "e4095d4fb7a7b3792d6175a3261311b8",
    ],
    [
        "aes192ctr-sha1",
        "16af5b145fc9f579c175f93e3bfb0eed863d06ccfdb78515",
        "00000048",
        "36733c147d6d93cb",
        "53696e676c6520626c6f636b206d7367",
        "4b55384fe259c9c84e7935a003cbe928",
    ],
    [
        "aes256ctr-sha1",
        "ff7a617ce69148e4f1726e2f43581de2aa62d9f805532edff1eed687fb54153d",
        "001cc5b7",
        "51a51d70a1c11148",
        "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223",
        "eb6c52821d0bbbf7ce7594462aca4faab407df866569fd07f48cc0b583d6071f1ec0e6b8",
    ],
];

#[test]
fn ciphers_alone() {
    for (backend, case) in BACKENDS.into_iter().flat_map(|backend| CIPHERS.map(|case| (backend, case))) {
        let [suite, key, nonce, iv, plain, sealed] = case;
        let cipher = cipher(backend, suite, key, nonce);
        let mut text = octets(plain);
        assert!(cipher.encrypt(&octets(iv), &mut text));
        assert_eq!(hex::encode(&text), sealed, "{backend:?} {suite}");
        assert!(cipher.decrypt(&octets(iv), &mut text));
        assert_eq!(hex::encode(&text), plain, "{backend:?} {suite}");
    }
}

/// Algorithm, key, message, tag: RFC 2202 section 3 case 1, RFC 4868 section 2.7.2 cases 1, RFC 4493 section 4 examples
/// 1 to 3.
fn authenticators() -> [(Integrity, Vec<u8>, Vec<u8>, &'static str); 7] {
    let hi = |length| (vec![0x0b; length], b"Hi There".to_vec());
    let ((k1, m1), (k2, m2), (k3, m3), (k4, m4)) = (hi(20), hi(32), hi(48), hi(64));
    let cmac = octets("2b7e151628aed2a6abf7158809cf4f3c");
    let message = octets("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e5130c81c46a35ce411");
    [
        (Integrity::HmacSha1_96, k1, m1, "b617318655057264e28bc0b6fb378c8ef146be00"),
        (
            Integrity::HmacSha2_256_128,
            k2,
            m2,
            "198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7",
        ),
        (
            Integrity::HmacSha2_384_192,
            k3,
            m3,
            "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee9737a959796489bddbc4c5df61d5b3297b4fb68dab9f1b582c2",
        ),
        (
            Integrity::HmacSha2_512_256,
            k4,
            m4,
            "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8\
             ac2878ebd5803f6f0b61dbce5e251ff8789a4722c1be65aea45fd464e89f8f5b",
        ),
        (Integrity::AesCmac96, cmac.clone(), Vec::new(), "bb1d6929e95937287fa37d129b756746"),
        (Integrity::AesCmac96, cmac.clone(), message[..16].to_vec(), "070a16b46b4d4144f79bdd9dd04a287c"),
        (Integrity::AesCmac96, cmac, message, "dfa66747de9ae63030ca32611497c827"),
    ]
}

#[test]
fn authenticators_alone() {
    for (integrity, key, message, tag) in authenticators() {
        let (tag, (front, back)) = (octets(tag), message.split_at(message.len() / 3));
        let portable = rustcrypto::Authenticator::new(integrity, &key).unwrap();
        assert_eq!(portable.tag(front, back)[..tag.len()], tag, "{integrity:?}");
        if let Some(hmac) = aws_lc::Hmac::new(integrity, &key) {
            assert_eq!(hmac.tag(front, back)[..tag.len()], tag, "{integrity:?}");
        }
    }
}

/// A whole packet of draft-mcgrew-gcm-test-01 section 4 with RFC 4543's GMAC, which says that the IV is authenticated
/// where it stands.
#[test]
fn gmac_authenticates_the_iv_in_its_place() {
    let material = "4c80cdefbb5d10da906ac73c3613a63422433c64";
    let sealed = "0000432100000007000000000000000045000030da3a00008001df3bc0a80005c0a80001\
                  0800c6cd020007006162636465666768696a6b6c6d6e6f707172737401020201\
                  f2a9a836e155106aa8dcd618e4099aaa";
    let suite = Suite::from_name("aes128gmac").unwrap();
    for mut engine in BACKENDS.map(|backend| Engine::new(backend).unwrap()) {
        let key = engine.prepare(suite, false, &octets(material)).unwrap();
        let mut packet = octets(sealed);
        let icv = packet.len() - 16;
        packet[icv..].fill(0);
        engine.seal(&mut [Job::to_seal(&key, 7, 0, &mut packet)]);
        assert_eq!(packet, octets(sealed));
        assert_eq!(open(&mut engine, &key, 7, &mut packet), Outcome::Done);
        assert_eq!(packet, octets(sealed));
    }
}
