//! When keys are replaced and when SAs end, with swanctl's defaults.

use std::time::Duration;

use baton_dataplane::config::quantity::Units;
use baton_dataplane::config::reader::Section;

use super::field::{quantity, time};

/// Times of an SA; zero is never.
pub(super) struct Times {
    /// When its keys are replaced.
    pub(super) rekey: Duration,
    /// When it ends: an IKE SA counts from `rekey`, a Child SA from its beginning.
    pub(super) end: Duration,
    /// How much sooner than `rekey` at most.
    pub(super) rand: Duration,
}

/// An IKE SA's.
pub(super) fn of_ike(section: &Section<'_, '_>) -> Option<Times> {
    let rekey = time(section, "rekey_time", Duration::from_hours(4));
    let end = time(section, "over_time", rekey.unwrap_or_default() / 10);
    let rand = time(section, "rand_time", end.unwrap_or_default());
    let times = Times { rekey: rekey?, end: end?, rand: rand? };
    check_rand(section, &times);
    Some(times)
}

/// A Child SA's.
pub(super) fn of_child(section: &Section<'_, '_>) -> Option<Times> {
    let rekey = time(section, "rekey_time", Duration::from_hours(1));
    let known = rekey.unwrap_or_default();
    let end = time(section, "life_time", known + known / 10);
    let spread = end.filter(|end| !end.is_zero()).map_or(known / 10, |end| end.saturating_sub(known));
    // A long time between the two is no wish to rekey at any moment.
    let spread = spread.min(known / 2);
    let rand = time(section, "rand_time", spread);
    let times = Times { rekey: rekey?, end: end?, rand: rand? };
    if !times.end.is_zero() && times.rekey >= times.end {
        let (life, rekey) = (times.end.as_secs(), times.rekey.as_secs());
        let message = format!("{life} s is not above rekey_time, {rekey} s");
        report(section, ["life_time", "rekey_time"], &message, "choose a longer life_time");
    } else {
        check_rand(section, &times);
    }
    Some(times)
}

/// Subtracting all of it would mean to rekey at once, again and again.
fn check_rand(section: &Section<'_, '_>, times: &Times) {
    if !times.rekey.is_zero() && times.rand >= times.rekey {
        let (rand, rekey) = (times.rand.as_secs(), times.rekey.as_secs());
        let message = format!("{rand} s of rand_time is not below rekey_time, {rekey} s");
        report(section, ["rand_time", "rekey_time"], &message, "choose a smaller rand_time");
    }
}

/// A soft and a hard bound, by default a tenth above; 0 is none.
pub(super) fn bounds(
    section: &Section<'_, '_>,
    [soft_key, hard_key]: [&'static str; 2],
    units: &Units,
) -> Option<[u64; 2]> {
    let soft = quantity(section, soft_key, units, 0);
    let above = soft.unwrap_or(0).saturating_add(soft.unwrap_or(0) / 10 + u64::from(soft > Some(0)));
    let hard = quantity(section, hard_key, units, above);
    let (soft, hard) = (soft?, hard?);
    if hard != 0 && soft >= hard {
        let message = format!("{soft} is not below {hard_key}, {hard}: the end would come unannounced");
        report(section, [soft_key, hard_key], &message, "choose a smaller one, or a higher end");
    }
    Some([soft, hard])
}

/// At the first of the keys that is there.
fn report(section: &Section<'_, '_>, keys: [&'static str; 2], message: &str, remedy: &str) {
    let item = keys.into_iter().find_map(|key| section.get(key));
    let place = item.map_or(section.place(), |item| item.place());
    place.report(section.source(), message, remedy);
}
