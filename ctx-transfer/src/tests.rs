//! Round trips, and everything that must be refused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use baton_sad::{
    AddressRange, Bounds, ClusterId, Counters, DfPolicy, Direction, DscpPolicy, Key, Lifetime, Mode, Name,
    NodeId, ReplayWindow, Sa, Selector, Selectors, Sender, Senders, Suite, TfcPadding, UdpEncapsulation,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(u32, u32)>().prop_map(|(a, b)| (Ipv4Addr::from_bits(a).into(), Ipv4Addr::from_bits(b).into())),
        any::<(u128, u128)>()
            .prop_map(|(a, b)| (Ipv6Addr::from_bits(a).into(), Ipv6Addr::from_bits(b).into())),
    ]
}

fn range((a, b): (IpAddr, IpAddr)) -> AddressRange {
    AddressRange::new(a.min(b), a.max(b)).unwrap()
}

fn selector() -> impl Strategy<Value = Selector> {
    let ports = any::<(u16, u16)>().prop_map(|(a, b)| a.min(b)..=a.max(b));
    let ports = prop_oneof![Just(0..=u16::MAX), ports];
    (addresses(), any::<Option<u8>>(), ports.clone(), ports).prop_map(
        |(ends, protocol, local_ports, remote_ports)| {
            let (local, remote) = (range(ends), AddressRange::single(ends.0));
            Selector { local, remote, protocol, local_ports, remote_ports }
        },
    )
}

fn selectors() -> impl Strategy<Value = Selectors> {
    vec(selector(), 1..=4).prop_map(|s| Selectors::new(s).unwrap())
}

fn sender() -> impl Strategy<Value = Sender> {
    (any::<u64>(), 1..=255_u8)
        .prop_map(|(c, n)| Sender { cluster: ClusterId::new(c), node: NodeId::new(n).unwrap() })
}

fn counters() -> impl Strategy<Value = Counters> {
    (any::<(u64, u64, u64, u64, u64, u64)>(), vec(any::<u64>(), 0..=65)).prop_map(|(n, words)| Counters {
        sequence: n.0,
        window: ReplayWindow { top: n.1, words },
        packets: n.2,
        octets: n.3,
        replay_drops: n.4,
        integrity_failures: n.5,
    })
}

fn unknown() -> impl Strategy<Value = Unknown> {
    let values = select(vec![
        &b"\x00"[..],
        b"\x43abc",
        b"\xa1\x61a\x80",
        b"\xf9\x7e\x00",
        b"\xc1\x1a\x51\x4b\x67\xb0",
    ]);
    vec((40..5000_u64, values), 0..3).prop_map(|entries| {
        let mut unknown = Unknown::default();
        for (key, value) in &entries {
            unknown.insert(*key, value).unwrap();
        }
        unknown
    })
}

