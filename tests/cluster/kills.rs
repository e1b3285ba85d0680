//! SIGKILL for any process of a cluster at any moment; one seed decides about all of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_lab::members;

use crate::stage::{Failure, Stage};
use crate::watch::Watch;

/// How long a process is away, or back, before the next one is killed, in milliseconds.
const LONGEST: u64 = 1_200;
/// Answers through the tunnel that say that it lives.
const ENOUGH: u64 = 20;

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Of(Failure, usize),
    Witness,
}

/// A sequence of kills.
pub struct Kills {
    state: u64,
    /// Rounds in which a node took over what it knew too little of: the next failure came before it had everything.
    pub stale: usize,
}

impl Kills {
    /// From `BATON_SEED`, or another one at each run; it is printed.
    pub fn new() -> Self {
        let given = std::env::var("BATON_SEED").ok().and_then(|text| text.parse().ok());
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
        let state = given.unwrap_or_else(now);
        println!("BATON_SEED={state}");
        Self { state, stale: 0 }
    }

    /// Kills a process, starts it again after a while, and waits until the tunnel carries traffic.
    pub fn next(&mut self, stage: &mut Stage, watch: &Watch, round: usize) {
        let victim = self.victim();
        let (away, back) = (self.while_(), self.while_());
        println!("{round}: {victim:?}, away for {away:?}, back for {back:?}");
        match victim {
            Victim::Of(failure, index) => stage.fail(failure, index),
            Victim::Witness => stage.members.kill_witness(),
        }
        std::thread::sleep(away);
        match victim {
            Victim::Of(failure, index) => stage.mend(failure, index),
            Victim::Witness => stage.members.start_witness(&stage.site.lab).expect("a witness"),
        }
        watch.flows(ENOUGH, &format!("kill {round} ({victim:?})"), stage);
        let early = has_stale(stage);
        std::thread::sleep(back);
        self.stale += usize::from(early || has_stale(stage));
    }

    fn victim(&mut self) -> Victim {
        let daemon = [Failure::DataPlane, Failure::Ike, Failure::Cluster];
        match self.below(7) as usize {
            6 => Victim::Witness,
            other => Victim::Of(daemon[other / 2], other % 2),
        }
    }

    fn while_(&mut self) -> Duration {
        Duration::from_millis(self.below(LONGEST))
    }

    /// The next number of `SplitMix64`, whose state may be anything.
    fn below(&mut self, bound: u64) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// Whether a node says that what it took last it knew too little of.
fn has_stale(stage: &Stage) -> bool {
    stage.gateways().iter().any(|gateway| members::status(gateway)["last_took"]["cause"] == "stale")
}
