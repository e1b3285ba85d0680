//! Just enough of a packet to judge what crosses a wire: Ethernet, IPv4 and IPv6, UDP (RFC 3948), ESP (RFC 4303
//! section 2).

const ETHERNET: usize = 14;
const FRAGMENT_OFFSET: u16 = 0x1fff;
const PROTOCOL_ESP: u8 = 50;
const PROTOCOL_UDP: u8 = 17;
const NAT_TRAVERSAL: u16 = 4500;

/// The readable part of an ESP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Esp {
    /// The security parameters index.
    pub spi: u32,
    /// The low 32 bits of the sequence number.
    pub sequence: u32,
    /// The explicit IV of a suite whose IV has 8 octets.
    pub iv: u64,
    /// The first 16 octets behind the sequence number: the IV of CBC; with other suites what follows their IV, too.
    pub behind: [u8; 16],
}

/// The IPv4 packet in an Ethernet frame, without the frame's padding. At most one VLAN tag is skipped.
pub fn ipv4_packet(frame: &[u8]) -> Option<&[u8]> {
    let (kind, packet) = packet(frame)?;
    let length = usize::from(be16(packet, 2)?);
    let is_ipv4 = kind == 0x0800 && packet.first()? >> 4 == 4;
    // A capture may be cut short by its snapshot length: what is there is returned.
    is_ipv4.then(|| &packet[..length.min(packet.len())])
}

/// The ethertype and what it announces.
fn packet(frame: &[u8]) -> Option<(u16, &[u8])> {
    let (kind, rest) = (be16(frame, 12)?, frame.get(ETHERNET..)?);
    if kind == 0x8100 { Some((be16(rest, 2)?, rest.get(4..)?)) } else { Some((kind, rest)) }
}

/// The ESP header in an Ethernet frame, in UDP or not; fragments other than the first have none.
pub fn esp(frame: &[u8]) -> Option<Esp> {
    let (protocol, payload) = ip_payload(frame)?;
    let esp = match protocol {
        PROTOCOL_ESP => payload,
        PROTOCOL_UDP => esp_in_udp(payload)?,
        _ => return None,
    };
    let iv = u64::from_be_bytes(esp.get(8..16)?.try_into().ok()?);
    let mut behind = [0; 16];
    let there = esp.get(8..).map(|rest| &rest[..rest.len().min(16)])?;
    behind[..there.len()].copy_from_slice(there);
    Some(Esp { spi: be32(esp, 0)?, sequence: be32(esp, 4)?, iv, behind })
}

fn ip_payload(frame: &[u8]) -> Option<(u8, &[u8])> {
    let (kind, packet) = packet(frame)?;
    if kind == 0x86dd {
        return Some((*packet.get(6)?, packet.get(40..)?));
    }
    let packet = ipv4_packet(frame)?;
    let is_first = be16(packet, 6)? & FRAGMENT_OFFSET == 0;
    is_first.then_some((*packet.get(9)?, packet.get(usize::from(packet[0] & 15) * 4..)?))
}

/// Neither IKE, which begins with four zeros, nor a keep-alive (RFC 3948 sections 2.2 and 2.3).
fn esp_in_udp(datagram: &[u8]) -> Option<&[u8]> {
    let is_ours = be16(datagram, 0)? == NAT_TRAVERSAL || be16(datagram, 2)? == NAT_TRAVERSAL;
    let payload = datagram.get(8..)?;
    (is_ours && be32(payload, 0)? != 0).then_some(payload)
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
        let behind = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        let expected = Esp { spi: 0x2a00_0001, sequence: 7, iv: 0x0102_0304_0506_0708, behind };
        assert_eq!(esp(&frame(false)), Some(expected));
        assert_eq!(esp(&frame(true)), Some(expected));
    }

    #[test]
    fn reads_esp_in_ipv6_and_in_udp() {
        let esp = &frame(false)[34..];
        let udp = [&[0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0][..], esp].concat();
        let expected = super::esp(&frame(false));
        for (next_header, payload) in [(50, esp), (17, &udp)] {
            let mut ipv6 = [&[0; 12][..], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0], &[next_header, 64]].concat();
            ipv6.extend([&[0; 32], payload].concat());
            assert_eq!(super::esp(&ipv6), expected);
        }
        let mut marked = [&frame(false)[..34], &udp[..8], &[0; 4], esp].concat();
        marked[23] = 17;
        marked[17] = marked.len() as u8 - 14;
        assert_eq!(super::esp(&marked), None, "IKE");
    }

    #[test]
    fn truncated_frames_are_not_esp() {
        let frame = frame(false);
        assert!((0..ETHERNET + 36).all(|length| esp(&frame[..length]).is_none()));
        assert!(esp(&frame[..ETHERNET + 36]).is_some());
    }
}
