//! Keys and what is done with them (RFC 7296 sections 2.13 to 2.18 and 3.14, RFC 5282, RFC 7383 section 2.5).
//!
//! Keys are made here and leave only sealed ([`SealedState`]), or as [`ChildKeys`] on their way into the SA
//! table. Whatever holds one is wiped when dropped and says nothing in debug output.

mod additional;
mod algorithm;
mod child;
mod cipher;
mod crash;
mod hash;
mod kem;
mod key_exchange;
mod keys;
mod message;
mod prf;
mod puzzle;
mod state;
#[cfg(test)]
mod tests;
mod ticket;

pub use additional::{
    AdditionalMethods, AdditionalSecrets, AdditionalShare, KeyExchangeMethod, answer as answer_additional,
};
pub use algorithm::{Encryption, Group, IkeSuite, Integrity, Prf};
pub use child::{ChildKeys, KeyMaterial};
pub use crash::{CrashSecret, TokenDigest};
pub use hash::{cookie_mac, nat_detection_hash};
pub use kem::MlKem;
pub use key_exchange::{KeyExchangeError, KeyShare, Shared};
pub use keys::{IkeKeys, Role};
pub use message::{OpenError, SealError};
pub use puzzle::Puzzle;
pub use state::{OpenStateError, SealedState, WrapKey};
pub use ticket::{NoTicket, ResumptionSecret, TicketKey};
