//! Messages of the counters' lane.

use zeroize::Zeroizing;

use super::contexts::{read_key, read_reserved, write_key, write_reserved};
use super::octets::{MessageError, Reader, Writer};
use crate::cluster::event::{Reserved, SaKey};

const RESERVE: u8 = 32;
const ACKNOWLEDGE: u8 = 33;

/// Reservations of one datagram at most.
pub const MAX_RESERVED: usize = 64;

/// A message of the counters' lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CounterMessage {
    /// The owner may use numbers up to these.
    Reserve {
        /// Rises within an incarnation.
        number: u64,
        /// Of the owner's session with this standby.
        session: u64,
        /// At most [`MAX_RESERVED`].
        items: Vec<Reserved>,
    },
    /// The standby starts above them.
    Acknowledge {
        /// Of the Reserve.
        number: u64,
        /// Except for these SAs, which it does not have.
        missing: Vec<SaKey>,
    },
}

impl CounterMessage {
    /// As octets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Reserve { number, session, items } => {
                let mut writer = Writer::new(RESERVE, 20 + 17 * items.len());
                writer.u64(*number);
                writer.u64(*session);
                writer.list(items, write_reserved);
                writer.into_octets()
            }
            Self::Acknowledge { number, missing } => {
                let mut writer = Writer::new(ACKNOWLEDGE, 12 + 9 * missing.len());
                writer.u64(*number);
                writer.list(missing, |writer, key| write_key(writer, *key));
                writer.into_octets()
            }
        }
    }

    /// From octets.
    ///
    /// # Errors
    /// [`MessageError`] if they are no such message.
    pub fn decode(octets: &[u8]) -> Result<Self, MessageError> {
        let (kind, mut reader) = Reader::open(octets)?;
        let number = reader.u64()?;
        let message = match kind {
            RESERVE => {
                let session = reader.u64()?;
                let items = reader.list("reservations", MAX_RESERVED, read_reserved)?;
                Self::Reserve { number, session, items }
            }
            ACKNOWLEDGE => {
                Self::Acknowledge { number, missing: reader.list("missing SAs", MAX_RESERVED, read_key)? }
            }
            other => return Err(MessageError::Kind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}
