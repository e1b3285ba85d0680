//! Segments: of the running data plane, or of the table while none runs.

use std::str::FromStr;

use baton_dataplane::config::Config;
use baton_dataplane::control::{ClientError, Request, Segments};
use baton_dataplane::steering::segment_of;
use baton_dataplane::worker::monotonic_ns;
use baton_sad::{NOT_OWNED, OWNED, Table};
use serde_json::json;

use super::cli::SegmentsOptions;
use super::error::DpctlError;
use super::output::Output;
use super::{cluster, live, open};

/// Segments as operators write them: `all`, or numbers and ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentSet(pub(super) Vec<u8>);

impl FromStr for SegmentSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(Self((0..=255).collect()));
        }
        let wrong =
            |_| format!("`{text}` names no segments; write all, or numbers from 0 to 255 like 0-127,200");
        let mut segments = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (u8, u8) = (first.parse().map_err(wrong)?, last.parse().map_err(wrong)?);
            if first > last {
                return Err(format!("`{part}` is empty; give the lower number first"));
            }
            segments.extend(first..=last);
        }
        segments.sort_unstable();
        segments.dedup();
        Ok(Self(segments))
    }
}

/// The shortest text for rising numbers.
pub(super) fn text_of(segments: &[u8]) -> String {
    match segments.len() {
        0 => "none".to_owned(),
        256 => "all".to_owned(),
        _ => {
            let runs = segments.chunk_by(|a, b| u16::from(*a) + 1 == u16::from(*b));
            let run = |run: &[u8]| match run {
                [one] => one.to_string(),
                [first, .., last] => format!("{first}-{last}"),
                [] => String::new(),
            };
            runs.map(run).collect::<Vec<_>>().join(",")
        }
    }
}

pub(super) fn show(config: &Config, options: &SegmentsOptions, output: Output) -> Result<(), DpctlError> {
    if let Some(address) = options.of {
        let (mode, seed) = (config.segments.hash, config.segments.seed);
        let segment = segment_of(address, options.source_port, options.destination_port, mode, seed);
        return output
            .answer(&json!({ "address": address, "segment": segment }), |out| writeln!(out, "{segment}"));
    }
    let segments = match live::connect(config).and_then(|mut client| Ok(client.request(&Request::Segments)?))
    {
        Err(DpctlError::Client(ClientError::NotReachable { .. })) => of_table(config, &open(config)?),
        answer => answer?,
    };
    print(&segments, output)
}

fn print(segments: &Segments, output: Output) -> Result<(), DpctlError> {
    output.answer(segments, |out| {
        writeln!(out, "owned: {} ({} of 256)", text_of(&segments.owned), segments.owned.len())?;
        writeln!(out, "hash: {}, seed {}", segments.hash, segments.seed)
    })
}

/// What the table's leases say while no data plane runs.
fn of_table(config: &Config, table: &Table) -> Segments {
    Segments {
        owned: Segments::members(&table.owned_segments(monotonic_ns())),
        hash: config.segments.hash.to_string(),
        seed: config.segments.seed,
    }
}

pub(super) fn change(
    config: &Config,
    wanted: &SegmentSet,
    take: bool,
    output: Output,
) -> Result<(), DpctlError> {
    let segments = wanted.0.clone();
    if cluster::change(config, &segments, take, output)? {
        return Ok(());
    }
    if take && config.segments.by_leases {
        return Err(DpctlError::OwnedByLeases);
    }
    let request = if take { Request::SegmentTake { segments } } else { Request::SegmentDrop { segments } };
    let segments = match live::connect(config).and_then(|mut client| Ok(client.request(&request)?)) {
        // The data plane will find the leases when it starts.
        Err(DpctlError::Client(ClientError::NotReachable { .. })) => {
            let table = open(config)?;
            let deadline = if take { OWNED } else { NOT_OWNED };
            for segment in &wanted.0 {
                table.set_lease(*segment, deadline);
            }
            of_table(config, &table)
        }
        answer => answer?,
    };
    print(&segments, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_sets_read_what_they_write() {
        for text in ["all", "7", "0-127", "0,2-4,255", "64-191"] {
            assert_eq!(text_of(&text.parse::<SegmentSet>().unwrap().0), text);
        }
        assert_eq!(text_of(&"5,3-4,3".parse::<SegmentSet>().unwrap().0), "3-5");
        assert_eq!(text_of(&[]), "none");
    }

    #[test]
    fn what_names_no_segments_is_refused() {
        for text in ["", "256", "-", "5-3", "a", "1,,2", "all,1"] {
            assert!(text.parse::<SegmentSet>().is_err(), "{text}");
        }
    }
}
