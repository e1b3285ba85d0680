//! IKE set-ups beside strongSwan's on the same machine in the same run: `./dev bench ike`.
//!
//! All with the same proposal and a shared secret. Ratios are what this shows; absolute figures are this machine's.
//!
//! - `machine-set-up`: two machines in this process, without sockets or files.
//! - `sequential-set-up`: the same daemon at both ends over veth, one after the other, from the first IKE_SA_INIT request
//!   to the IKE_AUTH response on the wire.
//! - `set-ups-at-once`, `cpu`: many of them begun at once.
//! - `growth-set-up`, `memory`: one client after the other comes to a daemon that has more and more tunnels; the client is
//!   the same for both.
//! - `get-context`, `move-context`, `put-context`: the whole commands `dpctl snapshot`, `dpctl snapshot --move` and
//!   `dpctl restore` of one of 10,000 tunnels, beside what a process costs that does nothing.
//!
//! Parts can be named: `./dev bench ike machine pair growth context`.

mod clients;
mod context;
mod growth;
mod machine;
mod pair;
#[path = "../common/plot.rs"]
mod plot;
#[path = "../common/report.rs"]
mod report;
mod stage;
mod tunnel;
mod wire;

use std::path::{Path, PathBuf};

use report::Report;
use stage::{Result, System};

const PARTS: [&str; 4] = ["machine", "pair", "growth", "context"];

fn main() {
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if let Some(unknown) = asked.iter().find(|part| !PARTS.contains(&part.as_str())) {
        println!("there is no part {unknown}; there are {}", PARTS.join(", "));
        std::process::exit(2);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    let mut report = Report::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join(target).join("bench-ike"));
    let wanted = |part: &str| asked.is_empty() || asked.iter().any(|asked| asked == part);
    let done = run(&mut report, &wanted);
    report.write().expect("the folder can be written");
    print_ratios(&report);
    if let Err(problem) = done {
        println!("ended early: {problem}");
        std::process::exit(1);
    }
}

fn print_ratios(report: &Report) {
    let systems = ("Baton", "strongSwan");
    report.print_ratio("sequential-set-up", 0, systems, " (goal: below 1)");
    report.print_ratio("set-ups-at-once", pair::AT_ONCE as usize, systems, " (goal: at least 3)");
    for size in growth::SIZES {
        report.print_ratio("growth-set-up", size as usize, systems, "");
        report.print_ratio("memory", size as usize, systems, "");
    }
    let [few, many] = [10, 10_000].map(|size| report.median("growth-set-up", "Baton", size));
    if let Some((few, many)) = few.zip(many) {
        println!("growth-set-up: Baton at 10,000 / Baton at 10 = {:.3} (goal: 1)", many / few);
    }
}

fn run(report: &mut Report, wanted: &dyn Fn(&str) -> bool) -> Result<()> {
    if wanted("machine") {
        machine::run(report);
    }
    if let Err(lacking) = baton_lab::requirements::lab() {
        println!("SKIPPED all but the machine: {lacking}");
        return Ok(());
    }
    for system in systems() {
        if wanted("pair") {
            pair::run(report, system)?;
        }
        if wanted("growth") {
            growth::run(report, system)?;
        }
    }
    if wanted("context") { context::run(report) } else { Ok(()) }
}

/// strongSwan first, if it is there.
fn systems() -> Vec<System> {
    match baton_lab::charon::requirements() {
        Ok(()) => vec![System::StrongSwan, System::Baton],
        Err(lacking) => {
            println!("SKIPPED strongSwan: {lacking}");
            vec![System::Baton]
        }
    }
}
