//! Every combination of suite, shape and sequence numbers, both directions.

use std::collections::HashSet;

use baton_dataplane::io::Side;
use baton_dataplane::packet::checksum;
use baton_sad::{Counters, DfPolicy, Direction, DscpPolicy, Mode, ReplayWindow, Suite, TfcPadding};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::common::ethernet;
use crate::common::wire::shapes;
use crate::common::{Gateway, Setup, sa};
use crate::python::{Scapy, association};
use crate::sample::Samples;

const TEST: &str = "scapy_and_baton_open_each_others_packets";
const ETH: usize = 14;
/// Python processes at a time.
const JUDGES: usize = 2;
/// Combinations of a suite: shapes, times two.
const PER_SUITE: usize = 12 * 2;
/// Extended numbers cross the border of 32 bits.
const EXTENDED_START: u64 = (7 << 32) - 2;

/// What `exchange.py` answers.
#[derive(Deserialize)]
pub struct Verdict {
    findings: Vec<String>,
    judged: usize,
    refused: usize,
    pub sealed: Vec<Sealed>,
}

/// A packet that scapy sealed, and what A must send on.
#[derive(Deserialize)]
pub struct Sealed {
    pub packet: String,
    arrives: String,
}

/// How much was judged.
#[derive(Default)]
struct Tally {
    combinations: HashSet<(String, bool, [bool; 4])>,
    opened_by_scapy: usize,
    opened_by_baton: usize,
    refused_by_scapy: usize,
    refused_by_baton: usize,
}

fn is_soak() -> bool {
    std::env::var_os("BATON_SOAK").is_some_and(|value| value == "1")
}

/// Every combination. What an SA may have besides takes turns.
fn combinations() -> Vec<Setup> {
    let suites = Suite::ALL.into_iter();
    let all = suites.flat_map(|suite| shapes().map(move |shape| Setup { suite, ..shape }));
    let all = all.flat_map(|setup| [false, true].map(|extended| Setup { extended, ..setup.clone() }));
    all.enumerate().map(|(number, setup)| with_variations(number, &setup)).collect()
}

fn with_variations(number: usize, setup: &Setup) -> Setup {
    // Another one in each suite.
    let turn = number + number / PER_SUITE;
    let tfc_padding = [TfcPadding::Off, TfcPadding::To(300), TfcPadding::To(64)][turn % 3];
    Setup {
        // Transport mode has none: the receiver could not tell it from the payload (RFC 4303 section 2.7).
        tfc_padding: if setup.mode == Mode::Tunnel { tfc_padding } else { TfcPadding::Off },
        dscp: [DscpPolicy::Copy, DscpPolicy::Set(46)][turn / 3 % 2],
        df: [DfPolicy::Copy, DfPolicy::Set, DfPolicy::Clear][turn / 2 % 3],
        ..setup.clone()
    }
}

#[test]
fn scapy_and_baton_open_each_others_packets() {
    let combinations = combinations();
    assert_eq!(combinations.len(), 57 * PER_SUITE);
    let judge = |first| {
        let mut scapy = Scapy::start(TEST)?;
        let (count, packets) = if is_soak() { (370, 37) } else { (96, 3) };
        let (mut samples, mut tally) = (Samples::new(count), Tally::default());
        for (number, setup) in combinations.iter().enumerate().skip(first).step_by(JUDGES) {
            // Each suite begins with another kind of packet, so that each shape gets all of them.
            let first = number / JUDGES * packets + number / PER_SUITE;
            let some = first..first + packets;
            let [sent, expected] = [0, 1].map(|end| samples.take(&mut scapy, setup, end, some.clone()));
            exchange(&mut scapy, setup, &sent, &expected, &mut tally);
        }
        Some(tally)
    };
    let tallies: Option<Vec<Tally>> = std::thread::scope(|scope| {
        let judges: Vec<_> = (0..JUDGES).map(|first| scope.spawn(move || judge(first))).collect();
        judges.into_iter().map(|judge| judge.join().expect("no finding")).collect()
    });
    if let Some(tallies) = tallies {
        report(&tallies, combinations.len());
    }
}

fn report(tallies: &[Tally], expected: usize) {
    let combinations: HashSet<_> = tallies.iter().flat_map(|tally| &tally.combinations).collect();
    assert_eq!(combinations.len(), expected);
    let sum = |count: fn(&Tally) -> usize| tallies.iter().map(count).sum::<usize>();
    let by_scapy = [sum(|tally| tally.opened_by_scapy), sum(|tally| tally.refused_by_scapy)];
    let by_baton = [sum(|tally| tally.opened_by_baton), sum(|tally| tally.refused_by_baton)];
    println!("{expected} combinations; opened and refused by scapy {by_scapy:?}, by Baton {by_baton:?}");
    assert!(by_scapy[0] >= 3 * expected && by_baton[0] >= 3 * expected);
    assert_eq!((by_scapy[1], by_baton[1]), (4 * expected + expected / 2, 3 * expected));
}

