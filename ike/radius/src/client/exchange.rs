//! A question, or a record, on its way.

use std::cmp::Reverse;
use std::time::Duration;

use super::{Client, Happening, Output, Port, Service};
use crate::access::{Access, Answer};
use crate::accounting::Record;
use crate::attribute::{Attributes, Kind};
use crate::packet::{Code, Draft, TooLong};

/// How long a record rests that no server has taken: so long at first, then twice as long, at most so long.
const REST: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(10));

/// What it is for.
pub(super) enum Purpose {
    /// A user.
    Access {
        token: u64,
        access: Access,
        /// Its authenticator.
        random: [u8; 16],
    },
    /// A session.
    Record(Record),
}

impl Purpose {
    pub(super) fn service(&self) -> Service {
        match self {
            Self::Access { .. } => Service::Authentication,
            Self::Record(_) => Service::Accounting,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Access { .. } => Code::ACCESS_REQUEST,
            Self::Record(_) => Code::ACCOUNTING_REQUEST,
        }
    }
}

/// A datagram of it, which may yet be answered.
#[derive(Clone, Copy)]
pub(super) struct Flight {
    pub(super) port: Port,
    pub(super) identifier: u8,
    pub(super) authenticator: [u8; 16],
}

/// A question, or a record, on its way.
pub(super) struct Exchange {
    pub(super) purpose: Purpose,
    /// When it was given to us.
    pub(super) begun: Duration,
    /// Which server is asked.
    pub(super) server: Option<usize>,
    /// Those that have not answered.
    tried: Vec<usize>,
    /// Datagrams sent to the present server.
    sent: u32,
    pub(super) flights: Vec<Flight>,
    /// A question's octets, which are the same in every repetition (RFC 5080 section 2.2.1).
    datagram: Vec<u8>,
    due: Option<Duration>,
    /// How often all servers were tried.
    rests: u32,
}

impl Client {
    pub(super) fn begin(&mut self, now: Duration, begun: Duration, purpose: Purpose) -> u64 {
        let id = self.next;
        self.next += 1;
        if matches!(purpose, Purpose::Record(_)) {
            self.records.insert(id);
        }
        let exchange = Exchange {
            purpose,
            begun,
            server: None,
            tried: Vec::new(),
            sent: 0,
            flights: Vec::new(),
            datagram: Vec::new(),
            due: None,
            rests: 0,
        };
        self.exchanges.insert(id, exchange);
        self.approach(now, id);
        id
    }

    /// Asks the best server that was not tried.
    pub(super) fn approach(&mut self, now: Duration, id: u64) {
        let Some(exchange) = self.exchanges.get(&id) else { return };
        match self.choose(now, exchange) {
            Some(server) => self.send_to(now, id, server),
            None => self.exhausted(now, id),
        }
    }

    /// The one that knows the conversation; for others the most preferred, then the least busy. One that is taken for
    /// dead is better than none.
    fn choose(&self, now: Duration, exchange: &Exchange) -> Option<usize> {
        let service = exchange.purpose.service();
        if let Purpose::Access { access: Access { thread: Some(thread), .. }, .. } = &exchange.purpose {
            let known = self.settings.servers.iter().position(|server| server.name == thread.server);
            return known.filter(|server| !exchange.tried.contains(server));
        }
        let untried = (0..self.states.len()).filter(|server| !exchange.tried.contains(server));
        untried.min_by_key(|server| {
            let (state, settings) = (&self.states[*server], &self.settings.servers[*server]);
            (state.is_dead(now, service), Reverse(settings.preference), state.load(service))
        })
    }

