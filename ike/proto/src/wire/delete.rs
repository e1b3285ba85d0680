//! SAs that are no more (RFC 7296 section 3.11).

use super::reader::Reader;
use super::{ParseError, ProtocolId};

const SPI_LENGTH: u8 = 4;
/// As many as a payload has room for.
const MAX_SPIS: usize = 16_380;

/// Whose SAs, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delete {
    /// [`ProtocolId::IKE`] is the IKE SA with all that hangs on it.
    pub protocol: ProtocolId,
    /// SPIs that the sender expects in what it receives; none for the IKE SA.
    pub spis: Vec<u32>,
}

impl Delete {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("Delete payload", body);
        let protocol = ProtocolId(reader.u8()?);
        let spi_length = reader.u8()?;
        let count = reader.u16()?;
        let spis = match spi_length {
            SPI_LENGTH => (0..count).map(|_| reader.u32()).collect::<Result<_, _>>()?,
            0 if count == 0 => Vec::new(),
            _ => return reader.error(),
        };
        reader.end()?;
        Ok(Self { protocol, spis })
    }

    pub(super) fn emit(&self, out: &mut Vec<u8>) {
        let spis = &self.spis[..self.spis.len().min(MAX_SPIS)];
        let spi_length = if self.protocol == ProtocolId::IKE { 0 } else { SPI_LENGTH };
        out.extend_from_slice(&[self.protocol.0, spi_length]);
        out.extend_from_slice(&(spis.len() as u16).to_be_bytes());
        for spi in spis {
            out.extend_from_slice(&spi.to_be_bytes());
        }
    }
}
