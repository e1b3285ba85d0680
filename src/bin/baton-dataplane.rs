//! `baton-dataplane`: the daemon that owns the network interfaces, the XDP filter and the ESP workers.

use std::path::PathBuf;
use std::process::ExitCode;

use baton_dataplane::daemon::{self, DaemonError};
use clap::Parser;

/// Baton's data plane: encrypts and decrypts ESP in worker threads fed by AF_XDP.
///
/// It keeps its security associations in a table on tmpfs and its filter pinned in bpffs. Both outlive it: a
/// restart, or a `kill -9`, loses no tunnel and lets nothing pass in clear. Signals: TERM and INT stop it (the
/// protection stays in place), HUP reloads the configuration.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Arguments {
    /// The configuration file (TOML; docs/CONFIGURATION.md).
    #[arg(short, long, env = "BATON_CONFIG", default_value = "/etc/baton/baton.toml", value_name = "FILE")]
    config: PathBuf,

    /// Reads and validates the configuration, says what is wrong with it, and stops.
    #[arg(long, conflicts_with_all = ["uninstall", "replay"])]
    check: bool,

    /// Removes the XDP filter, the prohibit routes and the SA table. From then on nothing protects the prefixes.
    #[arg(long, conflicts_with = "replay")]
    uninstall: bool,

    /// Runs the packets of a capture through the pipeline, without interfaces or privileges.
    #[arg(long, value_name = "IN.pcap", requires = "out")]
    replay: Option<PathBuf>,

    /// Where the packets that left the pipeline are written.
    #[arg(long, value_name = "OUT.pcap", requires = "replay")]
    out: Option<PathBuf>,
}

const AFTER_HELP: &str = "\
EXAMPLES
  baton-dataplane --config /etc/baton/baton.toml --check
  baton-dataplane --config /etc/baton/baton.toml
  baton-dataplane --config lab.toml --replay in.pcap --out out.pcap

EXIT CODES
  0 stopped as asked, or the check found nothing
  1 could not start, or had to stop: the reason is on standard error
  2 wrong command line
  7 the configuration was refused: file, line and field are on standard error

LOGS go to standard error; BATON_LOG=debug says more.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| "info".into()),
        )
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baton-dataplane: {error}");
            ExitCode::from(if matches!(error, DaemonError::Config(_)) { 7 } else { 1 })
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), DaemonError> {
    match (&arguments.replay, &arguments.out) {
        (Some(input), Some(output)) => daemon::replay(&arguments.config, input, output),
        _ if arguments.check => daemon::check(&arguments.config),
        _ if arguments.uninstall => daemon::uninstall(&arguments.config),
        _ => daemon::run(&arguments.config),
    }
}
