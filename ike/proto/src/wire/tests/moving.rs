//! Bodies of RFC 5685, RFC 6290 and RFC 6311, octet by octet as their figures have them.

use proptest::prelude::*;

use super::octets;
use crate::wire::{
    GatewayIdentity, MessageIdSync, Notify, NotifyType, Payload, PayloadType, Redirect, RedirectedFrom,
    ReplayCounterSync, emit_chain, parse_chain,
};

/// The numbers that IANA has given.
#[test]
fn types_are_those_of_the_registry() {
    let numbers = [
        (NotifyType::REDIRECT_SUPPORTED, 16406),
        (NotifyType::REDIRECT, 16407),
        (NotifyType::REDIRECTED_FROM, 16408),
        (NotifyType::QUICK_CRASH_DETECTION, 16419),
        (NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED, 16420),
        (NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED, 16421),
        (NotifyType::IKEV2_MESSAGE_ID_SYNC, 16422),
        (NotifyType::IPSEC_REPLAY_COUNTER_SYNC, 16423),
    ];
    assert!(numbers.iter().all(|(kind, number)| kind.0 == *number));
}

/// A whole Notify payload: next payload, critical, length, protocol, SPI size, type, data.
#[track_caller]
fn assert_payload(kind: NotifyType, data: Vec<u8>, written: &str) {
    let payload = Payload::Notify(Notify::new(kind, data));
    let (first, chain) = emit_chain(std::slice::from_ref(&payload));
    assert_eq!(first, PayloadType(41));
    assert_eq!(hex::encode(&chain), hex::encode(octets(written)));
    assert_eq!(parse_chain(first, &chain).unwrap(), [payload]);
}

fn redirect(gateway: &str, nonce: Vec<u8>) -> Redirect {
    Redirect { gateway: gateway.parse().unwrap(), nonce }
}

#[test]
fn redirect_names_an_ipv4_gateway() {
    let redirect = redirect("192.0.2.7", (0..16).collect());
    let written = "00 00 00 1e 00 00 40 17  01 04 c0000207  000102030405060708090a0b0c0d0e0f";
    assert_payload(NotifyType::REDIRECT, redirect.emit(), written);
    assert_eq!(Redirect::parse(&redirect.emit()).unwrap(), redirect);
}

#[test]
fn redirect_names_an_ipv6_gateway() {
    let redirect = redirect("2001:db8::7", Vec::new());
    let written = "00 00 00 1a 00 00 40 17  02 10 20010db8000000000000000000000007";
    assert_payload(NotifyType::REDIRECT, redirect.emit(), written);
    assert_eq!(Redirect::parse(&redirect.emit()).unwrap(), redirect);
}

#[test]
fn redirect_names_a_gateway() {
    let redirect = redirect("GW.example.org", Vec::new());
    let written = "00 00 00 18 00 00 40 17  03 0e 67772e6578616d706c652e6f7267";
    assert_payload(NotifyType::REDIRECT, redirect.emit(), written);
    assert_eq!(Redirect::parse(&redirect.emit()).unwrap(), redirect);
    assert_eq!(redirect.gateway, GatewayIdentity::Name("gw.example.org".to_owned()));
}

#[test]
fn redirected_from_has_an_address() {
    let from = RedirectedFrom("192.0.2.1".parse().unwrap());
    assert_payload(NotifyType::REDIRECTED_FROM, from.emit(), "00 00 00 0e 00 00 40 18  01 04 c0000201");
    assert_eq!(RedirectedFrom::parse(&from.emit()).unwrap(), from);
    assert!(RedirectedFrom::parse(&redirect("gw.example.org", Vec::new()).emit()).is_err());
    assert!(RedirectedFrom::parse(&octets("01 04 c0000201 00")).is_err());
}

#[test]
fn what_says_that_it_is_supported_has_no_data() {
    for (kind, number) in [
        (NotifyType::REDIRECT_SUPPORTED, "4016"),
        (NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED, "4024"),
        (NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED, "4025"),
    ] {
        assert_payload(kind, Vec::new(), &format!("00 00 00 08 00 00 {number}"));
    }
}

#[test]
fn redirects_to_what_no_gateway_can_be_are_refused() {
    for wrong in [
        "",
        "01",
        "01 04 c00002", // cut
        "01 03 c00002", // too short for IPv4
        "01 10 20010db8000000000000000000000007",
        "02 04 c0000207",
        "04 04 c0000207", // a type that is none
        "00 04 c0000207",
        "01 04 00000000", // nowhere
        "01 04 e0000001", // many
        "01 04 ffffffff", // all
        "02 10 ff020000000000000000000000000001",
        "03 00",                    // no name
        "03 05 67772e0061",         // with a NUL
        "03 04 67772e2e",           // with an empty label
        "03 03 2d6761",             // a label that begins with a hyphen
        "03 09 3139322e302e322e37", // an address in letters
        "03 02 c3a4",               // not ASCII
        "01 04 c0000207 0001020304050607",
    ] {
        assert!(Redirect::parse(&octets(wrong)).is_err(), "{wrong}");
    }
    let long = [&[1, 4, 192, 0, 2, 7][..], &[0; 257]].concat();
    assert!(Redirect::parse(&long).is_err());
    for wrong in ["0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255", "", "a b", "-a", "1.2.3", "a..b"] {
        assert!(wrong.parse::<GatewayIdentity>().is_err(), "{wrong}");
    }
}

#[test]
fn message_ids_are_synchronized() {
    let sync =
        MessageIdSync { nonce: [0xa1, 0xb2, 0xc3, 0xd4], expected_send: 7, expected_receive: 0x0102_0304 };
    let written = "00 00 00 14 00 00 40 26  a1b2c3d4 00000007 01020304";
    assert_payload(NotifyType::IKEV2_MESSAGE_ID_SYNC, sync.emit(), written);
    assert_eq!(MessageIdSync::parse(&sync.emit()).unwrap(), sync);
    for wrong in ["", "a1b2c3d4 00000007 010203", "a1b2c3d4 00000007 01020304 05"] {
        assert!(MessageIdSync::parse(&octets(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn replay_counters_are_of_either_length() {
    let kind = NotifyType::IPSEC_REPLAY_COUNTER_SYNC;
    let (short, extended) = (ReplayCounterSync::Short(0x0a0b), ReplayCounterSync::Extended(1 << 40));
    assert_payload(kind, short.emit(), "00 00 00 0c 00 00 40 27  00000a0b");
    assert_payload(kind, extended.emit(), "00 00 00 10 00 00 40 27  0000010000000000");
    for sync in [short, extended] {
        assert_eq!(ReplayCounterSync::parse(&sync.emit()).unwrap(), sync);
    }
    for wrong in ["", "000000", "0000000000", "000000000000000000"] {
        assert!(ReplayCounterSync::parse(&octets(wrong)).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn what_is_read_is_written_the_same(data in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(redirect) = Redirect::parse(&data) {
            prop_assert_eq!(redirect.emit().to_ascii_lowercase(), data.to_ascii_lowercase());
        }
        if let Ok(from) = RedirectedFrom::parse(&data) {
            prop_assert_eq!(from.emit(), data.clone());
        }
        if let Ok(sync) = MessageIdSync::parse(&data) {
            prop_assert_eq!(sync.emit(), data.clone());
        }
        if let Ok(sync) = ReplayCounterSync::parse(&data) {
            prop_assert_eq!(sync.emit(), data.clone());
        }
    }
}
