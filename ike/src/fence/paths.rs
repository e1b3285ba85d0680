//! Which files there are at all (Landlock, since Linux 5.13). TCP and signals to other processes are closed too where
//! the kernel can do that: IKE needs neither.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope, make_bitflags, path_beneath_rules,
};

use super::Gates;

/// Later versions restrict what this one does not know of; this one's rights are used as far as the kernel goes.
const VERSION: ABI = ABI::V6;

/// How far it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landlock {
    Enforced,
    InPart,
    Missing,
}

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const WRITE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile});
const OWN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir});

pub(super) fn restrict(gates: &Gates) -> Result<Landlock, RulesetError> {
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(VERSION))?
        .handle_access(AccessNet::from_all(VERSION))?
        .scope(Scope::from_all(VERSION))?
        .create()?
        .add_rules(path_beneath_rules(&gates.readable, READ))?
        .add_rules(path_beneath_rules(&gates.writable, WRITE))?
        .add_rules(path_beneath_rules(&gates.owned, OWN))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Landlock::Enforced,
        RulesetStatus::PartiallyEnforced => Landlock::InPart,
        RulesetStatus::NotEnforced => Landlock::Missing,
    })
}
