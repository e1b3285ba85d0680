//! Requests of IKE whose answers have not arrived: what is under way when a segment changes its owner.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use baton_ctx_transfer::cluster::{Cause, Segments};
use baton_ike_proto::wire::{self, ExchangeType};
use baton_sad::NodeId;

use crate::invariants::Invariants;
use crate::network::Datagram;
use crate::setting::seen;

/// SPIs, whether the IKE SA's initiator asks, and the Message ID.
type Request = (u64, u64, bool, u32);

/// A request whose answer has not arrived.
struct Asked {
    segment: u8,
    exchange: ExchangeType,
    by: IpAddr,
}

/// A process of the cluster that has an answer, or had it while it lived.
pub struct Answered {
    pub by: NodeId,
    pub life: u64,
    /// How often its segment had come to somebody by then.
    pub taken: u64,
}

/// All of them.
#[derive(Default)]
pub struct Exchanges {
    asked: HashMap<Request, Asked>,
    answered: HashMap<Request, Answered>,
}

impl Exchanges {
    pub fn leaves(&mut self, datagram: &Datagram) {
        let Some(header) = header(&datagram.octets).filter(|header| !header.flags.response) else { return };
        let request = request(&header, header.flags.initiator);
        let to_cluster = datagram.to.ip() == seen(0);
        let segment = segment(&header, to_cluster);
        let asked = Asked { segment, exchange: header.exchange, by: datagram.from.ip() };
        self.asked.insert(request, asked);
    }

    pub fn arrives(&mut self, datagram: &Datagram) {
        let Some(header) = header(&datagram.octets).filter(|header| header.flags.response) else { return };
        self.asked.remove(&request(&header, !header.flags.initiator));
    }

    /// A process of the cluster answers, whether that leaves or not. `taken` says how often each segment has come to
    /// somebody.
    pub fn is_answered(&mut self, by: NodeId, life: u64, octets: &[u8], taken: &[u64]) {
        let Some(header) = header(octets).filter(|header| header.flags.response) else { return };
        let taken = taken[usize::from(segment(&header, false))];
        self.answered.insert(request(&header, !header.flags.initiator), Answered { by, life, taken });
    }

    /// How many IKE SAs there are of a peer in which it waits for an answer that there was, and that nobody has any more:
    /// `is_gone` says so of a segment and of who had it.
    pub fn forgotten(&self, peer: IpAddr, is_gone: impl Fn(u8, &Answered) -> bool) -> u64 {
        let of_it = self.asked.iter().filter(|(_, asked)| asked.by == peer);
        let forgotten = of_it.filter(|(request, asked)| {
            self.answered.get(*request).is_some_and(|answered| is_gone(asked.segment, answered))
        });
        let sas: HashSet<(u64, u64)> = forgotten.map(|(request, _)| (request.0, request.1)).collect();
        sas.len() as u64
    }

    /// Counts what is under way in segments that come to another node.
    pub fn count(&self, segments: Segments, cause: Cause, judge: &mut Invariants) {
        for asked in self.asked.values().filter(|asked| segments.contains(asked.segment)) {
            let is_rekey = asked.exchange == ExchangeType::CREATE_CHILD_SA;
            judge.count(match (cause, is_rekey) {
                (Cause::First, _) => continue,
                (Cause::Planned, false) => "moves with an exchange in flight",
                (Cause::Planned, true) => "moves with CREATE_CHILD_SA in flight",
                (_, false) => "takeovers with an exchange in flight",
                (_, true) => "takeovers with CREATE_CHILD_SA in flight",
            });
        }
    }
}

fn request(header: &wire::Header, initiator_asks: bool) -> Request {
    (header.initiator_spi, header.responder_spi, initiator_asks, header.message_id)
}

/// The cluster's SPI begins with it.
fn segment(header: &wire::Header, to_cluster: bool) -> u8 {
    let is_responders = to_cluster == header.flags.initiator;
    let spi = if is_responders { header.responder_spi } else { header.initiator_spi };
    spi.to_be_bytes()[0]
}

/// Not of an error in the clear about an IKE SA that its sender does not know: that answers nothing (RFC 7296 section
/// 2.21.4).
fn header(octets: &[u8]) -> Option<wire::Header> {
    match wire::parse(octets).ok()? {
        wire::Datagram::Plain(header, _) => {
            Some(header).filter(|header| header.exchange == ExchangeType::IKE_SA_INIT)
        }
        wire::Datagram::Fragment(fragment) => Some(fragment.sealed.header),
        other @ wire::Datagram::Encrypted(_) => Some(*other.header()),
    }
}
