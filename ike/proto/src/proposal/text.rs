//! Proposals as text.

use std::fmt;
use std::str::FromStr;

use super::keyword::Keyword;
use super::{Additional, EspEncryption, EspIntegrity, EspProposal, IkeProposal, ProposalError, has_methods};
use crate::crypto::{Encryption, Integrity, KeyExchangeMethod, Prf};

/// By RFC 8247: AEADs first; SHA-1 and groups below 2048 bits are not among them.
const IKE_DEFAULTS: [&str; 2] = [
    "aes128gcm16-aes256gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512\
     -x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048",
    "aes128-aes256-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512\
     -x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048",
];

/// By RFC 8221. As with strongSwan's, a rekeying has no key exchange of its own; one that the peer insists on is done.
const ESP_DEFAULTS: [&str; 2] = [
    "aes128gcm16-aes256gcm16-chacha20poly1305\
     -none-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048-esn-noesn",
    "aes128-aes256-sha256-sha384-sha512\
     -none-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048-esn-noesn",
];

/// What stands for the defaults.
const DEFAULT: &str = "default";

/// The words of a proposal, by kind.
#[derive(Default)]
struct Words {
    encryption: Vec<(String, EspEncryption)>,
    integrity: Vec<(String, EspIntegrity)>,
    prf: Vec<(String, Prf)>,
    groups: Vec<(String, Option<crate::crypto::Group>)>,
    additional: Additional,
    extended_sequence: Vec<(String, bool)>,
}

impl Words {
    fn parse(text: &str) -> Result<Self, ProposalError> {
        let mut words = Self::default();
        for word in text.trim().split('-').map(str::trim) {
            if word.is_empty() {
                return Err(ProposalError::Empty(text.to_owned()));
            }
            words.add(word)?;
        }
        Ok(words)
    }

    fn add(&mut self, word: &str) -> Result<(), ProposalError> {
        let name = word.to_owned();
        match Keyword::parse(word)? {
            Keyword::Encryption(algorithm) => push(&mut self.encryption, name, algorithm),
            Keyword::Integrity(algorithm) => push(&mut self.integrity, name, algorithm),
            Keyword::Prf(algorithm) => push(&mut self.prf, name, algorithm),
            Keyword::Group(group) => push(&mut self.groups, name, group),
            Keyword::Additional(place, method) => {
                if !self.additional[place].contains(&method) {
                    self.additional[place].push(method);
                }
            }
            Keyword::ExtendedSequence(extended) => push(&mut self.extended_sequence, name, extended),
        }
        Ok(())
    }

    /// Whether the ciphers authenticate by themselves.
    fn is_aead(&self, text: &str) -> Result<bool, ProposalError> {
        let mut aeads = self.encryption.iter().map(|(_, algorithm)| algorithm.cipher().is_aead());
        let first = aeads.next().ok_or_else(|| lacks(text, "an encryption algorithm", "aes128gcm16"))?;
        if aeads.all(|aead| aead == first) { Ok(first) } else { Err(ProposalError::Mixed(text.to_owned())) }
    }
}

fn push<T: PartialEq>(list: &mut Vec<(String, T)>, word: String, algorithm: T) {
    if list.iter().all(|(_, known)| *known != algorithm) {
        list.push((word, algorithm));
    }
}

fn values<T>(words: Vec<(String, T)>) -> Vec<T> {
    words.into_iter().map(|(_, value)| value).collect()
}

fn lacks(text: &str, what: &'static str, example: &'static str) -> ProposalError {
    ProposalError::Lacks { proposal: text.to_owned(), what, example }
}

/// Refuses words of a kind that have no meaning.
fn refuse<T>(
    words: &[(String, T)],
    protocol: &'static str,
    remedy: &'static str,
) -> Result<(), ProposalError> {
    match words.first() {
        None => Ok(()),
        Some((word, _)) => Err(ProposalError::Misplaced { word: word.clone(), protocol, remedy }),
    }
}

/// Takes words over that the IKE SA has, and says of the first that it has not.
fn convert<T: Copy, U>(
    words: &[(String, T)],
    into: impl Fn(T) -> Option<U>,
    remedy: &'static str,
) -> Result<Vec<U>, ProposalError> {
    let misplaced = |word: &str| ProposalError::Misplaced { word: word.to_owned(), protocol: "IKE", remedy };
    words.iter().map(|(word, value)| into(*value).ok_or_else(|| misplaced(word))).collect()
}

impl FromStr for IkeProposal {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let words = Words::parse(text)?;
        let is_aead = words.is_aead(text)?;
        refuse(&words.extended_sequence, "IKE", "leave it out, it belongs to ESP")?;
        let encryption = convert(
            &words.encryption,
            ike_encryption,
            "take AES-CBC, AES-GCM with a 16-octet ICV, or ChaCha20",
        )?;
        let integrity = convert(&words.integrity, ike_integrity, "take sha256, sha384, sha512 or sha1")?;
        let groups = convert(&words.groups, |group| group, "an IKE SA has a key exchange, take x25519")?;
        if groups.is_empty() {
            return Err(lacks(text, "a group", "x25519"));
        }
        let (integrity, prf) = hashes(text, is_aead, &words, integrity)?;
        Ok(Self { encryption, integrity, prf, groups, additional: words.additional })
    }
}

