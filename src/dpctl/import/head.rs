//! What swanctl.conf does not say: which gateway this is. It is printed where the command line says it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use baton_dataplane::config::field::is_unicast;

use super::draft::{Draft, Form, line};
use super::error::ImportError;
use crate::dpctl::cli::ImportOptions;

/// Directories of credentials beside a swanctl.conf.
const DIRECTORIES: [&str; 4] = ["x509", "x509ca", "private", "pkcs8"];
/// Documentation's (RFC 5737): the parser wants one, and none is known.
const NOBODY: &str = "192.0.2.1";

/// The beginning of the text.
pub(super) struct Head {
    /// Before the converted sections, for the parser.
    pub(super) text: String,
    /// Instead of it, where it is not to be printed.
    pub(super) comment: String,
    pub(super) is_wanted: bool,
    /// Where the text stands or would stand.
    pub(super) path: PathBuf,
}

pub(super) fn head(options: &ImportOptions, draft: &Draft) -> Result<Head, ImportError> {
    let addresses = addresses(options, draft);
    let path = options.output.clone().unwrap_or_else(|| PathBuf::from("baton.toml"));
    if let (Some(node), Some(cluster), Some(outer), Some(inner)) =
        (options.node, &options.cluster, &options.outer, &options.inner)
    {
        if addresses.is_empty() {
            return Err(ImportError::NoAddress);
        }
        let mut text = format!("[node]\nid = {node}\n{}\n\n[outer]\n", line("cluster", cluster));
        let _ = writeln!(text, "{}\naddresses = {}\n", line("interface", outer), quoted(&addresses));
        let _ = writeln!(text, "[inner]\n{}", line("interface", inner));
        if let Some(directory) = credentials(&options.file) {
            let _ = writeln!(text, "\n[ike]\n{}", line("credential_directory", &directory));
        }
        return Ok(Head { text, comment: String::new(), is_wanted: true, path });
    }
    let for_parser = if addresses.is_empty() { format!("\"{NOBODY}\"") } else { quoted(&addresses) };
    let for_parser = for_parser.trim_matches(['[', ']']);
    let text = format!(
        "[node]\nid = 1\ncluster = \"import\"\n[outer]\ninterface = \"outer0\"\naddresses = [{for_parser}]\n\
         [inner]\ninterface = \"inner0\"\n"
    );
    Ok(Head { text, comment: comment(options, &addresses), is_wanted: false, path })
}

/// What the operator has to have in the file that this is appended to.
fn comment(options: &ImportOptions, addresses: &BTreeSet<IpAddr>) -> String {
    let mut text = String::from(
        "# Append this to the configuration of a gateway, which has [node], [outer] and [inner].\n",
    );
    if !addresses.is_empty() {
        let _ = writeln!(text, "# Among [outer] addresses have to be: {}", quoted(addresses));
    }
    if let Some(directory) = credentials(&options.file) {
        let _ = writeln!(text, "# Below [ike] belongs: {}", line("credential_directory", &directory));
    }
    text
}

/// Single addresses of ours that connections name, and those of the command line.
fn addresses(options: &ImportOptions, draft: &Draft) -> BTreeSet<IpAddr> {
    let entries = draft.tables.iter().filter(|table| table.path.len() == 2).flat_map(|table| &table.entries);
    let lists = entries.filter(|entry| entry.key == "local_addrs").filter_map(|entry| match &entry.form {
        Form::List(words) => Some(words),
        _ => None,
    });
    let named = lists.flatten().filter_map(|word| word.parse().ok());
    named.filter(|address| is_unicast(*address)).chain(options.address.iter().copied()).collect()
}

fn quoted(addresses: &BTreeSet<IpAddr>) -> String {
    let words: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!("[{}]", words.join(", "))
}

/// The directory of the file, if swanctl's credentials are there.
fn credentials(file: &Path) -> Option<String> {
    let beside = file.canonicalize().ok()?.parent()?.to_owned();
    let has_some = DIRECTORIES.iter().any(|name| beside.join(name).is_dir());
    has_some.then(|| beside.to_str().map(str::to_owned)).flatten()
}
