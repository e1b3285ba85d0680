//! Planned moves as messages of CXTP (RFC 4067), inside of the authenticated channel. The network controls them: peers
//! know nothing of a move, so nobody sends what mobile nodes send (CTAR, CTAA).
//!
//! | who begins | messages |
//! |---|---|
//! | the owner: predictive | PCTD; CTDR; PCTD, as many as it takes; CTDR |
//! | the node that wants segments: reactive | CT-Req; CTD; CTDR; CTD, as many as it takes; CTDR |
//! | the owner, before it signs off | CTC |
//!
//! Where the RFC has a mobile node's address, the address names the transfer: 100::/64, which no host has (RFC 6666), with
//! the transfer's number in its lower half. So an answer to a transfer that was given up is not taken for one to the next.
//! The contexts to be moved are those of segments: each is a feature profile of its own (0xbb00 and the segment), whose
//! block stands in the first message of a transfer; bit 0 of its presence vector says that an operator wants it there.
//! That message asks for a reply: the receiver holds what comes for them from then on. What its SAs' counters are finally
//! follows in blocks of [`FeatureProfile::IPSEC`]. The last message asks for a reply again.
//!
//! A token shows that who asks knows this life of whom it asks (its key is the incarnation that Hello has told), and the
//! sequence number that it asks anew: an old request moves nothing. Who it is, TLS has shown.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::event::Octets;
use super::segments::Segments;
use super::wire::MessageError;
use crate::cxtp::{
    Assembly, Block, Data, FeatureProfile, Message, PiecesError, Predictive, Request, StatusOf, TokenKey,
    split,
};

/// 100::/64 (RFC 6666).
const PREFIX: u64 = 0x0100 << 48;
/// Upper octet of a segment's profile.
const SEGMENT: u8 = 0xbb;
const PINNED: u32 = 1;
/// Octets of the blocks of one message; with its header, address and token they fit 16 bits.
const MESSAGE_OCTETS: usize = 60_000;
/// Octets before a block's data at most.
const BLOCK_HEADER: usize = 8;

/// Contexts in one transfer at most.
const PARTS: usize = 4_096;
/// Octets of all of them at most.
const OCTETS: usize = 64 << 20;

/// The address of a transfer.
pub(crate) fn address(number: u64) -> IpAddr {
    Ipv6Addr::from_bits(u128::from(PREFIX) << 64 | u128::from(number)).into()
}

/// The number of a transfer.
pub(crate) fn number(address: IpAddr) -> Result<u64, MessageError> {
    let bits = match address {
        IpAddr::V6(address) => address.to_bits(),
        IpAddr::V4(_) => 0,
    };
    if (bits >> 64) as u64 == PREFIX {
        Ok(bits as u64)
    } else {
        Err(MessageError::Value("a transfer's address"))
    }
}

const fn profile(segment: u8) -> FeatureProfile {
    FeatureProfile(u16::from_be_bytes([SEGMENT, segment]))
}

fn segment(profile: FeatureProfile) -> Option<u8> {
    let [kind, segment] = profile.0.to_be_bytes();
    (kind == SEGMENT).then_some(segment)
}

fn key(incarnation: u64) -> Option<TokenKey> {
    TokenKey::new(&incarnation.to_be_bytes()).ok()
}

/// A request for segments from a member that is in this life; everything for all of them.
pub(crate) fn request(transfer: u64, sequence: u32, life: u64, segments: Segments) -> Option<Message> {
    let peer = address(transfer);
    let token = key(life)?.token(peer, sequence, &[]);
    Some(Message::Request(Request {
        peer,
        sequence,
        token,
        profiles: segments.iter().map(profile).collect(),
    }))
}

/// What is asked for of a member in this life.
pub(crate) fn requested(request: &Request, life: u64) -> Result<Segments, MessageError> {
    let shows = |key: TokenKey| key.verify(request.token, request.peer, request.sequence, &[]);
    if !key(life).is_some_and(shows) {
        return Err(MessageError::Value("the token of a request"));
    }
    if request.profiles.is_empty() {
        return Ok(Segments::ALL);
    }
    let segments = request.profiles.iter().map(|profile| segment(*profile));
    segments.collect::<Option<Segments>>().ok_or(MessageError::Value("a requested feature profile"))
}

/// What became of a transfer.
pub(crate) fn reply(transfer: u64, segments: Segments, success: bool) -> Message {
    let status = |segment| StatusOf { profile: profile(segment), success };
    Message::DataReply { peer: address(transfer), success, results: segments.iter().map(status).collect() }
}

/// Whether a message brings something of a context.
pub(crate) fn has_pieces(data: &Data) -> bool {
    data.blocks.iter().any(|block| segment(block.profile).is_none())
}

