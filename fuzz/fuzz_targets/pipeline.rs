//! A whole gateway: whatever arrives on either side, nothing panics, no frame is lost, every packet is either sent
//! or counted under a reason, and the inner side only ever sees packets that the SA's selectors allow.
//!
//! The first octet chooses: a raw frame from outside, a raw frame from inside, or a text that is sealed under the
//! gateway's own inbound key first, so that the fuzzer reaches what lies behind the integrity check.
#![no_main]

#[path = "../../dataplane/tests/common/mod.rs"]
mod common;

use std::cell::RefCell;

use baton_dataplane::crypto::{Backend, Engine, Job};
use baton_dataplane::io::Side;
use baton_dataplane::packet::ipv4::Ipv4Header;
use baton_sad::Direction;
use common::{Gateway, HOST, OUTER, Packet, SPI, Setup, sa};
use libfuzzer_sys::fuzz_target;

struct State {
    gateway: Gateway,
    sequence: u32,
}

thread_local! {
    static STATE: RefCell<State> =
        RefCell::new(State { gateway: Gateway::new(1, &setup()), sequence: 0 });
}

fn setup() -> Setup {
    Setup { extended: false, path_mtu: 1400, ..Setup::default() }
}

/// A frame from the peer whose ESP text is exactly this.
fn sealed(sequence: u32, text: &[u8]) -> Vec<u8> {
    let inbound = sa(&setup(), 1, Direction::Inbound, 0);
    let header = [SPI[1].to_be_bytes(), sequence.to_be_bytes()].concat();
    let mut esp = [&header[..], &[0; 8], text, &[0; 16]].concat();
    let mut engine = Engine::new(Backend::AwsLc).expect("random octets");
    let key =
        engine.prepare(inbound.suite, inbound.extended_sequence, inbound.key.expose()).expect("its length");
    engine.seal(&mut [Job::to_seal(&key, u64::from(sequence), u64::from(sequence), &mut esp)]);
    let length = 20 + esp.len() as u16;
    let outer = Packet {
        source: OUTER[0].into(),
        destination: OUTER[1].into(),
        protocol: 50,
        ..Packet::from(0, length)
    };
    [&outer.frame()[..34], &esp].concat()
}

fn total_drops(gateway: &Gateway) -> u64 {
    gateway.drops().iter().map(|(_, count)| count).sum()
}

fuzz_target!(|input: &[u8]| {
    let Some((mode, rest)) = input.split_first() else { return };
    if rest.len() > 3000 {
        return;
    }
    STATE.with_borrow_mut(|State { gateway, sequence }| {
        *sequence += 1;
        let (side, frame) = match mode % 3 {
            0 => (Side::Outer, rest.to_vec()),
            1 => (Side::Inner, rest.to_vec()),
            _ => (Side::Outer, sealed(*sequence, rest)),
        };
        let drops = total_drops(gateway);
        gateway.receive(side, &frame);
        let opened = gateway.sent(Side::Inner);
        let closed = gateway.sent(Side::Outer);
        let dropped = total_drops(gateway) - drops;
        // An answer by ICMP leaves on the inner side beside the drop.
        let answered = u64::from(side == Side::Inner && opened.len() == 1);
        assert_eq!(opened.len() as u64 + closed.len() as u64 + dropped - answered, 1);
        for packet in &closed {
            let header = Ipv4Header::parse(&packet[14..]).expect("what leaves is well-formed");
            assert_eq!((header.source, header.destination, header.protocol), (OUTER[1], OUTER[0], 50));
        }
        for packet in opened.iter().filter(|_| side == Side::Outer) {
            let header = Ipv4Header::parse(&packet[14..]).expect("what leaves is well-formed");
            let subnet = |address: std::net::Ipv4Addr| address.to_bits() >> 8;
            assert_eq!(subnet(header.source), subnet(HOST[0]), "selectors");
            assert_eq!(subnet(header.destination), subnet(HOST[1]), "selectors");
        }
    });
});
