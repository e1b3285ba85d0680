//! Asking scapy, an independent implementation of ESP, for its judgement.

use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command;
use crate::error::{LabError, Result};
use crate::namespace::Namespace;
use crate::requirements;

/// Runs `tests/scapy/<script>` in `namespace` with `question` as JSON on stdin; returns its JSON answer.
///
/// # Errors
/// If the Python environment is missing, or the script fails.
pub fn ask<Q: Serialize, A: DeserializeOwned>(
    namespace: &Namespace,
    script: &str,
    question: &Q,
) -> Result<A> {
    let question = serde_json::to_vec(question).map_err(|error| LabError::Unexpected(error.to_string()))?;
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "tests", "scapy", script].iter().collect();
    let mut command = namespace.command(&requirements::python().display().to_string());
    command.arg(path);
    let answer = command::run_with_input(&mut command, &question)?;
    serde_json::from_str(&answer)
        .map_err(|error| LabError::Unexpected(format!("{script} did not answer in JSON ({error}): {answer}")))
}
