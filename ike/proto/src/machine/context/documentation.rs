//! docs/context.cddl describes what is written here, key by key.

use std::collections::BTreeMap;

const STORED: &str = include_str!("stored.rs");
const WINDOW: &str = include_str!("../window/codec.rs");
const RESUMPTION: &str = include_str!("resumption.rs");
const DESCRIPTION: &str = include_str!("../../../../../docs/context.cddl");

/// What a rule describes.
const RULES: [(&str, &str); 18] = [
    ("Envelope", "ike-part"),
    ("Time", "time"),
    ("Stored", "ike-tunnel"),
    ("StoredRedirection", "ike-redirection"),
    ("StoredMobility", "ike-mobility"),
    ("StoredPath", "ike-path"),
    ("StoredIkeSa", "ike-sa"),
    ("StoredPending", "ike-pending"),
    ("StoredOffer", "ike-offer"),
    ("StoredSelector", "ike-selector"),
    ("StoredSuite", "ike-suite"),
    ("StoredChild", "ike-child"),
    ("StoredTask", "ike-task"),
    ("StoredResumption", "ike-resumption"),
    ("StoredSession", "ike-session"),
    ("StoredTicket", "ike-ticket"),
    ("Window", "ike-window"),
    ("Message", "ike-message"),
];

/// Keys, and whether each is optional; of an array how many entries it has.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    Map(BTreeMap<u32, bool>),
    Array(usize),
}

/// The structures of a source by their names.
fn structures(source: &str) -> BTreeMap<String, Shape> {
    let mut found = BTreeMap::new();
    for part in source.split("#[derive(Encode, Decode").skip(1) {
        let (head, rest) = part.split_once("struct ").expect("a structure");
        let name = rest.split(|c: char| !c.is_alphanumeric()).next().expect("a name");
        let body = rest.split("\n}").next().expect("its end");
        let keys = fields(body);
        let is_map = head.contains("#[cbor(map)]");
        found.insert(name.to_owned(), if is_map { Shape::Map(keys) } else { Shape::Array(keys.len()) });
    }
    found
}

fn fields(body: &str) -> BTreeMap<u32, bool> {
    let (mut keys, mut key) = (BTreeMap::new(), None);
    for line in body.lines().map(str::trim) {
        let digits = line.strip_prefix("#[n(").or_else(|| line.strip_prefix("#[cbor(b("));
        if let Some(digits) = digits {
            key = digits.split(')').next().and_then(|digits| digits.parse().ok());
        } else if let (Some(number), Some((_, kind))) = (key, line.split_once(": ")) {
            keys.insert(number, kind.starts_with("Option<"));
            key = None;
        }
    }
    keys
}

/// What a rule of the description says.
fn described(rule: &str) -> Shape {
    let start = DESCRIPTION.find(&format!("\n{rule} = ")).unwrap_or_else(|| panic!("no rule {rule}"));
    let rule = &DESCRIPTION[start + rule.len() + 4..];
    if rule.starts_with('[') {
        return Shape::Array(entries(rule));
    }
    let body = rule.split("\n}").next().expect("its end");
    let entry = |line: &str| {
        let (key, _) = line.split(';').next()?.split_once(" => ")?;
        let digits = key.trim().trim_start_matches("? ");
        Some((digits.parse().ok()?, key.trim().starts_with('?')))
    };
    Shape::Map(body.lines().filter_map(entry).collect())
}

/// Entries of the array that the text begins with.
fn entries(text: &str) -> usize {
    let (mut depth, mut commas) = (0, 0);
    for character in text.chars() {
        match character {
            '[' => depth += 1,
            ']' => depth -= 1,
            ',' if depth == 1 => commas += 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    commas + 1
}

#[test]
fn every_key_is_described() {
    let mut structures = structures(&[STORED, RESUMPTION].concat());
    let window = self::structures(WINDOW);
    structures.extend(
        window
            .into_iter()
            .map(|(name, shape)| (if name == "Stored" { "Window".to_owned() } else { name }, shape)),
    );
    for (name, rule) in RULES {
        let shape = structures.remove(name).unwrap_or_else(|| panic!("no structure {name}"));
        assert_eq!(described(rule), shape, "{rule} is not {name}");
    }
    assert!(structures.is_empty(), "nothing describes {:?}", structures.keys());
}

/// What is compared is there.
#[test]
fn structures_are_found() {
    let structures = structures(STORED);
    let Shape::Map(keys) = &structures["StoredChild"] else { panic!("it is a map") };
    assert_eq!((keys.get(&0), keys.get(&70)), (Some(&false), Some(&true)));
    assert_eq!(structures["Time"], Shape::Array(2));
    assert_eq!(structures["StoredPath"], Shape::Array(3));
}
