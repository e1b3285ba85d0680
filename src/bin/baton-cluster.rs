//! `baton-cluster`: the daemon that makes gateways one.

use std::path::PathBuf;
use std::process::ExitCode;

use baton_ctx_transfer::daemon;
use clap::Parser;

/// Baton's cluster daemon: heartbeats, leases of segments, standby copies of every tunnel.
///
/// It runs beside baton-dataplane and baton-ike on every node of [cluster], and alone, with --witness, on a machine
/// that only votes. Killed, it leaves leases that end by themselves. Signals: TERM and INT give all segments to other
/// nodes and stop it, HUP reads certificates and configuration again.
#[derive(Parser)]
#[command(version, after_help = AFTER_HELP)]
struct Arguments {
    /// The configuration file (TOML; docs/CONFIGURATION.md), the same as the data plane's.
    #[arg(short, long, env = "BATON_CONFIG", default_value = "/etc/baton/baton.toml", value_name = "FILE")]
    config: PathBuf,

    /// Only vote: this machine has no table, and needs [node] and [cluster] alone.
    #[arg(long)]
    witness: bool,

    /// Reads and validates configuration and certificates, says what is wrong with them, and stops.
    #[arg(long)]
    check: bool,
}

const AFTER_HELP: &str = "\
EXAMPLES
  dpctl cluster init                                     once, on the first member
  dpctl cluster invite 2 | ssh gw2 dpctl cluster join -  for every other one
  baton-cluster --config /etc/baton/baton.toml --check
  baton-cluster --config /etc/baton/baton.toml
  baton-cluster --witness

EXIT CODES
  0   stopped as asked, or the check found nothing
  1   could not start, or had to stop: the reason is on standard error
  2   wrong command line
  7   the configuration or a certificate was refused: the reason is on standard error
  159 made a forbidden system call: somebody took it over, or it has a bug

LOGS go to standard error; BATON_LOG=debug says more.";

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("BATON_LOG").unwrap_or_else(|_| "info".into()),
        )
        .init();
    let ended = if arguments.check {
        daemon::check(&arguments.config, arguments.witness)
    } else {
        daemon::run(&arguments.config, arguments.witness)
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baton-cluster: {error}");
            ExitCode::from(if error.is_configuration() { 7 } else { 1 })
        }
    }
}
