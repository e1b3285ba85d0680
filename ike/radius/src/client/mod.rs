//! The client: which server is asked, again, and instead of which.
//!
//! A question goes to the server with the highest preference that is not taken for dead, the least busy of several;
//! it is repeated at growing intervals, and then goes to the next one. A conversation that has begun stays with its
//! server, which alone knows its state. Records of sessions are repeated until a server takes them.

mod answers;
mod exchange;
mod records;
mod server;
mod timers;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::Secret;
use crate::access::{Access, Answer};
use crate::packet::{MAX_PACKET, TooLong};

use exchange::{Exchange, Purpose};
pub use server::Counters;
use server::State;

/// Records that wait for servers at most: the oldest are given up for new ones.
pub const MAX_RECORDS: usize = 65_536;
/// Conversations' questions that are outstanding or wait for an identifier at most; further ones are refused.
pub const MAX_QUESTIONS: usize = 65_536;

/// What may be asked of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Service {
    /// Who users are.
    Authentication,
    /// To take records of sessions.
    Accounting,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its name.
    pub name: Arc<str>,
    /// Where it is.
    pub address: IpAddr,
    /// UDP port for authentication.
    pub auth_port: u16,
    /// UDP port for accounting.
    pub acct_port: u16,
    /// The highest is asked first.
    pub preference: u32,
    /// Source ports for each service; each carries 256 outstanding questions.
    pub sockets: u16,
    /// What is shared with it.
    pub secret: Secret,
    /// What we call ourselves.
    pub nas_identifier: String,
}

/// How questions are asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// The servers.
    pub servers: Vec<Server>,
    /// Wait before the first repetition.
    pub first: Duration,
    /// Factor by which waits grow.
    pub base: f64,
    /// Repetitions before the next server is asked.
    pub tries: u32,
    /// For how long a server that did not answer is passed over.
    pub dead_time: Duration,
}

/// A source port of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Port {
    /// The server's place in [`Settings::servers`].
    pub server: usize,
    /// For what.
    pub service: Service,
    /// Which one.
    pub socket: u16,
}

/// What is to be done, or has happened.
#[derive(Debug)]
pub enum Output {
    /// Send it from this port to its server.
    Transmit {
        /// From where.
        port: Port,
        /// What.
        datagram: Vec<u8>,
    },
    /// A question is answered.
    Answered {
        /// The asker's own number.
        token: u64,
        /// The answer.
        answer: Answer,
    },
    /// Something that an operator wants to know.
    Happened(Happening),
}

/// What an operator wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A server does not answer.
    Dead(Arc<str>, Service),
    /// It does again.
    Alive(Arc<str>, Service),
    /// A datagram that claims to be its answer and is not, or lacks what proves it; a sentence.
    Forged(Arc<str>, &'static str),
    /// A session's record was given up.
    RecordLost(String),
}

/// The client.
pub struct Client {
    settings: Settings,
    /// As the servers of the settings.
    states: Vec<State>,
    exchanges: HashMap<u64, Exchange>,
    /// Which exchange a port's identifier belongs to.
    flights: HashMap<(Port, u8), u64>,
    timers: BTreeSet<(Duration, u64)>,
    /// Those without an identifier, by service.
    waiting: [VecDeque<u64>; 2],
    /// The interim record of a session that is on its way.
    interims: HashMap<String, u64>,
    /// Exchanges that are about records, the oldest first.
    records: BTreeSet<u64>,
    questions: usize,
    /// Records that no server has taken, in all.
    lost: u64,
    next: u64,
    outputs: VecDeque<Output>,
}

impl Client {
    /// Nothing asked yet.
    pub fn new(settings: Settings) -> Self {
        let servers = settings.servers.iter().enumerate();
        let states = servers.map(|(place, server)| State::new(place, server.sockets)).collect();
        Self {
            settings,
            states,
            exchanges: HashMap::new(),
            flights: HashMap::new(),
            timers: BTreeSet::new(),
            waiting: [VecDeque::new(), VecDeque::new()],
            interims: HashMap::new(),
            records: BTreeSet::new(),
            questions: 0,
            lost: 0,
            next: 0,
            outputs: VecDeque::new(),
        }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All ports that it sends from.
    pub fn ports(&self) -> impl Iterator<Item = Port> + '_ {
        self.states.iter().flat_map(State::ports)
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called (monotonic).
    pub fn next_timeout(&self) -> Option<Duration> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Other servers, or other ways to ask them, from now on. What is outstanding is asked of the new ones, except for
    /// conversations that have begun.
    pub fn reconfigure(&mut self, now: Duration, settings: Settings) {
        if settings == self.settings {
            return;
        }
        let old = std::mem::replace(self, Self::new(settings));
        (self.next, self.lost, self.outputs) = (old.next, old.lost, old.outputs);
        let mut exchanges: Vec<_> = old.exchanges.into_iter().collect();
        exchanges.sort_unstable_by_key(|(id, _)| *id);
        for (_, exchange) in exchanges {
            match exchange.purpose {
                Purpose::Record(record) => self.account_since(now, exchange.begun, record),
                Purpose::Access { token, access: Access { thread: Some(_), .. }, .. } => {
                    let problem = "the RADIUS servers were configured anew meanwhile; try again".to_owned();
                    self.answer(token, Answer::Failed(problem));
                }
                Purpose::Access { token, access, random } => self.ask(now, token, access, random),
            }
        }
    }

    /// Asks a server about a user; the answer comes by `token`. `random` gives 16 unpredictable octets.
    pub fn ask(&mut self, now: Duration, token: u64, access: Access, random: [u8; 16]) {
        if access.length() > MAX_PACKET {
            return self.answer(token, Answer::Failed(TooLong(access.length()).to_string()));
        }
        if self.questions >= MAX_QUESTIONS {
            let problem = format!("{MAX_QUESTIONS} questions to RADIUS servers are outstanding; add servers");
            self.answer(token, Answer::Failed(problem));
            return;
        }
        self.questions += 1;
        self.begin(now, now, Purpose::Access { token, access, random });
    }

    /// Numbers and state of each server.
    pub fn servers(&self) -> impl Iterator<Item = (&Server, &Counters)> {
        self.settings.servers.iter().zip(self.states.iter().map(|state| &state.counters))
    }

    /// Whether a server is passed over.
    pub fn is_dead(&self, now: Duration, server: usize, service: Service) -> bool {
        self.states.get(server).is_some_and(|state| state.is_dead(now, service))
    }

    /// Records that wait for a server to take them.
    pub fn records_waiting(&self) -> usize {
        self.records.len()
    }

    /// Records that were given up.
    pub fn records_lost(&self) -> u64 {
        self.lost
    }

    fn answer(&mut self, token: u64, answer: Answer) {
        self.outputs.push_back(Output::Answered { token, answer });
    }

    fn happened(&mut self, happening: Happening) {
        self.outputs.push_back(Output::Happened(happening));
    }
}
