use proptest::prelude::*;

use super::super::{
    AdditionalMethods, Encryption, Group, IkeKeys, IkeSuite, Integrity, OpenError, Prf, Role, SealError,
};
use super::{Counting, keys, octets, suites};
use crate::wire::{
    self, Datagram, ExchangeType, Flags, Header, Notify, NotifyType, Payload, PayloadType, ProtocolId,
};

fn header() -> Header {
    Header {
        initiator_spi: 4,
        responder_spi: 5,
        exchange: ExchangeType::INFORMATIONAL,
        flags: Flags { initiator: true, response: false },
        message_id: 6,
    }
}

fn open(keys: &IkeKeys, sender: Role, datagram: &[u8]) -> Result<Vec<Payload>, OpenError> {
    let Ok(Datagram::Encrypted(sealed)) = wire::parse(datagram) else { return Err(OpenError) };
    let chain = keys.open(sender, &sealed)?;
    Ok(wire::parse_chain(sealed.first, &chain).expect("what was sealed"))
}

fn vendor(length: usize) -> Vec<Payload> {
    vec![Payload::VendorId((0..length).map(|octet| octet as u8).collect())]
}

#[test]
fn rfc_7634s_message_is_opened_and_sealed() {
    let message = octets(concat!(
        "c0c1c2c3c4c5c6c7d0d1d2d3d4d5d6d72e202500000000090000004529000029",
        "1011121314151617610394701f8d017f7c129248896b71bfe25236efd7cdc67066906315b2",
    ));
    let key = octets("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9fa0a1a2a3");
    let suite = IkeSuite {
        encryption: Encryption::ChaCha20Poly1305,
        integrity: None,
        prf: Prf::HmacSha2_256,
        group: Group::Curve25519,
        additional: AdditionalMethods::default(),
    };
    // SK_d, SK_ei, SK_er, SK_pi, SK_pr: the message is from the responder.
    let material = [&[0; 32][..], &[0; 36], &key, &[0; 64]].concat();
    let keys = IkeKeys::from_material(suite, material.into()).unwrap();
    let payloads = open(&keys, Role::Responder, &message).unwrap();
    let expected = Payload::Notify(Notify {
        protocol: ProtocolId::NONE,
        spi: Vec::new(),
        kind: NotifyType(16385),
        data: vec![0, 0, 0, 10],
    });
    assert_eq!(payloads, [expected]);
    let Ok(Datagram::Encrypted(sealed)) = wire::parse(&message) else { panic!("an Encrypted payload") };
    let mut host = Counting(u64::from_be_bytes([0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17]) - 1);
    assert_eq!(keys.seal(Role::Responder, &sealed.header, &payloads, &mut host).unwrap(), message);
}

#[test]
fn messages_of_every_suite_and_length_come_back() {
    for suite in suites() {
        let (keys, mut host) = (keys(suite, 1), Counting(0));
        for length in 0..40 {
            let payloads = vendor(length);
            let datagram = keys.seal(Role::Initiator, &header(), &payloads, &mut host).unwrap();
            assert_eq!(open(&keys, Role::Initiator, &datagram).unwrap(), payloads, "{suite}");
            assert_eq!(
                open(&keys, Role::Responder, &datagram),
                Err(OpenError),
                "each direction has its keys"
            );
        }
        let datagram = keys.seal(Role::Responder, &header(), &[], &mut host).unwrap();
        assert_eq!(open(&keys, Role::Responder, &datagram).unwrap(), [], "an empty message is one");
    }
}

#[test]
fn every_octet_of_a_message_is_authenticated() {
    for suite in suites().filter(|suite| suite.prf == Prf::HmacSha2_256) {
        let keys = keys(suite, 1);
        let datagram = keys.seal(Role::Initiator, &header(), &vendor(20), &mut Counting(0)).unwrap();
        for bit in 0..8 * datagram.len() {
            let mut damaged = datagram.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // The two version octets and flags are read before they are authenticated; all ends in refusal.
            assert_eq!(open(&keys, Role::Initiator, &damaged), Err(OpenError), "{suite} bit {bit}");
        }
    }
}

#[test]
fn text_that_is_too_short_is_refused() {
    for suite in suites().filter(|suite| suite.prf == Prf::HmacSha2_256) {
        let keys = keys(suite, 1);
        for length in 0..64 {
            let mut datagram = wire::emit_encrypted_head(&header(), PayloadType::NO_NEXT_PAYLOAD, length);
            datagram.resize(datagram.len() + length, 0);
            assert_eq!(open(&keys, Role::Initiator, &datagram), Err(OpenError));
        }
    }
}

