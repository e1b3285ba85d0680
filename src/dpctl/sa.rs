//! SAs, straight from the shared table.

use baton_sad::{DfPolicy, Direction, DscpPolicy, Sa, Snapshot, Table};
use serde_json::{Value, json};

use super::error::DpctlError;
use super::output::Output;

/// An SPI as operators write it: `0x2a000001`, or decimal.
///
/// # Errors
/// A sentence.
pub(super) fn parse_spi(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("`{text}` is not an SPI; write it like 0x2a000001"))
}

/// The SAs of a tunnel, by its name or one of its SPIs.
pub(super) fn find(table: &Table, sa: &str) -> Result<Vec<Snapshot>, DpctlError> {
    let mut found = table.read_by_name(sa)?;
    if found.is_empty()
        && let Ok(spi) = parse_spi(sa)
        && let Some(holder) = holder(table, spi)?
    {
        found = table.read_by_name(holder.sa.name.as_str())?;
    }
    if found.is_empty() {
        return Err(DpctlError::NotFound(sa.to_owned()));
    }
    found.sort_by_key(|found| (found.sa.direction, found.sa.spi));
    Ok(found)
}

/// The SA with this SPI: ours are indexed, the peers' are looked for.
fn holder(table: &Table, spi: u32) -> Result<Option<Snapshot>, DpctlError> {
    let inbound = table.get(Direction::Inbound, spi)?;
    Ok(inbound.or_else(|| table.iter().find(|found| found.sa.spi == spi)))
}

pub(super) fn list(table: &Table, output: Output) -> Result<(), DpctlError> {
    let mut sas: Vec<Snapshot> = table.iter().collect();
    sas.sort_by_key(|found| (found.sa.name, found.sa.direction, found.sa.spi));
    let values: Vec<Value> =
        if output.is_json() { sas.iter().map(describe_snapshot).collect() } else { Vec::new() };
    output.answer(&json!({ "sas": values }), |out| {
        let rows: Vec<_> = sas.iter().map(row).collect();
        let heading =
            ["TUNNEL", "DIRECTION", "SPI", "SUITE", "SOURCE", "DESTINATION", "STATE", "SEQUENCE", "PACKETS"];
        output.table(out, &heading, &rows)
    })
}

fn row(found: &Snapshot) -> Vec<String> {
    vec![
        found.sa.name.to_string(),
        found.sa.direction.to_string(),
        format!("{:#010x}", found.sa.spi),
        found.sa.suite.to_string(),
        found.sa.source.to_string(),
        found.sa.destination.to_string(),
        state(found.frozen).to_owned(),
        found.counters.edge().to_string(),
        found.counters.packets.to_string(),
    ]
}

fn state(frozen: bool) -> &'static str {
    if frozen { "frozen" } else { "live" }
}

pub(super) fn show(table: &Table, sa: &str, output: Output) -> Result<(), DpctlError> {
    let found = find(table, sa)?;
    let values: Vec<Value> = found.iter().map(describe_snapshot).collect();
    output
        .answer(&json!({ "sas": values }), |out| values.iter().try_for_each(|value| print_fields(out, value)))
}

/// A JSON object as `field: value` lines.
pub(super) fn print_fields(out: &mut dyn std::io::Write, value: &Value) -> std::io::Result<()> {
    for (field, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => writeln!(out, "{field:>20}: {text}")?,
            Value::Array(items) => {
                for item in items {
                    writeln!(
                        out,
                        "{field:>20}: {}",
                        item.as_str().map_or_else(|| item.to_string(), str::to_owned)
                    )?;
                }
            }
            other => writeln!(out, "{field:>20}: {other}")?,
        }
    }
    writeln!(out)
}

fn describe_snapshot(found: &Snapshot) -> Value {
    let mut value = describe(&found.sa, &found.counters);
    value["state"] = state(found.frozen).into();
    value
}

/// Everything about an SA but its key.
pub(super) fn describe(sa: &Sa, counters: &baton_sad::Counters) -> Value {
    let selectors: Vec<String> = sa
        .selectors
        .iter()
        .map(|selector| {
            let text = baton_dataplane::control::SelectorText::from(selector);
            format!("{} === {}", text.local, text.remote)
        })
        .collect();
    let senders: Vec<Value> = sa
        .senders
        .iter()
        .map(|sender| json!({ "cluster": format!("{:014x}", sender.cluster.get()), "node": sender.node.get() }))
        .collect();
    json!({
        "name": sa.name.as_str(),
        "direction": sa.direction.to_string(),
        "spi": format!("{:#010x}", sa.spi),
        "peer_spi": format!("{:#010x}", sa.peer_spi),
        "reqid": sa.reqid,
        "segment": sa.segment,
        "suite": sa.suite.to_string(),
        "source": sa.source.to_string(),
        "destination": sa.destination.to_string(),
        "selectors": selectors,
        "extended_sequence": sa.extended_sequence,
        "replay_window": sa.replay_window,
        "dscp": match sa.dscp { DscpPolicy::Copy => json!("copy"), DscpPolicy::Set(dscp) => json!(dscp) },
        "df": match sa.df { DfPolicy::Copy => "copy", DfPolicy::Set => "set", DfPolicy::Clear => "clear" },
        "path_mtu": sa.path_mtu,
        "sequence": counters.edge(),
        "packets": counters.packets,
        "octets": counters.octets,
        "replay_drops": counters.replay_drops,
        "integrity_failures": counters.integrity_failures,
        "senders": senders,
    })
}

pub(super) fn thaw(table: &Table, name: &str, output: Output) -> Result<(), DpctlError> {
    let keys: Vec<_> =
        find(table, name)?.iter().map(|found| (found.sa.direction, found.sa.index_key())).collect();
    let thawed = table.thaw(&keys)?;
    output
        .answer(&json!({ "thawed": thawed }), |out| writeln!(out, "{thawed} SAs of {name} are in use again"))
}
