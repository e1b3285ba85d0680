//! The messages of the Context Transfer Protocol (CXTP, RFC 4067), which carry a planned move from one gateway to
//! another: the network decides (network controlled), ahead of the hand-over (predictive) or after it (reactive).
//!
//! A gateway stands where the RFC has an access router, a peer's outer address where it has the mobile node's previous
//! one. Between gateways the messages run inside of the authenticated channel; the token is checked all the same, as
//! the RFC has it for what a peer sends.
//!
//! No octets make this module panic or allocate more than they are long.

mod block;
mod message;
mod pieces;
mod reader;
mod token;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use block::{Block, FeatureProfile, MAX_BLOCK_OCTETS};
pub use message::{Data, Message, MessageType, Predictive, Request, StatusOf};
pub use pieces::{Assembly, MAX_CONTEXT_OCTETS, PIECE_OCTETS, PiecesError, split};
pub use reader::CxtpError;
pub use token::{Token, TokenKey};

/// How long one transfer may take before it is tried again (RFC 4067 section 2.6, CT_MAX_TRANSFER_TIME).
pub const MAX_TRANSFER_TIME: Duration = Duration::from_millis(200);
/// How long a request is waited for (CT_REQUEST_RATE's inverse, RFC 4067 section 2.6).
pub const RETRY: Duration = Duration::from_secs(2);
/// When a transfer is given up (CT_MAX_HANDOVER_TIME, RFC 4067 section 2.6).
pub const GIVE_UP: Duration = Duration::from_secs(15);
