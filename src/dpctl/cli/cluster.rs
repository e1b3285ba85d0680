//! `dpctl cluster` and `dpctl move`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::dpctl::segments::SegmentSet;

#[derive(Debug, Subcommand)]
pub(in crate::dpctl) enum ClusterCommand {
    /// Begin a cluster: make its certificate authority, and this member's certificate.
    ///
    /// Do it once, on one member; the others join. The authority's key (ca.key) stays on this machine, readable by its
    /// owner only: keep a copy elsewhere, since without it no member can be added and no certificate renewed.
    #[command(after_help = "\
EXAMPLES
  dpctl cluster init
  dpctl cluster init --days 730 --authority-days 7300

WHAT CAN GO WRONG
  Exit code 1: a cluster was begun here before; nothing was changed. 7: the configuration has no [cluster],
  or does not list this member.")]
    Init {
        /// How long this member's certificate is valid.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
        days: u32,
        /// How long the authority's is: all members join anew when it ends.
        #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36500))]
        authority_days: u32,
    },
    /// Make what another member needs to join, or to renew its certificate: where the cluster was begun.
    ///
    /// It has that member's key in it: who has it can join. Send it through ssh, or delete it when it is used.
    #[command(after_help = "\
EXAMPLES
  dpctl cluster invite 2 | ssh gw2 dpctl cluster join -
  dpctl cluster invite 3 -o witness.invitation

WHAT CAN GO WRONG
  Exit code 1: the authority's key is not on this machine. 7: [cluster] has no such member.")]
    Invite(InviteOptions),
    /// Join a cluster, or renew the certificate, with what `dpctl cluster invite` has made.
    #[command(after_help = "\
EXAMPLES
  ssh gw1 dpctl cluster invite 2 | dpctl cluster join -
  dpctl cluster join witness.invitation && dpctl cluster reload

WHAT CAN GO WRONG
  Exit code 5: this is no invitation, or it is for another member or cluster; nothing was changed.")]
    Join {
        /// The invitation; - is standard input.
        #[arg(value_name = "FILE")]
        invitation: PathBuf,
    },
    /// This member's certificate and the authority's: whose, and until when.
    #[command(after_help = "EXAMPLE\n  dpctl cluster certificates

WHAT CAN GO WRONG
  Exit code 7: they are not there, or cannot be used; the sentence says which file and why.")]
    Certificates,
    /// Who owns what, who stands by and how far it is, what happened last, what needs you.
    #[command(after_help = "\
EXAMPLES
  dpctl cluster status
  dpctl cluster status --watch
  dpctl cluster status --json | jq '.members[] | {id, alive, standby}'

WHAT CAN GO WRONG
  Exit code 4: no baton-cluster runs here.")]
    Status {
        /// Show it again and again, until you end it.
        #[arg(long)]
        watch: bool,
        /// Seconds between two looks.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600), requires = "watch")]
        interval: u64,
    },
    /// The same as numbers for Prometheus; [cluster] metrics lets it fetch them itself.
    #[command(after_help = "EXAMPLE\n  dpctl cluster metrics > /var/lib/node_exporter/baton.prom")]
    Metrics,
    /// Tell what happens in the cluster, line by line, until you end it.
    #[command(after_help = "EXAMPLE\n  dpctl cluster monitor --json

WHAT CAN GO WRONG
  Exit code 4: no baton-cluster runs here, or it ended. Eight monitors at most listen at once.")]
    Monitor {
        /// End after this many events.
        #[arg(long)]
        count: Option<u64>,
    },
    /// Give all segments away by planned moves and take none, or come back.
    #[command(after_help = "\
EXAMPLES
  dpctl cluster maintenance on      before an upgrade; wait until `dpctl cluster status` shows no segment
  dpctl cluster maintenance off

WHAT CAN GO WRONG
  Segments without a standby that has everything stay: `dpctl cluster status` shows them.")]
    Maintenance {
        /// on or off.
        #[arg(value_parser = on_or_off, action = clap::ArgAction::Set)]
        on: bool,
    },
    /// Fill the standbys of this node again, from nothing.
    #[command(after_help = "EXAMPLE\n  dpctl cluster resync")]
    Resync,
    /// Let baton-cluster read its certificates and configuration again.
    #[command(after_help = "EXAMPLE\n  dpctl cluster reload

WHAT CAN GO WRONG
  Exit code 1: they were refused; the running ones stay. What needs a restart is said.")]
    Reload,
}

fn on_or_off(text: &str) -> Result<bool, String> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("write on or off".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct InviteOptions {
    /// Its id, as [[cluster.member]] has it.
    #[arg(value_parser = clap::value_parser!(u8).range(1..=255))]
    pub(in crate::dpctl) member: u8,
    /// How long its certificate is valid.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=3650))]
    pub(in crate::dpctl) days: u32,
    /// Where to write; - or absent: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(in crate::dpctl) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(in crate::dpctl) enum MoveCommand {
    /// Segments of this node.
    ///
    /// The other node holds their contexts already. For a moment nobody sends for them; what arrives meanwhile is
    /// handled by the new owner, which goes on exactly where this one has stopped.
    #[command(after_help = "EXAMPLE\n  dpctl move segment 42 --to 2

WHAT CAN GO WRONG
  Exit code 3: there is no such node. 4: no baton-cluster runs here. Where the other node does not hold all
  contexts, or does not answer in time, the segment stays: `dpctl cluster monitor` tells.")]
    Segment {
        /// all, or numbers and ranges: 0-127,200
        segments: SegmentSet,
        /// The node that is to own them.
        #[arg(long, value_name = "NODE", value_parser = clap::value_parser!(u8).range(1..=255))]
        to: u8,
    },
    /// A tunnel of this node, and with it the segment that it is in.
    ///
    /// Nodes of a cluster own whole segments, so the segment's other tunnels go along, losing nothing either; the answer
    /// says how many. To move a tunnel alone, to a gateway outside of this cluster too: `dpctl snapshot --move`.
    #[command(visible_aliases = ["spi", "ike"])]
    #[command(after_help = "EXAMPLES
  dpctl move tunnel site-a-2a000001 --to 2
  dpctl move spi 0x2a000001 --to 2

WHAT CAN GO WRONG
  Exit code 3: no SA has this name or SPI, or there is no such node. 4: no baton-cluster runs here. Where the other
  node does not hold all contexts, or does not answer in time, the tunnel stays: `dpctl cluster monitor` tells.")]
    Tunnel {
        /// The tunnel's name, or an SPI of one of its SAs.
        #[arg(value_name = "TUNNEL|SPI")]
        tunnel: String,
        /// The node that is to own it.
        #[arg(long, value_name = "NODE", value_parser = clap::value_parser!(u8).range(1..=255))]
        to: u8,
    },
}
