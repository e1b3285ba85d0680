//! Golden octets, round trips, and whatever else comes in.

use baton_sad::{Name, NodeId};
use proptest::prelude::*;

use super::heartbeat::Beat;
use super::*;
use crate::cluster::LinkAddresses;
use crate::cluster::{Content, Key, Lane, MAX_MEMBERS, Octets, Refusal, Reserved, SaKey, Segments};
use crate::cluster::{Load, LoadReport, transfer as moves};
use crate::cxtp::{CxtpError, FeatureProfile, Message, Request, Token};

fn node() -> impl Strategy<Value = NodeId> {
    (1..=u8::MAX).prop_map(|id| NodeId::new(id).unwrap())
}

fn segments() -> impl Strategy<Value = Segments> {
    any::<[u64; 4]>().prop_map(Segments::from_words)
}

fn shares() -> impl Strategy<Value = Vec<(NodeId, Segments)>> {
    prop::collection::vec((node(), segments()), 0..=MAX_MEMBERS)
}

fn key() -> impl Strategy<Value = SaKey> {
    let direction = prop::sample::select(vec![Key::Inbound, Key::Outbound]);
    (direction, any::<u64>()).prop_map(|(direction, number)| SaKey { direction, number })
}

fn reserved() -> impl Strategy<Value = Reserved> {
    (key(), any::<u64>()).prop_map(|(key, number)| Reserved { key, number })
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9-]{1,32}".prop_map(|name| Name::new(&name).unwrap())
}

fn result() -> impl Strategy<Value = Result<(), Refusal>> {
    let refusals = crate::cluster::event::REFUSALS.map(Err).to_vec();
    prop::sample::select([vec![Ok(())], refusals].concat())
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    let any_segments = [segments(), segments(), segments()];
    (any::<[u64; 3]>(), any::<[bool; 3]>(), any_segments, shares(), shares()).prop_map(
        |(numbers, flags, [claims, fresh, rekeying], heirs, handed)| Heartbeat {
            incarnation: numbers[0],
            sequence: numbers[1],
            term: numbers[2] % TERMS,
            maintenance: flags[0],
            idle: flags[1],
            settled: flags[2],
            claims,
            fresh,
            rekeying,
            heirs,
            handed,
        },
    )
}

fn mark() -> impl Strategy<Value = Mark> {
    (prop::option::of(node()), any::<u64>(), any::<u64>(), segments(), segments()).prop_map(
        |(owner, term, sequence, segments, ready)| Mark {
            owner,
            term: term % TERMS,
            sequence,
            segments,
            ready,
        },
    )
}

fn vote() -> impl Strategy<Value = Vote> {
    (any::<[u64; 4]>(), segments(), prop::collection::vec(mark(), 0..=MAX_MEMBERS)).prop_map(
        |(numbers, granted, marks)| Vote {
            incarnation: numbers[0],
            of: numbers[1],
            sequence: numbers[2],
            highest: numbers[3] % TERMS,
            granted,
            marks,
        },
    )
}

fn octets() -> impl Strategy<Value = Octets> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Octets::from)
}

fn context() -> impl Strategy<Value = ContextMessage> {
    let content = (
        name(),
        any::<u8>(),
        any::<u64>(),
        octets(),
        prop::collection::vec(reserved(), 0..=crate::MAX_PARTS),
    );
    let content = content.prop_map(|(tunnel, segment, version, octets, reserved)| Content {
        tunnel,
        segment,
        version,
        octets,
        reserved,
    });
    prop_oneof![
        (any::<u64>(), any::<u64>(), content).prop_map(|(number, session, content)| ContextMessage::Put {
            number,
            session,
            content
        }),
        (any::<u64>(), name()).prop_map(|(number, tunnel)| ContextMessage::Delete { number, tunnel }),
        (any::<u64>(), segments())
            .prop_map(|(session, segments)| ContextMessage::Complete { session, segments }),
        (any::<u64>(), result()).prop_map(|(number, result)| ContextMessage::Acknowledge { number, result }),
    ]
}

