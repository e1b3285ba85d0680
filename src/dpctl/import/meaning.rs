//! What swanctl's options mean where their names alone do not say it.

use zeroize::Zeroizing;

use super::comparison::{Here, Row};
use super::convert::Converted;
use super::draft::{Form, Table};
use super::inherit::Whole;

/// Options that say who may come in or what is protected. Without one of them its connection, child or secret would let
/// in more than before, or do something else: it is left out with it.
const GUARDS: [&str; 28] = [
    "connections.<conn>.version",
    "connections.<conn>.remote_addrs",
    "connections.<conn>.ppk_id",
    "connections.<conn>.ppk_required",
    "connections.<conn>.mediation",
    "connections.<conn>.mediated_by",
    "connections.<conn>.local<suffix>.auth",
    "connections.<conn>.local<suffix>.id",
    "connections.<conn>.local<suffix>.pubkeys",
    "connections.<conn>.local<suffix>.cert<suffix>",
    "connections.<conn>.remote<suffix>.auth",
    "connections.<conn>.remote<suffix>.id",
    "connections.<conn>.remote<suffix>.eap_id",
    "connections.<conn>.remote<suffix>.groups",
    "connections.<conn>.remote<suffix>.cert_policy",
    "connections.<conn>.remote<suffix>.certs",
    "connections.<conn>.remote<suffix>.cert<suffix>",
    "connections.<conn>.remote<suffix>.cacerts",
    "connections.<conn>.remote<suffix>.cacert<suffix>",
    "connections.<conn>.remote<suffix>.ca_id",
    "connections.<conn>.remote<suffix>.pubkeys",
    "connections.<conn>.remote<suffix>.revocation",
    "connections.<conn>.children.<child>.ah_proposals",
    "connections.<conn>.children.<child>.local_ts",
    "connections.<conn>.children.<child>.remote_ts",
    "connections.<conn>.children.<child>.mode",
    "connections.<conn>.children.<child>.label",
    "pools.<name>.addrs",
];

/// Values that say what Baton does anyway.
const NOTHING: [(&str, &[&str]); 21] = [
    ("connections.<conn>.version", &["2"]),
    ("connections.<conn>.aggressive", &["no"]),
    ("connections.<conn>.pull", &["yes"]),
    ("connections.<conn>.mobike", &["no"]),
    ("connections.<conn>.dpd_timeout", &["0", "0s"]),
    ("connections.<conn>.childless", &["never"]),
    ("connections.<conn>.ppk_required", &["no"]),
    ("connections.<conn>.reauth_time", &["0", "0s"]),
    ("connections.<conn>.mediation", &["no"]),
    ("connections.<conn>.children.<child>.sha256_96", &["no"]),
    ("connections.<conn>.children.<child>.rand_bytes", &["0"]),
    ("connections.<conn>.children.<child>.rand_packets", &["0"]),
    ("connections.<conn>.children.<child>.hostaccess", &["no"]),
    ("connections.<conn>.children.<child>.policies", &["yes"]),
    ("connections.<conn>.children.<child>.policies_fwd_out", &["no"]),
    ("connections.<conn>.children.<child>.ipcomp", &["no"]),
    ("connections.<conn>.children.<child>.inactivity", &["0", "0s"]),
    ("connections.<conn>.children.<child>.reqid", &["0"]),
    ("connections.<conn>.children.<child>.hw_offload", &["no"]),
    ("connections.<conn>.children.<child>.copy_ecn", &["yes"]),
    ("connections.<conn>.dscp", &["0", "000000"]),
];

/// Lists, for which an array reads best.
const LISTS: [&str; 12] = [
    "local_addrs",
    "remote_addrs",
    "proposals",
    "vips",
    "pools",
    "certs",
    "cacerts",
    "esp_proposals",
    "local_ts",
    "remote_ts",
    "crl_uris",
    "<attr>",
];

/// Numbers, which swanctl.conf does not tell from words.
const NUMBERS: [&str; 10] = [
    "local_port",
    "remote_port",
    "keyingtries",
    "window",
    "fragment_size",
    "rekey_packets",
    "life_packets",
    "replay_window",
    "priority",
    "tfc_padding",
];

/// Older words for the same.
const WORDS: [(&str, &str, &str); 4] = [
    ("dpd_action", "hold", "trap"),
    ("start_action", "route", "trap"),
    ("close_action", "hold", "trap"),
    ("close_action", "restart", "start"),
];

/// Whether an option is carried.
pub(super) fn is_there(row: &Row) -> bool {
    row.here != Here::NotThere
}

/// Whether the line is about a secret of that section's kind.
pub(super) fn is_secret_of(row: &Row, section: &str) -> bool {
    let kind = row.option.strip_prefix("secrets.").and_then(|rest| rest.split_once("<suffix>."));
    kind.is_some_and(|(kind, _)| section.starts_with(kind))
}

pub(super) fn guards(option: &str) -> bool {
    option.starts_with("secrets.") || GUARDS.contains(&option)
}

