//! GET and PUT of a whole tunnel: the commands `dpctl snapshot`, `dpctl snapshot --move` and `dpctl restore`, from the
//! start of the process to its end, at a gateway with many tunnels.

use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::clients::Clients;
use crate::report::{Report, Series};
use crate::stage::{End, Place, Result, Stage, System};

const TUNNELS: u32 = 10_000;
const COMMANDS: usize = 201;

/// Measures Baton.
pub fn run(report: &mut Report) -> Result<()> {
    let mut stage = Stage::build()?;
    stage.start(System::Baton, Place::Responder)?;
    Clients::new(&stage)?.set_up(0..TUNNELS, 32)?;
    let End::Baton(gateway) = &stage.ends[0] else { return Err("Baton was started".into()) };
    let answer = gateway.ask_ike(json!({"request": "ike-list"}))?;
    let names: Vec<&str> =
        answer["tunnels"].as_array().map_or(&[][..], Vec::as_slice).iter().filter_map(name).collect();
    let file = stage.lab.path().join("context");
    let path = file.display().to_string();
    let (mut get, mut moved, mut put) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..COMMANDS {
        let tunnel = *names.get(round * names.len() / COMMANDS).ok_or("the daemon lists no tunnels")?;
        let _ = std::fs::remove_file(&file);
        get.push(time(gateway.dpctl_command(&["snapshot", tunnel]))?);
        moved.push(time(gateway.dpctl_command(&["snapshot", "--move", tunnel, "--output", &path]))?);
        put.push(time(gateway.dpctl_command(&["restore", &path]))?);
    }
    for (part, samples) in [("get-context", get), ("move-context", moved), ("put-context", put)] {
        let tunnels = TUNNELS as usize;
        report.add(Series { part, system: System::Baton.to_string(), tunnels, unit: "ms", samples });
    }
    let clock = (0..COMMANDS).map(|_| time(Command::new("/bin/true"))).collect::<Result<_>>()?;
    report.add(Series {
        part: "process",
        system: "/bin/true".to_owned(),
        tunnels: 0,
        unit: "ms",
        samples: clock,
    });
    Ok(())
}

fn name(tunnel: &Value) -> Option<&str> {
    tunnel["name"].as_str()
}

/// Milliseconds from the start of a process to its end.
fn time(mut command: Command) -> Result<f64> {
    command.stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let took = start.elapsed().as_secs_f64() * 1e3;
    if status.success() { Ok(took) } else { Err(format!("{command:?} failed").into()) }
}
