//! The invariants.

use std::collections::{BTreeMap, BTreeSet};

use baton_sad::{Name, NodeId};

use crate::setting::PACKETS;

#[derive(Debug, Default)]
struct Story {
    sent: u64,
    sent_by: Option<NodeId>,
    accepted: BTreeSet<u64>,
    /// Two nodes owned its segment at a time, where that may be.
    split: bool,
}

/// Everything that may not happen twice.
#[derive(Debug, Default)]
pub struct Judge {
    stories: BTreeMap<(Name, u32), Story>,
    ivs: BTreeSet<(NodeId, u32, u64)>,
    /// Packets sent and accepted.
    pub crossed: u64,
}

impl Judge {
    /// I1 and I2.
    pub fn sent(
        &mut self,
        node: NodeId,
        tunnel: Name,
        (generation, number): (u32, u64),
        iv: (u32, u64),
    ) -> Result<(), String> {
        if !self.ivs.insert((node, iv.0, iv.1)) {
            return Err(format!("I1: node {node} has used IV {iv:?} before"));
        }
        let story = self.stories.entry((tunnel, generation)).or_default();
        self.crossed += 1;
        if story.split {
            return Ok(());
        }
        if number <= story.sent {
            return Err(format!(
                "I2: node {node} sends {number} of {tunnel} generation {generation}, node {:?} has sent {}",
                story.sent_by, story.sent
            ));
        }
        let bound = story.sent + 2 * PACKETS + 1;
        if story.sent_by != Some(node) && story.sent_by.is_some() && number > bound {
            return Err(format!("I2: node {node} begins {tunnel} at {number}, {} was the last", story.sent));
        }
        (story.sent, story.sent_by) = (number, Some(node));
        Ok(())
    }

    /// I3.
    pub fn accepted(
        &mut self,
        node: NodeId,
        tunnel: Name,
        generation: u32,
        number: u64,
    ) -> Result<(), String> {
        let story = self.stories.entry((tunnel, generation)).or_default();
        self.crossed += 1;
        if story.accepted.insert(number) || story.split {
            return Ok(());
        }
        Err(format!("I3: node {node} accepts {number} of {tunnel} generation {generation} again"))
    }

    /// A pair without a witness was parted: what it promises of these tunnels ends until they are rekeyed.
    pub fn split(&mut self, tunnel: Name, generation: u32) {
        self.stories.entry((tunnel, generation)).or_default().split = true;
    }
}
