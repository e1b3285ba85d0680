//! Any message that the codec can write.

use std::net::IpAddr;

use proptest::collection::vec;
use proptest::prelude::*;

use crate::wire::*;

fn octets(range: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), range)
}

pub(super) fn header() -> impl Strategy<Value = Header> {
    let spis = (1..=u64::MAX, any::<u64>());
    (spis, any::<u8>(), any::<bool>(), any::<bool>(), any::<u32>()).prop_map(
        |((initiator_spi, responder_spi), exchange, initiator, response, message_id)| Header {
            initiator_spi,
            responder_spi,
            exchange: ExchangeType(exchange),
            flags: Flags { initiator, response },
            message_id,
        },
    )
}

fn transform() -> impl Strategy<Value = Transform> {
    (any::<u8>(), any::<u16>(), any::<Option<u16>>())
        .prop_map(|(kind, id, key_length)| Transform::new(TransformType(kind), id, key_length))
}

fn proposal() -> impl Strategy<Value = Proposal> {
    (any::<u8>(), any::<u8>(), octets(0..=8), vec(transform(), 0..=40)).prop_map(
        |(number, protocol, spi, transforms)| Proposal {
            number,
            protocol: ProtocolId(protocol),
            spi,
            transforms,
        },
    )
}

fn traffic_selectors() -> impl Strategy<Value = Vec<TrafficSelector>> {
    let addresses = prop_oneof![
        any::<[[u8; 4]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
        any::<[[u8; 16]; 2]>().prop_map(|pair| pair.map(IpAddr::from)),
    ];
    let selector = (any::<u8>(), any::<(u16, u16)>(), addresses).prop_map(
        |(protocol, (start_port, end_port), [first, last])| TrafficSelector {
            protocol,
            start_port,
            end_port,
            first,
            last,
        },
    );
    vec(selector, 0..=255)
}

fn identification() -> impl Strategy<Value = Identification> {
    octets(4..=80).prop_map(|body| Identification::parse(&body).expect("four octets or more"))
}

fn notify() -> impl Strategy<Value = Notify> {
    (any::<u8>(), octets(0..=255), any::<u16>(), octets(0..=64)).prop_map(|(protocol, spi, kind, data)| {
        Notify { protocol: ProtocolId(protocol), spi, kind: NotifyType(kind), data }
    })
}

fn delete() -> impl Strategy<Value = Delete> {
    prop_oneof![
        Just(Delete { protocol: ProtocolId::IKE, spis: Vec::new() }),
        vec(any::<u32>(), 0..=100).prop_map(|spis| Delete { protocol: ProtocolId::ESP, spis }),
    ]
}

fn configuration() -> impl Strategy<Value = Configuration> {
    let attribute = (0..0x8000_u16, octets(0..=40))
        .prop_map(|(kind, value)| Attribute { kind: AttributeType(kind), value });
    (any::<u8>(), vec(attribute, 0..=20))
        .prop_map(|(kind, attributes)| Configuration { kind: ConfigurationType(kind), attributes })
}

/// A type that this release does not know.
pub(super) fn unknown_type() -> impl Strategy<Value = PayloadType> {
    (1..=u8::MAX).prop_map(PayloadType).prop_filter("unknown", |kind| !kind.is_known())
}

pub(super) fn payload() -> impl Strategy<Value = Payload> {
    let data = || octets(0..=300);
    prop_oneof![
        vec(proposal(), 1..=4).prop_map(Payload::SecurityAssociation),
        (any::<u16>(), octets(1..=512)).prop_map(|(group, data)| Payload::KeyExchange { group, data }),
        identification().prop_map(Payload::IdentificationInitiator),
        identification().prop_map(Payload::IdentificationResponder),
        (any::<u8>(), data()).prop_map(|(encoding, data)| Payload::Certificate {
            encoding: CertificateEncoding(encoding),
            data
        }),
        (any::<u8>(), data()).prop_map(|(encoding, authorities)| Payload::CertificateRequest {
            encoding: CertificateEncoding(encoding),
            authorities
        }),
        (any::<u8>(), data()).prop_map(|(method, data)| Payload::Authentication {
            method: AuthenticationMethod(method),
            data
        }),
        octets(16..=256).prop_map(Payload::Nonce),
        notify().prop_map(Payload::Notify),
        delete().prop_map(Payload::Delete),
        data().prop_map(Payload::VendorId),
        traffic_selectors().prop_map(Payload::TrafficSelectorsInitiator),
        traffic_selectors().prop_map(Payload::TrafficSelectorsResponder),
        configuration().prop_map(Payload::Configuration),
        data().prop_map(Payload::Eap),
        octets(1..=256).prop_map(Payload::PuzzleSolution),
        (unknown_type(), data()).prop_map(|(kind, data)| Payload::Unknown { kind, data }),
    ]
}
