//! The messages (RFC 4067 section 2.5).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! |Vers.|  Type   |V|F|  Reserved |             Length            |
//! ```
//!
//! V is set for IPv4; F is A (acknowledge) in CTAR, CTD and PCTD and S (success) in CTDR. Length is in octets, header
//! and all.

use std::net::IpAddr;

use super::block::{Block, FeatureProfile};
use super::reader::{CxtpError, Reader, write_address};
use super::token::{Token, TokenKey};

const VERSION: u8 = 1;
const HEADER: usize = 4;
const IPV4: u8 = 0x80;
const FLAG: u8 = 0x40;
/// The one algorithm of tokens that is defined (RFC 4067 section 2.5.3).
const HMAC_SHA1: u16 = 1;

/// The types of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MessageType {
    /// Context Transfer Activate Request (CTAR).
    ActivateRequest = 1,
    /// Context Transfer Activate Acknowledge (CTAA).
    ActivateAcknowledge = 2,
    /// Context Transfer Data (CTD).
    Data = 3,
    /// Predictive Context Transfer Data (PCTD).
    PredictiveData = 4,
    /// Context Transfer Data Reply (CTDR).
    DataReply = 5,
    /// Context Transfer Cancel (CTC).
    Cancel = 6,
    /// Context Transfer Request (CT-Req).
    Request = 7,
}

impl MessageType {
    const ALL: [Self; 7] = [
        Self::ActivateRequest,
        Self::ActivateAcknowledge,
        Self::Data,
        Self::PredictiveData,
        Self::DataReply,
        Self::Cancel,
        Self::Request,
    ];

    fn read(octet: u8) -> Result<Self, CxtpError> {
        let (version, number) = (octet >> 5, octet & 0x1f);
        if version != VERSION {
            return Err(CxtpError::Version(version));
        }
        Self::ALL.into_iter().find(|kind| *kind as u8 == number).ok_or(CxtpError::Type(number))
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// CTAR: who comes here asks that its contexts are fetched and put into use.
    ActivateRequest {
        /// Who asks for what, and may.
        request: Request,
        /// Where it was before, of the same family as the peer's address.
        previous_gateway: IpAddr,
        /// Whether an acknowledgement is asked for.
        acknowledge: bool,
    },
    /// CTAA: what became of it.
    ActivateAcknowledge {
        /// The peer's previous address.
        peer: IpAddr,
        /// What became of each context.
        results: Vec<StatusOf>,
    },
    /// CTD and PCTD: contexts.
    Data(Data),
    /// CTDR: what became of them.
    DataReply {
        /// The peer's previous address.
        peer: IpAddr,
        /// Whether all of them arrived and are in use.
        success: bool,
        /// What became of each.
        results: Vec<StatusOf>,
    },
    /// CTC: the transfer is given up.
    Cancel {
        /// The peer's previous address.
        peer: IpAddr,
    },
    /// CT-Req: the new gateway asks the previous one for contexts.
    Request(Request),
}

/// Who asks for contexts, and its right to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The peer's previous address.
    pub peer: IpAddr,
    /// A number that only rises, against replay.
    pub sequence: u32,
    /// The peer's right ([`TokenKey::token`]).
    pub token: Token,
    /// What is asked for; nothing stands for everything.
    pub profiles: Vec<FeatureProfile>,
}

/// What became of one context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusOf {
    /// The context.
    pub profile: FeatureProfile,
    /// 0 for failure, 1 for success.
    pub success: bool,
}

/// Contexts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// The peer's previous address.
    pub peer: IpAddr,
    /// Whether a reply is asked for.
    pub acknowledge: bool,
    /// Milliseconds since the transfer began.
    pub elapsed_ms: u32,
    /// In a message ahead of the hand-over, the key of the token that the peer will show.
    pub predictive: Option<Predictive>,
    /// The contexts.
    pub blocks: Vec<Block>,
}

