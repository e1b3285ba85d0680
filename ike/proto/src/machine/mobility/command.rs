//! What the host tells of its addresses.

use super::super::Ike;
use super::super::tunnel::Tunnel;
use crate::host::{Host, Now};

impl Ike {
    /// Addresses or routes of this host have changed; how many tunnels look whether that concerns them.
    pub(in crate::machine) fn addresses_changed(&mut self, now: Now, host: &mut dyn Host) -> usize {
        let roams =
            |tunnel: &Tunnel| matches!(tunnel, Tunnel::Up(up) if up.mobility.is_some() && !up.is_frozen);
        let ids: Vec<_> =
            self.tunnels.iter().filter(|(_, slot)| roams(&slot.tunnel)).map(|(id, _)| *id).collect();
        for id in &ids {
            self.with_tunnel(now, host, *id, |tunnel, cx| {
                let Tunnel::Up(mut up) = tunnel else { return Some(tunnel) };
                up.reconsider(cx);
                up.pump(cx);
                up.hurry_probe(cx);
                Some(Tunnel::Up(up))
            });
        }
        ids.len()
    }
}
