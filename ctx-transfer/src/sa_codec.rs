//! SAs, counters, selectors and policies as CBOR maps.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use baton_sad::{
    AddressRange, Counters, DfPolicy, Direction, DscpPolicy, Key, Name, ReplayWindow, Sa, Selector,
    Selectors, Senders, Suite,
};
use ciborium::Value;

use crate::codec::{CodecError, Fields, map, sender, unsigned};
use crate::context::{PolicyEntry, SaContext, Unknown};

const SA: &str = "an SA";
const COUNTERS: &str = "an SA's counters";
const SELECTOR: &str = "a selector";
const POLICY: &str = "a policy";
const SENDER: &str = "a sender";

/// Words of the largest window: 4096 sequence numbers, and one word more.
const MAX_WINDOW_WORDS: usize = 4096 / 64 + 1;

mod key {
    pub(super) const NAME: i64 = 1;
    pub(super) const DIRECTION: i64 = 2;
    pub(super) const SPI: i64 = 3;
    pub(super) const PEER_SPI: i64 = 4;
    pub(super) const REQID: i64 = 5;
    pub(super) const SEGMENT: i64 = 6;
    pub(super) const SUITE: i64 = 7;
    pub(super) const KEY: i64 = 8;
    pub(super) const SOURCE: i64 = 9;
    pub(super) const DESTINATION: i64 = 10;
    pub(super) const SELECTORS: i64 = 11;
    pub(super) const EXTENDED_SEQUENCE: i64 = 12;
    pub(super) const REPLAY_WINDOW: i64 = 13;
    pub(super) const DSCP: i64 = 14;
    pub(super) const DF: i64 = 15;
    pub(super) const PATH_MTU: i64 = 16;
    pub(super) const SENDERS: i64 = 17;
    pub(super) const COUNTERS: i64 = 18;
}

pub(crate) fn sa_to_value(context: &SaContext) -> Value {
    let sa = &context.sa;
    let senders = sa.senders.iter().map(|sender| {
        map(
            vec![(1, Value::from(sender.cluster.get())), (2, Value::from(sender.node.get()))],
            &Unknown::default(),
        )
    });
    let mut fields = vec![
        (key::NAME, Value::Text(sa.name.as_str().to_owned())),
        (key::DIRECTION, Value::from(u8::from(sa.direction == Direction::Outbound))),
        (key::SPI, Value::from(sa.spi)),
        (key::PEER_SPI, Value::from(sa.peer_spi)),
        (key::REQID, Value::from(sa.reqid)),
        (key::SEGMENT, Value::from(sa.segment)),
        (key::SUITE, Value::Text(sa.suite.name().to_owned())),
        (key::KEY, Value::Bytes(sa.key.expose().to_vec())),
        (key::SOURCE, address_to_value(sa.source)),
        (key::DESTINATION, address_to_value(sa.destination)),
        (key::SELECTORS, selectors_to_value(&sa.selectors)),
        (key::EXTENDED_SEQUENCE, Value::Bool(sa.extended_sequence)),
        (key::REPLAY_WINDOW, Value::from(sa.replay_window)),
        (key::DF, Value::from(df_number(sa.df))),
        (key::PATH_MTU, Value::from(sa.path_mtu)),
        (key::SENDERS, Value::Array(senders.collect())),
        (key::COUNTERS, counters_to_value(&context.counters)),
    ];
    // Absent: copied from the inner header.
    if let DscpPolicy::Set(dscp) = sa.dscp {
        fields.push((key::DSCP, Value::from(dscp)));
    }
    map(fields, &context.unknown)
}