/// Whether a guard is lost that only allows more: both versions of IKE.
pub(super) fn is_optional(option: &str, text: &str) -> bool {
    option == "connections.<conn>.version" && text == "0"
}

/// Whether a value of an option that is not there changes nothing.
pub(super) fn is_nothing(option: &str, text: &str) -> bool {
    // The order of rounds is of no account where there is one.
    option.rsplit('.').next() == Some("round")
        || NOTHING.iter().any(|(known, values)| *known == option && values.contains(&text))
}

/// How a value is written first, and what is lost of it.
pub(super) fn form(option: &str, text: &str) -> (Form, Option<String>) {
    let name = option.rsplit('.').next().unwrap_or(option);
    if name == "auth" {
        return method(text);
    }
    if LISTS.contains(&name) {
        let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
        return (Form::List(words.map(|word| Zeroizing::new(word.to_owned())).collect()), None);
    }
    if NUMBERS.contains(&name)
        && let Some(number) = number(text)
    {
        return (number, None);
    }
    let newer = WORDS.iter().find(|(of, word, _)| *of == name && *word == text).map(|(_, _, newer)| *newer);
    (Form::Text(Zeroizing::new(newer.unwrap_or(text).to_owned())), None)
}

/// A number, if it is one.
pub(super) fn number(text: &str) -> Option<Form> {
    let is_number = (1..=19).contains(&text.len()) && text.bytes().all(|octet| octet.is_ascii_digit());
    let digits = text.trim_start_matches('0');
    let digits = if digits.is_empty() { "0" } else { digits };
    is_number.then(|| Form::Integer(Zeroizing::new(digits.to_owned())))
}

/// Kinds of keys and constraints stand behind `pubkey`, or for it.
fn method(text: &str) -> (Form, Option<String>) {
    let first = text.strip_prefix("ike:").unwrap_or(text);
    let first = first.split(['-', ' ']).next().unwrap_or_default();
    let is_signature = matches!(first, "pubkey" | "rsa" | "ecdsa" | "ed25519" | "ed448" | "bliss");
    let word = if is_signature { "pubkey" } else { text };
    let lost = (word != text).then(|| format!("\"{}\" is carried as \"pubkey\"", super::shortened(text)));
    (Form::Text(Zeroizing::new(word.to_owned())), lost)
}

/// Why an option has no meaning beside the method of authentication, which swanctl passes over and Baton refuses.
pub(super) fn senseless(end: &Whole<'_>, key: &str) -> Option<&'static str> {
    let auth = end.values.iter().find(|(name, _)| *name == "auth").and_then(|(_, value)| value.text.as_ref());
    let method = auth.map_or("pubkey", |text| text.as_str());
    match key {
        "certs" | "cacerts" | "revocation" if matches!(method, "psk" | "eap-mschapv2" | "eap-radius") => {
            Some("it has no meaning beside an authentication without certificates")
        }
        "eap_id" | "aaa_id" if !method.starts_with("eap") => {
            Some("it has no meaning beside an authentication without EAP")
        }
        _ => None,
    }
}

/// What comes into force or does not as one: a child, a connection, a pool, a secret, an authority.
pub(super) fn whole_of(path: &[String]) -> &[String] {
    let is_child = path.get(2).is_some_and(|part| part == "children");
    &path[..path.len().min(if is_child { 4 } else { 2 })]
}

/// Connections with shared secrets or passwords need one. The parser would tell of one connection at a time.
pub(super) fn secrets_are_there(to: &mut Converted) {
    for (method, kind) in [("psk", "ike"), ("eap-mschapv2", "eap")] {
        let mut tables = to.draft.tables.iter().filter(|table| !table.left_out);
        let is_secret = |table: &Table| table.path[0] == "secrets" && table.path[1].starts_with(kind);
        if tables.any(is_secret) {
            continue;
        }
        let needs = to.draft.tables.iter().filter(|table| !table.left_out && is_by(table, method));
        let needs: Vec<_> = needs.map(|table| (table.path.clone(), table.origin)).collect();
        for (path, origin) in needs {
            to.leave_out(&path, origin, &format!("it needs a secret, and no secrets.{kind} section has one"));
        }
    }
}

/// strongswan.conf, which is not read, says where RADIUS servers are.
pub(super) fn servers_are_elsewhere(to: &mut Converted) {
    let tables = to.draft.tables.iter().filter(|table| !table.left_out && is_by(table, "eap-radius"));
    let needs: Vec<_> = tables.map(|table| (table.path.clone(), table.origin)).collect();
    for (path, origin) in needs {
        let why = "strongswan.conf names its RADIUS servers; add [eap-radius.servers.NAME], and this connection by hand";
        to.leave_out(&path, origin, why);
    }
}

/// Whether an end authenticates by that method.
fn is_by(table: &Table, method: &str) -> bool {
    let fits = |form: &Form| matches!(form, Form::Text(text) if text.starts_with(method));
    table.path.len() == 3 && table.entries.iter().any(|entry| entry.key == "auth" && fits(&entry.form))
}