fn sa() -> impl Strategy<Value = ContextSa> {
    let dscp = prop_oneof![Just(DscpPolicy::Copy), (0..64_u8).prop_map(DscpPolicy::Set)];
    let df = select(vec![DfPolicy::Copy, DfPolicy::Set, DfPolicy::Clear]);
    let direction = select(vec![Direction::Inbound, Direction::Outbound]);
    let numbers = (256_u32.., any::<u32>(), 1_u32.., any::<u8>(), any::<bool>(), 1..=64_u16, any::<u16>());
    let parts = (direction, select(Suite::ALL.to_vec()), vec(any::<u8>(), 100), addresses(), selectors());
    let padding =
        prop_oneof![Just(TfcPadding::Off), Just(TfcPadding::PathMtu), (1..u16::MAX).prop_map(TfcPadding::To)];
    let udp = (1..=u16::MAX, 1..=u16::MAX, any::<bool>(), any::<u16>()).prop_map(|parts| UdpEncapsulation {
        source_port: parts.0,
        destination_port: parts.1,
        follows_peer: parts.2,
        keepalive_seconds: parts.3,
    });
    let udp = proptest::option::of(udp);
    let lifetime = any::<[u32; 8]>().prop_map(|[a, b, c, d, e, f, g, h]| Lifetime {
        soft: Bounds { octets: a.into(), packets: b.into(), sequence: c.into(), expires_at: d.into() },
        hard: Bounds {
            octets: u64::from(a) + u64::from(e),
            packets: u64::from(b) + u64::from(f),
            sequence: u64::from(c) + u64::from(g),
            expires_at: u64::from(d) + u64::from(h),
        },
    });
    let rest = (dscp, df, vec(sender(), 0..=8), counters(), unknown(), unknown(), padding, udp, lifetime);
    (numbers, parts, rest).prop_map(|(numbers, parts, rest)| {
        let sa = Sa {
            name: Name::new("site-a").unwrap(),
            direction: parts.0,
            spi: numbers.0,
            peer_spi: numbers.1,
            reqid: numbers.2,
            mode: if rest.6 == TfcPadding::Off { Mode::Transport } else { Mode::Tunnel },
            segment: numbers.3,
            suite: parts.1,
            key: Key::new(&parts.2[..parts.1.key_length()]).unwrap(),
            source: parts.3.0,
            destination: parts.3.1,
            encapsulation: rest.7,
            selectors: parts.4,
            extended_sequence: numbers.4,
            replay_window: numbers.5 * 64,
            dscp: rest.0,
            df: rest.1,
            path_mtu: numbers.6,
            clamp_mss: numbers.4,
            tfc_padding: rest.6,
            lifetime: rest.8,
            senders: Senders::new(rest.2).unwrap(),
        };
        ContextSa { sa, counters: rest.3, unknown: rest.4, unknown_counters: rest.5 }
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let action = select(vec![PolicyAction::Protect, PolicyAction::Bypass, PolicyAction::Discard]);
    (action, any::<u32>(), any::<u8>(), selectors(), unknown()).prop_map(
        |(action, reqid, segment, selectors, unknown)| Policy { action, reqid, segment, selectors, unknown },
    )
}

fn ike() -> impl Strategy<Value = Option<IkePart>> {
    proptest::option::of(vec(any::<u8>(), 1..300).prop_map(|octets| IkePart::new(octets).unwrap()))
}

prop_compose! {
    fn context()(
        kind in select(vec![Kind::Copy, Kind::Move]), origin in sender(), taken_at in any::<u64>(),
        sas in vec(sa(), 1..=8), policies in vec(policy(), 0..=8), ike in ike(), unknown in unknown(),
    ) -> Context {
        let origin = Origin { cluster: origin.cluster, node: origin.node };
        Context { kind, name: Name::new("site-a").unwrap(), origin, taken_at, sas, policies, ike, unknown }
    }
}

/// One that is the same in every run.
fn example() -> Context {
    let ends = (Ipv4Addr::new(203, 0, 113, 1).into(), Ipv4Addr::new(203, 0, 113, 2).into());
    let make = |direction, spi, key: u8| Sa {
        name: Name::new("site-a").unwrap(),
        direction,
        spi,
        peer_spi: 0,
        reqid: 7,
        mode: Mode::Tunnel,
        segment: 42,
        suite: Suite::AES128_GCM16,
        key: Key::new(&[key; 20]).unwrap(),
        source: ends.0,
        destination: ends.1,
        selectors: Selectors::new(vec![Selector::addresses(range(ends), range(ends))]).unwrap(),
        encapsulation: None,
        extended_sequence: true,
        replay_window: 64,
        dscp: DscpPolicy::Copy,
        df: DfPolicy::Copy,
        path_mtu: 0,
        clamp_mss: true,
        tfc_padding: TfcPadding::Off,
        lifetime: Lifetime::default(),
        senders: Senders::default(),
    };
    Context {
        kind: Kind::Move,
        name: Name::new("site-a").unwrap(),
        origin: Origin { cluster: ClusterId::new(9), node: NodeId::new(2).unwrap() },
        taken_at: 1_800_000_000_000,
        sas: vec![
            ContextSa::new(make(Direction::Inbound, 0x2a00_0001, 0xa1), Counters::default()),
            ContextSa::new(make(Direction::Outbound, 0x1100_0001, 0xb2), Counters::default()),
        ],
        policies: Vec::new(),
        ike: None,
        unknown: Unknown::default(),
    }
}

fn key(octet: u8) -> ClusterKey {
    ClusterKey::new(&[octet; 32])
}

fn sealed(contexts: &[Context], with: SealWith<'_>) -> Vec<u8> {
    let mut writer = ContextWriter::new(Vec::new(), with).unwrap();
    for context in contexts {
        writer.write(context).unwrap();
    }
    writer.finish().unwrap()
}

fn open(octets: &[u8], with: OpenWith<'_>) -> Result<Vec<Context>, OpenError> {
    let mut reader = ContextReader::new(octets, with)?;
    let mut contexts = Vec::new();
    while let Some(context) = reader.next()? {
        contexts.push(context);
    }
    Ok(contexts)
}

fn with(key: &ClusterKey) -> OpenWith<'_> {
    OpenWith { key: Some(key), clear: false }
}

proptest! {
    #[test]
    fn decoding_inverts_encoding(context in context()) {
        let octets = context.encode();
        prop_assert!(octets.capacity() <= 64 + octets.len() + 17 * 2048, "the buffer did not grow");
        let decoded = Context::decode(&octets).unwrap();
        prop_assert_eq!(&decoded, &context);
        prop_assert_eq!(decoded.encode(), octets);
    }

    #[test]
    fn another_decoder_reads_it(context in context()) {
        let value: ciborium::Value = ciborium::from_reader(&context.encode()[..]).unwrap();
        let map = value.as_map().unwrap();
        let name = &map.iter().find(|(k, _)| k.as_integer() == Some(2.into())).unwrap().1;
        prop_assert_eq!(name.as_text(), Some("site-a"));
        let sas = &map.iter().find(|(k, _)| k.as_integer() == Some(5.into())).unwrap().1;
        prop_assert_eq!(sas.as_array().unwrap().len(), context.sas.len());
    }

    #[test]
    fn no_octets_panic(octets in vec(any::<u8>(), 0..300)) {
        let _ = Context::decode(&octets);
        let _ = open(&octets, with(&key(1)));
    }

    #[test]
    fn no_changed_context_panics_and_what_is_read_is_written_back(
        context in context(), changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut octets = context.encode().to_vec();
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        if let Ok(decoded) = Context::decode(&octets) {
            prop_assert_eq!(&decoded.encode()[..], &octets[..]);
        }
    }

    #[test]
    fn a_cut_context_is_refused(context in context(), at in any::<prop::sample::Index>()) {
        let octets = context.encode();
        let cut = &octets[..at.index(octets.len())];
        prop_assert_eq!(Context::decode(cut), Err(DecodeError::Cbor(CborError::Truncated)));
    }

    #[test]
    fn streams_hold_contexts_in_order(contexts in vec(context(), 0..4), clear in any::<bool>()) {
        let key = key(3);
        let octets = sealed(&contexts, if clear { SealWith::Clear } else { SealWith::Key(&key) });
        prop_assert_eq!(open(&octets, OpenWith { key: Some(&key), clear }).unwrap(), contexts);
    }
}

#[test]
fn every_changed_octet_of_a_stream_is_noticed() {
    let key = key(3);
    for how in [SealWith::Key(&key), SealWith::Clear] {
        let octets = sealed(&[example()], how);
        for at in 0..octets.len() {
            for bit in [1, 0x80] {
                let mut changed = octets.clone();
                changed[at] ^= bit;
                let opened = open(&changed, OpenWith { key: Some(&key), clear: true });
                assert!(opened.is_err(), "octet {at} of {}", octets.len());
            }
        }
    }
}

#[test]
fn every_cut_and_every_appendix_is_noticed() {
    let key = key(3);
    let octets = sealed(&[example(), example()], SealWith::Key(&key));
    for at in 8..octets.len() {
        let error = open(&octets[..at], with(&key)).unwrap_err();
        assert!(matches!(error, OpenError::Truncated(_)), "{at}: {error}");
    }
    let longer = [&octets[..], &[0]].concat();
    assert!(matches!(open(&longer, with(&key)), Err(OpenError::Trailing)));
}

#[test]
fn records_cannot_change_places_or_streams() {
    let key = key(3);
    let mut other = example();
    other.taken_at += 1;
    let octets = sealed(&[example(), other], SealWith::Key(&key));
    let size = (octets.len() - HEADER_OCTETS - 20) / 2;
    let (head, records) = octets.split_at(HEADER_OCTETS);
    let swapped = [head, &records[size..2 * size], &records[..size], &records[2 * size..]].concat();
    assert!(matches!(open(&swapped, with(&key)), Err(OpenError::Damaged(0))));
    let transplanted = [&sealed(&[example()], SealWith::Key(&key))[..HEADER_OCTETS], records].concat();
    assert!(matches!(open(&transplanted, with(&key)), Err(OpenError::Damaged(0))));
    let shortened = [head, &records[..size], &records[2 * size..]].concat();
    assert!(matches!(open(&shortened, with(&key)), Err(OpenError::Damaged(1))));
}

#[test]
fn a_reader_that_refused_something_never_claims_to_be_at_the_end() {
    let key = key(3);
    let mut octets = sealed(&[example(), example()], SealWith::Key(&key));
    let at = octets.len() - 40;
    octets[at] ^= 1;
    let mut reader = ContextReader::new(&octets[..], with(&key)).unwrap();
    assert!(reader.next().unwrap().is_some());
    assert!(matches!(reader.next(), Err(OpenError::Damaged(1))));
    assert!(matches!(reader.next(), Err(OpenError::Refused)));
    let whole = sealed(&[example()], SealWith::Key(&key));
    let mut reader = ContextReader::new(&whole[..], with(&key)).unwrap();
    assert!(reader.next().unwrap().is_some());
    assert!(reader.next().unwrap().is_none() && reader.next().unwrap().is_none());
}

#[test]
fn names_that_command_a_terminal_are_refused() {
    for name in ["a\u{1b}[2Jb", "a\rb", "a\u{7f}", "a\u{9b}2J"] {
        let context = Context { name: Name::new(name).unwrap(), ..example() };
        assert_eq!(Context::decode(&context.encode()), Err(DecodeError::Value("name")), "{name:?}");
    }
}

#[test]
fn foreign_absent_and_clear_keys_are_told_apart() {
    let (ours, theirs) = (key(3), key(4));
    let octets = sealed(&[example()], SealWith::Key(&theirs));
    assert!(matches!(open(&octets, with(&ours)), Err(OpenError::ForeignKey { .. })));
    assert!(matches!(open(&octets, OpenWith { key: None, clear: true }), Err(OpenError::NoKey)));
    let clear = sealed(&[example()], SealWith::Clear);
    assert!(matches!(open(&clear, with(&ours)), Err(OpenError::Clear)));
    assert!(matches!(open(b"PK\x03\x04 whatever", with(&ours)), Err(OpenError::NotAContext)));
}

#[test]
fn later_versions_and_flags_are_told() {
    let key = key(3);
    let mut octets = sealed(&[example()], SealWith::Key(&key));
    octets[9] = 2;
    assert!(matches!(open(&octets, with(&key)), Err(OpenError::Version(2))));
    octets[9] = 1;
    octets[10] = 0x40;
    assert!(matches!(open(&octets, with(&key)), Err(OpenError::Flags(0x4000))));
    let mut inner = example().encode().to_vec();
    inner[2] = 3;
    assert_eq!(Context::decode(&inner), Err(DecodeError::Version(3)));
}

#[test]
fn keys_are_in_the_clear_stream_only_and_never_in_debug_output() {
    let key = key(3);
    let holds = |octets: &[u8], part: &[u8]| octets.windows(part.len()).any(|w| w == part);
    let sealed_one = sealed(&[example()], SealWith::Key(&key));
    assert!(
        !holds(&sealed_one, &[0xa1; 4]) && !holds(&sealed_one, &[0xb2; 4]) && !holds(&sealed_one, b"site-a")
    );
    assert!(holds(&sealed(&[example()], SealWith::Clear), &[0xa1; 20]));
    assert_ne!(sealed_one, sealed(&[example()], SealWith::Key(&key)), "a salt of its own for each stream");
    let mut context = example();
    context.unknown.insert(17, b"\x46secret").unwrap();
    context.ike = IkePart::new(b"secret too".to_vec());
    let shown = format!("{context:?} {key:?}");
    assert!(
        !shown.contains("161, 161") && !shown.contains("secret") && !shown.contains("115, 101"),
        "{shown}"
    );
}

#[test]
fn later_entries_are_kept_in_their_places() {
    let mut context = example();
    context.unknown.insert(17, b"\x43pad").unwrap();
    context.sas[0].unknown.insert(40, b"\x00").unwrap();
    let decoded = Context::decode(&context.encode()).unwrap();
    assert_eq!(decoded.unknown.get(17), Some(&b"\x43pad"[..]));
    assert_eq!(decoded.encode(), context.encode());
    assert!(context.unknown.insert(18, b"\x43ik").is_err(), "not a value");
}

#[test]
fn the_ike_part_is_carried_unread_and_bounded() {
    let mut context = example();
    context.ike = IkePart::new(vec![7; IkePart::MAX_OCTETS]);
    context.unknown.insert(17, b"\x43pad").unwrap();
    context.unknown.insert(9, b"\x00").unwrap();
    let read_back = |context: &Context| {
        let key = key(3);
        let stream = sealed(std::slice::from_ref(context), SealWith::Key(&key));
        let with = OpenWith { key: Some(&key), clear: false };
        ContextReader::new(&stream[..], with).unwrap().next().unwrap().unwrap()
    };
    assert_eq!(read_back(&context), context);
    assert!(IkePart::new(vec![7; IkePart::MAX_OCTETS + 1]).is_none() && IkePart::new(vec![]).is_none());
    // An IKE SA may have lost its last Child SA; without either there is nothing to continue.
    context.sas.clear();
    assert_eq!(read_back(&context), context);
    context.ike = None;
    assert_eq!(Context::decode(&context.encode()), Err(DecodeError::Value("sas")));
}

#[test]
fn the_number_of_parts_is_bounded() {
    let with = |count| Context { sas: vec![example().sas.remove(0); count], ..example() };
    assert_eq!(Context::decode(&with(MAX_PARTS).encode()).unwrap().sas.len(), MAX_PARTS);
    assert_eq!(Context::decode(&with(MAX_PARTS + 1).encode()), Err(CborError::TooMany.into()));
}

/// The table has no place for what a later release says, be it how packets are to be protected.
#[test]
fn what_is_not_understood_is_not_installed_in_part() {
    let us = Sender { cluster: ClusterId::new(9), node: NodeId::new(3).unwrap() };
    assert_eq!(restore::prepare(&example(), us, 0).unwrap().len(), 2);
    let entry = |of: fn(&mut Context) -> &mut Unknown| {
        let mut context = example();
        of(&mut context).insert(1_000, b"\x01").unwrap();
        restore::prepare(&context, us, 0).map(drop)
    };
    let parts: [fn(&mut Context) -> &mut Unknown; 3] =
        [|c| &mut c.unknown, |c| &mut c.sas[1].unknown, |c| &mut c.sas[0].unknown_counters];
    for part in parts {
        let refused = entry(part);
        let Err(restore::RestoreError::Later { entries, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(entries, &[1_000]);
    }
}

/// After a takeover by who may know too little, inbound SAs stand at their end until they have new keys. Their owner needs
/// a standby meanwhile.
#[test]
fn an_sa_at_its_end_can_be_kept_and_not_advanced() {
    let us = Sender { cluster: ClusterId::new(9), node: NodeId::new(3).unwrap() };
    let mut context = Context { kind: Kind::Copy, ..example() };
    for offered in &mut context.sas {
        offered.sa.extended_sequence = false;
        offered.counters = Counters::default();
        offered.counters.advance(&offered.sa, u64::MAX);
    }
    let kept = restore::prepare(&context, us, 0).unwrap();
    assert!(kept.iter().all(|(_, counters)| counters.edge() == u64::from(u32::MAX)));
    let refused = restore::prepare(&context, us, 1);
    assert!(matches!(refused, Err(restore::RestoreError::Exhausted { .. })), "{refused:?}");
}

#[test]
fn only_the_deterministic_encoding_is_read() {
    let read = |octets: &[u8]| {
        let mut unknown = Unknown::default();
        unknown.insert(1, octets)
    };
    for bad in [
        &b"\x18\x17"[..],
        b"\x19\x00\xff",
        b"\x5f\x41a\xff",
        b"\xa2\x01\x00\x01\x00",
        b"\xa2\x02\x00\x01\x00",
        b"\xf8\x14",
        b"\xff",
        b"\x1c",
        b"\x61\xff",
        b"",
        b"\x00\x00",
    ] {
        assert!(read(bad).is_err(), "{bad:x?}");
    }
    assert_eq!(read(&[vec![0x81; 20], vec![0]].concat()), Err(CborError::TooMany));
    assert_eq!(
        read(b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff"),
        Err(CborError::Truncated),
        "no allocation ahead"
    );
}
