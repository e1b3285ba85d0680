//! The archive that a kernel unpacks into its first root: cpio, format "newc" (Linux,
//! Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

const DIRECTORY: u32 = 0o040_755;
const FILE: u32 = 0o100_755;

/// An archive in the making. Folders appear by themselves.
#[derive(Debug, Default)]
pub(super) struct Archive {
    octets: Vec<u8>,
    present: BTreeSet<PathBuf>,
}

impl Archive {
    /// Adds an executable file, once; a second one of the same path is left out.
    pub(super) fn add(&mut self, path: &Path, content: &[u8]) {
        let path = relative(path);
        for folder in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            if folder != Path::new("") && self.present.insert(folder.to_owned()) {
                self.entry(folder, DIRECTORY, &[]);
            }
        }
        if self.present.insert(path.clone()) {
            self.entry(&path, FILE, content);
        }
    }

    /// The whole archive.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.entry(Path::new("TRAILER!!!"), 0, &[]);
        self.octets
    }

    fn entry(&mut self, path: &Path, mode: u32, content: &[u8]) {
        let name = path.display().to_string();
        let inode = self.present.len() as u32;
        let fields = [inode, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
        self.octets.extend(b"070701");
        for field in fields {
            self.octets.extend(format!("{field:08x}").bytes());
        }
        self.octets.extend(name.bytes());
        self.octets.push(0);
        self.align();
        self.octets.extend(content);
        self.align();
    }

    fn align(&mut self) {
        self.octets.resize(self.octets.len().next_multiple_of(4), 0);
    }
}

/// The path from the root, without any `..`.
fn relative(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_header_a_name_and_the_content_on_words() {
        let mut archive = Archive::default();
        archive.add(Path::new("/bin/x"), b"12345");
        archive.add(Path::new("/bin/x"), b"again");
        let octets = archive.finish();
        assert_eq!(octets.len() % 4, 0);
        assert_eq!(octets.windows(6).filter(|window| window == b"070701").count(), 3);
        let folder = 110 + 4; // header, "bin" and its NUL, then to the word
        let folder = usize::next_multiple_of(folder, 4);
        assert_eq!(&octets[110..114], b"bin\0");
        assert_eq!(&octets[folder + 54..folder + 62], b"00000005");
        let content = usize::next_multiple_of(folder + 110 + 6, 4);
        assert_eq!(&octets[content..content + 8], b"12345\0\0\0");
    }
}
