//! Packet I/O on pcap files: `baton-dataplane --replay in.pcap --out out.pcap`.
//!
//! Packets are read in the order of the file; ESP to one of our outer addresses counts as received on the outer
//! side, everything else on the inner one. Everything that the pipeline transmits is written, in order, with the
//! time of the last packet read, so that the same input always gives the same output.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::time::Duration;

use pcap_file::DataLink;
use pcap_file::pcap::{PcapPacket, PcapReader, PcapWriter};
use thiserror::Error;

use super::memory::{MemoryBuffer, MemoryIo};
use super::{Frame, Packet, PacketIo, Side};
use crate::packet::ethernet::EthernetHeader;
use crate::packet::ip::IpHeader;
use crate::packet::ipv4::{ESP, UDP};
use crate::packet::udp::{NAT_TRAVERSAL, UdpHeader};

/// Frames in flight at most.
const FRAMES: usize = 512;
/// Octets of the file that are in memory at most: no packet may be larger.
const READ_BUFFER: usize = 512 * 1024;

/// Why a file cannot be replayed, or not further.
#[derive(Debug, Error)]
pub enum PcapError {
    /// Not a pcap file, or one that breaks off or contradicts itself.
    #[error("packet {packet}: the input is not a well-formed pcap file ({reason}); write it with tcpdump -w")]
    Malformed {
        /// How many packets were read before.
        packet: u64,
        /// What the parser found.
        reason: String,
    },
    /// Another link type than Ethernet.
    #[error("the input was captured on {0:?}; only Ethernet captures can be replayed")]
    LinkType(DataLink),
    /// Writing failed.
    #[error("the output cannot be written ({0}); is there room?")]
    Write(String),
}

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Packets read.
    pub read: u64,
    /// Packets read but larger than a frame, and left out.
    pub oversized: u64,
    /// Packets written.
    pub written: u64,
}

/// A pcap file to read and one to write.
pub struct PcapIo<R: Read, W: Write> {
    reader: PcapReader<R>,
    writer: PcapWriter<W>,
    outer: Vec<IpAddr>,
    frames: MemoryIo,
    next: Option<(Side, Duration)>,
    clock: Duration,
    summary: Summary,
    ended: bool,
    error: Option<PcapError>,
}

impl<R: Read, W: Write> std::fmt::Debug for PcapIo<R, W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PcapIo").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl<R: Read, W: Write> PcapIo<R, W> {
    /// Starts a replay; `outer` are our own outer addresses.
    ///
    /// # Errors
    /// [`PcapError`], when the input's or output's header cannot be read or written.
    pub fn new(input: R, output: W, outer: Vec<IpAddr>) -> Result<Self, PcapError> {
        let malformed =
            |e: pcap_file::pcap::PcapReadError| PcapError::Malformed { packet: 0, reason: e.to_string() };
        let reader = PcapReader::with_capacity(input, READ_BUFFER).map_err(malformed)?;
        match reader.header().datalink {
            DataLink::ETHERNET => {}
            other => return Err(PcapError::LinkType(other)),
        }
        let writer = PcapWriter::new(output).map_err(|e| PcapError::Write(e.to_string()))?;
        Ok(Self {
            reader,
            writer,
            outer,
            frames: MemoryIo::new(FRAMES),
            next: None,
            clock: Duration::ZERO,
            summary: Summary::default(),
            ended: false,
            error: None,
        })
    }

    /// Whether nothing more will be received.
    pub fn ended(&self) -> bool {
        self.ended && self.next.is_none()
    }

    /// Ends the replay.
    ///
    /// # Errors
    /// The first [`PcapError`] on the way; what was written before it is complete.
    pub fn finish(self) -> Result<(Summary, W), PcapError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok((self.summary, self.writer.into_inner())),
        }
    }

    /// Reads one packet ahead into the queue of its side.
    fn read_ahead(&mut self) -> Option<Side> {
        while self.next.is_none() && !self.ended {
            let packet = match self.reader.next_packet() {
                None => {
                    self.ended = true;
                    return None;
                }
                Some(Ok(packet)) => packet,
                Some(Err(e)) => {
                    let reason = e.to_string();
                    self.error.get_or_insert(PcapError::Malformed { packet: self.summary.read, reason });
                    self.ended = true;
                    return None;
                }
            };
            self.summary.read += 1;
            let at = packet.timestamp();
            let side = side_of(packet.data(), &self.outer);
            if self.frames.inject(side, packet.data()) {
                self.next = Some((side, at));
            } else {
                self.summary.oversized += 1;
            }
        }
        self.next.map(|(side, _)| side)
    }

    fn write(&mut self, octets: &[u8]) {
        let packet = PcapPacket::new(self.clock, octets.len() as u32, octets);
        let written = packet
            .map_err(|e| e.to_string())
            .and_then(|p| self.writer.write_packet(&p).map_err(|e| e.to_string()));
        match written {
            Ok(_) => self.summary.written += 1,
            Err(reason) => {
                self.error.get_or_insert(PcapError::Write(reason));
            }
        }
    }
}

