//! Why a member is not spoken with, as sentences that say what to do.

use std::fmt;

use baton_sad::NodeId;
use quinn::ConnectionError;
use thiserror::Error;

use crate::cluster::Role;

/// What is wrong with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CertificateProblem {
    /// Its time is over.
    #[error(
        "its certificate has expired; renew it (`dpctl cluster invite` where the cluster's key is, `dpctl cluster join` there)"
    )]
    Expired,
    /// Its time has not come.
    #[error("its certificate is not valid yet; compare the clocks of both machines")]
    NotYetValid,
    /// Another authority.
    #[error(
        "its certificate is not from this cluster's authority; let it join this cluster (`dpctl cluster join`)"
    )]
    Foreign,
    /// It names no member.
    #[error("its certificate names no member of a cluster; make it with `dpctl cluster invite`")]
    NoMember,
    /// It names a member of another cluster.
    #[error("its certificate is for cluster {0}; correct [node] cluster, or let it join this one")]
    OtherCluster(String),
    /// It names another member than lives at this address.
    #[error(
        "its certificate is for member {found}, where [cluster] has member {expected}; correct the addresses, or its certificate"
    )]
    OtherMember {
        /// Who lives there.
        expected: NodeId,
        /// Who it says it is.
        found: NodeId,
    },
    /// A witness in the place of a node, or the other way round.
    #[error(
        "its certificate is for a {found}, where [cluster] has a {expected}; correct `role`, or its certificate"
    )]
    OtherRole {
        /// What the configuration says.
        expected: Role,
        /// What the certificate says.
        found: Role,
    },
    /// It is damaged, or of a kind that is not accepted.
    #[error("its certificate cannot be used ({0}); make it anew with `dpctl cluster invite`")]
    Unusable(String),
}

/// Why there is no connection with a member.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkProblem {
    /// Nothing answers.
    #[error("it does not answer; is it running, and does the network between let UDP through?")]
    Silent,
    /// It ended in order.
    #[error("it has ended")]
    Ended,
    /// It began anew before it was missed.
    #[error("it has started again")]
    Restarted,
    /// Its certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateProblem),
    /// It does not accept ours.
    #[error(
        "it refuses our certificate{0}; `dpctl cluster certificates` shows it, its own log and status say more"
    )]
    RefusesUs(Alert),
    /// One end did not read as fast as the other wrote.
    #[error(
        "more waited to be sent than may, and both begin anew; look at the load of both, and at the network between"
    )]
    Overflow,
    /// It speaks another version of the channel.
    #[error("it is of a release that speaks another version of the channel; upgrade one release at a time")]
    Version,
    /// It does not keep to the protocol.
    #[error("it does not keep to the protocol: {0}")]
    Protocol(String),
    /// The network, or this machine.
    #[error("cannot send to it: {0}; check the route to its address")]
    Network(String),
}

/// What TLS has said (RFC 8446 section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alert(u8);

impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            45 => ": it has expired there",
            46 | 49 => ": it is for another member or another cluster than is configured there",
            48 => ": it is from another authority",
            _ => "",
        })
    }
}

/// How a connection is closed by its application.
pub(super) mod code {
    /// The process ends.
    pub(in crate::channel) const ENDED: u32 = 1;
    /// Another connection has taken its place.
    pub(in crate::channel) const REPLACED: u32 = 2;
    /// What came broke a rule.
    pub(in crate::channel) const VIOLATION: u32 = 3;
    /// More waited to be sent than may.
    pub(in crate::channel) const OVERFLOW: u32 = 4;
}

/// TLS's handshake_failure and no_application_protocol.
const NO_APPLICATION_PROTOCOL: u8 = 120;

impl From<ConnectionError> for LinkProblem {
    fn from(error: ConnectionError) -> Self {
        let close = |code: quinn::TransportErrorCode, said: String| match alert(code) {
            Some(NO_APPLICATION_PROTOCOL) => Self::Version,
            Some(alert @ (42..=49 | 116)) => Self::RefusesUs(Alert(alert)),
            _ => Self::Protocol(said),
        };
        match error {
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::VersionMismatch => Self::Version,
            ConnectionError::TransportError(error) => close(error.code, error.to_string()),
            ConnectionError::ConnectionClosed(close_frame) => {
                close(close_frame.error_code, close_frame.to_string())
            }
            ConnectionError::ApplicationClosed(closed) => match u32::try_from(closed.error_code.into_inner())
            {
                Ok(code::ENDED) => Self::Ended,
                Ok(code::REPLACED) => Self::Restarted,
                Ok(code::OVERFLOW) => Self::Overflow,
                _ => Self::Protocol(closed.to_string()),
            },
            ConnectionError::Reset | ConnectionError::LocallyClosed => Self::Restarted,
            ConnectionError::CidsExhausted => Self::Protocol(error.to_string()),
        }
    }
}

/// The TLS alert in a code of QUIC (RFC 9001 section 4.8).
fn alert(code: quinn::TransportErrorCode) -> Option<u8> {
    u64::from(code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}
