//! SAs that are keyed by the configuration.
//!
//! An SA that the table holds already stays as it is, counters and all: a restart or a reload must not send it
//! back to sequence number 1 under the same key (I2), nor open its replay window (I3).

use baton_sad::{Counters, Direction, Sa, Table};
use tracing::{info, warn};

use super::error::DaemonError;
use crate::config::{Config, Tunnel};

/// What [`install`] changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) installed: usize,
    pub(super) updated: usize,
    pub(super) removed: usize,
}

/// Brings the table in line with the configuration. Tunnels without configured keys keep the SAs that were
/// restored into them; SAs of tunnels that the configuration no longer names are removed.
pub(super) fn install(table: &Table, config: &Config) -> Result<Changes, DaemonError> {
    let mut changes = Changes { removed: remove_unnamed(table, config)?, ..Changes::default() };
    for tunnel in &config.tunnels {
        install_tunnel(table, tunnel, &mut changes)?;
    }
    Ok(changes)
}

fn install_tunnel(table: &Table, tunnel: &Tunnel, changes: &mut Changes) -> Result<(), DaemonError> {
    let (Some(inbound), Some(outbound)) = (tunnel.inbound_sa(), tunnel.outbound_sa()) else {
        return Ok(());
    };
    let mut fresh = Vec::new();
    for sa in [inbound, outbound] {
        match table.get(sa.direction, sa.index_key())? {
            Some(installed) if is_same_sa(&installed.sa, &sa) => {
                if let Some(sa) = differing(&installed.sa, sa) {
                    table.update(&sa)?;
                    changes.updated += 1;
                }
            }
            Some(_) | None => fresh.push((sa, Counters::default())),
        }
    }
    changes.installed += fresh.len();
    if fresh.is_empty() {
        return Ok(());
    }
    table.put(&fresh)?;
    info!(tunnel = %tunnel.name, sas = fresh.len(), "installed from the configuration");
    Ok(())
}

/// Whether the counters of one go on in the other.
fn is_same_sa(installed: &Sa, configured: &Sa) -> bool {
    installed.spi == configured.spi && installed.key.ct_eq(&configured.key)
}

/// The configured SA with what only the table knows, if it differs from the installed one.
fn differing(installed: &Sa, mut configured: Sa) -> Option<Sa> {
    configured.senders = installed.senders.clone();
    (configured != *installed).then_some(configured)
}

fn remove_unnamed(table: &Table, config: &Config) -> Result<usize, DaemonError> {
    let unnamed: Vec<(Direction, u32)> = table
        .iter()
        .filter(|found| config.tunnel(found.sa.name.as_str()).is_none())
        .inspect(|found| {
            warn!(tunnel = %found.sa.name, "an SA is removed: the configuration no longer has its tunnel");
        })
        .map(|found| (found.sa.direction, found.sa.index_key()))
        .collect();
    let mut removed = 0;
    for keys in unnamed.chunks(1024) {
        removed += table.remove(keys)?;
    }
    Ok(removed)
}
