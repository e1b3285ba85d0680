//! RADIUS (RFC 2865, RFC 2866, RFC 5176): sockets and words for [`baton_radius`], which has neither.
//!
//! Everything is done in the loop's thread, and nothing of it waits: a server that is slow is waited for by whoever
//! asked about a user, and by nobody else.

mod attributes;
mod dae;
mod sockets;
mod words;

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use baton_dataplane::control::Counter;
use baton_ike_proto::host::{Account, Judgement, Moment, Question, QuestionId};
use baton_radius::access::{Access, Thread};
use baton_radius::accounting::Status;
use baton_radius::client::{Client, Happening, Output, Service};
use tracing::{info, warn};

use crate::alarms::Alarms;
use crate::clock;
use crate::config::Radius as Config;
use crate::control::RadiusServerStatus;
use crate::credentials::RadiusSecrets;
use attributes::Station;
pub(crate) use dae::{Dae, DaeError};
use sockets::Sockets;

/// For how long a forged answer is an alarm.
const ALARMING: Duration = Duration::from_mins(5);

/// All of it.
pub(crate) struct Radius {
    config: Config,
    client: Client,
    sockets: Sockets,
    alarms: Alarms,
    random: SystemRandom,
    /// Answers that the protocol has not heard.
    judgements: Vec<(QuestionId, Judgement)>,
    /// When an answer was forged last (monotonic).
    forged_at: Option<Duration>,
    /// Records that were given up, as far as they were told of.
    lost: u64,
}

impl Radius {
    pub(crate) fn new(config: Config, secrets: &RadiusSecrets, alarms: Alarms) -> std::io::Result<Self> {
        let client = Client::new(words::settings(&config, secrets));
        let (sockets, random) = (Sockets::new()?, SystemRandom::new());
        let judgements = Vec::new();
        Ok(Self { config, client, sockets, alarms, random, judgements, forged_at: None, lost: 0 })
    }

    /// Other servers from now on.
    pub(crate) fn reconfigure(&mut self, config: Config, secrets: &RadiusSecrets) {
        let settings = words::settings(&config, secrets);
        if settings != *self.client.settings() {
            self.sockets.close();
        }
        self.client.reconfigure(clock::now().monotonic, settings);
        self.config = config;
        self.alarms.set("radius", self.dead());
        self.work();
    }

