//! What must be true when the network has healed and time has passed.

use std::collections::BTreeSet;

use baton_ike_proto::machine::{ChildView, TunnelState, TunnelView};
use baton_ike_proto::selector::TrafficSelector;

use crate::setting::{Users, identity};
use crate::table::Sa;
use crate::world::World;

/// What is sent by an SA that has taken another one's place can be received, and is protected by a policy.
pub fn no_gap(world: &World) -> Result<(), String> {
    for (at, node) in world.nodes.iter().enumerate() {
        for sa in node.host.table.outbound.values().filter(|sa| sa.is_successor) {
            let others = world.nodes.iter().filter(|other| other.number != at);
            let mut receivers = others.filter_map(|other| other.host.table.inbound.get(&sa.spi));
            if !receivers.any(|receiver| receiver.key == sa.key) {
                return Err(format!("node {at} sends by SPI {:08x}, which nobody receives", sa.spi));
            }
            if !node.host.table.policies.values().any(|policy| policy.reqid == sa.reqid) {
                return Err(format!("node {at} has no policy for reqid {:08x}", sa.reqid));
            }
        }
    }
    Ok(())
}

/// Both ends of everything agree, and nothing is left over.
pub fn check(world: &World) -> Result<(), String> {
    addresses_are_single(world)?;
    for at in 0..world.nodes.len() {
        let tunnels = world.tunnels(at);
        insides_are_what_was_given(world, at, &tunnels).map_err(|why| format!("node {at}: {why}"))?;
        table_is_what_the_machine_says(world, at, &tunnels).map_err(|why| format!("node {at}: {why}"))?;
        for view in &tunnels {
            let name = &view.name;
            other_end_agrees(world, at, view).map_err(|why| format!("node {at}, tunnel {name}: {why}"))?;
        }
    }
    Ok(())
}

/// Each SA's packets get through.
pub fn traffic_crosses(world: &mut World) -> Result<(), String> {
    // What a takeover has reserved it may cost: a pair that the peer did not know yet when it was asked to skip.
    let most = if world.setting.standbys { 50_000 } else { 1 };
    for at in 0..world.nodes.len() {
        let sending = world.tunnels(at).into_iter().flat_map(|view| view.children);
        for child in sending.filter(|child| child.is_sending).collect::<Vec<_>>() {
            let is_left_over = world.nodes.iter().any(|node| !node.failed_over.is_empty())
                && world.nodes.iter().all(|node| !node.host.table.inbound.contains_key(&child.outbound_spi));
            let mut is_taken = false;
            for _ in 0..most {
                is_taken = is_taken || world.packet(at, child.reqid)?;
            }
            if !is_taken && !is_left_over {
                return Err(format!("node {at}: what is sent by {:08x} is refused", child.outbound_spi));
            }
        }
    }
    Ok(())
}

/// No inner address is given to two peers.
fn addresses_are_single(world: &World) -> Result<(), String> {
    let mut given = BTreeSet::new();
    let all = world.tunnels(0).into_iter().flat_map(|view| view.virtual_addresses);
    let twice: Vec<_> = all.filter(|address| !given.insert(*address)).collect();
    if twice.is_empty() { Ok(()) } else { Err(format!("inner addresses are given twice: {twice:?}")) }
}

/// The first node gives addresses, the others have them.
fn insides_are_what_was_given(world: &World, at: usize, tunnels: &[TunnelView]) -> Result<(), String> {
    let has_any = |view: &&TunnelView| at != 0 && !view.virtual_addresses.is_empty();
    let given = tunnels.iter().filter(has_any);
    let given = given.map(|view| (view.name.clone(), view.virtual_addresses.clone())).collect();
    let inside = &world.nodes[at].host.table.inside;
    same("what nodes are inside", &inside.clone().into_iter().collect(), &given)
}

fn table_is_what_the_machine_says(world: &World, at: usize, tunnels: &[TunnelView]) -> Result<(), String> {
    let table = &world.nodes[at].host.table;
    let children: Vec<_> = tunnels.iter().flat_map(|view| &view.children).collect();
    let inbound = children.iter().map(|child| child.inbound_spi).collect();
    let outbound = children.iter().map(|child| (child.reqid, child.outbound_spi)).collect();
    let policies = children.iter().filter_map(|child| child.policy.clone()).collect();
    same("inbound SAs", &table.inbound.keys().copied().collect(), &inbound)?;
    same("outbound SAs", &table.outbound.iter().map(|(reqid, sa)| (*reqid, sa.spi)).collect(), &outbound)?;
    same("policies", &table.policies.keys().cloned().collect(), &policies)?;
    let contexts = table.contexts.keys().cloned().collect();
    same("contexts", &contexts, &tunnels.iter().map(|view| view.name.clone()).collect())
}

