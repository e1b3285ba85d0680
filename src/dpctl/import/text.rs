//! The words of strongSwan's settings format: names, values, references, patterns of includes.
//!
//! Nothing of the text is ever part of an error: a file of secrets may be broken anywhere.

use zeroize::Zeroizing;

/// What is wrong with the text of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A string without its end.
    #[error("a string is not closed; write a quotation mark at its end")]
    OpenString,
    /// A section without its end.
    #[error("a section is not closed; write `}}` at its end")]
    OpenSection,
    /// An end without a section.
    #[error("`}}` closes nothing; remove it")]
    NothingToClose,
    /// Something else where a name has to be.
    #[error("a name is expected here; write `name = value` or `name {{`")]
    NoName,
    /// A name alone.
    #[error("a name stands alone; write `=` and a value behind it, or `{{`")]
    NameAlone,
    /// A colon without names.
    #[error("sections to inherit from are expected behind `:`; write their full names with commas between")]
    NoReference,
    /// More in one another than anybody means.
    #[error("sections stand too deep in one another; at most {} levels are read", super::MAX_DEPTH)]
    TooDeep,
}

/// What stands next in a section.
pub(super) enum Statement {
    /// `name = value`; without a value, what was there before is cleared.
    Setting(String, Option<Zeroizing<String>>),
    /// `name : references {`.
    Section(String, Vec<String>),
    /// `include pattern`.
    Include(String),
    /// `}`.
    Close,
    /// The end of the file.
    End,
}

/// Reads a file from its beginning to its end.
pub(super) struct Reader<'t> {
    text: &'t str,
    at: usize,
    /// Of the next octet, from 1.
    pub(super) line: u32,
}

impl<'t> Reader<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self { text: text.strip_prefix('\u{feff}').unwrap_or(text), at: 0, line: 1 }
    }

    /// The next statement, and the line where it begins.
    pub(super) fn statement(&mut self) -> Result<(Statement, u32), Fault> {
        self.skip_space(true);
        let line = self.line;
        Ok((self.statement_here()?, line))
    }

    fn statement_here(&mut self) -> Result<Statement, Fault> {
        match self.peek() {
            None => return Ok(Statement::End),
            Some('}') => {
                self.next();
                return Ok(Statement::Close);
            }
            Some(_) => {}
        }
        let name = self.name().ok_or(Fault::NoName)?;
        let is_spaced = matches!(self.peek(), Some(' ' | '\t'));
        self.skip_space(false);
        if name == "include" && is_spaced && self.peek() != Some('=') {
            return Ok(Statement::Include(self.pattern()?));
        }
        self.after_name(name)
    }

    fn after_name(&mut self, name: String) -> Result<Statement, Fault> {
        if self.take('=') {
            return Ok(Statement::Setting(name, self.value()?));
        }
        let references = if self.take(':') { self.references()? } else { Vec::new() };
        self.skip_space(true);
        if self.take('{') { Ok(Statement::Section(name, references)) } else { Err(Fault::NameAlone) }
    }

    fn references(&mut self) -> Result<Vec<String>, Fault> {
        let mut names = Vec::new();
        loop {
            self.skip_space(false);
            names.push(self.name().ok_or(Fault::NoReference)?);
            self.skip_space(false);
            if !self.take(',') {
                return Ok(names);
            }
        }
    }

    /// A name; `::` in it stands for `:`.
    fn name(&mut self) -> Option<String> {
        let mut name = String::new();
        loop {
            let rest = &self.text[self.at..];
            if rest.starts_with("::") {
                self.at += 2;
                name.push(':');
                continue;
            }
            match rest.chars().next() {
                Some(c) if !c.is_whitespace() && !"#{}:,=\"".contains(c) => {
                    self.next();
                    name.push(c);
                }
                _ => return Some(name).filter(|name| !name.is_empty()),
            }
        }
    }

    /// Words and strings up to the end of the line; one space stands between them, however many were written.
    fn value(&mut self) -> Result<Option<Zeroizing<String>>, Fault> {
        let mut parts: Vec<Zeroizing<String>> = Vec::new();
        loop {
            self.skip_blanks();
            match self.peek() {
                None | Some('#' | '}' | '\n') => break,
                Some('"') => parts.push(self.string()?),
                Some(_) => parts.push(self.word()),
            }
        }
        Ok(if parts.len() < 2 { parts.pop() } else { Some(joined(&parts)) })
    }

    fn word(&mut self) -> Zeroizing<String> {
        let rest = &self.text[self.at..];
        let end = rest.find(|c: char| "#}\"\n\r\t ".contains(c)).unwrap_or(rest.len());
        self.at += end;
        Zeroizing::new(rest[..end].to_owned())
    }

    /// A string in quotation marks, which may go over several lines.
    fn string(&mut self) -> Result<Zeroizing<String>, Fault> {
        self.next();
        // As much as it can become, so that no copy of a secret is left behind when it grows.
        let mut string = Zeroizing::new(String::with_capacity(self.string_length()));
        loop {
            match self.next().ok_or(Fault::OpenString)? {
                '"' => return Ok(string),
                '\r' => {}
                '\\' => self.escaped(&mut string)?,
                c => string.push(c),
            }
        }
    }

    fn string_length(&self) -> usize {
        let mut escaped = false;
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|octet| {
            let is_end = octet == b'"' && !escaped;
            escaped = octet == b'\\' && !escaped;
            is_end
        });
        end.unwrap_or(rest.len())
    }

    fn escaped(&mut self, string: &mut String) -> Result<(), Fault> {
        match self.next().ok_or(Fault::OpenString)? {
            'n' => string.push('\n'),
            'r' => string.push('\r'),
            't' => string.push('\t'),
            '\r' if self.peek() == Some('\n') => {
                self.next();
            }
            // An escaped end of line joins lines.
            '\n' => {}
            c => string.push(c),
        }
        Ok(())
    }

    fn pattern(&mut self) -> Result<String, Fault> {
        if self.peek() == Some('"') {
            return Ok(self.string()?.to_string());
        }
        let mut pattern = String::new();
        while let Some(c) = self.peek().filter(|c| !"#}\n\r\t ".contains(*c)) {
            self.next();
            match self.peek() {
                Some(escaped @ ('"' | '#' | '}' | ' ')) if c == '\\' => {
                    self.next();
                    pattern.push(escaped);
                }
                _ => pattern.push(c),
            }
        }
        Ok(pattern)
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        self.line += u32::from(next == '\n');
        Some(next)
    }

    fn take(&mut self, wanted: char) -> bool {
        let is_there = self.peek() == Some(wanted);
        if is_there {
            self.next();
        }
        is_there
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\r')) {
            self.next();
        }
    }

    /// Space and comments; the ends of lines only where they mean nothing.
    fn skip_space(&mut self, lines_too: bool) {
        loop {
            match self.peek() {
                Some('#') if lines_too => while self.next().is_some_and(|c| c != '\n') {},
                Some('\n') if !lines_too => return,
                Some(c) if c.is_whitespace() => {
                    self.next();
                }
                _ => return,
            }
        }
    }
}

