//! Messages on streams: each stream begins with an octet that says what it is for; each message with its length in four
//! octets, in network order.

use bytes::Bytes;
use quinn::{ReadExactError, RecvStream, SendStream, WriteError};
use thiserror::Error;

use crate::cluster::Lane;

/// The first octet of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The first stream of either side, which says that this connection is the one to use.
    Begin,
    /// Messages of a lane.
    Lane(Lane),
}

impl Purpose {
    const fn octet(self) -> u8 {
        match self {
            Self::Begin => 0,
            Self::Lane(Lane::Contexts) => 1,
            Self::Lane(Lane::Control) => 2,
            // Never on a stream.
            Self::Lane(Lane::Heartbeat | Lane::Counters) => u8::MAX,
        }
    }

    fn of(octet: u8) -> Option<Self> {
        let all = [Self::Begin, Self::Lane(Lane::Contexts), Self::Lane(Lane::Control)];
        all.into_iter().find(|purpose| purpose.octet() == octet)
    }
}

/// Why a stream is not read on.
#[derive(Debug, Error)]
pub(super) enum StreamError {
    /// The connection has ended, or the stream was cut off, which happens to connections that end.
    #[error("the stream has ended")]
    Ended,
    /// Nobody knows what it is for.
    #[error("a stream begins with {0}, which means nothing")]
    Purpose(u8),
    /// Longer than any message is.
    #[error("a message of {0} octets was announced")]
    Length(usize),
}

impl From<ReadExactError> for StreamError {
    fn from(_: ReadExactError) -> Self {
        Self::Ended
    }
}

/// What a stream is for.
pub(super) async fn read_purpose(stream: &mut RecvStream) -> Result<Purpose, StreamError> {
    let mut octet = [0];
    stream.read_exact(&mut octet).await?;
    Purpose::of(octet[0]).ok_or(StreamError::Purpose(octet[0]))
}

/// Says what a stream is for.
pub(super) async fn write_purpose(stream: &mut SendStream, purpose: Purpose) -> Result<(), WriteError> {
    stream.write_all(&[purpose.octet()]).await
}

/// The next message.
pub(super) async fn read_message(stream: &mut RecvStream, lane: Lane) -> Result<Vec<u8>, StreamError> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length) as usize;
    if length > lane.most_octets() {
        return Err(StreamError::Length(length));
    }
    let mut octets = vec![0; length];
    stream.read_exact(&mut octets).await?;
    Ok(octets)
}

/// Writes one; its length was checked when it was queued.
pub(super) async fn write_message(stream: &mut SendStream, octets: Vec<u8>) -> Result<(), WriteError> {
    let length = u32::try_from(octets.len()).unwrap_or(u32::MAX).to_be_bytes();
    stream.write_all_chunks(&mut [Bytes::copy_from_slice(&length), Bytes::from(octets)]).await
}
