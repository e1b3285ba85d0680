//! Sections and settings as the files have them, before anything is inherited.

use std::collections::HashMap;

use zeroize::Zeroizing;

/// Where something stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Origin {
    /// Among the files that were read.
    pub(super) file: usize,
    /// From 1.
    pub(super) line: u32,
}

/// Named things in the order in which they came.
#[derive(Debug)]
pub(super) struct Ordered<T> {
    places: HashMap<String, usize>,
    entries: Vec<(String, T)>,
}

impl<T> Default for Ordered<T> {
    fn default() -> Self {
        Self { places: HashMap::new(), entries: Vec::new() }
    }
}

impl<T> Ordered<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        self.places.get(name).map(|place| &self.entries[*place].1)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.entries.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// The one of that name, made if there is none.
    pub(super) fn entry(&mut self, name: &str, make: impl FnOnce() -> T) -> &mut T {
        let place = *self.places.entry(name.to_owned()).or_insert(self.entries.len());
        if place == self.entries.len() {
            self.entries.push((name.to_owned(), make()));
        }
        &mut self.entries[place].1
    }
}

/// A setting; one without a value says that none is to be inherited.
#[derive(Debug)]
pub(super) struct Value {
    pub(super) text: Option<Zeroizing<String>>,
    pub(super) origin: Origin,
}

/// A section.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) origin: Origin,
    /// Full names of sections that it inherits from.
    pub(super) references: Vec<String>,
    pub(super) values: Ordered<Value>,
    pub(super) sections: Ordered<Node>,
}

impl Node {
    /// The last value counts, at the place of the first.
    pub(super) fn set(&mut self, name: &str, value: Value) {
        let entry = self.values.entry(name, || Value { text: None, origin: value.origin });
        *entry = value;
    }

    /// The section of that name: one that is written twice goes on where it left off.
    pub(super) fn open(&mut self, name: &str, references: Vec<String>, origin: Origin) -> &mut Self {
        let node = self.sections.entry(name, || Self { origin, ..Self::default() });
        node.references.extend(references);
        node
    }
}
