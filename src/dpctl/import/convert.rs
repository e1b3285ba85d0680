//! From swanctl's sections to ours. docs/SWANCTL.md says which options there are; the configuration's own parser judges
//! their values afterwards.

use zeroize::Zeroizing;

use super::comparison::{self, Here, Row};
use super::draft::{Draft, Entry, Form, Table};
use super::finding::Finding;
use super::inherit::{Inherited, Whole};
use super::meaning::{self, guards};
use super::tree::{Origin, Value};

/// Sections that swanctl reads.
const SECTIONS: [&str; 4] = ["connections", "pools", "secrets", "authorities"];

/// What came of it.
#[derive(Default)]
pub(super) struct Converted {
    pub(super) draft: Draft,
    pub(super) findings: Vec<Finding>,
}

/// Converts all that was read.
pub(super) fn convert(read: &Inherited<'_>) -> Converted {
    let mut to = Converted::default();
    for (name, value) in &read.root.values {
        to.unknown(value.origin, &[(*name).to_owned()]);
    }
    for name in SECTIONS {
        for (_, section) in read.root.sections.iter().filter(|(known, _)| *known == name) {
            to.collection(name, section);
        }
    }
    for (name, section) in &read.root.sections {
        if !SECTIONS.contains(name) && !read.templates.contains(name) {
            let remedy = "correct its name, or remove it: no section inherits from it either";
            to.find(Finding::new(section.node.origin, &[(*name).to_owned()], "it is not known", remedy));
        }
    }
    to
}

