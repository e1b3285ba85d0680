//! The command line.

mod cluster;
mod context;
mod ike;
mod import;
mod monitor;
mod policy;
mod top;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::segments::SegmentSet;
pub(super) use cluster::{ClusterCommand, InviteOptions, MoveCommand};
pub(super) use context::{InspectOptions, RestoreOptions, SnapshotOptions};
pub(super) use ike::{
    ConnCommand, DownOptions, IkeCommand, LogOptions, RedirectOptions, RekeyOptions, UpOptions, Waiting,
};
pub(super) use import::ImportOptions;
pub(super) use monitor::MonitorOptions;
pub(super) use policy::{PolicyAddOptions, PolicyCommand, PolicyRemoveOptions};
pub(super) use top::{Order, TopOptions};

const AFTER_HELP: &str = "\
EXAMPLES
  dpctl status                                   is the gateway well?
  dpctl up site-a                                set a connection up, and see what happens
  dpctl ike list                                 which tunnels stand?
  dpctl sa list                                  which SAs are installed?
  dpctl counters --nonzero                       what was dropped, and why?
  dpctl monitor                                  what happens right now?
  dpctl top                                      how much goes through, by tunnel?
  dpctl snapshot site-a -o site-a.ctx            keep a copy of one tunnel
  dpctl snapshot --move site-a -o site-a.ctx     take a tunnel out, to restore it elsewhere

EXIT CODES
  0  done
  1  refused, or failed: the reason is on standard error; what was refused has changed nothing
  2  wrong command line
  3  there is no such SA, tunnel, connection or segment
  4  the daemon that is asked does not answer, or there is no SA table yet
  5  a context file was refused: foreign, damaged, cut off, another key, or older than installed
  6  no permission: run it as the user that the daemons run as
  7  the configuration was refused

With --json every answer is one JSON object on standard output, an error one on standard error.";

/// Baton's operator tool: see what a gateway does, take tunnels out of it and put them into another.
#[derive(Debug, Parser)]
#[command(name = "dpctl", version, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    /// The gateway's configuration file.
    #[arg(
        short,
        long,
        global = true,
        env = "BATON_CONFIG",
        default_value = baton_dataplane::config::DEFAULT_PATH,
        value_name = "FILE"
    )]
    pub(super) config: PathBuf,

    /// Answer in JSON (docs/DPCTL.md has the shapes).
    #[arg(long, global = true)]
    pub(super) json: bool,

    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// How the gateway is: interfaces, workers, SAs, segments, IKE, alarms.
    ///
    /// Where no IKE daemon runs, nothing is said about IKE. An alarm is a sentence that says what needs an operator and what to do.
    #[command(after_help = "\
EXAMPLE
  dpctl status --json | jq .alarms

WHAT CAN GO WRONG
  Exit code 4: the data plane does not run, or runs with another runtime_directory.")]
    Status,

    /// Every counter: traffic, each reason for a drop, verdicts of the XDP filter, IKE messages.
    ///
    /// Every packet that does not go on is counted under exactly one reason. Workers' and IKE's counters begin with
    /// their daemon, the filter's (xdp-outer, xdp-inner) with its installation.
    #[command(after_help = "\
EXAMPLE
  dpctl counters --nonzero --group drop

WHAT CAN GO WRONG
  Exit code 4: no data plane runs. What an SA has counted outlives it: `dpctl sa show`.")]
    Counters(CountersOptions),

    /// Tell what happens, line by line, until you end it.
    ///
    /// Of the data plane: limits of SAs, traffic that waits for an SA, peers that moved, path MTUs, packets that do not
    /// belong into their tunnel, changes of segments, policies and the configuration. Of the IKE daemon: tunnels and
    /// Child SAs that come, are rekeyed and go, negotiations that failed and why, peers whose address changed. Of both:
    /// alarms that come and go.
    #[command(after_help = "\
EXAMPLES
  dpctl monitor
  dpctl monitor --kind ike-up --kind ike-down --kind failed --json
  dpctl monitor --kind peer-moved --count 1

