//! The configuration: one TOML file, validated whole.
//!
//! [`Config::load`] either gives a configuration that can be used as it stands, or every problem of the file with
//! its line, its field and what to do ([`ConfigErrors`]). docs/CONFIGURATION.md describes each key.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use baton_sad::{ClusterId, NodeId};
use zeroize::Zeroizing;

use self::reader::{Document, Item, Section, Source};

pub use crate::crypto::Backend as Crypto;
pub use crate::steering::HashMode;

mod check;
mod cover;
mod dynamic;
mod encapsulation;
mod exception;
pub mod field;
mod keys;
mod lifetime;
mod local_rules;
mod model;
mod policy;
mod problem;
pub mod quantity;
pub mod reader;
mod sa;
mod sections;
mod selector;
mod selectors;
mod spd_check;
mod static_sa;
mod tunnel;

#[cfg(test)]
mod tests;

pub use dynamic::{ActionWord, DynamicPolicy, PolicySpec, PolicySpecError};
pub use keys::{SnapshotKey, SnapshotKeyError};
pub use lifetime::{LifetimeBounds, Lifetimes};
pub(crate) use local_rules::Permitted;
pub use model::{
    Acquire, Config, Encapsulation, Exception, ExceptionAction, Icmp, Inner, InnerInterface, Node, Outer,
    OuterIo, PolicyDirection, Segments, Snapshot, StaticSa, TableSection, Tunnel, Workers,
};
pub use policy::{Policy, PolicyAction};
pub use problem::{ConfigErrors, Problem};
pub use sa::cluster_id_of;
pub use selector::TrafficSelector;

/// Where daemons and `dpctl` look when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/baton/baton.toml";

/// A configuration file larger than this is refused; 100,000 tunnels fit.
const MAX_FILE_OCTETS: u64 = 64 << 20;

impl Node {
    /// Reads `[node]`, for those who need no more of the file.
    pub fn read(section: &Section<'_, '_>) -> Option<Self> {
        sections::read_node(section)
    }
}

/// The number of a member of the cluster, in a field.
pub fn node_id(item: &Item<'_, '_>) -> Option<NodeId> {
    sections::node_id(item)
}

impl Config {
    /// Reads and validates `path` whole, the key files it names included.
    ///
    /// # Errors
    /// Every problem of the file, in its order.
    pub fn load(path: &Path) -> Result<Self, ConfigErrors> {
        let (text, private) = read_text(path)?;
        Self::parse_as(&text, path, private)
    }

    /// Validates `text` as if it stood in `path`, which need not exist; key files are read relative to its
    /// directory. Inline keys are accepted only if `private` says that nobody else can read the file.
    ///
    /// # Errors
    /// Every problem of the text, in its order.
    pub fn parse_as(text: &str, path: &Path, private: bool) -> Result<Self, ConfigErrors> {
        let source = Source::new(path, text);
        let document = source.document();
        if source.has_problems() {
            // What can be recovered from broken syntax would only complain about its own gaps.
            return Err(source.into_errors());
        }
        match Self::read(&source, &document, private) {
            Some(config) if !source.has_problems() => Ok(config),
            _ => Err(source.into_errors()),
        }
    }

    /// Reads and validates the data plane's sections of a document without syntax errors, for those who read others
    /// of it. The configuration is good only if `source` has no problems afterwards.
    pub fn read<'a>(source: &Source<'a>, document: &Document<'a>, private: bool) -> Option<Self> {
        let read = sections::read(source, document, private)?;
        check::across_tunnels(source, &read.tunnels, &read.places);
        spd_check::across_policies(source, &read);
        Some(read.into_config(source.path()))
    }

    /// The SA table's file.
    pub fn table_path(&self) -> PathBuf {
        self.node.runtime_directory.join("sa-table")
    }

    /// The data plane's control socket.
    pub fn control_socket(&self) -> PathBuf {
        self.node.runtime_directory.join("control.sock")
    }

    /// The cluster's number: the first 56 bits of SHA-256 of its name.
    pub fn cluster_id(&self) -> ClusterId {
        cluster_id_of(&self.node.cluster)
    }

    /// The tunnel of that name.
    pub fn tunnel(&self, name: &str) -> Option<&Tunnel> {
        self.tunnels.get(*self.positions.get(name)?)
    }
}

/// Opens a file to read; of what is none, such as a pipe, that does not wait for a writer.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
}

/// A configuration's text, which may hold keys and so is wiped when dropped, and whether nobody else can read it.
///
/// # Errors
/// One problem of the file as such.
pub fn read_text(path: &Path) -> Result<(Zeroizing<String>, bool), ConfigErrors> {
    let refuse = |message: String, remedy: &str| ConfigErrors::of_file(path, message, remedy);
    let unreadable =
        |e: io::Error| refuse(format!("cannot be read: {e}"), "name the file with --config FILE");
    let file = open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(refuse("is not a regular file".to_owned(), "name the file with --config FILE"));
    }
    // Room for all of it at once: a text that grows leaves copies behind.
    let room = metadata.len().min(MAX_FILE_OCTETS) as usize + 1;
    let mut text = Zeroizing::new(String::with_capacity(room));
    file.take(MAX_FILE_OCTETS + 1).read_to_string(&mut text).map_err(|e| {
        refuse(format!("cannot be read: {e}"), "it must be a text file in UTF-8 that this user may read")
    })?;
    if text.len() as u64 > MAX_FILE_OCTETS {
        return Err(refuse("is too long".to_owned(), "a configuration has at most 64 MiB"));
    }
    Ok((text, is_private(&metadata)))
}

/// Neither group nor others may do anything with the file.
fn is_private(metadata: &fs::Metadata) -> bool {
    let others = metadata.permissions().mode() & 0o077;
    others == 0
}
