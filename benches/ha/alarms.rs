//! The shortest time in which a death is noticed that gives no false alarm on this machine.
//!
//! `false-alarms`: takeovers and lapsed leases per minute with nobody dead, both nodes' cores saturated by traffic at
//! full rate, for each heartbeat interval and number of missing ones; the time is the longest that detection takes.

use std::time::{Duration, Instant};

use baton_lab::topology::client_port;

use crate::Options;
use crate::progress::Progress;
use crate::report::{Report, Series};
use crate::stage::{Result, Setup, Stage};
use crate::traffic::{Pace, Stream};

/// Milliseconds between heartbeats, and how many may be missing.
const DETECTIONS: [(u64, u32); 6] = [(10, 3), (10, 5), (20, 3), (20, 4), (30, 4), (40, 4)];
const OCTETS: usize = 1372;
const WINDOW: u64 = 256;

pub fn run(report: &mut Report, options: Options) -> Result<()> {
    let time = Duration::from_secs(if options.quick { 8 } else { 300 });
    let bar = Progress::new("false alarms", DETECTIONS.len());
    let mut shortest: Option<(u64, u32)> = None;
    for (interval, missed) in DETECTIONS {
        let alarms = count(interval, missed, time)?;
        let each_minute = alarms as f64 * 60.0 / time.as_secs_f64();
        let system = format!("{interval} ms x {missed}");
        report.add(Series::single("false-alarms", &system, 0, "1/min", each_minute));
        if alarms == 0 && shortest.is_none() {
            shortest = Some((interval, missed));
        }
        bar.step();
    }
    bar.end();
    match shortest {
        Some((interval, missed)) => println!(
            "shortest detection without a false alarm here: {interval} ms x {missed}, {} ms at most, each tried for {time:?}",
            interval * (u64::from(missed) + 1)
        ),
        None => println!("no detection time that was tried was free of false alarms here"),
    }
    Ok(())
}

/// Takeovers and lapses while all are well.
fn count(interval: u64, missed: u32, time: Duration) -> Result<u64> {
    let interval = Duration::from_millis(interval);
    let stage = Stage::start(&Setup { interval, missed, ..Setup::new(10) })?;
    let topology = &stage.site.topology;
    let _stream =
        Stream::start(&topology.server, &topology.client, client_port(5005), OCTETS, Pace::Window(WINDOW))?;
    std::thread::sleep(Duration::from_millis(500));
    let (before, start) = (alarms(&stage)?, Instant::now());
    std::thread::sleep(time.saturating_sub(start.elapsed()));
    Ok(alarms(&stage)? - before)
}

fn alarms(stage: &Stage) -> Result<u64> {
    let mut all = 0;
    for index in 0..2 {
        all += stage.total(index, "takeovers")? + stage.total(index, "lapses")?;
    }
    Ok(all)
}
