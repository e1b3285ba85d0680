//! Octets of IKEv2 (RFC 7296 section 3, RFC 7383 section 2.5): what a peer may write, and what we write. No keys here.
//!
//! Small things are representations with owned fields, because an exchange outlives its datagram; what is encrypted
//! stays a view of the datagram ([`Encrypted`], [`Fragment`]) until [`crate::crypto`] has opened it.
//! Reserved fields are sent as zero and ignored on receipt, as RFC 7296 asks, with one exception: an
//! [`Identification`] keeps them, because AUTH covers them.

mod authentication;
mod chain;
mod configuration;
mod datagram;
mod delete;
mod error;
mod header;
mod identification;
mod notify;
mod numbers;
mod octets;
mod payload;
mod puzzle;
mod reader;
mod redirect;
mod security_association;
mod synchronization;
#[cfg(test)]
mod tests;
mod ticket;
mod traffic_selector;

pub use authentication::{AuthenticationMethod, CertificateEncoding};
pub use chain::{emit_chain, parse_chain};
pub use configuration::{Attribute, AttributeType, Configuration, ConfigurationType};
pub use datagram::{
    Datagram, Encrypted, Fragment, emit, emit_encrypted_head, emit_fragment_head, parse, put_before,
};
pub use delete::Delete;
pub use error::ParseError;
pub use header::{Flags, Header};
pub use identification::{Identification, IdentificationType};
pub use notify::{Notify, NotifyType};
pub(crate) use numbers::registry;
pub use numbers::{ExchangeType, PayloadType, ProtocolId, TransformType};
pub use payload::Payload;
pub use puzzle::PuzzleRequest;
pub use redirect::{GatewayIdentity, NoGateway, Redirect, RedirectedFrom};
pub use security_association::{Proposal, Transform};
pub use synchronization::{MessageIdSync, ReplayCounterSync};
pub use ticket::{MAX_TICKET, TicketWithLifetime};
pub use traffic_selector::TrafficSelector;

/// Octets of the header of a message (RFC 7296 section 3.1).
pub const HEADER_LENGTH: usize = 28;
/// Octets of the header that every payload has (RFC 7296 section 3.2).
pub const PAYLOAD_HEADER_LENGTH: usize = 4;
/// Octets of an Encrypted Fragment payload before its IV, without the generic header (RFC 7383 section 2.5).
pub const FRAGMENT_HEADER_LENGTH: usize = 4;
/// Payloads that a message may have. RFC 7296 knows no bound; no exchange comes near.
pub const MAX_PAYLOADS: usize = 64;
/// Proposals that an SA payload may have.
pub const MAX_PROPOSALS: usize = 64;
/// Octets of a nonce (RFC 7296 section 3.9).
pub const NONCE_LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;
/// Octets of a message: as many as a UDP datagram may have.
pub const MAX_MESSAGE: usize = 65_535;
