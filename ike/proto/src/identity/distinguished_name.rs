//! Distinguished names (RFC 5280 section 4.1.2.4): in DER, as strongSwan writes them, and compared.

use std::fmt;

use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{Any, ObjectIdentifier, SetOfVec};
use x509_cert::der::{Decode, Encode, Tag, Tagged};
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};

use super::parse::hexadecimal;

/// The most attributes of a name that is read.
const MAX_ATTRIBUTES: usize = 32;

/// Attribute types by strongSwan's names; where one type has several, the first is written.
const TYPES: [(&str, &str); 28] = [
    ("C", "2.5.4.6"),
    ("ST", "2.5.4.8"),
    ("L", "2.5.4.7"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("S", "2.5.4.4"),
    ("serialNumber", "2.5.4.5"),
    ("STREET", "2.5.4.9"),
    ("T", "2.5.4.12"),
    ("D", "2.5.4.13"),
    ("postalAddress", "2.5.4.16"),
    ("postalCode", "2.5.4.17"),
    ("N", "2.5.4.41"),
    ("G", "2.5.4.42"),
    ("I", "2.5.4.43"),
    ("ID", "2.5.4.45"),
    ("dnQualifier", "2.5.4.46"),
    ("pseudonym", "2.5.4.65"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("E", "1.2.840.113549.1.9.1"),
    ("Email", "1.2.840.113549.1.9.1"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("unstructuredName", "1.2.840.113549.1.9.2"),
    ("unstructuredAddress", "1.2.840.113549.1.9.8"),
    ("employeeNumber", "2.16.840.1.113730.3.1.3"),
];
/// IA5String by definition (RFC 5280 appendix A.1).
const IA5: [&str; 2] = ["0.9.2342.19200300.100.1.25", "1.2.840.113549.1.9.1"];

/// A name taken apart: in each step the attributes, usually one.
pub(crate) struct DistinguishedName(Vec<Vec<Attribute>>);

struct Attribute {
    kind: ObjectIdentifier,
    value: Value,
}

/// A value as it is compared.
#[derive(PartialEq, Eq)]
enum Value {
    /// Of one of ASN.1's string types.
    Text(String),
    /// Anything else: its tag's number and contents.
    Octets(u8, Vec<u8>),
}

impl DistinguishedName {
    /// Takes DER apart; `None` if it is no name.
    pub(crate) fn decode(der: &[u8]) -> Option<Self> {
        let sequence = RdnSequence::from_der(der).ok()?;
        let steps = sequence.iter().map(|step| step.iter().map(Attribute::of).collect()).collect();
        let name = Self(steps);
        (name.0.iter().map(Vec::len).sum::<usize>() <= MAX_ATTRIBUTES).then_some(name)
    }

    /// Reads `C=CH, O=strongSwan, CN=*` or `/C=CH/O=strongSwan`, in this order, into DER; `None` if it is no name.
    pub(crate) fn parse(text: &str) -> Option<Vec<u8>> {
        let (text, separators) = match text.strip_prefix('/') {
            Some(rest) => (rest, "/"),
            None => (text, ",/"),
        };
        let steps: Option<Vec<_>> = split(text, separators).iter().map(|part| step(part)).collect();
        let der = RdnSequence::from(steps?).to_der().ok()?;
        Self::decode(&der).map(|_| der)
    }

    /// How many wildcards were needed for `other` to fit this pattern; `None` if it does not.
    pub(crate) fn matches(&self, other: &Self) -> Option<usize> {
        if self.0.len() != other.0.len() {
            return None;
        }
        self.0.iter().zip(&other.0).map(|(pattern, step)| step_matches(pattern, step)).sum()
    }

    pub(crate) fn has_wildcards(&self) -> bool {
        self.0.iter().flatten().any(|attribute| attribute.value.is_wildcard())
    }

    /// Octets that are the same for names that are equal, and only for these.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for step in &self.0 {
            octets.extend((step.len() as u32).to_be_bytes());
            for attribute in step {
                attribute.append_canonical(&mut octets);
            }
        }
        octets
    }
}

fn step_matches(pattern: &[Attribute], step: &[Attribute]) -> Option<usize> {
    if pattern.len() != step.len() {
        return None;
    }
    pattern.iter().zip(step).map(|(pattern, attribute)| pattern.matches(attribute)).sum()
}

impl Attribute {
    fn of(attribute: &AttributeTypeAndValue) -> Self {
        Self { kind: attribute.oid, value: Value::of(&attribute.value) }
    }

    fn matches(&self, other: &Self) -> Option<usize> {
        if self.kind != other.kind {
            return None;
        }
        if self.value == other.value { Some(0) } else { self.value.is_wildcard().then_some(1) }
    }

    fn append_canonical(&self, octets: &mut Vec<u8>) {
        let (tag, value) = match &self.value {
            Value::Text(text) => (0, text.as_bytes().to_ascii_lowercase()),
            Value::Octets(tag, value) => (*tag, value.clone()),
        };
        for part in [self.kind.as_bytes(), &[tag], &value] {
            octets.extend((part.len() as u32).to_be_bytes());
            octets.extend(part);
        }
    }
}

impl Value {
    fn of(value: &Any) -> Self {
        text_of(value).map_or_else(
            || Self::Octets(value.tag().number().value() as u8, value.value().to_vec()),
            Self::Text,
        )
    }

    fn is_wildcard(&self) -> bool {
        matches!(self, Self::Text(text) if text == "*")
    }
}

/// The text of a string of any of X.520's types; T.61 is read as Latin-1, which is what is found in it.
fn text_of(value: &Any) -> Option<String> {
    match value.tag() {
        Tag::Utf8String | Tag::PrintableString | Tag::Ia5String | Tag::NumericString | Tag::VisibleString => {
            String::from_utf8(value.value().to_vec()).ok()
        }
        Tag::TeletexString => Some(value.value().iter().map(|octet| char::from(*octet)).collect()),
        Tag::BmpString => {
            let units: Vec<u16> =
                value.value().chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]])).collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            f.write_str(if index == 0 { "" } else { ", " })?;
            for (index, attribute) in step.iter().enumerate() {
                f.write_str(if index == 0 { "" } else { "+" })?;
                attribute.fmt(f)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.kind.to_string();
        let name = TYPES.iter().find(|(_, number)| *number == kind).map_or(kind.as_str(), |(name, _)| name);
        write!(f, "{name}=")?;
        match &self.value {
            Value::Text(text) => f.write_str(&escaped(text)),
            Value::Octets(_, octets) => octets.iter().try_fold((), |(), octet| write!(f, "{octet:02x}")),
        }
    }
}

