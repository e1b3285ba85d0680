//! Copied packets as a pcap stream.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// One copied packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedPacket {
    /// When it was seen.
    pub at: SystemTime,
    /// The frame from its Ethernet header on.
    pub octets: Box<[u8]>,
}

/// What a capture has for its reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CaptureNext {
    /// A packet.
    Packet(CapturedPacket),
    /// None at the moment.
    Idle,
    /// No more will come.
    End,
}

/// A running capture; dropping it ends it.
pub trait CaptureStream: Send {
    /// The oldest packet not read yet. Does not block.
    fn next(&mut self) -> CaptureNext;
}

const MAGIC_NANOSECONDS: u32 = 0xa1b2_3c4d;
const LINKTYPE_ETHERNET: u32 = 1;
const SNAP_LENGTH: u32 = 65_535;

/// The file header of pcap 2.4 with nanoseconds.
pub(super) fn write_header(out: &mut impl Write) -> io::Result<()> {
    out.write_all(&MAGIC_NANOSECONDS.to_le_bytes())?;
    out.write_all(&[2, 0, 4, 0])?;
    out.write_all(&[0; 8])?;
    out.write_all(&SNAP_LENGTH.to_le_bytes())?;
    out.write_all(&LINKTYPE_ETHERNET.to_le_bytes())
}

/// One record.
pub(super) fn write_packet(out: &mut impl Write, packet: &CapturedPacket) -> io::Result<()> {
    let at = packet.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let kept = &packet.octets[..packet.octets.len().min(SNAP_LENGTH as usize)];
    out.write_all(&(at.as_secs() as u32).to_le_bytes())?;
    out.write_all(&at.subsec_nanos().to_le_bytes())?;
    out.write_all(&(kept.len() as u32).to_le_bytes())?;
    out.write_all(&(packet.octets.len() as u32).to_le_bytes())?;
    out.write_all(kept)
}
