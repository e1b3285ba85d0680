//! strongSwan's keywords.

use super::{EspEncryption, EspIntegrity, ProposalError};
use crate::crypto::{AdditionalMethods, Group, KeyExchangeMethod, Prf};

/// What a keyword says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Encryption(EspEncryption),
    Integrity(EspIntegrity),
    Prf(Prf),
    /// `None` is no key exchange.
    Group(Option<Group>),
    /// A place from 0, and the method; `None` is none.
    Additional(usize, Option<KeyExchangeMethod>),
    ExtendedSequence(bool),
}

/// Other words for the same.
const ALIASES: [(&str, &str); 7] = [
    ("aes", "aes128"),
    ("sha", "sha1"),
    ("sha2_256", "sha256"),
    ("sha2_384", "sha384"),
    ("sha2_512", "sha512"),
    ("curve25519", "x25519"),
    ("modpnone", "none"),
];

/// Other ends of words for the same: ICV lengths in bits, or none.
const ENDINGS: [(&str, &str); 8] = [
    ("gcm64", "gcm8"),
    ("gcm96", "gcm12"),
    ("gcm128", "gcm16"),
    ("gcm", "gcm16"),
    ("ccm64", "ccm8"),
    ("ccm96", "ccm12"),
    ("ccm128", "ccm16"),
    ("ccm", "ccm16"),
];

const WEAK: &str =
    "RFC 8247 or RFC 8221 advises against it; take aes128gcm16, sha256, prfsha256, x25519 or modp3072";
const ABSENT: &str = "this gateway does not have it; take aes128gcm16, sha256, prfsha256, x25519 or modp3072";
const ONLY_ADDITIONAL: &str =
    "its public values are large: it comes after another key exchange; write x25519-ke1_mlkem768";

/// Words of strongSwan's, or beginnings of some, that mean nothing here, and why.
const REFUSED: [(&[&str], &str); 3] = [
    (
        &[
            "des",
            "3des",
            "md5",
            "prfmd5",
            "blowfish",
            "cast128",
            "modp768",
            "modp1024",
            "modp1536",
            "modp2048s",
            "modpnull",
            "ecp192",
            "ecp224",
        ],
        WEAK,
    ),
    (
        &[
            "camellia",
            "serpent",
            "twofish",
            "aesxcbc",
            "prfaes",
            "prfcamellia",
            "sha1_160",
            "sha256_96",
            "sha2_256_96",
            "modp6144",
            "modp8192",
            "ecp256bp",
            "ecp384bp",
            "ecp512bp",
            "curve448",
            "x448",
            "ntru",
            "kyber",
            "chacha20poly1305compat",
        ],
        ABSENT,
    ),
    (&["mlkem"], ONLY_ADDITIONAL),
];

/// The longest word that is looked at.
const MAX_LENGTH: usize = 32;

impl Keyword {
    pub(super) fn parse(word: &str) -> Result<Self, ProposalError> {
        if let Some((place, method)) = place(word) {
            return additional(place, method).ok_or_else(|| refusal(word));
        }
        let canonical = canonical(word);
        let found = all().find(|(known, _)| *known == canonical);
        found.map(|(_, keyword)| keyword).ok_or_else(|| refusal(word))
    }
}

/// The place from 0 of `ke1_...` to `ke7_...`, and the name of what is in it.
fn place(word: &str) -> Option<(usize, &str)> {
    let (place, method) = word.strip_prefix("ke")?.split_once('_')?;
    let place = place.parse::<usize>().ok().filter(|_| place.len() == 1)?.checked_sub(1)?;
    (place < AdditionalMethods::PLACES).then_some((place, method))
}

/// A method for a place.
fn additional(place: usize, name: &str) -> Option<Keyword> {
    let canonical = canonical(name);
    if canonical == "none" {
        return Some(Keyword::Additional(place, None));
    }
    let method = KeyExchangeMethod::all().find(|known| known.keyword() == canonical);
    method.map(|method| Keyword::Additional(place, Some(method)))
}

/// Every keyword under the name that we write.
fn all() -> impl Iterator<Item = (String, Keyword)> {
    let encryption = EspEncryption::all().map(|a| (a.to_string(), Keyword::Encryption(a)));
    let integrity = EspIntegrity::ALL.map(|a| (a.keyword().to_owned(), Keyword::Integrity(a)));
    let prf = Prf::ALL.map(|a| (a.keyword().to_owned(), Keyword::Prf(a)));
    let group = Group::ALL.map(|a| (a.keyword().to_owned(), Keyword::Group(Some(a))));
    let others = [
        ("none".to_owned(), Keyword::Group(None)),
        ("esn".to_owned(), Keyword::ExtendedSequence(true)),
        ("noesn".to_owned(), Keyword::ExtendedSequence(false)),
    ];
    encryption.chain(integrity).chain(prf).chain(group).chain(others)
}

