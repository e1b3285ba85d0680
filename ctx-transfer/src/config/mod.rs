//! `[cluster]` of the configuration: a section of the file that all daemons read, validated with it.
//!
//! A witness needs `[node]` and `[cluster]` alone.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use baton_dataplane::config::reader::{Section, Source};
use baton_dataplane::config::{self as gateway, ConfigErrors, Node};

use crate::channel::{self, Identity, Kind};
use crate::cluster::{Configuration, Role};

mod announce;
mod digest;
mod member;
mod section;

#[cfg(test)]
mod tests;

pub use announce::{Announce, Sharing};
pub use member::Address;

/// Below the configuration's directory.
const DIRECTORY: &str = "cluster";
/// What a witness may leave out, or have.
const GATEWAY_SECTIONS: [&str; 15] = [
    "table",
    "outer",
    "inner",
    "workers",
    "segments",
    "snapshot",
    "icmp",
    "acquire",
    "policy",
    "tunnel",
    "ike",
    "connections",
    "pools",
    "secrets",
    "authorities",
];

/// A validated configuration of a member.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file.
    pub path: PathBuf,
    /// This machine.
    pub node: Node,
    /// What the data plane reads; a witness needs none.
    pub gateway: Option<gateway::Config>,
    /// For the cluster's core.
    pub cluster: Configuration,
    /// Where the members are, this one too.
    pub addresses: Vec<Address>,
    /// Addresses that the nodes share on one link.
    pub sharing: Sharing,
    /// Certificates.
    pub directory: PathBuf,
    /// Where metrics are to be had.
    pub metrics: Option<SocketAddr>,
    /// Whom to run as.
    pub user: Option<String>,
}

impl Config {
    /// Reads and validates `path`. `None` if it has no `[cluster]`: a gateway by itself.
    ///
    /// # Errors
    /// Every problem of the file, in its order.
    pub fn load(path: &Path) -> Result<Option<Self>, ConfigErrors> {
        let (text, private) = gateway::read_text(path)?;
        Self::parse_as(&text, path, private)
    }

    /// Validates `text` as if it stood in `path`, which need not exist.
    ///
    /// # Errors
    /// Every problem of the text, in its order.
    pub fn parse_as(text: &str, path: &Path, private: bool) -> Result<Option<Self>, ConfigErrors> {
        let source = Source::new(path, text);
        let document = source.document();
        if source.has_problems() {
            // What can be recovered from broken syntax would only complain about its own gaps.
            return Err(source.into_errors());
        }
        let root = Section::root(&source, &document);
        let section = root.section("cluster");
        if !section.is_present() {
            return Ok(None);
        }
        let node = Node::read(&root.section("node"));
        let read = section::read(&section, node.as_ref());
        let is_witness = read.as_ref().is_some_and(|read| read.role == Role::Witness);
        let gateway = if is_witness {
            root.leave(&GATEWAY_SECTIONS);
            root.leave(&["eap-radius"]);
            root.finish();
            None
        } else {
            // It reads [node] as well, whose problems must not be told twice.
            match node {
                Some(_) => gateway::Config::read(&source, &document, private),
                None => None,
            }
        };
        if let (Some(read), Some(gateway)) = (&read, &gateway) {
            announce::check(&section, &read.sharing, gateway);
        }
        match (node, read) {
            (Some(node), Some(read)) if !source.has_problems() && (is_witness || gateway.is_some()) => {
                Ok(Some(read.into_config(path, node, gateway, digest::of(text))))
            }
            _ => Err(source.into_errors()),
        }
    }

    /// Who this member is.
    pub fn identity(&self) -> Identity {
        Identity { cluster: self.node.cluster.clone(), role: self.role(), node: self.node.id }
    }

    /// What this member is there for.
    pub fn role(&self) -> Role {
        self.cluster.member(self.node.id).map_or(Role::Node, |member| member.role)
    }

    /// The members as a channel of this kind reaches them, this one first.
    pub fn members(&self, kind: Kind) -> Vec<channel::Member> {
        let mut members: Vec<_> = self.addresses.iter().filter_map(|at| self.at(at, kind)).collect();
        members.sort_by_key(|member| (member.id != self.node.id, member.id));
        members
    }

    fn at(&self, at: &Address, kind: Kind) -> Option<channel::Member> {
        let Address { id, heartbeat, bulk } = *at;
        let address = match kind {
            Kind::Heartbeat => heartbeat,
            Kind::Bulk => bulk,
        };
        Some(channel::Member { id, role: self.cluster.member(id)?.role, address })
    }

    /// The control socket of the cluster's daemon.
    pub fn control_socket(&self) -> PathBuf {
        self.node.runtime_directory.join(SOCKET)
    }
}

/// The control socket's name, in the runtime directory.
pub const SOCKET: &str = "cluster.sock";
