//! What servers answer.

use std::time::Duration;

use super::exchange::{Flight, Purpose};
use super::{Client, Happening, Output, Port, Service};
use crate::access;
use crate::packet::{Code, Packet};
use crate::secret::{Demand, Forged};

impl Client {
    /// Works on what has come to a port from its server. What is not authentic changes nothing but numbers: the true
    /// answer may still come.
    pub fn handle_datagram(&mut self, now: Duration, port: Port, datagram: &[u8]) {
        let Some(state) = self.states.get_mut(port.server) else { return };
        let Ok(packet) = Packet::parse(datagram) else {
            state.counters.malformed += 1;
            return;
        };
        let id = self.flights.get(&(port, packet.identifier())).copied();
        let Some((id, exchange)) = id.and_then(|id| Some((id, self.exchanges.get(&id)?))) else {
            state.counters.unexpected += 1;
            return;
        };
        let is_of = |flight: &&Flight| (flight.port, flight.identifier) == (port, packet.identifier());
        let Some(flight) = exchange.flights.iter().find(is_of).copied() else { return };
        let demand = match port.service {
            Service::Authentication => Demand::Mac,
            Service::Accounting => Demand::AuthenticatorAlone,
        };
        let secret = &self.settings.servers[port.server].secret;
        match secret.check_response(&packet, &flight.authenticator, demand) {
            Ok(()) => self.on_authentic(now, id, &flight, &packet),
            Err(forged) => self.on_forged(port.server, forged),
        }
    }

    fn on_forged(&mut self, server: usize, forged: Forged) {
        let counters = &mut self.states[server].counters;
        let problem = match forged {
            Forged::NoMac => {
                counters.unsigned += 1;
                "it has no Message-Authenticator (CVE-2024-3596); update the server, or let it send one"
            }
            Forged::Authenticator | Forged::Mac => {
                counters.bad_authenticators += 1;
                "its authenticator is wrong; compare the secret of both sides"
            }
        };
        let name = self.settings.servers[server].name.clone();
        self.happened(Happening::Forged(name, problem));
    }

    fn on_authentic(&mut self, now: Duration, id: u64, flight: &Flight, packet: &Packet) {
        let (server, service) = (flight.port.server, flight.port.service);
        if self.states[server].revive(service) {
            let name = self.settings.servers[server].name.clone();
            self.happened(Happening::Alive(name, service));
        }
        let is_expected = match service {
            Service::Authentication => {
                [Code::ACCESS_ACCEPT, Code::ACCESS_REJECT, Code::ACCESS_CHALLENGE].contains(&packet.code())
            }
            Service::Accounting => packet.code() == Code::ACCOUNTING_RESPONSE,
        };
        if !is_expected {
            self.states[server].counters.malformed += 1;
            return;
        }
        match self.finish(now, id) {
            Some(Purpose::Access { token, .. }) => self.on_access(token, flight, packet),
            Some(Purpose::Record(_)) => self.states[server].counters.records_taken += 1,
            None => {}
        }
    }

    fn on_access(&mut self, token: u64, flight: &Flight, packet: &Packet) {
        let server = &self.settings.servers[flight.port.server];
        let answer = access::read(&server.secret, &flight.authenticator, &server.name, packet);
        let counters = &mut self.states[flight.port.server].counters;
        match packet.code() {
            Code::ACCESS_ACCEPT => counters.accepts += 1,
            Code::ACCESS_REJECT => counters.rejects += 1,
            _ => counters.challenges += 1,
        }
        self.outputs.push_back(Output::Answered { token, answer });
    }
}
