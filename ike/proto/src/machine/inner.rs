//! Inner addresses (RFC 7296 sections 2.19 and 3.15): those that peers get from our pools, and those that we get.

use std::net::IpAddr;
use std::sync::Arc;

use super::child_answer::Refusal;
use super::configuration_payload::{Reply, Request};
use super::core::{Core, Cx, Id};
use super::head::Head;
use super::message::Message;
use super::mobility::is_host;
use super::up::Up;
use crate::configuration::Pool;
use crate::host::{Inside, Output};
use crate::identity::Identity;
use crate::selector::ConfiguredSelector;
use crate::wire::{NotifyType, Payload};

/// What two pools say is told once.
fn add_new<T: Copy + PartialEq>(all: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !all.contains(one) {
            all.push(*one);
        }
    }
}

impl Core {
    /// Nobody uses the addresses of a tunnel any more.
    pub(super) fn release_addresses(&mut self, id: Id, now: std::time::Duration) {
        for address in self.leases.remove(&id).unwrap_or_default() {
            self.pools.release(address, now);
        }
    }
}

impl Up {
    /// Works on the peer's request for inner addresses, before its Child SA: `dynamic` stands for them. The answer, or
    /// why no Child SA can be made.
    pub(super) fn give_addresses(
        &mut self,
        cx: &mut Cx,
        message: &Message,
    ) -> Result<Option<Payload>, Refusal> {
        let request = message.configuration.as_ref().and_then(Request::read);
        let Some(request) = request.filter(|request| !request.addresses.is_empty()) else {
            return self.needs_no_address().map(|()| None);
        };
        let reply = self.lease(cx, &request);
        if reply.addresses.is_empty() {
            return Err(self.no_address(cx));
        }
        self.virtual_addresses.clone_from(&reply.addresses);
        self.dynamic.remote.clone_from(&reply.addresses);
        cx.core.leases.insert(cx.id, reply.addresses.clone());
        Ok(Some(Payload::Configuration(reply.write(&request))))
    }

    /// A peer of a connection with pools, of which every child is for inner addresses, has to ask for one.
    fn needs_no_address(&self) -> Result<(), Refusal> {
        let connection = &self.head.connection;
        let is_dynamic = |remote: &[ConfiguredSelector]| remote.iter().all(ConfiguredSelector::is_dynamic);
        let needs =
            !connection.pools.is_empty() && connection.children.iter().all(|child| is_dynamic(&child.remote));
        if !needs {
            return Ok(());
        }
        let problem = format!(
            "peer {} asks for no inner address, and connection {} gives every peer one; set vips there",
            self.head.peer(),
            connection.name
        );
        Err(Refusal::new(NotifyType::FAILED_CP_REQUIRED, problem))
    }

    fn lease(&self, cx: &mut Cx, request: &Request) -> Reply {
        let mut reply = Reply::default();
        for ipv4 in [true, false] {
            // One of each IP version is what a peer can use.
            let Some(wanted) = request.of_version(ipv4).next() else { continue };
            if let Some(assigned) = self.assigned(ipv4) {
                self.give_assigned(cx, assigned, &mut reply);
            } else if let Some((address, pool)) = self.lease_one(cx, ipv4, wanted) {
                reply.addresses.push(address);
                add_new(&mut reply.dns, &pool.dns);
                add_new(&mut reply.subnets, &pool.subnets);
            }
        }
        let dns = self.session.as_ref().map(|session| session.dns.as_slice());
        add_new(&mut reply.dns, dns.unwrap_or_default());
        reply
    }

    /// The address of that IP version that the user was assigned by who has judged it.
    fn assigned(&self, ipv4: bool) -> Option<IpAddr> {
        let mut addresses = self.session.iter().flat_map(|session| &session.addresses);
        addresses.find(|address| address.is_ipv4() == ipv4).copied()
    }

    /// With what goes with addresses of the connection's pools.
    fn give_assigned(&self, cx: &mut Cx, address: IpAddr, reply: &mut Reply) {
        if let Err(problem) = self.take_assigned(cx, address) {
            return self.head.failed(cx, problem);
        }
        reply.addresses.push(address);
        for pool in self.head.connection.pools.iter().filter_map(|name| cx.core.pools.get(name)) {
            add_new(&mut reply.dns, &pool.dns);
            add_new(&mut reply.subnets, &pool.subnets);
        }
    }

