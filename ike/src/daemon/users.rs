//! Users who are judged elsewhere: what servers say, and what they ask.

use baton_ike_proto::Command;
use baton_ike_proto::host::{SessionChange, Target};
use baton_radius::authorization::{Cause, Order, Request};

use super::turn::Loop;
use crate::clock;

impl Loop {
    /// What servers have answered, if something has come from them.
    pub(super) fn look_for_users(&mut self, has_come: bool) {
        self.effects.radius().look(has_come);
        for (question, judgement) in self.effects.radius().judgements() {
            self.ike.judged(clock::now(), question, judgement, &mut self.node);
            self.carry_out();
        }
    }

    /// What servers want.
    pub(super) fn obey_servers(&mut self) {
        let requests = self.dae.as_mut().map(crate::radius::Dae::requests).unwrap_or_default();
        for request in requests {
            let outcome = self.obey(&request);
            if let Some(dae) = &mut self.dae {
                dae.answer(&request, outcome);
            }
        }
    }

    /// All sessions that fit are meant (RFC 5176 section 3).
    fn obey(&mut self, request: &Request) -> Result<(), Cause> {
        let Some(dae) = &self.dae else { return Err(Cause::SessionContextNotFound) };
        let views = self.ike.tunnels(clock::now());
        let meant = views.filter(|view| dae.is_meant(&request.query, view));
        let meant: Vec<String> = meant.map(|view| view.name.to_string()).collect();
        if meant.is_empty() {
            return Err(Cause::SessionContextNotFound);
        }
        let done = meant.into_iter().filter(|tunnel| self.obey_for(tunnel, &request.order)).count();
        if done == 0 { Err(Cause::SessionContextNotRemovable) } else { Ok(()) }
    }

    fn obey_for(&mut self, tunnel: &str, order: &Order) -> bool {
        let tunnel = tunnel.to_owned();
        let command = match order {
            Order::Disconnect => Command::Terminate(Target::Tunnel(tunnel)),
            Order::Change(change) => {
                let (timeout, interim_interval) = (change.session_timeout, change.interim_interval);
                Command::ChangeSession { tunnel, change: SessionChange { timeout, interim_interval } }
            }
        };
        self.command(command).is_ok()
    }
}