/// What makes a transfer predictive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predictive {
    /// The key of the token that the peer will show.
    pub key: TokenKey,
}

impl Message {
    /// Which one it is.
    pub const fn kind(&self) -> MessageType {
        match self {
            Self::ActivateRequest { .. } => MessageType::ActivateRequest,
            Self::ActivateAcknowledge { .. } => MessageType::ActivateAcknowledge,
            Self::Data(Data { predictive: None, .. }) => MessageType::Data,
            Self::Data(Data { predictive: Some(_), .. }) => MessageType::PredictiveData,
            Self::DataReply { .. } => MessageType::DataReply,
            Self::Cancel { .. } => MessageType::Cancel,
            Self::Request(_) => MessageType::Request,
        }
    }

    /// The peer that it is about.
    pub const fn peer(&self) -> IpAddr {
        match self {
            Self::ActivateRequest { request, .. } | Self::Request(request) => request.peer,
            Self::ActivateAcknowledge { peer, .. } | Self::DataReply { peer, .. } | Self::Cancel { peer } => {
                *peer
            }
            Self::Data(data) => data.peer,
        }
    }

    /// Appends the message to `out`. Octets that may be keys are written once, if `out` has room for them.
    ///
    /// # Errors
    /// [`CxtpError::TooLong`] if it does not fit a message; `out` is then as before.
    pub fn write(&self, out: &mut Vec<u8>) -> Result<(), CxtpError> {
        let length = HEADER + self.octets();
        let said = u16::try_from(length).map_err(|_| CxtpError::TooLong(length))?;
        let family = if self.peer().is_ipv4() { IPV4 } else { 0 };
        let flag = if self.flag() { FLAG } else { 0 };
        out.extend_from_slice(&[VERSION << 5 | self.kind() as u8, family | flag]);
        out.extend_from_slice(&said.to_be_bytes());
        self.write_body(out);
        Ok(())
    }

    /// Reads one message, which takes up all octets.
    ///
    /// # Errors
    /// [`CxtpError`].
    pub fn read(octets: &[u8]) -> Result<Self, CxtpError> {
        let mut reader = Reader::new(octets);
        let [first, flags] = reader.array()?;
        let kind = MessageType::read(first)?;
        let said = usize::from(reader.u16()?);
        if said != octets.len() {
            return Err(CxtpError::Length { said, found: octets.len() });
        }
        Self::read_body(kind, flags & IPV4 != 0, flags & FLAG != 0, &mut reader)
    }

    const fn flag(&self) -> bool {
        match self {
            Self::ActivateRequest { acknowledge, .. } | Self::Data(Data { acknowledge, .. }) => *acknowledge,
            Self::DataReply { success, .. } => *success,
            _ => false,
        }
    }

    /// Octets after the header.
    fn octets(&self) -> usize {
        let address = if self.peer().is_ipv4() { 4 } else { 16 };
        match self {
            Self::ActivateRequest { request, .. } => 2 * address + 8 + 2 * request.profiles.len(),
            Self::Request(request) => address + 8 + 2 * request.profiles.len(),
            Self::ActivateAcknowledge { results, .. } | Self::DataReply { results, .. } => {
                address + 4 * results.len()
            }
            Self::Cancel { .. } => address,
            Self::Data(data) => address + data.octets(),
        }
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::ActivateRequest { request, previous_gateway, .. } => {
                write_address(out, request.peer);
                write_address(out, *previous_gateway);
                request.write_rest(out);
            }
            Self::Request(request) => {
                write_address(out, request.peer);
                request.write_rest(out);
            }
            Self::ActivateAcknowledge { peer, results } | Self::DataReply { peer, results, .. } => {
                write_address(out, *peer);
                for result in results {
                    result.write(out);
                }
            }
            Self::Cancel { peer } => write_address(out, *peer),
            Self::Data(data) => data.write(out),
        }
    }

    fn read_body(
        kind: MessageType,
        is_ipv4: bool,
        flag: bool,
        reader: &mut Reader<'_>,
    ) -> Result<Self, CxtpError> {
        if matches!(kind, MessageType::Data | MessageType::PredictiveData) {
            return Data::read(kind, is_ipv4, flag, reader).map(Self::Data);
        }
        let peer = reader.address(is_ipv4)?;
        let message = match kind {
            MessageType::ActivateRequest => {
                let previous_gateway = reader.address(is_ipv4)?;
                let request = Request::read_rest(peer, reader)?;
                Self::ActivateRequest { request, previous_gateway, acknowledge: flag }
            }
            MessageType::ActivateAcknowledge => {
                Self::ActivateAcknowledge { peer, results: StatusOf::read_all(reader)? }
            }
            MessageType::DataReply => {
                Self::DataReply { peer, success: flag, results: StatusOf::read_all(reader)? }
            }
            MessageType::Request => Self::Request(Request::read_rest(peer, reader)?),
            _ => Self::Cancel { peer },
        };
        if reader.is_empty() { Ok(message) } else { Err(CxtpError::Trailing) }
    }
}

