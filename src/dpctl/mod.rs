//! `dpctl`: what an operator does with a gateway, from a shell or a script.
//!
//! What reads or changes SAs works on the shared table alone, whether or not a data plane runs; what concerns a
//! running daemon asks its control socket.

mod capture;
mod cli;
mod cluster;
mod error;
mod ike;
mod import;
mod interruption;
mod live;
mod monitor;
mod output;
mod policy;
mod restore;
mod sa;
mod segments;
mod snapshot;
mod top;

use std::io::Write;
use std::process::ExitCode;

use baton_dataplane::config::Config;
use baton_sad::Table;
use clap::{CommandFactory, Parser};
use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use cli::{
    Arguments, Command, ConnCommand, IkeCommand, MoveCommand, PolicyCommand, SaCommand, SegmentCommand,
};
pub use error::{DpctlError, Exit};
use output::Output;

/// Runs the command line and gives the process's exit code.
pub fn main() -> ExitCode {
    // Contexts hold keys, and a core file would keep them (the limit does not bind one that the kernel pipes to a
    // program). Where that is refused, nothing is lost but this.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let arguments = Arguments::parse();
    let output = Output::new(arguments.json);
    match run(&arguments, output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Err(error) => {
            output.error(&error);
            error.exit().into()
        }
    }
}

fn run(arguments: &Arguments, output: Output) -> Result<(), DpctlError> {
    if let Command::Completions { shell } = &arguments.command {
        // Into a buffer first: the generator panics where it cannot write.
        let mut script = Vec::new();
        clap_complete::generate(*shell, &mut Arguments::command(), "dpctl", &mut script);
        return Ok(std::io::stdout().lock().write_all(&script)?);
    }
    if let Command::ImportSwanctl(options) = &arguments.command {
        return import::run(options, output);
    }
    if let Command::Cluster(command) = &arguments.command {
        return cluster::run(&arguments.config, command, output);
    }
    let config = Config::load(&arguments.config)?;
    match &arguments.command {
        Command::Status => live::status(&config, output),
        Command::Counters(options) => live::counters(&config, options, output),
        Command::Monitor(options) => monitor::run(&config, options, output),
        Command::Top(options) => top::run(&config, options, output),
        Command::Conn(ConnCommand::List) => ike::connections(&config, output),
        Command::Up(options) => ike::up(&config, options, output),
        Command::Down(options) => ike::down(&config, options, output),
        Command::Ike(IkeCommand::List { connection }) => ike::list(&config, connection.as_deref(), output),
        Command::Ike(IkeCommand::Show { name }) => ike::show(&config, name, output),
        Command::Ike(IkeCommand::Sync { name }) => ike::synchronize(&config, name, output),
        Command::Ike(IkeCommand::Release { name }) => ike::release(&config, name, output),
        Command::Rekey(options) => ike::rekey(&config, options, output),
        Command::Redirect(options) => ike::redirect(&config, options, output),
        Command::Log(options) => ike::log(&config, options, output),
        Command::Policy(PolicyCommand::List) => policy::list(&config, output),
        Command::Policy(PolicyCommand::Add(options)) => policy::add(&config, options, output),
        Command::Policy(PolicyCommand::Remove(options)) => policy::remove(&config, options, output),
        Command::Dummy(options) => live::dummy(&config, options, output),
        Command::Reload => live::reload(&config, output),
        Command::Sa(SaCommand::List) => sa::list(&open(&config)?, output),
        Command::Sa(SaCommand::Show { sa }) => sa::show(&open(&config)?, sa, output),
        Command::Sa(SaCommand::Thaw { name }) => sa::thaw(&config, &open(&config)?, name, output),
        Command::Snapshot(options) => snapshot::run(&config, &open(&config)?, options, output),
        Command::Restore(options) => restore::run(&config, &open(&config)?, options, output),
        Command::Inspect(options) => restore::inspect(&config, options, output),
        Command::Segments(options) => segments::show(&config, options, output),
        Command::Segment(SegmentCommand::Take { segments }) => {
            segments::change(&config, segments, true, output)
        }
        Command::Segment(SegmentCommand::Drop { segments }) => {
            segments::change(&config, segments, false, output)
        }
        Command::Segment(SegmentCommand::Balance) => cluster::balance(&config, output),
        Command::Move(MoveCommand::Segment { segments, to }) => {
            cluster::move_segments(&config, segments, *to, output)
        }
        Command::Move(MoveCommand::Tunnel { tunnel, to }) => {
            cluster::move_tunnel(&config, &open(&config)?, tunnel, *to, output)
        }
        Command::Capture(options) => capture::run(&config, options),
        Command::Completions { .. } | Command::ImportSwanctl(_) | Command::Cluster(_) => Ok(()),
    }
}

/// The gateway's SA table, which must be this configuration's.
fn open(config: &Config) -> Result<Table, DpctlError> {
    let table = Table::open(&config.table_path())?;
    if table.node() != config.node.id || table.cluster() != config.cluster_id() {
        return Err(DpctlError::OtherNode { path: config.table_path(), found: table.node().get() });
    }
    Ok(table)
}
