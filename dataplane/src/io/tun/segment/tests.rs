//! Segments against a model that builds every packet from its fields.

use proptest::prelude::*;

use super::*;

/// A packet by its fields: emitted with checksums in the plainest way.
#[derive(Clone, Debug)]
pub(in crate::io::tun) struct Model {
    pub(in crate::io::tun) ipv6: bool,
    pub(in crate::io::tun) tcp: bool,
    pub(in crate::io::tun) network_options: usize,
    pub(in crate::io::tun) transport_options: usize,
    pub(in crate::io::tun) identification: u16,
    pub(in crate::io::tun) sequence: u32,
    pub(in crate::io::tun) flags: u8,
    pub(in crate::io::tun) payload: Vec<u8>,
}

fn naive_sum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|c| u64::from(c[0]) << 8 | u64::from(*c.get(1).unwrap_or(&0)));
    let mut total: u64 = words.sum();
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

impl Model {
    fn protocol(&self) -> u8 {
        if self.tcp { 6 } else { 17 }
    }

    fn network(&self, behind: usize) -> Vec<u8> {
        if self.ipv6 {
            let mut header = vec![0x6a, 0xb1, 2, 3, 0, 0, self.protocol(), 61];
            let options = if self.network_options == 0 {
                vec![]
            } else {
                // A destination options header, padded (RFC 8200 section 4.6).
                header[6] = 60;
                vec![self.protocol(), 0, 1, 4, 0, 0, 0, 0]
            };
            let length = options.len() + behind;
            header[4..6].copy_from_slice(&(length as u16).to_be_bytes());
            header.extend((0..32).map(|i| i * 7));
            return [header, options].concat();
        }
        let length = 20 + self.network_options;
        let mut header = vec![0x40 | (length / 4) as u8, 0xb9];
        header.extend(((length + behind) as u16).to_be_bytes());
        header.extend(self.identification.to_be_bytes());
        header.extend([0x40, 0, 63, self.protocol(), 0, 0, 10, 1, 2, 3, 192, 0, 2, 77]);
        header.resize(length, 1);
        let value = !naive_sum(&header);
        header[10..12].copy_from_slice(&value.to_be_bytes());
        header
    }

    fn transport(&self) -> Vec<u8> {
        let mut segment = vec![0x12, 0x34, 0x56, 0x78];
        if self.tcp {
            let length = 20 + self.transport_options;
            segment.extend(self.sequence.to_be_bytes());
            segment.extend([9, 9, 9, 9, (length / 4 * 16) as u8, self.flags, 1, 2, 0, 0, 0, 0]);
            segment.resize(length, 1);
        } else {
            segment.extend(((8 + self.payload.len()) as u16).to_be_bytes());
            segment.extend([0, 0]);
        }
        segment.extend(&self.payload);
        segment
    }

    fn pseudo(&self, network: &[u8], length: usize) -> Vec<u8> {
        let addresses = if self.ipv6 { &network[8..40] } else { &network[12..20] };
        let mut octets = addresses.to_vec();
        octets.extend((length as u32).to_be_bytes());
        octets.extend([0, self.protocol()]);
        octets
    }

    fn field(&self) -> usize {
        if self.tcp { 16 } else { 6 }
    }

    /// The finished packet.
    pub(in crate::io::tun) fn whole(&self) -> Vec<u8> {
        let mut segment = self.transport();
        let network = self.network(segment.len());
        let covered = [self.pseudo(&network, segment.len()), segment.clone()].concat();
        let mut value = !naive_sum(&covered);
        if !self.tcp && value == 0 {
            value = 0xffff;
        }
        let at = self.field();
        segment[at..at + 2].copy_from_slice(&value.to_be_bytes());
        [network, segment].concat()
    }