WHAT CAN GO WRONG
  Exit code 4: no daemon runs that tells of these kinds, one ended, or this reader was so slow that it
  was cut off. Where only one of the daemons runs, the other's events are missing, and a note on
  standard error says so.
  Eight monitors at most listen at once. Events of a flood are limited to some hundred a second; the
  counters of the group caretaker tell how many were lost.")]
    Monitor(MonitorOptions),

    /// Watch the gateway live: tunnels with their rates, drops, segments, workers, alarms.
    ///
    /// Rates are those between two looks at the SA table, so that they go on while a daemon is restarted; the view says
    /// which one is gone, and goes on when it is back. States, peers and ages come from the IKE daemon, of large
    /// gateways 1,000 tunnels a look.
    #[command(after_help = "\
KEYS
  s sort, r reverse, / filter, arrows, PgUp, PgDn, Home, End scroll, p hold, ? help, q quit

EXAMPLES
  dpctl top
  dpctl top --sort drops --filter roads --interval 5
  dpctl top --once -n 20                          the 20 busiest tunnels, for a script or a mail
  dpctl top --json | jq -c '.total'               one object per interval, until you end it

WHAT CAN GO WRONG
  Exit code 2: standard output is no terminal; use --once or --json. 4: there is no SA table yet.
  Who owns a segment that is not owned here, this gateway does not know: ask the others.")]
    Top(TopOptions),

    /// Connections: what may be set up.
    #[command(subcommand)]
    Conn(ConnCommand),

    /// Set up a connection, or one of its Child SAs, and wait for the result.
    ///
    /// Each step is told as it happens. Without --child it is up when all of its Child SAs are.
    #[command(after_help = "\
EXAMPLES
  dpctl up site-a
  dpctl up site-a --child voice --timeout 20
  dpctl up site-a --no-wait

WHAT CAN GO WRONG
  Exit code 1: the peer refused, or does not answer; the sentence says which and what to do, and
  `dpctl log` has what came before. 3: there is no such connection or child. Who gives up waiting
  (--timeout, or a key) stops nothing: `dpctl down` does.")]
    Up(UpOptions),

    /// End tunnels or Child SAs, tell the peer, and wait until they are gone.
    #[command(after_help = "\
EXAMPLES
  dpctl down site-a                   all tunnels of a connection
  dpctl down site-a-2a000001          one tunnel
  dpctl down site-a --child voice     Child SAs by their configured name
  dpctl down 0x2a000007               one Child SA

WHAT CAN GO WRONG
  A peer that is gone is asked several times before it is given up, so that it takes as long as that.
  A connection with start_action = \"trap\" or \"start\" may be set up again at once.
  Exit code 3: nothing of that name stands.")]
    Down(DownOptions),

    /// Tunnels that were negotiated: list, show, release.
    #[command(subcommand)]
    Ike(IkeCommand),

    /// Replace keys now, and wait until it is done. Traffic goes on.
    #[command(after_help = "\
EXAMPLES
  dpctl rekey site-a                  the Child SAs of all of its tunnels
  dpctl rekey --ike site-a-2a000001   the IKE SA of one tunnel
  dpctl rekey 0x2a000007              one Child SA

WHAT CAN GO WRONG
  Exit code 1: the peer refused, or does not answer. 3: nothing of that name stands.")]
    Rekey(RekeyOptions),

    /// Send peers to another gateway, and wait until they have left.
    ///
    /// A peer that began its tunnel and knows redirects (RFC 5685) sets up another one there and ends the one here. A
    /// peer that does not leave within redirect_timeout of its connection is ended. For new peers there is redirect_to,
    /// of a connection or of [ike].
    #[command(
        allow_missing_positional = true,
        after_help = "\
EXAMPLES
  dpctl redirect site-a-2a000001 203.0.113.9     one tunnel
  dpctl redirect roadwarriors gw2.example.org    all tunnels of a connection
  dpctl redirect --all 2001:db8::9 --no-wait     all there are

WHAT CAN GO WRONG
  Exit code 1: no peer can be sent: none began its tunnel, or none knows redirects; or some had not
  left in time. Those that cannot be sent, among others that can, are told of by `dpctl monitor` and
  `dpctl log`, and stay. 3: nothing of that name stands.
  A peer follows to a gateway that its own configuration allows. Does it not, its tunnel ends here."
    )]
    Redirect(RedirectOptions),

    /// Read the IKE daemon's log.
    #[command(after_help = "\
