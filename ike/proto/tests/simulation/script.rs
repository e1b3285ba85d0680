//! What happens to the nodes besides the network: commands from both ends, at once if need be, crashes, droughts.

use std::time::Duration;

use baton_ike_proto::Command;
use baton_ike_proto::host::Target;
use baton_ike_proto::machine::TunnelView;
use baton_ike_proto::wire::GatewayIdentity;

use crate::setting::{child_name, connection_name, place, seen};
use crate::world::World;

/// Something happens after so much time, on average.
const PAUSE_MILLIS: u64 = 6000;

/// Lets random things happen for so long.
pub fn play(world: &mut World, time: Duration) -> Result<(), String> {
    let end = world.now + time;
    world.nodes.iter_mut().for_each(|node| node.refuses = true);
    for node in 0..world.nodes.len() {
        initiate(world, node, None)?;
    }
    while world.now < end {
        let pause = match world.random.below(4) {
            0 => Duration::from_millis(world.random.below(30)),
            _ => Duration::from_millis(world.random.below(2 * PAUSE_MILLIS)),
        };
        world.run_for(pause)?;
        act(world)?;
    }
    Ok(())
}

fn act(world: &mut World) -> Result<(), String> {
    let node = world.random.below(world.nodes.len() as u64) as usize;
    match world.random.below(100) {
        0..8 => initiate(world, node, None),
        8..16 => {
            if world.setting.standbys && world.random.per_mille(300) {
                return world.nodes[node].hand_over(world.now);
            }
            world.nodes[node].forgets = world.random.per_mille(200);
            crash(world, node);
            Ok(())
        }
        16..22 => {
            world.nodes[node].nat.iter_mut().for_each(crate::node::Nat::forget);
            world.nodes[node].note(world.now, "its NAT forgets");
            Ok(())
        }
        22..25 => roam(world, node),
        28..36 => {
            fail_over(world, node);
            Ok(())
        }
        36..44 => send(world, node),
        25..28 => {
            world.nodes[node].host.dry ^= true;
            Ok(())
        }
        _ => disturb(world, node),
    }
}

/// Sets up a connection, or one more of its Child SAs.
fn initiate(world: &mut World, node: usize, child: Option<String>) -> Result<(), String> {
    let others: Vec<_> = (0..world.nodes.len()).filter(|other| *other != node).collect();
    let other = *world.random.pick(&others).expect("at least two nodes");
    world.command(node, Command::Initiate { connection: connection_name(other), child })
}

/// The node is somewhere else, or back, with all its tunnels. Those that it has not set up end by that (RFC 4555 section
/// 3.6: with one address there is nowhere to say so from).
fn roam(world: &mut World, node: usize) -> Result<(), String> {
    if world.setting.mobike.is_none() || world.nodes[node].nat.is_some() {
        return Ok(());
    }
    let address = match world.random.below(4) {
        0 => seen(node),
        at => place(node, at as u8),
    };
    world.nodes[node].host.address = address;
    world.nodes[node].note(world.now, &format!("is at {address} now"));
    world.command(node, Command::AddressesChanged)
}

/// Soon, between any two outputs.
fn crash(world: &mut World, node: usize) {
    world.nodes[node].fuse = Some(world.random.below(12));
}

/// Takes a copy of a tunnel, or goes on with the one that was taken, if that is all that the node would lose.
fn fail_over(world: &mut World, node: usize) {
    if !world.nodes[node].go_on_with_copy(world.now)
        && let Some(view) = world.random.pick(&world.standing(node)).cloned()
    {
        world.nodes[node].take_copy(&view);
    }
}

/// Some packets on one of its SAs.
fn send(world: &mut World, node: usize) -> Result<(), String> {
    let reqids: Vec<u32> = world.nodes[node].host.table.outbound.keys().copied().collect();
    let Some(reqid) = world.random.pick(&reqids).copied() else { return Ok(()) };
    (0..=world.random.below(100)).try_for_each(|_| world.packet(node, reqid).map(drop))
}

/// One end of a tunnel wants something, and half of the time so does the other end, before either hears of it.
fn disturb(world: &mut World, node: usize) -> Result<(), String> {
    let tunnels = world.standing(node);
    let Some(view) = world.random.pick(&tunnels).cloned() else { return Ok(()) };
    let other = world.other_end(node, &view);
    want_something(world, node, &view)?;
    match other {
        Some((other, view)) if world.random.per_mille(500) => want_something(world, other, &view),
        _ => Ok(()),
    }
}

fn want_something(world: &mut World, node: usize, view: &TunnelView) -> Result<(), String> {
    let tunnel = Target::Tunnel(view.name.as_str().to_owned());
    let child = world.random.pick(&view.children).cloned();
    let command = match (world.random.below(100), child) {
        (0..25, _) => Command::RekeyIke(tunnel),
        (25..55, Some(child)) => Command::RekeyChild(Target::Spi(child.inbound_spi)),
        (55..62, Some(child)) => Command::SoftLimit { reqid: child.reqid, spi: child.outbound_spi },
        (62..65, Some(child)) => Command::HardLimit { reqid: child.reqid, spi: child.inbound_spi },
        (65..75, Some(child)) => Command::Terminate(Target::Spi(child.inbound_spi)),
        (75..80, _) => Command::Terminate(tunnel),
        (80..84, _) => Command::Redirect { target: Some(tunnel), gateway: anybody(world, view) },
        (84..86, _) => Command::Synchronize(tunnel),
        _ => {
            let child = child_name(world.random.below(world.setting.children as u64) as usize);
            Command::Initiate { connection: view.connection.clone(), child: Some(child) }
        }
    };
    world.command(node, command)
}

/// A node, or nobody. One behind a NAT would not know that it is sent to itself.
fn anybody(world: &mut World, view: &TunnelView) -> GatewayIdentity {
    let picked = world.random.below(world.nodes.len() as u64 + 1) as usize;
    let is_itself = view.path.remote.ip() == seen(picked) && world.setting.behind_nat[picked];
    GatewayIdentity::Address(seen(if is_itself { world.nodes.len() } else { picked }))
}

/// The network heals, the dead come back, and then there is only time.
pub fn heal(world: &mut World) -> Result<(), String> {
    world.network.heal();
    for node in &mut world.nodes {
        (node.fuse, node.refuses) = (None, false);
        node.host.dry = false;
        node.judge.is_healthy = true;
    }
    // Whoever is sent to a gateway finds it where it is said to be.
    let sent = if world.setting.follows { world.nodes.len() } else { 0 };
    for at in 0..sent {
        let home = world.setting.address(at);
        if std::mem::replace(&mut world.nodes[at].host.address, home) != home {
            world.command(at, Command::AddressesChanged)?;
        }
    }
    Ok(())
}

/// Waits for a moment at which nothing has been under way for a while; not for ever.
pub fn settle(world: &mut World) -> Result<(), String> {
    let last = world.now + Duration::from_mins(20);
    world.run_for(Duration::from_mins(10))?;
    while world.now < last {
        let is_quiet = world.network.next_arrival().is_none();
        if is_quiet && world.now > world.last_arrival + Duration::from_secs(8) {
            return Ok(());
        }
        world.run_for(Duration::from_secs(1))?;
    }
    Err("the nodes never stop talking".to_owned())
}
