//! The pcap reader: any file ends in a summary or in a typed error, in bounded memory.
#![no_main]

use baton_dataplane::io::pcap::PcapIo;
use baton_dataplane::io::{PacketIo, Side};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(mut io) = PcapIo::new(input, Vec::new(), vec![[203, 0, 113, 2].into()]) else { return };
    let mut batch = Vec::with_capacity(32);
    while !io.ended() {
        for side in Side::ALL {
            io.receive(side, &mut batch);
            assert!(batch.iter().all(|frame| frame.side == side));
            io.transmit(side, &mut batch);
        }
    }
    if let Ok((summary, _)) = io.finish() {
        assert_eq!(summary.read, summary.written + summary.oversized);
    }
});
