//! The configuration to be: sections with entries, each knowing where it came from, and their text in TOML.

use baton_dataplane::config::Problem;
use zeroize::Zeroizing;

use super::tree::Origin;

/// A value in TOML.
#[derive(Clone)]
pub(super) enum Form {
    Text(Zeroizing<String>),
    List(Vec<Zeroizing<String>>),
    Integer(Zeroizing<String>),
    Boolean(bool),
}

/// A key with its value.
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) form: Form,
    pub(super) origin: Origin,
    /// Its full name in swanctl.conf.
    pub(super) path: Vec<String>,
    /// Said of it in a finding, instead of what the parser says.
    pub(super) note: String,
    /// What the parser said first, where another form was tried after that.
    pub(super) refused: Option<Problem>,
    /// What is lost with it would let in more, or protect less: its section goes with it.
    pub(super) guards: bool,
}

/// A table in TOML.
pub(super) struct Table {
    /// Its name, part by part.
    pub(super) path: Vec<String>,
    pub(super) origin: Origin,
    pub(super) entries: Vec<Entry>,
    /// It does not come into force.
    pub(super) left_out: bool,
}

/// All tables in their order; what is in another one stands behind it.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) tables: Vec<Table>,
}

/// What a line of the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Not from swanctl.conf.
    Frame,
    /// The head of a table.
    Table(usize),
    /// An entry of a table.
    Entry(usize, usize),
}

/// A text and what its lines are.
pub(super) struct Page {
    pub(super) text: Zeroizing<String>,
    pub(super) lines: Vec<Line>,
}

impl Draft {
    /// The text, with `head` before it. Tables that are left out are comments, unless secrets would be in them.
    pub(super) fn print(&self, head: &str) -> Page {
        let mut page =
            Page { text: Zeroizing::new(String::with_capacity(self.room() + head.len())), lines: Vec::new() };
        head.lines().for_each(|line| page.line(line, Line::Frame));
        for (number, table) in self.tables.iter().enumerate() {
            if table.left_out && table.path[0] == "secrets" {
                continue;
            }
            page.line("", Line::Frame);
            page.table(table, number);
        }
        page
    }

    /// Octets that are never exceeded, so that secrets are not copied about when the text grows.
    fn room(&self) -> usize {
        let of_path = |path: &[String]| path.iter().map(|part| 6 * part.len() + 3).sum::<usize>() + 16;
        let of_entry = |entry: &Entry| 6 * entry.key.len() + entry.form.room() + 16;
        let of_table =
            |table: &Table| of_path(&table.path) + table.entries.iter().map(of_entry).sum::<usize>();
        self.tables.iter().map(of_table).sum()
    }

    /// Leaves a table out, and all that is in it.
    pub(super) fn leave_out(&mut self, path: &[String]) {
        // They stand together.
        let others = self.tables.iter_mut().rev().skip_while(|table| table.path[..2] != path[..2]);
        let siblings = others.take_while(|table| table.path[..2] == path[..2]);
        siblings.filter(|table| table.path.starts_with(path)).for_each(|table| table.left_out = true);
    }
}

impl Form {
    /// Every character may have to be written as an escape of six.
    fn room(&self) -> usize {
        match self {
            Self::Text(text) | Self::Integer(text) => 6 * text.len() + 2,
            Self::List(words) => words.iter().map(|word| 6 * word.len() + 4).sum::<usize>() + 2,
            Self::Boolean(_) => 5,
        }
    }

    fn print(&self, text: &mut String) {
        match self {
            Self::Text(word) => quote(text, word),
            Self::Integer(digits) => text.push_str(digits),
            Self::Boolean(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::List(words) => {
                text.push('[');
                for (place, word) in words.iter().enumerate() {
                    text.push_str(if place == 0 { "" } else { ", " });
                    quote(text, word);
                }
                text.push(']');
            }
        }
    }
}

impl Page {
    fn line(&mut self, text: &str, line: Line) {
        self.text.push_str(text);
        self.end(line);
    }

    fn end(&mut self, line: Line) {
        self.text.push('\n');
        self.lines.push(line);
    }

    fn table(&mut self, table: &Table, number: usize) {
        let margin = if table.left_out { "# " } else { "" };
        self.text.push_str(margin);
        self.text.push('[');
        for (place, part) in table.path.iter().enumerate() {
            self.text.push_str(if place == 0 { "" } else { "." });
            key(&mut self.text, part);
        }
        self.text.push(']');
        self.end(Line::Table(number));
        for (place, entry) in table.entries.iter().enumerate() {
            self.text.push_str(margin);
            key(&mut self.text, &entry.key);
            self.text.push_str(" = ");
            entry.form.print(&mut self.text);
            self.end(Line::Entry(number, place));
        }
    }
}

fn key(text: &mut String, name: &str) {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
    if !name.is_empty() && name.chars().all(is_bare) { text.push_str(name) } else { quote(text, name) }
}

/// A basic string of TOML.
fn quote(text: &mut String, word: &str) {
    text.push('"');
    for c in word.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            c if c.is_control() => {
                let digits = format!("\\u{:04X}", u32::from(c));
                text.push_str(&digits);
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

/// A section's lines for other settings than swanctl.conf's.
pub(super) fn line(key: &str, value: &str) -> String {
    let mut text = format!("{key} = ");
    quote(&mut text, value);
    text
}
