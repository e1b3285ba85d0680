//! Reading a file and those that it includes, within bounds.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::ImportError;
use super::finding::Finding;
use super::text::{Fault, Reader, Statement};
use super::tree::{Node, Origin, Value};
use super::{MAX_DEPTH, MAX_FILES, MAX_OCTETS, MAX_STATEMENTS};

/// What was read of a file and of all that it includes.
pub(super) struct Files {
    pub(super) root: Node,
    /// As they were named.
    pub(super) paths: Vec<PathBuf>,
    /// Includes that are of no file.
    pub(super) findings: Vec<Finding>,
}

/// Reads `path` and what it includes.
pub(super) fn read(path: &Path) -> Result<Files, ImportError> {
    let mut loader =
        Loader { paths: Vec::new(), open: Vec::new(), octets: 0, statements: 0, findings: Vec::new() };
    let mut root = Node::default();
    loader.file(path, &mut root, 0)?;
    Ok(Files { root, paths: loader.paths, findings: loader.findings })
}

struct Loader {
    paths: Vec<PathBuf>,
    /// Files that are being read, each included by the one before it, by their real names.
    open: Vec<PathBuf>,
    octets: u64,
    statements: usize,
    findings: Vec<Finding>,
}

impl Loader {
    fn file(&mut self, path: &Path, node: &mut Node, depth: usize) -> Result<(), ImportError> {
        if self.paths.len() >= MAX_FILES {
            return Err(ImportError::TooManyFiles);
        }
        let text = self.text(path)?;
        let file = self.paths.len();
        self.paths.push(path.to_owned());
        self.open.push(path.canonicalize().map_err(ImportError::file(path))?);
        let mut reader = Reader::new(&text);
        self.section(&mut reader, file, node, Place { depth, is_file: true })?;
        self.open.pop();
        Ok(())
    }

    fn text(&mut self, path: &Path) -> Result<Zeroizing<String>, ImportError> {
        let file = File::open(path).map_err(ImportError::file(path))?;
        let length = file.metadata().map_err(ImportError::file(path))?;
        if !length.is_file() {
            let kind = io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
            return Err(ImportError::file(path)(kind));
        }
        let left = MAX_OCTETS - self.octets;
        // Room for all of it at once: a text that grows leaves copies behind.
        let mut text = Zeroizing::new(String::with_capacity(length.len().min(left) as usize + 1));
        file.take(left + 1).read_to_string(&mut text).map_err(ImportError::file(path))?;
        if text.len() as u64 > left {
            return Err(ImportError::TooLong);
        }
        self.octets += text.len() as u64;
        Ok(text)
    }

    fn section(
        &mut self,
        reader: &mut Reader<'_>,
        file: usize,
        node: &mut Node,
        place: Place,
    ) -> Result<(), ImportError> {
        loop {
            let before = reader.line;
            let statement = reader.statement().map_err(|fault| self.fault(file, reader.line, fault))?;
            let (statement, line) = statement;
            let origin = Origin { file, line };
            self.statements += 1;
            if self.statements > MAX_STATEMENTS {
                return Err(ImportError::TooLong);
            }
            match statement {
                Statement::End if place.is_file => return Ok(()),
                Statement::End => return Err(self.fault(file, before, Fault::OpenSection)),
                Statement::Close if place.is_file => {
                    return Err(self.fault(file, line, Fault::NothingToClose));
                }
                Statement::Close => return Ok(()),
                Statement::Setting(name, text) => node.set(&name, Value { text, origin }),
                Statement::Include(pattern) => self.include(&pattern, origin, node, place.depth)?,
                Statement::Section(name, references) => {
                    if place.depth >= MAX_DEPTH {
                        return Err(self.fault(file, line, Fault::TooDeep));
                    }
                    let inner = Place { depth: place.depth + 1, is_file: false };
                    self.section(reader, file, node.open(&name, references, origin), inner)?;
                }
            }
        }
    }

    /// What a file says becomes part of the section that includes it.
    fn include(
        &mut self,
        pattern: &str,
        origin: Origin,
        node: &mut Node,
        depth: usize,
    ) -> Result<(), ImportError> {
        let mut found = 0;
        for path in self.matching(pattern, origin)? {
            let real = path.canonicalize().map_err(ImportError::file(&path))?;
            if self.open.contains(&real) {
                return Err(ImportError::Loop { file: self.paths[origin.file].clone(), line: origin.line });
            }
            self.file(&path, node, depth)?;
            found += 1;
        }
        if found == 0 {
            self.findings.push(Finding::of_include(origin));
        }
        Ok(())
    }

    /// Regular files that the pattern names, by name; relative ones start where the file is that includes them.
    fn matching(&self, pattern: &str, origin: Origin) -> Result<Vec<PathBuf>, ImportError> {
        let refused = || ImportError::Pattern { file: self.paths[origin.file].clone(), line: origin.line };
        // `**` is no wildcard of strongSwan, and would wander through whole disks.
        if pattern.contains("**") || pattern.contains('\0') {
            return Err(refused());
        }
        let beside = self.paths[origin.file].parent().unwrap_or(Path::new(""));
        let escaped = glob::Pattern::escape(&beside.to_string_lossy());
        let whole = match (pattern.starts_with('/'), escaped.is_empty()) {
            (true, _) | (_, true) => pattern.to_owned(),
            _ => format!("{escaped}/{pattern}"),
        };
        let paths = glob::glob(&whole).map_err(|_| refused())?;
        Ok(paths.filter_map(Result::ok).filter(|path| path.is_file()).take(MAX_FILES + 1).collect())
    }

    fn fault(&self, file: usize, line: u32, fault: Fault) -> ImportError {
        ImportError::Syntax { file: self.paths[file].clone(), line, fault }
    }
}

/// Where in a file a section is.
#[derive(Clone, Copy)]
struct Place {
    depth: usize,
    /// The file itself, which ends with its text.
    is_file: bool,
}