EXAMPLES
  dpctl log -n 200
  dpctl log --follow
  dpctl log --follow --json | jq -r .line

WHAT CAN GO WRONG
  Exit code 4: no IKE daemon runs, or it ended. It keeps the last 10,000 lines, which go to its
  standard error as well. Keys and secrets are in no line.")]
    Log(LogOptions),

    /// Security policies (SPD): list, add, remove.
    #[command(subcommand)]
    Policy(PolicyCommand),

    /// Security associations (SAD): list, show, thaw.
    #[command(subcommand)]
    Sa(SaCommand),

    /// Read a tunnel's context (GET) from the shared table, while packets flow or the data plane is down.
    ///
    /// The file is sealed under the cluster key ([snapshot] key_file). Without --move the tunnel goes on here, and the
    /// file is a copy: who restores it jumps ahead (see `dpctl restore --help`). With --move the SAs are frozen first:
    /// the workers have stopped using them when the command returns, the counters in the file are final, and the
    /// tunnel waits to be restored elsewhere (or here: `dpctl sa thaw`).
    ///
    /// The context of a tunnel that was negotiated has its IKE SA in it, so that a restored one answers its peer,
    /// rekeys and ends like before. With --move the IKE daemon freezes it before its SAs, and forgets it without a word
    /// to the peer when the file is on the disk. Into a pipe it stays frozen instead, since nobody knows what becomes of
    /// it at the other end: `dpctl ike release` when it was restored there, `dpctl sa thaw` when it was not.
    #[command(after_help = "EXAMPLES
  dpctl snapshot site-a -o site-a.ctx
  dpctl snapshot --all -o everything.ctx
  dpctl snapshot --move site-a-2a000001 -o site-a.ctx
  dpctl -c b.toml snapshot --move site-b | dpctl -c b2.toml restore -

WHAT CAN GO WRONG
  If the file cannot be written, or the command is interrupted, a tunnel that it froze is thawed
  again. If the command at the other end of a pipe fails, it stays frozen: `dpctl sa thaw` lets it
  go on here, and `dpctl status` tells of it.
  Exit code 4: the tunnel was negotiated, and no IKE daemon runs.
  --clear-text writes keys that everyone can read who gets the file: for debugging only.")]
    Snapshot(SnapshotOptions),

    /// Install a tunnel's context (PUT) into the shared table, atomically.
    ///
    /// A tunnel with configured keys must be in this gateway's configuration, with the same addresses, selectors, suite
    /// and reqid; of one that was negotiated the connection must be, and an IKE daemon must run, which puts its policies
    /// into force. A file made with --move continues exactly where the tunnel was frozen. A copy does not know what was sent and
    /// received after it was made: sequence numbers sent again would be dropped by the peer as replays, and packets
    /// received before could be replayed to us. So both edges are advanced by --advance: choose it larger than the
    /// packets of either direction since the snapshot. What the peer sends is refused until it is as far: one that
    /// negotiated and knows RFC 6311 is asked to skip ahead at once, or gets new Child SAs; any other has to be rekeyed. A refused file changes nothing.
    #[command(after_help = "\
EXAMPLES
  dpctl restore site-a.ctx
  dpctl restore site-a.ctx --advance 100000000

WHAT CAN GO WRONG
  Exit code 5, and nothing was changed: the file is damaged or cut off, sealed under another key,
  of a tunnel that is another one here, or older than what is installed.
  A file of more than 1,024 SAs is checked whole, then installed in pieces of up to 1,024.
  A move restored where it was taken goes on there. Do not do that after it was restored elsewhere.
  A move whose tunnel has gone on since it was restored, and was lost with the table in a restart of
  the machine, is out of date like a copy: give --advance.")]
    Restore(RestoreOptions),

    /// Print what a context file holds; keys are never shown.
    #[command(after_help = "\
EXAMPLE
  dpctl inspect site-a.ctx