fn counter() -> impl Strategy<Value = CounterMessage> {
    let items = prop::collection::vec(reserved(), 0..=MAX_RESERVED);
    prop_oneof![
        (any::<u64>(), any::<u64>(), items).prop_map(|(number, session, items)| CounterMessage::Reserve {
            number,
            session,
            items
        }),
        (any::<u64>(), prop::collection::vec(key(), 0..=MAX_RESERVED))
            .prop_map(|(number, missing)| CounterMessage::Acknowledge { number, missing }),
    ]
}

fn mac() -> impl Strategy<Value = Option<[u8; 6]>> {
    prop::option::of((1..=u8::MAX, any::<u8>()).prop_map(|(last, first)| [first & 0xfe, 0, 0, 0, 0, last]))
}

fn transfer() -> impl Strategy<Value = Message> {
    let peer = any::<[u8; 16]>().prop_map(std::net::IpAddr::from);
    let profiles = prop::collection::vec(any::<u16>().prop_map(FeatureProfile), 0..9);
    prop_oneof![
        peer.clone().prop_map(|peer| Message::Cancel { peer }),
        (peer, any::<u32>(), any::<[u8; 4]>(), profiles).prop_map(|(peer, sequence, token, profiles)| {
            Message::Request(Request { peer, sequence, token: Token(token), profiles })
        }),
    ]
}