impl Request {
    fn write_rest(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.sequence.to_be_bytes());
        out.extend_from_slice(&self.token.0);
        for profile in &self.profiles {
            out.extend_from_slice(&profile.0.to_be_bytes());
        }
    }

    fn read_rest(peer: IpAddr, reader: &mut Reader<'_>) -> Result<Self, CxtpError> {
        let (sequence, token) = (reader.u32()?, Token(reader.array()?));
        let mut profiles = Vec::new();
        while !reader.is_empty() {
            profiles.push(FeatureProfile(reader.u16()?));
        }
        Ok(Self { peer, sequence, token, profiles })
    }
}

impl StatusOf {
    fn write(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.profile.0.to_be_bytes());
        out.extend_from_slice(&[u8::from(self.success), 0]);
    }

    fn read_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, CxtpError> {
        let mut results = Vec::new();
        while !reader.is_empty() {
            let profile = FeatureProfile(reader.u16()?);
            let [status, _reserved] = reader.array()?;
            results.push(Self { profile, success: status == 1 });
        }
        Ok(results)
    }
}

impl Data {
    /// Octets after the peer's address.
    fn octets(&self) -> usize {
        let key = self.predictive.as_ref().map_or(0, |predictive| 4 + predictive.key.octets().len());
        4 + key + self.blocks.iter().map(Block::octets).sum::<usize>()
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.elapsed_ms.to_be_bytes());
        write_address(out, self.peer);
        if let Some(Predictive { key }) = &self.predictive {
            out.extend_from_slice(&HMAC_SHA1.to_be_bytes());
            out.extend_from_slice(&(key.octets().len() as u16).to_be_bytes());
            out.extend_from_slice(key.octets());
        }
        for block in &self.blocks {
            block.write(out);
        }
    }

    fn read(
        kind: MessageType,
        is_ipv4: bool,
        acknowledge: bool,
        reader: &mut Reader<'_>,
    ) -> Result<Self, CxtpError> {
        let (elapsed_ms, peer) = (reader.u32()?, reader.address(is_ipv4)?);
        let is_predictive = kind == MessageType::PredictiveData;
        let predictive = if is_predictive { Some(Predictive::read(reader)?) } else { None };
        let mut blocks = Vec::new();
        while !reader.is_empty() {
            blocks.push(Block::read(reader)?);
        }
        Ok(Self { peer, acknowledge, elapsed_ms, predictive, blocks })
    }
}

impl Predictive {
    fn read(reader: &mut Reader<'_>) -> Result<Self, CxtpError> {
        match reader.u16()? {
            HMAC_SHA1 => {}
            other => return Err(CxtpError::Algorithm(other)),
        }
        let length = usize::from(reader.u16()?);
        Ok(Self { key: TokenKey::new(reader.take(length)?)? })
    }
}
