//! A gateway with a peer who may say anything at any time: datagrams as they come, and messages sealed with the keys of
//! an IKE SA that was set up properly, proved or not. Nothing panics, SAs are installed only for who has proved himself,
//! what is stored can be gone on with, and when the peer falls silent nothing of it stays.
//!
//! The input is a list of steps: one octet says what, two how long what follows is.
#![no_main]

mod ike_peer;

use baton_ike_proto::host::Event;
use baton_ike_proto::machine::Restoring;
use ike_peer::{Gateway, Peer};
use libfuzzer_sys::fuzz_target;

/// Steps beyond these tell nothing new.
const MAX_STEPS: usize = 32;

fuzz_target!(|input: &[u8]| {
    let mut gateway = Gateway::new();
    let mut peer = Peer::set_up(&mut gateway);
    let mut rest = input;
    for _ in 0..MAX_STEPS {
        let Some((step, body, behind)) = next_step(rest) else { break };
        rest = behind;
        match step % 4 {
            0 => gateway.receive(body),
            1 => peer.send(&mut gateway, body, false),
            2 => peer.send(&mut gateway, body, true),
            _ => gateway.wait(step),
        }
        assert!(peer.has_proved || gateway.installs == 0, "an SA for somebody unknown");
    }
    for context in gateway.contexts.values() {
        let restored = Gateway::new().restore(context, Restoring::Restart);
        assert!(restored.is_ok(), "what was stored cannot be gone on with: {restored:?}");
    }
    gateway.fall_silent();
    assert_eq!(gateway.tunnels(), 0, "something of a silent peer stays");
    assert!(gateway.contexts.is_empty(), "a context of a tunnel that is over");
    for event in &gateway.events {
        if let Event::IkeUp { tunnel, .. } = event {
            let is_end =
                |event: &&Event| matches!(event, Event::IkeDown { tunnel: down, .. } if down == tunnel);
            assert_eq!(gateway.events.iter().filter(is_end).count(), 1, "what stood ends once");
        }
    }
});

fn next_step(input: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (step, rest) = input.split_first()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
    Some((*step, &rest[..length], &rest[length..]))
}
