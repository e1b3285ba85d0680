//! The content of an epoch file: one line that an operator can read, with a check sum.

use crate::sa::NodeId;

/// What a file remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) node: u8,
    pub(super) epoch: u32,
}

impl Record {
    pub(super) fn new(node: NodeId, epoch: u32) -> Self {
        Self { node: node.get(), epoch }
    }

    pub(super) fn to_text(self) -> String {
        let body = format!("baton-epoch 1 node {} epoch {}", self.node, self.epoch);
        let sum = crc32(body.as_bytes());
        format!("{body} crc {sum:08x}\n")
    }

    /// `None` if it is not exactly what [`Self::to_text`] makes.
    pub(super) fn parse(octets: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(octets).ok()?;
        let mut words = text.strip_prefix("baton-epoch 1 node ")?.split(' ');
        let node = words.next()?.parse().ok()?;
        let epoch = words.nth(1)?.parse().ok()?;
        let record = Self { node, epoch };
        (record.to_text() == text).then_some(record)
    }
}

/// CRC-32 (ISO 3309, as in zlib).
fn crc32(octets: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for octet in octets {
        sum ^= u32::from(*octet);
        for _ in 0..8 {
            sum = sum >> 1 ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_is_the_well_known_one() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn any_change_of_an_octet_is_noticed() {
        let text = Record { node: 7, epoch: 1_234_567 }.to_text().into_bytes();
        assert_eq!(Record::parse(&text), Some(Record { node: 7, epoch: 1_234_567 }));
        for at in 0..text.len() {
            for bit in 0..8 {
                let mut changed = text.clone();
                changed[at] ^= 1 << bit;
                assert_eq!(Record::parse(&changed), None, "octet {at} bit {bit}");
            }
        }
        assert_eq!(Record::parse(&text[..text.len() - 1]), None);
    }
}
