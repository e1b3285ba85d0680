//! `dpctl snapshot`, `dpctl restore` and `dpctl inspect`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(in crate::dpctl) struct SnapshotOptions {
    /// The tunnel's name, or the SPI of one of its SAs.
    #[arg(value_name = "SPI|NAME", required_unless_present = "all", conflicts_with = "all")]
    pub(in crate::dpctl) sa: Option<String>,
    /// All tunnels, in one file.
    #[arg(long)]
    pub(in crate::dpctl) all: bool,
    /// Freeze first: the counters in the file are final, and the tunnel stops here.
    #[arg(long = "move")]
    pub(in crate::dpctl) moving: bool,
    /// Where to write; - or absent: standard output. A file is private (0600) and replaced as a whole.
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::dpctl) output: Option<PathBuf>,
    /// Do not seal: the file shows the keys to everyone who reads it.
    #[arg(long)]
    pub(in crate::dpctl) clear_text: bool,
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct RestoreOptions {
    /// The file, or - for standard input.
    pub(in crate::dpctl) file: PathBuf,
    /// By how many packets both edges of a copy advance [default: the configuration's, usually 1048576]. If given, those
    /// of a move advance too: for a file that was restored before.
    #[arg(long, value_name = "PACKETS")]
    pub(in crate::dpctl) advance: Option<u64>,
    /// Accept a file in clear, for which nobody vouches.
    #[arg(long)]
    pub(in crate::dpctl) clear_text: bool,
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct InspectOptions {
    /// The file, or - for standard input.
    pub(in crate::dpctl) file: PathBuf,
    /// Accept a file in clear.
    #[arg(long)]
    pub(in crate::dpctl) clear_text: bool,
}
