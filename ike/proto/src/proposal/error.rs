use thiserror::Error;

/// A proposal that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProposalError {
    /// A word that nobody knows.
    #[error("\"{word}\" is no keyword of an algorithm{}", hint(.near.as_deref()))]
    Unknown {
        /// The word.
        word: String,
        /// One that looks like it.
        near: Option<String>,
    },
    /// A word that strongSwan knows, and this gateway for a reason does not.
    #[error("\"{word}\" is not offered: {reason}")]
    NotOffered {
        /// The word.
        word: String,
        /// Why, and what to take instead.
        reason: &'static str,
    },
    /// A word that has no meaning here.
    #[error("\"{word}\" has no place in an {protocol} proposal: {remedy}")]
    Misplaced {
        /// The word.
        word: String,
        /// IKE or ESP.
        protocol: &'static str,
        /// What to do about it.
        remedy: &'static str,
    },
    /// A kind of algorithm that has to be there.
    #[error("\"{proposal}\" lacks {what}; add for example \"{example}\"")]
    Lacks {
        /// The proposal.
        proposal: String,
        /// What is not there.
        what: &'static str,
        /// A keyword to add.
        example: &'static str,
    },
    /// AEADs together with other ciphers.
    #[error(
        "\"{0}\" mixes ciphers that authenticate with ciphers that do not; write two proposals (RFC 7296 section 3.3)"
    )]
    Mixed(String),
    /// Nothing, or nothing between two dashes or commas.
    #[error("an algorithm is missing in \"{0}\"; write keywords with one dash between them")]
    Empty(String),
}

fn hint(near: Option<&str>) -> String {
    near.map_or_else(String::new, |near| format!("; did you mean \"{near}\"?"))
}

/// An answer to our proposals that is not one (RFC 7296 section 2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Not exactly one proposal.
    #[error("the peer chose {0} proposals instead of one")]
    Count(usize),
    /// Not what we offered.
    #[error("the peer chose algorithms that were not offered to it")]
    NotOffered,
}
