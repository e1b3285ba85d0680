//! A context in as many blocks as it needs: a block holds 2,040 octets at most, and a message 65,535.
//!
//! The data of each block begins with 16 octets: the context's number in this transfer (8), the octets of the whole
//! context (4), and the place of the piece's first octet in it (4). So pieces may come in any order, and twice.

use std::fmt;

use thiserror::Error;
use zeroize::Zeroizing;

use super::block::{Block, FeatureProfile, MAX_BLOCK_OCTETS};

/// Octets of a context that one block carries at most.
pub const PIECE_OCTETS: usize = MAX_BLOCK_OCTETS - HEADER;
/// Octets of a context at most.
pub const MAX_CONTEXT_OCTETS: usize = crate::MAX_RECORD_OCTETS;

const HEADER: usize = 16;

/// Why a block is not a piece of the context that is being put together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PiecesError {
    /// Another profile.
    #[error("the context data block is of profile {0:#06x}, which is not an IPsec context's")]
    Profile(u16),
    /// Its header does not fit its data.
    #[error("the context data block does not fit the context that it says it is a piece of")]
    Malformed,
    /// More than [`MAX_CONTEXT_OCTETS`].
    #[error("the context has {0} octets, more than the {MAX_CONTEXT_OCTETS} that are taken")]
    TooLarge(usize),
    /// Of another context, or of the same one with another length.
    #[error("the context data block belongs to another context")]
    Other,
}

/// The blocks of a context of 1 to [`MAX_CONTEXT_OCTETS`] octets.
///
/// # Errors
/// [`PiecesError::TooLarge`], and [`PiecesError::Malformed`] if there are no octets.
pub fn split(number: u64, context: &[u8]) -> Result<Vec<Block>, PiecesError> {
    match context.len() {
        0 => return Err(PiecesError::Malformed),
        octets if octets > MAX_CONTEXT_OCTETS => return Err(PiecesError::TooLarge(octets)),
        _ => {}
    }
    let pieces = context.chunks(PIECE_OCTETS).enumerate();
    Ok(pieces.map(|(index, piece)| block(number, context.len(), index * PIECE_OCTETS, piece)).collect())
}

fn block(number: u64, length: usize, offset: usize, piece: &[u8]) -> Block {
    let mut data = Zeroizing::new(Vec::with_capacity(HEADER + piece.len()));
    data.extend_from_slice(&number.to_be_bytes());
    data.extend_from_slice(&(length as u32).to_be_bytes());
    data.extend_from_slice(&(offset as u32).to_be_bytes());
    data.extend_from_slice(piece);
    Block::new(FeatureProfile::IPSEC, None, &data).expect("a piece fits a block")
}

/// A context that is being put together. Takes as much memory as its first piece says that the context has.
#[derive(Clone, PartialEq, Eq)]
pub struct Assembly {
    number: u64,
    context: Zeroizing<Vec<u8>>,
    /// Which pieces are there.
    there: Vec<bool>,
}

impl Assembly {
    /// Begins with any piece.
    ///
    /// # Errors
    /// [`PiecesError`] if it is none.
    pub fn begin(first: &Block) -> Result<Self, PiecesError> {
        let piece = Piece::read(first)?;
        let mut assembly = Self {
            number: piece.number,
            context: Zeroizing::new(vec![0; piece.length]),
            there: vec![false; piece.length.div_ceil(PIECE_OCTETS)],
        };
        assembly.place(&piece);
        Ok(assembly)
    }

    /// The context's number in its transfer.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// One more piece; one that is there already changes nothing.
    ///
    /// # Errors
    /// [`PiecesError`] if it is no piece of this context.
    pub fn add(&mut self, block: &Block) -> Result<(), PiecesError> {
        let piece = Piece::read(block)?;
        if (piece.number, piece.length) != (self.number, self.context.len()) {
            return Err(PiecesError::Other);
        }
        self.place(&piece);
        Ok(())
    }

    /// The context.
    ///
    /// # Errors
    /// What there is, if pieces are missing.
    pub fn finish(self) -> Result<Zeroizing<Vec<u8>>, Self> {
        if self.there.iter().all(|there| *there) { Ok(self.context) } else { Err(self) }
    }

    fn place(&mut self, piece: &Piece<'_>) {
        let place = &mut self.there[piece.offset / PIECE_OCTETS];
        if !std::mem::replace(place, true) {
            self.context[piece.offset..piece.offset + piece.octets.len()].copy_from_slice(piece.octets);
        }
    }
}

impl fmt::Debug for Assembly {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let there = self.there.iter().filter(|there| **there).count();
        write!(formatter, "Assembly({}, {there} of {} pieces)", self.number, self.there.len())
    }
}

struct Piece<'a> {
    number: u64,
    length: usize,
    offset: usize,
    octets: &'a [u8],
}

impl<'a> Piece<'a> {
    fn read(block: &'a Block) -> Result<Self, PiecesError> {
        if block.profile != FeatureProfile::IPSEC {
            return Err(PiecesError::Profile(block.profile.0));
        }
        let (header, rest) = block.data().split_first_chunk::<HEADER>().ok_or(PiecesError::Malformed)?;
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|index| header[at + index])) as usize;
        let number = u64::from_be_bytes(std::array::from_fn(|index| header[index]));
        let (length, offset) = (word(8), word(12));
        if length > MAX_CONTEXT_OCTETS {
            return Err(PiecesError::TooLarge(length));
        }
        if offset >= length || offset % PIECE_OCTETS != 0 {
            return Err(PiecesError::Malformed);
        }
        let expected = (length - offset).min(PIECE_OCTETS);
        // The block may be longer by its padding, and by nothing else.
        if rest.len() != (HEADER + expected).next_multiple_of(8) - HEADER {
            return Err(PiecesError::Malformed);
        }
        let (octets, padding) = rest.split_at(expected);
        if padding.iter().any(|octet| *octet != 0) {
            return Err(PiecesError::Malformed);
        }
        Ok(Self { number, length, offset, octets })
    }
}
