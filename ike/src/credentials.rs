//! Secrets, keys and certificates from their files.

use baton_ike_proto::auth::Credentials;
use thiserror::Error;

use crate::config::CredentialSources;

/// Why credentials cannot be used: every problem, one a line.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .0.join("\n"))]
pub struct CredentialProblems(pub Vec<String>);

/// Reads all of them afresh.
///
/// # Errors
/// Every file that cannot be used, with what to do.
pub fn load(sources: &CredentialSources) -> Result<Credentials, CredentialProblems> {
    let _ = sources;
    todo!()
}
