//! What two ends tell each other when one of them has failed over: the data of IKEV2_MESSAGE_ID_SYNC and
//! IPSEC_REPLAY_COUNTER_SYNC (RFC 6311 section 6).

use super::ParseError;
use super::reader::Reader;

/// The data of IKEV2_MESSAGE_ID_SYNC (RFC 6311 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageIdSync {
    /// Binds an answer to its request.
    pub nonce: [u8; 4],
    /// The Message ID of the sender's next request.
    pub expected_send: u32,
    /// The Message ID of the next request that the sender expects.
    pub expected_receive: u32,
}

impl MessageIdSync {
    /// Reads the data of a notify.
    ///
    /// # Errors
    /// [`ParseError`] if it is not of twelve octets.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("IKEV2_MESSAGE_ID_SYNC", data);
        let (nonce, expected_send, expected_receive) = (reader.array()?, reader.u32()?, reader.u32()?);
        reader.end()?;
        Ok(Self { nonce, expected_send, expected_receive })
    }

    /// As the data of a notify.
    pub fn emit(&self) -> Vec<u8> {
        let numbers = [self.expected_send, self.expected_receive];
        let numbers = numbers.into_iter().flat_map(u32::to_be_bytes);
        self.nonce.into_iter().chain(numbers).collect()
    }
}

/// The data of IPSEC_REPLAY_COUNTER_SYNC (RFC 6311 section 6.4): how much the receiver is to add to the sequence numbers
/// of its outbound Child SAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplayCounterSync {
    /// For Child SAs with sequence numbers of 32 bits.
    Short(u32),
    /// For Child SAs with extended sequence numbers.
    Extended(u64),
}

impl ReplayCounterSync {
    /// Reads the data of a notify.
    ///
    /// # Errors
    /// [`ParseError`] if it is not of four or eight octets.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        match (<[u8; 4]>::try_from(data), <[u8; 8]>::try_from(data)) {
            (Ok(short), _) => Ok(Self::Short(u32::from_be_bytes(short))),
            (_, Ok(extended)) => Ok(Self::Extended(u64::from_be_bytes(extended))),
            _ => Err(ParseError::Syntax("IPSEC_REPLAY_COUNTER_SYNC")),
        }
    }

    /// How many.
    pub fn numbers(&self) -> u64 {
        match self {
            Self::Short(numbers) => u64::from(*numbers),
            Self::Extended(numbers) => *numbers,
        }
    }

    /// As the data of a notify.
    pub fn emit(&self) -> Vec<u8> {
        match self {
            Self::Short(delta) => delta.to_be_bytes().to_vec(),
            Self::Extended(delta) => delta.to_be_bytes().to_vec(),
        }
    }
}
