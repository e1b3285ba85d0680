//! Contexts as they are read here, and as they come from others.

use std::io::Cursor;
use std::time::Instant;

use baton_dataplane::control::{ClientError, Code};
use baton_sad::{Name, Snapshot, Table};
use serde::Deserialize;
use serde_json::json;
use tracing::{debug, warn};

use super::{AGAIN, Bench};
use crate::cluster::{Content, Event, Octets, Refusal, Reserved, SaKey};
use crate::collect::context_of;
use crate::daemon::watch::version_of_static;
use crate::{Context, ContextReader, ContextWriter, IkePart, Kind, OpenWith, SealWith};

/// Why a context was not read.
enum Unread {
    /// There is no such tunnel any more.
    Gone,
    /// It may be there: who would know is away, or is changing it.
    Later(String),
}

impl From<String> for Unread {
    fn from(problem: String) -> Self {
        Self::Later(problem)
    }
}

impl From<ClientError> for Unread {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) if refusal.code == Code::NotFound => Self::Gone,
            error => Self::Later(error.to_string()),
        }
    }
}

/// The IKE daemon's answer to `context-get`.
#[derive(Deserialize)]
struct IkeContext {
    context: String,
    #[serde(default)]
    version: u64,
}

impl Bench {
    pub(super) fn read_again(&mut self) {
        while let Some((_, tunnel)) = self.unread.pop_front_if(|(due, _)| *due <= Instant::now()) {
            self.give(tunnel);
        }
    }

    /// What the core has asked for. That nobody can say now what a tunnel is does not mean that it is gone.
    pub(super) fn give(&mut self, tunnel: Name) {
        match self.read(tunnel) {
            Ok(event) => self.tell(event),
            Err(Unread::Gone) => self.tell(Event::NoContent { tunnel }),
            Err(Unread::Later(problem)) => {
                debug!(%tunnel, problem, "its context cannot be read yet");
                self.unread.push_back((Instant::now() + AGAIN, tunnel));
            }
        }
    }

    /// The IKE part and the SAs of one moment: the part did not change while the SAs were read.
    fn read(&mut self, tunnel: Name) -> Result<Event, Unread> {
        let table = self.table()?;
        let (sas, ike, version) = if self.is_negotiated(tunnel) {
            self.read_negotiated(&table, tunnel)?
        } else {
            let sas = table.read_by_name(tunnel.as_str()).map_err(|error| error.to_string())?;
            if sas.is_empty() {
                return Err(Unread::Gone);
            }
            (sas, None, version_of_static(&table))
        };
        let segment = segment_of(tunnel, &sas).ok_or_else(|| "it has no segment".to_owned())?;
        let reserved = sas.iter().map(reserved).collect();
        let octets = self.seal(&[context_of(&table, tunnel, sas, ike, Kind::Copy)])?;
        Ok(Event::Content(Content { tunnel, segment, version, octets, reserved }))
    }

    #[allow(clippy::type_complexity)]
    fn read_negotiated(
        &mut self,
        table: &Table,
        tunnel: Name,
    ) -> Result<(Vec<Snapshot>, Option<IkePart>, u64), Unread> {
        const TRIES: usize = 4;
        let request = json!({ "request": "context-get", "name": tunnel.as_str() });
        let mut before: IkeContext = self.ask(&request)?;
        for _ in 0..TRIES {
            let sas = table.read_by_name(tunnel.as_str()).map_err(|error| error.to_string())?;
            let after: IkeContext = self.ask(&request)?;
            if before.context == after.context {
                let part = hex::decode(&after.context).ok().and_then(IkePart::new);
                let part = part.ok_or_else(|| "its IKE part is damaged".to_owned())?;
                return Ok((sas, Some(part), after.version));
            }
            before = after;
        }
        Err("it changes faster than it is read".to_owned().into())
    }

    /// In flight as at rest: sealed under the cluster key, whatever the channel does.
    pub(super) fn seal(&self, contexts: &[Context]) -> Result<Octets, String> {
        let key = self.key.as_ref().ok_or("there is no cluster key")?;
        let sealed = || -> Result<Vec<u8>, crate::SealError> {
            let mut writer = ContextWriter::new(Vec::new(), SealWith::Key(key))?;
            contexts.iter().try_for_each(|context| writer.write(context))?;
            writer.finish()
        };
        sealed().map(Octets::from).map_err(|error| error.to_string())
    }

    pub(super) fn open(&self, octets: &Octets) -> Result<Vec<Context>, Refusal> {
        let with = OpenWith { key: self.key.as_ref(), clear: false };
        let read = || -> Result<Vec<Context>, crate::OpenError> {
            let mut reader = ContextReader::new(Cursor::new(octets.0.as_slice()), with)?;
            std::iter::from_fn(|| reader.next().transpose()).collect()
        };
        read().map_err(|error| {
            warn!(%error, "a context of another node cannot be read");
            Refusal::Malformed
        })
    }
}

/// Of its SAs; of one that has none its name says it.
fn segment_of(tunnel: Name, sas: &[Snapshot]) -> Option<u8> {
    let named = || {
        let (_, number) = baton_ike_proto::host::TunnelName::parse(tunnel.as_str())?;
        Some(number.to_be_bytes()[0])
    };
    sas.first().map(|found| found.sa.segment).or_else(named)
}

fn reserved(found: &Snapshot) -> Reserved {
    let key = SaKey::of(baton_sad::SaKey {
        direction: found.sa.direction,
        key: found.sa.index_key(),
        spi: found.sa.spi,
    });
    Reserved { key, number: found.reservation.reserved.max(found.counters.edge()) }
}
