//! Another user to run as.

use std::fs;
use std::io;
use std::path::Path;

use rustix::process::{Gid, Uid, getgid, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use thiserror::Error;

/// A user and its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    uid: Uid,
    gid: Gid,
}

/// Why a user cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UserError {
    /// Nobody of that name or number.
    #[error("there is no user {0}; create it, or correct [ike] user")]
    Unknown(String),
    /// The list of users cannot be read.
    #[error("cannot read /etc/passwd: {0}; give the user's number in [ike] user")]
    List(#[source] io::Error),
    /// Not allowed.
    #[error("cannot run as the user of [ike] user: {0}; start as root, or grant CAP_SETUID and CAP_SETGID")]
    Refused(#[source] io::Error),
}

impl User {
    /// The user of that name or number.
    ///
    /// # Errors
    /// [`UserError`].
    pub fn find(name: &str) -> Result<Self, UserError> {
        let list = fs::read_to_string("/etc/passwd").map_err(UserError::List)?;
        let found = list.lines().find_map(|line| entry(line, name));
        // A number need not stand in the list.
        let alone = || name.parse().ok().map(|number| (number, number));
        let (uid, gid) = found.or_else(alone).ok_or_else(|| UserError::Unknown(name.to_owned()))?;
        Ok(Self { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid) })
    }

    /// Gives it a file or directory.
    ///
    /// # Errors
    /// [`UserError::Refused`].
    pub fn give(&self, path: &Path) -> Result<(), UserError> {
        let given = std::os::unix::fs::lchown(path, Some(self.uid.as_raw()), Some(self.gid.as_raw()));
        given.map_err(UserError::Refused)
    }

    /// Whether this process is it already.
    pub fn is_us(&self) -> bool {
        getuid() == self.uid && getgid() == self.gid
    }

    /// For this thread, and for good.
    pub(super) fn become_it(&self) -> Result<(), UserError> {
        if self.is_us() {
            return Ok(());
        }
        let refused = |error: rustix::io::Errno| UserError::Refused(error.into());
        set_thread_groups(&[]).map_err(refused)?;
        set_thread_res_gid(self.gid, self.gid, self.gid).map_err(refused)?;
        set_thread_res_uid(self.uid, self.uid, self.uid).map_err(refused)
    }
}

/// The numbers in a line of passwd(5), if it is the user's.
fn entry(line: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = line.split(':');
    let (user, uid, gid) = (fields.next()?, fields.nth(1)?, fields.next()?);
    (user == name || uid == name).then(|| Some((uid.parse().ok()?, gid.parse().ok()?))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_name_and_number() {
        let root = User { uid: Uid::ROOT, gid: Gid::ROOT };
        assert_eq!(User::find("root").ok(), Some(root.clone()));
        assert_eq!(User::find("0").ok(), Some(root));
        let made_up = User::find("3000000000").expect("a number");
        assert_eq!(made_up.gid.as_raw(), 3_000_000_000);
        assert!(matches!(User::find("nobody at all"), Err(UserError::Unknown(_))));
        assert_eq!(entry("daemon:x:1:7:daemon:/usr/sbin:/bin/sh", "daemon"), Some((1, 7)));
        assert_eq!(entry("daemon:x:many:7::/:", "daemon"), None);
        assert_eq!(entry("", "daemon"), None);
    }
}
