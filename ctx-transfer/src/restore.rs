//! The rules by which a context is installed (PUT). What they refuse changes nothing.

use std::time::Duration;

use baton_sad::{
    Counters, Direction, FreezeError, GetError, Name, PutError, PutKind, PutReceipt, Sa, SaError, Sender,
    Snapshot, Table, WriteError,
};
use thiserror::Error;

use crate::context::{Context, ContextSa, Kind};

/// Why a context is not installed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// A node of another cluster with our number has sent with these keys, so that our IVs could repeat its (I1).
    #[error(
        "node {node} of another cluster has sent with the keys of {tunnel}, and this node has the same number; \
         give this node another id, or rekey the tunnel"
    )]
    SenderClash {
        /// The tunnel.
        tunnel: Name,
        /// The number.
        node: u8,
    },
    /// Too many nodes have sent with these keys.
    #[error("tunnel {tunnel}: {source}")]
    Sender {
        /// The tunnel.
        tunnel: Name,
        /// What is wrong.
        source: SaError,
    },
    /// The installed SA has gone on since (I2, I3).
    #[error(
        "the {direction} SA of {tunnel} is installed here and is further (at {installed}) than this context (at \
         {offered}); installing it would repeat sequence numbers. Use a newer snapshot"
    )]
    Older {
        /// The tunnel.
        tunnel: Name,
        /// The SA's direction.
        direction: Direction,
        /// The edge in the table.
        installed: u64,
        /// The edge in the context.
        offered: u64,
    },
    /// The installed SA has received packets that the context takes for new (I3).
    #[error(
        "the inbound SA of {tunnel} is installed here and has received packets that this context does not know of; \
         installing it would let them be replayed. Use a newer snapshot"
    )]
    Forgets {
        /// The tunnel.
        tunnel: Name,
    },
    /// Entries of a later release, for which the table has no place.
    #[error(
        "the context of {tunnel} says more about the {part} than this release understands (entries {entries:?}), \
         and installing it would drop that; use the release that made it"
    )]
    Later {
        /// The tunnel.
        tunnel: Name,
        /// What the entries are about.
        part: &'static str,
        /// Their keys.
        entries: Vec<u64>,
    },
    /// Another tunnel has the SPI or reqid.
    #[error(
        "{tunnel} needs {direction} SA {key:#x}, which belongs to tunnel {holder} here; remove that one first"
    )]
    Taken {
        /// The tunnel.
        tunnel: Name,
        /// The SA's direction.
        direction: Direction,
        /// The SPI or reqid.
        key: u32,
        /// Whose it is.
        holder: Name,
    },
    /// Advancing would leave the sequence number space.
    #[error(
        "advancing the {direction} SA of {tunnel} by {advance} would exhaust its 32-bit sequence numbers; rekey the \
         tunnel, or give a smaller --advance"
    )]
    Exhausted {
        /// The tunnel.
        tunnel: Name,
        /// The SA's direction.
        direction: Direction,
        /// By how much.
        advance: u64,
    },
    /// The table cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The SAs that would be replaced cannot be stopped.
    #[error(transparent)]
    Freeze(#[from] FreezeError),
    /// The table refuses them.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The table cannot be changed.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// Installs contexts on node `us`, all or none. SAs that are installed and in use under the same keys are stopped
/// first, so that what is checked is final and no worker counts on in a slot that is being replaced.
///
/// A move that is restored where it was taken goes on with the counters it was frozen at.
///
/// # Errors
/// [`RestoreError`]; then nothing was changed.
pub fn install(
    table: &Table,
    contexts: &[Context],
    us: Sender,
    advance: u64,
    timeout: Duration,
) -> Result<PutReceipt, RestoreError> {
    // Room for all at once: a vector that grows leaves copies of the keys in it behind.
    let mut batch = Vec::with_capacity(contexts.iter().map(|context| context.sas.len()).sum());
    let mut in_use = Vec::new();
    for context in contexts {
        check_installed(context, table)?;
        let mut sas = prepare(context, us, advance)?;
        sas.iter_mut().try_for_each(|(sa, _)| remember_senders(sa, us, table))?;
        batch.extend(sas);
        in_use.extend(same_keys_in_use(context, table)?);
    }
    if in_use.is_empty() {
        return Ok(table.put(&batch)?);
    }
    table.freeze(&in_use, timeout)?;
    let checked = contexts.iter().try_for_each(|context| check_installed(context, table));
    let result = checked.and_then(|()| Ok(table.put(&batch)?));
    if result.is_err() {
        table.thaw(&in_use)?;
    }
    result
}

/// Installs a context on node `us` as it stands: a copy of what another node owns, or the end of a planned move.
///
/// # Errors
/// [`RestoreError`]; then nothing was changed.
pub fn install_as(kind: PutKind, table: &Table, context: &Context, us: Sender) -> Result<(), RestoreError> {
    check_holders(context, table)?;
    let mut sas = prepare(context, us, 0)?;
    sas.iter_mut().try_for_each(|(sa, _)| remember_senders(sa, us, table))?;
    table.put_as(kind, &sas)?;
    Ok(())
}

/// What stands in the place of its SAs belongs to the same tunnel.
fn check_holders(context: &Context, table: &Table) -> Result<(), RestoreError> {
    for offered in &context.sas {
        let (direction, key) = (offered.sa.direction, offered.sa.index_key());
        let holder = table.get(direction, key)?.map(|installed| installed.sa.name);
        if let Some(holder) = holder.filter(|holder| *holder != offered.sa.name) {
            return Err(RestoreError::Taken { tunnel: context.name, direction, key, holder });
        }
    }
    Ok(())
}

/// Who has sent with a key is never forgotten (I1): not even by a context that went another way than the installed SA.
fn remember_senders(sa: &mut Sa, us: Sender, table: &Table) -> Result<(), RestoreError> {
    let Some(installed) = table.get(sa.direction, sa.index_key())? else { return Ok(()) };
    if sa.direction == Direction::Outbound && installed.sa.key.ct_eq(&sa.key) {
        for sender in installed.sa.senders.iter() {
            add_sender(sa, *sender)?;
        }
        check_sender(sa, us)?;
    }
    Ok(())
}

fn add_sender(sa: &mut Sa, sender: Sender) -> Result<(), RestoreError> {
    let tunnel = sa.name;
    sa.senders.insert(sender).map_err(|source| RestoreError::Sender { tunnel, source })
}

fn check_sender(sa: &Sa, us: Sender) -> Result<(), RestoreError> {
    if sa.senders.forbid(us) {
        return Err(RestoreError::SenderClash { tunnel: sa.name, node: us.node.get() });
    }
    Ok(())
}

/// The installed SAs with keys of the context that workers may be using.
fn same_keys_in_use(context: &Context, table: &Table) -> Result<Vec<(Direction, u32)>, RestoreError> {
    let mut keys = Vec::new();
    for offered in &context.sas {
        let key = (offered.sa.direction, offered.sa.index_key());
        let installed = table.get(key.0, key.1)?;
        if installed.is_some_and(|found| !found.frozen && found.sa.key.ct_eq(&offered.sa.key)) {
            keys.push(key);
        }
    }
    Ok(keys)
}

/// What a later release says about a tunnel may be how its packets are to be protected: it is kept with a context that
/// passes through, but not in the table, so that such a context is not installed in part.
fn check_understood(context: &Context) -> Result<(), RestoreError> {
    let sas = context.sas.iter();
    let parts = [("tunnel", &context.unknown)]
        .into_iter()
        .chain(sas.flat_map(|sa| [("SA", &sa.unknown), ("counters of the SA", &sa.unknown_counters)]));
    for (part, unknown) in parts {
        let entries: Vec<u64> = unknown.keys().collect();
        if !entries.is_empty() {
            return Err(RestoreError::Later { tunnel: context.name, part, entries });
        }
    }
    Ok(())
}

/// The SAs to PUT for a context on node `us`: final counters for a move; both edges advanced by `advance` for a
/// copy, the inbound window closed up to there.
///
/// # Errors
/// [`RestoreError::Later`], [`RestoreError::SenderClash`], [`RestoreError::Sender`] and [`RestoreError::Exhausted`].
pub fn prepare(context: &Context, us: Sender, advance: u64) -> Result<Vec<(Sa, Counters)>, RestoreError> {
    check_understood(context)?;
    context.sas.iter().map(|sa| prepare_sa(context, sa, us, advance)).collect()
}

fn prepare_sa(
    context: &Context,
    offered: &ContextSa,
    us: Sender,
    advance: u64,
) -> Result<(Sa, Counters), RestoreError> {
    let tunnel = context.name;
    let mut sa = offered.sa.clone();
    // With an inbound key only the peer sends.
    if sa.direction == Direction::Outbound {
        // The origin may have sent, whether or not it wrote itself down.
        add_sender(&mut sa, Sender { cluster: context.origin.cluster, node: context.origin.node })?;
        check_sender(&sa, us)?;
        add_sender(&mut sa, us)?;
    }
    let mut counters = offered.counters.clone();
    if context.kind == Kind::Copy {
        let edge = counters.edge().checked_add(advance);
        let limit = if sa.extended_sequence { u64::MAX } else { u32::MAX.into() };
        // One that is at its end already can be kept: it waits for new keys, and is used no more.
        if edge.is_none_or(|edge| edge > limit || advance > 0 && edge == limit) {
            return Err(RestoreError::Exhausted { tunnel, direction: sa.direction, advance });
        }
        counters.advance(&sa, advance);
    }
    Ok((sa, counters))
}

/// Compares a context with what the table holds.
///
/// # Errors
/// [`RestoreError::Older`], [`RestoreError::Forgets`] and [`RestoreError::Taken`].
pub fn check_installed(context: &Context, table: &Table) -> Result<(), RestoreError> {
    for offered in &context.sas {
        let (direction, key) = (offered.sa.direction, offered.sa.index_key());
        let Some(installed) = table.get(direction, key)? else { continue };
        let tunnel = context.name;
        if installed.sa.name != offered.sa.name {
            return Err(RestoreError::Taken { tunnel, direction, key, holder: installed.sa.name });
        }
        if !installed.sa.key.ct_eq(&offered.sa.key) {
            continue;
        }
        let (at, edge) = (installed.counters.edge(), offered.counters.edge());
        if at > edge {
            return Err(RestoreError::Older { tunnel, direction, installed: at, offered: edge });
        }
        // The window of a copy is closed up to the edge, whatever was in it.
        if direction == Direction::Inbound && context.kind == Kind::Move && forgets(&installed, offered) {
            return Err(RestoreError::Forgets { tunnel });
        }
    }
    Ok(())
}

/// Whether a number that the installed SA has received would count as new.
fn forgets(installed: &Snapshot, offered: &ContextSa) -> bool {
    let (ours, theirs) = (&installed.counters.window, &offered.counters.window);
    if ours == theirs {
        return false;
    }
    let has = |sequence| ours.has(sequence, installed.sa.replay_window);
    let knows = |sequence| {
        let closed = theirs.top < offered.counters.sequence && sequence <= offered.counters.sequence;
        closed || theirs.has(sequence, offered.sa.replay_window)
    };
    // What is left of the offered window counts as received there.
    let lowest = offered.counters.edge().saturating_sub(offered.sa.replay_window.into());
    (lowest.max(1)..=ours.top).any(|sequence| has(sequence) && !knows(sequence))
}
