//! Tickets of session resumption: any octets are none of the cluster's, whoever presents them, and none that was kept.
//!
//! The first octet chooses who gets the others: the keys of tickets, the store, or the reader of TICKET_LT_OPAQUE.
#![no_main]

mod ike_peer;

use baton_ike_proto::crypto::TicketKey;
use baton_ike_proto::wire::TicketWithLifetime;
use ike_peer::Gateway;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, octets)) = input.split_first() else { return };
    match choice % 3 {
        0 => {
            let keys = [TicketKey::new(b"the first key"), TicketKey::new(b"the second key")];
            assert!(TicketKey::open(&keys, octets).is_err(), "nobody has sealed it");
        }
        1 => {
            let mut gateway = Gateway::new();
            assert!(gateway.restore_ticket(octets).is_err(), "nobody has sealed it");
            assert_eq!(gateway.tunnels(), 0);
        }
        _ => {
            if let Ok(ticket) = TicketWithLifetime::parse(octets) {
                assert_eq!(ticket.emit(), octets);
            }
        }
    }
});
