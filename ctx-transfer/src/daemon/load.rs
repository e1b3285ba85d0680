//! What this machine has to do, measured once a second where the configuration has thresholds for it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use baton_dataplane::control::{Client, ClientError, Counters};
use serde_json::json;
use tracing::debug;

use super::DaemonError;
use super::error::system;
use super::input::{Input, Inputs};
use crate::cluster::{Event, Load};
use crate::config::Config;

const EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(1);
/// Its first line, which is for all processors, is shorter.
const LINE: usize = 256;

/// The kernel's count of what processors do; opened before the fence is up.
pub(super) fn open(config: &Config) -> Result<Option<File>, DaemonError> {
    let is_wanted = config.gateway.is_some() && !config.cluster.trigger.is_off();
    let open = || File::open(Path::new("/proc/stat")).map_err(system("open /proc/stat"));
    is_wanted.then(open).transpose()
}

/// Starts the thread.
pub(super) fn start(config: &Config, stat: Option<File>, inputs: Inputs) -> Result<(), DaemonError> {
    let (Some(stat), Some(gateway)) = (stat, &config.gateway) else { return Ok(()) };
    let meter = Meter { stat, socket: gateway.control_socket(), processors: None, drops: None };
    let measure = move || meter.measure(&inputs);
    thread::Builder::new().name("load".to_owned()).spawn(measure).map_err(system("start a thread"))?;
    Ok(())
}

/// Time of all processors since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Processors {
    busy: u64,
    all: u64,
}

struct Meter {
    stat: File,
    socket: PathBuf,
    processors: Option<Processors>,
    drops: Option<(Instant, u64)>,
}

impl Meter {
    fn measure(mut self, inputs: &Inputs) {
        loop {
            let load = Load { cpu_per_mille: self.cpu(), drops_per_second: self.drops() };
            if !inputs.tell(Input::Core(Event::Load(load))) {
                return;
            }
            thread::sleep(EVERY);
        }
    }

    /// Since the last time.
    fn cpu(&mut self) -> u16 {
        let now = match read(&self.stat) {
            Ok(now) => now,
            Err(error) => {
                debug!(%error, "the load of processors is not known");
                None
            }
        };
        let before = std::mem::replace(&mut self.processors, now);
        now.zip(before).map_or(0, |(now, before)| per_mille(before, now))
    }

    /// The same; none while the data plane is away.
    fn drops(&mut self) -> u64 {
        let now = dropped(&self.socket).ok().map(|drops| (Instant::now(), drops));
        let before = std::mem::replace(&mut self.drops, now);
        let Some(((now, drops), (then, earlier))) = now.zip(before) else { return 0 };
        let milliseconds = now.saturating_duration_since(then).as_millis().max(1);
        let rate = u128::from(drops.saturating_sub(earlier)) * 1000 / milliseconds;
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

fn dropped(socket: &Path) -> Result<u64, ClientError> {
    let counters: Counters = Client::connect(socket, PATIENCE)?.request(&json!({ "request": "counters" }))?;
    let drops = counters.counters.iter().filter(|counter| counter.group == "drop");
    Ok(drops.fold(0, |sum: u64, counter| sum.saturating_add(counter.value)))
}

fn read(stat: &File) -> io::Result<Option<Processors>> {
    let mut line = [0; LINE];
    let read = stat.read_at(&mut line, 0)?;
    Ok(std::str::from_utf8(&line[..read]).ok().and_then(|text| parse(text.lines().next()?)))
}

/// proc_stat(5): user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in the first two.
fn parse(line: &str) -> Option<Processors> {
    let times = line.strip_prefix("cpu ")?.split_whitespace().take(8).map(str::parse::<u64>);
    let times = times.collect::<Result<Vec<_>, _>>().ok()?;
    let all = times.iter().fold(0, |sum: u64, time| sum.saturating_add(*time));
    let idle = times.get(3)?.saturating_add(*times.get(4)?);
    Some(Processors { busy: all.saturating_sub(idle), all })
}

fn per_mille(before: Processors, now: Processors) -> u16 {
    let (busy, all) = (now.busy.saturating_sub(before.busy), now.all.saturating_sub(before.all));
    let share = u128::from(busy) * 1000 / u128::from(all.max(1));
    u16::try_from(share.min(1000)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_what_was_not_idle() {
        let before = parse("cpu  100 0 50 800 50 0 0 0 0 0").expect("times");
        assert_eq!(before, Processors { busy: 150, all: 1000 });
        let now = parse("cpu  160 0 70 900 60 5 3 2 9 9").expect("times");
        assert_eq!(per_mille(before, now), 450);
        assert_eq!(per_mille(now, before), 0, "a count that went back");
        assert_eq!(per_mille(now, now), 0);
        for line in ["", "cpu", "cpu 1 2 3", "cpu a b c d e", "intr 1 2 3 4 5 6 7 8"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
