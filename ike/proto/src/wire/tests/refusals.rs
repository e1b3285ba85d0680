//! What is refused, and as what.

use super::octets;
use crate::wire::*;

const HEADER: &str = "0102030405060708 0000000000000000 00 20 22 08 00000000 0000001c";

fn chain(first: PayloadType, hexadecimal: &str) -> Result<Vec<Payload>, ParseError> {
    parse_chain(first, &octets(hexadecimal))
}

fn syntax(first: PayloadType, hexadecimal: &str) -> &'static str {
    match chain(first, hexadecimal) {
        Err(ParseError::Syntax(what)) => what,
        other => panic!("{other:?}"),
    }
}

fn header_with(place: usize, octet: u8) -> Vec<u8> {
    let mut header = octets(HEADER);
    header[place] = octet;
    header
}

#[test]
fn a_bare_header_is_a_message() {
    assert!(matches!(parse(&octets(HEADER)), Ok(Datagram::Plain(_, payloads)) if payloads.is_empty()));
}

#[test]
fn versions() {
    assert_eq!(parse(&header_with(17, 0x10)), Err(ParseError::NotIke));
    assert!(matches!(parse(&header_with(17, 0x3f)), Err(ParseError::MajorVersion { major: 3, .. })));
    // A later minor version is read as 2.0 (RFC 7296 section 2.5).
    assert!(parse(&header_with(17, 0x2f)).is_ok());
}

#[test]
fn an_initiator_without_an_spi_speaks_no_ike() {
    let mut header = octets(HEADER);
    header[..8].fill(0);
    assert_eq!(parse(&header), Err(ParseError::NotIke));
}

#[test]
fn lengths_of_messages_are_exact() {
    assert_eq!(parse(&header_with(27, 0x1d)), Err(ParseError::Truncated));
    assert!(matches!(parse(&header_with(27, 0x1b)), Err(ParseError::Syntax(_))));
    assert!(matches!(parse(&header_with(24, 0x80)), Err(ParseError::Truncated)));
}

#[test]
fn lengths_of_payloads_are_exact() {
    assert_eq!(syntax(PayloadType::V, "00000003"), "payload header");
    assert_eq!(syntax(PayloadType::V, "0000000501 00"), "payload header");
    assert_eq!(syntax(PayloadType::V, "00000005"), "payload header");
    assert_eq!(syntax(PayloadType::N, "00000008 00014000"), "Notify payload");
    assert_eq!(syntax(PayloadType::IDI, "00000007 010000"), "Identification payload");
    assert_eq!(syntax(PayloadType::KE, "00000008 00130000"), "KE payload");
    assert_eq!(syntax(PayloadType::CERT, "00000004"), "CERT payload");
    assert_eq!(syntax(PayloadType::CERTREQ, "00000004"), "CERTREQ payload");
    assert_eq!(syntax(PayloadType::AUTH, "00000007 020000"), "AUTH payload");
}

#[test]
fn nonces_are_neither_short_nor_long() {
    let nonce = |length: usize| {
        let (_, octets) = emit_chain(&[Payload::Nonce(vec![1; length])]);
        parse_chain(PayloadType::NONCE, &octets).is_ok()
    };
    assert_eq!([15, 16, 256, 257].map(nonce), [false, true, true, false]);
}

#[test]
fn deletes() {
    let spi_of_eight = "00000010 03080001 0102030405060708";
    assert_eq!(syntax(PayloadType::D, spi_of_eight), "Delete payload");
    assert_eq!(syntax(PayloadType::D, "0000000c 03040002 01020304"), "Delete payload");
    assert_eq!(syntax(PayloadType::D, "00000008 01000001"), "Delete payload");
    assert!(chain(PayloadType::D, "00000008 01000000").is_ok());
}

#[test]
fn traffic_selectors() {
    let four_octets_short = "00000014 01000000 0700000c 0000ffff 0a000000";
    assert_eq!(syntax(PayloadType::TSI, four_octets_short), "Traffic Selector");
    assert_eq!(syntax(PayloadType::TSI, "0000000c 01000000 07000003"), "Traffic Selector payload");
    assert_eq!(syntax(PayloadType::TSI, "00000008 01000000"), "Traffic Selector payload");
    // TS_SECLABEL (RFC 9478) is left out, what stands beside it is not.
    let labelled = "00000020 02000000 0a000008 6c6162656c 000000";
    let labelled = labelled.replace("6c6162656c 000000", "6c616265 07000010 0000ffff 0a000000 0a0000ff");
    let selectors = chain(PayloadType::TSI, &labelled).expect("well formed");
    assert!(matches!(&selectors[..], [Payload::TrafficSelectorsInitiator(known)] if known.len() == 1));
}

