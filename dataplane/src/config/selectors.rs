//! Lists of traffic selectors, and whether their two sides go together.

use std::net::IpAddr;

use baton_sad::{AddressRange, Mode, Selector, Selectors};

use super::TrafficSelector;
use super::cover::{is_everything, overlap, show};
use super::reader::{Item, Place, Section};

/// Entries of one list, before all their pairs are made.
const MAX_LIST: usize = 256;

/// One side's selectors, each with its place.
pub(super) struct ReadSelectors {
    entries: Vec<(TrafficSelector, Place)>,
    /// Nothing was refused, so that a missing partner is really missing.
    complete: bool,
}

impl ReadSelectors {
    pub(super) fn places(&self) -> Vec<Place> {
        self.entries.iter().map(|(_, place)| place.clone()).collect()
    }

    pub(super) fn into_selectors(self) -> Vec<TrafficSelector> {
        self.entries.into_iter().map(|(selector, _)| selector).collect()
    }
}

/// Every pair of a local and a remote selector that a packet could match.
pub(super) fn pairs(local: &[TrafficSelector], remote: &[TrafficSelector]) -> Vec<Selector> {
    let with = |l| remote.iter().filter_map(move |r| TrafficSelector::pair(l, r));
    local.iter().flat_map(with).collect()
}

/// The list under `key`; `dynamic` in it stands for `own`. An absent list is an error, except where `default` says
/// what it would be.
pub(super) fn read(
    section: &Section<'_, '_>,
    key: &'static str,
    remedy: &str,
    own: Option<IpAddr>,
    default: Option<TrafficSelector>,
) -> ReadSelectors {
    let item = match default {
        Some(default) => match section.get(key) {
            Some(item) => item,
            None => return ReadSelectors { entries: vec![(default, section.place())], complete: true },
        },
        None => match section.require(key, &format!("{remedy}: {key} = [\"10.2.0.0/16\"]")) {
            Some(item) => item,
            None => return ReadSelectors { entries: Vec::new(), complete: false },
        },
    };
    read_list(&item, remedy, own)
}

fn read_list(item: &Item<'_, '_>, remedy: &str, own: Option<IpAddr>) -> ReadSelectors {
    let entries = item.array();
    let mut read = ReadSelectors { entries: Vec::new(), complete: !entries.is_empty() };
    if entries.is_empty() {
        item.report("the list is empty", remedy);
    }
    if entries.len() > MAX_LIST {
        let message = format!("{} selectors are too many; a list has at most {MAX_LIST}", entries.len());
        item.report(message, "join neighbouring networks to larger ones or to ranges");
        read.complete = false;
        return read;
    }
    for entry in entries {
        let Some(selector) = read_one(&entry, own) else {
            read.complete = false;
            continue;
        };
        if read.entries.iter().any(|(other, _)| *other == selector) {
            entry.report(format!("{selector} stands here twice"), "write it once");
        }
        read.entries.push((selector, entry.place()));
    }
    read
}

fn read_one(item: &Item<'_, '_>, own: Option<IpAddr>) -> Option<TrafficSelector> {
    match TrafficSelector::parse(item.string()?, own) {
        Ok(selector) => Some(selector),
        Err(error) => {
            item.report(&error, error.remedy());
            None
        }
    }
}

/// Each selector needs one on the other side that it goes with, and there is room for `most` pairs.
pub(super) fn check_pairs(
    section: &Section<'_, '_>,
    local: &ReadSelectors,
    remote: &ReadSelectors,
    most: usize,
) {
    for (side, other) in [(local, remote), (remote, local)] {
        let joins =
            |selector| other.entries.iter().any(|(o, _)| TrafficSelector::pair(selector, o).is_some());
        for (selector, place) in side.entries.iter().filter(|(s, _)| other.complete && !joins(s)) {
            let message = format!("{selector} goes with no selector of the other side");
            let remedy = "give both sides the same IP version and the same protocol, or remove it";
            place.report(section.source(), message, remedy);
        }
    }
    let joins = |l: &TrafficSelector| {
        remote.entries.iter().filter(|(r, _)| TrafficSelector::pair(l, r).is_some()).count()
    };
    let pairs: usize = local.entries.iter().map(|(l, _)| joins(l)).sum();
    if pairs > most {
        let message = format!("{pairs} pairs of a local and a remote selector; at most {most} are possible");
        let remedy = "join neighbouring networks, or split it into several";
        section.place().report(section.source(), message, remedy);
    }
}

/// What a tunnel demands of its selectors beyond that.
pub(super) fn check_tunnel(
    section: &Section<'_, '_>,
    mode: Option<Mode>,
    (local, own): (&ReadSelectors, Option<IpAddr>),
    (remote, peer): (&ReadSelectors, Option<IpAddr>),
) {
    check_pairs(section, local, remote, Selectors::MAX);
    match mode {
        Some(Mode::Transport) => {
            refuse_other_hosts(section, local, own);
            refuse_other_hosts(section, remote, peer);
        }
        _ => refuse_overlap(section, local, remote),
    }
}

fn refuse_overlap(section: &Section<'_, '_>, local: &ReadSelectors, remote: &ReadSelectors) {
    for (local, _) in &local.entries {
        let local = &local.addresses;
        for (remote, place) in remote.entries.iter().filter(|(r, _)| overlap(local, &r.addresses)) {
            if !is_everything(local) && !is_everything(&remote.addresses) {
                let message = format!(
                    "{} overlaps {}, which is behind this gateway",
                    show(&remote.addresses),
                    show(local)
                );
                place.report(section.source(), message, "a network is behind one of the two gateways");
            }
        }
    }
}

/// In transport mode the outer addresses are the inner ones (RFC 4301 section 4.1).
fn refuse_other_hosts(section: &Section<'_, '_>, side: &ReadSelectors, outer: Option<IpAddr>) {
    let Some(outer) = outer else { return };
    let strange = |s: &TrafficSelector| s.addresses != AddressRange::single(outer);
    for (selector, place) in side.entries.iter().filter(|(s, _)| strange(s)) {
        let message = format!("{selector} is not {outer}, which transport mode protects alone");
        place.report(
            section.source(),
            message,
            "write \"dynamic\", e.g. \"dynamic[udp/1701]\", or use mode = \"tunnel\"",
        );
    }
}
