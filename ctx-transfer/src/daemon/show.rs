//! Answers to operators.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_dataplane::control::{Code, Refusal};
use baton_ike::clock;
use baton_sad::NodeId;

use super::desk::{Answer, Loaded};
use super::driver::Driver;
use super::metrics;
use super::words::{self, list};
use crate::cluster::{Command, Event, MemberStatus, Segments, StandbyState, Status as Core, Totals};
use crate::config::Config;
use crate::control::{
    CertificateStatus, ChannelStatus, Done, LastTook, MemberEntry, Metrics, Reloaded, Request, StandbyEntry,
    StandbyWord, Status, TotalsEntry,
};

/// A certificate that ends sooner is an alarm.
const WARNING: Duration = Duration::from_hours(30 * 24);

impl Driver {
    /// The answer to a question.
    pub(super) fn answer(&mut self, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Status => Ok(Answer::Status(Box::new(self.status()))),
            Request::Metrics => Ok(Answer::Metrics(Metrics { text: metrics::text(&self.status()) })),
            Request::SegmentTake { segments } => self.command(&segments, Command::Take),
            Request::SegmentDrop { segments } => self.command(&segments, Command::Drop),
            Request::SegmentMove { segments, to } => {
                let to = self.node(to)?;
                self.command(&segments, |segments| Command::Move { segments, to })
            }
            Request::Balance => self.command_for(Segments::ALL, Command::Balance),
            Request::Maintenance { on } => self.command_for(Segments::ALL, Command::Maintenance(on)),
            Request::Resync => self.command_for(Segments::ALL, Command::Resync),
            Request::Reload | Request::Monitor(_) => {
                Err(Refusal::new(Code::Internal, "this is answered elsewhere", "report this as a bug"))
            }
        }
    }

    fn node(&self, id: u8) -> Result<NodeId, Refusal> {
        let members = &self.parts.config.cluster.members;
        let found = members.iter().find(|member| {
            member.id.get() == id
                && member.role == crate::cluster::Role::Node
                && member.id != self.parts.config.node.id
        });
        found.map(|member| member.id).ok_or_else(|| {
            let message = format!("there is no other node {id} in this cluster");
            Refusal::new(Code::NotFound, message, "`dpctl cluster status` shows the members")
        })
    }

    fn command(&mut self, segments: &[u8], command: impl Fn(Segments) -> Command) -> Result<Answer, Refusal> {
        let segments: Segments = segments.iter().copied().collect();
        self.command_for(segments, command(segments))
    }

    fn command_for(&mut self, segments: Segments, command: Command) -> Result<Answer, Refusal> {
        if self.parts.config.role() == crate::cluster::Role::Witness {
            let message = "a witness owns nothing";
            return Err(Refusal::new(Code::Refused, message, "say it to a node"));
        }
        self.tell(Event::Command(command));
        Ok(Answer::Done(Done { concerned: segments.len() as u16 }))
    }

    /// Certificates are new at once; what the core was made from needs another core.
    pub(super) fn reload(&mut self, loaded: Loaded) -> Answer {
        let Loaded { config, credentials } = loaded;
        let mut reloaded = Reloaded::default();
        if credentials.expires != self.parts.credentials.expires {
            reloaded.changed.push("certificate".to_owned());
        }
        self.parts.channel.sender().renew(Arc::clone(&credentials));
        self.parts.bulk.renew(Arc::clone(&credentials));
        self.parts.credentials = credentials;
        let old = &self.parts.config;
        let reached = |config: &Config| (config.addresses.clone(), config.metrics, config.sharing.clone());
        match old.cluster.tuned(&config.cluster).filter(|_| reached(old) == reached(&config)) {
            Some(keys) => {
                self.parts.config.cluster = old.cluster.with_tuning_of(&config.cluster);
                reloaded.changed.extend(keys.iter().map(|key| format!("cluster.{key}")));
                self.tell(Event::Tuned(Box::new(config.cluster)));
            }
            None => reloaded.needs_restart.push(
                "[cluster] has changed beyond what a running member can take over, so nothing of it was: restart \
                 baton-cluster, on one member after the other"
                    .to_owned(),
            ),
        }
        Answer::Reloaded(reloaded)
    }

    pub(super) fn status(&self) -> Status {
        let core = self.cluster.status();
        let now = clock::now().monotonic;
        let config = &self.parts.config;
        Status {
            release: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_seconds: self.parts.started.elapsed().as_secs(),
            node: config.node.id.get(),
            role: config.role().to_string(),
            cluster: config.node.cluster.clone(),
            owned: list(core.owned),
            term: core.term,
            leased_ms: core.leased_until.map(|until| milliseconds(until.saturating_sub(now))),
            rule: if core.majority { "majority" } else { "pair-without-witness" }.to_owned(),
            maintenance: core.maintenance,
            moving: list(core.moving),
            data_plane: self.data_plane,
            no_link: core.down.iter().map(|side| words::side(*side).to_owned()).collect(),
            real_time: self.parts.real_time,
            members: core.members.iter().map(|member| self.member(member, now)).collect(),
            last_took: core.last_took.map(|(at, segments, cause)| LastTook {
                ago_ms: milliseconds(now.saturating_sub(at)),
                segments: list(segments),
                cause: words::cause(cause).to_owned(),
            }),
            certificate: self.certificate(),
            channel: self.channel(),
            totals: totals(&core.totals),
            reservation_misses: self.parts.counters.misses(),
            fence: self.parts.fence.in_force.iter().map(|word| (*word).to_owned()).collect(),
            alarms: self.alarms(&core),
            notes: self.notes(&core),
        }
    }

    fn member(&self, member: &MemberStatus, now: Duration) -> MemberEntry {
        let connected = self.beating.contains(&member.id) && self.bulky.contains(&member.id);
        let problem = self.parts.channel.sender().problem(member.id);
        let problem = problem.or_else(|| self.parts.bulk.problem(member.id));
        MemberEntry {
            id: member.id.get(),
            role: member.role.to_string(),
            alive: member.alive,
            heard_ms: member.heard.map(|heard| milliseconds(now.saturating_sub(heard))),
            release: member.release.clone(),
            protocol: self.parts.bulk.version(member.id),
            connected,
            problem: problem.filter(|_| !connected).map(|problem| problem.to_string()),
            owns: list(member.owns),
            maintenance: member.maintenance,
            idle: member.idle,
            standby: standby(&member.standby, now),
            ready: list(member.ready),
            lag_contexts: member.lag,
            lag_packets: member.lag_packets,
            lag_ms: member.waits_since.map_or(0, |since| milliseconds(now.saturating_sub(since))),
            lag_octets: self.parts.bulk.queued(member.id).unwrap_or(0) as u64,
            refused: member
                .refused
                .iter()
                .map(|(name, why)| (name.to_string(), words::refusal(*why).to_owned()))
                .collect(),
        }
    }

    fn certificate(&self) -> CertificateStatus {
        let credentials = &self.parts.credentials;
        CertificateStatus {
            identity: credentials.identity.to_string(),
            expires: credentials.expires.as_secs(),
            authority_expires: credentials.authority_expires.as_secs(),
        }
    }

    fn channel(&self) -> ChannelStatus {
        let (first, second) = (self.parts.channel.sender(), self.parts.bulk.clone());
        let both = |of: fn(&crate::channel::Counted) -> &std::sync::atomic::AtomicU64| {
            of(first.counted()).load(Ordering::Relaxed) + of(second.counted()).load(Ordering::Relaxed)
        };
        ChannelStatus {
            strangers: both(|counted| &counted.strangers),
            retries: both(|counted| &counted.retries),
            refused: both(|counted| &counted.refused),
            failed: both(|counted| &counted.failed),
            dropped: both(|counted| &counted.dropped),
        }
    }

    fn alarms(&self, core: &Core) -> Vec<String> {
        let mut alarms: Vec<String> = core.alarms.iter().map(words::alarm).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let credentials = &self.parts.credentials;
        for (whose, ends) in
            [("member's", credentials.expires), ("authority's", credentials.authority_expires)]
        {
            let left = ends.saturating_sub(now);
            if left < WARNING {
                let days = left.as_secs() / 86_400;
                alarms.push(format!(
                    "this {whose} certificate ends in {days} days: renew it (`dpctl cluster invite` where the cluster \
                     was begun, `dpctl cluster join` here, then `dpctl cluster reload`)"
                ));
            }
        }
        alarms
    }

    fn notes(&self, core: &Core) -> Vec<String> {
        let mut notes = self.parts.fence.missing.clone();
        if !core.majority {
            notes.push(
                "without a witness both nodes go on when the network between them is cut: each answers then for all \
                 peers that reach it (IVs stay unique nevertheless); add a witness to exclude that"
                    .to_owned(),
            );
        }
        let ours = env!("CARGO_PKG_VERSION");
        for member in &core.members {
            let Some(theirs) = member.release.as_deref().filter(|release| *release != ours) else { continue };
            notes.push(format!(
                "member {} runs release {theirs}, and this one {ours}: bring both to one release",
                member.id.get()
            ));
        }
        if !self.parts.real_time {
            notes.push(
                "heartbeats have no real-time priority: under load this member may look dead; grant CAP_SYS_NICE"
                    .to_owned(),
            );
        }
        notes
    }
}

fn standby(state: &StandbyState, now: Duration) -> StandbyEntry {
    let word = |state| StandbyEntry { state, ..StandbyEntry::default() };
    match state {
        StandbyState::Absent => word(StandbyWord::Absent),
        StandbyState::Filling { done, total } => {
            StandbyEntry { done: *done, total: *total, ..word(StandbyWord::Filling) }
        }
        StandbyState::Synced => word(StandbyWord::Synced),
        StandbyState::Stale { since } => {
            StandbyEntry { stale_ms: milliseconds(now.saturating_sub(*since)), ..word(StandbyWord::Stale) }
        }
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn totals(totals: &Totals) -> TotalsEntry {
    TotalsEntry {
        takeovers: totals.takeovers,
        moves: totals.moves,
        moves_failed: totals.moves_failed,
        yielded: totals.yielded,
        pauses: totals.pauses,
        lapses: totals.lapses,
        contexts: totals.contexts,
        fills: totals.fills,
        refusals: totals.refusals,
        late: totals.late,
        reservations: totals.reservations,
        repeated_reservations: totals.repeated_reservations,
        stale: totals.stale,
        rekeyed: totals.rekeyed,
        malformed: totals.malformed,
        disbelieved: totals.disbelieved,
    }
}
