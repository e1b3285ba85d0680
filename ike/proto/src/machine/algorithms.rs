//! What a peer offers, in words that an operator can copy into a configuration.

use crate::crypto::{Encryption, Group, Integrity, KeyExchangeMethod, Prf};
use crate::proposal::{EspEncryption, EspIntegrity};
use crate::wire::{Proposal, ProtocolId, Transform, TransformType};

/// Proposals that are named; a stranger's list may be long.
const MAX_NAMED: usize = 6;

/// As strongSwan's keywords; algorithms that we don't have by their numbers.
pub(super) fn algorithms(offered: &[Proposal]) -> String {
    let mut texts: Vec<_> = offered.iter().take(MAX_NAMED).map(proposal).collect();
    if offered.len() > MAX_NAMED {
        texts.push("and more".to_owned());
    }
    texts.join(", ")
}

fn proposal(proposal: &Proposal) -> String {
    let is_esp = proposal.protocol == ProtocolId::ESP;
    let words: Vec<_> = proposal.transforms.iter().take(32).filter_map(|t| word(is_esp, *t)).collect();
    words.join("-")
}

/// `None` for what says no more than the default.
fn word(is_esp: bool, transform: Transform) -> Option<String> {
    let Transform { kind, id, key_length, .. } = transform;
    let known = match kind {
        TransformType::ENCR if is_esp => EspEncryption::from_id(id, key_length).map(|a| a.to_string()),
        TransformType::ENCR => Encryption::from_id(id, key_length).map(|a| a.keyword().to_owned()),
        TransformType::INTEG if is_esp => EspIntegrity::from_id(id).map(|a| a.keyword().to_owned()),
        TransformType::INTEG => Integrity::from_id(id).map(|a| a.keyword().to_owned()),
        TransformType::PRF => Prf::from_id(id).map(|a| a.keyword().to_owned()),
        TransformType::KE => Group::from_id(id).map(|a| a.keyword().to_owned()),
        kind if (TransformType::ADDKE1..=TransformType::ADDKE7).contains(&kind) => {
            let place = kind.0 - TransformType::ADDKE1.0 + 1;
            let method = KeyExchangeMethod::from_id(id).map(KeyExchangeMethod::keyword);
            let method = method.or_else(|| (id == 0).then_some("none"));
            Some(method.map_or_else(|| format!("ke{place}_{id}"), |method| format!("ke{place}_{method}")))
        }
        TransformType::ESN => return (id == 1).then(|| "esn".to_owned()),
        _ => None,
    };
    let bits = key_length.map_or(String::new(), |bits| format!("/{bits}"));
    Some(known.unwrap_or_else(|| format!("{}:{id}{bits}", kind.name().unwrap_or("transform"))))
}
