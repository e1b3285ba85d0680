//! Filling an empty standby, and what replication costs the network.
//!
//! - `fill`: contexts per second, from the operator's command to the standby's having everything.
//! - `fill-octets`: octets on the network between the members per context, all that they say to each other included.

use std::time::Instant;

use baton_lab::control::ControlSocket;
use serde_json::json;

use crate::Options;
use crate::progress::Progress;
use crate::report::{Report, Series};
use crate::stage::{Result, Setup, Stage};

/// Contexts: tunnels of two SAs each.
pub const TUNNELS: u32 = 10_000;

pub fn run(report: &mut Report, options: Options) -> Result<()> {
    let rounds = if options.quick { 5 } else { 30 };
    let bar = Progress::new("fill", rounds);
    let stage = Stage::start(&Setup::new(TUNNELS))?;
    let owner = stage.owner()?;
    let mut socket = ControlSocket::connect_cluster(stage.gateway(owner))?;
    let (mut rates, mut octets) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (before, start) = (stage.sync_octets(1 - owner)?, Instant::now());
        let fills = fills(&mut socket)?;
        socket.ask(json!({"request": "resync"}))?;
        while self::fills(&mut socket)? == fills {
            if start.elapsed() > crate::stage::PATIENCE {
                return Err("the standby was not filled in time".into());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        rates.push(f64::from(TUNNELS) / start.elapsed().as_secs_f64());
        octets.push((stage.sync_octets(1 - owner)? - before) as f64 / f64::from(TUNNELS));
        bar.step();
    }
    bar.end();
    let tunnels = TUNNELS as usize;
    for (part, unit, samples) in [("fill", "1/s", rates), ("fill-octets", "octets", octets)] {
        report.add(Series { part, system: "Baton".to_owned(), tunnels, unit, samples });
    }
    Ok(())
}

/// Standbys that were filled since the daemon started.
fn fills(socket: &mut ControlSocket) -> Result<u64> {
    let status = socket.ask(json!({"request": "status"}))?;
    status["totals"]["fills"].as_u64().ok_or_else(|| format!("no count of fills in {status}").into())
}
