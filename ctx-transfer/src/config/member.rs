//! `[[cluster.member]]`: who belongs to the cluster, and where.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use baton_dataplane::config::field::{integer, is_unicast, word};
use baton_dataplane::config::node_id;
use baton_dataplane::config::reader::{Item, Place, Section, shortened};
use baton_sad::NodeId;

use crate::cluster::{MAX_MEMBERS, Member, Role};

/// Where a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Who.
    pub id: NodeId,
    /// Its heartbeats.
    pub heartbeat: SocketAddr,
    /// Everything else: the next port.
    pub bulk: SocketAddr,
}

/// A member that was read, and where it stands.
pub(super) struct Read {
    pub(super) member: Member,
    pub(super) address: Address,
    place: Place,
}

pub(super) fn read(section: &Section<'_, '_>, port: u16) -> Option<Read> {
    let id = section.require("id", "say which member this is: id = 1..=255");
    let id = id.and_then(|item| node_id(&item));
    let remedy = "give its address on the network between the members: address = \"192.0.2.1\"";
    let address = section.require("address", remedy).and_then(|item| address(&item, port));
    let role = role(section);
    let priority = integer(section, "priority", 0..=255, 100).and_then(|value| u8::try_from(value).ok());
    section.finish();
    let (id, heartbeat) = (id?, address?);
    let bulk = SocketAddr::new(heartbeat.ip(), heartbeat.port() + 1);
    Some(Read {
        member: Member { id, role: role?, priority: priority? },
        address: Address { id, heartbeat, bulk },
        place: section.place(),
    })
}

#[derive(Clone, Copy, Default)]
struct RoleWord(Option<Role>);

fn role(section: &Section<'_, '_>) -> Option<Role> {
    let words = [("node", RoleWord(Some(Role::Node))), ("witness", RoleWord(Some(Role::Witness)))];
    word(section, "role", &words).map(|RoleWord(role)| role.unwrap_or(Role::Node))
}

/// An address, with or without a port. Loopback addresses are for members on one machine, in tests.
fn address(item: &Item<'_, '_>, port: u16) -> Option<SocketAddr> {
    let text = item.string()?;
    let alone = || text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
    let found = text.parse::<SocketAddr>().ok().or_else(alone);
    let usable = |at: &SocketAddr| {
        (is_unicast(at.ip()) || at.ip().is_loopback()) && (1..u16::MAX).contains(&at.port())
    };
    let found = found.filter(usable);
    if found.is_none() {
        let message = format!("\"{}\" is no address of a member", shortened(text));
        item.report(
            message,
            "write \"192.0.2.1\", \"192.0.2.1:4740\", \"2001:db8::1\" or \"[2001:db8::1]:4740\"",
        );
    }
    found
}

/// What only shows when all members are seen together.
pub(super) fn check(section: &Section<'_, '_>, members: &[Read], own: Option<NodeId>) {
    let source = section.source();
    if members.len() > MAX_MEMBERS {
        let message = format!("{} members are too many", members.len());
        section.place().report(source, message, format!("a cluster has {MAX_MEMBERS} at most"));
    }
    let mut ids = HashSet::new();
    let mut ports: HashMap<SocketAddr, NodeId> = HashMap::new();
    for read in members {
        let id = read.member.id;
        if !ids.insert(id) {
            read.place.report(
                source,
                format!("member {} stands here twice", id.get()),
                "give each an id of its own",
            );
        }
        let own_ports = [read.address.heartbeat, read.address.bulk];
        let taken = own_ports.into_iter().find_map(|port| Some((port, *ports.get(&port)?)));
        if let Some((port, other)) = taken.filter(|(_, other)| *other != id) {
            let message = format!("{port} is a port of member {} already", other.get());
            read.place.report(
                source,
                message,
                "each member needs two ports of its own: its own and the next",
            );
        }
        ports.extend(own_ports.map(|port| (port, id)));
    }
    same_family(section, members);
    if !members.iter().any(|read| read.member.role == Role::Node) {
        section.place().report(source, "there is no node among the members", "a witness alone owns nothing");
    }
    if let Some(own) = own.filter(|own| !ids.contains(own)) {
        let message = format!("this node, {}, is not among the members", own.get());
        section.place().report(source, message, "list every member, this one too, in [[cluster.member]]");
    }
}

/// One socket calls all others.
fn same_family(section: &Section<'_, '_>, members: &[Read]) {
    let Some(first) = members.first() else { return };
    let is_other = |read: &&Read| read.address.heartbeat.is_ipv4() != first.address.heartbeat.is_ipv4();
    if let Some(other) = members.iter().find(is_other) {
        let message = "members have IPv4 and IPv6 addresses";
        other.place.report(section.source(), message, "write all of one kind");
    }
}
