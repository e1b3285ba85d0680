//! Key material in files and in the configuration: hexadecimal, private, wiped after use.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// A key file holds a few dozen octets; more than this is some other file.
const MAX_KEY_FILE_OCTETS: usize = 4096;

/// Why a key cannot be used: what is wrong and what to do.
pub(super) struct KeyProblem {
    pub(super) message: String,
    pub(super) remedy: String,
}

impl KeyProblem {
    fn new(message: String, remedy: impl Into<String>) -> Self {
        Self { message, remedy: remedy.into() }
    }
}

/// Reads the key of `octets` octets from a private file.
pub(super) fn read_file(path: &Path, octets: usize) -> Result<Zeroizing<Vec<u8>>, KeyProblem> {
    let shown = path.display();
    let unreadable = |e: std::io::Error| {
        KeyProblem::new(format!("key file {shown}: {e}"), "create it with mode 0600, readable by this user")
    };
    // The permissions are those of the very file that is read, not of what the name meant a moment ago.
    let file = super::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(KeyProblem::new(
            format!("key file {shown} is not a file"),
            "name a file with the key in hex",
        ));
    }
    if !super::is_private(&metadata) {
        let message = format!("key file {shown} can be read by others than its owner");
        return Err(KeyProblem::new(
            message,
            format!("chmod 0600 {shown}, and change the key if it was seen"),
        ));
    }
    let mut text = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_OCTETS + 1));
    file.take(MAX_KEY_FILE_OCTETS as u64 + 1).read_to_end(&mut text).map_err(unreadable)?;
    from_hex(&text, octets).map_err(|p| KeyProblem::new(format!("key file {shown}: {}", p.message), p.remedy))
}

/// Decodes hexadecimal digits; a leading `0x` and white space around and between are allowed.
pub(super) fn from_hex(text: &[u8], octets: usize) -> Result<Zeroizing<Vec<u8>>, KeyProblem> {
    let text = text.trim_ascii();
    let text = text.strip_prefix(b"0x").unwrap_or(text);
    // Room for all digits at once: a vector that grows leaves copies behind.
    let mut digits = Zeroizing::new(Vec::with_capacity(text.len()));
    digits.extend(text.iter().copied().filter(|c| !c.is_ascii_whitespace()));
    if let Some(at) = digits.iter().position(|c| !c.is_ascii_hexdigit()) {
        let message = format!("character {} of the key is not a hexadecimal digit", at + 1);
        return Err(KeyProblem::new(message, format!("write {} hexadecimal digits", 2 * octets)));
    }
    if digits.len() != 2 * octets {
        let message = format!("the key has {} hexadecimal digits instead of {}", digits.len(), 2 * octets);
        let remedy = format!("write {octets} octets, e.g. made by: openssl rand -hex {octets}");
        return Err(KeyProblem::new(message, remedy));
    }
    let mut key = Zeroizing::new(vec![0; octets]);
    hex::decode_to_slice(&*digits, &mut key).expect("an even number of hexadecimal digits was just checked");
    Ok(key)
}

/// The cluster key that seals contexts: 32 octets, wiped on drop, never printed.
pub struct SnapshotKey(Zeroizing<[u8; Self::OCTETS]>);

impl SnapshotKey {
    /// Octets of the key.
    pub const OCTETS: usize = 32;

    /// Reads a private file of 64 hexadecimal digits.
    ///
    /// # Errors
    /// A sentence on the file with its remedy.
    pub fn read(path: &Path) -> Result<Self, SnapshotKeyError> {
        let octets = read_file(path, Self::OCTETS).map_err(|p| SnapshotKeyError {
            path: path.to_owned(),
            message: p.message,
            remedy: p.remedy,
        })?;
        let mut key = Zeroizing::new([0; Self::OCTETS]);
        key.copy_from_slice(&octets);
        Ok(Self(key))
    }

    /// The raw key.
    pub fn as_octets(&self) -> &[u8; Self::OCTETS] {
        &self.0
    }
}

impl fmt::Debug for SnapshotKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotKey(redacted)")
    }
}

/// The cluster key cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{message}; remedy: {remedy}")]
pub struct SnapshotKeyError {
    /// The file.
    pub path: PathBuf,
    message: String,
    remedy: String,
}