/// What is said of a transfer that leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Departure {
    pub(crate) number: u64,
    pub(crate) segments: Segments,
    pub(crate) pinned: bool,
    /// Our own life, if nobody has asked for it.
    pub(crate) predictive: Option<u64>,
    pub(crate) elapsed: Duration,
}

impl Departure {
    /// Its first message, which asks for a reply: the receiver holds what comes for these segments from then on.
    pub(crate) fn announcement(&self) -> Message {
        let presence = self.pinned.then_some(PINNED);
        let announced = self.segments.iter().filter_map(|s| Block::new(profile(s), presence, &[]));
        self.message(announced.collect(), true)
    }

    /// All messages after that.
    pub(crate) fn messages(&self, parts: &[Octets]) -> Result<Vec<Message>, PiecesError> {
        let mut blocks: Vec<Block> = Vec::new();
        for (at, part) in parts.iter().enumerate().filter(|(_, part)| !part.0.is_empty()) {
            blocks.extend(split(at as u64, &part.0)?);
        }
        let (mut messages, mut group, mut octets) = (Vec::new(), Vec::new(), 0);
        for block in blocks {
            let more = BLOCK_HEADER + block.data().len();
            if octets + more > MESSAGE_OCTETS {
                messages.push(self.message(std::mem::take(&mut group), false));
                octets = 0;
            }
            octets += more;
            group.push(block);
        }
        messages.push(self.message(group, true));
        Ok(messages)
    }

    fn message(&self, blocks: Vec<Block>, acknowledge: bool) -> Message {
        let predictive = self.predictive.and_then(key).map(|key| Predictive { key });
        let elapsed_ms = u32::try_from(self.elapsed.as_millis()).unwrap_or(u32::MAX);
        Message::Data(Data { peer: address(self.number), acknowledge, elapsed_ms, predictive, blocks })
    }
}

/// Why a transfer that comes is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// More than one transfer may have.
    TooLarge,
    /// A piece that does not fit the others, or one that is missing.
    Pieces,
}

/// A transfer that comes.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) number: u64,
    pub(crate) segments: Segments,
    pub(crate) pinned: bool,
    /// The driver has it all.
    pub(crate) staged: bool,
    parts: Vec<Octets>,
    octets: usize,
    /// Pieces come in order: one context is put together at a time.
    open: Option<Assembly>,
}

impl Arrival {
    /// A transfer by its first message; `None` if the message is none.
    pub(crate) fn begin(number: u64, data: &Data) -> Option<Self> {
        let announced =
            || data.blocks.iter().filter_map(|block| Some((segment(block.profile)?, block.presence)));
        let segments: Segments = announced().map(|(segment, _)| segment).collect();
        let pinned = announced().any(|(_, presence)| presence.unwrap_or(0) & PINNED != 0);
        let (staged, parts, octets, open) = (false, Vec::new(), 0, None);
        (!segments.is_empty()).then_some(Self { number, segments, pinned, staged, parts, octets, open })
    }

    /// What a message brings.
    pub(crate) fn take(&mut self, data: &Data) -> Result<(), Unfit> {
        let pieces = data.blocks.iter().filter(|block| segment(block.profile).is_none());
        pieces.into_iter().try_for_each(|piece| self.take_piece(piece))
    }

    fn take_piece(&mut self, piece: &Block) -> Result<(), Unfit> {
        let assembly = match self.open.take() {
            Some(mut assembly) => assembly.add(piece).map(|()| assembly),
            None => Assembly::begin(piece),
        };
        match assembly.map_err(|_| Unfit::Pieces)?.finish() {
            Ok(context) => {
                self.octets += context.len();
                self.parts.push(context.into());
            }
            Err(unfinished) => self.open = Some(unfinished),
        }
        let fits = self.parts.len() <= PARTS && self.octets <= OCTETS;
        if fits { Ok(()) } else { Err(Unfit::TooLarge) }
    }

