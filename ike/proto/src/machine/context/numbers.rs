//! Values as numbers and text, both ways.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::stored::{StoredPath, StoredSelector, StoredSuite, Time};
use crate::crypto::{AdditionalMethods, Group, KeyExchangeMethod};
use crate::host::{DownReason, Now, Path};
use crate::machine::ike_sa::Fate;
use crate::machine::lifetime;
use crate::proposal::{EspEncryption, EspIntegrity, EspSuite};
use crate::selector::TrafficSelector;

/// What a context says that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Impossible(pub(super) &'static str);

pub(super) fn unix(time: Duration) -> Time {
    Time { seconds: time.as_secs(), nanoseconds: time.subsec_nanos() }
}

pub(super) fn from_time(time: Time) -> Duration {
    Duration::from_secs(time.seconds).saturating_add(Duration::from_nanos(time.nanoseconds.into()))
}

/// A monotonic time.
pub(super) fn time(now: Now, at: Duration) -> Time {
    unix(lifetime::to_unix(now, at))
}

/// On the monotonic clock of the reader.
pub(super) fn monotonic(now: Now, at: Time) -> Duration {
    lifetime::from_unix(now, from_time(at))
}

pub(super) fn texts(addresses: &[IpAddr]) -> Vec<String> {
    addresses.iter().map(ToString::to_string).collect()
}

pub(super) fn addresses(texts: &[String]) -> Result<Vec<IpAddr>, Impossible> {
    texts.iter().map(|text| text.parse().map_err(|_| Impossible("an address"))).collect()
}

pub(super) fn stored_path(path: Path) -> StoredPath {
    StoredPath { local: path.local.to_string(), remote: path.remote.to_string(), marked: path.marked }
}

pub(super) fn path(stored: &StoredPath) -> Result<Path, Impossible> {
    let end = |text: &str| text.parse::<SocketAddr>().map_err(|_| Impossible("an outer address"));
    Ok(Path { local: end(&stored.local)?, remote: end(&stored.remote)?, marked: stored.marked })
}

pub(super) fn stored_selectors(selectors: &[TrafficSelector]) -> Vec<StoredSelector> {
    let stored = |selector: &TrafficSelector| StoredSelector {
        protocol: selector.protocol,
        start_port: *selector.ports.start(),
        end_port: *selector.ports.end(),
        first: selector.first.to_string(),
        last: selector.last.to_string(),
    };
    selectors.iter().map(stored).collect()
}

pub(super) fn selectors(stored: &[StoredSelector]) -> Result<Vec<TrafficSelector>, Impossible> {
    stored.iter().map(selector).collect()
}

fn selector(stored: &StoredSelector) -> Result<TrafficSelector, Impossible> {
    let address = |text: &str| text.parse().map_err(|_| Impossible("an address of a selector"));
    let (first, last) = (address(&stored.first)?, address(&stored.last)?);
    let ports = stored.start_port..=stored.end_port;
    let selector = TrafficSelector { protocol: stored.protocol, ports, first, last };
    Some(selector).filter(TrafficSelector::is_possible).ok_or(Impossible("a selector"))
}

pub(super) fn stored_suite(suite: EspSuite) -> StoredSuite {
    StoredSuite {
        encryption: suite.encryption.cipher().id(),
        key_length: suite.encryption.key_length_attribute().unwrap_or(0),
        integrity: suite.integrity.map_or(0, EspIntegrity::id),
        extended_sequence: suite.extended_sequence,
        group: suite.group.map_or(0, Group::id),
        additional: stored_additional(suite.additional),
    }
}

pub(super) fn suite(stored: &StoredSuite) -> Result<EspSuite, Impossible> {
    let unknown = Impossible("an algorithm");
    let some = |id: u16| Some(id).filter(|id| *id != 0);
    let integrity = some(stored.integrity).map(|id| EspIntegrity::from_id(id).ok_or(unknown));
    let group = some(stored.group).map(|id| Group::from_id(id).ok_or(unknown));
    Ok(EspSuite {
        encryption: EspEncryption::from_id(stored.encryption, some(stored.key_length)).ok_or(unknown)?,
        integrity: integrity.transpose()?,
        extended_sequence: stored.extended_sequence,
        group: group.transpose()?,
        additional: additional(stored.additional.as_deref().unwrap_or_default())?,
    })
}

fn stored_additional(methods: AdditionalMethods) -> Option<Vec<u16>> {
    let id = |method: &Option<KeyExchangeMethod>| method.map_or(0, KeyExchangeMethod::id);
    (!methods.is_empty()).then(|| methods.places().iter().map(id).collect())
}

fn additional(stored: &[u16]) -> Result<AdditionalMethods, Impossible> {
    let mut places = [None; AdditionalMethods::PLACES];
    for (place, id) in places.iter_mut().zip(stored).filter(|(_, id)| **id != 0) {
        *place = Some(KeyExchangeMethod::from_id(*id).ok_or(Impossible("an algorithm"))?);
    }
    Ok(AdditionalMethods::new(places))
}

pub(super) fn stored_fate(now: Now, fate: Fate) -> (u8, Option<Time>) {
    match fate {
        Fate::Lives => (0, None),
        Fate::Undecided => (1, None),
        Fate::Doomed => (2, None),
        Fate::Deleting => (3, None),
        Fate::AwaitsDelete(at) => (4, Some(time(now, at))),
        Fate::Gone(at) => (5, Some(time(now, at))),
    }
}

pub(super) fn fate(now: Now, fate: u8, at: Option<Time>) -> Result<Fate, Impossible> {
    match (fate, at.map(|at| monotonic(now, at))) {
        (0, None) => Ok(Fate::Lives),
        (1, None) => Ok(Fate::Undecided),
        (2, None) => Ok(Fate::Doomed),
        (3, None) => Ok(Fate::Deleting),
        (4, Some(at)) => Ok(Fate::AwaitsDelete(at)),
        (5, Some(at)) => Ok(Fate::Gone(at)),
        _ => Err(Impossible("the fate of an IKE SA")),
    }
}

/// Why a tunnel may be in the course of being deleted, by number.
const REASONS: [DownReason; 8] = [
    DownReason::Command,
    DownReason::Replaced,
    DownReason::Expired,
    DownReason::Reconfigured,
    DownReason::Failed,
    DownReason::Redirected,
    DownReason::SessionTimeout,
    DownReason::Idle,
];

pub(super) fn stored_reason(reason: DownReason) -> u8 {
    REASONS.iter().position(|known| *known == reason).map_or(0, |at| at as u8)
}

pub(super) fn reason(stored: u8) -> Result<DownReason, Impossible> {
    REASONS.get(usize::from(stored)).copied().ok_or(Impossible("a reason"))
}
