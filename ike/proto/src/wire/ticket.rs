//! Tickets of session resumption: the data of TICKET_LT_OPAQUE (RFC 5723 section 7.1). That of TICKET_OPAQUE is the ticket
//! alone (section 7.2).

use super::ParseError;
use super::reader::Reader;

/// The longest ticket that is kept: of a peer with certificates inside of it, and still one UDP datagram.
pub const MAX_TICKET: usize = 16_384;

/// A ticket and how long it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TicketWithLifetime {
    /// Seconds, from when it was sent.
    pub lifetime: u32,
    /// Legible to its issuer alone.
    pub ticket: Vec<u8>,
}

impl TicketWithLifetime {
    /// Reads the data of a notify.
    ///
    /// # Errors
    /// [`ParseError`] if it ends too early.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("TICKET_LT_OPAQUE", data);
        let lifetime = reader.u32()?;
        Ok(Self { lifetime, ticket: reader.rest().to_vec() })
    }

    /// As the data of a notify.
    pub fn emit(&self) -> Vec<u8> {
        [&self.lifetime.to_be_bytes()[..], &self.ticket].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Notify, NotifyType, Payload, PayloadType, emit_chain, parse_chain};

    /// RFC 5723 figure 4: payload header, protocol 0, SPI size 0, type, lifetime, ticket.
    #[test]
    fn a_ticket_stands_behind_its_lifetime() {
        let ticket = TicketWithLifetime { lifetime: 3600, ticket: vec![0xaa, 0xbb] };
        let notify = Notify::new(NotifyType::TICKET_LT_OPAQUE, ticket.emit());
        let (first, octets) = emit_chain(&[Payload::Notify(notify.clone())]);
        assert_eq!(
            (first, hex::encode(&octets)),
            (PayloadType::N, "0000000e0000401900000e10aabb".to_owned())
        );
        assert_eq!(parse_chain(first, &octets).unwrap(), [Payload::Notify(notify)]);
        assert_eq!(TicketWithLifetime::parse(&ticket.emit()).unwrap(), ticket);
        assert!(TicketWithLifetime::parse(&[0, 0, 1]).is_err());
    }

    #[test]
    fn numbers_are_ianas() {
        use crate::wire::ExchangeType;
        let numbers = [
            NotifyType::TICKET_LT_OPAQUE,
            NotifyType::TICKET_REQUEST,
            NotifyType::TICKET_ACK,
            NotifyType::TICKET_NACK,
            NotifyType::TICKET_OPAQUE,
        ];
        assert_eq!(numbers.map(|kind| kind.0), [16409, 16410, 16411, 16412, 16413]);
        assert_eq!(ExchangeType::IKE_SESSION_RESUME.0, 38);
    }
}
