//! The names by which a tunnel is found: the index follows from what the tunnel's state holds.

use super::core::{Id, Index, InitKey};
use crate::identity::Identity;

/// All names by which one tunnel is found.
#[derive(Debug, Default, Clone)]
pub(super) struct Claims {
    pub(super) ike_spis: Vec<u64>,
    pub(super) esp_spis: Vec<u32>,
    pub(super) reqids: Vec<u32>,
    /// The request that began it, and whether its source was proven by a cookie.
    pub(super) half_open: Option<(InitKey, bool)>,
    pub(super) number: Option<u32>,
    pub(super) peer: Option<Identity>,
    /// The name of the connection that it stands, or is to stand, for.
    pub(super) connection: Option<String>,
}

impl Claims {
    /// The number of a tunnel whose peer is authenticated.
    pub(super) fn standing(&self) -> Option<u32> {
        self.peer.as_ref().and(self.number)
    }
}

impl Index {
    /// Makes the index say what `now` says of a tunnel, of which it said `before`, and `claimed` since.
    pub(super) fn settle(&mut self, id: Id, before: &Claims, claimed: &Claims, now: &Claims) {
        self.withdraw(id, before, now);
        self.withdraw(id, claimed, now);
        self.withdraw_peer(id, before, now);
        self.settle_connection(id, before, now);
        self.ike_spis.extend(now.ike_spis.iter().map(|spi| (*spi, id)));
        self.esp_spis.extend(now.esp_spis.iter().map(|spi| (*spi, id)));
        self.reqids.extend(now.reqids.iter().map(|reqid| (*reqid, id)));
        self.inits.extend(now.half_open.map(|(init, _)| (init, id)));
        self.numbers.extend(now.number.map(|number| (number, id)));
        if let Some(peer) = now.peer.as_ref().filter(|_| now.peer != before.peer) {
            self.peers.entry(peer.clone()).or_default().push(id);
        }
    }

    fn withdraw(&mut self, id: Id, claims: &Claims, now: &Claims) {
        for spi in claims.ike_spis.iter().filter(|spi| !now.ike_spis.contains(spi)) {
            self.ike_spis.remove(spi);
        }
        for spi in claims.esp_spis.iter().filter(|spi| !now.esp_spis.contains(spi)) {
            self.esp_spis.remove(spi);
        }
        for reqid in claims.reqids.iter().filter(|reqid| !now.reqids.contains(reqid)) {
            self.reqids.remove(reqid);
        }
        if let Some(init) =
            claims.half_open.map(|(init, _)| init).filter(|_| claims.half_open != now.half_open)
        {
            // A later request of the same sender may have taken its place.
            if self.inits.get(&init) == Some(&id) {
                self.inits.remove(&init);
            }
        }
        if let Some(number) = claims.number.filter(|_| claims.number != now.number) {
            self.numbers.remove(&number);
        }
    }

    fn settle_connection(&mut self, id: Id, before: &Claims, now: &Claims) {
        if before.connection == now.connection {
            return;
        }
        if let Some(ids) = before.connection.as_ref().and_then(|name| self.connections.get_mut(name)) {
            ids.remove(&id);
        }
        if let Some(name) = &now.connection {
            self.connections.entry(name.clone()).or_default().insert(id);
        }
    }

    fn withdraw_peer(&mut self, id: Id, before: &Claims, now: &Claims) {
        let Some(peer) = before.peer.as_ref().filter(|_| before.peer != now.peer) else { return };
        if let Some(ids) = self.peers.get_mut(peer) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                self.peers.remove(peer);
            }
        }
    }
}
