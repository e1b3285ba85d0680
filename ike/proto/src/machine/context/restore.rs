//! Going on with a tunnel.

use std::sync::Arc;

use thiserror::Error;

use super::numbers::Impossible;
use super::read::{Keys, Orphan, ReadError, Reader};
use super::stored::{Envelope, Stored};
use super::{MAX_CONTEXT, VERSION};
use crate::configuration::Connection;
use crate::crypto::OpenStateError;
use crate::host::{Host, Now, Output, TunnelName};
use crate::machine::Ike;
use crate::machine::child_sa::Parts;
use crate::machine::core::{Cx, Id};
use crate::machine::dormant::Dormant;
use crate::machine::head::Head;
use crate::machine::inner;
use crate::machine::up::Up;

/// A copy from elsewhere is taken for newer than so many contexts that were written after it.
const LOST_VERSIONS: u64 = 1 << 20;

/// Whose context it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restoring {
    /// Ours, from before the end of the process: a tunnel that was frozen for a move is frozen still, because nobody
    /// knows whether it has moved.
    Restart,
    /// Another gateway's, which has released it, or will.
    Move,
}

/// Why a tunnel cannot be gone on with.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// Not a context, or a damaged one.
    #[error("the context is damaged: {0} is wrong; take it again from the gateway that has the tunnel")]
    Damaged(&'static str),
    /// Written by another release.
    #[error("the context is of version {0}, and this release reads version 1; use the release that wrote it")]
    Version(u32),
    /// The keys do not open.
    #[error(transparent)]
    Keys(#[from] OpenStateError),
    /// The connection is not configured.
    #[error("tunnel {0} is of connection \"{1}\", which is not configured here; add it")]
    NoConnection(TunnelName, String),
    /// The tunnel, or one of its SPIs, is here already.
    #[error("tunnel {0} is here already, or another one with its SPIs; end that first")]
    Present(TunnelName),
    /// Its inner address is somebody else's.
    #[error("tunnel {0}: {1}")]
    Address(TunnelName, String),
    /// Too many IKE SAs.
    #[error("{0} IKE SAs are the most that this gateway holds; raise ike.max_ike_sas")]
    Full(usize),
}

/// Whose a context is, and how new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heading {
    /// The tunnel.
    pub tunnel: TunnelName,
    /// The number in its name.
    pub number: u32,
    /// Its segment.
    pub segment: u8,
    /// Above that of every context of this tunnel before.
    pub version: u64,
}

impl Heading {
    pub(in crate::machine) fn new(head: &Head, version: u64) -> Self {
        Self { tunnel: head.name(), number: head.number, segment: head.segment(), version }
    }

    pub(in crate::machine) fn of(up: &Up) -> Self {
        Self::new(&up.head, up.version)
    }
}

/// What a context says.
pub(in crate::machine) struct Passed {
    pub(in crate::machine) up: Up,
    pub(in crate::machine) orphans: Vec<Orphan>,
    /// Whether its inner addresses are of our pools.
    pub(in crate::machine) is_leased: bool,
    is_frozen: bool,
}

impl From<ReadError> for RestoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Impossible(Impossible(what)) => Self::Damaged(what),
            ReadError::Keys(error) => Self::Keys(error),
        }
    }
}

impl Ike {
    /// Goes on with a tunnel where its context left it: requests without an answer are sent again, octet for octet.
    /// Its SAs are in the table already; its policies are put into force.
    ///
    /// # Errors
    /// [`RestoreError`]: nothing was done.
    pub fn restore(
        &mut self,
        now: Now,
        context: &[u8],
        how: Restoring,
        host: &mut dyn Host,
    ) -> Result<TunnelName, RestoreError> {
        let Passed { up, orphans, is_leased, is_frozen } = self.read_context(now, context)?;
        let name = up.head.name();
        self.check_free(&name, &up, None)?;
        let is_frozen = is_frozen && how == Restoring::Restart;
        // A copy may be older than what others have of the tunnel.
        let lost = if how == Restoring::Move { LOST_VERSIONS } else { 0 };
        let mut up = Up { is_frozen, version: up.version.saturating_add(lost), ..up };
        let id = self.core.next_id;
        if is_leased {
            let taken = inner::retake(&mut self.core, id, up.peers.proved(), &up.virtual_addresses);
            taken.map_err(|problem| RestoreError::Address(name.clone(), problem))?;
        }
        self.begin(now, host, |cx| {
            remove_orphans(cx, orphans);
            up.settle_in(cx);
            up.put_in_force(cx);
            up.follow_again(cx);
            if !is_frozen {
                up.reconsider(cx);
            }
            Some(Box::new(up).proceed(cx))
        });
        self.carry_out_orders(now, host);
        Ok(name)
    }

