//! SAs, straight from the shared table.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};

use baton_ctx_transfer::collect::is_negotiated;
use baton_dataplane::config::Config;
use baton_dataplane::control::SelectorText;
use baton_dataplane::worker::monotonic_ns;
use baton_sad::{
    Bounds, DfPolicy, Direction, DscpPolicy, Mode, Sa, Snapshot, Table, TfcPadding, UdpEncapsulation,
};
use serde_json::{Value, json};

use super::error::DpctlError;
use super::ike::IkeContexts;
use super::output::Output;
use super::policy::sides;

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
    let values: Vec<Value> = if output.is_json() {
        sas.iter().map(|sa| describe_snapshot(table, sa)).collect()
    } else {
        Vec::new()
    };
    output.answer(&json!({ "sas": values }), |out| {
        let rows: Vec<_> = sas.iter().map(row).collect();
        let heading = [
            "TUNNEL",
            "DIRECTION",
            "SPI",
            "MODE",
            "SUITE",
            "SOURCE",
            "DESTINATION",
            "STATE",
            "SEQUENCE",
            "PACKETS",
        ];
        output.table(out, &heading, &rows)
    })
}

fn row(found: &Snapshot) -> Vec<String> {
    vec![
        found.sa.name.to_string(),
        found.sa.direction.to_string(),
        format!("{:#010x}", found.sa.spi),
        mode(found.sa.mode).to_owned(),
        found.sa.suite.to_string(),
        end(found.sa.source, found.sa.encapsulation.map(|udp| udp.source_port)),
        end(found.sa.destination, found.sa.encapsulation.map(|udp| udp.destination_port)),
        state(found.frozen).to_owned(),
        found.counters.edge().to_string(),
        found.counters.packets.to_string(),
    ]
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Tunnel => "tunnel",
        Mode::Transport => "transport",
    }
}

/// An outer address, and the port where there is UDP.
fn end(address: IpAddr, port: Option<u16>) -> String {
    port.map_or_else(|| address.to_string(), |port| SocketAddr::new(address, port).to_string())
}

fn state(frozen: bool) -> &'static str {
    if frozen { "frozen" } else { "live" }
}

pub(super) fn show(table: &Table, sa: &str, output: Output) -> Result<(), DpctlError> {
    let found = find(table, sa)?;
    let values: Vec<Value> = found.iter().map(|sa| describe_snapshot(table, sa)).collect();
    output
        .answer(&json!({ "sas": values }), |out| values.iter().try_for_each(|value| print_fields(out, value)))
}

/// A JSON object as `field: value` lines; what is absent is left out.
pub(super) fn print_fields(out: &mut dyn Write, value: &Value) -> io::Result<()> {
    for (field, value) in value.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::Array(items) => items.iter().try_for_each(|item| print_field(out, field, &plain(item)))?,
            other => print_field(out, field, &plain(other))?,
        }
    }
    writeln!(out)
}

fn print_field(out: &mut dyn Write, field: &str, text: &str) -> io::Result<()> {
    if text.is_empty() { Ok(()) } else { writeln!(out, "{field:>20}: {text}") }
}

/// Text as it is, an object as its fields in a row.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Object(fields) => {
            let present = fields.iter().filter(|(_, value)| !value.is_null());
            present.map(|(field, value)| format!("{field} {}", plain(value))).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

fn describe_snapshot(table: &Table, found: &Snapshot) -> Value {
    let mut value = describe(&found.sa, &found.counters);
    value["state"] = state(found.frozen).into();
    let now = monotonic_ns();
    if let Some(slot) = table.slot(found.handle) {
        value["learned_path_mtu"] = json!(slot.learned_path_mtu(now));
        let idle = |used: u64| now.saturating_sub(used) / 1_000_000_000;
        value["idle_seconds"] = json!(Some(slot.last_used()).filter(|used| *used != 0).map(idle));
    }
    value
}

/// Bounds that there are, others being null.
fn describe_bounds(bounds: &Bounds) -> Value {
    let bound = |value: u64| Some(value).filter(|value| *value != 0);
    json!({
        "octets": bound(bounds.octets),
        "packets": bound(bounds.packets),
        "sequence": bound(bounds.sequence),
        "expires_at": bound(bounds.expires_at),
    })
}

fn describe_udp(udp: UdpEncapsulation) -> Value {
    json!({
        "source_port": udp.source_port,
        "destination_port": udp.destination_port,
        "follows_peer": udp.follows_peer,
        "keepalive_seconds": udp.keepalive_seconds,
    })
}

/// Everything about an SA but its key.
pub(super) fn describe(sa: &Sa, counters: &baton_sad::Counters) -> Value {
    let selectors: Vec<String> = sa
        .selectors
        .iter()
        .map(|selector| {
            let (local, remote) = sides(&SelectorText::from(selector));
            format!("{local} === {remote}")
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
        "mode": mode(sa.mode),
        "suite": sa.suite.to_string(),
        "source": sa.source.to_string(),
        "destination": sa.destination.to_string(),
        "encapsulation": sa.encapsulation.map(describe_udp),
        "selectors": selectors,
        "extended_sequence": sa.extended_sequence,
        "replay_window": sa.replay_window,
        "dscp": match sa.dscp { DscpPolicy::Copy => json!("copy"), DscpPolicy::Set(dscp) => json!(dscp) },
        "df": match sa.df { DfPolicy::Copy => "copy", DfPolicy::Set => "set", DfPolicy::Clear => "clear" },
        "path_mtu": sa.path_mtu,
        "clamp_mss": sa.clamp_mss,
        "tfc_padding": match sa.tfc_padding {
            TfcPadding::Off => json!("off"),
            TfcPadding::To(octets) => json!(octets),
            TfcPadding::PathMtu => json!("path-mtu"),
        },
        "soft_limits": describe_bounds(&sa.lifetime.soft),
        "hard_limits": describe_bounds(&sa.lifetime.hard),
        "sequence": counters.edge(),
        "packets": counters.packets,
        "octets": counters.octets,
        "replay_drops": counters.replay_drops,
        "integrity_failures": counters.integrity_failures,
        "senders": senders,
    })
}

/// Its SAs, and its IKE SA, if it was negotiated.
pub(super) fn thaw(config: &Config, table: &Table, name: &str, output: Output) -> Result<(), DpctlError> {
    let found = match find(table, name) {
        // A tunnel may have lost its last Child SA.
        Err(DpctlError::NotFound(_)) if is_negotiated(config, name) => Vec::new(),
        found => found?,
    };
    let name = found.first().map_or_else(|| name.to_owned(), |found| found.sa.name.to_string());
    let keys: Vec<_> = found.iter().map(|found| (found.sa.direction, found.sa.index_key())).collect();
    let thawed = table.thaw(&keys)?;
    let with_ike = is_negotiated(config, &name) && IkeContexts::new(config).thaw(&name, 0)?;
    if keys.is_empty() && !with_ike {
        return Err(DpctlError::NotFound(name));
    }
    output.answer(&json!({ "thawed": thawed, "ike": with_ike }), |out| {
        let and_ike = if with_ike { " and its IKE SA" } else { "" };
        writeln!(out, "{thawed} SAs of {name}{and_ike} are in use again")
    })
}
