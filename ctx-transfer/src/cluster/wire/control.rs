//! Messages of the control lane.

use zeroize::Zeroizing;

use super::octets::{MessageError, Reader, Writer};
use crate::cluster::load::{Load, LoadReport};
use crate::cluster::neighbours::LinkAddresses;
use crate::cxtp::Message;

const HELLO: u8 = 48;
const TRANSFER: u8 = 49;
const LOAD: u8 = 50;
const LINKS: u8 = 53;

/// Sections of a configuration that are compared, at most.
const MAX_SECTIONS: usize = 32;
const MAX_TEXT: usize = 64;

/// A message of the control lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlMessage {
    /// The first on a connection.
    Hello {
        /// Of the sender's life.
        incarnation: u64,
        /// Its release.
        release: String,
        /// Of its configuration's sections.
        digests: Vec<(String, u64)>,
    },
    /// Where the sender is on the links that the nodes share.
    Links(LinkAddresses),
    /// What the sender has to do.
    Load(LoadReport),
    /// Of planned moves.
    Transfer(Message),
}

impl ControlMessage {
    /// As octets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Hello { incarnation, release, digests } => hello(*incarnation, release, digests),
            Self::Links(links) => {
                let mut writer = Writer::new(LINKS, 12);
                for address in [links.outer, links.inner] {
                    writer.bytes(&address.unwrap_or_default());
                }
                writer.into_octets()
            }
            Self::Load(LoadReport { load, tunnels }) => {
                let mut writer = Writer::new(LOAD, 18);
                writer.u16(load.cpu_per_mille);
                writer.u64(load.drops_per_second);
                writer.u64(*tunnels);
                writer.into_octets()
            }
            Self::Transfer(message) => transfer(message),
        }
    }

    /// From octets.
    ///
    /// # Errors
    /// [`MessageError`] if they are no such message.
    pub fn decode(octets: &[u8]) -> Result<Self, MessageError> {
        let (kind, mut reader) = Reader::open(octets)?;
        let message = match kind {
            HELLO => read_hello(&mut reader)?,
            LINKS => {
                Self::Links(LinkAddresses { outer: read_mac(&mut reader)?, inner: read_mac(&mut reader)? })
            }
            LOAD => Self::Load(read_load(&mut reader)?),
            TRANSFER => Self::Transfer(Message::read(reader.rest())?),
            other => return Err(MessageError::Kind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
}

/// What is too long for CXTP is nobody's to send: nothing follows then, and nobody takes it for a message.
fn transfer(message: &Message) -> Zeroizing<Vec<u8>> {
    let capacity = if matches!(message, Message::Data(_)) { usize::from(u16::MAX) } else { 2_048 };
    let mut writer = Writer::new(TRANSFER, capacity);
    writer.append(|octets| {
        let written = message.write(octets);
        debug_assert!(written.is_ok(), "{written:?}");
    });
    writer.into_octets()
}

fn hello(incarnation: u64, release: &str, digests: &[(String, u64)]) -> Zeroizing<Vec<u8>> {
    let mut writer = Writer::new(HELLO, 128 + 80 * digests.len());
    writer.u64(incarnation);
    writer.text(release);
    writer.list(digests, |writer, (section, digest)| {
        writer.text(section);
        writer.u64(*digest);
    });
    writer.into_octets()
}

fn read_hello(reader: &mut Reader<'_>) -> Result<ControlMessage, MessageError> {
    let (incarnation, release) = (reader.u64()?, reader.text(MAX_TEXT)?);
    let digests =
        reader.list("sections", MAX_SECTIONS, |reader| Ok((reader.text(MAX_TEXT)?, reader.u64()?)))?;
    Ok(ControlMessage::Hello { incarnation, release, digests })
}

fn read_load(reader: &mut Reader<'_>) -> Result<LoadReport, MessageError> {
    let (cpu_per_mille, drops_per_second, tunnels) = (reader.u16()?, reader.u64()?, reader.u64()?);
    if cpu_per_mille > 1000 {
        return Err(MessageError::Value("the load of processors"));
    }
    Ok(LoadReport { load: Load { cpu_per_mille, drops_per_second }, tunnels })
}

/// Zeros are none; a group's is nobody's own.
fn read_mac(reader: &mut Reader<'_>) -> Result<Option<[u8; 6]>, MessageError> {
    let octets = reader.take(6)?;
    match octets.first_chunk::<6>() {
        Some(mac) if mac[0] & 1 == 0 => Ok(Some(*mac).filter(|mac| *mac != [0; 6])),
        _ => Err(MessageError::Value("a MAC address")),
    }
}