    /// What a context says.
    pub(in crate::machine) fn read_context(&self, now: Now, context: &[u8]) -> Result<Passed, RestoreError> {
        let (envelope, stored) = open(context)?;
        let missing = || RestoreError::NoConnection(stored.name(), stored.connection.clone());
        let connection = Arc::clone(self.configured(&stored.connection).ok_or_else(missing)?);
        self.read_as(now, connection, &envelope, &stored)
    }

    /// What the context of a tunnel at rest says. Its connection may have been removed meanwhile.
    pub(in crate::machine) fn read_dormant(
        &self,
        now: Now,
        dormant: &Dormant,
    ) -> Result<(Up, Vec<Orphan>), RestoreError> {
        let (envelope, stored) = open(&dormant.context)?;
        let connection = self.configured(&stored.connection).unwrap_or(&dormant.head.connection);
        let passed = self.read_as(now, Arc::clone(connection), &envelope, &stored)?;
        Ok((passed.up, passed.orphans))
    }

    fn read_as(
        &self,
        now: Now,
        connection: Arc<Connection>,
        envelope: &Envelope,
        stored: &Stored,
    ) -> Result<Passed, RestoreError> {
        let keys = Keys {
            wrap: &self.core.wrap,
            public: &envelope.public,
            sealed: envelope.sealed.iter().enumerate(),
        };
        let mut reader = Reader { now, connection, keys, orphans: Vec::new() };
        let up = reader.up(stored)?;
        let (is_leased, is_frozen) = (stored.is_leased, stored.is_frozen);
        Ok(Passed { up, orphans: reader.orphans, is_leased, is_frozen })
    }

    /// Whether its names are nobody's, or that tunnel's.
    pub(in crate::machine) fn check_free(
        &self,
        name: &TunnelName,
        up: &Up,
        own: Option<Id>,
    ) -> Result<(), RestoreError> {
        let most = self.core.configuration.limits.max_ike_sas;
        if own.is_none() && self.tunnels.len() >= most {
            return Err(RestoreError::Full(most));
        }
        let (claims, index) = (up.claims(), &self.core.index);
        let is_others = |id: Option<&Id>| id.is_some_and(|id| Some(*id) != own);
        let is_taken = is_others(index.numbers.get(&up.head.number))
            || claims.ike_spis.iter().any(|spi| is_others(index.ike_spis.get(spi)))
            || claims.esp_spis.iter().any(|spi| is_others(index.esp_spis.get(spi)))
            || claims.reqids.iter().any(|reqid| is_others(index.reqids.get(reqid)));
        if is_taken { Err(RestoreError::Present(name.clone())) } else { Ok(()) }
    }
}

/// The outer map and the tunnel in it; keys stay sealed.
fn open(context: &[u8]) -> Result<(Envelope, Stored), RestoreError> {
    let envelope = envelope(context)?;
    let stored = minicbor::decode(&envelope.public).map_err(|_| RestoreError::Damaged("a field"))?;
    Ok((envelope, stored))
}

/// Whose a context is and how new, as it says itself: whether that is authentic shows when it is taken.
///
/// # Errors
/// [`RestoreError`], if it is none.
pub fn heading(context: &[u8]) -> Result<Heading, RestoreError> {
    let (_, stored) = open(context)?;
    let (tunnel, number) = (stored.name(), stored.number);
    let version = stored.version.unwrap_or(0);
    Ok(Heading { tunnel, number, segment: number.to_be_bytes()[0], version })
}

/// Takes the SAs out of the table whose child is no longer configured.
pub(in crate::machine) fn remove_orphans(cx: &mut Cx, orphans: Vec<Orphan>) {
    for (inbound, reqid, outbound) in orphans {
        cx.install(Output::Remove { inbound: vec![inbound], outbound: vec![(reqid, outbound)] });
    }
}

impl Stored {
    fn name(&self) -> TunnelName {
        TunnelName::new(&self.connection, self.number)
    }
}

pub(super) fn envelope(context: &[u8]) -> Result<Envelope, RestoreError> {
    if context.len() > MAX_CONTEXT {
        return Err(RestoreError::Damaged("its length"));
    }
    let mut decoder = minicbor::Decoder::new(context);
    let envelope: Envelope = decoder.decode().map_err(|_| RestoreError::Damaged("the envelope"))?;
    if decoder.position() != context.len() {
        return Err(RestoreError::Damaged("its length"));
    }
    if envelope.version == VERSION { Ok(envelope) } else { Err(RestoreError::Version(envelope.version)) }
}

impl Up {
    /// The policies of its Child SAs, each once.
    fn put_in_force(&self, cx: &mut Cx) {
        for child in self.children.iter().filter(|child| child.is_live()) {
            cx.install(child.install(cx, &self.head, Parts::POLICY, None));
        }
    }
}
