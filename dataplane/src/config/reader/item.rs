use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{Place, Source, nearest, shortened};

/// One value of the document.
pub struct Item<'s, 'a> {
    pub(super) source: &'s Source<'a>,
    pub(super) value: &'s Spanned<DeValue<'a>>,
    pub(super) field: String,
}

/// A piece of text with its place.
pub struct Word<'s, 'a> {
    pub(super) source: &'s Source<'a>,
    pub(super) place: Place,
    /// The text.
    pub text: &'s str,
}

impl Word<'_, '_> {
    /// Where it stands.
    pub fn place(&self) -> Place {
        self.place.clone()
    }

    /// Notes a problem of it.
    pub fn report(&self, message: impl Display, remedy: impl Display) {
        self.place.report(self.source, message, remedy);
    }
}

impl<'s, 'a> Item<'s, 'a> {
    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { span: self.value.span(), field: self.field.clone() }
    }

    /// Notes a problem of it.
    pub fn report(&self, message: impl Display, remedy: impl Display) {
        self.source.report(self.value.span(), &self.field, message, remedy);
    }

    fn mismatch<T>(&self, wanted: &str) -> Option<T> {
        let found = kind(self.value.get_ref());
        self.report(format!("{found} stands where {wanted} is wanted"), format!("write {wanted}"));
        None
    }

    /// Whether it is a string.
    pub fn is_string(&self) -> bool {
        matches!(self.value.get_ref(), DeValue::String(_))
    }

    /// A string; anything else is a problem, as with all that follow.
    pub fn string(&self) -> Option<&'s str> {
        match self.value.get_ref() {
            DeValue::String(text) => Some(text),
            _ => self.mismatch("a string in quotes"),
        }
    }

    /// A truth value.
    pub fn boolean(&self) -> Option<bool> {
        match self.value.get_ref() {
            DeValue::Boolean(value) => Some(*value),
            _ => self.mismatch("true or false"),
        }
    }

    /// An integer within bounds.
    pub fn integer(&self, allowed: RangeInclusive<u64>) -> Option<u64> {
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

    /// The values of an array.
    pub fn array(&self) -> Vec<Item<'s, 'a>> {
        let DeValue::Array(values) = self.value.get_ref() else {
            self.mismatch::<()>("an array");
            return Vec::new();
        };
        let item = |(n, value)| Item { source: self.source, value, field: format!("{}[{n}]", self.field) };
        values.iter().enumerate().map(item).collect()
    }

    /// A number, with or without a fraction, within bounds.
    pub fn number(&self, allowed: RangeInclusive<f64>) -> Option<f64> {
        let digits = match self.value.get_ref() {
            DeValue::Integer(digits) if digits.radix() == 10 => digits.as_str(),
            DeValue::Float(digits) => digits.as_str(),
            _ => return self.mismatch("a number"),
        };
        let value = digits.parse().ok().filter(|value| allowed.contains(value));
        if value.is_none() {
            let range = format!("{}..={}", allowed.start(), allowed.end());
            self.report(format!("{digits} is outside {range}"), format!("choose a value of {range}"));
        }
        value
    }

    /// Words: an array of strings, or one string with commas between them.
    pub fn words(&self) -> Vec<Word<'s, 'a>> {
        match self.value.get_ref() {
            DeValue::String(text) => {
                let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
                words.map(|text| self.word_of(text)).collect()
            }
            DeValue::Array(_) => self.array().iter().filter_map(Item::text).collect(),
            _ => self.mismatch("an array of strings").unwrap_or_default(),
        }
    }

    /// Whether this word alone stands here, as a string or as the only one of a list.
    pub fn is_only(&self, word: &str) -> bool {
        match self.value.get_ref() {
            DeValue::String(text) => text.trim() == word,
            DeValue::Array(list) => {
                matches!(&list[..], [one] if matches!(one.get_ref(), DeValue::String(text) if text == word))
            }
            _ => false,
        }
    }

    /// A string with its place.
    pub fn text(&self) -> Option<Word<'s, 'a>> {
        self.string().map(|text| self.word_of(text))
    }

    fn word_of(&self, text: &'s str) -> Word<'s, 'a> {
        Word { source: self.source, place: self.place(), text }
    }

    /// One of a few words, each with its meaning.
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
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

    pub(super) fn table(&self) -> Option<&'s DeTable<'a>> {
        match self.value.get_ref() {
            DeValue::Table(table) => Some(table),
            _ => self.mismatch("a table"),
        }
    }
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