pub(crate) fn sa_from_value(value: &Value) -> Result<SaContext, CodecError> {
    let mut fields = Fields::new(SA, value)?;
    let wrong = |field, expected| CodecError::Field { map: SA, field, expected };
    let sa = Sa {
        name: Name::new(fields.text(key::NAME)?)?,
        direction: match fields.unsigned(key::DIRECTION, 1)? {
            0 => Direction::Inbound,
            _ => Direction::Outbound,
        },
        spi: fields.unsigned(key::SPI, u32::MAX.into())? as u32,
        peer_spi: fields.unsigned(key::PEER_SPI, u32::MAX.into())? as u32,
        reqid: fields.unsigned(key::REQID, u32::MAX.into())? as u32,
        segment: fields.unsigned(key::SEGMENT, 255)? as u8,
        suite: Suite::from_name(fields.text(key::SUITE)?)
            .ok_or(wrong(key::SUITE, "a suite that this release knows"))?,
        key: Key::new(fields.octets(key::KEY)?)?,
        source: address_from_value(fields.take(key::SOURCE)?).ok_or(wrong(key::SOURCE, "an IP address"))?,
        destination: address_from_value(fields.take(key::DESTINATION)?)
            .ok_or(wrong(key::DESTINATION, "an IP address"))?,
        selectors: selectors_from_value(fields.list(key::SELECTORS, 1..=4, "1 to 4 selectors")?)?,
        extended_sequence: fields.flag(key::EXTENDED_SEQUENCE)?,
        replay_window: fields.unsigned(key::REPLAY_WINDOW, 4096)? as u16,
        dscp: match fields.optional(key::DSCP) {
            None => DscpPolicy::Copy,
            Some(dscp) => {
                DscpPolicy::Set(unsigned(dscp, 63).ok_or(wrong(key::DSCP, "a DSCP from 0 to 63"))? as u8)
            }
        },
        df: df_policy(fields.unsigned(key::DF, 2)?),
        path_mtu: fields.unsigned(key::PATH_MTU, u16::MAX.into())? as u16,
        senders: senders_from_value(fields.list(key::SENDERS, 0..=Senders::MAX, "at most 8 senders")?)?,
    };
    let counters = counters_from_value(fields.take(key::COUNTERS)?)?;
    sa.validate()?;
    Ok(SaContext { sa, counters, unknown: fields.unknown() })
}

fn df_number(df: DfPolicy) -> u8 {
    match df {
        DfPolicy::Copy => 0,
        DfPolicy::Set => 1,
        DfPolicy::Clear => 2,
    }
}

fn df_policy(number: u64) -> DfPolicy {
    match number {
        0 => DfPolicy::Copy,
        1 => DfPolicy::Set,
        _ => DfPolicy::Clear,
    }
}

fn senders_from_value(items: &[Value]) -> Result<Senders, CodecError> {
    let mut senders = Vec::with_capacity(items.len());
    for item in items {
        let mut fields = Fields::new(SENDER, item)?;
        senders.push(sender(fields.unsigned(1, (1 << 56) - 1)?, fields.node(2)?));
    }
    Ok(Senders::new(senders)?)
}

fn counters_to_value(counters: &Counters) -> Value {
    let words: Vec<Value> = counters.window.words.iter().map(|word| Value::from(*word)).collect();
    map(
        vec![
            (1, Value::from(counters.sequence)),
            (2, Value::from(counters.window.top)),
            (3, Value::Array(words)),
            (4, Value::from(counters.packets)),
            (5, Value::from(counters.octets)),
            (6, Value::from(counters.replay_drops)),
            (7, Value::from(counters.integrity_failures)),
        ],
        &Unknown::default(),
    )
}

fn counters_from_value(value: &Value) -> Result<Counters, CodecError> {
    let mut fields = Fields::new(COUNTERS, value)?;
    let mut number = |field| fields.unsigned(field, u64::MAX);
    let (sequence, top) = (number(1)?, number(2)?);
    let (packets, octets, replay_drops, integrity_failures) =
        (number(4)?, number(5)?, number(6)?, number(7)?);
    let words = fields.list(3, 0..=MAX_WINDOW_WORDS, "at most 65 words of a window")?;
    let words = words.iter().map(|word| unsigned(word, u64::MAX)).collect::<Option<Vec<u64>>>();
    let wrong = CodecError::Field { map: COUNTERS, field: 3, expected: "a list of unsigned integers" };
    let window = ReplayWindow { top, words: words.ok_or(wrong)? };
    Ok(Counters { sequence, window, packets, octets, replay_drops, integrity_failures })
}