WHAT CAN GO WRONG
  Exit code 5: the file is damaged, cut off or sealed under another key. Nothing of it is shown then.")]
    Inspect(InspectOptions),

    /// Which of the 256 segments this gateway owns, or the segment of a peer's address.
    #[command(after_help = "\
EXAMPLES
  dpctl segments
  dpctl segments --of 203.0.113.7

WHAT CAN GO WRONG
  --of is about a peer that has no SA yet. Once it has, the top octet of our SPI says the segment:
  `dpctl sa show`.")]
    Segments(SegmentsOptions),

    /// Take or drop segments.
    #[command(subcommand)]
    Segment(SegmentCommand),

    /// Move segments to another node of the cluster, losing nothing.
    #[command(subcommand)]
    Move(MoveCommand),

    /// The cluster: who owns what, who stands by, certificates, maintenance.
    #[command(subcommand)]
    Cluster(ClusterCommand),

    /// Let the daemons read the configuration again. A refused one leaves the running one in force.
    ///
    /// The IKE daemon reads secrets, keys, certificates and revocation lists again too. Its tunnels stay as they are,
    /// unless their connection is gone; changed connections hold for new negotiations.
    #[command(after_help = "EXAMPLE\n  dpctl reload

WHAT CAN GO WRONG
  Exit code 1: a daemon refused; the sentences say why, line by line. The data plane is asked first, and
  what it took stays if the IKE daemon refuses.")]
    Reload,

    /// Copy packets to a pcap file or to standard output.
    ///
    /// The encrypted side is what crosses the outer interface, the decrypted side the inner one. Captures of the
    /// decrypted side hold your users' plaintext.
    #[command(after_help = "EXAMPLES
  dpctl capture --side encrypted --spi 0x2a000001 -o esp.pcap
  dpctl capture --side decrypted --host 10.1.0.2 --count 20 -o - | tcpdump -nr -

WHAT CAN GO WRONG
  One capture runs at a time. A reader that is too slow loses packets: the gateway does not wait.")]
    Capture(CaptureOptions),

    /// Send dummy packets in a tunnel (traffic flow confidentiality, RFC 4303 section 2.6).
    ///
    /// The peer receives and discards them; to anybody on the way they look like others. They are as long as the
    /// tunnel's tfc_padding makes packets.
    #[command(after_help = "\
EXAMPLE
  dpctl dummy site-a --count 10

WHAT CAN GO WRONG
  Exit code 3: no outbound SA of that tunnel is installed. In transport mode there are no dummy packets.")]
    Dummy(DummyOptions),

    /// Convert a swanctl.conf into a configuration of Baton, and list what could not be carried.
    ///
    /// Connections, children, pools, secrets and authorities are read with all that they include and inherit.
    /// swanctl.conf does not say which gateway this is: with --node, --cluster, --outer and --inner a whole
    /// configuration is written, otherwise sections to append to one. What is written is accepted by
    /// `baton-ike --check`: what it would refuse is listed instead, by file and line, with what to do.
    ///
    /// Where an option cannot be carried that says who a peer has to be or what is protected, its connection or child
    /// is written as a comment, so that nothing is let in that was not before.
    #[command(
        name = "import-swanctl",
        after_help = "\
EXAMPLES
  dpctl import-swanctl /etc/swanctl/swanctl.conf
  dpctl import-swanctl /etc/swanctl/swanctl.conf -o baton.toml \\
    --node 1 --cluster demo --outer eth0 --inner eth1
  dpctl import-swanctl swanctl.conf -o ike.toml --json | jq '.not_carried[]'

WHAT CAN GO WRONG
  Exit code 7: a file is broken; the sentence says where. Nothing was written.
  Secrets are in what is written: a file is for its owner only, standard output goes where you send it.
  Certificates and keys stay where they are: name swanctl's directory in [ike] credential_directory."
    )]
    ImportSwanctl(ImportOptions),

    /// Print a completion script for your shell.
    #[command(after_help = "EXAMPLE\n  dpctl completions bash > /etc/bash_completion.d/dpctl")]
    Completions {
        /// For which shell.
        shell: Shell,
    },
}