    /// The packet as the kernel hands it over, its checksum not computed.
    fn partial(&self, size: u16) -> (OffloadHeader, Vec<u8>) {
        let mut segment = self.transport();
        let network = self.network(segment.len());
        let sum = naive_sum(&self.pseudo(&network, segment.len()));
        let at = self.field();
        segment[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        let gso = match (self.tcp, self.ipv6) {
            _ if size == 0 => GSO_NONE,
            (true, false) => GSO_TCPV4,
            (true, true) => GSO_TCPV6,
            (false, _) => GSO_UDP,
        };
        let header = OffloadHeader {
            flags: NEEDS_CHECKSUM,
            gso: if self.flags & CWR != 0 && self.tcp && size > 0 { gso | GSO_ECN } else { gso },
            segment: size,
            checksum_start: network.len() as u16,
            checksum_offset: at as u16,
        };
        (header, [network, segment].concat())
    }

    /// What the segments must be.
    pub(in crate::io::tun) fn expected(&self, size: usize) -> Vec<Vec<u8>> {
        let pieces: Vec<&[u8]> =
            if self.payload.is_empty() { vec![&[]] } else { self.payload.chunks(size).collect() };
        let last = pieces.len() - 1;
        let segment = |(index, piece): (usize, &&[u8])| {
            let mut flags = self.flags;
            flags &= if index == last { 0xff } else { !(FIN | PSH) };
            flags &= if index == 0 { 0xff } else { !CWR };
            let piece = Self {
                identification: self.identification.wrapping_add(index as u16),
                sequence: self.sequence.wrapping_add((index * size) as u32),
                flags,
                payload: piece.to_vec(),
                ..self.clone()
            };
            piece.whole()
        };
        pieces.iter().enumerate().map(segment).collect()
    }
}

fn models(longest: usize) -> impl Strategy<Value = Model> {
    let headers = (any::<bool>(), any::<bool>(), 0..=10_usize, 0..=10_usize);
    let fields = (any::<u16>(), any::<u32>(), any::<u8>());
    let payload = proptest::collection::vec(any::<u8>(), 0..longest);
    (headers, fields, payload).prop_map(|((ipv6, tcp, network, transport), fields, payload)| Model {
        ipv6,
        tcp,
        network_options: network * 4,
        transport_options: transport * 4,
        identification: fields.0,
        sequence: fields.1,
        flags: fields.2,
        payload,
    })
}

pub(in crate::io::tun) fn segments(
    header: OffloadHeader,
    packet: &[u8],
    limit: usize,
) -> Option<Vec<Vec<u8>>> {
    let mut segmentation = Segmentation::new(header, packet, limit)?;
    let mut made = Vec::new();
    let mut buffer = vec![0xee; limit];
    while !segmentation.is_done() {
        let before = segmentation.remaining();
        let length = segmentation.write_next(packet, &mut buffer)?;
        assert_eq!(segmentation.remaining() + 1, before);
        made.push(buffer[..length].to_vec());
    }
    Some(made)
}

proptest! {
    #[test]
    fn segments_are_those_of_the_model(model in models(20_000), size in 1_u16..3000) {
        let (header, packet) = model.partial(size);
        let limit = 3200;
        let made = segments(header, &packet, limit).expect("a sound super-packet");
        prop_assert!(made.iter().all(|segment| segment.len() <= limit));
        prop_assert_eq!(made, model.expected(usize::from(size)));
    }

    #[test]
    fn a_completed_checksum_is_that_of_the_model(model in models(2000)) {
        let (header, mut packet) = model.partial(0);
        prop_assert!(!header.is_super_packet());
        prop_assert!(complete_checksum(header, &mut packet).is_some());
        prop_assert_eq!(packet, model.whole());
    }

    #[test]
    fn whatever_the_header_says_nothing_panics_and_limits_hold(
        octets: [u8; HEADER],
        model in models(500),
        sound: bool,
        cut in 0..600_usize,
        limit in 0..400_usize,
    ) {
        let (own, packet) = model.partial(7);
        let header = if sound { own } else { OffloadHeader::parse(octets) };
        let packet = &packet[..packet.len().min(cut)];
        if let Some(made) = segments(header, packet, limit) {
            prop_assert!(made.iter().all(|segment| segment.len() <= limit));
        }
        let _ = complete_checksum(header, &mut packet.to_vec());
    }
}

#[test]
fn a_udp_checksum_of_zero_is_sent_as_ones() {
    let base = Model {
        ipv6: false,
        tcp: false,
        network_options: 0,
        transport_options: 0,
        identification: 0,
        sequence: 0,
        flags: 0,
        payload: vec![0, 0],
    };
    // The payload that makes the sum all ones: what the checksum of zeros lacks.
    let whole = base.whole();
    let payload = whole[26..28].to_vec();
    let model = Model { payload, ..base };
    let (header, mut packet) = model.partial(0);
    complete_checksum(header, &mut packet).unwrap();
    assert_eq!(packet[26..28], [0xff, 0xff]);
    let (header, packet) = model.partial(1400);
    assert_eq!(segments(header, &packet, 1500).unwrap()[0][26..28], [0xff, 0xff]);
}

#[test]
fn what_contradicts_itself_is_refused() {
    let model = Model {
        ipv6: false,
        tcp: true,
        network_options: 0,
        transport_options: 0,
        identification: 0,
        sequence: 0,
        flags: 0x18,
        payload: vec![1; 5000],
    };
    let (sound, packet) = model.partial(1400);
    assert_eq!(segments(sound, &packet, 1500).unwrap().len(), 4);
    let refused =
        |header: OffloadHeader| assert!(Segmentation::new(header, &packet, 1500).is_none(), "{header:?}");
    refused(OffloadHeader { segment: 0, ..sound });
    refused(OffloadHeader { segment: 1461, ..sound });
    refused(OffloadHeader { gso: GSO_TCPV6, ..sound });
    refused(OffloadHeader { gso: 3, ..sound });
    refused(OffloadHeader { flags: 0, ..sound });
    refused(OffloadHeader { checksum_start: 24, ..sound });
    refused(OffloadHeader { checksum_offset: 6, ..sound });
}