fn joined(parts: &[Zeroizing<String>]) -> Zeroizing<String> {
    let length = parts.iter().map(|part| part.len() + 1).sum();
    let mut whole = Zeroizing::new(String::with_capacity(length));
    for part in parts {
        if !whole.is_empty() {
            whole.push(' ');
        }
        whole.push_str(part);
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(text: &str) -> Option<String> {
        match Reader::new(text).statement() {
            Ok((Statement::Setting(_, value), _)) => value.map(|value| value.to_string()),
            _ => panic!("{text} is a setting"),
        }
    }

    #[test]
    fn values_are_words_and_strings_up_to_the_end_of_the_line() {
        for (text, value) in [
            ("a = b", Some("b")),
            ("a=b # c", Some("b")),
            ("a = b   c\n d = e", Some("b c")),
            ("a = \"b # c\" d", Some("b # c d")),
            ("a = \"b\\\"\\n\\\\\"", Some("b\"\n\\")),
            ("a = \"b\\\n c\"", Some("b c")),
            ("a = \"b\n c\"", Some("b\n c")),
            ("a = C=CH, O=x", Some("C=CH, O=x")),
            ("a = b}", Some("b")),
            ("a = {b", Some("{b")),
            ("a =", None),
            ("a = # none", None),
            ("a::b = ::1", Some("::1")),
        ] {
            assert_eq!(setting(text).as_deref(), value, "{text}");
        }
    }

    #[test]
    fn sections_may_open_on_the_next_line_and_inherit() {
        for text in ["s : a, b.c {", "s:a,b.c\n{", "s : a, b.c # why\n\n {"] {
            let Ok((Statement::Section(name, references), 1)) = Reader::new(text).statement() else {
                panic!("{text} is a section")
            };
            assert_eq!((name.as_str(), references), ("s", vec!["a".to_owned(), "b.c".to_owned()]));
        }
    }

    #[test]
    fn includes_are_told_from_settings_of_that_name() {
        for (text, wanted) in [
            ("include conf.d/*.conf", "conf.d/*.conf"),
            ("include \"a b\" # c", "a b"),
            ("include a\\ b}", "a b"),
        ] {
            let Ok((Statement::Include(pattern), _)) = Reader::new(text).statement() else {
                panic!("{text}")
            };
            assert_eq!(pattern, wanted);
        }
        assert_eq!(setting("include = x").as_deref(), Some("x"));
    }

    #[test]
    fn broken_text_is_told_by_what_is_missing() {
        for (text, fault) in [
            ("a = \"b", Fault::OpenString),
            ("a = \"b\\", Fault::OpenString),
            ("= b", Fault::NoName),
            ("a", Fault::NameAlone),
            ("a b = c", Fault::NameAlone),
            ("a : {", Fault::NoReference),
            ("\"a\" = b", Fault::NoName),
        ] {
            assert_eq!(Reader::new(text).statement().err(), Some(fault), "{text}");
        }
    }
}
