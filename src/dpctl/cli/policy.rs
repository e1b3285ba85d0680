//! `dpctl policy`.

use baton_dataplane::config::{ActionWord, PolicyDirection};
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(in crate::dpctl) enum PolicyCommand {
    /// The policies in force, in the order in which they are tried.
    #[command(after_help = "\
EXAMPLE
  dpctl policy list

WHAT CAN GO WRONG
  While no data plane runs, these are the configuration's alone.")]
    List,
    /// Install a policy now, or replace the one of that name that was installed so before.
    ///
    /// It survives a restart of the data plane and a `dpctl reload`, not a reboot. Selectors are written as in the
    /// configuration.
    #[command(after_help = "\
EXAMPLES
  dpctl policy add web --action bypass --local 10.2.0.0/16 --remote '192.0.2.0/24[tcp/443]'
  dpctl policy add site-b --action protect --reqid 9 --segment 17 --local 10.2.0.0/16 --remote 10.3.0.0/16

WHAT CAN GO WRONG
  Exit code 1, and nothing was changed: the name is the configuration's, or a network belongs to
  another segment. A policy that protects drops its traffic until there is an SA of its reqid.")]
    Add(PolicyAddOptions),
    /// Remove policies that `dpctl policy add` installed: all of these or none.
    ///
    /// Networks that a removed policy protected stay closed to clear traffic of this host, as long as you do not say
    /// otherwise. Its SAs stay too.
    #[command(after_help = "\
EXAMPLES
  dpctl policy remove site-b
  dpctl policy remove site-b --release-prohibited

WHAT CAN GO WRONG
  Exit code 3: there is no such policy, or it is the configuration's: remove it there.")]
    Remove(PolicyRemoveOptions),
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct PolicyAddOptions {
    /// Unique among policies and tunnels.
    pub(in crate::dpctl) name: String,
    /// What happens to its packets.
    #[arg(long, value_enum)]
    pub(in crate::dpctl) action: PolicyActionWord,
    /// Networks of the inner side, e.g. 10.2.0.0/16 or 10.2.0.1[tcp/443]; may be given several times.
    #[arg(long, value_name = "SELECTOR", required = true)]
    pub(in crate::dpctl) local: Vec<String>,
    /// Networks of the outer side.
    #[arg(long, value_name = "SELECTOR", required = true)]
    pub(in crate::dpctl) remote: Vec<String>,
    /// Which packets, where it does not protect.
    #[arg(long, value_enum, default_value_t = PolicyDirectionWord::Both)]
    pub(in crate::dpctl) direction: PolicyDirectionWord,
    /// The lowest is tried first [default: 2000 where it protects, else 1000].
    #[arg(long)]
    pub(in crate::dpctl) priority: Option<u32>,
    /// The number of its SAs, where it protects.
    #[arg(long)]
    pub(in crate::dpctl) reqid: Option<u32>,
    /// The segment whose owner forwards; needed where it protects.
    #[arg(long)]
    pub(in crate::dpctl) segment: Option<u8>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::dpctl) enum PolicyActionWord {
    /// ESP, in the SAs of --reqid.
    Protect,
    /// Forwarded in clear.
    Bypass,
    /// Dropped.
    Discard,
}

impl From<PolicyActionWord> for ActionWord {
    fn from(word: PolicyActionWord) -> Self {
        match word {
            PolicyActionWord::Protect => Self::Protect,
            PolicyActionWord::Bypass => Self::Bypass,
            PolicyActionWord::Discard => Self::Discard,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::dpctl) enum PolicyDirectionWord {
    /// Both of the others.
    Both,
    /// From the inner to the outer side.
    Out,
    /// From the outer to the inner side.
    In,
}

impl From<PolicyDirectionWord> for PolicyDirection {
    fn from(word: PolicyDirectionWord) -> Self {
        match word {
            PolicyDirectionWord::Both => Self::Both,
            PolicyDirectionWord::Out => Self::Out,
            PolicyDirectionWord::In => Self::In,
        }
    }
}

#[derive(Debug, Args)]
pub(in crate::dpctl) struct PolicyRemoveOptions {
    /// Their names.
    #[arg(required = true, value_name = "NAME")]
    pub(in crate::dpctl) names: Vec<String>,
    /// Let the kernel decide again what may go in clear to networks that no other policy protects.
    #[arg(long)]
    pub(in crate::dpctl) release_prohibited: bool,
}
