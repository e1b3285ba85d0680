//! The comparison of swanctl's options with Baton's: docs/SWANCTL.md itself, so that importer and manual cannot differ.

use std::sync::LazyLock;

const DOCUMENT: &str = include_str!("../../../docs/SWANCTL.md");

/// Whether Baton has an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Here {
    Same,
    Other,
    NotThere,
}

/// A line of the comparison.
#[derive(Debug)]
pub(super) struct Row {
    /// Its name, as `connections.<conn>.version`.
    pub(super) option: &'static str,
    pub(super) here: Here,
    /// The difference, or why it is not there and what there is instead.
    pub(super) note: String,
    parts: Vec<Part>,
}

/// A part of an option's name.
#[derive(Debug)]
enum Part {
    /// As it stands.
    Word(&'static str),
    /// Anything that begins so.
    Prefix(&'static str),
    /// Anything.
    Any,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| DOCUMENT.lines().filter_map(Row::read).collect());

/// All options that swanctl documents.
pub(super) fn rows() -> &'static [Row] {
    &ROWS
}

/// The line about an option or a section, by its full name; the most specific one if several are.
pub(super) fn find(path: &[String]) -> Option<&'static Row> {
    let fitting = ROWS.iter().filter_map(|row| Some((row.specificity(path)?, row)));
    fitting.max_by_key(|(specificity, _)| *specificity).map(|(_, row)| row)
}

impl Row {
    fn read(line: &'static str) -> Option<Self> {
        let cells = line.strip_prefix("| `")?;
        let (option, rest) = cells.split_once("` | ")?;
        let (here, note) = rest.split_once('|')?;
        let here = match here.trim() {
            "same" => Here::Same,
            "other" => Here::Other,
            "not there" => Here::NotThere,
            _ => return None,
        };
        let note = note.trim().trim_end_matches('|').trim().replace("\\|", "|");
        Some(Self { option, here, note, parts: option.split('.').map(Part::read).collect() })
    }

    fn specificity(&self, path: &[String]) -> Option<usize> {
        if self.parts.len() != path.len() {
            return None;
        }
        let weights = self.parts.iter().zip(path).map(|(part, name)| part.weight(name));
        weights.sum()
    }
}

impl Part {
    fn read(text: &'static str) -> Self {
        match text.strip_suffix("<suffix>") {
            Some(prefix) => Self::Prefix(prefix),
            None if text.starts_with('<') => Self::Any,
            None => Self::Word(text),
        }
    }

    fn weight(&self, name: &str) -> Option<usize> {
        match self {
            Self::Word(word) => (*word == name).then_some(1000),
            Self::Prefix(prefix) => name.starts_with(prefix).then_some(1 + prefix.len()),
            Self::Any => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn option_of(path: &str) -> Option<&'static str> {
        let path: Vec<String> = path.split('.').map(str::to_owned).collect();
        find(&path).map(|row| row.option)
    }

    #[test]
    fn the_most_specific_line_is_taken() {
        for (path, option) in [
            ("connections.a.version", "connections.<conn>.version"),
            ("connections.a.local-1.certs", "connections.<conn>.local<suffix>.certs"),
            ("connections.a.local-1.cert-x", "connections.<conn>.local<suffix>.cert<suffix>"),
            ("connections.a.local.cert1.file", "connections.<conn>.local<suffix>.cert<suffix>.file"),
            ("connections.a.children.b.mode", "connections.<conn>.children.<child>.mode"),
            ("secrets.ike-a.id-2", "secrets.ike<suffix>.id<suffix>"),
            ("secrets.pkcs12-a.file", "secrets.pkcs12<suffix>.file"),
            ("pools.a.addrs", "pools.<name>.addrs"),
            ("pools.a.dns", "pools.<name>.<attr>"),
        ] {
            assert_eq!(option_of(path), Some(option), "{path}");
        }
        assert_eq!(option_of("connections.a.nonsense"), None);
        assert!(rows().len() > 130);
    }
}