#[derive(Debug, Args)]
pub(super) struct CountersOptions {
    /// Leave out what is zero.
    #[arg(long)]
    pub(super) nonzero: bool,
    /// Only this group, for example drop, worker-outer or xdp-inner.
    #[arg(long)]
    pub(super) group: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct DummyOptions {
    /// The tunnel's name.
    pub(super) name: String,
    /// How many.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub(super) count: u32,
}

#[derive(Debug, Subcommand)]
pub(super) enum SaCommand {
    /// One line per installed SA.
    #[command(after_help = "EXAMPLE\n  dpctl sa list")]
    List,
    /// Everything about a tunnel's SAs but their keys.
    ///
    /// Where the peer is, what was used of the lifetimes, what was learned of the path, how long it is idle.
    #[command(after_help = "\
EXAMPLES
  dpctl sa show site-a
  dpctl sa show 0x2a000001

WHAT CAN GO WRONG
  Exit code 3: no such SA is installed; a tunnel that waits for a restore has none.")]
    Show {
        /// The tunnel's name, or the SPI of one of its SAs.
        #[arg(value_name = "SPI|NAME")]
        sa: String,
    },
    /// Use a frozen tunnel's SAs, and its IKE SA, again, after a move that did not happen.
    ///
    /// Never thaw a tunnel that was restored elsewhere: both gateways would send with the same sequence numbers.
    #[command(after_help = "EXAMPLE\n  dpctl sa thaw site-a")]
    Thaw {
        /// The tunnel's name.
        name: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct SegmentsOptions {
    /// Tell the segment of a peer with this outer address, when it first appears.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) of: Option<IpAddr>,
    /// The peer's source port, where the hash covers it.
    #[arg(long, default_value_t = 500, requires = "of")]
    pub(super) source_port: u16,
    /// Our port, where the hash covers it.
    #[arg(long, default_value_t = 500, requires = "of")]
    pub(super) destination_port: u16,
}

#[derive(Debug, Subcommand)]
pub(super) enum SegmentCommand {
    /// Own these segments from now on.
    ///
    /// In a cluster they come from their owners by planned moves, which lose nothing; `dpctl cluster status` shows when
    /// they are here. On a gateway by itself make sure that no other one owns them: drop them there first.
    #[command(after_help = "EXAMPLE\n  dpctl segment take 0-127")]
    Take {
        /// all, or numbers and ranges: 0-127,200
        segments: SegmentSet,
    },
    /// No longer own these segments.
    ///
    /// In a cluster they go to their standbys by planned moves. On a gateway by itself nothing is sent for them any more
    /// when it returns.
    #[command(after_help = "EXAMPLE\n  dpctl segment drop 42")]
    Drop {
        /// all, or numbers and ranges: 0-127,200
        segments: SegmentSet,
    },
    /// Give every segment of this node to the node that it belongs to, in a cluster.
    ///
    /// After a takeover one node owns what was another's. With balance = "automatic" this happens by itself; say it to
    /// each node that owns too much.
    #[command(after_help = "EXAMPLE\n  dpctl segment balance

WHAT CAN GO WRONG
  Exit code 4: no baton-cluster runs here. A segment whose node does not hold all its contexts yet stays.")]
    Balance,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(super) enum Side {
    /// Outer: ESP.
    Encrypted,
    /// Inner: plaintext.
    Decrypted,
}

#[derive(Debug, Args)]
pub(super) struct CaptureOptions {
    /// Which side of the gateway.
    #[arg(long, value_enum)]
    pub(super) side: Side,
    /// Only packets from or to this address.
    #[arg(long)]
    pub(super) host: Option<IpAddr>,
    /// Only ESP packets with this SPI (0x... or decimal).
    #[arg(long, value_parser = super::sa::parse_spi)]
    pub(super) spi: Option<u32>,
    /// Only this IP protocol number.
    #[arg(long)]
    pub(super) protocol: Option<u8>,
    /// Only packets from or to this port.
    #[arg(long)]
    pub(super) port: Option<u16>,
    /// Stop after this many packets.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) count: u32,
    /// Where to write; - or absent: standard output.
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
}
