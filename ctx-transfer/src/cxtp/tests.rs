use std::net::IpAddr;

use proptest::prelude::*;
use zeroize::Zeroizing;

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn key() -> TokenKey {
    TokenKey::new(&[0x0b; 20]).expect("a key")
}

fn written(message: &Message) -> Vec<u8> {
    let mut octets = Vec::new();
    message.write(&mut octets).expect("it fits");
    octets
}

fn request(peer: &str) -> Request {
    Request {
        peer: address(peer),
        sequence: 7,
        token: Token([1, 2, 3, 4]),
        profiles: vec![FeatureProfile(1)],
    }
}

fn block(data: &[u8]) -> Block {
    Block::new(FeatureProfile(0x1234), None, data).expect("a block")
}

/// Field by field after RFC 4067 sections 2.2, 2.4 and 2.5.
#[test]
fn the_messages_have_the_forms_of_the_rfc() {
    let peer = address("192.0.2.1");
    let result = StatusOf { profile: FeatureProfile(1), success: true };
    let with_presence = Block::new(FeatureProfile(0x1234), Some(0x8000_0001), &[9; 5]).expect("a block");
    let data =
        Data { peer, acknowledge: true, elapsed_ms: 200, predictive: None, blocks: vec![with_presence] };
    let predictive = Some(Predictive { key: TokenKey::new(b"key!").expect("a key") });
    let ahead = Data { predictive, acknowledge: false, blocks: vec![block(&[7; 8])], ..data.clone() };
    let previous_gateway = address("192.0.2.2");
    let asks =
        Message::ActivateRequest { request: request("192.0.2.1"), previous_gateway, acknowledge: true };
    for (message, octets) in [
        (asks, "21c00016 c0000201 c0000202 00000007 01020304 0001"),
        (Message::ActivateAcknowledge { peer, results: vec![result] }, "2280000c c0000201 00010100"),
        (Message::Data(data), "23c0001c 000000c8 c0000201 12340180 80000001 0909090909 000000"),
        (Message::Data(ahead), "24800020 000000c8 c0000201 00010004 6b657921 12340100 0707070707070707"),
        (Message::DataReply { peer, success: true, results: vec![] }, "25c00008 c0000201"),
        (Message::Cancel { peer: address("2001:db8::1") }, "26000014 20010db8000000000000000000000001"),
        (Message::Request(request("192.0.2.1")), "27800012 c0000201 00000007 01020304 0001"),
    ] {
        let octets: String = octets.split(' ').collect();
        assert_eq!(hex::encode(written(&message)), octets, "{message:?}");
        assert_eq!(Message::read(&written(&message)), Ok(message));
    }
}

#[test]
fn what_is_no_message_is_refused() {
    let good = written(&Message::Cancel { peer: address("192.0.2.1") });
    let with = |at: usize, octet: u8| {
        let mut octets = good.clone();
        octets[at] = octet;
        Message::read(&octets)
    };
    assert_eq!(with(0, 0x46), Err(CxtpError::Version(2)));
    assert_eq!(with(0, 0x28), Err(CxtpError::Type(8)));
    assert_eq!(with(0, 0x20), Err(CxtpError::Type(0)));
    assert_eq!(with(3, 9), Err(CxtpError::Length { said: 9, found: 8 }));
    // As IPv6 it is too short, and as a longer message it has too much.
    assert_eq!(with(1, 0), Err(CxtpError::Truncated));
    let longer = [&[0x26, 0x80, 0, 9], &good[4..], &[0][..]].concat();
    assert_eq!(Message::read(&longer), Err(CxtpError::Trailing));
    assert_eq!(Message::read(&[]), Err(CxtpError::Truncated));
}

#[test]
fn tokens_of_another_algorithm_or_without_a_key_are_refused() {
    let peer = address("192.0.2.1");
    let predictive = Some(Predictive { key: key() });
    let data = Data { peer, acknowledge: false, elapsed_ms: 0, predictive, blocks: vec![] };
    let good = written(&Message::Data(data));
    let mut other = good.clone();
    other[13] = 2;
    assert_eq!(Message::read(&other), Err(CxtpError::Algorithm(2)));
    let mut empty = good[..16].to_vec();
    empty[3] = 16;
    empty[15] = 0;
    assert_eq!(Message::read(&empty), Err(CxtpError::Key(0)));
    assert_eq!(TokenKey::new(&[0; 65]), Err(CxtpError::Key(65)));
}

#[test]
fn a_token_is_the_first_half_word_of_hmac_sha1() {
    // RFC 2202 test case 1: key 20 times 0x0b, data "Hi There", which reads as 72.105.32.84 and a sequence number.
    let peer = address("72.105.32.84");
    let sequence = u32::from_be_bytes(*b"here");
    assert_eq!(key().token(peer, sequence, &[]), Token([0xb6, 0x17, 0x31, 0x86]));
    assert!(key().verify(Token([0xb6, 0x17, 0x31, 0x86]), peer, sequence, &[]));
    assert!(!key().verify(Token([0xb6, 0x17, 0x31, 0x87]), peer, sequence, &[]));
    assert!(!key().verify(Token([0xb6, 0x17, 0x31, 0x86]), peer, sequence, &[block(&[1])]));
    assert_eq!(format!("{:?}", key()), "TokenKey(redacted)");
}

#[test]
fn a_block_holds_two_thousand_and_forty_octets() {
    assert_eq!(MAX_BLOCK_OCTETS, 2040);
    assert!(Block::new(FeatureProfile::IPSEC, None, &[0; 2041]).is_none());
    assert_eq!(block(&[1; 2033]).data().len(), 2040);
    assert_eq!(format!("{:?}", block(&[1; 8])), "Block(0x1234, 8 octets)");
}

