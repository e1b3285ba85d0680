//! The same daemon at both ends, over veth: one set-up after the other, and many at once.

use std::time::Duration;

use crate::report::{Report, Series};
use crate::stage::{Place, Result, Stage, System};
use crate::wire::Wire;

/// Set-ups one after the other.
const SEQUENTIAL: u32 = 200;
/// Set-ups at once.
pub const AT_ONCE: u32 = 500;
const ROUNDS: u32 = 3;
const PATIENCE: Duration = Duration::from_mins(1);

/// Measures one system.
pub fn run(report: &mut Report, system: System) -> Result<()> {
    let mut stage = Stage::build()?;
    stage.start(system, Place::Responder)?;
    stage.start(system, Place::Initiator(SEQUENTIAL + ROUNDS * AT_ONCE))?;
    sequential(report, system, &stage)?;
    at_once(report, system, &stage)
}

fn fail(stage: &Stage, what: &str) -> Box<dyn std::error::Error> {
    let logs: Vec<String> = stage.ends.iter().map(crate::stage::End::log).collect();
    format!("{what}; the daemons' logs:\n{}", logs.join("\n---\n")).into()
}

fn sequential(report: &mut Report, system: System, stage: &Stage) -> Result<()> {
    let wire = Wire::watch(stage)?;
    let mut starter = stage.ends[1].starter()?;
    for number in 0..SEQUENTIAL {
        starter.begin(number)?;
        if !wire.wait_for(number as usize + 1, PATIENCE) {
            return Err(fail(stage, "a set-up was not done in time"));
        }
    }
    let samples =
        wire.stop()?.iter().map(|(began, done)| done.saturating_sub(*began).as_secs_f64() * 1e3).collect();
    let tunnels = 0;
    report.add(Series {
        part: "sequential-set-up",
        system: system.to_string(),
        tunnels,
        unit: "ms",
        samples,
    });
    Ok(())
}

fn at_once(report: &mut Report, system: System, stage: &Stage) -> Result<()> {
    let (mut rates, mut used) = (Vec::new(), [Vec::new(), Vec::new()]);
    for round in 0..ROUNDS {
        let wire = Wire::watch(stage)?;
        let mut starter = stage.ends[1].starter()?;
        let before = [stage.ends[0].cpu()?, stage.ends[1].cpu()?];
        for number in 0..AT_ONCE {
            starter.begin(SEQUENTIAL + round * AT_ONCE + number)?;
        }
        if !wire.wait_for(AT_ONCE as usize, PATIENCE) {
            return Err(fail(stage, "set-ups at once were not done in time"));
        }
        let times = wire.stop()?;
        let first = times.iter().map(|(began, _)| *began).min().unwrap_or_default();
        let last = times.iter().map(|(_, done)| *done).max().unwrap_or_default();
        rates.push(f64::from(AT_ONCE) / last.saturating_sub(first).as_secs_f64());
        for (end, (used, before)) in used.iter_mut().zip(before).enumerate() {
            used.push((stage.ends[end].cpu()? - before) / f64::from(AT_ONCE) * 1e3);
        }
    }
    let tunnels = AT_ONCE as usize;
    report.add(Series {
        part: "set-ups-at-once",
        system: system.to_string(),
        tunnels,
        unit: "1/s",
        samples: rates,
    });
    for (role, samples) in ["responder", "initiator"].into_iter().zip(used) {
        report.add(Series { part: "cpu", system: format!("{system} {role}"), tunnels, unit: "ms", samples });
    }
    Ok(())
}
