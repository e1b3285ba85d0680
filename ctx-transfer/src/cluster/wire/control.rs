//! Messages of the control lane.

use zeroize::Zeroizing;

use super::contexts::{read_result, result_code};
use super::octets::{MessageError, Reader, Writer};
use crate::cluster::event::{Octets, Refusal};
use crate::cluster::neighbours::LinkAddresses;
use crate::cluster::segments::Segments;
use crate::envelope::MAX_RECORD_OCTETS;

const HELLO: u8 = 48;
const TAKE: u8 = 49;
const FINAL: u8 = 50;
const STAGED: u8 = 51;
const ABANDON: u8 = 52;
const LINKS: u8 = 53;

const LAST: u8 = 1;
const PINNED: u8 = 2;

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
    /// The sender wants segments that the receiver owns.
    Take {
        /// Which.
        segments: Segments,
    },
    /// A final context of a planned move.
    Final {
        /// The move.
        number: u64,
        /// All that it moves.
        segments: Segments,
        /// Whether no other part follows.
        last: bool,
        /// Whether an operator wants the segments there, so that they are not balanced away.
        pinned: bool,
        /// The context; empty if there is none.
        octets: Octets,
    },
    /// The receiver could install all of it.
    Staged {
        /// The move.
        number: u64,
        /// Or why not.
        result: Result<(), Refusal>,
    },
    /// The move is given up.
    Abandon {
        /// The move.
        number: u64,
    },
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
            Self::Take { segments } => {
                let mut writer = Writer::new(TAKE, Segments::OCTETS);
                writer.segments(*segments);
                writer.into_octets()
            }
            Self::Final { number, segments, last, pinned, octets } => {
                let mut writer = Writer::new(FINAL, 48 + octets.0.len());
                writer.u64(*number);
                writer.segments(*segments);
                writer.u8((u8::from(*last) * LAST) | (u8::from(*pinned) * PINNED));
                writer.long(&octets.0);
                writer.into_octets()
            }
            Self::Staged { number, result } => {
                let mut writer = Writer::new(STAGED, 9);
                writer.u64(*number);
                writer.u8(result_code(*result));
                writer.into_octets()
            }
            Self::Abandon { number } => {
                let mut writer = Writer::new(ABANDON, 8);
                writer.u64(*number);
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
            HELLO => read_hello(&mut reader)?,
            LINKS => {
                Self::Links(LinkAddresses { outer: read_mac(&mut reader)?, inner: read_mac(&mut reader)? })
            }
            TAKE => Self::Take { segments: reader.segments()? },
            FINAL => read_final(&mut reader)?,
            STAGED => Self::Staged { number: reader.u64()?, result: read_result(&mut reader)? },
            ABANDON => Self::Abandon { number: reader.u64()? },
            other => return Err(MessageError::Kind(other)),
        };
        reader.finish()?;
        Ok(message)
    }
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

/// Zeros are none; a group's is nobody's own.
fn read_mac(reader: &mut Reader<'_>) -> Result<Option<[u8; 6]>, MessageError> {
    let octets = reader.take(6)?;
    match octets.first_chunk::<6>() {
        Some(mac) if mac[0] & 1 == 0 => Ok(Some(*mac).filter(|mac| *mac != [0; 6])),
        _ => Err(MessageError::Value("a MAC address")),
    }
}

fn read_final(reader: &mut Reader<'_>) -> Result<ControlMessage, MessageError> {
    let (number, segments, flags) = (reader.u64()?, reader.segments()?, reader.u8()?);
    if flags & !(LAST | PINNED) != 0 {
        return Err(MessageError::Value("the flags of a move"));
    }
    let octets = Octets(Zeroizing::new(reader.long("a final context", MAX_RECORD_OCTETS)?.to_vec()));
    let (last, pinned) = (flags & LAST != 0, flags & PINNED != 0);
    Ok(ControlMessage::Final { number, segments, last, pinned, octets })
}
