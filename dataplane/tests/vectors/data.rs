//! The data files: blocks of `name = value` lines. A line without `=` is a flag, one that begins with `#` a comment.

use std::collections::HashMap;

use baton_sad::Suite;

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

    /// The suite of this name.
    pub fn suite(&self) -> Suite {
        suite(self.text("suite"))
    }

    /// The sequence number, and whether it is an extended one: then it has 16 digits.
    pub fn sequence(&self) -> (u64, bool) {
        let digits = self.text("sequence");
        (u64::from_str_radix(digits, 16).unwrap(), digits.len() == 16)
    }
}

/// The suite of this name.
pub fn suite(name: &str) -> Suite {
    Suite::from_name(name).unwrap_or_else(|| panic!("no suite {name}"))
}
