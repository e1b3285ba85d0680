//! strongSwan's trees of sections and values: written as swanctl.conf, read from `swanctl --raw`.

use std::fmt::Write as _;

use crate::error::{LabError, Result};

/// A section: values and sections by name, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section(Vec<(String, Entry)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Value(String),
    List(Vec<String>),
    Section(Section),
}

impl Section {
    /// An empty section.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a value.
    #[must_use]
    #[expect(clippy::needless_pass_by_value, reason = "`set(\"version\", 2)` reads better than `&2`")]
    pub fn set(self, name: &str, value: impl ToString) -> Self {
        self.entry(name, Entry::Value(value.to_string()))
    }

    /// The same with a value, if there is one.
    #[must_use]
    pub fn set_some(self, name: &str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.set(name, value),
            None => self,
        }
    }

    /// The same with a list of values; an empty list is none.
    #[must_use]
    pub fn set_list(self, name: &str, values: &[impl ToString]) -> Self {
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        if values.is_empty() { self } else { self.entry(name, Entry::List(values)) }
    }

    /// The same with a section inside.
    #[must_use]
    pub fn with(self, name: &str, section: Section) -> Self {
        self.entry(name, Entry::Section(section))
    }

    /// The same without an entry.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.0.retain(|(key, _)| key != name);
        self
    }

    /// The same with all that `other` has, which goes before its own.
    #[must_use]
    pub fn merged(self, other: &Section) -> Self {
        other.0.iter().fold(self, |section, (name, entry)| section.entry(name, entry.clone()))
    }

    fn entry(self, name: &str, entry: Entry) -> Self {
        let mut section = self.without(name);
        section.0.push((name.to_owned(), entry));
        section
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.find(name).and_then(|entry| if let Entry::Value(value) = entry { Some(&**value) } else { None })
    }

    /// A list; empty if there is none.
    pub fn list(&self, name: &str) -> &[String] {
        match self.find(name) {
            Some(Entry::List(values)) => values,
            _ => &[],
        }
    }

    /// A section inside.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.find(name)
            .and_then(|entry| if let Entry::Section(section) = entry { Some(section) } else { None })
    }

    /// All sections inside, with their names.
    pub fn sections(&self) -> impl Iterator<Item = (&str, &Section)> {
        self.0.iter().filter_map(|(name, entry)| match entry {
            Entry::Section(section) => Some((&**name, section)),
            _ => None,
        })
    }

    fn find(&self, name: &str) -> Option<&Entry> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, entry)| entry)
    }

    /// As strongSwan's configuration files have it.
    pub fn to_configuration(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text
    }

    fn write(&self, text: &mut String, depth: usize) {
        let indent = "  ".repeat(depth);
        for (name, entry) in &self.0 {
            match entry {
                Entry::Value(value) => drop(writeln!(text, "{indent}{name} = {}", quoted(value))),
                Entry::List(values) => drop(writeln!(text, "{indent}{name} = {}", quoted(&values.join(",")))),
                Entry::Section(section) => {
                    let _ = writeln!(text, "{indent}{name} {{");
                    section.write(text, depth + 1);
                    let _ = writeln!(text, "{indent}}}");
                }
            }
        }
    }

    /// The same sections and values as TOML: whole numbers and `yes` and `no` in its own types.
    pub fn to_toml(&self) -> String {
        let mut text = String::new();
        self.write_table(&mut text, &mut Vec::new());
        text
    }

    fn write_table<'a>(&'a self, text: &mut String, path: &mut Vec<&'a str>) {
        for (name, entry) in &self.0 {
            match entry {
                Entry::Value(value) => drop(writeln!(text, "{name} = {}", toml_value(value))),
                Entry::List(values) => drop(writeln!(text, "{name} = {values:?}")),
                Entry::Section(_) => {}
            }
        }
        for (name, section) in self.sections() {
            path.push(name);
            let _ = writeln!(text, "\n[{}]", path.join("."));
            section.write_table(text, path);
            path.pop();
        }
    }

    /// Reads the messages `KIND event {...}` that `swanctl --raw` prints: one section each.
    ///
    /// # Errors
    /// If a brace has no partner.
    pub fn parse_events(text: &str, kind: &str) -> Result<Vec<Section>> {
        let start = format!("{kind} event {{");
        text.lines()
            .filter_map(|line| line.strip_prefix(&start))
            .map(|rest| Reader(rest).section().ok_or_else(|| unreadable(rest)))
            .collect()
    }
}

fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

fn toml_value(value: &str) -> String {
    match value {
        "yes" => "true".into(),
        "no" => "false".into(),
        number if number.parse::<f64>().is_ok() => number.into(),
        text => format!("{text:?}"),
    }
}

fn unreadable(text: &str) -> LabError {
    LabError::Unexpected(format!("swanctl printed what cannot be read: {text}"))
}

/// What is left of a raw message. Values are not quoted there: one ends where the next name, or a brace, begins.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    /// All up to the closing brace.
    fn section(&mut self) -> Option<Section> {
        let mut section = Section::new();
        loop {
            self.0 = self.0.trim_start();
            if let Some(rest) = self.0.strip_prefix('}') {
                self.0 = rest;
                return Some(section);
            }
            let (name, entry) = self.entry()?;
            section = section.entry(name, entry);
        }
    }

    fn entry(&mut self) -> Option<(&'a str, Entry)> {
        let end = self.0.find(['=', '{'])?;
        let (name, rest) = self.0.split_at(end);
        let name = name.trim();
        if let Some(inside) = rest.strip_prefix('{') {
            self.0 = inside;
            return Some((name, Entry::Section(self.section()?)));
        }
        self.0 = &rest[1..];
        if let Some(inside) = self.0.strip_prefix('[') {
            let (list, rest) = inside.split_once(']')?;
            self.0 = rest;
            return Some((name, Entry::List(list.split_whitespace().map(str::to_owned).collect())));
        }
        Some((name, Entry::Value(self.value().to_owned())))
    }

    fn value(&mut self) -> &'a str {
        let end = self.end_of_value();
        let (value, rest) = self.0.split_at(end);
        self.0 = rest;
        value.trim_end()
    }

    fn end_of_value(&self) -> usize {
        let text = self.0;
        let is_end = |at: usize| text[at..].starts_with('}') || starts_entry(&text[at..]);
        text.char_indices().map(|(at, _)| at).find(|at| is_end(*at)).unwrap_or(text.len())
    }
}

/// Whether ` name=` or ` name {` begins here. strongSwan's own names are in small letters, those in
/// distinguished names in capitals.
fn starts_entry(text: &str) -> bool {
    let Some(rest) = text.strip_prefix(' ') else { return false };
    let is_name = |character: char| character.is_ascii_lowercase() || matches!(character, '-' | '0'..='9');
    let name = rest.len() - rest.trim_start_matches(is_name).len();
    name > 0 && (rest[name..].starts_with('=') || rest[name..].starts_with(" {"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RAW: &str = "list-sa event {psk {uniqueid=1 remote-id=C=CH, O=x, CN=a b established=0 \
                       local-vips=[10.99.0.1 2001:db8::1] child-sas {gcm-1 {name=gcm local-ts=[10.99.0.1/32]}}}}\n\
                       list-sas reply {}\n";

    #[test]
    fn a_raw_message_is_read() {
        let events = Section::parse_events(RAW, "list-sa").expect("readable");
        let sa = events[0].section("psk").expect("an SA");
        assert_eq!(sa.get("remote-id"), Some("C=CH, O=x, CN=a b"));
        assert_eq!((sa.get("established"), sa.list("local-vips").len()), (Some("0"), 2));
        let (name, child) = sa.section("child-sas").and_then(|all| all.sections().next()).expect("a child");
        assert_eq!(
            (name, child.get("name"), child.list("local-ts")),
            ("gcm-1", Some("gcm"), &["10.99.0.1/32".to_owned()][..])
        );
        assert!(Section::parse_events("list-sa event {psk {a=b}", "list-sa").is_err());
    }

    #[test]
    fn a_configuration_is_quoted() {
        let section = Section::new().with("a", Section::new().set("b", "c \"d\"").set_list("e", &[1, 2]));
        assert_eq!(section.to_configuration(), "a {\n  b = \"c \\\"d\\\"\"\n  e = \"1,2\"\n}\n");
        assert_eq!(section.to_toml(), "\n[a]\nb = \"c \\\"d\\\"\"\ne = [\"1\", \"2\"]\n");
        let later = Section::new().set("b", "yes").merged(&Section::new().set("b", 7));
        assert_eq!(later.to_toml(), "b = 7\n");
    }
}
