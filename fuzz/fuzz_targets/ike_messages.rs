//! IKEv2's codec: any octets are refused or understood, and what is understood is written and read again unchanged.
//!
//! The first octet chooses: 0, a whole message; else a chain of payloads of which the first is of that type.
#![no_main]

use baton_ike_proto::wire::{
    Datagram, Header, MAX_PAYLOADS, Payload, PayloadType, emit, emit_chain, parse, parse_chain,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match input.split_first() {
        Some((0, datagram)) => message(datagram),
        Some((first, octets)) => chain(PayloadType(*first), octets),
        None => {}
    }
});

fn message(octets: &[u8]) {
    match parse(octets) {
        Ok(Datagram::Plain(header, payloads)) => {
            let again = emit(&header, &payloads);
            assert_eq!(parse(&again), Ok(Datagram::Plain(header, payloads.clone())));
            show(&header, &payloads);
        }
        Ok(Datagram::Encrypted(sealed)) => {
            assert_eq!(sealed.whole, octets);
            assert_eq!([sealed.associated, sealed.body].concat(), octets);
            show(&sealed.header, &sealed.unprotected);
        }
        Ok(Datagram::Fragment(fragment)) => {
            assert!(fragment.number >= 1 && fragment.number <= fragment.total);
            assert_eq!([fragment.sealed.associated, fragment.sealed.body].concat(), octets);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn chain(first: PayloadType, octets: &[u8]) {
    let Ok(payloads) = parse_chain(first, octets) else { return };
    assert!(payloads.len() <= MAX_PAYLOADS);
    let (kind, again) = emit_chain(&payloads);
    assert_eq!(parse_chain(kind, &again), Ok(payloads.clone()));
    assert!(!format!("{payloads:?}").is_empty());
}

fn show(header: &Header, payloads: &[Payload]) {
    assert!(!format!("{header:?} {payloads:?}").is_empty());
}
