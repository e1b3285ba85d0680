//! CBOR to context: strict, bounded, without panics.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use baton_sad::{
    AddressRange, Bounds, ClusterId, Counters, DfPolicy, Direction, DscpPolicy, Key, Lifetime, Mode, Name,
    NodeId, ReplayWindow, Sa, SaError, Selector, Selectors, Sender, Senders, Suite, TfcPadding,
    UdpEncapsulation,
};
use thiserror::Error;

use crate::CONTEXT_VERSION;
use crate::cbor::{CborError, Reader, Unknown};
use crate::context::{Context, ContextSa, IkePart, Kind, MAX_PARTS, Origin, Policy, PolicyAction};
use crate::encode::keys;

/// Words of the largest window: 4096 / 64, and one that the window ends in.
const MAX_WINDOW_WORDS: usize = 65;

/// Why octets are not a context.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Not the CBOR that was expected.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A context of a later release.
    #[error(
        "the context has version {0}, this release reads version {CONTEXT_VERSION}; use the release that made it"
    )]
    Version(u64),
    /// A field that every context has is absent.
    #[error("the field `{0}` is missing")]
    Missing(&'static str),
    /// A value that the field cannot have.
    #[error("the field `{0}` has an impossible value")]
    Value(&'static str),
    /// The parts do not make an SA.
    #[error(transparent)]
    Sa(#[from] SaError),
}

type Result<T> = std::result::Result<T, DecodeError>;

impl Context {
    /// Reads one context; the whole input must be it.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(octets: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(octets);
        let context = context(&mut reader)?;
        reader.finish()?;
        Ok(context)
    }
}

fn context(reader: &mut Reader<'_>) -> Result<Context> {
    let (mut version, mut kind, mut name, mut origin, mut taken_at) = (None, None, None, None, None);
    let (mut sas, mut policies, mut ike) = (None, None, None);
    let unknown = reader.map(|r, key| {
        match key {
            keys::context::VERSION => version = Some(check_version(r.unsigned()?)?),
            keys::context::KIND => kind = Some(read_kind(r.unsigned()?)?),
            keys::context::NAME => name = Some(read_name(r.text()?)?),
            keys::context::ORIGIN => origin = Some(sender(r)?),
            keys::context::TAKEN_AT => taken_at = Some(r.unsigned()?),
            // Key 2 stands before key 5.
            keys::context::SAS => sas = Some(r.array(MAX_PARTS as u64, |r| sa(r, present(name, "name")?))?),
            keys::context::POLICIES => policies = Some(r.array(MAX_PARTS as u64, policy)?),
            keys::context::IKE => ike = Some(ike_part(r.bytes()?)?),
            _ => return Ok::<_, DecodeError>(false),
        }
        Ok(true)
    })?;
    present(version, "version")?;
    let origin = present(origin, "origin")?;
    let sas = present(sas, "sas")?;
    if sas.is_empty() && ike.is_none() {
        return Err(DecodeError::Value("sas"));
    }
    Ok(Context {
        kind: present(kind, "kind")?,
        name: present(name, "name")?,
        origin: Origin { cluster: origin.cluster, node: origin.node },
        taken_at: present(taken_at, "taken_at")?,
        sas,
        policies: present(policies, "policies")?,
        ike,
        unknown,
    })
}

fn ike_part(octets: &[u8]) -> Result<IkePart> {
    IkePart::new(octets.to_vec()).ok_or(DecodeError::Value("ike"))
}

fn present<T>(value: Option<T>, field: &'static str) -> Result<T> {
    value.ok_or(DecodeError::Missing(field))
}

/// An integer in the range of its field.
fn narrow<T: TryFrom<u64>>(value: u64, field: &'static str) -> Result<T> {
    T::try_from(value).map_err(|_| DecodeError::Value(field))
}

fn check_version(version: u64) -> Result<()> {
    if version == CONTEXT_VERSION { Ok(()) } else { Err(DecodeError::Version(version)) }
}

fn read_kind(kind: u64) -> Result<Kind> {
    match kind {
        0 => Ok(Kind::Copy),
        1 => Ok(Kind::Move),
        _ => Err(DecodeError::Value("kind")),
    }
}

/// A name is shown on terminals, which take control characters for commands.
fn read_name(name: &str) -> Result<Name> {
    if name.chars().any(char::is_control) {
        return Err(DecodeError::Value("name"));
    }
    Ok(Name::new(name)?)
}

/// Encapsulation, or that there is none.
struct ReadEncapsulation(Option<UdpEncapsulation>);

/// The fields of an SA as they come in.
#[derive(Default)]
struct Parts {
    direction: Option<Direction>,
    spi: Option<u32>,
    peer_spi: Option<u32>,
    reqid: Option<u32>,
    segment: Option<u8>,
    suite: Option<Suite>,
    key: Option<Key>,
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    selectors: Option<Selectors>,
    extended_sequence: Option<bool>,
    replay_window: Option<u16>,
    dscp: Option<DscpPolicy>,
    df: Option<DfPolicy>,
    path_mtu: Option<u16>,
    senders: Option<Senders>,
    counters: Option<(Counters, Unknown)>,
    mode: Option<Mode>,
    lifetime: Option<Lifetime>,
    encapsulation: Option<ReadEncapsulation>,
    tfc_padding: Option<TfcPadding>,
    clamp_mss: Option<bool>,
}

fn sa(reader: &mut Reader<'_>, name: Name) -> Result<ContextSa> {
    let mut parts = Parts::default();
    let unknown = reader.map(|r, key| sa_field(r, key, &mut parts))?;
    let (counters, unknown_counters) = present(parts.counters.take(), "counters")?;
    let sa = Sa {
        name,
        direction: present(parts.direction, "direction")?,
        spi: present(parts.spi, "spi")?,
        peer_spi: present(parts.peer_spi, "peer_spi")?,
        reqid: present(parts.reqid, "reqid")?,
        mode: present(parts.mode, "mode")?,
        segment: present(parts.segment, "segment")?,
        suite: present(parts.suite, "suite")?,
        key: present(parts.key, "key")?,
        source: present(parts.source, "source")?,
        destination: present(parts.destination, "destination")?,
        encapsulation: present(parts.encapsulation, "encapsulation")?.0,
        selectors: present(parts.selectors, "selectors")?,
        extended_sequence: present(parts.extended_sequence, "extended_sequence")?,
        replay_window: present(parts.replay_window, "replay_window")?,
        dscp: present(parts.dscp, "dscp")?,
        df: present(parts.df, "df")?,
        path_mtu: present(parts.path_mtu, "path_mtu")?,
        clamp_mss: present(parts.clamp_mss, "clamp_mss")?,
        tfc_padding: present(parts.tfc_padding, "tfc_padding")?,
        lifetime: present(parts.lifetime, "lifetime")?,
        senders: present(parts.senders, "senders")?,
    };
    sa.validate()?;
    Ok(ContextSa { sa, counters, unknown, unknown_counters })
}

fn sa_field(r: &mut Reader<'_>, key: u64, parts: &mut Parts) -> Result<bool> {
    match key {
        keys::sa::DIRECTION => parts.direction = Some(direction(r.unsigned()?)?),
        keys::sa::SPI => parts.spi = Some(narrow(r.unsigned()?, "spi")?),
        keys::sa::PEER_SPI => parts.peer_spi = Some(narrow(r.unsigned()?, "peer_spi")?),
        keys::sa::REQID => parts.reqid = Some(narrow(r.unsigned()?, "reqid")?),
        keys::sa::SEGMENT => parts.segment = Some(narrow(r.unsigned()?, "segment")?),
        keys::sa::SUITE => parts.suite = Some(suite(r.unsigned()?)?),
        keys::sa::KEY => parts.key = Some(Key::new(r.bytes()?)?),
        keys::sa::SOURCE => parts.source = Some(address(r)?),
        keys::sa::DESTINATION => parts.destination = Some(address(r)?),
        keys::sa::SELECTORS => parts.selectors = Some(selectors(r)?),
        keys::sa::EXTENDED_SEQUENCE => parts.extended_sequence = Some(r.boolean()?),
        keys::sa::REPLAY_WINDOW => parts.replay_window = Some(narrow(r.unsigned()?, "replay_window")?),
        keys::sa::DSCP => parts.dscp = Some(dscp(r.optional()?)?),
        keys::sa::DF => parts.df = Some(df(r.unsigned()?)?),
        keys::sa::PATH_MTU => parts.path_mtu = Some(narrow(r.unsigned()?, "path_mtu")?),
        keys::sa::SENDERS => parts.senders = Some(Senders::new(r.array(Senders::MAX as u64, sender)?)?),
        keys::sa::COUNTERS => parts.counters = Some(counters(r)?),
        keys::sa::MODE => parts.mode = Some(mode(r.unsigned()?)?),
        keys::sa::LIFETIME => parts.lifetime = Some(lifetime(r)?),
        keys::sa::ENCAPSULATION => parts.encapsulation = Some(ReadEncapsulation(encapsulation(r)?)),
        keys::sa::TFC_PADDING => parts.tfc_padding = Some(tfc_padding(narrow(r.unsigned()?, "tfc_padding")?)),
        keys::sa::CLAMP_MSS => parts.clamp_mss = Some(r.boolean()?),
        _ => return Ok(false),
    }
    Ok(true)
}

fn direction(value: u64) -> Result<Direction> {
    match value {
        0 => Ok(Direction::Inbound),
        1 => Ok(Direction::Outbound),
        _ => Err(DecodeError::Value("direction")),
    }
}

fn mode(value: u64) -> Result<Mode> {
    match value {
        0 => Ok(Mode::Tunnel),
        1 => Ok(Mode::Transport),
        _ => Err(DecodeError::Value("mode")),
    }
}

fn lifetime(reader: &mut Reader<'_>) -> Result<Lifetime> {
    let bounds = reader.array(2, bounds)?;
    let &[soft, hard] = bounds.as_slice() else { return Err(DecodeError::Value("lifetime")) };
    Ok(Lifetime { soft, hard })
}

fn bounds(reader: &mut Reader<'_>) -> Result<Bounds> {
    let fields = reader.array::<_, DecodeError>(4, |r| Ok(r.unsigned()?))?;
    let &[octets, packets, sequence, expires_at] = fields.as_slice() else {
        return Err(DecodeError::Value("lifetime"));
    };
    Ok(Bounds { octets, packets, sequence, expires_at })
}

fn encapsulation(reader: &mut Reader<'_>) -> Result<Option<UdpEncapsulation>> {
    let fields = reader.array(4, |r| narrow::<u16>(r.unsigned()?, "encapsulation"))?;
    match *fields.as_slice() {
        [] => Ok(None),
        [source_port, destination_port, follows_peer @ 0..=1, keepalive_seconds] => {
            Ok(Some(UdpEncapsulation {
                source_port,
                destination_port,
                follows_peer: follows_peer == 1,
                keepalive_seconds,
            }))
        }
        _ => Err(DecodeError::Value("encapsulation")),
    }
}

fn tfc_padding(value: u16) -> TfcPadding {
    match value {
        0 => TfcPadding::Off,
        u16::MAX => TfcPadding::PathMtu,
        octets => TfcPadding::To(octets),
    }
}

fn suite(value: u64) -> Result<Suite> {
    Suite::from_number(narrow(value, "suite")?).ok_or(DecodeError::Value("suite"))
}

fn dscp(value: Option<u64>) -> Result<DscpPolicy> {
    match value {
        None => Ok(DscpPolicy::Copy),
        Some(value) => Ok(DscpPolicy::Set(narrow(value, "dscp")?)),
    }
}

fn df(value: u64) -> Result<DfPolicy> {
    match value {
        0 => Ok(DfPolicy::Copy),
        1 => Ok(DfPolicy::Set),
        2 => Ok(DfPolicy::Clear),
        _ => Err(DecodeError::Value("df")),
    }
}

fn sender(reader: &mut Reader<'_>) -> Result<Sender> {
    let numbers = reader.array::<_, DecodeError>(2, |r| Ok(r.unsigned()?))?;
    let &[cluster, node] = numbers.as_slice() else { return Err(DecodeError::Value("node")) };
    if ClusterId::new(cluster).get() != cluster {
        return Err(DecodeError::Value("cluster"));
    }
    let node = NodeId::new(narrow(node, "node")?).ok_or(DecodeError::Value("node"))?;
    Ok(Sender { cluster: ClusterId::new(cluster), node })
}

fn counters(reader: &mut Reader<'_>) -> Result<(Counters, Unknown)> {
    let mut read = Counters::default();
    let mut seen = 0;
    let unknown = reader.map(|r, key| {
        match key {
            keys::counters::SEQUENCE => read.sequence = r.unsigned()?,
            keys::counters::WINDOW_TOP => read.window.top = r.unsigned()?,
            keys::counters::WINDOW => read.window = window(read.window.top, r.bytes()?)?,
            keys::counters::PACKETS => read.packets = r.unsigned()?,
            keys::counters::OCTETS => read.octets = r.unsigned()?,
            keys::counters::REPLAY_DROPS => read.replay_drops = r.unsigned()?,
            keys::counters::INTEGRITY_FAILURES => read.integrity_failures = r.unsigned()?,
            _ => return Ok::<_, DecodeError>(false),
        }
        seen += 1;
        Ok(true)
    })?;
    // Keys ascend, so each was seen once.
    if seen == keys::counters::COUNT { Ok((read, unknown)) } else { Err(DecodeError::Missing("counters")) }
}

fn window(top: u64, octets: &[u8]) -> Result<ReplayWindow> {
    let (words, rest) = octets.as_chunks::<8>();
    if !rest.is_empty() || words.len() > MAX_WINDOW_WORDS {
        return Err(DecodeError::Value("window"));
    }
    Ok(ReplayWindow { top, words: words.iter().map(|word| u64::from_be_bytes(*word)).collect() })
}

fn address(reader: &mut Reader<'_>) -> Result<IpAddr> {
    let octets = reader.bytes()?;
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).map_err(|_| DecodeError::Value("address"))
}

