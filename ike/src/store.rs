//! Contexts where a restart finds them (I6): a file for each tunnel below `RUNTIME_DIRECTORY/ike`, on tmpfs, in a
//! directory for each segment. A file is replaced by renaming, so that who dies leaves the old one or the new one (I5).
//! Keys in it are sealed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use baton_ike_proto::host::TunnelName;
use thiserror::Error;
use tracing::{error, warn};

use crate::fence::{User, UserError};

/// A context longer than this is none: dozens of Child SAs with cached responses fit.
pub const MAX_CONTEXT_OCTETS: usize = 256 * 1024;
/// What a file on its way is called until it is whole.
const UNFINISHED: &str = ".new";
/// The directory of tickets, beside those of the segments.
const TICKETS: &str = "tickets";
/// What a ticket's file is called, after its connection.
const TICKET: &str = ".ticket";
/// What a file is called that could not be used.
const BAD: &str = ".bad";

/// Why a context cannot be kept or read.
#[derive(Debug, Error)]
#[error("cannot {action} {path}: {source}; check that the file system has room and belongs to this user")]
pub struct StoreError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError { action, path, source }
}

/// The stored contexts.
#[derive(Clone, Debug)]
pub struct Store {
    directory: PathBuf,
}

/// A stored context.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its tunnel's name.
    pub name: String,
    /// As the protocol gave it.
    pub context: Vec<u8>,
}

impl Store {
    /// The store below a runtime directory, which must be there.
    ///
    /// # Errors
    /// If its directory cannot be made.
    pub fn open(runtime_directory: &Path) -> Result<Self, StoreError> {
        let directory = runtime_directory.join("ike");
        make_directory(&directory).map_err(failed("create", &directory))?;
        Ok(Self { directory })
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Gives directories and files to a user.
    ///
    /// # Errors
    /// If that is not allowed.
    pub fn give_to(&self, user: &User) -> Result<(), UserError> {
        give(&self.directory, user)
    }

    /// Keeps a context in the place of the tunnel's former one. When this returns, a restart finds it.
    ///
    /// # Errors
    /// [`StoreError`]; the former one is still there.
    pub fn put(&self, tunnel: &str, context: &[u8]) -> Result<(), StoreError> {
        let path = self.path(tunnel).map_err(failed("store", &self.directory))?;
        replace(&path, context).map_err(failed("store", &path))
    }

    /// The context of a tunnel, if there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn get(&self, tunnel: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let Ok(path) = self.path(tunnel) else { return Ok(None) };
        match read(&path) {
            Ok(context) => Ok(Some(context)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &path)(error)),
        }
    }

    /// Forgets a tunnel.
    ///
    /// # Errors
    /// [`StoreError`], if there was one and it is still there.
    pub fn remove(&self, tunnel: &str) -> Result<(), StoreError> {
        let path = self.path(tunnel).map_err(failed("remove", &self.directory))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Keeps the ticket of a connection (RFC 5723) in the place of its former one.
    ///
    /// # Errors
    /// [`StoreError`]; the former one is still there.
    pub fn put_ticket(&self, connection: &str, ticket: &[u8]) -> Result<(), StoreError> {
        let path = self.ticket_path(connection).map_err(failed("store", &self.directory))?;
        replace(&path, ticket).map_err(failed("store", &path))
    }

    /// Forgets the ticket of a connection.
    ///
    /// # Errors
    /// [`StoreError`], if there was one and it is still there.
    pub fn remove_ticket(&self, connection: &str) -> Result<(), StoreError> {
        let path = self.ticket_path(connection).map_err(failed("remove", &self.directory))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// All tickets with their connections. What cannot be read goes: without a ticket a tunnel is set up in full.
    pub fn tickets(&self) -> Vec<(String, Vec<u8>)> {
        let entries = fs::read_dir(self.directory.join(TICKETS)).into_iter().flatten().flatten();
        let mut tickets = Vec::new();
        for path in entries.map(|entry| entry.path()) {
            let name = path.file_name().and_then(|name| name.to_str());
            let name = name.and_then(|name| name.strip_suffix(TICKET)).map(ToOwned::to_owned);
            match (name, read(&path)) {
                (Some(name), Ok(ticket)) => tickets.push((name, ticket)),
                _ => {
                    let _ = fs::remove_file(&path);
                }
            }
        }
        tickets
    }

    fn ticket_path(&self, connection: &str) -> io::Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if connection.is_empty() || !connection.chars().all(plain) {
            return Err(io::Error::other("this is no connection's name"));
        }
        Ok(self.directory.join(TICKETS).join(format!("{connection}{TICKET}")))
    }

    /// Sets a context aside that cannot be used, so that an operator can look at it and nobody tries it again.
    pub fn set_aside(&self, tunnel: &str) {
        if let Ok(path) = self.path(tunnel) {
            set_aside(&path);
        }
    }

    /// Everything that is stored, in no order. What cannot be read is set aside and counted.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn read_all(&self) -> Result<(Vec<Stored>, usize), StoreError> {
        let (mut contexts, mut bad) = (Vec::new(), 0);
        let segments = fs::read_dir(&self.directory).map_err(failed("read", &self.directory))?;
        let is_segment = |entry: &fs::DirEntry| {
            entry.file_name() != TICKETS && entry.file_type().is_ok_and(|kind| kind.is_dir())
        };
        for segment in segments.flatten().filter(is_segment) {
            let files = fs::read_dir(segment.path()).map_err(failed("read", &segment.path()))?;
            for path in files.flatten().map(|entry| entry.path()) {
                match self.read_found(&path) {
                    Found::Context(stored) => contexts.push(stored),
                    Found::Bad => bad += 1,
                    Found::Nothing => {}
                }
            }
        }
        Ok((contexts, bad))
    }

    fn read_found(&self, path: &Path) -> Found {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name.ends_with(UNFINISHED) {
            // Whoever wrote it died; the one that it was to replace is there.
            let _ = fs::remove_file(path);
            return Found::Nothing;
        }
        if name.ends_with(BAD) {
            return Found::Bad;
        }
        let is_in_place = self.path(name).is_ok_and(|place| place == path);
        match read(path) {
            Ok(context) if is_in_place => Found::Context(Stored { name: name.to_owned(), context }),
            Ok(_) => Found::refuse(path, "it is no tunnel's name, or not in its segment's directory"),
            Err(error) => Found::refuse(path, &error.to_string()),
        }
    }

    /// A file name and nothing else: names come from files and clients too.
    fn path(&self, tunnel: &str) -> io::Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let parsed = TunnelName::parse(tunnel).filter(|_| tunnel.chars().all(plain));
        let (_, number) = parsed.ok_or_else(|| io::Error::other("this is no tunnel's name"))?;
        Ok(self.directory.join(format!("{:02x}", number >> 24)).join(tunnel))
    }
}

