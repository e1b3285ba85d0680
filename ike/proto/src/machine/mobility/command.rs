//! What the host tells of its addresses.

use std::time::Duration;

use super::super::Ike;
use super::super::core::Cx;
use super::super::head::{Attempt, Head};
use super::super::tunnel::Tunnel;
use super::super::waiting::Waiting;
use super::paths;
use crate::host::{Host, Now};

impl Ike {
    /// Addresses or routes of this host have changed; how many tunnels look whether that concerns them.
    pub(in crate::machine) fn addresses_changed(&mut self, now: Now, host: &mut dyn Host) -> usize {
        let roams = |tunnel: &Tunnel| match tunnel {
            Tunnel::Up(up) => up.mobility.is_some() && !up.is_frozen,
            Tunnel::ResumeSent(_)
            | Tunnel::Waiting(_)
            | Tunnel::InitSent(_)
            | Tunnel::IntermediateSent(_)
            | Tunnel::AuthSent(_) => true,
            Tunnel::InitAnswered(_) | Tunnel::EapAnswered(_) | Tunnel::Dormant(_) | Tunnel::Lingering(_) => {
                false
            }
        };
        let ids: Vec<_> =
            self.tunnels.iter().filter(|(_, slot)| roams(&slot.tunnel)).map(|(id, _)| *id).collect();
        for id in &ids {
            self.with_tunnel(now, host, *id, |tunnel, cx| Some(tunnel.look_around(cx)));
        }
        ids.len()
    }
}

impl Tunnel {
    /// What stands may move. What is to stand is begun anew from where we are now: the peer has nothing yet that could.
    fn look_around(self, cx: &mut Cx) -> Self {
        match self {
            Self::Up(mut up) => {
                up.reconsider(cx);
                up.pump(cx);
                up.hurry_probe(cx);
                Self::Up(up)
            }
            Self::Waiting(mut state) => {
                state.look(cx);
                Self::Waiting(state)
            }
            Self::InitSent(state) if has_left(cx, &state.head) => again(cx, state.head, state.attempt),
            Self::ResumeSent(state) if has_left(cx, &state.head) => again(cx, state.head, state.attempt),
            Self::IntermediateSent(state) if has_left(cx, &state.head) => {
                again(cx, state.head, state.attempt)
            }
            Self::AuthSent(state) if has_left(cx, &state.head) => again(cx, state.head, state.attempt),
            other => other,
        }
    }
}

/// Whether the routes lead to the peer from another address than before.
fn has_left(cx: &Cx, head: &Head) -> bool {
    let source = paths::source(cx.host, &head.connection, head.peer());
    source.is_some_and(|source| source != head.path.local.ip())
}

fn again(cx: &mut Cx, head: Head, attempt: Attempt) -> Tunnel {
    Waiting::begin(cx, head, attempt, Duration::ZERO)
}
