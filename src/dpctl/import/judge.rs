//! The configuration's own parser has the last word: what it refuses is taken out again and listed.

use std::collections::BTreeMap;
use std::path::Path;

use baton_dataplane::config::{ConfigErrors, Problem};
use baton_ike::config::Config;

use super::convert::Converted;
use super::draft::{Entry, Form, Line, Page};
use super::error::ImportError;
use super::finding::Finding;
use super::meaning;

/// More are never needed: each turn takes something out.
const MAX_TURNS: usize = 256;
const TRUE: [&str; 4] = ["yes", "true", "enabled", "1"];
const FALSE: [&str; 4] = ["no", "false", "disabled", "0"];

/// Takes out what the parser refuses, until it refuses nothing. The text is of the last turn.
pub(super) fn judge(to: &mut Converted, head: &str, path: &Path) -> Result<Page, ImportError> {
    for _ in 0..MAX_TURNS {
        meaning::secrets_are_there(to);
        meaning::servers_are_elsewhere(to);
        let page = to.draft.print(head);
        let Err(errors) = Config::parse_as(&page.text, path, true) else { return Ok(page) };
        Turn { to, page: &page, words: BTreeMap::new() }.take_out(&errors)?;
    }
    Err(ImportError::Refused("it has problems without end".to_owned()))
}

struct Turn<'c> {
    to: &'c mut Converted,
    page: &'c Page,
    /// Words of lists that are refused, by where the list is.
    words: BTreeMap<(usize, usize), Vec<(usize, Problem)>>,
}

impl Turn<'_> {
    fn take_out(mut self, errors: &ConfigErrors) -> Result<(), ImportError> {
        let mut entries: BTreeMap<(usize, usize), Problem> = BTreeMap::new();
        for problem in errors.problems() {
            match self.page.lines.get(problem.line.saturating_sub(1)) {
                Some(Line::Table(table)) => self.refuse_table(*table, problem),
                Some(Line::Entry(table, entry)) => {
                    let place = (*table, *entry);
                    match word_of(problem) {
                        Some(word) => self.words.entry(place).or_default().push((word, problem.clone())),
                        None => _ = entries.entry(place).or_insert_with(|| problem.clone()),
                    }
                }
                // The head is ours, and only words of the command line are in it.
                Some(Line::Frame) | None => return Err(ImportError::Refused(problem.message.clone())),
            }
        }
        self.refuse_words(&mut entries);
        // From the last on: what comes before stays where it is.
        for (place, problem) in entries.into_iter().rev() {
            self.refuse_entry(place, &problem);
        }
        Ok(())
    }

    fn refuse_table(&mut self, table: usize, problem: &Problem) {
        let table = &self.to.draft.tables[table];
        let (path, origin) = (table.path.clone(), table.origin);
        self.to.find(Finding::new(origin, &path, problem.message.clone(), problem.remedy.clone()));
        self.to.leave_out(&path, origin, "it is not usable as it is");
    }

    /// Takes single words out of lists; a list without words is an entry that is refused.
    fn refuse_words(&mut self, entries: &mut BTreeMap<(usize, usize), Problem>) {
        for ((table, place), words) in std::mem::take(&mut self.words) {
            let entry = &mut self.to.draft.tables[table].entries[place];
            let is_owner = is_owner(entry);
            let Form::List(list) = &mut entry.form else { continue };
            let mut refused: Vec<usize> = words.iter().map(|(word, _)| *word).collect();
            refused.sort_unstable();
            refused.dedup();
            if refused.len() >= list.len() || is_owner {
                entries.insert((table, place), words[0].1.clone());
                continue;
            }
            for word in refused.into_iter().rev() {
                if word < list.len() {
                    list.remove(word);
                }
            }
            let findings: Vec<_> = words.iter().map(|(_, problem)| finding(entry, problem)).collect();
            self.to.findings.extend(findings);
        }
    }

    /// Another form of it, or none.
    fn refuse_entry(&mut self, (table, place): (usize, usize), problem: &Problem) {
        let entry = &mut self.to.draft.tables[table].entries[place];
        let is_of_kind =
            ["stands where", "is not known here"].iter().any(|part| problem.message.contains(part));
        if let (true, Some(form)) = (is_of_kind, other_form(&entry.form)) {
            // What is said of a number says more than that it is not a word.
            entry.refused = matches!(form, Form::Boolean(_)).then(|| problem.clone());
            entry.form = form;
            return;
        }
        let problem = entry.refused.take().unwrap_or_else(|| problem.clone());
        let entry = self.to.draft.tables[table].entries.remove(place);
        let path = self.to.draft.tables[table].path.clone();
        self.to.find(finding(&entry, &problem));
        if entry.guards {
            let name = super::finding::full_name(&entry.path);
            self.to.leave_out(&path, entry.origin, &format!("without {name} it would do something else"));
            // It stays readable in the comment.
            self.to.draft.tables[table].entries.insert(place, entry);
        }
    }
}

/// A secret that lost one of its owners might become another's.
fn is_owner(entry: &Entry) -> bool {
    entry.path[0] == "secrets"
}

/// Numbers and truth values are not told from words in swanctl.conf.
fn other_form(form: &Form) -> Option<Form> {
    let Form::Text(text) = form else {
        return match form {
            Form::Integer(digits) => truth(digits).map(Form::Boolean),
            _ => None,
        };
    };
    if let Some(number) = meaning::number(text) {
        return Some(number);
    }
    truth(text).map(Form::Boolean)
}

fn truth(text: &str) -> Option<bool> {
    TRUE.contains(&text).then_some(true).or(FALSE.contains(&text).then_some(false))
}

/// Of `certs[2]` it is 2.
fn word_of(problem: &Problem) -> Option<usize> {
    problem.field.strip_suffix(']')?.rsplit_once('[')?.1.parse().ok()
}

/// The comparison knows better than the parser what there is instead. Nothing of a secret is told.
fn finding(entry: &Entry, problem: &Problem) -> Finding {
    let remedy = if entry.note.is_empty() { &problem.remedy } else { &entry.note };
    let message = if entry.path.last().is_some_and(|key| key == "secret") {
        "the secret is not usable as it is"
    } else {
        &problem.message
    };
    Finding::new(entry.origin, &entry.path, message, remedy.as_str())
}
