//! `[secrets.NAME]` and `[authorities.NAME]`.

use std::path::{Path, PathBuf};

use baton_dataplane::config::reader::{Item, Section, Word, shortened};
use zeroize::Zeroizing;

use super::field::{file_name, identity, list, name, sentences};
use super::{SecretKind, SecretSource, SharedSecret};
use crate::credentials::decode_secret;

/// Beginnings of names that stand for other kinds of secrets in swanctl.conf.
const OTHER_KINDS: [&str; 8] = ["xauth", "ntlm", "private", "rsa", "ecdsa", "pkcs8", "pkcs12", "token"];
/// Beginning of names of postquantum preshared keys.
const PPK: &str = "ppk";
/// Beginning of names of secrets of RADIUS servers.
const RADIUS: &str = "radius";
/// Beginning of names of users' passwords.
const EAP: &str = "eap";
/// Beginning of names of keys that tickets are sealed under.
const TICKET: &str = "ticket";

/// An authority's certificate and its revocation lists.
pub(super) struct Authority {
    pub(super) certificate: String,
    pub(super) revocation_lists: Vec<PathBuf>,
}

pub(super) fn secret(
    own_name: &Word<'_, '_>,
    section: &Section<'_, '_>,
    private: bool,
) -> Option<SharedSecret> {
    let read_name = name(own_name);
    if let Some(kind) = OTHER_KINDS.iter().find(|kind| own_name.text.starts_with(*kind)) {
        let message = format!("names that begin with {kind} stand for secrets that Baton does not use");
        own_name
            .report(message, "begin it with \"ike\" or \"eap\"; private keys have to be stored unencrypted");
    }
    let kind = match own_name.text {
        text if text.starts_with(PPK) => SecretKind::Ppk,
        text if text.starts_with(EAP) => SecretKind::Eap,
        text if text.starts_with(TICKET) => SecretKind::Ticket,
        text if text.starts_with(RADIUS) => SecretKind::Radius,
        _ => SecretKind::Ike,
    };
    let owners = sentences(section, "id", identity);
    if let (SecretKind::Radius, Some(item)) = (kind, section.get("id")) {
        item.report("secrets of RADIUS servers go by their names", "remove it");
    }
    if kind == SecretKind::Eap && owners.as_ref().is_some_and(Vec::is_empty) {
        let remedy = "name the user: id = \"...\"";
        section.place().report(section.source(), "the password is nobody's", remedy);
    }
    if let Some(item) = section.get("id").filter(|_| kind == SecretKind::Ticket) {
        item.report("a key of tickets is nobody's", "leave `id` out");
    }
    let source = source(section, private);
    section.finish();
    Some(SharedSecret { name: read_name?, kind, owners: owners?, source: source? })
}

fn source(section: &Section<'_, '_>, private: bool) -> Option<SecretSource> {
    match (section.get("secret"), section.get("file")) {
        (Some(item), None) => inline(&item, private).map(SecretSource::Inline),
        (None, Some(item)) => {
            let beside = section.source().path().parent().unwrap_or(Path::new(""));
            Some(SecretSource::File(beside.join(file_name(&item.text()?)?)))
        }
        (Some(item), Some(_)) => {
            item.report("both `secret` and `file` are given", "keep one of them");
            None
        }
        (None, None) => {
            let remedy = "name a file of mode 0600 that holds it: file = \"...\"";
            section.place().report(section.source(), "there is no secret", remedy);
            None
        }
    }
}

fn inline(item: &Item<'_, '_>, private: bool) -> Option<Zeroizing<Vec<u8>>> {
    let text = item.string()?;
    if !private {
        let message = "a secret stands in a configuration that others than its owner can read";
        item.report(message, "chmod 0600 the configuration and change the secret, or use `file`");
    }
    match decode_secret(text.as_bytes()) {
        Ok(secret) => Some(secret),
        Err(problem) => {
            item.report(problem, "write text, 0x and hexadecimal digits, or 0s and Base64");
            None
        }
    }
}

pub(super) fn authority(own_name: &Word<'_, '_>, section: &Section<'_, '_>) -> Option<Authority> {
    let read_name = name(own_name);
    let remedy = "name its certificate's file: cacert = \"ca.pem\"";
    let certificate = section.require("cacert", remedy).and_then(|item| file_name(&item.text()?));
    let revocation_lists = list(section, "crl_uris", list_file);
    section.finish();
    read_name?;
    Some(Authority { certificate: certificate?, revocation_lists: revocation_lists? })
}

/// Nothing is fetched: an IKE daemon that opens connections to where a certificate says is a tool of whoever wrote it.
fn list_file(word: &Word<'_, '_>) -> Option<PathBuf> {
    let path = word.text.strip_prefix("file://").map(Path::new).filter(|path| path.is_absolute());
    if path.is_none() {
        let message = format!("\"{}\" is not the URI of a file", shortened(word.text));
        let remedy = "fetch the list by a timer into a file, and write \"file:///etc/baton/ca.crl\"";
        word.report(message, remedy);
    }
    path.map(Path::to_owned)
}
