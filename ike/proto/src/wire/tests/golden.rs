//! Messages that others wrote: we read in them what they mean, and write them as they did.

use std::fmt::Write;

use super::octets;
use crate::wire::{Datagram, Payload, PayloadType, emit, emit_chain, parse, parse_chain};

const MESSAGES: &str = include_str!("messages.txt");

/// Name, type of the first payload of a chain (0 for whole messages), octets.
fn messages() -> impl Iterator<Item = (&'static str, PayloadType, Vec<u8>)> {
    MESSAGES.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let mut fields = line.split(' ');
        let mut field = || fields.next().expect("three fields");
        (field(), PayloadType(field().parse().expect("a number")), octets(field()))
    })
}

fn show(out: &mut String, payloads: &[Payload]) {
    for payload in payloads {
        writeln!(out, "  {payload:?}").expect("a String takes all");
    }
}

fn check_message(out: &mut String, datagram: &[u8]) {
    match parse(datagram).expect("a good message") {
        Datagram::Plain(header, payloads) => {
            writeln!(out, "  {header:?}").expect("a String takes all");
            show(out, &payloads);
            assert_eq!(emit(&header, &payloads), datagram);
        }
        sealed => writeln!(out, "  {sealed:?}").expect("a String takes all"),
    }
}

#[test]
fn others_messages_are_read_and_written_as_they_wrote_them() {
    let mut out = String::new();
    for (name, first, octets) in messages() {
        writeln!(out, "{name}").expect("a String takes all");
        if first == PayloadType::NO_NEXT_PAYLOAD {
            check_message(&mut out, &octets);
        } else {
            let payloads = parse_chain(first, &octets).expect("a good chain");
            show(&mut out, &payloads);
            assert_eq!(emit_chain(&payloads), (first, octets));
        }
    }
    insta::assert_snapshot!(out);
}

#[test]
fn a_message_that_is_cut_anywhere_is_refused() {
    for (name, first, octets) in messages() {
        for length in 0..octets.len() {
            let cut = &octets[..length];
            let refused = if first == PayloadType::NO_NEXT_PAYLOAD {
                parse(cut).is_err()
            } else {
                parse_chain(first, cut).is_err()
            };
            assert!(refused, "{name} with {length} octets");
        }
    }
}
