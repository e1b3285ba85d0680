//! Files of one or several PEM blocks (RFC 7468), or of DER.

use pem_rfc7468::Decoder;
use zeroize::Zeroizing;

/// A block, decoded. It may be a key and is wiped.
pub(super) struct Block<'a> {
    /// `CERTIFICATE`, `PRIVATE KEY`, ...; empty for a file in DER.
    pub(super) label: &'a str,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// Why a file is neither.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PemError {
    /// Its key is encrypted.
    Encrypted,
    /// It says BEGIN and is no PEM after it.
    Malformed,
}

const BEGIN: &str = "-----BEGIN ";
/// More blocks are in nobody's file.
const MAX_BLOCKS: usize = 4096;

/// All blocks of a file in PEM, or the whole of it as DER.
pub(super) fn blocks(octets: &[u8]) -> Result<Vec<Block<'_>>, PemError> {
    let Some(text) = std::str::from_utf8(octets).ok().filter(|text| text.contains(BEGIN)) else {
        return Ok(vec![Block { label: "", der: Zeroizing::new(octets.to_vec()) }]);
    };
    let mut rest = text;
    let mut blocks = Vec::new();
    while let Some((block, after)) = next(rest)? {
        blocks.push(decode(block)?);
        rest = after;
        if blocks.len() > MAX_BLOCKS {
            return Err(PemError::Malformed);
        }
    }
    Ok(blocks)
}

/// The text of the next block, with its boundaries, and what follows it.
fn next(text: &str) -> Result<Option<(&str, &str)>, PemError> {
    let Some(start) = text.find(BEGIN) else { return Ok(None) };
    let text = &text[start..];
    let label = text[BEGIN.len()..].split("-----").next().unwrap_or_default();
    let end = format!("-----END {label}-----");
    let length = text.find(&end).ok_or(PemError::Malformed)? + end.len();
    Ok(Some(text.split_at(length)))
}

fn decode(block: &str) -> Result<Block<'_>, PemError> {
    if block.contains("ENCRYPTED") {
        return Err(PemError::Encrypted);
    }
    let mut decoder = Decoder::new_detect_wrap(block.as_bytes()).map_err(|_| PemError::Malformed)?;
    let mut der = Zeroizing::new(vec![0; decoder.remaining_len()]);
    decoder.decode(&mut der).map_err(|_| PemError::Malformed)?;
    Ok(Block { label: decoder.type_label(), der })
}