    /// From the first pool of that IP version that has one; a pool that is no longer there has none.
    fn lease_one(&self, cx: &mut Cx, ipv4: bool, wanted: Option<IpAddr>) -> Option<(IpAddr, Arc<Pool>)> {
        let (segment, who, now) = (self.head.segment(), self.peers.proved(), cx.now.monotonic);
        let mut problem = None;
        for name in &self.head.connection.pools {
            let Some(pool) = cx.core.pools.get(name).filter(|pool| pool.first.is_ipv4() == ipv4).cloned()
            else {
                continue;
            };
            match cx.core.pools.lease(name, segment, who, wanted, now) {
                Ok(address) => return Some((address, pool)),
                Err(error) => problem = Some(error.to_string()),
            }
        }
        if let Some(problem) = problem {
            self.head.failed(cx, problem);
        }
        None
    }

    fn no_address(&self, cx: &Cx) -> Refusal {
        let (peer, name) = (self.head.peer(), &self.head.connection.name);
        let has_pools = self.head.connection.pools.iter().any(|pool| cx.core.pools.get(pool).is_some());
        let why = if has_pools { "its pools have none" } else { "it has no pools" };
        let problem = format!(
            "peer {peer} asks for an inner address, and connection {name} gives none: {why}; mend pools"
        );
        Refusal::new(NotifyType::INTERNAL_ADDRESS_FAILURE, problem)
    }

    /// The addresses that we were given, and the DNS servers (RFC 7296 section 2.19): of the IP versions that we have
    /// asked for, and none that would lead to this host itself or to many.
    pub(super) fn take_addresses(&mut self, cx: &mut Cx, message: &Message) {
        let reply = message.configuration.as_ref().and_then(Reply::read).unwrap_or_default();
        let asked = &self.head.connection.virtual_addresses;
        let is_usable =
            |given: &IpAddr| is_host(*given) && asked.iter().any(|asked| asked.is_ipv4() == given.is_ipv4());
        let given: Vec<IpAddr> = reply.addresses.into_iter().filter(is_usable).take(asked.len()).collect();
        if given.is_empty() {
            return;
        }
        add_new(&mut self.dns, &reply.dns.into_iter().filter(is_usable).collect::<Vec<_>>());
        self.virtual_addresses.clone_from(&given);
        self.dynamic.local = given;
        self.settle_in(cx);
    }

    /// This host is to be who the peer has said.
    pub(super) fn settle_in(&self, cx: &mut Cx) {
        if let Some(inside) = self.inside(cx) {
            cx.install(Output::Inside(inside));
        }
    }

    /// This host is to be that no longer.
    pub(super) fn move_out(&self, cx: &mut Cx) {
        if let Some(inside) = self.inside(cx) {
            cx.then(Output::Inside(Inside { addresses: Vec::new(), dns: Vec::new(), ..inside }));
        }
    }

    fn inside(&self, cx: &Cx) -> Option<Inside> {
        let (addresses, dns) = (self.own_addresses(cx), self.dns.clone());
        (!addresses.is_empty()).then(|| Inside { tunnel: self.head.name(), addresses, dns })
    }

    /// The addresses that the peer has given us; those that are leased are the peer's.
    pub(super) fn own_addresses(&self, cx: &Cx) -> Vec<IpAddr> {
        if cx.core.leases.contains_key(&cx.id) { Vec::new() } else { self.virtual_addresses.clone() }
    }
}

/// The request for inner addresses, if the connection is to have any: where the choice is the peer's, those that we had
/// before (RFC 7296 section 3.15.1, RFC 5723 section 5), so that what uses them goes on.
pub(super) fn request(head: &Head, before: &[IpAddr]) -> Option<Payload> {
    let asked = &head.connection.virtual_addresses;
    let mut free: Vec<IpAddr> = before.iter().filter(|address| !asked.contains(address)).copied().collect();
    let again = |wanted: &IpAddr| {
        let is_alike = |former: &IpAddr| wanted.is_unspecified() && former.is_ipv4() == wanted.is_ipv4();
        free.iter().position(is_alike).map_or(*wanted, |at| free.remove(at))
    };
    let wanted: Vec<IpAddr> = asked.iter().map(again).collect();
    (!wanted.is_empty()).then(|| Payload::Configuration(Request::write(&wanted)))
}

/// Notes the addresses of a tunnel that was restored, all or none.
pub(super) fn retake(core: &mut Core, id: Id, who: &Identity, addresses: &[IpAddr]) -> Result<(), String> {
    core.pools.taken(addresses, who).map_err(|error| error.to_string())?;
    core.leases.insert(id, addresses.to_vec());
    Ok(())
}
