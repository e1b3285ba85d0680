//! A thin layer over the `toml` crate's spanned document: typed access that collects every problem
//! with its place instead of stopping at the first, and that refuses keys nobody asked for.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::Problem;

/// Problems beyond these are not told: who has repaired the first thousand asks again.
const MAX_PROBLEMS: usize = 1000;

/// The text being read and the problems found so far.
pub(super) struct Source<'a> {
    path: &'a Path,
    text: &'a str,
    problems: RefCell<Vec<Problem>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, problems: RefCell::default() }
    }

    /// Parses the text, noting syntax errors. The table holds what could be recovered.
    pub(super) fn document(&self) -> Spanned<DeTable<'a>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            self.report(span, "", error.message(), "correct the TOML syntax (https://toml.io)");
        }
        table
    }

    pub(super) fn path(&self) -> &'a Path {
        self.path
    }

    pub(super) fn report(
        &self,
        span: Range<usize>,
        field: &str,
        message: impl Display,
        remedy: impl Display,
    ) {
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

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
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
pub(super) struct Place {
    span: Range<usize>,
    field: String,
}

impl Place {
    pub(super) fn report(&self, source: &Source<'_>, message: impl Display, remedy: impl Display) {
        source.report(self.span.clone(), &self.field, message, remedy);
    }
}

/// A table of the document, or the empty table that stands for an absent one.
pub(super) struct Section<'s, 'a> {
    source: &'s Source<'a>,
    table: Option<&'s DeTable<'a>>,
    span: Range<usize>,
    field: String,
    known: RefCell<Vec<&'static str>>,
}

impl<'s, 'a> Section<'s, 'a> {
    pub(super) fn root(source: &'s Source<'a>, document: &'s Spanned<DeTable<'a>>) -> Self {
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

    pub(super) fn source(&self) -> &'s Source<'a> {
        self.source
    }

    /// Renames the section in messages, e.g. `tunnel[3]` to `tunnel.site-a`.
    pub(super) fn rename(&mut self, field: String) {
        self.field = field;
    }

    pub(super) fn place(&self) -> Place {
        Place { span: self.span.clone(), field: self.field.clone() }
    }

    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    pub(super) fn get(&self, key: &'static str) -> Option<Item<'s, 'a>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        let value = self.table?.get(key)?;
        Some(Item { source: self.source, value, field: self.name_of(key) })
    }

    /// As [`Self::get`]; an absent key is a problem.
    pub(super) fn require(&self, key: &'static str, remedy: &str) -> Option<Item<'s, 'a>> {
        let item = self.get(key);
        if item.is_none() {
            let message = format!("`{key}` is missing");
            self.source.report(self.span.clone(), &self.name_of(key), message, remedy);
        }
        item
    }

    /// The table under `key`; an absent one reads as empty, so that its defaults and demands apply.
    pub(super) fn section(&self, key: &'static str) -> Section<'s, 'a> {
        let item = self.get(key);
        let span = item.as_ref().map_or(self.span.clone(), |item| item.value.span());
        let table = item.and_then(|item| item.table());
        Section::new(self.source, table, span, self.name_of(key))
    }

    /// The tables of the array of tables under `key`, e.g. every `[[tunnel]]`.
    pub(super) fn sections(&self, key: &'static str) -> Vec<Section<'s, 'a>> {
        let Some(item) = self.get(key) else { return Vec::new() };
        let entry = |item: Item<'s, 'a>| {
            let span = item.value.span();
            let table = item.table()?;
            Some(Section::new(item.source, Some(table), span, item.field))
        };
        item.array().into_iter().filter_map(entry).collect()
    }

    /// Refuses the keys that nobody asked for. Call it last.
    pub(super) fn finish(&self) {
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

/// One value of the document.
pub(super) struct Item<'s, 'a> {
    source: &'s Source<'a>,
    value: &'s Spanned<DeValue<'a>>,
    field: String,
}

impl<'s, 'a> Item<'s, 'a> {
    pub(super) fn place(&self) -> Place {
        Place { span: self.value.span(), field: self.field.clone() }
    }

    pub(super) fn report(&self, message: impl Display, remedy: impl Display) {
        self.source.report(self.value.span(), &self.field, message, remedy);
    }

    fn mismatch<T>(&self, wanted: &str) -> Option<T> {
        let found = kind(self.value.get_ref());
        self.report(format!("{found} stands where {wanted} is wanted"), format!("write {wanted}"));
        None
    }

    pub(super) fn is_string(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }

    pub(super) fn string(&self) -> Option<&'s str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => self.mismatch("a string in quotes"),
        }
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.mismatch("true or false"),
        }
    }

    pub(super) fn integer(&self, allowed: RangeInclusive<u64>) -> Option<u64> {
        let DeValue::Integer(digits) = self.value.get_ref() else {
            return self.mismatch("an integer");
        };
        let value = i128::from_str_radix(digits.as_str(), digits.radix()).ok();
        let value = value.and_then(|v| u64::try_from(v).ok()).filter(|v| allowed.contains(v));
        if value.is_none() {
            let range = format!("{}..={}", allowed.start(), allowed.end());
            self.report(format!("{digits} is outside {range}"), format!("choose a value of {range}"));
        }
        value
    }

    pub(super) fn array(&self) -> Vec<Item<'s, 'a>> {
        let DeValue::Array(values) = self.value.get_ref() else {
            self.mismatch::<()>("an array");
            return Vec::new();
        };
        let item = |(n, value)| Item { source: self.source, value, field: format!("{}[{n}]", self.field) };
        values.iter().enumerate().map(item).collect()
    }

    /// One of a few words, each with its meaning.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.string()?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            let remedy = match nearest(text, &names) {
                Some(name) => format!("did you mean \"{name}\"?"),
                None => format!("use one of \"{}\"", names.join("\", \"")),
            };
            self.report(format!("\"{}\" is not known here", shortened(text)), remedy);
        }
        found.map(|(_, value)| *value)
    }

    fn table(&self) -> Option<&'s DeTable<'a>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => self.mismatch("a table"),
        }
    }
}

/// Foreign text for a message: bounded, without control characters.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(48).flat_map(char::escape_debug).collect();
    if text.chars().nth(48).is_some() {
        short.push_str("...");
    }
    short
}

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}

/// The known name that differs from `key` by at most a third of its letters.
pub(super) fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    if key.len() > 64 {
        return None;
    }
    let distance = |name: &&&str| edit_distance(key, name);
    let best = known.iter().min_by_key(distance)?;
    (edit_distance(key, best) * 3 <= best.len().max(3)).then_some(*best)
}

/// Levenshtein's distance in characters.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
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

    #[test]
    fn nearest_name_is_offered_only_when_near() {
        assert_eq!(nearest("remote_selector", &["remote", "remote_selectors"]), Some("remote_selectors"));
        assert_eq!(nearest("colour", &["name", "local"]), None);
    }
}
