//! Whether a sealed context is about what the message around it says: only that was compared with what its sender owns.

use baton_sad::Name;
use tracing::warn;

use crate::cluster::{Refusal, Reserved, SaKey};
use crate::{Context, IkePart};

fn is_part_of(part: &IkePart, tunnel: Name, segment: u8) -> bool {
    let heading = baton_ike_proto::machine::heading(part.octets());
    heading.is_ok_and(|of| of.segment == segment && of.tunnel.to_string() == tunnel.as_str())
}

/// Every context is of this tunnel and segment, and floors are of its SAs.
pub(super) fn is_about(
    contexts: &[Context],
    (tunnel, segment): (Name, u8),
    floors: &[Reserved],
) -> Result<(), Refusal> {
    let own = |context: &Context| {
        context.name == tunnel
            && context.sas.iter().all(|offered| offered.sa.segment == segment)
            && context.policies.iter().all(|policy| policy.segment == segment)
            && context.ike.as_ref().is_none_or(|part| is_part_of(part, tunnel, segment))
    };
    let offered = |floor: &Reserved| {
        let mut sas = contexts.iter().flat_map(|context| &context.sas);
        sas.any(|offered| {
            let (direction, key) = (offered.sa.direction, offered.sa.index_key());
            SaKey::of(baton_sad::SaKey { direction, key, spi: offered.sa.spi }) == floor.key
        })
    };
    if contexts.iter().all(own) && floors.iter().all(offered) {
        return Ok(());
    }
    warn!(%tunnel, segment, "a context is not about what its message says; it is refused");
    Err(Refusal::Malformed)
}
