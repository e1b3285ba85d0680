//! The data files: blocks of `name = value` lines. A line without `=` is a flag, one that begins with `#` a comment.

use std::collections::HashMap;

/// One vector.
#[derive(Debug)]
pub struct Vector(HashMap<&'static str, &'static str>);

/// All vectors of a file, which are so many.
pub fn vectors(text: &'static str, count: usize) -> Vec<Vector> {
    let vectors: Vec<_> = text.split("\n\n").map(vector).filter(|vector| !vector.0.is_empty()).collect();
    assert_eq!(vectors.len(), count, "vectors in the file");
    vectors
}

fn vector(block: &'static str) -> Vector {
    let lines = block.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    Vector(lines.map(|line| line.split_once(" =").map_or((line, ""), |(name, v)| (name, v.trim()))).collect())
}

impl Vector {
    /// Whether it has this line.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// A value as it stands there.
    pub fn text(&self, name: &str) -> &'static str {
        self.0.get(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    /// A hexadecimal value.
    pub fn octets(&self, name: &str) -> Vec<u8> {
        hex::decode(self.text(name)).unwrap_or_else(|error| panic!("{name} of {self:?}: {error}"))
    }
}
