//! Who a member is, as its certificate says it: `baton://CLUSTER/node/7` or `baton://CLUSTER/witness/3`, a URI among the
//! subject alternative names (RFC 5280 section 4.2.1.6).

use std::fmt;
use std::str::FromStr;

use baton_sad::NodeId;
use thiserror::Error;

use crate::cluster::Role;

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Node => "node",
            Self::Witness => "witness",
        })
    }
}

/// A member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// What it is there for.
    pub role: Role,
    /// Its number, unique in the cluster, whatever its role.
    pub node: NodeId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "baton://{}/{}/{}", self.cluster, self.role, self.node.get())
    }
}

/// Not the name of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("this is no name of a member, such as baton://CLUSTER/node/7")]
pub struct NotAMember;

impl FromStr for Identity {
    type Err = NotAMember;

    fn from_str(text: &str) -> Result<Self, NotAMember> {
        let mut parts = text.strip_prefix("baton://").ok_or(NotAMember)?.split('/');
        let (Some(cluster), Some(role), Some(node), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(NotAMember);
        };
        let role = match role {
            "node" => Role::Node,
            "witness" => Role::Witness,
            _ => return Err(NotAMember),
        };
        let usable = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_name = (1..=64).contains(&cluster.len()) && cluster.chars().all(usable);
        let number =
            node.parse().ok().and_then(NodeId::new).filter(|number| number.get().to_string() == node);
        match number {
            Some(node) if is_name => Ok(Self { cluster: cluster.to_owned(), role, node }),
            _ => Err(NotAMember),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_what_they_write() {
        for text in ["baton://demo/node/7", "baton://a.b_c-d/witness/255"] {
            assert_eq!(text.parse::<Identity>().expect("a name").to_string(), text);
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("baton://{}/node/7", "x".repeat(65));
        for text in [
            "",
            "baton://",
            "https://demo/node/7",
            "baton://demo/node",
            "baton://demo/node/0",
            "baton://demo/node/256",
            "baton://demo/node/+7",
            "baton://demo/node/07",
            "baton://demo/master/7",
            "baton://demo/node/7/",
            "baton:///node/7",
            "baton://de mo/node/7",
            &long,
        ] {
            assert_eq!(text.parse::<Identity>(), Err(NotAMember), "{text}");
        }
    }
}
