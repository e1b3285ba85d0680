//! Reading the configuration again.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use baton_ike_proto::auth::Credentials;
use baton_ike_proto::configuration::{Configuration, Connection};

use super::DaemonError;
use crate::config::Config;
use crate::control::Reloaded;
use crate::credentials::{self, RadiusSecrets};

/// A configuration with all that it names.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) config: Config,
    pub(super) credentials: Arc<Credentials>,
    pub(super) radius_secrets: RadiusSecrets,
}

/// Reads both.
pub(super) fn load(path: &Path) -> Result<Loaded, DaemonError> {
    let config = Config::load(path)?;
    let credentials = Arc::new(credentials::load(&config.credentials)?);
    let radius_secrets = credentials::radius_secrets(&config.credentials)?;
    Ok(Loaded { config, credentials, radius_secrets })
}

/// What is different in a new configuration.
pub(super) fn compare(old: &Config, new: &Config) -> Reloaded {
    let (before, after) = (by_name(&old.protocol), by_name(&new.protocol));
    let mut report = Reloaded { needs_restart: needs_restart(old, new), ..Reloaded::default() };
    for connection in &new.protocol.connections {
        let name = || connection.name.clone();
        match before.get(connection.name.as_str()) {
            None => report.added.push(name()),
            Some(former) if *former == connection => report.unchanged += 1,
            Some(_) => report.changed.push(name()),
        }
    }
    let is_gone = |connection: &&Arc<Connection>| !after.contains_key(connection.name.as_str());
    let gone = old.protocol.connections.iter().filter(is_gone);
    report.removed = gone.map(|connection| connection.name.clone()).collect();
    report
}

fn by_name(configuration: &Configuration) -> HashMap<&str, &Arc<Connection>> {
    configuration.connections.iter().map(|connection| (connection.name.as_str(), connection)).collect()
}

/// What was given away with the privileges, or lives as long as the process.
fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let (before, after) = (&old.gateway, &new.gateway);
    let checks = [
        ("the addresses and user of [ike], or its being in a [cluster],", old.daemon == new.daemon),
        ("[node]", format!("{:?}", before.node) == format!("{:?}", after.node)),
        ("the hash and seed of [segments]", steering(before) == steering(after)),
        ("the key of [snapshot]", before.snapshot.key_file == after.snapshot.key_file),
        ("where [eap-radius.dae] listens", dae(old) == dae(new)),
        ("credential_directory of [ike]", old.credentials.directory == new.credentials.directory),
    ];
    let changed = checks.into_iter().filter(|(_, same)| !same);
    changed.map(|(what, _)| format!("{what} changed; start baton-ike again for that")).collect()
}

fn dae(config: &Config) -> Option<std::net::SocketAddr> {
    config.radius.dae.as_ref().map(|dae| dae.listen)
}

fn steering(config: &baton_dataplane::config::Config) -> (baton_dataplane::steering::HashMode, u32) {
    (config.segments.hash, config.segments.seed)
}
