//! `baton-ike`: the daemon that negotiates keys with peers.

use std::path::PathBuf;
use std::process::ExitCode;

use baton_ike::daemon::{self, DaemonError};
use baton_ike::log::Log;
use clap::Parser;

/// Baton's IKEv2 daemon: negotiates Child SAs and puts them into the data plane's SA table.
///
/// Every tunnel's state is on tmpfs before it has an effect. A restart, or a `kill -9`, loses no tunnel, and a peer
/// notices at most a repeated message. Once its ports are open it gives up all privileges. Signals: TERM and INT stop
/// it (tunnels stay for the next start), HUP reads configuration, secrets and certificates again.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Arguments {
    /// The configuration file (TOML; docs/CONFIGURATION.md), the same as the data plane's.
    #[arg(short, long, env = "BATON_CONFIG", default_value = "/etc/baton/baton.toml", value_name = "FILE")]
    config: PathBuf,

    /// Reads and validates configuration, secrets and certificates, says what is wrong with them, and stops.
    #[arg(long)]
    check: bool,
}

const AFTER_HELP: &str = "\
EXAMPLES
  baton-ike --config /etc/baton/baton.toml --check
  baton-ike --config /etc/baton/baton.toml

EXIT CODES
  0   stopped as asked, or the check found nothing
  1   could not start, or had to stop: the reason is on standard error
  2   wrong command line
  7   the configuration was refused: file, line and field are on standard error
  159 made a forbidden system call: somebody took it over, or it has a bug

LOGS go to standard error and to `dpctl log`; BATON_LOG=debug says more.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = Log::default();
    let kept = log.clone();
    tracing_subscriber::fmt()
        .with_writer(move || kept.writer())
        .with_ansi(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| "info".into()),
        )
        .init();
    let ended =
        if arguments.check { daemon::check(&arguments.config) } else { daemon::run(&arguments.config, &log) };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baton-ike: {error}");
            let refused =
                matches!(error, DaemonError::Config(_) | DaemonError::Credentials(_) | DaemonError::Key(_));
            ExitCode::from(if refused { 7 } else { 1 })
        }
    }
}