fn same<T: Ord + std::fmt::Debug>(
    what: &str,
    table: &BTreeSet<T>,
    machine: &BTreeSet<T>,
) -> Result<(), String> {
    let (only_table, only_machine): (Vec<_>, Vec<_>) =
        (table.difference(machine).collect(), machine.difference(table).collect());
    if only_table.is_empty() && only_machine.is_empty() {
        return Ok(());
    }
    Err(format!("{what}: only in the table {only_table:x?}, only in the machine {only_machine:x?}"))
}

fn other_end_agrees(world: &World, at: usize, view: &TunnelView) -> Result<(), String> {
    if view.state != TunnelState::Established {
        return Err(format!("is left {:?}", view.state));
    }
    let (other, their) = world.other_end(at, view).ok_or("the other end has no such IKE SA")?;
    let is_user = world.setting.users != Users::None && at == 0;
    let has_session = is_user && world.setting.users == Users::JudgedElsewhere;
    if view.session.is_some() != has_session || view.user.clone() != is_user.then(|| identity(other)) {
        return Err(format!("user {:?}, session {:?}", view.user, view.session));
    }
    if their.role == view.role || their.message_ids != (view.message_ids.1, view.message_ids.0) {
        return Err(format!("roles or Message IDs: {:?} {:?}", view.message_ids, their.message_ids));
    }
    if world.destination(view.path.remote).map(|(at, _)| at) != Some(other) {
        return Err(format!("the peer is not at {}", view.path.remote));
    }
    if view.virtual_addresses != their.virtual_addresses {
        return Err(format!("inner addresses: {:?} {:?}", view.virtual_addresses, their.virtual_addresses));
    }
    // What was made by an exchange that the lost gateway did not finish is left at one end (RFC 6311 section 8.3).
    let has_failed_over = |at: usize, name| world.nodes[at].failed_over.contains(name);
    if has_failed_over(at, &view.name) || has_failed_over(other, &their.name) {
        return Ok(());
    }
    if view.children.len() != their.children.len() {
        return Err(format!("{} Child SAs here, {} there", view.children.len(), their.children.len()));
    }
    view.children.iter().try_for_each(|child| child_agrees(world, (at, child), (other, &their)))
}

fn child_agrees(
    world: &World,
    (at, ours): (usize, &ChildView),
    (other, their): (usize, &TunnelView),
) -> Result<(), String> {
    let spi = ours.inbound_spi;
    let crossed = |c: &&ChildView| (c.inbound_spi, c.outbound_spi) == (ours.outbound_spi, ours.inbound_spi);
    let theirs = their.children.iter().find(crossed).ok_or(format!("Child SA {spi:08x} has no other end"))?;
    if sorted(&ours.local) != sorted(&theirs.remote) || sorted(&ours.remote) != sorted(&theirs.local) {
        return Err(format!("selectors of {spi:08x}"));
    }
    let outbound = world.nodes[at].host.table.outbound.get(&ours.reqid);
    if outbound.is_none_or(|sa| sa.ends != ours.ends) {
        return Err(format!("the outbound SA of {spi:08x} leads elsewhere"));
    }
    let receiver = world.nodes[at].host.table.inbound.get(&spi).ok_or("no inbound SA")?;
    let sender = world.nodes[other].host.table.outbound.get(&theirs.reqid).ok_or("no outbound SA")?;
    if receiver.ends != ours.ends {
        return Err(format!("inbound SA {spi:08x} has other ends"));
    }
    if alike(receiver) == alike(sender) { Ok(()) } else { Err(format!("keys of {spi:08x}")) }
}

fn alike(sa: &Sa) -> (u32, &[u8], &str) {
    (sa.spi, &sa.key, &sa.suite)
}

fn sorted(selectors: &[TrafficSelector]) -> Vec<String> {
    let mut shown: Vec<_> = selectors.iter().map(ToString::to_string).collect();
    shown.sort();
    shown
}
