//! The Extensible Authentication Protocol (RFC 3748) of users, inside of IKE_AUTH (RFC 7296 section 2.16).
//!
//! [`Server`] asks and [`Peer`] answers; a method is a module that owns its state. A conversation is lock-step: each
//! packet that comes gives one that goes, or the end. IKE carries the packets, bounds their number and the time, and
//! uses the key.

mod mschapv2;
mod packet;
mod peer;
mod relay;
mod server;
#[cfg(test)]
mod tests;
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use packet::{Code, MAX_IDENTITY, MAX_PACKET, Malformed, Packet, Type};
pub use peer::{Peer, Reply};
pub use relay::{Opening, Relay};
pub use server::{Server, Turn};

use crate::auth::Credentials;
use crate::configuration::EapMethod;

/// The master session key of a conversation (RFC 3748 section 7.10), wiped when dropped.
pub struct Msk(Zeroizing<[u8; 64]>);

impl Msk {
    pub(crate) fn new(key: Zeroizing<[u8; 64]>) -> Self {
        Self(key)
    }

    /// Of the two halves that a RADIUS server gives (RFC 2548 section 2.4): 32 octets each or, of EAP-MSCHAPv2, 16, with
    /// zeros behind them. `None` if it is of another length.
    pub(crate) fn of_halves(halves: &[u8]) -> Option<Self> {
        let mut key = Zeroizing::new([0; 64]);
        key.get_mut(..halves.len())?.copy_from_slice(halves);
        [32, 64].contains(&halves.len()).then_some(Self(key))
    }

    /// The key itself.
    pub fn octets(&self) -> &[u8; 64] {
        &self.0
    }
}

impl fmt::Debug for Msk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Msk(redacted)")
    }
}

/// What a conversation works with besides what was said.
pub struct Means<'a> {
    /// Passwords, certificates and keys.
    pub credentials: &'a Arc<Credentials>,
    /// Unpredictable octets.
    pub random: &'a mut dyn FnMut(&mut [u8]),
    /// Time since 1970, by which certificates are judged.
    pub unix: Duration,
}

/// What follows an answer in a method.
#[derive(Debug)]
enum Step {
    /// Ask this.
    Ask(Vec<u8>),
    /// The password was wrong: ask this, but not at once.
    AskLater(Vec<u8>),
    /// Both ends have proved who they are.
    Success(Msk),
    /// The peer has not, or does not accept us.
    Failure(String),
}

/// The number of a method in packets.
fn kind(method: EapMethod) -> Type {
    match method {
        EapMethod::MsChapV2 => Type::MSCHAPV2,
        EapMethod::Tls => Type::TLS,
    }
}
