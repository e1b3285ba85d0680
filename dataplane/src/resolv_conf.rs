//! A file of resolver settings (resolv.conf(5)) that names the DNS servers of tunnels while they stand.
//!
//! Its own servers are commented out meanwhile, for two reasons: a resolver that also asked them would tell them, in
//! clear, what is looked up inside; and it looks at no more than the first three. Whatever else stands there stays.
//! All that is needed to undo this stands in the file itself, so that nothing can get lost beside it: who writes it anew
//! in the meantime, such as a DHCP client, is not undone, but has the tunnels' servers put before its own again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// A larger file is none of a resolver's.
const MAX_OCTETS: u64 = 1 << 20;
/// Behind every line of ours.
const OURS: &str = "# by baton-dataplane";
/// Before every line that is put aside.
const ASIDE: &str = "#baton-dataplane# ";
/// The first line of a file that was not there before.
const MADE: &str = "# made by baton-dataplane";
/// What resolv.conf(5) calls a server.
const SERVER: &str = "nameserver";

/// Makes the file name these servers, and no others; with none, it is as if we had never touched it. Whether anything
/// changed.
///
/// # Errors
/// The file cannot be read or replaced: it is as it was.
pub fn set(path: &Path, servers: &[IpAddr]) -> io::Result<bool> {
    // What a link points at is replaced, not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let before = read(&path)?;
    let after = changed(before.as_deref(), servers);
    if before == after {
        return Ok(false);
    }
    match &after {
        Some(content) => replace(&path, content)?,
        None => fs::remove_file(&path)?,
    }
    Ok(true)
}

/// The servers that a content names without those of tunnels.
pub fn own_servers(text: &str) -> Vec<IpAddr> {
    let own = restored(text);
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(SERVER)).then(|| words.next()?.parse().ok()).flatten()
    };
    own.lines().filter_map(server).collect()
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut content = String::new();
    file.take(MAX_OCTETS + 1).read_to_string(&mut content)?;
    if content.len() as u64 > MAX_OCTETS {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too large"));
    }
    Ok(Some(content))
}

/// The content that is to be; `None` is no file.
fn changed(before: Option<&str>, servers: &[IpAddr]) -> Option<String> {
    let is_made = before.is_none_or(|text| text.starts_with(MADE));
    let own = before.map(restored).unwrap_or_default();
    match (servers, own.is_empty()) {
        ([], true) if is_made => None,
        ([], _) => Some(own),
        _ => Some(with(&own, servers, is_made)),
    }
}

/// The content without anything of ours.
fn restored(text: &str) -> String {
    let theirs = text.split_inclusive('\n').filter(|line| !is_ours(line));
    theirs.map(|line| line.strip_prefix(ASIDE).unwrap_or(line)).collect()
}

fn is_ours(line: &str) -> bool {
    line.trim_end().ends_with(OURS) || line.starts_with(MADE)
}

fn with(own: &str, servers: &[IpAddr], is_made: bool) -> String {
    let mut text = if is_made { format!("{MADE}\n") } else { String::new() };
    for server in servers {
        text.extend([SERVER, " ", &server.to_string(), " ", OURS, "\n"]);
    }
    for line in own.split_inclusive('\n') {
        if line.split_whitespace().next() == Some(SERVER) {
            text.push_str(ASIDE);
        }
        text.push_str(line);
    }
    text
}

/// Replaces it as a whole, so that nobody reads a part, with owner and mode as they were. A file that is mounted, as in
/// containers, cannot be replaced: it is overwritten.
fn replace(path: &Path, content: &str) -> io::Result<()> {
    let aside = aside(path);
    write_aside(path, &aside, content)?;
    match fs::rename(&aside, path) {
        Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
            fs::remove_file(&aside)?;
            fs::write(path, content)
        }
        other => other,
    }
}