    /// All contexts, after the last message.
    pub(crate) fn finish(&mut self) -> Result<Vec<Octets>, Unfit> {
        self.staged = self.open.is_none();
        if self.staged { Ok(std::mem::take(&mut self.parts)) } else { Err(Unfit::Pieces) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn departure() -> Departure {
        let segments = [7, 200].into_iter().collect();
        let elapsed = Duration::from_millis(200);
        Departure { number: 5, segments, pinned: true, predictive: Some(0x0102_0304_0506_0708), elapsed }
    }

    fn hex(message: &Message) -> String {
        let mut octets = Vec::new();
        message.write(&mut octets).unwrap();
        hex::encode(octets)
    }

    /// RFC 4067 sections 2.4 and 2.5: version 1 and type; V, A or S; length; elapsed time, address, algorithm and key;
    /// blocks.
    #[test]
    fn a_move_has_the_forms_of_the_rfc() {
        let address = "01000000000000000000000000000005";
        let blocks = "bb078000bb078000".replace("bb078000bb078000", "bb07008000000001bbc8008000000001");
        let piece = "ba70038000".replace("8000", "00")
            + "0000000000000000"
            + "00000002"
            + "00000000"
            + "aabb000000000000";
        let predictive = "000100080102030405060708";
        let announced = hex(&departure().announcement());
        assert_eq!(announced, format!("24400034000000c8{address}{predictive}{blocks}"));
        let pushed = departure().messages(&[vec![0xaa, 0xbb].into()]).unwrap();
        let expected = format!("24400040000000c8{address}{predictive}{piece}");
        assert_eq!(pushed.iter().map(hex).collect::<Vec<_>>(), [expected]);
        let asked = Departure { predictive: None, pinned: false, ..departure() };
        assert_eq!(hex(&asked.announcement()), format!("23400020000000c8{address}bb070000bbc80000"));
        assert_eq!(hex(&asked.messages(&[]).unwrap()[0]), format!("23400018000000c8{address}"));
        let segments = Segments::one(9);
        assert_eq!(hex(&reply(5, segments, true)), format!("25400018{address}bb090100"));
        assert_eq!(hex(&reply(5, segments, false)), format!("25000018{address}bb090000"));
        let request = request(5, 3, 1, segments).unwrap();
        let Message::Request(inner) = &request else { unreachable!() };
        let token = hex::encode(inner.token.0);
        assert_eq!(hex(&request), format!("2700001e{address}00000003{token}bb09"));
    }

    #[test]
    fn contexts_of_any_length_arrive_as_they_left() {
        let parts: Vec<Octets> =
            [1, 2_024, 2_025, 70_000, 300_000].map(|length| vec![length as u8; length].into()).into();
        let messages = departure().messages(&parts).unwrap();
        assert!(messages.len() > 5, "{}", messages.len());
        let Message::Data(announcement) = departure().announcement() else { panic!("no data") };
        assert!(!has_pieces(&announcement));
        let mut arrival = Arrival::begin(5, &announcement).unwrap();
        for (at, message) in messages.iter().enumerate() {
            let Message::Data(data) = message else { panic!("{message:?}") };
            assert!(message.write(&mut Vec::new()).is_ok(), "it fits");
            assert_eq!(data.acknowledge, at == messages.len() - 1);
            assert!(has_pieces(data));
            assert!(arrival.take(data).is_ok());
        }
        assert_eq!((arrival.segments, arrival.pinned), (departure().segments, true));
        assert_eq!(arrival.finish(), Ok(parts));
    }

    #[test]
    fn what_is_missing_or_too_much_is_refused() {
        let part: Octets = vec![1; 5_000].into();
        let mut messages = departure().messages(&[part]).unwrap();
        let Some(Message::Data(mut data)) = messages.pop() else { panic!("no data") };
        let Message::Data(announcement) = departure().announcement() else { panic!("no data") };
        let whole = data.clone();
        data.blocks.pop();
        let begin = || Arrival::begin(5, &announcement).unwrap();
        let mut arrival = begin();
        assert_eq!(arrival.take(&data), Ok(()));
        assert_eq!(arrival.finish(), Err(Unfit::Pieces));
        let mut arrival = begin();
        data.blocks.remove(0);
        assert_eq!(arrival.take(&data), Ok(()), "its second piece");
        assert_eq!(arrival.finish(), Err(Unfit::Pieces));
        let mut arrival = begin();
        let taken = (0..=PARTS).map(|_| arrival.take(&whole)).find(Result::is_err);
        assert_eq!(taken, Some(Err(Unfit::TooLarge)));
        assert!(Arrival::begin(5, &whole).is_none(), "no segments");
    }

    #[test]
    fn a_request_is_for_one_life_and_its_own_fields() {
        let segments: Segments = [1, 2].into_iter().collect();
        let Some(Message::Request(good)) = request(5, 3, 77, segments) else { panic!("no request") };
        assert_eq!(requested(&good, 77), Ok(segments));
        assert_eq!(requested(&good, 78), Err(MessageError::Value("the token of a request")));
        let repeated = Request { sequence: 4, ..good.clone() };
        assert_eq!(requested(&repeated, 77), Err(MessageError::Value("the token of a request")));
        let other = Request { profiles: vec![FeatureProfile(1)], ..good };
        assert_eq!(requested(&other, 77), Err(MessageError::Value("a requested feature profile")));
        assert_eq!(number(address(u64::MAX)), Ok(u64::MAX));
        assert!(number("192.0.2.1".parse().unwrap()).is_err());
        assert!(number("2001:db8::5".parse().unwrap()).is_err());
    }
}
