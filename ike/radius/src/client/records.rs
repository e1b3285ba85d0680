//! Records of sessions.

use std::time::Duration;

use super::exchange::Purpose;
use super::{Client, Happening, MAX_RECORDS};
use crate::accounting::{Record, Status};

impl Client {
    /// Sends a record until a server has taken it. A later one of the same session takes the place of an interim one
    /// that is still on its way.
    pub fn account(&mut self, now: Duration, record: Record) {
        self.account_since(now, now, record);
    }

    pub(super) fn account_since(&mut self, now: Duration, begun: Duration, record: Record) {
        if self.settings.servers.is_empty() {
            return;
        }
        if let Some(id) = self.interims.remove(&record.session) {
            self.finish(now, id);
        }
        if !self.has_room(now, &record) {
            self.lost += 1;
            self.happened(Happening::RecordLost(record.session));
            return;
        }
        let interim = (record.status == Status::Interim).then(|| record.session.clone());
        let id = self.begin(now, begun, Purpose::Record(record));
        if let (Some(session), true) = (interim, self.records.contains(&id)) {
            self.interims.insert(session, id);
        }
    }

    /// An interim record is not worth another one; for others the oldest goes.
    fn has_room(&mut self, now: Duration, record: &Record) -> bool {
        if self.records.len() < MAX_RECORDS {
            return true;
        }
        if record.status == Status::Interim {
            return false;
        }
        if let Some(oldest) = self.records.first().copied() {
            self.give_up(now, oldest, "");
        }
        true
    }
}
