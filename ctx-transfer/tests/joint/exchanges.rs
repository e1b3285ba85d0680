//! Requests of IKE whose answers have not arrived: what is under way when a segment changes its owner.

use std::collections::HashMap;

use baton_ctx_transfer::cluster::{Cause, Segments};
use baton_ike_proto::wire::{self, ExchangeType};

use crate::invariants::Invariants;
use crate::network::Datagram;
use crate::setting::seen;

/// SPIs, whether the IKE SA's initiator asks, and the Message ID.
type Request = (u64, u64, bool, u32);

/// All of them.
#[derive(Default)]
pub struct Exchanges(HashMap<Request, (u8, ExchangeType)>);

impl Exchanges {
    pub fn leaves(&mut self, datagram: &Datagram) {
        let Some(header) = header(datagram) else { return };
        if !header.flags.response {
            let request =
                (header.initiator_spi, header.responder_spi, header.flags.initiator, header.message_id);
            // The cluster's SPI begins with the segment.
            let to_cluster = datagram.to.ip() == seen(0);
            let spi = if to_cluster == header.flags.initiator {
                header.responder_spi
            } else {
                header.initiator_spi
            };
            self.0.insert(request, (spi.to_be_bytes()[0], header.exchange));
        }
    }

    pub fn arrives(&mut self, datagram: &Datagram) {
        let Some(header) = header(datagram).filter(|header| header.flags.response) else { return };
        let initiator_asks = !header.flags.initiator;
        self.0.remove(&(header.initiator_spi, header.responder_spi, initiator_asks, header.message_id));
    }

    /// Counts what is under way in segments that come to another node.
    pub fn count(&self, segments: Segments, cause: Cause, judge: &mut Invariants) {
        let of_them = self.0.values().filter(|(segment, _)| segments.contains(*segment));
        for (_, exchange) in of_them {
            let is_rekey = *exchange == ExchangeType::CREATE_CHILD_SA;
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

fn header(datagram: &Datagram) -> Option<wire::Header> {
    let parsed = wire::parse(&datagram.octets).ok()?;
    Some(match parsed {
        wire::Datagram::Fragment(fragment) => fragment.sealed.header,
        other => *other.header(),
    })
}
