//! Just enough of a packet to judge what crosses a wire: Ethernet, IPv4, ESP (RFC 4303 section 2).

const ETHERNET: usize = 14;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const PROTOCOL_ESP: u8 = 50;

/// The readable part of an ESP packet with an 8-octet IV (RFC 4106).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Esp {
    /// The security parameters index.
    pub spi: u32,
    /// The low 32 bits of the sequence number.
    pub sequence: u32,
    /// The explicit IV.
    pub iv: u64,
}

/// The IPv4 packet in an Ethernet frame, without the frame's padding. At most one VLAN tag is skipped.
pub fn ipv4_packet(frame: &[u8]) -> Option<&[u8]> {
    let (kind, rest) = (be16(frame, 12)?, frame.get(ETHERNET..)?);
    let (kind, packet) = if kind == 0x8100 { (be16(rest, 2)?, rest.get(4..)?) } else { (kind, rest) };
    let length = usize::from(be16(packet, 2)?);
    let is_ipv4 = kind == 0x0800 && packet.first()? >> 4 == 4;
    // A capture may be cut short by its snapshot length: what is there is returned.
    is_ipv4.then(|| &packet[..length.min(packet.len())])
}

/// The ESP header in an Ethernet frame; fragments other than the first have none.
pub fn esp(frame: &[u8]) -> Option<Esp> {
    let packet = ipv4_packet(frame)?;
    let is_first = be16(packet, 6)? & FRAGMENT_OFFSET == 0;
    if packet.get(9) != Some(&PROTOCOL_ESP) || !is_first {
        return None;
    }
    let payload = packet.get(usize::from(packet[0] & 15) * 4..)?;
    let iv = u64::from_be_bytes(payload.get(8..16)?.try_into().ok()?);
    Some(Esp { spi: be32(payload, 0)?, sequence: be32(payload, 4)?, iv })
}

/// Whether `frame` holds `needle` anywhere, which no ciphertext does but by a chance of 2^-8n.
pub fn contains(frame: &[u8], needle: &[u8]) -> bool {
    frame.windows(needle.len()).any(|window| window == needle)
}

fn be16(octets: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(octets.get(at..at + 2)?.try_into().ok()?))
}

fn be32(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(octets.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(vlan: bool) -> Vec<u8> {
        let mut frame = vec![0; 12];
        if vlan {
            frame.extend([0x81, 0, 0, 5]);
        }
        frame.extend([8, 0]);
        let mut ip = vec![0x45, 0, 0, 44, 0, 0, 0, 0, 64, 50, 0, 0, 203, 0, 113, 1, 203, 0, 113, 2];
        ip.extend([0x2a, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4, 5, 6, 7, 8]);
        ip.extend([0; 8]);
        frame.extend(ip);
        frame
    }

    #[test]
    fn reads_spi_sequence_and_iv() {
        let expected = Esp { spi: 0x2a00_0001, sequence: 7, iv: 0x0102_0304_0506_0708 };
        assert_eq!(esp(&frame(false)), Some(expected));
        assert_eq!(esp(&frame(true)), Some(expected));
    }

    #[test]
    fn truncated_frames_are_not_esp() {
        let frame = frame(false);
        assert!((0..ETHERNET + 36).all(|length| esp(&frame[..length]).is_none()));
        assert!(esp(&frame[..ETHERNET + 36]).is_some());
    }
}
