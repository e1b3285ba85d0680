//! `dpctl top`.

use std::time::Duration;

use clap::{Args, ValueEnum};

/// What tunnels are ordered by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(in crate::dpctl) enum Order {
    /// Octets per second of both directions, the most first.
    #[default]
    Rate,
    /// Packets per second of both directions, the most first.
    Packets,
    /// Packets per second that the SAs refused, the most first.
    Drops,
    /// Names.
    Name,
    /// Peers.
    Peer,
    /// The newest first.
    Age,
    /// States.
    State,
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct TopOptions {
    /// Seconds between two looks, 0.2 to 3600.
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(in crate::dpctl) interval: Duration,
    /// Look twice, print what happened in between, and end.
    #[arg(long)]
    pub(in crate::dpctl) once: bool,
    /// What tunnels are ordered by.
    #[arg(short, long, value_enum, default_value_t)]
    pub(in crate::dpctl) sort: Order,
    /// Only tunnels with this text in their name, peer or state.
    #[arg(short, long, value_name = "TEXT", default_value = "")]
    pub(in crate::dpctl) filter: String,
    /// With --once or --json, so many tunnels at most; 0: all.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 0)]
    pub(in crate::dpctl) limit: usize,
}

fn interval(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.2..=3600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds from 0.2 to 3600, as 0.5".to_owned())
}