impl Converted {
    pub(super) fn find(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// All entries of a section such as `connections`.
    fn collection(&mut self, kind: &str, section: &Whole<'_>) {
        for (name, value) in &section.values {
            self.unknown(value.origin, &[kind.to_owned(), (*name).to_owned()]);
        }
        for (name, entry) in &section.sections {
            let path = vec![kind.to_owned(), (*name).to_owned()];
            match kind {
                "connections" => self.connection(&path, entry),
                "secrets" => self.secret(&path, entry),
                _ => self.plain(&path, entry),
            }
        }
    }

    fn connection(&mut self, path: &[String], section: &Whole<'_>) {
        self.open(path.to_vec(), section.node.origin);
        self.values(path, section, path);
        self.ends(path, section, "local");
        self.ends(path, section, "remote");
        for (name, inner) in &section.sections {
            let of = below(path, name);
            match *name {
                "children" => self.children(&of, inner),
                name if name.starts_with("local") || name.starts_with("remote") => {}
                _ => self.unknown(inner.node.origin, &of),
            }
        }
    }

    /// `local` and its kin: there is one round of authentication on either side.
    fn ends(&mut self, path: &[String], section: &Whole<'_>, side: &str) {
        let mut rounds = section.sections.iter().filter(|(name, _)| name.starts_with(side));
        let Some((name, first)) = rounds.next() else { return };
        let own = below(path, side);
        self.open(own.clone(), first.node.origin);
        self.end(&own, &below(path, name), first);
        for (name, other) in rounds {
            let note = comparison::find(&below(&below(path, name), "round")).map(|row| row.note.clone());
            let problem = "another round of authentication";
            self.find(Finding::new(other.node.origin, &below(path, name), problem, note.unwrap_or_default()));
            self.leave_out(path, other.node.origin, "its peers would be let in with fewer proofs");
        }
    }

    fn end(&mut self, own: &[String], path: &[String], section: &Whole<'_>) {
        for (name, value) in &section.values {
            let at = below(path, name);
            if let Some(why) = meaning::senseless(section, name) {
                self.find(Finding::new(value.origin, &at, why, "nothing: swanctl passes over it as well"));
            } else {
                self.value(own, &at, value);
            }
        }
        for (name, inner) in &section.sections {
            self.absent(&below(path, name), inner, own);
        }
    }

    fn children(&mut self, path: &[String], section: &Whole<'_>) {
        for (name, value) in &section.values {
            self.unknown(value.origin, &below(path, name));
        }
        for (name, child) in &section.sections {
            self.plain(&below(path, name), child);
        }
    }

    /// A section whose entries are ours as they are.
    fn plain(&mut self, path: &[String], section: &Whole<'_>) {
        self.open(path.to_vec(), section.node.origin);
        self.values(path, section, path);
        for (name, inner) in &section.sections {
            self.absent(&below(path, name), inner, path);
        }
    }

    fn secret(&mut self, path: &[String], section: &Whole<'_>) {
        if !comparison::rows()
            .iter()
            .any(|row| meaning::is_there(row) && meaning::is_secret_of(row, &path[1]))
        {
            return self.absent(path, section, path);
        }
        self.open(path.to_vec(), section.node.origin);
        let (owners, others): (Vec<_>, Vec<_>) =
            section.values.iter().copied().partition(|(name, _)| name.starts_with("id"));
        for (name, value) in &others {
            self.value(path, &below(path, name), value);
        }
        self.owners(path, &owners);
        for (name, inner) in &section.sections {
            self.absent(&below(path, name), inner, path);
        }
    }

    /// Several options become one list.
    fn owners(&mut self, path: &[String], owners: &[(&str, &Value)]) {
        let texts = owners.iter().filter_map(|(_, value)| value.text.clone());
        let words: Vec<Zeroizing<String>> = texts.collect();
        let (Some((name, first)), false) = (owners.first(), words.is_empty()) else { return };
        let at = below(path, name);
        let Some(row) = comparison::find(&at) else { return };
        let entry = Entry {
            key: "id".to_owned(),
            form: Form::List(words),
            ..entry(row, &at, first, Form::Boolean(true))
        };
        self.add(path, entry);
    }

    fn values(&mut self, own: &[String], section: &Whole<'_>, path: &[String]) {
        for (name, value) in &section.values {
            self.value(own, &below(path, name), value);
        }
    }

    /// One option: carried, or listed.
    fn value(&mut self, own: &[String], path: &[String], value: &Value) {
        let Some(text) = &value.text else { return };
        let Some(row) = comparison::find(path) else {
            return self.unknown(value.origin, path);
        };
        if !meaning::is_there(row) {
            if !meaning::is_nothing(row.option, text) {
                self.lose(own, path, value.origin, (row, text));
            }
            return;
        }
        let (form, lost) = meaning::form(row.option, text);
        if let Some(lost) = lost {
            self.find(Finding::new(value.origin, path, lost, row.note.clone()));
        }
        self.add(own, entry(row, path, value, form));
    }

    fn lose(&mut self, own: &[String], path: &[String], origin: Origin, (row, text): (&Row, &str)) {
        self.find(Finding::new(origin, path, "it is not there", row.note.clone()));
        if guards(row.option) && !meaning::is_optional(row.option, text) {
            self.leave_out(
                own,
                origin,
                &format!("without {} it would do something else", super::finding::full_name(path)),
            );
        }
    }

    /// A section that is not there, with all that is in it.
    fn absent(&mut self, path: &[String], section: &Whole<'_>, own: &[String]) {
        match comparison::find(path) {
            Some(row) => self.lose(own, path, section.node.origin, (row, "")),
            None => self.unknown(section.node.origin, path),
        }
        for (name, value) in &section.values {
            if let Some(row) = comparison::find(&below(path, name)) {
                self.find(Finding::new(
                    value.origin,
                    &below(path, name),
                    "it is not there",
                    row.note.clone(),
                ));
            }
        }
    }

    /// What neither swanctl nor Baton knows. Among secrets, what stands for a name may be part of one.
    fn unknown(&mut self, origin: Origin, path: &[String]) {
        let mut path = path.to_vec();
        if path.len() == 1 || path[0] == "secrets" {
            path.pop();
            path.push("?".to_owned());
        }
        let remedy = "correct its name; swanctl.conf(5) has no such option either, or a later release alone";
        self.find(Finding::new(origin, &path, "it is not known", remedy));
    }

    /// The connection, the child or the secret that a table belongs to does not come into force.
    pub(super) fn leave_out(&mut self, own: &[String], origin: Origin, why: &str) {
        let path = meaning::whole_of(own);
        let remedy = match path[0].as_str() {
            "secrets" => "mend it, and convert again",
            _ => "it stands in the result as a comment: change it to what Baton has",
        };
        if self.draft.tables.iter().any(|table| table.path == path && !table.left_out) {
            self.find(Finding::new(origin, path, format!("it is left out: {why}"), remedy));
        }
        self.draft.leave_out(path);
    }

    fn open(&mut self, path: Vec<String>, origin: Origin) {
        let mut siblings = self.draft.tables.iter().rev().take_while(|table| table.path[..2] == path[..2]);
        let left_out = siblings.any(|table| table.left_out && path.starts_with(&table.path));
        self.draft.tables.push(Table { path, origin, entries: Vec::new(), left_out });
    }

    fn add(&mut self, own: &[String], entry: Entry) {
        if let Some(table) = self.draft.tables.iter_mut().rev().find(|table| table.path == own) {
            table.entries.push(entry);
        }
    }
}

fn entry(row: &'static Row, path: &[String], value: &Value, form: Form) -> Entry {
    Entry {
        key: path.last().cloned().unwrap_or_default(),
        form,
        origin: value.origin,
        path: path.to_vec(),
        note: if row.here == Here::Other { row.note.clone() } else { String::new() },
        refused: None,
        guards: guards(row.option),
    }
}

fn below(path: &[String], name: &str) -> Vec<String> {
    path.iter().cloned().chain([name.to_owned()]).collect()
}