    /// What is to be waited for.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.sockets.as_fd()
    }

    /// When there is something to do (monotonic).
    pub(crate) fn next_due(&self) -> Option<Duration> {
        if self.judgements.is_empty() { self.client.next_timeout() } else { Some(Duration::ZERO) }
    }

    /// Asks about a user. Without randomness nobody is asked.
    pub(crate) fn ask(&mut self, question: Question) {
        let mut random = [0; 16];
        if self.random.fill(&mut random).is_err() {
            let judgement = Judgement::Unknown("the system gives no randomness; look at its log".to_owned());
            return self.judgements.push((question.id, judgement));
        }
        let mut attributes =
            self.station().attributes(&question.tunnel, &question.connection, &question.path);
        attributes::add_user(&mut attributes, &question.user, &question.session);
        let thread =
            question.thread.map(|thread| Thread { server: thread.server.into(), state: thread.state });
        let access = Access { attributes, eap: question.eap, thread };
        self.client.ask(clock::now().monotonic, question.id.0, access, random);
        self.work();
    }

    /// Tells of a session.
    pub(crate) fn account(&mut self, account: &Account) {
        if !self.config.accounting {
            return;
        }
        let mut attributes = self.station().attributes(&account.tunnel, &account.connection, &account.path);
        attributes::add_session(&mut attributes, account);
        let now = clock::now();
        self.client.account(now.monotonic, words::record(account, attributes, now.unix));
        self.work();
        if matches!(account.moment, Moment::Start | Moment::Stop(_)) {
            let what =
                if account.moment == Moment::Start { Status::Start } else { words::status(account.moment) };
            info!(tunnel = %account.tunnel, session = account.session.id, ?what, "session");
        }
    }

    fn station(&self) -> Station {
        Station { with_port: self.config.station_id_with_port }
    }

    /// What comes in, and what time brings.
    pub(crate) fn look(&mut self, has_come: bool) {
        let Self { client, sockets, .. } = self;
        let now = clock::now().monotonic;
        if has_come {
            sockets.receive(|port, datagram| client.handle_datagram(now, port, datagram));
        }
        client.handle_timeout(now);
        self.work();
        let is_over = self.forged_at.is_some_and(|at| now.saturating_sub(at) > ALARMING);
        if is_over {
            self.forged_at = None;
            self.alarms.set("radius-forged", None);
        }
    }

    /// What servers have said.
    pub(crate) fn judgements(&mut self) -> Vec<(QuestionId, Judgement)> {
        std::mem::take(&mut self.judgements)
    }

    /// Does what the client says.
    fn work(&mut self) {
        while let Some(output) = self.client.poll() {
            match output {
                Output::Transmit { port, datagram } => {
                    self.sockets.send(self.client.settings(), port, &datagram);
                }
                Output::Answered { token, answer } => {
                    let interval = self.config.accounting_interval;
                    self.judgements.push((QuestionId(token), words::judgement(answer, interval)));
                }
                Output::Happened(happening) => self.note(&happening),
            }
        }
    }

    fn note(&mut self, happening: &Happening) {
        match happening {
            Happening::Dead(..) | Happening::Alive(..) => {
                info!(?happening, "RADIUS");
                self.alarms.set("radius", self.dead());
            }
            Happening::Forged(server, problem) => {
                self.forged_at = Some(clock::now().monotonic);
                let alarm = format!("an answer of RADIUS server {server} was dropped: {problem}");
                self.alarms.set("radius-forged", Some(alarm));
            }
            Happening::RecordLost(session) => {
                warn!(session, "a record of a session was given up");
                self.lost = self.client.records_lost();
                let alarm = format!(
                    "{} records of sessions were given up; look at the RADIUS servers, and bill with care",
                    self.lost
                );
                self.alarms.set("radius-records", Some(alarm));
            }
        }
    }

    /// Servers that do not answer, as a sentence.
    fn dead(&self) -> Option<String> {
        let now = clock::now().monotonic;
        let is_dead = |at: usize, service| self.client.is_dead(now, at, service);
        let servers = self.config.servers.iter().enumerate();
        let dead: Vec<&str> = servers
            .filter(|(at, _)| is_dead(*at, Service::Authentication) || is_dead(*at, Service::Accounting))
            .map(|(_, server)| server.name.as_str())
            .collect();
        (!dead.is_empty()).then(|| {
            format!(
                "RADIUS servers that do not answer: {}; look at them, and at the way there",
                dead.join(", ")
            )
        })
    }

    /// Each server's state, for those who ask.
    pub(crate) fn status(&self) -> Vec<RadiusServerStatus> {
        let now = clock::now().monotonic;
        let word = |at, service| {
            let is_dead = self.client.is_dead(now, at, service);
            if is_dead { "dead" } else { "usable" }.to_owned()
        };
        let servers = self.client.servers().enumerate();
        servers
            .map(|(at, (server, counters))| RadiusServerStatus {
                name: server.name.to_string(),
                address: server.address,
                authentication: word(at, Service::Authentication),
                accounting: self.config.accounting.then(|| word(at, Service::Accounting)),
                requests: counters.requests,
                accepts: counters.accepts,
                rejects: counters.rejects,
                timeouts: counters.timeouts,
                bad_authenticators: counters.bad_authenticators + counters.unsigned,
                records_taken: counters.records_taken,
            })
            .collect()
    }

    /// Numbers of each server.
    pub(crate) fn counters(&self) -> Vec<Counter> {
        let mut all = Vec::new();
        for (server, counters) in self.client.servers() {
            let group = format!("radius.{}", server.name);
            all.extend(counters.iter().map(|(name, value, meaning)| Counter {
                group: group.clone(),
                name: name.replace('_', "-"),
                value,
                meaning: meaning.trim().to_owned(),
            }));
        }
        all
    }

    /// Records that no server has taken yet.
    pub(crate) fn records_waiting(&self) -> u64 {
        self.client.records_waiting() as u64
    }

    /// Our name, as servers know it.
    pub(crate) fn is_called(&self) -> Vec<String> {
        let own = self.client.settings().servers.iter().map(|server| server.nas_identifier.clone());
        own.chain([self.config.nas_identifier.clone()]).collect()
    }

    /// Where servers are.
    pub(crate) fn server_addresses(&self) -> Vec<IpAddr> {
        self.config.servers.iter().map(|server| server.address).collect()
    }
}

impl std::fmt::Debug for Radius {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Radius").field("config", &self.config).finish_non_exhaustive()
    }
}