#[test]
fn a_message_that_is_too_long_is_not_written() {
    let blocks = vec![block(&[1; 2040]); 33];
    let peer = address("192.0.2.1");
    let data = Data { peer, acknowledge: false, elapsed_ms: 0, predictive: None, blocks };
    let mut out = vec![1, 2, 3];
    assert_eq!(Message::Data(data).write(&mut out), Err(CxtpError::TooLong(12 + 33 * 2044)));
    assert_eq!(out, [1, 2, 3]);
}

#[test]
fn a_context_comes_together_from_pieces_in_any_order() {
    let context: Vec<u8> = (0..3 * PIECE_OCTETS + 5).map(|index| index as u8).collect();
    let mut blocks = split(42, &context).expect("pieces");
    assert_eq!(blocks.len(), 4);
    blocks.reverse();
    let mut assembly = Assembly::begin(&blocks[0]).expect("a piece");
    assert_eq!(assembly.number(), 42);
    for block in &blocks[..3] {
        assembly.add(block).expect("a piece");
        assembly = assembly.finish().expect_err("one is missing");
    }
    assembly.add(&blocks[3]).expect("a piece");
    assert_eq!(assembly.finish(), Ok(Zeroizing::new(context)));
}

#[test]
fn a_piece_of_something_else_is_refused() {
    let [ours, other] = [1, 2].map(|number| split(number, &[5; 100]).expect("pieces").remove(0));
    let mut assembly = Assembly::begin(&ours).expect("a piece");
    assert_eq!(assembly.add(&other), Err(PiecesError::Other));
    assert_eq!(assembly.add(&block(&[0; 32])), Err(PiecesError::Profile(0x1234)));
    assert_eq!(split(1, &[]), Err(PiecesError::Malformed));
    let octets = MAX_CONTEXT_OCTETS + 1;
    assert_eq!(split(1, &vec![0; octets]), Err(PiecesError::TooLarge(octets)));
    let says = |length: u32, offset: u32, rest: usize| {
        let mut data = vec![0; 16 + rest];
        data[8..12].copy_from_slice(&length.to_be_bytes());
        data[12..16].copy_from_slice(&offset.to_be_bytes());
        Assembly::begin(&Block::new(FeatureProfile::IPSEC, None, &data).expect("a block")).map(drop)
    };
    assert_eq!(says(u32::MAX, 0, 8), Err(PiecesError::TooLarge(u32::MAX as usize)));
    for (length, offset, rest) in [(0, 0, 8), (8, 8, 8), (8, 1, 8), (8, 0, 16), (9, 0, 8), (5000, 2024, 2016)]
    {
        assert_eq!(says(length, offset, rest), Err(PiecesError::Malformed), "{length} {offset} {rest}");
    }
}

fn addresses() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn requests() -> impl Strategy<Value = Request> {
    let profiles = proptest::collection::vec(any::<u16>().prop_map(FeatureProfile), 0..5);
    (addresses(), any::<u32>(), any::<[u8; 4]>(), profiles).prop_map(|(peer, sequence, token, profiles)| {
        Request { peer, sequence, token: Token(token), profiles }
    })
}

fn results() -> impl Strategy<Value = Vec<StatusOf>> {
    let one = (any::<u16>(), any::<bool>())
        .prop_map(|(profile, success)| StatusOf { profile: FeatureProfile(profile), success });
    proptest::collection::vec(one, 0..5)
}

fn data() -> impl Strategy<Value = Data> {
    let blocks = (any::<u16>(), any::<Option<u32>>(), proptest::collection::vec(any::<u8>(), 0..100))
        .prop_map(|(profile, presence, data)| {
            Block::new(FeatureProfile(profile), presence, &data).expect("fits")
        });
    let predictive = proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=64))
        .prop_map(|key| key.map(|key| Predictive { key: TokenKey::new(&key).expect("its length fits") }));
    let blocks = proptest::collection::vec(blocks, 0..4);
    (addresses(), any::<bool>(), any::<u32>(), predictive, blocks).prop_map(
        |(peer, acknowledge, elapsed_ms, predictive, blocks)| Data {
            peer,
            acknowledge,
            elapsed_ms,
            predictive,
            blocks,
        },
    )
}

fn messages() -> impl Strategy<Value = Message> {
    prop_oneof![
        (requests(), any::<bool>()).prop_map(|(request, acknowledge)| Message::ActivateRequest {
            previous_gateway: request.peer,
            request,
            acknowledge
        }),
        (addresses(), results()).prop_map(|(peer, results)| Message::ActivateAcknowledge { peer, results }),
        data().prop_map(Message::Data),
        (addresses(), any::<bool>(), results()).prop_map(|(peer, success, results)| Message::DataReply {
            peer,
            success,
            results
        }),
        addresses().prop_map(|peer| Message::Cancel { peer }),
        requests().prop_map(Message::Request),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(message in messages()) {
        prop_assert_eq!(Message::read(&written(&message)), Ok(message));
    }

    #[test]
    fn no_octets_do_harm(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Message::read(&octets);
    }

    #[test]
    fn damage_is_refused_or_read_as_something_that_can_be_written(
        message in messages(), at in any::<prop::sample::Index>(), octet in any::<u8>(),
    ) {
        let mut octets = written(&message);
        let at = at.index(octets.len());
        octets[at] = octet;
        if let Ok(message) = Message::read(&octets) {
            prop_assert_eq!(written(&message).len(), octets.len());
        }
    }
}
