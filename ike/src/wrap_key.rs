//! The key under which the protocol seals the keys in its contexts: of the cluster, so that every gateway of it opens
//! them, or else of this gateway, as long as it runs.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use baton_dataplane::config::SnapshotKey;
use baton_ike_proto::crypto::WrapKey;
use zeroize::Zeroizing;

use crate::daemon::{DaemonError, file};

/// What the key is for: nothing else that comes from the cluster key is the same.
const PURPOSE: &str = "baton ike context";
const OCTETS: usize = 32;

/// The key from the cluster key's file, or without one from a file of our own in `directory`, which is made if it is
/// not there.
///
/// # Errors
/// If a file cannot be used.
pub fn load(cluster_key: Option<&Path>, directory: &Path) -> Result<WrapKey, DaemonError> {
    match cluster_key {
        Some(path) => Ok(WrapKey::derive(SnapshotKey::read(path)?.as_octets(), PURPOSE)),
        None => own(&directory.join("key")),
    }
}

fn own(path: &Path) -> Result<WrapKey, DaemonError> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path);
    let mut key = Zeroizing::new([0; OCTETS]);
    match opened {
        Ok(mut opened) => {
            let metadata = opened.metadata().map_err(file("examine", path))?;
            if !metadata.is_file() || metadata.mode() & 0o077 != 0 || metadata.len() != OCTETS as u64 {
                let problem = "it is not a private file of 32 octets; remove it, and tunnels begin anew";
                return Err(file("use", path)(std::io::Error::other(problem)));
            }
            opened.read_exact(&mut *key).map_err(file("read", path))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => make(path, &mut key)?,
        Err(error) => return Err(file("open", path)(error)),
    }
    Ok(WrapKey::new(*key))
}

/// By renaming, so that no half of a key is ever found.
fn make(path: &Path, key: &mut Zeroizing<[u8; OCTETS]>) -> Result<(), DaemonError> {
    let no_random = |_| std::io::Error::other("the system gives no randomness");
    SystemRandom::new().fill(&mut **key).map_err(no_random).map_err(file("make", path))?;
    let unfinished = path.with_extension("new");
    let _ = fs::remove_file(&unfinished);
    let mut created = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(file("create", &unfinished))?;
    created.write_all(&**key).map_err(file("write", &unfinished))?;
    fs::rename(&unfinished, path).map_err(file("rename", path))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_restart_has_the_same_key() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        load(None, directory.path()).expect("made");
        let path = directory.path().join("key");
        let key = fs::read(&path).expect("readable");
        assert_eq!((key.len(), fs::metadata(&path).expect("there").mode() & 0o777), (OCTETS, 0o600));
        assert_ne!(key, [0; OCTETS]);
        load(None, directory.path()).expect("found");
        assert_eq!(fs::read(&path).expect("readable"), key);
    }

    #[test]
    fn a_key_that_others_saw_or_cut_is_none() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let path = directory.path().join("key");
        for (octets, mode) in [(OCTETS, 0o644), (OCTETS - 1, 0o600)] {
            let _ = fs::remove_file(&path);
            fs::write(&path, vec![7; octets]).expect("written");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
            assert!(load(None, directory.path()).is_err());
        }
    }
}
