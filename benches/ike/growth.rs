//! A daemon with more and more tunnels: how long one more takes, how fast they come, what each costs in memory.

use crate::clients::Clients;
use crate::report::{Report, Series};
use crate::stage::{Place, Result, Stage, System};

pub const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];
/// Set-ups that are timed at each size, one after the other.
const TIMED: u32 = 200;
/// Set-ups at a time while the daemon is filled.
const AT_A_TIME: usize = 32;

/// Measures one system as responder.
pub fn run(report: &mut Report, system: System) -> Result<()> {
    let mut stage = Stage::build()?;
    stage.start(system, Place::Responder)?;
    let mut clients = Clients::new(&stage)?;
    clients.set_up(0..1, 1)?;
    let empty = stage.ends[0].memory()?;
    let mut number = 1;
    for size in SIZES {
        let measured = grow(&mut clients, &mut number, size);
        let took = measured.map_err(|problem| format!("{problem}; its log:\n{}", stage.ends[0].log()))?;
        let (name, tunnels) = (system.to_string(), size as usize);
        report.add(Series {
            part: "growth-set-up",
            system: name.clone(),
            tunnels,
            unit: "ms",
            samples: took,
        });
        if size >= 1_000 {
            let each = (stage.ends[0].memory()? - empty) / f64::from(number - 1) / 1024.0;
            report.add(Series::single("memory", &name, tunnels, "KiB", each));
        }
    }
    Ok(())
}

/// Fills up to `size` tunnels and times some more.
fn grow(clients: &mut Clients, number: &mut u32, size: u32) -> Result<Vec<f64>> {
    clients.set_up(*number..size.max(*number), AT_A_TIME)?;
    *number = size.max(*number);
    let took = clients.set_up(*number..*number + TIMED, 1)?;
    *number += TIMED;
    Ok(took.iter().map(|took| took.as_secs_f64() * 1e3).collect())
}
