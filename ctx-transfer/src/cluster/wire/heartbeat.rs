//! Heartbeats, which are the requests for leases, and the votes that answer them.

use baton_sad::NodeId;
use zeroize::Zeroizing;

use super::octets::{MessageError, Reader, Writer};
use crate::cluster::configuration::MAX_MEMBERS;
use crate::cluster::segments::Segments;

const HEARTBEAT: u8 = 1;
const VOTE: u8 = 2;

const MAINTENANCE: u8 = 1;
const SETTLED: u8 = 2;
const IDLE: u8 = 4;

/// What a node says of itself to every member, every interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heartbeat {
    /// Of this life of its sender; another one at each start.
    pub incarnation: u64,
    /// Rises within an incarnation.
    pub sequence: u64,
    /// Of all its claims.
    pub term: u64,
    /// It gives everything away.
    pub maintenance: bool,
    /// It has no data plane.
    pub idle: bool,
    /// It has been in good order for a while: segments may be moved to it.
    pub settled: bool,
    /// The segments that it owns, or wants to.
    pub claims: Segments,
    /// Those of them whose lease it does not have yet.
    pub fresh: Segments,
    /// Those of them whose tunnels it is giving new keys, since it may know too little of them: until then nobody could go
    /// on with them in good order, not even itself in another life.
    pub rekeying: Segments,
    /// Who could take over which of its segments without a loss, at most [`MAX_MEMBERS`].
    pub heirs: Vec<(NodeId, Segments)>,
    /// What it has signed off, and to whom, at most [`MAX_MEMBERS`].
    pub handed: Vec<(NodeId, Segments)>,
}

/// What a voter knows about counters of segments that a claimant has just been granted: whether it was an heir when
/// their owner was heard last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The last owner, if one is known.
    pub owner: Option<NodeId>,
    /// Its term; 0 if none is known.
    pub term: u64,
    /// Its heartbeat.
    pub sequence: u64,
    /// Of these segments.
    pub segments: Segments,
    /// The claimant was an heir of these.
    pub ready: Segments,
}

/// A voter's answer to a heartbeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Vote {
    /// Of the voter.
    pub incarnation: u64,
    /// The claimant's.
    pub of: u64,
    /// The heartbeat that is answered.
    pub sequence: u64,
    /// The highest term of the segments that were refused, or 0.
    pub highest: u64,
    /// The segments that are promised, from the moment of the heartbeat.
    pub granted: Segments,
    /// About fresh ones among them, at most [`MAX_MEMBERS`].
    pub marks: Vec<Mark>,
}

impl Heartbeat {
    /// As octets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new(HEARTBEAT, 160 + 33 * (self.heirs.len() + self.handed.len()));
        writer.u64(self.incarnation);
        writer.u64(self.sequence);
        writer.u64(self.term);
        let flags = [(self.maintenance, MAINTENANCE), (self.settled, SETTLED), (self.idle, IDLE)];
        writer.u8(flags.iter().map(|(holds, flag)| u8::from(*holds) * flag).sum());
        writer.segments(self.claims);
        writer.segments(self.fresh);
        writer.segments(self.rekeying);
        writer.list(&self.heirs, write_share);
        writer.list(&self.handed, write_share);
        writer.into_octets()
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, MessageError> {
        let (incarnation, sequence, term) = (reader.u64()?, reader.u64()?, reader.term()?);
        let flags = reader.u8()?;
        if flags & !(MAINTENANCE | SETTLED | IDLE) != 0 {
            return Err(MessageError::Value("the flags of a heartbeat"));
        }
        let heartbeat = Self {
            incarnation,
            sequence,
            term,
            maintenance: flags & MAINTENANCE != 0,
            idle: flags & IDLE != 0,
            settled: flags & SETTLED != 0,
            claims: reader.segments()?,
            fresh: reader.segments()?,
            rekeying: reader.segments()?,
            heirs: reader.list("heirs", MAX_MEMBERS, read_share)?,
            handed: reader.list("heirs of signed-off segments", MAX_MEMBERS, read_share)?,
        };
        reader.finish()?;
        Ok(heartbeat)
    }
}

fn write_share(writer: &mut Writer, (node, segments): &(NodeId, Segments)) {
    writer.u8(node.get());
    writer.segments(*segments);
}

fn read_share(reader: &mut Reader<'_>) -> Result<(NodeId, Segments), MessageError> {
    Ok((reader.node()?, reader.segments()?))
}

impl Vote {
    /// As octets.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new(VOTE, 72 + 81 * self.marks.len());
        for number in [self.incarnation, self.of, self.sequence, self.highest] {
            writer.u64(number);
        }
        writer.segments(self.granted);
        writer.list(&self.marks, |writer, mark| {
            writer.u8(mark.owner.map_or(0, NodeId::get));
            writer.u64(mark.term);
            writer.u64(mark.sequence);
            writer.segments(mark.segments);
            writer.segments(mark.ready);
        });
        writer.into_octets()
    }

    fn read(mut reader: Reader<'_>) -> Result<Self, MessageError> {
        let vote = Self {
            incarnation: reader.u64()?,
            of: reader.u64()?,
            sequence: reader.u64()?,
            highest: reader.term()?,
            granted: reader.segments()?,
            marks: reader.list("marks", MAX_MEMBERS, |reader| {
                Ok(Mark {
                    owner: NodeId::new(reader.u8()?),
                    term: reader.term()?,
                    sequence: reader.u64()?,
                    segments: reader.segments()?,
                    ready: reader.segments()?,
                })
            })?,
        };
        reader.finish()?;
        Ok(vote)
    }
}

/// A message of the heartbeats' lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    Heartbeat(Heartbeat),
    Vote(Vote),
}

impl Beat {
    pub(crate) fn decode(octets: &[u8]) -> Result<Self, MessageError> {
        match Reader::open(octets)? {
            (HEARTBEAT, reader) => Heartbeat::read(reader).map(Self::Heartbeat),
            (VOTE, reader) => Vote::read(reader).map(Self::Vote),
            (other, _) => Err(MessageError::Kind(other)),
        }
    }
}