/// Quoted where it would be read otherwise; control characters never reach a log.
fn escaped(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    let is_plain =
        !text.contains([',', '/', '"', '\\', '+', '=']) && text.trim() == text && !text.starts_with('#');
    if is_plain { text } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")) }
}

/// Splits at separators that stand outside of quotes and have no backslash before them.
fn split<'a>(text: &'a str, separators: &str) -> Vec<&'a str> {
    let (mut parts, mut start, mut is_quoted, mut is_escaped) = (Vec::new(), 0, false, false);
    for (index, c) in text.char_indices() {
        if is_escaped {
            is_escaped = false;
        } else if c == '\\' {
            is_escaped = true;
        } else if c == '"' {
            is_quoted = !is_quoted;
        } else if !is_quoted && separators.contains(c) {
            parts.push(&text[start..index]);
            start = index + c.len_utf8();
        }
    }
    parts.push(&text[start..]);
    parts
}

/// `CN=moon`, or several with `+` between them; but a value may have a plus sign as well.
fn step(part: &str) -> Option<RelativeDistinguishedName> {
    let several: Option<Vec<_>> = split(part, "+").iter().map(|part| attribute(part)).collect();
    let attributes = several.or_else(|| Some(vec![attribute(part)?]))?;
    SetOfVec::try_from(attributes).ok().map(RelativeDistinguishedName::from)
}

fn attribute(part: &str) -> Option<AttributeTypeAndValue> {
    let (kind, value) = part.split_once('=')?;
    let oid = attribute_type(kind.trim())?;
    let value = unquoted(value.trim())?;
    Some(AttributeTypeAndValue { oid, value: Any::new(string_type(oid, &value), value.into_bytes()).ok()? })
}

fn attribute_type(name: &str) -> Option<ObjectIdentifier> {
    let known = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    ObjectIdentifier::new(known.map_or(name, |(_, number)| number)).ok()
}

/// The value without quotes and backslashes; `#hex` is its octets.
fn unquoted(value: &str) -> Option<String> {
    if let Some(digits) = value.strip_prefix('#') {
        return String::from_utf8(hexadecimal(digits)?).ok();
    }
    let inner = match value.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"')?,
        None => value,
    };
    let (mut text, mut is_escaped) = (String::new(), false);
    for c in inner.chars() {
        is_escaped = c == '\\' && !is_escaped;
        if !is_escaped {
            text.push(c);
        }
    }
    (!text.is_empty()).then_some(text)
}

/// PrintableString as far as it goes, otherwise UTF8String (RFC 5280 section 4.1.2.4).
fn string_type(kind: ObjectIdentifier, value: &str) -> Tag {
    let is_printable = |c: char| c.is_ascii_alphanumeric() || " '()+,-./:=?".contains(c);
    if IA5.contains(&kind.to_string().as_str()) && value.is_ascii() {
        Tag::Ia5String
    } else if value.chars().all(is_printable) {
        Tag::PrintableString
    } else {
        Tag::Utf8String
    }
}