#[test]
fn an_authentic_message_with_impossible_padding_is_refused_alike() {
    for suite in suites().filter(|suite| suite.prf == Prf::HmacSha2_256) {
        let keys = keys(suite, 1);
        let cipher = super::super::cipher::Cipher::new(&keys, Role::Initiator).unwrap();
        let body = cipher.iv_length() + 32 + cipher.icv_length();
        let mut datagram = wire::emit_encrypted_head(&header(), PayloadType::V, body);
        datagram.resize(datagram.len() + cipher.iv_length() + 31, 0);
        datagram.push(32);
        let text = datagram.len() - 32;
        cipher.seal(&mut datagram, text).unwrap();
        assert_eq!(open(&keys, Role::Initiator, &datagram), Err(OpenError));
    }
}

#[test]
fn without_an_iv_nothing_is_sealed() {
    for suite in suites() {
        let sealed = keys(suite, 1).seal(Role::Initiator, &header(), &vendor(1), &mut Counting(u64::MAX));
        assert_eq!(sealed.err(), suite.encryption.is_aead().then_some(SealError::NoIv));
    }
}

#[test]
fn ivs_are_the_hosts() {
    for suite in suites().filter(|suite| suite.prf == Prf::HmacSha2_256) {
        let (keys, mut host) = (keys(suite, 1), Counting(0));
        let ivs = [0; 3].map(|_| {
            let datagram = keys.seal(Role::Initiator, &header(), &vendor(1), &mut host).unwrap();
            datagram[32..32 + suite.encryption.iv_length()].to_vec()
        });
        assert!(ivs[0] != ivs[1] && ivs[1] != ivs[2]);
        assert_eq!(ivs[0] == 1_u64.to_be_bytes(), keys.needs_explicit_iv());
    }
}

#[test]
fn what_no_datagram_holds_is_not_sealed() {
    let keys = keys(suites().next().unwrap(), 1);
    let payloads = vec![Payload::VendorId(vec![0; 40_000]), Payload::VendorId(vec![0; 40_000])];
    let whole = keys.seal(Role::Initiator, &header(), &payloads, &mut Counting(0));
    assert!(matches!(whole, Err(SealError::TooLong(_))));
    let parts = keys.seal_fragments(Role::Initiator, &header(), &payloads, 1200, &mut Counting(0));
    assert!(matches!(parts, Err(SealError::TooLong(_))));
}

fn check_fragments(suite: IkeSuite, length: usize, max_datagram: usize) {
    let (keys, payloads) = (keys(suite, 1), vendor(length));
    let datagrams =
        keys.seal_fragments(Role::Initiator, &header(), &payloads, max_datagram, &mut Counting(0)).unwrap();
    let (mut chain, mut first) = (Vec::new(), PayloadType::NO_NEXT_PAYLOAD);
    for (place, datagram) in datagrams.iter().enumerate() {
        assert!(datagram.len() <= max_datagram.max(200), "{} of {max_datagram}", datagram.len());
        let Ok(Datagram::Fragment(fragment)) = wire::parse(datagram) else { panic!("a fragment") };
        assert_eq!((usize::from(fragment.number), usize::from(fragment.total)), (place + 1, datagrams.len()));
        assert_eq!(fragment.sealed.first == PayloadType::V, place == 0, "only the first bears the type");
        chain.extend_from_slice(&keys.open(Role::Initiator, &fragment.sealed).unwrap());
        first = PayloadType(first.0.max(fragment.sealed.first.0));
    }
    assert_eq!(wire::parse_chain(first, &chain).unwrap(), payloads);
}

#[test]
fn a_fragments_numbers_are_authenticated() {
    let keys = keys(suites().next().unwrap(), 1);
    let mut datagrams =
        keys.seal_fragments(Role::Initiator, &header(), &vendor(500), 300, &mut Counting(0)).unwrap();
    datagrams[0][33] = 2;
    let Ok(Datagram::Fragment(fragment)) = wire::parse(&datagrams[0]) else { panic!("a fragment") };
    assert_eq!(keys.open(Role::Initiator, &fragment.sealed), Err(OpenError));
}

#[test]
fn as_few_fragments_are_made_as_fit() {
    let suite = IkeSuite {
        encryption: Encryption::AesCbc128,
        integrity: Some(Integrity::HmacSha2_256_128),
        prf: Prf::HmacSha2_256,
        group: Group::Curve25519,
        additional: AdditionalMethods::default(),
    };
    let fragments = |length: usize| {
        // 28 + 4 + 4 octets of headers, 16 of IV, 16 of ICV, 512 of text with at least one octet of padding length.
        let sealed =
            keys(suite, 1).seal_fragments(Role::Initiator, &header(), &vendor(length), 580, &mut Counting(0));
        sealed.unwrap().iter().map(Vec::len).collect::<Vec<_>>()
    };
    assert_eq!(fragments(511 - 4), [580]);
    assert_eq!(fragments(512 - 4), [580, 84]);
    assert_eq!(fragments(2 * 511 - 4), [580, 580]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn fragments_come_back(place in 0..64_usize, length in 0..5000_usize, max_datagram in 0..1500_usize) {
        check_fragments(suites().nth(place).unwrap(), length, max_datagram);
    }
}
