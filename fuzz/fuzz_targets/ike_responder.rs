//! A gateway with a client who may say anything at any time: datagrams as they come, and messages sealed with the keys
//! of an IKE SA that was set up properly, proved or not. Nothing panics, SAs are installed only for who has proved
//! himself, what is stored can be gone on with, and when the client falls silent nothing of it stays.
#![no_main]

mod ike_peer;

use ike_peer::{Gateway, Peer, play};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut gateway = Gateway::new();
    let client = Peer::set_up(&mut gateway);
    play(gateway, client, input);
});
