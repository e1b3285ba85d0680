//! The data of PUZZLE (RFC 8019 section 8.1).

use super::ParseError;
use super::reader::Reader;

/// What an initiator is asked to solve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PuzzleRequest {
    /// The PRF, by its number as a transform.
    pub prf: u16,
    /// Zero bits that each result has at least; 0 leaves it to the initiator.
    pub difficulty: u8,
}

impl PuzzleRequest {
    /// Reads the data of a notify.
    ///
    /// # Errors
    /// [`ParseError`] if it is not three octets.
    pub fn parse(data: &[u8]) -> Result<Self, ParseError> {
        let mut reader = Reader::new("PUZZLE", data);
        let (prf, difficulty) = (reader.u16()?, reader.u8()?);
        reader.end()?;
        Ok(Self { prf, difficulty })
    }

    /// As the data of a notify.
    pub fn emit(&self) -> Vec<u8> {
        let [high, low] = self.prf.to_be_bytes();
        vec![high, low, self.difficulty]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Notify, NotifyType, Payload, PayloadType, emit_chain, parse_chain};

    /// RFC 8019 sections 8.1 and 8.2: a Notify payload with PRF_HMAC_SHA2_256 and 18 bits, and the payload of four keys.
    #[test]
    fn both_payloads_are_as_the_figures_show() {
        let asked = PuzzleRequest { prf: 5, difficulty: 18 };
        let notify = Payload::Notify(Notify::new(NotifyType::PUZZLE, asked.emit()));
        let solution = Payload::PuzzleSolution((1..=12).collect());
        let (first, octets) = emit_chain(&[notify.clone(), solution.clone()]);
        assert_eq!(first, PayloadType::N);
        assert_eq!(hex::encode(&octets), "3600000b00004032000512000000100102030405060708090a0b0c");
        assert_eq!(parse_chain(first, &octets).unwrap(), [notify, solution]);
        assert_eq!(PuzzleRequest::parse(&asked.emit()).unwrap(), asked);
        assert!(PuzzleRequest::parse(&[0, 5]).is_err() && PuzzleRequest::parse(&[0, 5, 18, 0]).is_err());
    }

    #[test]
    fn numbers_are_ianas() {
        assert_eq!((NotifyType::PUZZLE.0, PayloadType::PS.0), (16434, 54));
    }

    #[test]
    fn no_solution_is_empty() {
        assert!(parse_chain(PayloadType::PS, &[0, 0, 0, 4]).is_err());
        assert!(parse_chain(PayloadType::PS, &[0, 0, 0, 5, 1]).is_ok(), "what it is worth is judged later");
    }
}