/// The side on which a gateway with these outer addresses would receive the frame.
fn side_of(frame: &[u8], outer: &[IpAddr]) -> Side {
    if is_esp_to(frame, outer).unwrap_or(false) { Side::Outer } else { Side::Inner }
}

fn is_esp_to(frame: &[u8], outer: &[IpAddr]) -> Option<bool> {
    let link = EthernetHeader::parse(frame).ok()?;
    let packet = frame.get(link.length..)?;
    let header = IpHeader::parse(packet).ok()?;
    let is_esp = match header.protocol {
        ESP => true,
        UDP => UdpHeader::parse(header.payload(packet)).is_ok_and(|udp| udp.destination == NAT_TRAVERSAL),
        _ => false,
    };
    Some(is_esp && outer.contains(&header.destination()))
}

impl<R: Read + Send, W: Write + Send> PacketIo for PcapIo<R, W> {
    type Buffer = MemoryBuffer;

    fn receive(&mut self, side: Side, batch: &mut Vec<Frame>) -> usize {
        let before = batch.len();
        while batch.len() < batch.capacity() && self.read_ahead() == Some(side) {
            if let Some((_, at)) = self.next.take() {
                self.clock = at;
            }
            if self.frames.receive(side, batch) == 0 {
                break;
            }
        }
        batch.len() - before
    }

    fn buffer(&mut self, frame: &Frame) -> &mut [u8] {
        self.frames.buffer(frame)
    }

    fn lend(&mut self, frame: Frame) -> Packet<MemoryBuffer> {
        self.frames.lend(frame)
    }

    fn take_back(&mut self, packet: Packet<MemoryBuffer>) -> Frame {
        self.frames.take_back(packet)
    }

    fn transmit(&mut self, side: Side, frames: &mut Vec<Frame>) {
        self.frames.transmit(side, frames);
        while let Some(octets) = self.frames.transmitted(side) {
            self.write(&octets);
        }
    }

    fn allocate(&mut self) -> Option<Frame> {
        self.frames.allocate()
    }

    fn release(&mut self, frame: Frame) {
        self.frames.release(frame);
    }

    fn flush(&mut self) {}

    fn wait(&mut self, _timeout: Duration) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(packets: &[&[u8]]) -> Vec<u8> {
        let mut writer = PcapWriter::new(Vec::new()).unwrap();
        for (at, octets) in (1..).zip(packets) {
            let packet = PcapPacket::new(Duration::from_secs(at), octets.len() as u32, *octets).unwrap();
            writer.write_packet(&packet).unwrap();
        }
        writer.into_inner()
    }

    fn frame(destination: [u8; 4], protocol: u8) -> Vec<u8> {
        use crate::packet::ipv4::{Ipv4Fields, Ipv4Template};
        let ip = Ipv4Template::new([192, 0, 2, 9].into(), destination.into(), protocol, 64)
            .emit(Ipv4Fields { total_length: 20, ..Default::default() });
        [&[0; 12][..], &[8, 0], &ip].concat()
    }

    fn drain<R: Read + Send, W: Write + Send>(io: &mut PcapIo<R, W>) -> Vec<Side> {
        let mut sides = Vec::new();
        let mut batch = Vec::with_capacity(1);
        while !io.ended() {
            for side in Side::ALL {
                io.receive(side, &mut batch);
                sides.extend(batch.iter().map(|frame| frame.side));
                io.transmit(side, &mut batch);
            }
        }
        sides
    }

    #[test]
    fn keeps_order_and_finds_sides() {
        let ours = [203, 0, 113, 2];
        let packets =
            [frame(ours, ESP), frame([10, 1, 0, 1], 1), frame([203, 0, 113, 3], ESP), vec![1; 5000]];
        let packets: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
        let input = file(&packets);
        let mut io = PcapIo::new(&input[..], Vec::new(), vec![ours.into()]).unwrap();
        assert_eq!(drain(&mut io), [Side::Outer, Side::Inner, Side::Inner]);
        let (summary, output) = io.finish().unwrap();
        assert_eq!(summary, Summary { read: 4, oversized: 1, written: 3 });
        assert_eq!(output, file(&packets[..3]));
    }

    #[test]
    fn damage_is_an_error_with_a_place() {
        let whole = file(&[&[1; 60], &[2; 60]]);
        let cut = &whole[..whole.len() - 1];
        let mut io = PcapIo::new(cut, Vec::new(), vec![]).unwrap();
        drain(&mut io);
        assert!(matches!(io.finish(), Err(PcapError::Malformed { packet: 1, .. })));
        assert!(matches!(PcapIo::new(&whole[..10], Vec::new(), vec![]), Err(PcapError::Malformed { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]
        #[test]
        fn never_panics(mut octets in proptest::collection::vec(any::<u8>(), 0..300), valid: bool) {
            if valid {
                octets.splice(0..0, file(&[&[0; 40]]));
            }
            if let Ok(mut io) = PcapIo::new(&octets[..], Vec::new(), vec![]) {
                drain(&mut io);
                let _ = io.finish();
            }
        }
    }
}
