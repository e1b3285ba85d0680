//! What is known of a server.

use std::time::Duration;

use super::{Port, Service};

/// Defines the counters and their names, in one list.
macro_rules! counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// Numbers of one server; each counts up only.
        #[derive(Debug, Clone, Default, PartialEq, Eq)]
        pub struct Counters {
            $($(#[doc = $doc])+ pub $name: u64,)+
        }

        impl Counters {
            /// Each with its name and meaning.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64, &'static str)> {
                [$((stringify!($name), self.$name, concat!($($doc),+)),)+].into_iter()
            }
        }
    };
}

counters! {
    /// questions about users
    requests,
    /// answers that go on with the conversation
    challenges,
    /// users accepted
    accepts,
    /// users refused
    rejects,
    /// records of sessions sent, repetitions left out
    records,
    /// records that it has taken
    records_taken,
    /// datagrams sent again
    retransmissions,
    /// questions and records that it has not answered in all their repetitions
    timeouts,
    /// answers whose authenticator is wrong: another secret, or a forgery
    bad_authenticators,
    /// answers without Message-Authenticator, which are dropped (CVE-2024-3596)
    unsigned,
    /// datagrams that are no packets
    malformed,
    /// answers to nothing that is outstanding
    unexpected,
}

/// What is known of a server.
#[derive(Debug)]
pub(super) struct State {
    pub(super) counters: Counters,
    /// Until when it is passed over, by service.
    dead: [Option<Duration>; 2],
    /// Which identifiers of which port are in use.
    ports: Vec<(Port, Identifiers)>,
}

impl State {
    pub(super) fn new(server: usize, sockets: u16) -> Self {
        let services = [Service::Authentication, Service::Accounting].into_iter();
        let ports = services.flat_map(|service| {
            (0..sockets).map(move |socket| (Port { server, service, socket }, Identifiers::default()))
        });
        Self { counters: Counters::default(), dead: [None, None], ports: ports.collect() }
    }

    pub(super) fn ports(&self) -> impl Iterator<Item = Port> + '_ {
        self.ports.iter().map(|(port, _)| *port)
    }

    pub(super) fn is_dead(&self, now: Duration, service: Service) -> bool {
        self.dead[service as usize].is_some_and(|until| now < until)
    }

    /// Whether that is news.
    pub(super) fn bury(&mut self, service: Service, until: Duration) -> bool {
        self.dead[service as usize].replace(until).is_none()
    }

    /// Whether that is news.
    pub(super) fn revive(&mut self, service: Service) -> bool {
        self.dead[service as usize].take().is_some()
    }

    /// A free identifier of the least busy port.
    pub(super) fn claim(&mut self, service: Service) -> Option<(Port, u8)> {
        let ports = self.ports.iter_mut().filter(|(port, _)| port.service == service);
        let (port, identifiers) = ports.min_by_key(|(_, identifiers)| identifiers.used)?;
        identifiers.claim().map(|identifier| (*port, identifier))
    }

    pub(super) fn give_back(&mut self, port: Port, identifier: u8) {
        if let Some((_, identifiers)) = self.ports.iter_mut().find(|(known, _)| *known == port) {
            identifiers.give_back(identifier);
        }
    }

    /// Identifiers in use.
    pub(super) fn load(&self, service: Service) -> usize {
        let of_service = self.ports.iter().filter(|(port, _)| port.service == service);
        of_service.map(|(_, identifiers)| identifiers.used).sum()
    }
}

/// The identifiers of a port. One that was given back is not used again for as long as possible: an answer may be late.
#[derive(Debug, Default)]
struct Identifiers {
    taken: [u128; 2],
    used: usize,
    next: u8,
}

impl Identifiers {
    fn claim(&mut self) -> Option<u8> {
        let from = self.next;
        let free = (0..=u8::MAX).map(|step| from.wrapping_add(step)).find(|id| !self.is_taken(*id))?;
        self.taken[usize::from(free >> 7)] |= 1 << (free & 0x7f);
        self.used += 1;
        self.next = free.wrapping_add(1);
        Some(free)
    }

    const fn is_taken(&self, identifier: u8) -> bool {
        self.taken[(identifier >> 7) as usize] & (1 << (identifier & 0x7f)) != 0
    }

    fn give_back(&mut self, identifier: u8) {
        if self.is_taken(identifier) {
            self.taken[usize::from(identifier >> 7)] &= !(1 << (identifier & 0x7f));
            self.used -= 1;
        }
    }
}
