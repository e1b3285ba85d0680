//! Messages of context transfer (RFC 4067): no panic, and what can be read is written again.
#![no_main]

use baton_ctx_transfer::cxtp::Message;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(message) = Message::read(input) else { return };
    let mut octets = Vec::new();
    message.write(&mut octets).expect("it was read");
    assert_eq!(Message::read(&octets), Ok(message));
});