fn control() -> impl Strategy<Value = ControlMessage> {
    let digests = prop::collection::vec(("[a-z]{0,64}", any::<u64>()), 0..8);
    prop_oneof![
        (any::<u64>(), "[0-9.]{0,64}", digests).prop_map(|(incarnation, release, digests)| {
            ControlMessage::Hello { incarnation, release, digests }
        }),
        (mac(), mac()).prop_map(|(outer, inner)| ControlMessage::Links(LinkAddresses { outer, inner })),
        transfer().prop_map(ControlMessage::Transfer),
        (0..=1000_u16, any::<[u64; 2]>()).prop_map(|(cpu_per_mille, [drops_per_second, tunnels])| {
            ControlMessage::Load(LoadReport { load: Load { cpu_per_mille, drops_per_second }, tunnels })
        }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        heartbeat in heartbeat(),
        vote in vote(),
        context in context(),
        counter in counter(),
        control in control(),
    ) {
        prop_assert!(heartbeat.encode().len() <= Lane::Heartbeat.most_octets());
        prop_assert!(vote.encode().len() <= Lane::Heartbeat.most_octets());
        prop_assert!(counter.encode().len() <= Lane::Counters.most_octets());
        prop_assert_eq!(Beat::decode(&heartbeat.encode()), Ok(Beat::Heartbeat(heartbeat)));
        prop_assert_eq!(Beat::decode(&vote.encode()), Ok(Beat::Vote(vote)));
        prop_assert_eq!(ContextMessage::decode(&context.encode()), Ok(context));
        prop_assert_eq!(CounterMessage::decode(&counter.encode()), Ok(counter));
        prop_assert_eq!(ControlMessage::decode(&control.encode()), Ok(control));
    }

    /// A cut message is never taken for a whole one, and nothing that follows a whole one is passed over.
    #[test]
    fn no_message_is_the_beginning_of_another(context in context(), at in any::<prop::sample::Index>()) {
        let mut octets = context.encode().to_vec();
        prop_assert!(ContextMessage::decode(&octets[..at.index(octets.len())]).is_err());
        octets.push(0);
        prop_assert_eq!(ContextMessage::decode(&octets), Err(MessageError::Trailing));
    }

    #[test]
    fn no_octets_make_reading_panic(kind in 0..64_u8, octets in prop::collection::vec(any::<u8>(), 0..400)) {
        let octets = [vec![PROTOCOL, kind], octets].concat();
        let _ = Beat::decode(&octets);
        let _ = ContextMessage::decode(&octets);
        let _ = CounterMessage::decode(&octets);
        let _ = ControlMessage::decode(&octets);
    }
}

/// Another release must find every field in its place.
#[test]
fn messages_have_the_octets_that_they_had() {
    let name = Name::new("a").unwrap();
    let key = SaKey { direction: Key::Outbound, number: 0x0102_0304 };
    let delete = ContextMessage::Delete { number: 5, tunnel: name };
    assert_eq!(hex(&delete.encode()), "0111000000000000000500000001".to_owned() + "61");
    let reserve =
        CounterMessage::Reserve { number: 1, session: 2, items: vec![Reserved { key, number: 0x0a0b }] };
    let expected = "01200000000000000001000000000000000200010100000000010203040000000000000a0b";
    assert_eq!(hex(&reserve.encode()), expected);
    let cancel = ControlMessage::Transfer(Message::Cancel { peer: "100::3".parse().unwrap() });
    assert_eq!(hex(&cancel.encode()), "01312600001401000000000000000000000000000003");
    assert_eq!(ControlMessage::decode(&[1, 0x31]), Err(MessageError::Transfer(CxtpError::Truncated)));
    let load = Load { cpu_per_mille: 1000, drops_per_second: 2 };
    let octets = ControlMessage::Load(LoadReport { load, tunnels: 3 }).encode();
    assert_eq!(hex(&octets), "013203e800000000000000020000000000000003");
    let mut impossible = octets.to_vec();
    impossible[3] += 1;
    assert_eq!(ControlMessage::decode(&impossible), Err(MessageError::Value("the load of processors")));
    let links = LinkAddresses { outer: Some([2, 0, 0, 0, 0, 1]), inner: None };
    let octets = ControlMessage::Links(links).encode();
    assert_eq!(hex(&octets), "0135020000000001000000000000");
    let mut group = octets.to_vec();
    group[2] = 3;
    assert_eq!(ControlMessage::decode(&group), Err(MessageError::Value("a MAC address")));
    let beat = Heartbeat {
        incarnation: 1,
        sequence: 2,
        term: 3,
        settled: true,
        claims: Segments::one(8),
        heirs: vec![(NodeId::new(9).unwrap(), Segments::one(255))],
        ..Heartbeat::default()
    };
    let (none, zeros) = ("00".repeat(32), "00".repeat(30));
    let expected = format!(
        "0101{:016x}{:016x}{:016x}020001{zeros}{none}{none}000109{}80{}",
        1,
        2,
        3,
        "00".repeat(31),
        "0000"
    );
    assert_eq!(hex(&beat.encode()), expected);
}

#[test]
fn another_lane_is_told_apart() {
    let octets = Heartbeat::default().encode().to_vec();
    assert_eq!(ContextMessage::decode(&octets), Err(MessageError::Kind(1)));
}

/// One release after the other: N and N - 1 are read, and nothing else is.
#[test]
fn the_version_before_is_read_and_others_are_refused() {
    let delete = ContextMessage::Delete { number: 5, tunnel: Name::new("a").unwrap() };
    let staged = ControlMessage::Transfer(moves::reply(3, Segments::one(1), true));
    let acknowledge = CounterMessage::Acknowledge { number: 1, missing: Vec::new() };
    let as_of = |version: u8, octets: &[u8]| {
        let mut octets = octets.to_vec();
        write_as(version, &mut octets);
        octets
    };
    for version in [PROTOCOL, PROTOCOL - 1] {
        let beat = Beat::decode(&as_of(version, &Heartbeat::default().encode()));
        assert_eq!(beat, Ok(Beat::Heartbeat(Heartbeat::default())));
        assert_eq!(ContextMessage::decode(&as_of(version, &delete.encode())), Ok(delete.clone()));
        assert_eq!(ControlMessage::decode(&as_of(version, &staged.encode())), Ok(staged.clone()));
        assert_eq!(CounterMessage::decode(&as_of(version, &acknowledge.encode())), Ok(acknowledge.clone()));
    }
    for version in [PROTOCOL.wrapping_sub(2), PROTOCOL + 1, PROTOCOL + 2] {
        let refused = ContextMessage::decode(&as_of(version, &delete.encode()));
        assert_eq!(refused, Err(MessageError::Version(version)));
        assert_eq!(
            Beat::decode(&as_of(version, &Heartbeat::default().encode())).unwrap_err(),
            MessageError::Version(version)
        );
    }
}

#[test]
fn a_list_that_is_too_long_is_not_read() {
    let items =
        vec![Reserved { key: SaKey { direction: Key::Inbound, number: 1 }, number: 1 }; MAX_RESERVED + 1];
    let octets = CounterMessage::Reserve { number: 1, session: 1, items }.encode();
    assert_eq!(CounterMessage::decode(&octets), Err(MessageError::TooMany("reservations")));
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |text, octet| text + &format!("{octet:02x}"))
}
