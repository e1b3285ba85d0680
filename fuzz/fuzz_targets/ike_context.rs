//! Contexts of tunnels that are restored: any octets are refused, or are a tunnel that ends when nobody answers.
//!
//! The first octet chooses whether they come from this gateway or from another one.
#![no_main]

mod ike_peer;

use baton_ike_proto::machine::Restoring;
use ike_peer::Gateway;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, context)) = input.split_first() else { return };
    let how = if choice % 2 == 0 { Restoring::Restart } else { Restoring::Move };
    let mut gateway = Gateway::new();
    match gateway.restore(context, how) {
        Ok(()) => {
            assert_eq!(gateway.tunnels(), 1);
            assert!(gateway.restore(context, how).is_err(), "one tunnel twice");
        }
        Err(error) => {
            assert!(!error.to_string().is_empty());
            assert_eq!(gateway.tunnels(), 0);
        }
    }
    gateway.fall_silent();
    assert_eq!(gateway.tunnels(), 0);
});
