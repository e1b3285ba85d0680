//! Asks the daemons and reads the table, again and again; whoever is gone is looked for again each time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use baton_dataplane::config::Config;
use baton_dataplane::control::{Client, ClientError, Counters, Request, Segments};
use baton_ike::control::{IkeEntry, IkeList, IkeListRequest, Request as IkeRequest};
use baton_sad::{Direction, Snapshot, Table};

use super::sample::{DataPlane, IkeDaemon, SaSample, Sample};
use crate::dpctl::error::DpctlError;
use crate::dpctl::{ike, live, open};

/// The group of counters that the reasons for drops are in.
const DROPS: &str = "drop";

/// Device and inode.
type FileIdentity = (u64, u64);

/// Connections that stay open from one moment to the next.
pub(super) struct Sampler<'c> {
    config: &'c Config,
    began: Instant,
    /// The table and the file that it was opened from.
    table: Option<(Table, Option<FileIdentity>)>,
    data_plane: Option<Client>,
    ike: Option<Client>,
    /// Whether there ever was an IKE daemon: one that is gone is missed.
    had_ike: bool,
    tunnels: Tunnels,
}

/// Tunnels as IKE tells them, a piece at a time: in a gateway of 10,000, each is asked for once in ten looks. What they
/// count comes from the table, at each look.
#[derive(Default)]
struct Tunnels {
    known: BTreeMap<String, IkeEntry>,
    /// The last one of the last piece; `None` begins anew.
    after: Option<String>,
    /// Whether all were asked for once.
    complete: bool,
}

impl<'c> Sampler<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        let (table, data_plane, ike, tunnels) = (None, None, None, Tunnels::default());
        Self { config, began: Instant::now(), table, data_plane, ike, had_ike: false, tunnels }
    }

    /// Looks once.
    pub(super) fn look(&mut self) -> Sample {
        let data_plane = self.ask_data_plane();
        let ike = self.ask_ike();
        // Last, so that its time is that of the rates.
        let sas = self.read_table();
        Sample { at: self.began.elapsed(), sas, data_plane, ike }
    }

    fn read_table(&mut self) -> Result<Vec<SaSample>, String> {
        let now = file_at(&self.config.table_path());
        // One of another boot or another gateway may stand there now.
        if self.table.as_ref().is_none_or(|(_, file)| now.is_none() || *file != now) {
            self.table = None;
            self.table = Some((open(self.config).map_err(|error| error.to_string())?, now));
        }
        let table =
            self.table.as_ref().map(|(table, _)| table.iter().map(|found| sa_sample(&found)).collect());
        table.ok_or_else(|| "there is no SA table".to_owned())
    }

    fn ask_data_plane(&mut self) -> Result<DataPlane, String> {
        let answers =
            self.data_plane.take().map_or_else(|| live::connect(self.config), Ok).and_then(|mut client| {
                let status = client.request(&Request::Status)?;
                let counters: Counters = client.request(&Request::Counters)?;
                let segments: Segments = client.request(&Request::Segments)?;
                self.data_plane = Some(client);
                let drops = counters.counters.into_iter().filter(|counter| counter.group == DROPS).collect();
                Ok(DataPlane { status, drops, owned: segments.owned })
            });
        answers.map_err(|error| error.to_string())
    }

    fn ask_ike(&mut self) -> Option<Result<IkeDaemon, String>> {
        let connected = self.ike.take().map_or_else(|| ike::connect(self.config), Ok);
        match connected.and_then(|client| self.ask(client)) {
            Ok(daemon) => {
                self.had_ike = true;
                Some(Ok(daemon))
            }
            Err(DpctlError::Client(ClientError::NotReachable { .. })) if !self.had_ike => None,
            Err(error) => {
                // What it knew may be wrong when it is back.
                self.tunnels = Tunnels::default();
                Some(Err(error.to_string()))
            }
        }
    }

    fn ask(&mut self, mut client: Client) -> Result<IkeDaemon, DpctlError> {
        let status = client.request(&IkeRequest::Status)?;
        self.tunnels.ask(&mut client)?;
        self.ike = Some(client);
        Ok(IkeDaemon { status, tunnels: self.tunnels.known.values().cloned().collect() })
    }
}

impl Tunnels {
    /// The next piece; at first, all.
    fn ask(&mut self, client: &mut Client) -> Result<(), DpctlError> {
        loop {
            let request = IkeListRequest { connection: None, after: self.after.clone() };
            let piece: IkeList = client.request(&IkeRequest::IkeList(request))?;
            self.take(piece);
            if self.after.is_none() {
                self.complete = true;
            }
            if self.complete {
                return Ok(());
            }
        }
    }

    /// A piece is in the place of all that was known between its ends.
    fn take(&mut self, piece: IkeList) {
        let last = piece.tunnels.last().map(|tunnel| tunnel.name.clone()).filter(|_| piece.more);
        let (after, until) = (self.after.take(), last.clone());
        self.known.retain(|name, _| {
            let is_before = after.as_ref().is_some_and(|after| name <= after);
            is_before || until.as_ref().is_some_and(|until| name > until)
        });
        self.known.extend(piece.tunnels.into_iter().map(|tunnel| (tunnel.name.clone(), tunnel)));
        self.after = last;
    }
}

/// Which file has that name now: a table that was replaced is another file of the same name.
fn file_at(path: &Path) -> Option<FileIdentity> {
    fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn sa_sample(found: &Snapshot) -> SaSample {
    let remote = match found.sa.direction {
        Direction::Inbound => found.sa.source,
        Direction::Outbound => found.sa.destination,
    };
    SaSample {
        tunnel: found.sa.name.as_str().to_owned(),
        direction: found.sa.direction,
        spi: found.sa.spi,
        segment: found.sa.segment,
        remote: remote.to_string(),
        frozen: found.frozen,
        packets: found.counters.packets,
        octets: found.counters.octets,
        refused: found.counters.replay_drops.saturating_add(found.counters.integrity_failures),
    }
}

/// The longest that a look is put off by what it asks.
pub(super) fn until_next(began: Instant, interval: Duration) -> Duration {
    interval.saturating_sub(began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(names: &[&str], more: bool) -> IkeList {
        let entry = |name: &&str| IkeEntry { name: (*name).to_owned(), ..IkeEntry::default() };
        IkeList { tunnels: names.iter().map(entry).collect(), more }
    }

    fn names(tunnels: &Tunnels) -> Vec<&str> {
        tunnels.known.keys().map(String::as_str).collect()
    }

    #[test]
    fn a_piece_replaces_what_was_known_between_its_ends() {
        let mut tunnels = Tunnels::default();
        tunnels.take(piece(&["a", "c", "e"], true));
        tunnels.take(piece(&["g", "h"], false));
        assert_eq!((names(&tunnels), tunnels.after.clone()), (vec!["a", "c", "e", "g", "h"], None));
        tunnels.take(piece(&["b", "e"], true));
        assert_eq!(names(&tunnels), ["b", "e", "g", "h"]);
        tunnels.take(piece(&["i"], false));
        assert_eq!((names(&tunnels), tunnels.after.clone()), (vec!["b", "e", "i"], None));
        tunnels.take(piece(&[], false));
        assert!(tunnels.known.is_empty());
    }
}
