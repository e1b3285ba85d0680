//! Time.

use std::time::Duration;

use super::Client;

impl Client {
    /// Does what is due (monotonic).
    pub fn handle_timeout(&mut self, now: Duration) {
        let due: Vec<u64> = self.timers.range(..=(now, u64::MAX)).map(|(_, id)| *id).collect();
        for id in due {
            self.on_due(now, id);
        }
    }
}
