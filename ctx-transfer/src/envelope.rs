//! A file or stream of contexts: a header, then one chunk per context.
//!
//! Sealed, each chunk is AES-256-GCM under a key of this file alone, derived by HKDF-SHA256 (RFC 5869) from the
//! cluster key and 32 random octets in the header. The nonce is the chunk's number, which the single-use key makes
//! safe; the whole header and a mark on the last chunk are authenticated with each (the STREAM construction of
//! Hoang, Reyhanitabar, Rogaway and Vizar, CRYPTO 2015), so that a chunk missing, moved, repeated or cut off shows.
//! In clear, SHA-256 takes the tag's place: against accidents, not against people.

use std::io::{self, ErrorKind, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::codec::{CodecError, MAX_CONTEXT};
use crate::context::Context;

const MAGIC: &[u8; 8] = b"BATONCTX";
/// The format's version: what a reader of another version cannot skip changed.
const VERSION: u8 = 1;
const SEALED: u8 = 1;
const KEY_ID: std::ops::Range<usize> = 12..20;
const SALT: std::ops::Range<usize> = 20..52;
const HEADER: usize = 52;
const TAG: usize = 16;
/// In a chunk's length field: no chunk follows.
const LAST: u32 = 1 << 31;

/// The key under which the nodes of a cluster seal contexts for each other.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct ClusterKey([u8; 32]);

impl ClusterKey {
    /// From its 32 octets.
    pub fn new(octets: &[u8; 32]) -> Self {
        Self(*octets)
    }

    /// Tells keys apart without telling anything about them.
    fn id(&self) -> [u8; 8] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, b"baton context key id");
        let mut id = [0; 8];
        id.copy_from_slice(&tag.as_ref()[..8]);
        id
    }

    fn of_file(&self, salt: &[u8]) -> Result<LessSafeKey, Unkeyed> {
        let extracted = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.0);
        let okm = extracted.expand(&[b"baton context v1"], &AES_256_GCM).map_err(|_| Unkeyed)?;
        Ok(LessSafeKey::new(UnboundKey::from(okm)))
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(..)")
    }
}

/// The library refused to work.
#[derive(Debug)]
struct Unkeyed;

/// How contexts are protected.
#[derive(Clone, Copy, Debug)]
pub enum Protection<'a> {
    /// Sealed under the cluster key.
    Sealed(&'a ClusterKey),
    /// Not at all: the keys of the SAs stand there for everyone to read.
    Clear,
}

/// Why contexts cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The medium.
    #[error("cannot write the context: {0}; check the medium and its free space")]
    Io(#[from] io::Error),
    /// The context.
    #[error("a context cannot be encoded: {0}")]
    Codec(#[from] CodecError),
    /// No random octets, or the cipher failed.
    #[error("the cipher or the system's random numbers failed; try again")]
    Crypto,
    /// Nothing to write.
    #[error("there is no context to write")]
    Empty,
}

/// Why octets are refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The medium.
    #[error("cannot read the context: {0}; check the file's name and permissions")]
    Io(io::Error),
    /// Something else.
    #[error("this is no file of Baton contexts; make one with `dpctl snapshot`")]
    Foreign,
    /// Another format version.
    #[error(
        "this context has format version {0}, this release reads version {VERSION}; use the release that made it"
    )]
    Version(u8),
    /// Another key.
    #[error("this context is sealed under another cluster key; use the key file of the cluster that made it")]
    OtherKey,
    /// Sealed, and there is no key.
    #[error("this context is sealed and no key is configured; set [snapshot] key_file")]
    NoKey,
    /// In clear where that is not wanted.
    #[error(
        "this context is in clear, so that nobody vouches for it; pass --clear-text to accept it all the same"
    )]
    Clear,
    /// The end is missing.
    #[error("this context is cut off; take the snapshot again, or copy the whole file")]
    Truncated,
    /// Changed after it was made.
    #[error(
        "context {0} of this file is damaged or was changed; take the snapshot again, or copy the file again"
    )]
    Damaged(u64),
    /// Sealed by someone who does not write contexts as we do.
    #[error("context {number} of this file is not understood: {source}")]
    Malformed {
        /// Its number, from 0.
        number: u64,
        /// What is wrong.
        source: CodecError,
    },
    /// Something follows the last context.
    #[error("something follows the last context; copy the file again")]
    Trailing,
}