fn canonical(word: &str) -> String {
    if let Some((_, same)) = ALIASES.iter().find(|(alias, _)| *alias == word) {
        return (*same).to_owned();
    }
    let ending = ENDINGS.iter().find_map(|(end, same)| Some((word.strip_suffix(end)?, same)));
    ending.map_or_else(|| word.to_owned(), |(front, same)| format!("{front}{same}"))
}

fn refusal(word: &str) -> ProposalError {
    let refused = REFUSED.iter().find(|(words, _)| words.iter().any(|known| word.starts_with(known)));
    match refused {
        Some((_, reason)) => ProposalError::NotOffered { word: word.to_owned(), reason },
        None => ProposalError::Unknown { word: word.to_owned(), near: near(word) },
    }
}

/// The keyword that is fewest edits away, if that is a third of the word at most.
fn near(word: &str) -> Option<String> {
    if word.len() > MAX_LENGTH {
        return None;
    }
    let lower = word.to_lowercase();
    let names = all().map(|(name, _)| name).chain(ALIASES.map(|(alias, _)| alias.to_owned()));
    let best = names.map(|name| (distance(&lower, &name), name)).min()?;
    (3 * best.0 <= word.len()).then_some(best.1)
}

/// Insertions, removals and replacements between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (place, from) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], place + 1);
        for (column, to) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = row[column + 1];
            row[column + 1] = replaced.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_keyword_means_itself() {
        assert_eq!(all().count(), 29 + 5 + 4 + 7 + 3);
        for (name, keyword) in all() {
            assert_eq!(Keyword::parse(&name), Ok(keyword), "{name}");
        }
    }

    #[test]
    fn aliases_mean_what_they_mean_to_strongswan() {
        let same = [
            ("aes", "aes128"),
            ("aes192gcm", "aes192gcm16"),
            ("aes256gcm128", "aes256gcm16"),
            ("aes128gcm96", "aes128gcm12"),
            ("aes128gcm64", "aes128gcm8"),
            ("aes256ccm", "aes256ccm16"),
            ("aes192ccm64", "aes192ccm8"),
            ("aes192ccm96", "aes192ccm12"),
            ("aes192ccm128", "aes192ccm16"),
            ("sha", "sha1"),
            ("sha2_256", "sha256"),
            ("sha2_384", "sha384"),
            ("sha2_512", "sha512"),
            ("curve25519", "x25519"),
            ("modpnone", "none"),
        ];
        for (alias, name) in same {
            assert_eq!(Keyword::parse(alias), Keyword::parse(name), "{alias}");
            assert!(Keyword::parse(alias).is_ok(), "{alias}");
        }
    }

    #[test]
    fn refusals_say_why() {
        let said = |word: &str| Keyword::parse(word).unwrap_err().to_string();
        insta::assert_snapshot!(
            ["aes128gmc16", "AES128", "3des", "md5", "modp1024", "x448", "mlkem768", "ke1_mlkem", "ke8_mlkem768", "ke0_x25519", "", "wort"].map(said).join("\n"),
            @r#"
        "aes128gmc16" is no keyword of an algorithm; did you mean "aes128gcm16"?
        "AES128" is no keyword of an algorithm; did you mean "aes128"?
        "3des" is not offered: RFC 8247 or RFC 8221 advises against it; take aes128gcm16, sha256, prfsha256, x25519 or modp3072
        "md5" is not offered: RFC 8247 or RFC 8221 advises against it; take aes128gcm16, sha256, prfsha256, x25519 or modp3072
        "modp1024" is not offered: RFC 8247 or RFC 8221 advises against it; take aes128gcm16, sha256, prfsha256, x25519 or modp3072
        "x448" is not offered: this gateway does not have it; take aes128gcm16, sha256, prfsha256, x25519 or modp3072
        "mlkem768" is not offered: its public values are large: it comes after another key exchange; write x25519-ke1_mlkem768
        "ke1_mlkem" is no keyword of an algorithm
        "ke8_mlkem768" is no keyword of an algorithm
        "ke0_x25519" is no keyword of an algorithm
        "" is no keyword of an algorithm
        "wort" is no keyword of an algorithm
        "#
        );
        assert!(said(&"x".repeat(100_000)).contains("no keyword"), "and takes no time");
    }
}
