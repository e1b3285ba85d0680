//! IKE's part of the file.

use std::sync::Arc;

use baton_dataplane::config as gateway;
use baton_dataplane::config::reader::{Section, Word};
use baton_ike_proto::configuration::Configuration;

use super::check::{self, Whole};
use super::trust::{self, Authority};
use super::{Config, CredentialSources, SharedSecret, connection, daemon, pool, radius};

/// What was read; good only if no problem was reported.
pub(super) struct Read {
    daemon: daemon::Read,
    connections: Vec<connection::Read>,
    pools: Vec<pool::Read>,
    secrets: Vec<SharedSecret>,
    authorities: Vec<Authority>,
    radius: radius::Read,
}

/// Reads every section before it gives up, so that all problems are told at once.
pub(super) fn read(root: &Section<'_, '_>, gateway: Option<&gateway::Config>, private: bool) -> Option<Read> {
    // What else stands in it is baton-cluster's.
    let daemon = daemon::read(&root.section("ike"), gateway, &root.section("cluster"));
    let connections = each(&root.section("connections"), connection::read);
    let pools = each(&root.section("pools"), pool::read);
    let secrets = each(&root.section("secrets"), |name, section| trust::secret(name, section, private));
    let authorities = each(&root.section("authorities"), trust::authority);
    let listen = daemon.as_ref().and_then(|daemon| daemon.daemon.listen.first().copied());
    let radius = radius::read(&root.section("eap-radius"), listen);
    let (daemon, connections, pools) = (daemon?, connections?, pools?);
    let (secrets, authorities, radius) = (secrets?, authorities?, radius?);
    let whole = Whole {
        connections: &connections,
        pools: &pools,
        secrets: &secrets,
        daemon: &daemon.daemon,
        radius: &radius,
    };
    check::across(root.source(), gateway, &whole);
    Some(Read { daemon, connections, pools, secrets, authorities, radius })
}

/// Every table of the section; `None` if any was refused.
fn each<'s, 'a, T>(
    section: &Section<'s, 'a>,
    read: impl Fn(&Word<'s, 'a>, &Section<'s, 'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let all: Vec<_> = section.named().iter().map(|(name, section)| read(name, section)).collect();
    all.into_iter().collect()
}

impl Read {
    pub(super) fn into_config(self, gateway: gateway::Config) -> Config {
        let credentials = self.credential_sources();
        let by_name = self.connections.iter().filter(|(_, places)| !places.peer_names.is_empty());
        let names = by_name
            .map(|(connection, places)| (connection.name.clone(), places.peer_names.clone()))
            .collect();
        let protocol = Configuration {
            connections: self.connections.into_iter().map(|(connection, _)| Arc::new(connection)).collect(),
            pools: self.pools.into_iter().map(|(pool, _)| Arc::new(pool)).collect(),
            slicing: self.daemon.slicing,
            limits: self.daemon.limits,
            retransmission: self.daemon.retransmission,
            maintenance: self.daemon.maintenance,
            crash_detection: self.daemon.crash_detection,
            puzzles: self.daemon.puzzles,
        };
        let radius = self.radius.radius;
        let (daemon, protocol) = (self.daemon.daemon, Arc::new(protocol));
        Config { gateway, daemon, protocol, radius, names, credentials }
    }

    fn credential_sources(&self) -> CredentialSources {
        let connections = || self.connections.iter().map(|(connection, _)| connection);
        let own = connections().map(|c| c.local.method.certificates());
        let pinned = connections().map(|c| c.remote.certificates.as_slice());
        let named = self.authorities.iter().map(|authority| authority.certificate.clone());
        let allowed = connections().flat_map(|c| &c.remote.authorities).cloned();
        CredentialSources {
            directory: self.daemon.directory.clone(),
            directory_is_named: self.daemon.directory_is_named,
            certificates: unique(own.chain(pinned).flatten().cloned()),
            authorities: unique(named.chain(allowed)),
            revocation_lists: self.authorities.iter().flat_map(|a| a.revocation_lists.clone()).collect(),
            rsa_pss: self.daemon.rsa_pss,
            secrets: self.secrets.clone(),
        }
    }
}

fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let names: std::collections::BTreeSet<String> = names.collect();
    names.into_iter().collect()
}