/// What the header says, and the key of the file.
struct Header {
    octets: [u8; HEADER],
    key: Option<LessSafeKey>,
}

impl Header {
    fn new(protection: Protection<'_>) -> Result<Self, WriteError> {
        let mut octets = [0; HEADER];
        octets[..8].copy_from_slice(MAGIC);
        octets[8] = VERSION;
        let Protection::Sealed(key) = protection else { return Ok(Self { octets, key: None }) };
        octets[9] = SEALED;
        octets[KEY_ID].copy_from_slice(&key.id());
        getrandom::fill(&mut octets[SALT]).map_err(|_| WriteError::Crypto)?;
        let key = key.of_file(&octets[SALT]).map_err(|_| WriteError::Crypto)?;
        Ok(Self { octets, key: Some(key) })
    }

    fn parse(octets: [u8; HEADER], protection: Protection<'_>) -> Result<Self, FileError> {
        if octets[..8] != *MAGIC {
            return Err(FileError::Foreign);
        }
        if octets[8] != VERSION {
            return Err(FileError::Version(octets[8]));
        }
        let key = match (octets[9], protection) {
            (0, Protection::Clear) => None,
            (0, Protection::Sealed(_)) => return Err(FileError::Clear),
            (SEALED, Protection::Clear) => return Err(FileError::NoKey),
            (SEALED, Protection::Sealed(key)) if octets[KEY_ID] != key.id() => {
                return Err(FileError::OtherKey);
            }
            (SEALED, Protection::Sealed(key)) => {
                Some(key.of_file(&octets[SALT]).map_err(|_| FileError::OtherKey)?)
            }
            _ => return Err(FileError::Foreign),
        };
        if octets[10..12] != [0, 0] {
            return Err(FileError::Foreign);
        }
        Ok(Self { octets, key })
    }

    /// What is authenticated beside a chunk: the header and the chunk's length field with its mark.
    fn beside(&self, field: u32) -> [u8; HEADER + 4] {
        let mut octets = [0; HEADER + 4];
        octets[..HEADER].copy_from_slice(&self.octets);
        octets[HEADER..].copy_from_slice(&field.to_be_bytes());
        octets
    }

    fn seal(&self, number: u64, field: u32, chunk: &mut [u8]) -> Result<[u8; TAG], Unkeyed> {
        let beside = self.beside(field);
        let mut tag = [0; TAG];
        match &self.key {
            Some(key) => {
                let sealed = key.seal_in_place_separate_tag(nonce(number), Aad::from(beside), chunk);
                tag.copy_from_slice(sealed.map_err(|_| Unkeyed)?.as_ref());
            }
            None => tag = checksum(number, &beside, chunk),
        }
        Ok(tag)
    }

    fn open(&self, number: u64, field: u32, chunk: &mut [u8], tag: &[u8; TAG]) -> Result<(), Unkeyed> {
        let beside = self.beside(field);
        match &self.key {
            Some(key) => {
                let opened = key.open_in_place_separate_tag(nonce(number), Aad::from(beside), tag, chunk);
                opened.map(|_| ()).map_err(|_| Unkeyed)
            }
            None if checksum(number, &beside, chunk) == *tag => Ok(()),
            None => Err(Unkeyed),
        }
    }
}

fn nonce(number: u64) -> Nonce {
    let mut octets = [0; 12];
    octets[4..].copy_from_slice(&number.to_be_bytes());
    Nonce::assume_unique_for_key(octets)
}

fn checksum(number: u64, beside: &[u8], chunk: &[u8]) -> [u8; TAG] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&number.to_be_bytes());
    context.update(beside);
    context.update(chunk);
    let mut sum = [0; TAG];
    sum.copy_from_slice(&context.finish().as_ref()[..TAG]);
    sum
}

/// Writes contexts. The file is whole only after [`finish`](Self::finish).
pub struct ContextWriter<W: Write> {
    writer: W,
    header: Header,
    /// The chunk before the next: whether it is the last shows when the next comes.
    pending: Option<Zeroizing<Vec<u8>>>,
    number: u64,
}

