//! What could not be carried, and what to do instead.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use baton_dataplane::config::reader::shortened;
use serde::Serialize;

use super::tree::Origin;

/// So many of a kind are told one by one to people; programs get all.
const TOLD: usize = 5;

/// Something that is not as it was in swanctl.conf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) origin: Origin,
    /// Its full name.
    pub(super) option: String,
    pub(super) problem: String,
    pub(super) remedy: String,
}

/// As programs get it.
#[derive(Debug, Serialize)]
pub(super) struct Told {
    file: String,
    line: u32,
    option: String,
    problem: String,
    remedy: String,
}

impl Finding {
    pub(super) fn new(
        origin: Origin,
        path: &[String],
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { origin, option: full_name(path), problem: problem.into(), remedy: remedy.into() }
    }

    pub(super) fn of_include(origin: Origin) -> Self {
        Self::new(origin, &["include".to_owned()], "no file is there", "correct the name, or remove the line")
    }

    pub(super) fn of_reference(origin: Origin, reference: &str) -> Self {
        let problem = format!("it refers to \"{}\", which is not there", shortened(reference));
        let path = [":".to_owned(), reference.to_owned()];
        Self::new(origin, &path, problem, "write the full name of a section, as connections.site")
    }

    pub(super) fn told(&self, paths: &[PathBuf]) -> Told {
        Told {
            file: self.file(paths),
            line: self.origin.line,
            option: self.option.clone(),
            problem: self.problem.clone(),
            remedy: self.remedy.clone(),
        }
    }

    fn file(&self, paths: &[PathBuf]) -> String {
        let name = paths.get(self.origin.file).map(|path| path.to_string_lossy().into_owned());
        name.unwrap_or_default().chars().flat_map(char::escape_debug).collect()
    }
}

/// The names of a setting and of all sections around it; foreign text, which may be anything.
pub(super) fn full_name(path: &[String]) -> String {
    path.iter().map(|part| shortened(part)).collect::<Vec<_>>().join(".")
}

/// All of them for people; many of one kind are counted.
pub(super) fn tell(out: &mut dyn Write, findings: &[Finding], paths: &[PathBuf]) -> io::Result<()> {
    let mut kinds: HashMap<(&str, &str), usize> = HashMap::new();
    for finding in findings {
        let count = kinds.entry((&finding.problem, &finding.remedy)).or_default();
        *count += 1;
        if *count <= TOLD {
            let Finding { origin, option, problem, remedy } = finding;
            writeln!(
                out,
                "{}:{}: {option}: {problem}\n    Remedy: {remedy}",
                finding.file(paths),
                origin.line
            )?;
        }
    }
    let hidden: usize = kinds.values().map(|count| count.saturating_sub(TOLD)).sum();
    if hidden > 0 {
        writeln!(out, "and {hidden} more of these kinds; --json has them all")?;
    }
    Ok(())
}
