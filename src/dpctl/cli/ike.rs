//! What is asked of the IKE daemon.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::dpctl) enum ConnCommand {
    /// One line per configured connection: who, where, what, and how many tunnels there are of it.
    #[command(after_help = "\
EXAMPLES
  dpctl conn list
  dpctl conn list --json | jq '.connections[].children'

WHAT CAN GO WRONG
  Exit code 4: no IKE daemon runs. It shows what that daemon has read: `dpctl reload` after a change.")]
    List,
}

#[derive(Debug, Subcommand)]
pub(in crate::dpctl) enum IkeCommand {
    /// One line per tunnel: an IKE SA with its Child SAs.
    #[command(after_help = "\
EXAMPLES
  dpctl ike list
  dpctl ike list roadwarriors --json

WHAT CAN GO WRONG
  Exit code 4: no IKE daemon runs. The SAs of its tunnels are in use all the same: `dpctl sa list`.")]
    List {
        /// Only tunnels of this connection.
        connection: Option<String>,
    },
    /// Everything about a tunnel but its keys.
    ///
    /// Identities, addresses, algorithms, when keys are replaced, inner addresses, and the Child SAs with what they
    /// have counted.
    #[command(after_help = "\
EXAMPLE
  dpctl ike show site-a-2a000001

WHAT CAN GO WRONG
  Exit code 3: there is no tunnel of that name; `dpctl ike list` has the names.")]
    Show {
        /// The tunnel's name.
        #[arg(value_name = "TUNNEL")]
        name: String,
    },
    /// Agree with the peer about Message IDs and sequence numbers, after a failover.
    ///
    /// For a tunnel that was restored from a copy which may not know its latest exchanges; `dpctl restore` does it by
    /// itself where it has advanced the edges. The peer has to know RFC 6311: `message-id-sync` is among the extensions
    /// that `dpctl ike show` gives. Until it answers, nothing else is asked of it; a peer that never does is taken for
    /// gone. If the edges were advanced, a peer with `replay-counter-sync` skips as many sequence numbers; with another
    /// one the Child SAs are rekeyed.
    #[command(after_help = "\
EXAMPLE
  dpctl ike sync site-a-2a000001

WHAT CAN GO WRONG
  Exit code 1: it was not agreed with that peer. 3: nothing of that name stands.")]
    Sync {
        /// A tunnel, or a connection: all of its tunnels.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Forget a frozen tunnel that goes on elsewhere, without a word to its peer.
    ///
    /// After `dpctl snapshot --move` into a pipe, once the other gateway has restored it. Its SAs and policies are
    /// removed here. Into a file, `dpctl snapshot --move` has done this already.
    #[command(after_help = "\
EXAMPLE
  dpctl -c b.toml snapshot --move site-a-2a000001 | dpctl -c b2.toml restore - &&
    dpctl -c b.toml ike release site-a-2a000001

WHAT CAN GO WRONG
  Exit code 1: it is not frozen. To end a tunnel and tell the peer, use `dpctl down`.")]
    Release {
        /// The tunnel's name.
        #[arg(value_name = "TUNNEL")]
        name: String,
    },
}

/// How long a command waits for what it began.
#[derive(Debug, Args)]
pub(in crate::dpctl) struct Waiting {
    /// Return as soon as it is begun; `dpctl monitor` tells what becomes of it.
    #[arg(long)]
    pub(in crate::dpctl) no_wait: bool,
    /// Give up waiting after so long; what was begun goes on.
    #[arg(long, value_name = "SECONDS", default_value_t = 180, conflicts_with = "no_wait")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(in crate::dpctl) timeout: u64,
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct UpOptions {
    /// The connection's name.
    #[arg(value_name = "CONNECTION")]
    pub(in crate::dpctl) name: String,
    /// Only this one of its Child SAs.
    #[arg(long)]
    pub(in crate::dpctl) child: Option<String>,
    #[command(flatten)]
    pub(in crate::dpctl) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct DownOptions {
    /// A connection (all of its tunnels), a tunnel, or the SPI of a Child SA of ours.
    #[arg(value_name = "NAME|SPI")]
    pub(in crate::dpctl) target: String,
    /// Of a connection, only the Child SAs of this configured name.
    #[arg(long)]
    pub(in crate::dpctl) child: Option<String>,
    #[command(flatten)]
    pub(in crate::dpctl) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct RekeyOptions {
    /// A connection (all of its tunnels), a tunnel, or the SPI of a Child SA of ours.
    #[arg(value_name = "NAME|SPI")]
    pub(in crate::dpctl) target: String,
    /// Replace the keys of the IKE SA, not those of its Child SAs.
    #[arg(long)]
    pub(in crate::dpctl) ike: bool,
    /// Of a connection, only the Child SAs of this configured name.
    #[arg(long, conflicts_with = "ike")]
    pub(in crate::dpctl) child: Option<String>,
    #[command(flatten)]
    pub(in crate::dpctl) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct RedirectOptions {
    /// A connection (all of its tunnels), or a tunnel.
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub(in crate::dpctl) target: Option<String>,
    /// Where to: an address, or a domain name that the peers know.
    #[arg(value_name = "GATEWAY")]
    pub(in crate::dpctl) gateway: String,
    /// All tunnels.
    #[arg(long, conflicts_with = "target")]
    pub(in crate::dpctl) all: bool,
    #[command(flatten)]
    pub(in crate::dpctl) waiting: Waiting,
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct LogOptions {
    /// Go on with lines as they come, until you end it.
    #[arg(short, long)]
    pub(in crate::dpctl) follow: bool,
    /// Begin with the last so many lines.
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub(in crate::dpctl) lines: u32,
}
