use proptest::collection::vec;
use proptest::prelude::*;

use super::strategies::{header, payload, unknown_type};
use crate::wire::*;

/// Octets that get past the header often enough.
fn nearly_a_message() -> impl Strategy<Value = Vec<u8>> {
    (header(), any::<u8>(), vec(any::<u8>(), 0..200)).prop_map(|(header, first, body)| {
        let mut octets = emit(&header, &[]);
        octets.extend_from_slice(&body);
        let length = octets.len() as u32;
        octets[16] = first;
        octets[24..28].copy_from_slice(&length.to_be_bytes());
        octets
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(header in header(), payloads in vec(payload(), 0..6)) {
        let octets = emit(&header, &payloads);
        prop_assert_eq!(parse(&octets), Ok(Datagram::Plain(header, payloads.clone())));
        let (first, chain) = emit_chain(&payloads);
        prop_assert_eq!(parse_chain(first, &chain), Ok(payloads));
    }

    #[test]
    fn any_octets_are_survived(octets in vec(any::<u8>(), 0..400), first: u8) {
        let _ = parse(&octets);
        let _ = parse_chain(PayloadType(first), &octets);
    }

    #[test]
    fn octets_behind_a_good_header_are_survived(octets in nearly_a_message()) {
        if let Ok(Datagram::Plain(header, payloads)) = parse(&octets) {
            // Reserved fields are gone, meaning is not.
            let again = emit(&header, &payloads);
            prop_assert_eq!(parse(&again), Ok(Datagram::Plain(header, payloads)));
        }
    }

    #[test]
    fn a_changed_octet_is_survived(payloads in vec(payload(), 1..6), place: prop::sample::Index, to: u8) {
        let (first, mut chain) = emit_chain(&payloads);
        let place = place.index(chain.len());
        chain[place] = to;
        let _ = parse_chain(first, &chain);
    }

    #[test]
    fn a_sealed_message_is_taken_apart(header in header(), first: u8, body in vec(any::<u8>(), 0..300)) {
        let mut octets = emit_encrypted_head(&header, PayloadType(first), body.len());
        let associated = octets.clone();
        octets.extend_from_slice(&body);
        let Ok(Datagram::Encrypted(sealed)) = parse(&octets) else { panic!("sealed") };
        prop_assert_eq!((sealed.header, sealed.first), (header, PayloadType(first)));
        prop_assert_eq!((sealed.associated, sealed.body), (&associated[..], &body[..]));
        prop_assert_eq!(sealed.whole, &octets[..]);
    }

    #[test]
    fn a_fragment_is_taken_apart(header in header(), numbers in (1..9_u16, 9..=u16::MAX), body in vec(any::<u8>(), 0..300)) {
        let mut octets = emit_fragment_head(&header, PayloadType::IDI, numbers, body.len());
        let associated = octets.clone();
        octets.extend_from_slice(&body);
        let Ok(Datagram::Fragment(fragment)) = parse(&octets) else { panic!("a fragment") };
        prop_assert_eq!((fragment.number, fragment.total), numbers);
        let first = if numbers.0 == 1 { PayloadType::IDI } else { PayloadType::NO_NEXT_PAYLOAD };
        prop_assert_eq!((fragment.sealed.header, fragment.sealed.first), (header, first));
        prop_assert_eq!((fragment.sealed.associated, fragment.sealed.body), (&associated[..], &body[..]));
    }

    #[test]
    fn unknown_payloads_are_refused_only_if_critical(kind in unknown_type(), data in vec(any::<u8>(), 0..40)) {
        let payloads = [Payload::Unknown { kind, data }, Payload::Nonce(vec![7; 16])];
        let (first, mut chain) = emit_chain(&payloads);
        prop_assert_eq!(parse_chain(first, &chain), Ok(payloads.to_vec()));
        chain[1] = 0x80;
        prop_assert_eq!(parse_chain(first, &chain), Err(ParseError::UnsupportedCritical(kind)));
    }

    #[test]
    fn the_critical_bit_of_known_payloads_means_nothing(payloads in vec(payload(), 1..3)) {
        prop_assume!(payloads[0].kind().is_known());
        let (first, mut chain) = emit_chain(&payloads);
        chain[1] = 0x80;
        prop_assert_eq!(parse_chain(first, &chain), Ok(payloads));
    }
}
