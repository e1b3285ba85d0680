//! Which tunnels are shown, and in which order.

use std::cmp::Ordering;

use super::model::{Tunnel, View};
use crate::dpctl::cli::Order;

/// What the operator chose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) order: Order,
    pub(super) reversed: bool,
    pub(super) filter: String,
}

impl Choice {
    /// The tunnels of the view, as chosen.
    pub(super) fn of<'v>(&self, view: &'v View) -> Vec<&'v Tunnel> {
        let mut tunnels: Vec<&Tunnel> = view.tunnels.iter().filter(|tunnel| self.fits(tunnel)).collect();
        tunnels.sort_by(|a, b| {
            let order = self.compare(a, b);
            // Equal ones stay in the order of their names, so that rows do not dance.
            if self.reversed { order.reverse() } else { order }.then_with(|| a.name.cmp(&b.name))
        });
        tunnels
    }

    fn fits(&self, tunnel: &Tunnel) -> bool {
        let wanted = self.filter.to_lowercase();
        let places = [&tunnel.name, &tunnel.peer, &tunnel.remote, &tunnel.state];
        wanted.is_empty() || places.iter().any(|text| text.to_lowercase().contains(&wanted))
    }

    fn compare(&self, a: &Tunnel, b: &Tunnel) -> Ordering {
        let most = |of: fn(&Tunnel) -> f64| of(b).total_cmp(&of(a));
        match self.order {
            Order::Rate => most(|tunnel| tunnel.traffic.inbound_bits + tunnel.traffic.outbound_bits),
            Order::Packets => most(|tunnel| tunnel.traffic.inbound_packets + tunnel.traffic.outbound_packets),
            Order::Drops => most(|tunnel| tunnel.traffic.refused),
            Order::Name => a.name.cmp(&b.name),
            Order::Peer => a.peer.cmp(&b.peer),
            // What has no age is last.
            Order::Age => a.age.unwrap_or(u64::MAX).cmp(&b.age.unwrap_or(u64::MAX)),
            Order::State => a.state.cmp(&b.state),
        }
    }
}