/// Integrity algorithms and PRFs. Where no PRF is named, they are those of the integrity algorithms, which with an
/// AEAD have no other meaning.
fn hashes(
    text: &str,
    is_aead: bool,
    words: &Words,
    integrity: Vec<Integrity>,
) -> Result<(Vec<Integrity>, Vec<Prf>), ProposalError> {
    let prf = match words.prf.as_slice() {
        [] => integrity.iter().map(|a| a.prf()).collect(),
        prf if is_aead => {
            refuse(&words.integrity, "IKE", "leave it out, the cipher authenticates and the PRF is named")?;
            prf.iter().map(|(_, a)| *a).collect()
        }
        prf => prf.iter().map(|(_, a)| *a).collect::<Vec<_>>(),
    };
    match (prf.is_empty(), is_aead) {
        (true, true) => Err(lacks(text, "a PRF", "prfsha256")),
        (_, true) => Ok((Vec::new(), prf)),
        (_, false) if integrity.is_empty() => Err(lacks(text, "an integrity algorithm", "sha256")),
        (_, false) => Ok((integrity, prf)),
    }
}

fn ike_encryption(algorithm: EspEncryption) -> Option<Encryption> {
    Encryption::from_id(algorithm.cipher().id(), algorithm.key_length_attribute())
}

fn ike_integrity(algorithm: EspIntegrity) -> Option<Integrity> {
    Integrity::from_id(algorithm.id())
}

impl FromStr for EspProposal {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let words = Words::parse(text)?;
        refuse(&words.prf, "ESP", "leave it out, it belongs to IKE")?;
        if words.is_aead(text)? {
            refuse(&words.integrity, "ESP", "leave it out, the cipher authenticates")?;
        } else if words.integrity.is_empty() {
            return Err(lacks(text, "an integrity algorithm", "sha256"));
        }
        let has_group = !words.groups.is_empty() && words.groups.iter().all(|(_, group)| group.is_some());
        if has_methods(&words.additional) && !has_group {
            return Err(lacks(text, "a group before its additional key exchanges", "x25519"));
        }
        Ok(Self {
            additional: words.additional,
            encryption: values(words.encryption),
            integrity: values(words.integrity),
            groups: or(values(words.groups), None),
            extended_sequence: or(values(words.extended_sequence), false),
        })
    }
}

fn or<T>(list: Vec<T>, default: T) -> Vec<T> {
    if list.is_empty() { vec![default] } else { list }
}

impl IkeProposal {
    /// What is offered and accepted where nothing is configured, and what `default` stands for.
    pub fn defaults() -> Vec<Self> {
        IKE_DEFAULTS.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Reads proposals with commas between them, of which `default` may be one.
    ///
    /// # Errors
    /// [`ProposalError`] about the first that is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ProposalError> {
        parse_list(text, Self::defaults)
    }
}

impl EspProposal {
    /// What is offered and accepted where nothing is configured, and what `default` stands for.
    pub fn defaults() -> Vec<Self> {
        ESP_DEFAULTS.iter().filter_map(|text| text.parse().ok()).collect()
    }

    /// Reads proposals with commas between them, of which `default` may be one.
    ///
    /// # Errors
    /// [`ProposalError`] about the first that is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ProposalError> {
        parse_list(text, Self::defaults)
    }
}

fn parse_list<T: FromStr<Err = ProposalError>>(
    text: &str,
    defaults: fn() -> Vec<T>,
) -> Result<Vec<T>, ProposalError> {
    let mut list = Vec::new();
    for proposal in text.split(',').map(str::trim) {
        match proposal {
            DEFAULT => list.extend(defaults()),
            "" => return Err(ProposalError::Empty(text.to_owned())),
            proposal => list.push(proposal.parse()?),
        }
    }
    Ok(list)
}

impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encryption = self.encryption.iter().map(|a| a.keyword());
        let integrity = self.integrity.iter().map(|a| a.keyword());
        let prf = self.prf.iter().map(|a| a.keyword());
        let groups = self.groups.iter().map(|a| a.keyword());
        let words = encryption.chain(integrity).chain(prf).chain(groups).map(str::to_owned);
        f.pad(&words.chain(additional_words(&self.additional)).collect::<Vec<_>>().join("-"))
    }
}

impl fmt::Display for EspProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let encryption = self.encryption.iter().map(ToString::to_string);
        let integrity = self.integrity.iter().map(|a| a.keyword().to_owned());
        let group =
            |group: &Option<crate::crypto::Group>| group.map_or("none", |group| group.keyword()).to_owned();
        let groups = self.groups.iter().filter(|_| self.groups != [None]).map(group);
        let extended = |extended: &bool| if *extended { "esn" } else { "noesn" }.to_owned();
        let extended =
            self.extended_sequence.iter().filter(|_| self.extended_sequence != [false]).map(extended);
        let additional = additional_words(&self.additional);
        let words = encryption.chain(integrity).chain(groups).chain(additional).chain(extended);
        f.pad(&words.collect::<Vec<_>>().join("-"))
    }
}

fn additional_words(additional: &Additional) -> impl Iterator<Item = String> {
    let name = |method: &Option<KeyExchangeMethod>| method.map_or("none", KeyExchangeMethod::keyword);
    let of_place = move |(place, methods): (usize, &Vec<Option<KeyExchangeMethod>>)| {
        methods.iter().map(|method| format!("ke{place}_{}", name(method))).collect::<Vec<_>>()
    };
    (1..).zip(additional).flat_map(of_place)
}
