//! One `[[policy]]`: traffic that goes past the tunnels, or nowhere.

use baton_sad::Name;

use super::field::{bounded_name, integer};
use super::reader::{Item, Place, Section};
use super::sections::priority;
use super::{Exception, ExceptionAction, PolicyDirection, selectors};

/// Before the tunnels.
const DEFAULT_PRIORITY: u32 = 1000;

/// Pairs of selectors of one policy.
const MAX_PAIRS: usize = 1024;

/// Where its fields stand.
pub(super) struct ExceptionPlaces {
    pub(super) name: Place,
    /// Of its segment, or of the whole.
    pub(super) segment: Place,
    /// One per remote selector.
    pub(super) remote_selectors: Vec<Place>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Word {
    Bypass,
    Discard,
}

pub(super) fn read(mut section: Section<'_, '_>) -> Option<(Exception, ExceptionPlaces)> {
    let name = section.require("name", "name the policy: name = \"management\"");
    let name_place = name.as_ref().map_or(section.place(), Item::place);
    let name = name.and_then(|item| bounded_name(&item.text()?, Name::MAX));
    if let Some(name) = &name {
        section.rename(format!("policy.{name}"));
    }
    let action = action(&section);
    let segment_place = section.get("segment").map_or(section.place(), |item| item.place());
    let words = [("both", PolicyDirection::Both), ("out", PolicyDirection::Out), ("in", PolicyDirection::In)];
    let direction = section.get("direction").map_or(Some(PolicyDirection::Both), |item| item.word(&words));
    let priority = priority(&section, DEFAULT_PRIORITY);
    let local = selectors::read(&section, "local_selectors", "list the inner side's networks", None, None);
    let remote = selectors::read(&section, "remote_selectors", "list the outer side's networks", None, None);
    selectors::check_pairs(&section, &local, &remote, MAX_PAIRS);
    section.finish();
    let places =
        ExceptionPlaces { name: name_place, segment: segment_place, remote_selectors: remote.places() };
    let exception = Exception {
        name: name?,
        action: action?,
        direction: direction?,
        priority: priority?,
        local_selectors: local.into_selectors(),
        remote_selectors: remote.into_selectors(),
    };
    Some((exception, places))
}

fn action(section: &Section<'_, '_>) -> Option<ExceptionAction> {
    let remedy = "say what happens to its packets: action = \"bypass\" or action = \"discard\"";
    let words = [("bypass", Word::Bypass), ("discard", Word::Discard)];
    let word = section.require("action", remedy).and_then(|item| item.word(&words));
    let segment = integer(section, "segment", 0..=255, 0);
    if word == Some(Word::Discard)
        && let Some(item) = section.get("segment")
    {
        item.report("what is dropped has no segment", "remove it");
    }
    match word? {
        Word::Bypass => Some(ExceptionAction::Bypass { segment: u8::try_from(segment?).ok()? }),
        Word::Discard => Some(ExceptionAction::Discard),
    }
}