fn address_range(reader: &mut Reader<'_>) -> Result<AddressRange> {
    let ends = reader.array(2, address)?;
    let &[start, end] = ends.as_slice() else { return Err(DecodeError::Value("address range")) };
    Ok(AddressRange::new(start, end)?)
}

fn ports(reader: &mut Reader<'_>) -> Result<RangeInclusive<u16>> {
    let ends = reader.array::<u16, DecodeError>(2, |r| narrow(r.unsigned()?, "ports"))?;
    match *ends.as_slice() {
        [0, u16::MAX] => Err(CborError::NotDeterministic.into()),
        [first, last] => Ok(first..=last),
        _ => Err(DecodeError::Value("ports")),
    }
}

fn selectors(reader: &mut Reader<'_>) -> Result<Selectors> {
    Ok(Selectors::new(reader.array(Selectors::MAX as u64, selector)?)?)
}

/// Selectors decide what is let through, so that an unknown entry is refused rather than kept.
fn selector(reader: &mut Reader<'_>) -> Result<Selector> {
    let (mut local, mut remote, mut protocol) = (None, None, None);
    let (mut local_ports, mut remote_ports) = (0..=u16::MAX, 0..=u16::MAX);
    let unknown = reader.map(|r, key| {
        match key {
            keys::selector::LOCAL => local = Some(address_range(r)?),
            keys::selector::REMOTE => remote = Some(address_range(r)?),
            keys::selector::PROTOCOL => protocol = Some(narrow(r.unsigned()?, "protocol")?),
            keys::selector::LOCAL_PORTS => local_ports = ports(r)?,
            keys::selector::REMOTE_PORTS => remote_ports = ports(r)?,
            _ => return Ok::<_, DecodeError>(false),
        }
        Ok(true)
    })?;
    if unknown != Unknown::default() {
        return Err(DecodeError::Value("selector"));
    }
    let (local, remote) = (present(local, "local")?, present(remote, "remote")?);
    Ok(Selector { local, remote, protocol, local_ports, remote_ports })
}

fn policy(reader: &mut Reader<'_>) -> Result<Policy> {
    let (mut action, mut reqid, mut segment, mut covered) = (None, None, None, None);
    let unknown = reader.map(|r, key| {
        match key {
            keys::policy::ACTION => action = Some(policy_action(r.unsigned()?)?),
            keys::policy::REQID => reqid = Some(narrow(r.unsigned()?, "reqid")?),
            keys::policy::SEGMENT => segment = Some(narrow(r.unsigned()?, "segment")?),
            keys::policy::SELECTORS => covered = Some(selectors(r)?),
            _ => return Ok::<_, DecodeError>(false),
        }
        Ok(true)
    })?;
    Ok(Policy {
        action: present(action, "action")?,
        reqid: present(reqid, "reqid")?,
        segment: present(segment, "segment")?,
        selectors: present(covered, "selectors")?,
        unknown,
    })
}

fn policy_action(value: u64) -> Result<PolicyAction> {
    match value {
        0 => Ok(PolicyAction::Protect),
        1 => Ok(PolicyAction::Bypass),
        2 => Ok(PolicyAction::Discard),
        _ => Err(DecodeError::Value("action")),
    }
}
