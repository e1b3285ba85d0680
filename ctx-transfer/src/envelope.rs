//! The sealed stream that contexts rest and travel in.
//!
//! ```text
//! header   "BATONCTX" | version 2 | flags 2 | key id 8 | salt 32                     52 octets
//! record   last 1 bit, length 31 bits | ciphertext | tag 16                           one context each
//! record   with the last bit set and nothing in it: the end of the stream
//! ```
//!
//! The key of a stream is HKDF-SHA256(cluster key, salt) with a fresh random salt, so that it seals one stream and no
//! other; within it, a record's nonce is its number, from zero on. No state is kept between streams and none can be repeated. Each record's additional
//! data is the whole header and the record's own length word: nothing can be changed, left out, moved, cut off or
//! appended without the tag telling. In the clear variant (flag bit 0) a truncated SHA-256 over the same octets stands
//! in the place of the tag: it finds damage, not malice.

use std::io::{self, Read, Write};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::context::Context;
use crate::decode::DecodeError;

/// Octets of the header.
pub const HEADER_OCTETS: usize = 52;
/// Version of the stream.
pub const FORMAT_VERSION: u16 = 1;
/// A context is at most this long, encoded and sealed.
pub const MAX_RECORD_OCTETS: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"BATONCTX";
const FLAG_CLEAR: u16 = 1;
const TAG_OCTETS: usize = 16;
const LAST: u32 = 1 << 31;

/// The key that the nodes of a cluster share.
pub struct ClusterKey(Zeroizing<[u8; 32]>);

impl ClusterKey {
    /// A key of 32 random octets.
    pub fn new(key: &[u8; 32]) -> Self {
        let mut own = Zeroizing::new([0; 32]);
        own.copy_from_slice(key);
        Self(own)
    }

    /// A name for the key that tells nothing about it: the first 8 octets of its HMAC-SHA256 over a constant.
    pub fn id(&self) -> [u8; 8] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0[..]);
        let tag = hmac::sign(&key, b"baton context key id");
        std::array::from_fn(|i| tag.as_ref()[i])
    }

    fn stream_key(&self, salt: &[u8]) -> LessSafeKey {
        let derived = hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(&self.0[..]);
        let okm = derived
            .expand(&[b"baton context stream"], &AES_256_GCM)
            .expect("32 octets are within HKDF's bound");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

impl std::fmt::Debug for ClusterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKey(redacted)")
    }
}

/// How a stream is written.
#[derive(Clone, Copy, Debug)]
pub enum SealWith<'k> {
    /// Encrypted and authenticated.
    Key(&'k ClusterKey),
    /// Readable by everybody. For debugging, on explicit demand.
    Clear,
}

/// What a stream may be read with.
#[derive(Clone, Copy, Debug)]
pub struct OpenWith<'k> {
    /// The cluster key, if there is one.
    pub key: Option<&'k ClusterKey>,
    /// Whether a stream in clear, whose author nobody knows, is read.
    pub clear: bool,
}

/// Why a stream cannot be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SealError {
    /// A context is larger than readers accept.
    #[error(
        "the context of tunnel {name} has {octets} octets, more than the {MAX_RECORD_OCTETS} that are read back"
    )]
    TooLarge {
        /// The tunnel.
        name: String,
        /// Its encoded size.
        octets: usize,
    },
    /// The system's random generator or the cipher failed.
    #[error("{0} failed; nothing was sealed")]
    Crypto(&'static str),
    /// Writing failed.
    #[error("cannot write the contexts: {0}")]
    Io(#[from] io::Error),
}

/// Why a stream is refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another kind of file.
    #[error("this is not a Baton context file; make one with `dpctl snapshot`")]
    NotAContext,
    /// A later format.
    #[error(
        "the file has format version {0}, this release reads version {FORMAT_VERSION}; use the release that made it"
    )]
    Version(u16),
    /// Flags of a later release.
    #[error("the file uses features (flags {0:#06x}) of a later release; use that release")]
    Flags(u16),
    /// Sealed, and no key is at hand.
    #[error("the file is sealed and no cluster key is configured; set snapshot.key_file")]
    NoKey,
    /// In clear, which was not asked for.
    #[error("the file is in clear, so nobody vouches for it; pass --clear-text if you do")]
    Clear,
    /// Sealed under another key.
    #[error(
        "the file is sealed under another cluster's key (key id {found}, ours is {ours}); use that cluster's key_file"
    )]
    ForeignKey {
        /// Of the file.
        found: String,
        /// Of our key.
        ours: String,
    },
    /// A tag does not fit.
    #[error("record {0} of the file was damaged or changed; take the snapshot again")]
    Damaged(u64),
    /// The end is missing.
    #[error("the file was cut off after {0} contexts; copy it again")]
    Truncated(u64),
    /// An earlier record was refused, and whoever read it went on.
    #[error("an earlier part of the file was refused, so nothing behind it is read")]
    Refused,
    /// Something follows the end.
    #[error("data follows the end of the file; it was damaged or changed, copy it again")]
    Trailing,
    /// The content is not a context.
    #[error("context {number} of the file cannot be used: {source}")]
    Content {
        /// Counted from 1.
        number: u64,
        /// Why.
        source: DecodeError,
    },
    /// Reading failed.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
}