fn selectors_to_value(selectors: &Selectors) -> Value {
    let selector = |selector: &Selector| {
        let mut fields = vec![
            (1, range_to_value(&selector.local)),
            (2, range_to_value(&selector.remote)),
            (4, ports_to_value(&selector.local_ports)),
            (5, ports_to_value(&selector.remote_ports)),
        ];
        // Absent: any protocol.
        if let Some(protocol) = selector.protocol {
            fields.push((3, Value::from(protocol)));
        }
        map(fields, &Unknown::default())
    };
    Value::Array(selectors.iter().map(selector).collect())
}

fn selectors_from_value(items: &[Value]) -> Result<Selectors, CodecError> {
    let selectors = items.iter().map(selector_from_value).collect::<Result<Vec<_>, _>>()?;
    Ok(Selectors::new(selectors)?)
}

fn selector_from_value(value: &Value) -> Result<Selector, CodecError> {
    let mut fields = Fields::new(SELECTOR, value)?;
    let wrong = |field, expected| CodecError::Field { map: SELECTOR, field, expected };
    let mut range = |field| range_from_value(fields.take(field)?, field);
    let (local, remote) = (range(1)?, range(2)?);
    let mut ports = |field| ports_from_value(fields.take(field)?).ok_or(wrong(field, "a range of ports"));
    let (local_ports, remote_ports) = (ports(4)?, ports(5)?);
    let protocol = match fields.optional(3) {
        None => None,
        Some(protocol) => Some(unsigned(protocol, 255).ok_or(wrong(3, "a protocol from 0 to 255"))? as u8),
    };
    Ok(Selector { local, remote, protocol, local_ports, remote_ports })
}

fn range_to_value(range: &AddressRange) -> Value {
    Value::Array(vec![address_to_value(range.start()), address_to_value(range.end())])
}

fn range_from_value(value: &Value, field: i64) -> Result<AddressRange, CodecError> {
    let wrong = CodecError::Field { map: SELECTOR, field, expected: "a pair of IP addresses" };
    let Some([start, end]) = value.as_array().map(Vec::as_slice) else { return Err(wrong) };
    let (Some(start), Some(end)) = (address_from_value(start), address_from_value(end)) else {
        return Err(wrong);
    };
    Ok(AddressRange::new(start, end)?)
}

fn ports_to_value(ports: &std::ops::RangeInclusive<u16>) -> Value {
    Value::Array(vec![Value::from(*ports.start()), Value::from(*ports.end())])
}

fn ports_from_value(value: &Value) -> Option<std::ops::RangeInclusive<u16>> {
    let [start, end] = value.as_array()?.as_slice() else { return None };
    let port = |value| unsigned(value, u16::MAX.into()).map(|port| port as u16);
    Some(port(start)?..=port(end)?)
}

fn address_to_value(address: IpAddr) -> Value {
    Value::Bytes(match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    })
}

fn address_from_value(value: &Value) -> Option<IpAddr> {
    let octets = value.as_bytes()?.as_slice();
    let v4 = || <[u8; 4]>::try_from(octets).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    let v6 = || <[u8; 16]>::try_from(octets).ok().map(|octets| IpAddr::V6(Ipv6Addr::from(octets)));
    v4().or_else(v6)
}

pub(crate) fn policy_to_value(policy: &PolicyEntry) -> Value {
    map(vec![(1, Value::from(policy.reqid)), (2, selectors_to_value(&policy.selectors))], &policy.unknown)
}

pub(crate) fn policy_from_value(value: &Value) -> Result<PolicyEntry, CodecError> {
    let mut fields = Fields::new(POLICY, value)?;
    let reqid = fields.unsigned(1, u32::MAX.into())? as u32;
    let selectors = selectors_from_value(fields.list(2, 1..=4, "1 to 4 selectors")?)?;
    Ok(PolicyEntry { reqid, selectors, unknown: fields.unknown() })
}
