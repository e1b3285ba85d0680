//! A window as part of a context: what was sent and answered, byte for byte; no times, which mean nothing elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use minicbor::bytes::ByteSlice;
use minicbor::decode::Error as DecodeError;
use minicbor::encode::{Error as EncodeError, Write};
use minicbor::{Decode, Decoder, Encode, Encoder};

use super::requests::Outstanding;
use super::{MAX_WINDOW, Requests, Responses, Window};

/// Octets of a UDP datagram, and datagrams of one message, at most.
const MAX_DATAGRAM: usize = 65_535;
const MAX_DATAGRAMS: usize = 1024;

#[derive(Encode, Decode)]
#[cbor(map)]
struct Stored<'a> {
    #[n(0)]
    next: u32,
    #[n(1)]
    limit: u32,
    #[cbor(b(2))]
    outstanding: Vec<Message<'a>>,
    #[n(3)]
    expected: u32,
    #[n(4)]
    our_limit: u32,
    #[cbor(b(5))]
    answered: Vec<Message<'a>>,
}

#[derive(Encode, Decode)]
#[cbor(map)]
struct Message<'a> {
    #[n(0)]
    message_id: u32,
    #[cbor(b(1))]
    datagrams: Vec<&'a ByteSlice>,
}

impl<'a> Message<'a> {
    fn new(message_id: u32, datagrams: &'a [Vec<u8>]) -> Self {
        Self { message_id, datagrams: datagrams.iter().map(|octets| octets.as_slice().into()).collect() }
    }

    fn owned(&self) -> Result<Vec<Vec<u8>>, &'static str> {
        if self.datagrams.len() > MAX_DATAGRAMS
            || self.datagrams.iter().any(|octets| octets.len() > MAX_DATAGRAM)
        {
            return Err("a message is longer than any can be");
        }
        Ok(self.datagrams.iter().map(|octets| octets.to_vec()).collect())
    }
}

impl<C> Encode<C> for Window {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, context: &mut C) -> Result<(), EncodeError<W::Error>> {
        self.stored().encode(e, context)
    }
}

impl<'b, C> Decode<'b, C> for Window {
    fn decode(d: &mut Decoder<'b>, context: &mut C) -> Result<Self, DecodeError> {
        let position = d.position();
        let stored = Stored::decode(d, context)?;
        Self::restored(&stored).map_err(|why| DecodeError::message(why).at(position))
    }
}

impl Window {
    /// Without what is being worked on: after a restart it was never received.
    fn stored(&self) -> Stored<'_> {
        let (requests, responses) = (&self.requests, &self.responses);
        let outstanding =
            requests.outstanding.iter().map(|r| Message::new(r.message_id, &r.datagrams)).collect();
        let begun = responses.kept.iter().find(|(_, answer)| answer.is_none()).map(|(id, _)| *id);
        Stored {
            next: requests.next_id(),
            limit: requests.limit(),
            outstanding,
            expected: begun.map_or(responses.expected(), |id| id.min(responses.expected())),
            our_limit: responses.limit(),
            answered: responses.kept.iter().filter_map(answer_message).collect(),
        }
    }

    fn restored(stored: &Stored<'_>) -> Result<Self, &'static str> {
        if !(1..=MAX_WINDOW).contains(&stored.limit) || !(1..=MAX_WINDOW).contains(&stored.our_limit) {
            return Err("a window is of a size that none has");
        }
        Ok(Self { requests: requests(stored)?, responses: responses(stored)? })
    }
}

fn answer_message<'a>((message_id, answer): (&u32, &'a Option<Vec<Vec<u8>>>)) -> Option<Message<'a>> {
    answer.as_ref().map(|datagrams| Message::new(*message_id, datagrams))
}

fn requests(stored: &Stored<'_>) -> Result<Requests, &'static str> {
    let mut outstanding = VecDeque::new();
    let mut lowest = 0;
    for message in &stored.outstanding {
        if message.message_id < lowest || message.message_id >= stored.next {
            return Err("outstanding requests are out of order");
        }
        lowest = message.message_id + 1;
        let (message_id, datagrams) = (message.message_id, message.owned()?);
        outstanding.push_back(Outstanding { message_id, datagrams, repetitions: 0, due: Duration::ZERO });
    }
    let span = outstanding.front().map_or(0, |oldest| stored.next - oldest.message_id);
    if span > MAX_WINDOW {
        return Err("more requests are outstanding than any window takes");
    }
    Ok(Requests::restored(stored.next, stored.limit, outstanding))
}

fn responses(stored: &Stored<'_>) -> Result<Responses, &'static str> {
    let mut kept = BTreeMap::new();
    for message in &stored.answered {
        kept.insert(message.message_id, Some(message.owned()?));
    }
    let (expected, limit) = (stored.expected, stored.our_limit);
    let within = |id: u32| match id.checked_sub(expected) {
        Some(above) => above != 0 && above < limit && id != u32::MAX,
        None => expected - id <= limit,
    };
    if kept.len() != stored.answered.len() || !kept.keys().all(|id| within(*id)) {
        return Err("answers are kept for Message IDs outside of the window");
    }
    Ok(Responses::restored(expected, limit, kept))
}