/// Seals or opens the records of one stream, in order.
struct Records {
    key: Option<LessSafeKey>,
    header: [u8; HEADER_OCTETS],
    number: u64,
}

impl Records {
    fn next(&mut self, length: u32) -> (Nonce, [u8; HEADER_OCTETS + 4]) {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.number.to_be_bytes());
        self.number += 1;
        let mut associated = [0; HEADER_OCTETS + 4];
        associated[..HEADER_OCTETS].copy_from_slice(&self.header);
        associated[HEADER_OCTETS..].copy_from_slice(&length.to_be_bytes());
        (Nonce::assume_unique_for_key(nonce), associated)
    }

    fn seal(&mut self, length: u32, body: &mut Vec<u8>) -> Result<(), SealError> {
        let number = self.number;
        let (nonce, associated) = self.next(length);
        if let Some(key) = &self.key {
            let sealed = key.seal_in_place_append_tag(nonce, Aad::from(&associated), body);
            return sealed.map_err(|_| SealError::Crypto("AES-256-GCM"));
        }
        let sum = checksum(number, &associated, body);
        body.extend_from_slice(&sum);
        Ok(())
    }

    /// Opens in place; gives the content's length.
    fn open(&mut self, length: u32, body: &mut [u8]) -> Option<usize> {
        let number = self.number;
        let (nonce, associated) = self.next(length);
        let content = body.len().checked_sub(TAG_OCTETS)?;
        match &self.key {
            Some(key) => {
                key.open_in_place(nonce, Aad::from(&associated), body).ok().map(|opened| opened.len())
            }
            None => (checksum(number, &associated, &body[..content]) == body[content..]).then_some(content),
        }
    }
}

fn checksum(number: u64, associated: &[u8], body: &[u8]) -> [u8; TAG_OCTETS] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(&number.to_be_bytes());
    context.update(associated);
    context.update(body);
    let sum = context.finish();
    std::array::from_fn(|i| sum.as_ref()[i])
}

/// Writes contexts to a sealed stream, one at a time. Without [`Self::finish`] the stream is refused as cut off.
pub struct ContextWriter<W: Write> {
    out: W,
    records: Records,
}

impl<W: Write> ContextWriter<W> {
    /// Starts a stream.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn new(mut out: W, with: SealWith<'_>) -> Result<Self, SealError> {
        let mut salt = [0; 32];
        getrandom::fill(&mut salt).map_err(|_| SealError::Crypto("the system's random generator"))?;
        let (flags, id, key) = match with {
            SealWith::Key(key) => (0, key.id(), Some(key.stream_key(&salt))),
            SealWith::Clear => (FLAG_CLEAR, [0; 8], None),
        };
        let mut header = [0; HEADER_OCTETS];
        header[..8].copy_from_slice(MAGIC);
        header[8..10].copy_from_slice(&FORMAT_VERSION.to_be_bytes());
        header[10..12].copy_from_slice(&flags.to_be_bytes());
        header[12..20].copy_from_slice(&id);
        header[20..].copy_from_slice(&salt);
        out.write_all(&header)?;
        Ok(Self { out, records: Records { key, header, number: 0 } })
    }

    /// Appends a context.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn write(&mut self, context: &Context) -> Result<(), SealError> {
        let encoded = context.encode();
        let octets = encoded.len() + TAG_OCTETS;
        if octets > MAX_RECORD_OCTETS {
            return Err(SealError::TooLarge { name: context.name.to_string(), octets });
        }
        // Room for the tag, so that sealing in place does not leave the content behind in a smaller buffer.
        let mut body = Zeroizing::new(Vec::with_capacity(octets));
        body.extend_from_slice(&encoded);
        self.record(octets as u32, &mut body)
    }

    /// Ends the stream and gives the output back, flushed.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn finish(mut self) -> Result<W, SealError> {
        self.record(TAG_OCTETS as u32 | LAST, &mut Vec::new())?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn record(&mut self, length: u32, body: &mut Vec<u8>) -> Result<(), SealError> {
        self.records.seal(length, body)?;
        self.out.write_all(&length.to_be_bytes())?;
        Ok(self.out.write_all(body)?)
    }
}