fn write_aside(path: &Path, aside: &Path, content: &str) -> io::Result<()> {
    // One that a dead process left.
    let _ = fs::remove_file(aside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(aside)?;
    file.write_all(content.as_bytes())?;
    if let Ok(metadata) = fs::metadata(path) {
        fchown(&file, Some(metadata.uid()), Some(metadata.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(metadata.mode() & 0o7777))?;
    }
    Ok(())
}

fn aside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".baton-new");
    name.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "search lan\nnameserver 192.168.1.1\n nameserver 192.168.1.2\noptions edns0\n";

    fn servers(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    /// The servers that a resolver would ask.
    fn asked(text: &str) -> Vec<&str> {
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.filter(|words| words.first() == Some(&SERVER)).map(|words| words[1]).collect()
    }

    #[test]
    fn servers_of_tunnels_take_the_places_of_others_and_give_them_back() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let path = directory.path().join("resolv.conf");
        fs::write(&path, OWN).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("a mode");
        let of_tunnels = servers(&["10.2.0.53", "2001:db8::53"]);
        assert!(set(&path, &of_tunnels).expect("set"));
        let text = fs::read_to_string(&path).expect("readable");
        assert_eq!(asked(&text), ["10.2.0.53", "2001:db8::53"]);
        assert!(text.contains("search lan\n") && text.contains("options edns0\n"));
        assert!(!set(&path, &of_tunnels).expect("set"), "it is as it is to be");
        assert!(set(&path, &of_tunnels[1..]).expect("set"));
        assert_eq!(asked(&fs::read_to_string(&path).expect("readable")), ["2001:db8::53"]);
        assert!(set(&path, &[]).expect("set"));
        assert_eq!(fs::read_to_string(&path).expect("readable"), OWN);
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o640);
        assert!(!set(&path, &[]).expect("set"));
    }

    #[test]
    fn who_writes_it_meanwhile_is_not_undone() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let path = directory.path().join("resolv.conf");
        fs::write(&path, OWN).expect("written");
        set(&path, &servers(&["10.2.0.53"])).expect("set");
        fs::write(&path, "nameserver 172.16.0.1\n").expect("a DHCP client");
        assert!(set(&path, &servers(&["10.2.0.53"])).expect("set"));
        assert_eq!(asked(&fs::read_to_string(&path).expect("readable")), ["10.2.0.53"]);
        set(&path, &[]).expect("set");
        assert_eq!(fs::read_to_string(&path).expect("readable"), "nameserver 172.16.0.1\n");
    }

    #[test]
    fn a_file_that_was_not_there_goes_again_and_a_link_stays() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let (path, link) = (directory.path().join("resolv.conf"), directory.path().join("link"));
        assert!(!set(&path, &[]).expect("set") && !path.exists());
        set(&path, &servers(&["10.2.0.53"])).expect("set");
        assert_eq!(asked(&fs::read_to_string(&path).expect("readable")), ["10.2.0.53"]);
        set(&path, &[]).expect("set");
        assert!(!path.exists());
        fs::write(&path, OWN).expect("written");
        std::os::unix::fs::symlink(&path, &link).expect("a link");
        set(&link, &servers(&["10.2.0.53"])).expect("set");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(asked(&fs::read_to_string(&path).expect("readable")), ["10.2.0.53"]);
        assert_eq!(fs::read_dir(directory.path()).expect("a directory").count(), 2, "nothing is left over");
    }

    #[test]
    fn what_is_no_such_file_is_left_alone() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let path = directory.path().join("resolv.conf");
        fs::write(&path, vec![b'#'; MAX_OCTETS as usize + 1]).expect("written");
        assert!(set(&path, &servers(&["10.2.0.53"])).is_err());
        fs::write(&path, [0xff, 0xfe]).expect("written");
        assert!(set(&path, &servers(&["10.2.0.53"])).is_err());
        assert_eq!(fs::read(&path).expect("readable"), [0xff, 0xfe]);
    }

    proptest! {
        #[test]
        fn nothing_of_it_stays(
            lines in prop::collection::vec("(nameserver |search |#|)[a-z0-9. ]{0,12}", 0..8),
            ends in any::<bool>(),
        ) {
            let own = lines.join("\n") + if ends { "\n" } else { "" };
            let of_tunnels = servers(&["10.2.0.53"]);
            let set = changed(Some(&own), &of_tunnels).expect("a file");
            prop_assert_eq!(asked(&set), ["10.2.0.53"]);
            prop_assert_eq!(changed(Some(&set), &of_tunnels), Some(set.clone()));
            prop_assert_eq!(changed(Some(&set), &[]), Some(own));
        }
    }
}
