//! Answers: aligned tables for people, JSON for programs.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use serde_json::json;

use super::error::DpctlError;

/// Where answers go and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, colour: !plain && io::stdout().is_terminal() }
    }

    /// Whether programs read the answers.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// One answer: `value` as JSON, or what `text` writes.
    pub(super) fn answer<T: Serialize>(
        self,
        value: &T,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<(), DpctlError> {
        let mut out = io::BufWriter::new(io::stdout().lock());
        if self.json {
            serde_json::to_writer_pretty(&mut out, value).map_err(io::Error::from)?;
            writeln!(out)?;
        } else {
            text(&mut out)?;
        }
        Ok(out.flush()?)
    }

    /// What a command did whose standard output is data: on standard error.
    pub(super) fn aside<T: Serialize>(self, value: &T, text: &str) {
        // Nobody may be listening.
        let _ = if self.json {
            writeln!(io::stderr(), "{}", json!(value))
        } else if io::stderr().is_terminal() {
            writeln!(io::stderr(), "{text}")
        } else {
            Ok(())
        };
    }

    /// An error, on standard error.
    pub(super) fn error(self, error: &DpctlError) {
        let _ = if self.json {
            let value = json!({ "error": { "exit": error.exit() as u8, "message": error.to_string() } });
            writeln!(io::stderr(), "{value}")
        } else {
            writeln!(io::stderr(), "dpctl: {error}")
        };
    }

    /// A table with a heading, columns as wide as they need. The last column is not padded.
    pub(super) fn table(self, out: &mut dyn Write, heading: &[&str], rows: &[Vec<String>]) -> io::Result<()> {
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([heading[column].chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..heading.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded: Vec<String> =
                cells.zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            padded.join("  ").trim_end().to_owned()
        };
        let heading = line(&mut heading.iter().copied());
        if self.colour {
            writeln!(out, "\x1b[1m{heading}\x1b[0m")?;
        } else {
            writeln!(out, "{heading}")?;
        }
        rows.iter().try_for_each(|row| writeln!(out, "{}", line(&mut row.iter().map(String::as_str))))
    }
}

/// A count of long work on standard error, only where someone watches.
pub(super) struct Progress {
    what: &'static str,
    shown: bool,
    done: u64,
}

impl Progress {
    pub(super) fn new(what: &'static str) -> Self {
        Self { what, shown: io::stderr().is_terminal(), done: 0 }
    }

    pub(super) fn step(&mut self) {
        self.done += 1;
        if self.shown && self.done.is_multiple_of(1000) {
            let _ = write!(io::stderr(), "\r{} {}", self.done, self.what);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.done >= 1000 {
            let _ = writeln!(io::stderr(), "\r{} {}", self.done, self.what);
        }
    }
}