/// Reads contexts from a sealed stream, one at a time.
pub struct ContextReader<R: Read> {
    input: R,
    records: Records,
    contexts: u64,
    state: State,
}

/// How far a reader is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Reading,
    Ended,
    Refused,
}

impl<R: Read> ContextReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn new(mut input: R, with: OpenWith<'_>) -> Result<Self, OpenError> {
        let mut header = [0; HEADER_OCTETS];
        let read = read_up_to(&mut input, &mut header)?;
        if read < MAGIC.len() || !header.starts_with(MAGIC) {
            return Err(OpenError::NotAContext);
        }
        if read < HEADER_OCTETS {
            return Err(OpenError::Truncated(0));
        }
        let version = u16::from_be_bytes([header[8], header[9]]);
        if version != FORMAT_VERSION {
            return Err(OpenError::Version(version));
        }
        let key = match u16::from_be_bytes([header[10], header[11]]) {
            0 => Some(choose_key(&header, with.key)?),
            FLAG_CLEAR if with.clear => None,
            FLAG_CLEAR => return Err(OpenError::Clear),
            flags => return Err(OpenError::Flags(flags)),
        };
        Ok(Self { input, records: Records { key, header, number: 0 }, contexts: 0, state: State::Reading })
    }

    /// Whether the stream is sealed rather than in clear.
    pub fn is_sealed(&self) -> bool {
        self.records.key.is_some()
    }

    /// The next context; `None` at the end of the stream, which was then checked to be the end of the input.
    ///
    /// # Errors
    /// [`OpenError`]; after an error there is nothing more to read, only [`OpenError::Refused`].
    #[allow(
        clippy::should_implement_trait,
        reason = "an iterator of results would let its user go on after an error"
    )]
    pub fn next(&mut self) -> Result<Option<Context>, OpenError> {
        match self.state {
            State::Ended => return Ok(None),
            State::Refused => return Err(OpenError::Refused),
            State::Reading => {}
        }
        let read = self.read();
        self.state = match &read {
            Ok(Some(_)) => State::Reading,
            Ok(None) => State::Ended,
            Err(_) => State::Refused,
        };
        read
    }

    fn read(&mut self) -> Result<Option<Context>, OpenError> {
        let number = self.records.number;
        let mut word = [0; 4];
        self.fill(&mut word)?;
        let word = u32::from_be_bytes(word);
        let length = (word & !LAST) as usize;
        if !(TAG_OCTETS..=MAX_RECORD_OCTETS).contains(&length) {
            return Err(OpenError::Damaged(number));
        }
        let mut body = Zeroizing::new(vec![0; length]);
        self.fill(&mut body)?;
        let content = self.records.open(word, &mut body).ok_or(OpenError::Damaged(number))?;
        if word & LAST != 0 {
            return self.end(content, number).map(|()| None);
        }
        self.contexts += 1;
        let decoded = Context::decode(&body[..content]);
        decoded.map(Some).map_err(|source| OpenError::Content { number: self.contexts, source })
    }

    fn end(&mut self, content: usize, number: u64) -> Result<(), OpenError> {
        if content != 0 {
            return Err(OpenError::Damaged(number));
        }
        match read_up_to(&mut self.input, &mut [0])? {
            0 => Ok(()),
            _ => Err(OpenError::Trailing),
        }
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), OpenError> {
        if read_up_to(&mut self.input, buffer)? == buffer.len() {
            return Ok(());
        }
        Err(OpenError::Truncated(self.contexts))
    }
}

fn choose_key(header: &[u8; HEADER_OCTETS], key: Option<&ClusterKey>) -> Result<LessSafeKey, OpenError> {
    let key = key.ok_or(OpenError::NoKey)?;
    if header[12..20] != key.id() {
        let mut found = [0; 8];
        found.copy_from_slice(&header[12..20]);
        return Err(OpenError::ForeignKey { found: hex(found), ours: hex(key.id()) });
    }
    Ok(key.stream_key(&header[20..]))
}

fn hex(id: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(id))
}

/// Reads until the buffer is full or the input ends; gives how much was read.
fn read_up_to(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