/// What a file turned out to be.
enum Found {
    Context(Stored),
    Nothing,
    Bad,
}

impl Found {
    fn refuse(path: &Path, problem: &str) -> Self {
        error!(path = %path.display(), problem, "a stored context cannot be used and is set aside");
        set_aside(path);
        Self::Bad
    }
}

fn set_aside(path: &Path) {
    let aside = with_suffix(path, BAD);
    if let Err(error) = fs::rename(path, &aside) {
        warn!(path = %path.display(), %error, "a bad context cannot be set aside");
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn give(path: &Path, user: &User) -> Result<(), UserError> {
    user.give(path)?;
    // What goes away meanwhile needs no owner; links are not followed.
    let is_directory = fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let entries = is_directory.then(|| fs::read_dir(path).ok()).flatten().into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).try_for_each(|path| give(&path, user))
}

fn make_directory(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        result => result,
    }
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let unfinished = with_suffix(path, UNFINISHED);
    let mut file = match create(&unfinished) {
        // The first tunnel of its segment.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            make_directory(path.parent().unwrap_or(path))?;
            create(&unfinished)?
        }
        // What a dead process left.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(&unfinished)?;
            create(&unfinished)?
        }
        other => other?,
    };
    file.write_all(content)?;
    fs::rename(&unfinished, path)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// A regular file of bounded size; of another kind of file, such as a pipe, nobody waits for a writer.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    let mut content = Vec::new();
    file.take(MAX_CONTEXT_OCTETS as u64 + 1).read_to_end(&mut content)?;
    if content.len() > MAX_CONTEXT_OCTETS {
        return Err(io::Error::other(format!("more than {MAX_CONTEXT_OCTETS} octets are no context")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let store = Store::open(directory.path()).expect("a store");
        (directory, store)
    }

    fn all(store: &Store) -> (Vec<(String, Vec<u8>)>, usize) {
        let (stored, bad) = store.read_all().expect("readable");
        let mut stored: Vec<_> = stored.into_iter().map(|s| (s.name, s.context)).collect();
        stored.sort();
        (stored, bad)
    }

    #[test]
    fn what_is_stored_is_found_until_it_is_forgotten() {
        let (directory, store) = store();
        store.put("home-2a000001", b"first").expect("stored");
        store.put("home-2a000001", b"second").expect("replaced");
        store.put("office-ff123456", b"other").expect("stored");
        let path = directory.path().join("ike/2a/home-2a000001");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        let again = Store::open(directory.path()).expect("the store of a successor");
        let both = [("home-2a000001", "second"), ("office-ff123456", "other")];
        assert_eq!(all(&again), (both.map(|(n, c)| (n.to_owned(), c.into())).to_vec(), 0));
        assert_eq!(again.get("home-2a000001").expect("readable"), Some(b"second".to_vec()));
        again.remove("home-2a000001").expect("removed");
        again.remove("home-2a000001").expect("gone is gone");
        assert_eq!(again.get("home-2a000001").expect("readable"), None);
        assert_eq!(all(&store).0.len(), 1);
    }

    #[test]
    fn who_dies_while_writing_leaves_the_old_one() {
        let (directory, store) = store();
        store.put("home-2a000001", b"old").expect("stored");
        let unfinished = directory.path().join("ike/2a/home-2a000001.new");
        fs::write(&unfinished, b"ha").expect("written");
        assert_eq!(all(&store), (vec![("home-2a000001".to_owned(), b"old".to_vec())], 0));
        assert!(!unfinished.exists());
        fs::write(&unfinished, b"half").expect("written");
        store.put("home-2a000001", b"new").expect("stored, whatever is left from before");
        assert_eq!(store.get("home-2a000001").expect("readable"), Some(b"new".to_vec()));
    }

    #[test]
    fn tickets_are_kept_beside_the_contexts() {
        let (directory, store) = store();
        assert!(store.tickets().is_empty());
        store.put_ticket("home", b"first").expect("stored");
        store.put_ticket("home", b"second").expect("replaced");
        store.put_ticket("..", b"dots").expect("a name like any other");
        let path = directory.path().join("ike/tickets/home.ticket");
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
        fs::write(directory.path().join("ike/tickets/home.ticket.new"), b"half").expect("written");
        let mut tickets = store.tickets();
        tickets.sort();
        let both = [("..", "dots"), ("home", "second")];
        assert_eq!(tickets, both.map(|(name, ticket)| (name.to_owned(), ticket.as_bytes().to_vec())));
        assert_eq!(all(&store), (vec![], 0), "they are no contexts");
        store.remove_ticket("home").expect("removed");
        store.remove_ticket("home").expect("gone is gone");
        assert_eq!(store.tickets().len(), 1);
        for name in ["", "a/b", "../x", "a b"] {
            assert!(store.put_ticket(name, b"x").is_err(), "{name}");
        }
    }

    #[test]
    fn names_are_no_paths() {
        let (directory, store) = store();
        for name in
            ["", ".", "..", "../x-00000000", "a/b-00000000", "a-0000000", "a b-00000000", "a-zzzzzzzz"]
        {
            assert!(store.put(name, b"x").is_err(), "{name}");
            assert_eq!(store.get(name).expect("nothing"), None, "{name}");
        }
        assert_eq!(fs::read_dir(directory.path().join("ike")).expect("readable").count(), 0);
    }

    #[test]
    fn what_cannot_be_used_is_set_aside() {
        let (directory, store) = store();
        store.put("home-2a000001", b"good").expect("stored");
        let place = directory.path().join("ike/2a");
        fs::write(place.join("elsewhere-2b000001"), b"wrong directory").expect("written");
        fs::write(place.join("noname"), b"x").expect("written");
        fs::write(place.join("long-2a000002"), vec![0; MAX_CONTEXT_OCTETS + 1]).expect("written");
        std::os::unix::fs::symlink("/etc/passwd", place.join("link-2a000003")).expect("linked");
        fs::create_dir(place.join("dir-2a000004")).expect("made");
        assert_eq!(all(&store), (vec![("home-2a000001".to_owned(), b"good".to_vec())], 5));
        assert!(place.join("noname.bad").exists());
        assert_eq!(all(&store).1, 5, "they stay known until an operator removes them");
    }
}
