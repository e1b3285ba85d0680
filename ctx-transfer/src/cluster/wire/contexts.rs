//! Messages of the contexts' lane.

use baton_sad::Name;
use zeroize::Zeroizing;

use super::octets::{MessageError, Reader, Writer};
use crate::MAX_PARTS;
use crate::cluster::event::{Content, Key, Octets, Refusal, Reserved, SaKey};
use crate::cluster::segments::Segments;
use crate::envelope::MAX_RECORD_OCTETS;

const PUT: u8 = 16;
const DELETE: u8 = 17;
const COMPLETE: u8 = 18;
const ACKNOWLEDGE: u8 = 19;

/// A message of the contexts' lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContextMessage {
    /// A context in its present state.
    Put {
        /// Rises within a session.
        number: u64,
        /// Of the owner's session with this standby.
        session: u64,
        /// The context.
        content: Content,
    },
    /// A tunnel is gone.
    Delete {
        /// As of a Put.
        number: u64,
        /// Which.
        tunnel: Name,
    },
    /// All tunnels of these segments have been put in this session: others are no more.
    Complete {
        /// Of the owner's session with this standby.
        session: u64,
        /// Which.
        segments: Segments,
    },
    /// The standby has done what it was told, or not.
    Acknowledge {
        /// Of the Put or Delete.
        number: u64,
        /// How.
        result: Result<(), Refusal>,
    },
}

impl ContextMessage {
    /// As octets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Put { number, session, content } => put(*number, *session, content),
            Self::Delete { number, tunnel } => {
                let mut writer = Writer::new(DELETE, 64);
                writer.u64(*number);
                writer.name(tunnel);
                writer.into_octets()
            }
            Self::Complete { session, segments } => {
                let mut writer = Writer::new(COMPLETE, 40);
                writer.u64(*session);
                writer.segments(*segments);
                writer.into_octets()
            }
            Self::Acknowledge { number, result } => {
                let mut writer = Writer::new(ACKNOWLEDGE, 16);
                writer.u64(*number);
                writer.u8(result_code(*result));
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
        let message = match kind {
            PUT => read_put(&mut reader)?,
            DELETE => Self::Delete { number: reader.u64()?, tunnel: reader.name()? },
            COMPLETE => Self::Complete { session: reader.u64()?, segments: reader.segments()? },
            ACKNOWLEDGE => Self::Acknowledge { number: reader.u64()?, result: read_result(&mut reader)? },
            other => return Err(MessageError::Kind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

fn put(number: u64, session: u64, content: &Content) -> Zeroizing<Vec<u8>> {
    let mut writer = Writer::new(PUT, 80 + 17 * content.reserved.len() + content.octets.0.len());
    writer.u64(number);
    writer.u64(session);
    writer.name(&content.tunnel);
    writer.u8(content.segment);
    writer.u64(content.version);
    writer.list(&content.reserved, write_reserved);
    writer.long(&content.octets.0);
    writer.into_octets()
}

fn read_put(reader: &mut Reader<'_>) -> Result<ContextMessage, MessageError> {
    let (number, session) = (reader.u64()?, reader.u64()?);
    let content = Content {
        tunnel: reader.name()?,
        segment: reader.u8()?,
        version: reader.u64()?,
        reserved: reader.list("reservations of a context", MAX_PARTS, read_reserved)?,
        octets: Octets(Zeroizing::new(reader.long("a context", MAX_RECORD_OCTETS)?.to_vec())),
    };
    Ok(ContextMessage::Put { number, session, content })
}

pub(super) fn write_key(writer: &mut Writer, key: SaKey) {
    writer.u8(u8::from(key.direction == Key::Outbound));
    writer.u64(key.number);
}

pub(super) fn read_key(reader: &mut Reader<'_>) -> Result<SaKey, MessageError> {
    let direction = match reader.u8()? {
        0 => Key::Inbound,
        1 => Key::Outbound,
        _ => return Err(MessageError::Value("a direction")),
    };
    Ok(SaKey { direction, number: reader.u64()? })
}

pub(super) fn write_reserved(writer: &mut Writer, reserved: &Reserved) {
    write_key(writer, reserved.key);
    writer.u64(reserved.number);
}

pub(super) fn read_reserved(reader: &mut Reader<'_>) -> Result<Reserved, MessageError> {
    Ok(Reserved { key: read_key(reader)?, number: reader.u64()? })
}

pub(super) fn result_code(result: Result<(), Refusal>) -> u8 {
    match result {
        Ok(()) => 0,
        Err(Refusal::Full) => 1,
        Err(Refusal::Malformed) => 2,
        Err(Refusal::Policy) => 3,
        Err(Refusal::Unavailable) => 4,
    }
}

pub(super) fn read_result(reader: &mut Reader<'_>) -> Result<Result<(), Refusal>, MessageError> {
    Ok(match reader.u8()? {
        0 => Ok(()),
        1 => Err(Refusal::Full),
        2 => Err(Refusal::Malformed),
        3 => Err(Refusal::Policy),
        4 => Err(Refusal::Unavailable),
        _ => return Err(MessageError::Value("a result")),
    })
}
