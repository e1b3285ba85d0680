//! Connections between members: reliable messages arrive in order, or the connection is over.

use baton_ctx_transfer::cluster::{Event, Lane, Octets};
use baton_sad::NodeId;

use crate::links::{Connection, link};
use crate::world::{Coming, World};

impl World {
    pub fn send_reliably(&mut self, from: NodeId, to: NodeId, lane: Lane, octets: Octets) {
        let Some(connection) = self.links.connection(from, to).filter(|found| !found.broken) else { return };
        if self.links.is_cut(from, to) {
            return self.disconnect(from, to);
        }
        let at = self.now + self.micros(50, 51 + self.scene.delay);
        let at = self.links.in_order(from, to, at);
        let connection = Some(connection.number);
        self.at(at, Coming::Message { from, to, lane, octets, connection });
    }

    /// A message arrives, if its connection still stands; a daemon that is stopped finds it when it goes on.
    pub fn arrive(&mut self, from: NodeId, to: NodeId, lane: Lane, octets: Octets, connection: Option<u64>) {
        if let Some(number) = connection {
            let alive = self.links.connection(from, to);
            if alive.is_none_or(|alive| alive.number != number || alive.broken) {
                return;
            }
        }
        let is_unknown = connection.is_some_and(|number| self.joined.get(&(to, from)) != Some(&number));
        let soon = is_unknown.then(|| self.now + std::time::Duration::from_micros(300));
        let Some(at) = self.paused(to).or(soon) else {
            return self.with(to, |core, now| core.handle_message(now, from, lane, &octets.0));
        };
        let at = if connection.is_some() { self.links.in_order(from, to, at) } else { at };
        self.at(at, Coming::Message { from, to, lane, octets, connection });
    }

    pub fn connect(&mut self, a: NodeId, b: NodeId) {
        let runs = |id| self.nodes.get(&id).is_some_and(|node| node.up && node.daemon.core.is_some());
        let stands = self.links.connection(a, b).is_some_and(|connection| !connection.broken);
        if self.links.is_cut(a, b) || stands || !runs(a) || !runs(b) {
            return;
        }
        self.links.made += 1;
        let number = self.links.made;
        self.links.connections.insert(link(a, b), Connection { number, broken: false });
        for (who, whom) in [(a, b), (b, a)] {
            let life = self.nodes[&who].daemon.life;
            self.join(who, whom, life, number);
        }
    }

    /// One end hears of a connection, which takes the place of an old one.
    pub fn join(&mut self, who: NodeId, whom: NodeId, life: u64, connection: u64) {
        let is_present = self.links.connection(who, whom).is_some_and(|now| now.number == connection);
        if self.nodes[&who].daemon.life != life || !is_present {
            return;
        }
        if let Some(at) = self.paused(who) {
            return self.at(at, Coming::Joined { who, whom, life, connection });
        }
        self.joined.insert((who, whom), connection);
        self.with(who, |core, now| {
            core.handle(now, Event::Disconnected { member: whom });
            core.handle(now, Event::Connected { member: whom });
        });
    }

    /// One end notices that a connection is over, unless it has another one by now.
    pub fn part(&mut self, who: NodeId, whom: NodeId, life: u64, connection: u64) {
        if self.joined.get(&(who, whom)) != Some(&connection) {
            return;
        }
        match self.paused(who) {
            Some(at) => self.at(at, Coming::Parted { who, whom, life, connection }),
            None => self.tell(who, life, Event::Disconnected { member: whom }),
        }
    }

    /// A connection delivers nothing any more; its ends notice after a while, and try again.
    pub fn disconnect(&mut self, a: NodeId, b: NodeId) {
        let Some(connection) = self.links.connections.get_mut(&link(a, b)) else { return };
        if std::mem::replace(&mut connection.broken, true) {
            return;
        }
        let connection = connection.number;
        for (who, whom) in [(a, b), (b, a)] {
            let after = self.micros(1_000, 80_000);
            let life = self.nodes[&who].daemon.life;
            self.later(after, Coming::Parted { who, whom, life, connection });
        }
        let again = self.micros(80_000, 120_000);
        self.later(again, Coming::Connect(a, b));
    }
}
