//! The beginning of a connection: lives, releases and configurations are compared.

use baton_sad::NodeId;

use super::Cluster;
use super::configuration::Role;
use super::output::Lane;
use super::status::Alarm;
use super::wire::{ControlMessage, MessageError};

impl Cluster {
    pub(crate) fn connect(&mut self, member: NodeId) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        peer.connected = true;
        let hello = ControlMessage::Hello {
            incarnation: self.incarnation,
            release: self.config.release.clone(),
            digests: self.config.digests.clone(),
        };
        self.send(member, Lane::Control, hello.encode().into());
        self.tell_links(member);
    }

    pub(crate) fn disconnect(&mut self, member: NodeId) {
        let Some(peer) = self.peers.get_mut(&member) else { return };
        peer.connected = false;
        peer.trust.forget_early();
        self.close_session(member);
        self.drop_moves_of(member);
    }

    /// A standby that is in the same life as before keeps what it has; one in a new life gets everything anew.
    pub(crate) fn greeted(
        &mut self,
        from: NodeId,
        incarnation: u64,
        release: &str,
        digests: &[(String, u64)],
    ) {
        self.compare(from, digests);
        self.alarm(Alarm::NotTheOwner(from), false);
        // What it says can be read again.
        let of_it = |alarm: &&Alarm| matches!(alarm, Alarm::Version(member, _) if *member == from);
        for former in self.alarms.iter().filter(of_it).cloned().collect::<Vec<_>>() {
            self.alarm(former, false);
        }
        let Some(peer) = self.peers.get_mut(&from) else { return };
        // It is shown to people.
        peer.release = Some(release.chars().filter(char::is_ascii_graphic).collect());
        let new_life = peer.life.replace(incarnation) != Some(incarnation);
        self.open_session(from, new_life);
        self.pump();
    }

    fn compare(&mut self, from: NodeId, theirs: &[(String, u64)]) {
        let ours = &self.config.digests;
        let differs = |section: &&(String, u64)| !theirs.contains(section);
        let missing = theirs.iter().filter(|(name, _)| !ours.iter().any(|(other, _)| other == name));
        let sections = ours.iter().filter(differs).chain(missing).map(|(name, _)| name.clone());
        // A witness has less to say, which is no difference.
        let nodes =
            self.is_node() && self.config.member(from).is_some_and(|member| member.role == Role::Node);
        let both = |name: &String| [ours, theirs].iter().all(|of| of.iter().any(|(other, _)| other == name));
        let sections: Vec<String> = sections.filter(|name| nodes || both(name)).collect();
        let former = self.alarms.iter().find(|a| matches!(a, Alarm::Differs(member, _) if *member == from));
        if let Some(former) = former.cloned() {
            self.alarm(former, false);
        }
        if !sections.is_empty() {
            self.alarm(Alarm::Differs(from, sections), true);
        }
    }

    /// What cannot be read is counted; a release that is too far from ours is named.
    pub(crate) fn unreadable(&mut self, from: NodeId, why: MessageError) {
        self.totals.malformed += 1;
        match why {
            MessageError::Version(version) => self.alarm(Alarm::Version(from, u16::from(version)), true),
            _ => self.notice(super::Notice::Malformed(from)),
        }
    }
}

#[cfg(test)]
mod tests;
