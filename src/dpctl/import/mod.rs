//! `dpctl import-swanctl`: a swanctl.conf as Baton's configuration.
//!
//! Three steps: read the files (strongSwan's settings format), carry what docs/SWANCTL.md says there is, let the
//! configuration's own parser judge it. What does not get through is listed with its place and what to do; where less
//! would then be demanded of a peer, its connection does not get through either.

mod comparison;
mod convert;
mod draft;
mod error;
mod files;
mod finding;
mod head;
mod inherit;
mod judge;
mod meaning;
#[cfg(test)]
mod tests;
mod text;
mod tree;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use baton_ctx_transfer::private_file::PrivateFile;
use baton_dataplane::config::reader::shortened;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::cli::ImportOptions;
use super::error::DpctlError;
use super::output::Output;
use convert::Converted;
use draft::Draft;
pub use error::ImportError;
use finding::{Finding, Told};

/// Sections in one another.
const MAX_DEPTH: usize = 16;
/// Files that are read in all.
const MAX_FILES: usize = 4096;
/// Octets that are read in all.
const MAX_OCTETS: u64 = 64 << 20;
/// Settings and sections that are read in all.
const MAX_STATEMENTS: usize = 1_000_000;
/// Settings that there are when all is inherited, and the work to find them.
const MAX_INHERITED: usize = 4_000_000;

/// What was made of a file.
struct Imported {
    text: Zeroizing<String>,
    draft: Draft,
    findings: Vec<Finding>,
    paths: Vec<PathBuf>,
}

/// For programs.
#[derive(Serialize)]
struct Report<'r> {
    output: Option<&'r Path>,
    connections: usize,
    children: usize,
    pools: usize,
    secrets: usize,
    authorities: usize,
    left_out: Vec<String>,
    not_carried: Vec<Told>,
}

pub(super) fn run(options: &ImportOptions, output: Output) -> Result<(), DpctlError> {
    let imported = import(options)?;
    match &options.output {
        None => {
            let mut out = io::stdout().lock();
            out.write_all(imported.text.as_bytes())?;
            out.flush()?;
        }
        Some(path) => {
            let mut file = PrivateFile::create(path)?;
            file.file.write_all(imported.text.as_bytes()).map_err(DpctlError::file("write", path))?;
            file.publish()?;
        }
    }
    tell(&imported, options, output)
}

fn import(options: &ImportOptions) -> Result<Imported, ImportError> {
    let files = files::read(&options.file)?;
    let inherited = inherit::resolve(&files.root)?;
    let mut to: Converted = convert::convert(&inherited);
    to.findings.splice(0..0, files.findings.into_iter().chain(inherited.findings));
    let head = head::head(options, &to.draft)?;
    let judged = judge::judge(&mut to, &head.text, &head.path)?;
    // A head that is only there for the parser does not go out.
    let text = if head.is_wanted { judged.text } else { to.draft.print(&head.comment).text };
    let mut findings = to.findings;
    findings.sort_by_key(|finding| (finding.origin.file, finding.origin.line));
    Ok(Imported { text, draft: to.draft, findings, paths: files.paths })
}

/// What could not be carried, on standard error; with `--json` beside the numbers of what was.
fn tell(imported: &Imported, options: &ImportOptions, output: Output) -> Result<(), DpctlError> {
    let report = imported.report(options.output.as_deref());
    if output.is_json() {
        // Standard output has the configuration, unless that is in a file.
        let written = match &options.output {
            Some(_) => writeln!(io::stdout(), "{}", json!(report)),
            None => writeln!(io::stderr(), "{}", json!(report)),
        };
        return Ok(written?);
    }
    let mut out = io::stderr().lock();
    finding::tell(&mut out, &imported.findings, &imported.paths)?;
    writeln!(
        out,
        "{} connections with {} children, {} pools, {} secrets, {} authorities; left out: {}; not carried: {}",
        report.connections,
        report.children,
        report.pools,
        report.secrets,
        report.authorities,
        report.left_out.len(),
        report.not_carried.len()
    )?;
    Ok(())
}

impl Imported {
    fn report<'r>(&self, output: Option<&'r Path>) -> Report<'r> {
        let count = |kind: &str, length: usize| {
            let tables = self.draft.tables.iter().filter(|table| !table.left_out);
            tables.filter(|table| table.path.len() == length && table.path[0] == kind).count()
        };
        let left_out = self.draft.tables.iter().filter(|table| table.left_out);
        let left_out = left_out.filter(|table| meaning::whole_of(&table.path) == table.path.as_slice());
        Report {
            output,
            connections: count("connections", 2),
            children: count("connections", 4),
            pools: count("pools", 2),
            secrets: count("secrets", 2),
            authorities: count("authorities", 2),
            left_out: left_out.map(|table| finding::full_name(&table.path)).collect(),
            not_carried: self.findings.iter().map(|finding| finding.told(&self.paths)).collect(),
        }
    }
}
