//! Planned moves to this node: what the old owner sends is kept ready, and put to use only with its sign-off.

use baton_sad::NodeId;

use super::Cluster;
use super::event::Refusal;
use super::output::Output;
use super::segments::Segments;
use super::transfer::{self, Arrival};
use super::wire::MessageError;
use crate::cxtp::{Data, Message};

impl Cluster {
    /// A message of CXTP.
    pub(crate) fn handle_transfer(&mut self, from: NodeId, message: Message) -> Result<(), MessageError> {
        let number = transfer::number(message.peer())?;
        match message {
            Message::Data(data) => self.receive_data(from, number, &data),
            Message::DataReply { success, .. } => self.replied(from, number, success),
            Message::Cancel { .. } => self.cancelled(from, number),
            Message::Request(request) => self.requested(from, &request)?,
            Message::ActivateRequest { .. } | Message::ActivateAcknowledge { .. } => {
                return Err(MessageError::Value("a message that mobile nodes send"));
            }
        }
        Ok(())
    }

    /// What was staged is forgotten.
    pub(crate) fn discard(&mut self, from: NodeId) {
        let Some(arrival) = self.moves.incoming.remove(&from) else { return };
        self.outputs.push_back(Output::EndHold { segments: arrival.segments });
        if arrival.staged {
            self.outputs.push_back(Output::Discard { from, number: arrival.number });
        }
    }

    /// Packets that come for the segments wait: their owner may stop them.
    pub(crate) fn holding(&mut self, from: NodeId, number: u64) {
        let arrival = self.moves.incoming.get(&from).filter(|arrival| arrival.number == number);
        if let Some(segments) = arrival.map(|arrival| arrival.segments) {
            self.transfer(from, transfer::reply(number, segments, true));
        }
    }

    fn receive_data(&mut self, from: NodeId, number: u64, data: &Data) {
        let is_new = self.moves.incoming.get(&from).is_none_or(|arrival| arrival.number != number);
        let is_announced = is_new && !transfer::has_pieces(data);
        if is_new {
            // Of a transfer that was refused or given up there may be more to come.
            let Some(arrival) = Arrival::begin(number, data) else { return };
            self.discard(from);
            self.moves.incoming.insert(from, arrival);
        }
        let coming = self.moves.incoming.get(&from).filter(|arrival| !arrival.staged);
        let Some(segments) = coming.map(|arrival| arrival.segments) else { return };
        // What is over and still here would go on with the segment.
        let is_unswept = !(self.tunnels.not_swept() & segments).is_empty();
        let refuses = self.maintenance || !self.is_able() || is_unswept;
        let is_theirs = self.may_move(from, segments);
        let Some(arrival) = self.moves.incoming.get_mut(&from) else { return };
        if refuses || !is_theirs || arrival.take(data).is_err() {
            return self.refuse(from, number);
        }
        if data.acknowledge && is_announced {
            // As long as it may take to hold, to freeze and to install.
            let until = self.now + self.config.move_wait * 3;
            self.outputs.push_back(Output::Hold { from, number, segments, until });
        } else if data.acknowledge {
            match arrival.finish() {
                Ok(parts) => self.outputs.push_back(Output::Stage { from, number, parts }),
                Err(_) => self.refuse(from, number),
            }
        }
    }

    fn refuse(&mut self, from: NodeId, number: u64) {
        if let Some(arrival) = self.moves.incoming.remove(&from) {
            self.outputs.push_back(Output::EndHold { segments: arrival.segments });
            self.transfer(from, transfer::reply(number, arrival.segments, false));
        }
    }

    /// The driver has looked at what was staged.
    pub(crate) fn staged_here(&mut self, from: NodeId, number: u64, result: Result<(), Refusal>) {
        let arrival = self.moves.incoming.get(&from).filter(|arrival| arrival.number == number);
        let Some(segments) = arrival.map(|arrival| arrival.segments) else { return };
        match result {
            Ok(()) => self.transfer(from, transfer::reply(number, segments, true)),
            Err(_) => self.refuse(from, number),
        }
    }

    fn cancelled(&mut self, from: NodeId, number: u64) {
        if self.moves.incoming.get(&from).is_some_and(|arrival| arrival.number == number) {
            self.discard(from);
        }
    }

    /// Of segments that we have gained: those that were signed off to us, with all that was staged for them. That is
    /// installed before their leases are set; what was staged otherwise is forgotten.
    pub(crate) fn commit(&mut self, gained: Segments) -> (Segments, Vec<Output>) {
        let (mut planned, mut commits) = (Segments::NONE, Vec::new());
        let staged: Vec<_> = self
            .moves
            .incoming
            .iter()
            .filter(|(_, incoming)| incoming.staged && !(incoming.segments & gained).is_empty())
            .map(|(from, incoming)| (*from, incoming.number, incoming.segments, incoming.pinned))
            .collect();
        for (from, number, segments, pinned) in staged {
            let whole =
                (segments - gained).is_empty() && segments.iter().all(|s| self.is_signed_off(s, from));
            if whole {
                self.moves.incoming.remove(&from);
                commits.push(Output::Commit { from, number, segments });
                self.moves.pinned |= if pinned { segments } else { Segments::NONE };
                planned |= segments;
            } else {
                self.discard(from);
            }
        }
        (planned, commits)
    }

    /// What a member has signed off to us in its last heartbeat.
    pub(crate) fn handed_to_us(&self, from: NodeId) -> Segments {
        let handed = self.peers.get(&from).map(|peer| peer.beat.handed.as_slice()).unwrap_or_default();
        let ours = handed.iter().filter(|(to, _)| *to == self.config.me);
        ours.fold(Segments::NONE, |all, (_, segments)| all | *segments)
    }
}
