//! What a context is made of, and what it has to agree with: for snapshots, restores and standbys alike.

use std::time::{SystemTime, UNIX_EPOCH};

use baton_dataplane::config::{Config, Tunnel};
use baton_ike_proto::host::TunnelName;
use baton_sad::{Direction, Name, Sa, Snapshot, Table};

use crate::{Context, ContextSa, IkePart, Kind, Origin, Policy, PolicyAction, Unknown};

/// Whether a tunnel was negotiated: the configuration's own have configured keys.
pub fn is_negotiated(config: &Config, name: &str) -> bool {
    config.tunnel(name).is_none() && TunnelName::parse(name).is_some()
}

/// The context of a tunnel, of the SAs and the IKE part of one moment.
pub fn context_of(
    table: &Table,
    name: Name,
    mut sas: Vec<Snapshot>,
    ike: Option<IkePart>,
    kind: Kind,
) -> Context {
    sas.sort_by_key(|found| (found.sa.direction, found.sa.spi));
    let policies = sas
        .iter()
        .filter(|found| found.sa.direction == Direction::Outbound)
        .map(|found| Policy {
            action: PolicyAction::Protect,
            reqid: found.sa.reqid,
            segment: found.sa.segment,
            selectors: found.sa.selectors.clone(),
            unknown: Unknown::default(),
        })
        .collect();
    Context {
        kind,
        name,
        origin: Origin { cluster: table.cluster(), node: table.node() },
        taken_at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
        sas: sas.into_iter().map(|found| ContextSa::new(found.sa, found.counters)).collect(),
        policies,
        ike,
        unknown: Unknown::default(),
    }
}

/// In what a tunnel with configured keys is another one here, or traffic would be protected otherwise than the
/// configuration says; `None` if there is no such tunnel.
pub fn differences(config: &Config, context: &Context) -> Option<Vec<&'static str>> {
    let tunnel = config.tunnel(context.name.as_str())?;
    let mut differences: Vec<&str> = Vec::new();
    for offered in &context.sas {
        differences.extend(differing(tunnel, &offered.sa));
    }
    differences.sort_unstable();
    differences.dedup();
    Some(differences)
}

fn differing(tunnel: &Tunnel, sa: &Sa) -> impl Iterator<Item = &'static str> {
    let (ends, keyed) = match sa.direction {
        Direction::Inbound => ((tunnel.remote, tunnel.local), tunnel.inbound.as_ref()),
        Direction::Outbound => ((tunnel.local, tunnel.remote), tunnel.outbound.as_ref()),
    };
    // The filter takes the segment from our SPI.
    let steered = sa.direction == Direction::Outbound || sa.spi >> 24 == u32::from(tunnel.segment);
    [
        ("name", sa.name.as_str() != tunnel.name),
        ("local or remote address", (sa.source, sa.destination) != ends),
        ("reqid", sa.reqid != tunnel.reqid),
        ("segment", sa.segment != tunnel.segment || !steered),
        // A key that was changed must not come back.
        ("SPI", keyed.is_some_and(|keyed| keyed.spi != sa.spi)),
        ("key", keyed.is_some_and(|keyed| !keyed.key.ct_eq(&sa.key))),
        ("suite", sa.suite != tunnel.suite),
        ("mode", sa.mode != tunnel.mode),
        // Ports may have moved with the peer.
        ("encapsulation", sa.encapsulation.is_some() != tunnel.encapsulation.is_some()),
        ("extended_sequence", sa.extended_sequence != tunnel.extended_sequence),
        ("selectors", *sa.selectors != *tunnel.selectors()),
    ]
    .into_iter()
    .filter(|(_, differs)| *differs)
    .map(|(what, _)| what)
}
