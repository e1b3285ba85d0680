//! A thin layer over the `toml` crate's spanned document: typed access that collects every problem
//! with its place instead of stopping at the first, and that refuses keys nobody asked for.
//!
//! Every daemon that reads a part of the configuration reads it through here.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::problem::{ConfigErrors, Problem};

mod item;
mod text;

pub use item::{Item, Word};
pub use text::{nearest, shortened};

/// The document as `toml` has read it.
pub type Document<'a> = Spanned<DeTable<'a>>;

/// Problems beyond these are not told: who has repaired the first thousand asks again.
const MAX_PROBLEMS: usize = 1000;

/// The text being read and the problems found so far.
pub struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    /// A text as if it stood in `path`, which need not exist.
    pub fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, problems: RefCell::default() }
    }

    /// Parses the text, noting syntax errors. The table holds what could be recovered.
    pub fn document(&self) -> Document<'a> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.report(span, "", error.message(), "correct the TOML syntax (https://toml.io)");
        }
        table
    }

    /// Where the text stands.
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// Notes a problem of the octets `span`.
    pub fn report(&self, span: Range<usize>, field: &str, message: impl Display, remedy: impl Display) {
        if self.problems.borrow().len() >= MAX_PROBLEMS {
            return;
        }
        let (line, column) = position(self.text, span.start);
        self.problems.borrow_mut().push(Problem {
            file: self.path.to_owned(),
            line,
            column,
            field: field.to_owned(),
            message: message.to_string(),
            remedy: remedy.to_string(),
        });
    }

    /// Whether there is any.
    pub fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    /// All of them, in the order of the text.
    pub fn into_errors(self) -> ConfigErrors {
        ConfigErrors::new(self.problems.into_inner())
    }
}

/// Line and column (from 1, in characters) of an octet offset.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut end = offset.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let before = &text[..end];
    let line_start = before.rfind('\n').map_or(0, |n| n + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// A place that problems can be reported at after the value itself was converted.
#[derive(Clone, Debug)]
pub struct Place {
    span: Range<usize>,
    field: String,
}

impl Place {
    /// Notes a problem there.
    pub fn report(&self, source: &Source<'_>, message: impl Display, remedy: impl Display) {
        source.report(self.span.clone(), &self.field, message, remedy);
    }
}

/// A table of the document, or the empty table that stands for an absent one.
pub struct Section<'s, 'a> {
    source: &'s Source<'a>,
    table: Option<&'s DeTable<'a>>,
    span: Range<usize>,
    field: String,
    known: RefCell<Vec<&'static str>>,
}

impl<'s, 'a> Section<'s, 'a> {
    /// The whole document.
    pub fn root(source: &'s Source<'a>, document: &'s Document<'a>) -> Self {
        Self::new(source, Some(document.get_ref()), 0..0, String::new())
    }

    fn new(
        source: &'s Source<'a>,
        table: Option<&'s DeTable<'a>>,
        span: Range<usize>,
        field: String,
    ) -> Self {
        Self { source, table, span, field, known: RefCell::default() }
    }

    /// The text that it is part of.
    pub fn source(&self) -> &'s Source<'a> {
        self.source
    }

    /// Renames the section in messages, e.g. `tunnel[3]` to `tunnel.site-a`.
    pub fn rename(&mut self, field: String) {
        self.field = field;
    }

    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { span: self.span.clone(), field: self.field.clone() }
    }

    /// Whether the document has it.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// The value under `key`, which is known from here on.
    pub fn get(&self, key: &'static str) -> Option<Item<'s, 'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let value = self.table?.get(key)?;
        Some(Item { source: self.source, value, field: self.name_of(key) })
    }

    /// As [`Self::get`]; an absent key is a problem.
    pub fn require(&self, key: &'static str, remedy: &str) -> Option<Item<'s, 'a>> {
        let item = self.get(key);
        if item.is_none() {
            let message = format!("`{key}` is missing");
            self.source.report(self.span.clone(), &self.name_of(key), message, remedy);
        }
        item
    }

    /// The table under `key`; an absent one reads as empty, so that its defaults and demands apply.
    #[must_use]
    pub fn section(&self, key: &'static str) -> Section<'s, 'a> {
        let item = self.get(key);
        let span = item.as_ref().map_or(self.span.clone(), |item| item.value.span());
        let table = item.and_then(|item| item.table());
        Section::new(self.source, table, span, self.name_of(key))
    }

    /// The tables of the array of tables under `key`, e.g. every `[[tunnel]]`.
    pub fn sections(&self, key: &'static str) -> Vec<Section<'s, 'a>> {
        let Some(item) = self.get(key) else { return Vec::new() };
        let entry = |item: Item<'s, 'a>| {
            let span = item.value.span();
            let table = item.table()?;
            Some(Section::new(item.source, Some(table), span, item.field))
        };
        item.array().into_iter().filter_map(entry).collect()
    }

    /// The tables in this one, whatever their names, with the names, in the order of the text.
    pub fn named(&self) -> Vec<(Word<'s, 'a>, Section<'s, 'a>)> {
        let mut entries: Vec<_> = self.table.iter().flat_map(|table| table.iter()).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entry = |(key, value): (&'s Spanned<_>, &'s Spanned<_>)| {
            let name: &'s str = AsRef::<str>::as_ref(key.get_ref());
            let field = self.name_of(name);
            let table = Item { source: self.source, value, field: field.clone() }.table()?;
            let place = Place { span: key.span(), field: field.clone() };
            let word = Word { source: self.source, place, text: name };
            Some((word, Section::new(self.source, Some(table), key.span(), field)))
        };
        entries.into_iter().filter_map(entry).collect()
    }

    /// Leaves these keys to another reader.
    pub fn leave(&self, keys: &[&'static str]) {
        self.known.borrow_mut().extend(keys);
    }

    /// Refuses the keys that nobody asked for. Call it last.
    pub fn finish(&self) {
        let known = self.known.borrow();
        let unknown = |key: &&Spanned<_>| !known.iter().any(|k| AsRef::<str>::as_ref(key.get_ref()) == *k);
        for key in self.table.iter().flat_map(|t| t.keys()).filter(unknown) {
            let remedy = match nearest(key.get_ref(), &known) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("remove it; known here: {}", known.join(", ")),
            };
            let field = self.name_of(key.get_ref());
            self.source.report(key.span(), &field, "this key is not known", remedy);
        }
    }

    fn name_of(&self, key: &str) -> String {
        if self.field.is_empty() { key.to_owned() } else { format!("{}.{key}", self.field) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        assert_eq!(position("", 0), (1, 1));
        assert_eq!(position("a\nbc", 3), (2, 2));
        assert_eq!(position("ä = 1", 3), (1, 3));
        assert_eq!(position("ä", 1), (1, 1), "inside a character");
        assert_eq!(position("ab", 99), (1, 3));
    }
}
