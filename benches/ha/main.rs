//! High availability: what a takeover, a planned move and being ready for them cost. `./dev bench ha`
//!
//! The parts are described where they are measured, and all of them, with figures, in docs/PERFORMANCE.md. Parts can be
//! named (`./dev bench ha takeover cost`); `--quick` repeats less often.

mod alarms;
#[path = "../../dataplane/tests/common/mod.rs"]
mod common;
mod cost;
mod daemons;
mod fill;
mod moves;
#[path = "../common/plot.rs"]
mod plot;
mod progress;
#[path = "../common/report.rs"]
mod report;
mod stage;
mod strongswan;
mod takeover;
mod traffic;
mod wire;

use std::path::{Path, PathBuf};

use report::Report;
use stage::Result;

const PARTS: [&str; 7] = ["takeover", "strongswan", "alarms", "cost", "load", "move", "fill"];

/// How it is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Fewer repetitions.
    quick: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [cost::COUNT, direction, ahead, ..] = &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..]
    {
        let number = |text: &str| text.parse().unwrap_or(0);
        return cost::counted(number(direction) as usize, number(ahead));
    }
    let asked: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = asked.iter().find(|part| !PARTS.contains(&part.as_str())) {
        println!("there is no part {unknown}; there are {}", PARTS.join(", "));
        std::process::exit(2);
    }
    let options = Options { quick: arguments.iter().any(|argument| argument == "--quick") };
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let mut report = Report::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("bench-ha"));
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|asked| *asked == part);
    let done = run(&mut report, options, &wanted);
    report.write().expect("the folder can be written");
    print_goals(&report);
    if let Err(problem) = done {
        println!("ended early: {problem}");
        std::process::exit(1);
    }
}

fn run(report: &mut Report, options: Options, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    if wanted("cost") {
        cost::run(report, options)?;
    }
    if let Err(lacking) = baton_lab::requirements::lab() {
        println!("SKIPPED: {lacking}");
        return Ok(());
    }
    if wanted("takeover") {
        takeover::run(report, options)?;
    }
    if wanted("strongswan") {
        strongswan::run(report, options);
    }
    if wanted("alarms") {
        alarms::run(report, options)?;
    }
    if wanted("load") {
        daemons::run(report, options)?;
    }
    if wanted("move") {
        moves::run(report, options)?;
    }
    if wanted("fill") {
        fill::run(report, options)?;
    }
    Ok(())
}

fn print_goals(report: &Report) {
    for tunnels in takeover::SIZES {
        let tunnels = tunnels as usize;
        report.print_goal("takeover-gap", "Baton", tunnels, (500, 50.0));
        report.print_goal("takeover-gap", "Baton", tunnels, (990, 100.0));
    }
    strongswan::print_ratio(report);
    for (ahead, part) in cost::AHEAD.into_iter().flat_map(|ahead| ["seal", "open"].map(|part| (ahead, part)))
    {
        for part in [format!("cost-{part}"), format!("cost-{part}-instructions")] {
            report.print_ratio(
                &part,
                0,
                (&cost::name(Some(ahead)), "alone"),
                " (goal: at most 1.02 at 1000)",
            );
        }
    }
    for rate in ["100 Mbit/s", "full rate"] {
        report.print_goal("move-gap", rate, 0, (500, 1.0));
        report.print_goal("move-gap", rate, 0, (990, 10.0));
    }
    if let Some(rate) = report.median("fill", "Baton", fill::TUNNELS as usize) {
        println!("fill: {rate:.0} contexts per second, {:.2} of the goal 50000", rate / 50_000.0);
    }
}