/// A seals for scapy, scapy seals for A; then each gets forgeries.
fn exchange(scapy: &mut Scapy, setup: &Setup, sent: &[Vec<u8>], to_a: &[Vec<u8>], tally: &mut Tally) {
    let mut a = Gateway::new(0, setup);
    let start = if setup.extended { EXTENDED_START } else { 0 };
    put_counters(&a, setup, start);
    let judge: Vec<Value> = sent
        .iter()
        .zip(start + 1..)
        .map(|(packet, sequence)| case(&a.seal(&ethernet(packet))[ETH..], packet, sequence))
        .collect();
    let seal: Vec<Value> = to_a
        .iter()
        .zip(start + 1..)
        .map(|(packet, sequence)| json!({"sent": hex::encode(packet), "sequence": sequence}))
        .collect();
    let verdict: Verdict = scapy.ask(&question(setup, &judge, &seal));
    assert!(verdict.findings.is_empty(), "{:#?} {setup:?}", verdict.findings);
    tally.opened_by_scapy += verdict.judged;
    tally.refused_by_scapy += verdict.refused;

    let forged = hex::decode(&verdict.sealed[0].packet).expect("hex");
    tally.refused_by_baton += refuse(&mut a, setup, &forged);
    for Sealed { packet, arrives } in &verdict.sealed {
        a.receive(Side::Outer, &ethernet(&hex::decode(packet).expect("hex")));
        let opened = a.sent_one(Side::Inner);
        assert_eq!(hex::encode(&opened[ETH..]), *arrives, "{packet} {setup:?}");
        tally.opened_by_baton += 1;
    }
    assert_eq!(a.drops(), [("bad-icv", 3)], "{setup:?}");
    let shape = [setup.outer_ipv6, setup.inner_ipv6, setup.encapsulated, setup.extended];
    tally.combinations.insert((setup.suite.to_string(), setup.mode == Mode::Tunnel, shape));
}

fn put_counters(gateway: &Gateway, setup: &Setup, sequence: u64) {
    let window = ReplayWindow::closed(sequence, setup.window);
    let counters = [
        (Direction::Outbound, Counters { sequence, ..Counters::default() }),
        (Direction::Inbound, Counters { sequence, window, ..Counters::default() }),
    ];
    gateway.table.put(&counters.map(|(direction, counters)| (sa(setup, 0, direction, 0), counters))).unwrap();
}

fn case(sealed: &[u8], sent: &[u8], sequence: u64) -> Value {
    json!({"packet": hex::encode(sealed), "sent": hex::encode(sent), "sequence": sequence})
}

/// What `exchange.py` is asked: whether it can open these packets of A's, and to seal those.
pub fn question(setup: &Setup, judge: &[Value], seal: &[Value]) -> Value {
    let tfc = if let TfcPadding::To(octets) = setup.tfc_padding { octets } else { 0 };
    let dscp = if let DscpPolicy::Set(dscp) = setup.dscp { Some(dscp) } else { None };
    let df = match setup.df {
        DfPolicy::Copy => "copy",
        DfPolicy::Set => "set",
        DfPolicy::Clear => "clear",
    };
    json!({
        "ask": "exchange", "tfc": tfc, "dscp": dscp, "df": df,
        "theirs": association(setup, Direction::Outbound), "judge": judge,
        "ours": association(setup, Direction::Inbound), "seal": seal,
    })
}

/// Gives A forgeries of a packet: another sequence number, text and ICV. Returns how many.
fn refuse(a: &mut Gateway, setup: &Setup, packet: &[u8]) -> usize {
    let spi = sa(setup, 0, Direction::Inbound, 0).spi.to_be_bytes();
    let esp = packet.windows(4).position(|window| window == spi).expect("the SPI");
    for place in [esp + 4, esp + (packet.len() - esp) / 2, packet.len() - 1] {
        let mut forged = packet.to_vec();
        forged[place] ^= 0x40;
        a.receive(Side::Outer, &ethernet(&forged));
        assert_eq!(a.sent(Side::Inner), Vec::<Vec<u8>>::new(), "octet {place} {setup:?}");
    }
    3
}

/// A judge that finds nothing proves nothing: each wrong octet of a header, and each wrong expectation, is found.
#[test]
fn the_judge_finds_what_is_wrong() {
    let Some(mut scapy) = Scapy::start("the_judge_finds_what_is_wrong") else { return };
    let mut samples = Samples::new(1);
    for setup in shapes() {
        let sent = samples.take(&mut scapy, &setup, 0, 0..1).remove(0);
        let sealed = Gateway::new(0, &setup).seal(&ethernet(&sent)).split_off(ETH);
        let mut found = |setup: &Setup, sealed: &[u8], sent: &[u8], sequence| {
            let question = question(setup, &[case(sealed, sent, sequence)], &[]);
            let Verdict { findings, .. } = scapy.ask(&question);
            !findings.is_empty()
        };
        assert!(!found(&setup, &sealed, &sent, 1), "{setup:?}");
        // Identification and flow label are the sender's to choose; in transport mode they are the packet's.
        let free = match (setup.mode, setup.outer_ipv6) {
            (Mode::Transport, _) => 0..0,
            (Mode::Tunnel, false) => 4..6,
            (Mode::Tunnel, true) => 1..4,
        };
        for place in (0..sealed.len()).filter(|place| !free.contains(place)) {
            let mut spoiled = sealed.clone();
            spoiled[place] ^= 4;
            if !setup.outer_ipv6 && place < 20 && place / 2 != 5 {
                correct_checksum(&mut spoiled);
            }
            assert!(found(&setup, &spoiled, &sent, 1), "octet {place} {setup:?}");
        }
        // Not IPv4's checksum: a router makes a new one.
        for place in (0..sent.len()).filter(|place| setup.inner_ipv6 || place / 2 != 5) {
            let mut other = sent.clone();
            other[place] ^= 4;
            assert!(found(&setup, &sealed, &other, 1), "sent octet {place} {setup:?}");
        }
        for sequence in [0, 2, (1 << 32) + 1] {
            assert!(found(&setup, &sealed, &sent, sequence), "{setup:?}");
        }
        if setup.mode == Mode::Tunnel {
            assert!(found(&Setup { tfc_padding: TfcPadding::To(300), ..setup.clone() }, &sealed, &sent, 1));
            assert!(found(&Setup { dscp: DscpPolicy::Set(46), ..setup.clone() }, &sealed, &sent, 1));
        }
    }
}

fn correct_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = checksum::checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}