    fn send_to(&mut self, now: Duration, id: u64, server: usize) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let (service, is_first) =
            (exchange.purpose.service(), exchange.tried.is_empty() && exchange.rests == 0);
        exchange.sent = 0;
        let Some((port, identifier)) = self.states[server].claim(service) else {
            exchange.server = None;
            self.waiting[service as usize].push_back(id);
            return;
        };
        exchange.server = Some(server);
        let counters = &mut self.states[server].counters;
        match exchange.purpose {
            Purpose::Access { .. } => counters.requests += 1,
            Purpose::Record(_) => counters.records += u64::from(is_first),
        }
        self.launch(now, id, (port, identifier));
    }

    /// Writes the datagram and sends it.
    fn launch(&mut self, now: Duration, id: u64, (port, identifier): (Port, u8)) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        match exchange.write(now, &self.settings.servers[port.server], identifier) {
            Ok((datagram, authenticator)) => {
                exchange.flights.push(Flight { port, identifier, authenticator });
                exchange.datagram = datagram;
                self.flights.insert((port, identifier), id);
                self.transmit(now, id, port);
            }
            Err(too_long) => {
                self.states[port.server].give_back(port, identifier);
                self.give_up(now, id, &too_long.to_string());
            }
        }
    }

    fn transmit(&mut self, now: Duration, id: u64, port: Port) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        self.outputs.push_back(Output::Transmit { port, datagram: exchange.datagram.clone() });
        let wait = self
            .settings
            .first
            .mul_f64(self.settings.base.powi(exchange.sent.min(32).cast_signed()).min(1e6));
        exchange.sent += 1;
        self.set_timer(id, Some(now.saturating_add(wait)));
    }

    pub(super) fn set_timer(&mut self, id: u64, due: Option<Duration>) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        if let Some(before) = std::mem::replace(&mut exchange.due, due) {
            self.timers.remove(&(before, id));
        }
        if let Some(due) = due {
            self.timers.insert((due, id));
        }
    }

    /// It has waited for an answer, or rested, for long enough.
    pub(super) fn on_due(&mut self, now: Duration, id: u64) {
        self.set_timer(id, None);
        let Some(exchange) = self.exchanges.get(&id) else { return };
        let Some(server) = exchange.server else {
            return self.approach(now, id);
        };
        let service = exchange.purpose.service();
        let is_over = exchange.sent > self.settings.tries;
        if is_over {
            self.states[server].counters.timeouts += 1;
            let until = now.saturating_add(self.settings.dead_time);
            if self.states[server].bury(service, until) {
                let name = self.settings.servers[server].name.clone();
                self.happened(Happening::Dead(name, service));
            }
        }
        if is_over || self.has_better(now, id, server) {
            self.release(now, id);
            if let Some(exchange) = self.exchanges.get_mut(&id) {
                exchange.tried.push(server);
            }
            self.approach(now, id);
        } else {
            self.repeat(now, id, server);
        }
    }

    /// Whether its server has died meanwhile, and another lives that can take over.
    fn has_better(&self, now: Duration, id: u64, server: usize) -> bool {
        let Some(exchange) = self.exchanges.get(&id) else { return false };
        let service = exchange.purpose.service();
        let lives = |other: usize| !self.states[other].is_dead(now, service);
        !lives(server) && self.choose(now, exchange).is_some_and(|other| other != server && lives(other))
    }

    /// A question by the same octets. A record says how long it has waited, which makes it another packet (RFC 2866
    /// section 5.2).
    fn repeat(&mut self, now: Duration, id: u64, server: usize) {
        let Some(exchange) = self.exchanges.get(&id) else { return };
        self.states[server].counters.retransmissions += 1;
        match (&exchange.purpose, exchange.flights.first()) {
            (Purpose::Access { .. }, Some(flight)) => self.transmit(now, id, flight.port),
            _ => match self.states[server].claim(Service::Accounting) {
                Some(place) => self.launch(now, id, place),
                None => self.set_timer(id, Some(now.saturating_add(self.settings.first))),
            },
        }
    }

    /// No server has answered.
    fn exhausted(&mut self, now: Duration, id: u64) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        match exchange.purpose {
            Purpose::Access { .. } => {
                self.give_up(now, id, "no RADIUS server has answered; look at `dpctl ike status`");
            }
            Purpose::Record(_) => {
                exchange.tried.clear();
                exchange.server = None;
                let rest = REST.0.saturating_mul(1 << exchange.rests.min(8)).min(REST.1);
                exchange.rests += 1;
                self.set_timer(id, Some(now.saturating_add(rest)));
            }
        }
    }

    /// It will not be answered any more.
    pub(super) fn give_up(&mut self, now: Duration, id: u64, problem: &str) {
        match self.finish(now, id) {
            Some(Purpose::Access { token, .. }) => self.answer(token, Answer::Failed(problem.to_owned())),
            Some(Purpose::Record(record)) => {
                self.lost += 1;
                self.happened(Happening::RecordLost(record.session));
            }
            None => {}
        }
    }

    /// It is over: nothing of it is left.
    pub(super) fn finish(&mut self, now: Duration, id: u64) -> Option<Purpose> {
        self.set_timer(id, None);
        self.release(now, id);
        let exchange = self.exchanges.remove(&id)?;
        match &exchange.purpose {
            Purpose::Access { .. } => self.questions -= 1,
            Purpose::Record(record) => {
                self.records.remove(&id);
                if self.interims.get(&record.session) == Some(&id) {
                    self.interims.remove(&record.session);
                }
            }
        }
        Some(exchange.purpose)
    }

    /// Gives its identifiers to those that wait for one.
    fn release(&mut self, now: Duration, id: u64) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        exchange.server = None;
        let (service, flights) = (exchange.purpose.service(), std::mem::take(&mut exchange.flights));
        for Flight { port, identifier, .. } in &flights {
            self.flights.remove(&(*port, *identifier));
            self.states[port.server].give_back(*port, *identifier);
        }
        for _ in &flights {
            if let Some(next) = self.waiting[service as usize].pop_front() {
                self.approach(now, next);
            }
        }
    }
}

impl Exchange {
    /// The octets, and the authenticator that its answer is checked by.
    fn write(
        &self,
        now: Duration,
        server: &super::Server,
        identifier: u8,
    ) -> Result<(Vec<u8>, [u8; 16]), TooLong> {
        let mut all = Attributes::default();
        all.add_text(Kind::NAS_IDENTIFIER, &server.nas_identifier);
        let header = (self.purpose.code(), identifier);
        match &self.purpose {
            Purpose::Access { access, random, .. } => {
                all.extend(&access.attributes);
                let state = access.thread.as_ref().and_then(|thread| thread.state.as_ref());
                if let Some(state) = state {
                    all.add(Kind::STATE, state);
                }
                all.add_spread(Kind::EAP_MESSAGE, &access.eap);
                let draft = Draft::new(header, random, true, &all)?;
                Ok((server.secret.sign_access(draft), *random))
            }
            Purpose::Record(record) => {
                all.extend(&record.attributes());
                all.add_seconds(Kind::ACCT_DELAY_TIME, now.saturating_sub(self.begun));
                let draft = Draft::new(header, &[0; 16], false, &all)?;
                Ok(server.secret.sign_request(draft))
            }
        }
    }
}