impl<W: Write> ContextWriter<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn new(mut writer: W, protection: Protection<'_>) -> Result<Self, WriteError> {
        let header = Header::new(protection)?;
        writer.write_all(&header.octets)?;
        Ok(Self { writer, header, pending: None, number: 0 })
    }

    /// Adds a context.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn write(&mut self, context: &Context) -> Result<(), WriteError> {
        let next = context.encode()?;
        match self.pending.replace(next) {
            Some(chunk) => self.chunk(chunk, false),
            None => Ok(()),
        }
    }

    /// Marks the end, and gives the medium back, flushed.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn finish(mut self) -> Result<W, WriteError> {
        let chunk = self.pending.take().ok_or(WriteError::Empty)?;
        self.chunk(chunk, true)?;
        self.writer.flush()?;
        Ok(self.writer)
    }

    fn chunk(&mut self, mut chunk: Zeroizing<Vec<u8>>, last: bool) -> Result<(), WriteError> {
        let field = chunk.len() as u32 | if last { LAST } else { 0 };
        let tag = self.header.seal(self.number, field, &mut chunk).map_err(|_| WriteError::Crypto)?;
        self.number += 1;
        self.writer.write_all(&field.to_be_bytes())?;
        self.writer.write_all(&chunk)?;
        self.writer.write_all(&tag)?;
        Ok(())
    }
}

/// Reads contexts one by one; the last one has been read, and the file is whole, when it yields `None`.
pub struct ContextReader<R: Read> {
    reader: R,
    header: Header,
    number: u64,
    ended: bool,
}

impl<R: Read> ContextReader<R> {
    /// Reads the header. With [`Protection::Sealed`] only sealed files are accepted, with [`Protection::Clear`] only
    /// those in clear.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn new(mut reader: R, protection: Protection<'_>) -> Result<Self, FileError> {
        let mut octets = [0; HEADER];
        // What is too short to be ours, but does not even begin like it, is foreign rather than cut off.
        let read = read_some(&mut reader, &mut octets)?;
        if read < HEADER {
            let ours = read >= MAGIC.len() && octets[..8] == *MAGIC;
            return Err(if ours { FileError::Truncated } else { FileError::Foreign });
        }
        Ok(Self { header: Header::parse(octets, protection)?, reader, number: 0, ended: false })
    }

    fn chunk(&mut self) -> Result<Context, FileError> {
        let mut field = [0; 4];
        self.fill(&mut field)?;
        let field = u32::from_be_bytes(field);
        let length = (field & !LAST) as usize;
        if length > MAX_CONTEXT {
            return Err(FileError::Damaged(self.number));
        }
        let mut chunk = Zeroizing::new(vec![0; length]);
        let mut tag = [0; TAG];
        self.fill(&mut chunk)?;
        self.fill(&mut tag)?;
        self.header
            .open(self.number, field, &mut chunk, &tag)
            .map_err(|_| FileError::Damaged(self.number))?;
        if field & LAST != 0 {
            self.ended = true;
            if read_some(&mut self.reader, &mut [0])? > 0 {
                return Err(FileError::Trailing);
            }
        }
        let number = self.number;
        self.number += 1;
        Context::decode(&chunk).map_err(|source| FileError::Malformed { number, source })
    }

    fn fill(&mut self, octets: &mut [u8]) -> Result<(), FileError> {
        if read_some(&mut self.reader, octets)? == octets.len() { Ok(()) } else { Err(FileError::Truncated) }
    }
}

/// Reads until the buffer is full or the input ends.
fn read_some(reader: &mut impl Read, octets: &mut [u8]) -> Result<usize, FileError> {
    let mut read = 0;
    while read < octets.len() {
        match reader.read(&mut octets[read..]) {
            Ok(0) => break,
            Ok(more) => read += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(FileError::Io(error)),
        }
    }
    Ok(read)
}

impl<R: Read> Iterator for ContextReader<R> {
    type Item = Result<Context, FileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let context = self.chunk();
        self.ended |= context.is_err();
        Some(context)
    }
}
