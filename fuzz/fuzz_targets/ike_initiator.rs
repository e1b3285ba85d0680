//! A gateway that called somebody who may say anything at any time; as `ike_responder` has it otherwise.
#![no_main]

mod ike_peer;

use ike_peer::{Gateway, Peer, play};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let mut gateway = Gateway::new();
    let hub = Peer::answer(&mut gateway);
    play(gateway, hub, input);
});
