//! What a member needs to join: the authority's certificate, its own certificate, and its key, as one text.

use std::fmt::Write as _;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use thiserror::Error;
use zeroize::Zeroizing;

use super::{AUTHORITY, AuthorityError, Issued, make_directory, read, store, write};
use crate::channel::{Identity, name_of};

/// Digests of invitations that were used, in the directory; the last of them.
const USED: &str = "used-invitations";
const MOST_USED: usize = 500;
/// An invitation has less.
const MAX_OCTETS: usize = 64 << 10;
const FIRST_LINE: &str =
    "Invitation to a Baton cluster. Who has it can join: keep it secret, and delete it when it is used.";

/// Why a text is no invitation.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InvitationError {
    /// Something else.
    #[error("this is no invitation ({0}); make one with `dpctl cluster invite` where the cluster was begun")]
    Unreadable(&'static str),
    /// For somebody else.
    #[error(
        "this invitation is for {found}, and this is {own}; correct [node] and [cluster], or make another one"
    )]
    ForAnother {
        /// Whom it is for.
        found: String,
        /// Who we are.
        own: String,
    },
    /// Used before.
    #[error(
        "this invitation was used here before; make another one with `dpctl cluster invite` where the cluster was begun"
    )]
    Used,
    /// Files.
    #[error(transparent)]
    Store(#[from] AuthorityError),
}

/// All that a member needs to join.
pub struct Invitation {
    authority: String,
    issued: Issued,
}

impl Invitation {
    pub(super) fn new(authority: String, issued: Issued) -> Self {
        Self { authority, issued }
    }

    /// As one text, which is a secret.
    pub fn text(&self) -> Zeroizing<String> {
        let length =
            FIRST_LINE.len() + self.authority.len() + self.issued.certificate.len() + self.issued.key.len();
        let mut text = Zeroizing::new(String::with_capacity(length + 16));
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "{FIRST_LINE}\n{}{}{}",
            self.authority,
            self.issued.certificate,
            self.issued.key.as_str()
        );
        text
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`InvitationError::Unreadable`].
    pub fn parse(text: &str) -> Result<Self, InvitationError> {
        if text.len() > MAX_OCTETS {
            return Err(InvitationError::Unreadable("it is too long"));
        }
        let mut rest = text;
        let authority = block(&mut rest, "CERTIFICATE")?.to_owned();
        let certificate = block(&mut rest, "CERTIFICATE")?.to_owned();
        let key = Zeroizing::new(block(&mut rest, "PRIVATE KEY")?.to_owned());
        Ok(Self { authority, issued: Issued { certificate, key } })
    }

    /// Whom it invites.
    ///
    /// # Errors
    /// [`InvitationError::Unreadable`].
    pub fn member(&self) -> Result<Identity, InvitationError> {
        use rustls_pki_types::pem::PemObject as _;
        let certificate =
            rustls_pki_types::CertificateDer::from_pem_slice(self.issued.certificate.as_bytes())
                .map_err(|_| InvitationError::Unreadable("its certificate is damaged"))?;
        name_of(&certificate).map_err(|_| InvitationError::Unreadable("its certificate names no member"))
    }

    /// Joins as `own`: puts all of it into the directory, in the place of what was there.
    ///
    /// # Errors
    /// [`InvitationError`].
    pub fn accept(&self, directory: &Path, own: &Identity) -> Result<(), InvitationError> {
        let found = self.member()?;
        if found != *own {
            return Err(InvitationError::ForAnother { found: found.to_string(), own: own.to_string() });
        }
        make_directory(directory)?;
        let used = self.note_use(directory)?;
        write(&directory.join(AUTHORITY), &self.authority).map_err(AuthorityError::from)?;
        store(directory, &self.issued)?;
        Ok(write(&directory.join(USED), &used).map_err(AuthorityError::from)?)
    }

    /// The invitations that were used here, this one among them: an old one that turns up again, with a key that somebody
    /// may have seen in the meantime, does not take the place of what came after it.
    fn note_use(&self, directory: &Path) -> Result<String, InvitationError> {
        let own = hex::encode(digest(&SHA256, self.issued.certificate.as_bytes()));
        let used = match read(&directory.join(USED)) {
            Ok(used) => used.to_string(),
            Err(AuthorityError::Missing(_)) => String::new(),
            Err(error) => return Err(error.into()),
        };
        if used.lines().any(|line| line == own) {
            return Err(InvitationError::Used);
        }
        // The file stays as short as what may be read; the oldest have expired long since.
        let recent = used.lines().rev().take(MOST_USED - 1).collect::<Vec<_>>();
        Ok(recent.into_iter().rev().chain([own.as_str()]).fold(String::new(), |all, line| all + line + "\n"))
    }
}

/// The next PEM block, which has to be of this kind (RFC 7468).
fn block<'t>(rest: &mut &'t str, kind: &str) -> Result<&'t str, InvitationError> {
    let unreadable = InvitationError::Unreadable("a part of it is missing, or out of order");
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let Some(start) = rest.find("-----BEGIN ") else { return Err(unreadable) };
    let from = &rest[start..];
    let length = from.find(&end).filter(|_| from.starts_with(&begin)).map(|at| at + end.len());
    let Some(length) = length else { return Err(unreadable) };
    let (block, after) = from.split_at(length);
    *rest = after;
    Ok(block)
}
