//! Going on with a tunnel.

use std::sync::Arc;

use thiserror::Error;

use super::numbers::Impossible;
use super::read::{Keys, Orphan, ReadError, Reader};
use super::stored::{Envelope, Stored};
use super::{MAX_CONTEXT, VERSION};
use crate::crypto::OpenStateError;
use crate::host::{Host, Now, Output, TunnelName};
use crate::machine::Ike;
use crate::machine::child_sa::Parts;
use crate::machine::core::Cx;
use crate::machine::inner;
use crate::machine::up::Up;

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
        let envelope = envelope(context)?;
        let stored: Stored =
            minicbor::decode(&envelope.public).map_err(|_| RestoreError::Damaged("a field"))?;
        let (up, orphans) = self.read(now, &envelope, &stored)?;
        let name = up.head.name();
        self.check_free(&name, &up)?;
        let is_frozen = stored.is_frozen && how == Restoring::Restart;
        let mut up = Up { is_frozen, ..up };
        let id = self.core.next_id;
        if stored.is_leased {
            let taken = inner::retake(&mut self.core, id, up.peers.proved(), &up.virtual_addresses);
            taken.map_err(|problem| RestoreError::Address(name.clone(), problem))?;
        }
        self.begin(now, host, |cx| {
            for (inbound, reqid, outbound) in orphans {
                cx.install(Output::Remove { inbound: vec![inbound], outbound: vec![(reqid, outbound)] });
            }
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

    fn read(
        &self,
        now: Now,
        envelope: &Envelope,
        stored: &Stored,
    ) -> Result<(Up, Vec<Orphan>), RestoreError> {
        let name = TunnelName::new(&stored.connection, stored.number);
        let mut connections = self.core.configuration.connections.iter();
        let connection = connections.find(|connection| connection.name == stored.connection);
        let missing = || RestoreError::NoConnection(name, stored.connection.clone());
        let connection = Arc::clone(connection.ok_or_else(missing)?);
        let keys = Keys {
            wrap: &self.core.wrap,
            public: &envelope.public,
            sealed: envelope.sealed.iter().enumerate(),
        };
        let mut reader = Reader { now, connection, keys, orphans: Vec::new() };
        let up = reader.up(stored)?;
        Ok((up, reader.orphans))
    }

    fn check_free(&self, name: &TunnelName, up: &Up) -> Result<(), RestoreError> {
        let most = self.core.configuration.limits.max_ike_sas;
        if self.tunnels.len() >= most {
            return Err(RestoreError::Full(most));
        }
        let (claims, index) = (up.claims(), &self.core.index);
        let is_taken = index.numbers.contains_key(&up.head.number)
            || claims.ike_spis.iter().any(|spi| index.ike_spis.contains_key(spi))
            || claims.esp_spis.iter().any(|spi| index.esp_spis.contains_key(spi))
            || claims.reqids.iter().any(|reqid| index.reqids.contains_key(reqid));
        if is_taken { Err(RestoreError::Present(name.clone())) } else { Ok(()) }
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