#[test]
fn substructures_say_truly_whether_they_are_the_last() {
    let proposal = "01010002 03000008 02000005 00000008 04000013";
    assert!(chain(PayloadType::SA, &format!("0000001c 00000018 {proposal}")).is_ok());
    assert_eq!(syntax(PayloadType::SA, &format!("0000001c 02000018 {proposal}")), "SA payload");
    assert_eq!(syntax(PayloadType::SA, &format!("0000001c 01000018 {proposal}")), "SA payload");
    let one_too_many = proposal.replace("01010002", "01010003");
    let what = syntax(PayloadType::SA, &format!("0000001c 00000018 {one_too_many}"));
    assert_eq!(what, "Proposal with a wrong number of transforms");
    assert_eq!(syntax(PayloadType::SA, "00000004"), "SA payload");
}

#[test]
fn attributes_that_are_not_a_key_length_mark_their_transform() {
    let transform = |attributes: &str| {
        let length = 8 + octets(attributes).len();
        let sa = format!(
            "000000{:02x} 000000{:02x} 01010001 000000{length:02x} 0100000c {attributes}",
            length + 12,
            length + 8
        );
        match &chain(PayloadType::SA, &sa).expect("well formed")[..] {
            [Payload::SecurityAssociation(proposals)] => proposals[0].transforms[0],
            other => panic!("{other:?}"),
        }
    };
    let marked = |attributes| (transform(attributes).key_length, transform(attributes).unknown_attributes);
    assert_eq!(marked("800e0080"), (Some(128), false));
    assert_eq!(marked("800e0080 800f0001"), (Some(128), true));
    assert_eq!(marked("800e0080 800e0100"), (Some(128), true));
    assert_eq!(marked("000e0002 0080"), (None, true));
    assert_eq!(marked("00110000"), (None, true));
}

#[test]
fn counts_are_bounded() {
    let many = vec![Payload::VendorId(Vec::new()); MAX_PAYLOADS + 1];
    let (first, octets) = emit_chain(&many[1..]);
    assert!(parse_chain(first, &octets).is_ok());
    let (first, octets) = emit_chain(&many);
    assert_eq!(parse_chain(first, &octets), Err(ParseError::Syntax("too many payloads")));
    let mut body = "0200000801010000".repeat(MAX_PROPOSALS);
    body.push_str("0000000801010000");
    let sa = format!("0000{:04x}{body}", 4 + 8 * (MAX_PROPOSALS + 1));
    assert_eq!(syntax(PayloadType::SA, &sa), "too many proposals");
}

#[test]
fn what_does_not_fit_is_cut_and_stays_well_formed() {
    let payload = Payload::VendorId(vec![1; 70_000]);
    let (first, octets) = emit_chain(&[payload, Payload::Nonce(vec![2; 16])]);
    let payloads = parse_chain(first, &octets).expect("well formed");
    assert!(matches!(&payloads[..], [Payload::VendorId(id), Payload::Nonce(_)] if id.len() == 65_531));
}

#[test]
fn fragments_count_from_one() {
    let message = |numbers: &str| {
        octets(&format!("0102030405060708 1112131415161718 35 20 23 08 00000001 00000024 23000008 {numbers}"))
    };
    assert!(matches!(parse(&message("00010001")), Ok(Datagram::Fragment(_))));
    for numbers in ["00000001", "00020001", "00000000"] {
        let message = message(numbers);
        assert_eq!(parse(&message), Err(ParseError::Syntax("Encrypted Fragment payload")), "{numbers}");
    }
}

#[test]
fn nothing_follows_what_is_encrypted_and_nothing_encrypted_is_inside() {
    let followed = "0102030405060708 1112131415161718 2e 20 25 08 00000001 00000024 28000004 00000004";
    assert_eq!(parse(&octets(followed)), Err(ParseError::Syntax("payload header")));
    let inside = chain(PayloadType::SK, "00000004");
    assert_eq!(inside, Err(ParseError::Syntax("an encrypted payload inside a chain")));
}

#[test]
fn logs_show_neither_proofs_nor_what_eap_carries() {
    let proof = || vec![0xab; 32];
    let method = AuthenticationMethod::SHARED_KEY_MESSAGE_INTEGRITY_CODE;
    for payload in [Payload::Authentication { method, data: proof() }, Payload::Eap(proof())] {
        let debug = format!("{payload:?}");
        assert!(!debug.contains("abab") && !debug.contains("171") && debug.contains("32 octets"), "{debug}");
    }
}
