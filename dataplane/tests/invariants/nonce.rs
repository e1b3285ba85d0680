//! I1: no (key, IV) pair is used twice.

use std::collections::HashSet;

use baton_dataplane::io::Side;
use baton_dataplane::spd::Spd;
use baton_dataplane::worker::Command;
use baton_sad::{Counters, Direction, Encryption, Mode, OWNED, Snapshot, Suite};

use super::common::wire::every_kind;
use super::common::{self, Gateway, REQID, Setup};
use super::step::{self, Step};

/// More than workers take from the table at a time.
const MANY: usize = 300;

/// The IVs that were used with one key.
#[derive(Default)]
struct Ivs(HashSet<Vec<u8>>);

impl Ivs {
    /// Sends packets of A's tunnel, in one batch after the other.
    fn spend(&mut self, gateway: &mut Gateway, setup: &Setup, packets: usize) {
        let plain = vec![setup.packet(0, 68).frame(); packets];
        let sealed = gateway.pass(Side::Inner, &plain);
        assert_eq!(sealed.len(), packets, "{:?}", gateway.drops());
        self.take(gateway, setup, &sealed);
    }

    /// Looks at what was sent.
    fn take(&mut self, gateway: &Gateway, setup: &Setup, sealed: &[Vec<u8>]) {
        for frame in sealed {
            let iv = setup.on_wire(frame).iv;
            if setup.suite.encryption() != Encryption::AesCbc {
                assert_eq!(iv[0], gateway.end as u8 + 1, "the node's id tells nodes apart");
            }
            assert!(self.0.insert(iv), "I1 broken: {setup:?}");
        }
    }
}

fn with_iv() -> impl Iterator<Item = (usize, Setup)> {
    every_kind().filter(|setup| setup.suite.iv_length() > 0).enumerate()
}

#[test]
fn i1_no_iv_is_used_twice_whatever_happens_to_sa_and_process() {
    for (number, setup) in with_iv() {
        let mut a = Gateway::new(0, &setup);
        let mut ivs = Ivs::default();
        ivs.spend(&mut a, &setup, MANY);
        for step in Step::in_order(number) {
            step.happen(&mut a, &setup, Direction::Outbound);
            ivs.spend(&mut a, &setup, 5);
        }
    }
}

/// The key is installed again with a table that knows nothing of what was sent with it.
#[test]
fn i1_no_iv_is_used_twice_after_the_table_was_lost() {
    for (_, setup) in with_iv() {
        let mut a = Gateway::new(0, &setup);
        let mut ivs = Ivs::default();
        ivs.spend(&mut a, &setup, 20);
        a.lose_table(&setup);
        a.table.put(&[(common::sa(&setup, 0, Direction::Outbound, 0), Counters::default())]).unwrap();
        ivs.spend(&mut a, &setup, 20);
    }
}

/// One SA on two nodes that both send, from the same sequence number on.
#[test]
fn i1_two_nodes_with_one_key_use_no_iv_twice() {
    for (_, setup) in with_iv() {
        let [mut a, mut b] = common::pair(&setup);
        let mut ivs = Ivs::default();
        ivs.spend(&mut a, &setup, 10);
        let Snapshot { sa, counters, .. } = step::get(&a, Direction::Outbound);
        b.table.set_lease(sa.segment, OWNED);
        b.table.put(&[(sa, counters)]).unwrap();
        b.spd.store(std::sync::Arc::new(Spd::new(common::policies(0, &setup))));
        ivs.spend(&mut b, &setup, 10);
        ivs.spend(&mut a, &setup, 10);
    }
}

/// Dummy packets take IVs and sequence numbers as others do.
#[test]
fn i1_i2_dummy_packets_share_nothing_with_others() {
    for (_, setup) in with_iv().filter(|(_, setup)| setup.mode == Mode::Tunnel) {
        let mut a = Gateway::new(0, &setup);
        let mut ivs = Ivs::default();
        let handle = a.table.lookup(Direction::Outbound, REQID).unwrap();
        let mut sequence = 0;
        for _ in 0..4 {
            ivs.spend(&mut a, &setup, 1);
            assert!(a.rings.command(Command::Dummy(handle)));
            a.run();
            let dummy = a.sent_one(Side::Outer);
            ivs.take(&a, &setup, std::slice::from_ref(&dummy));
            sequence += 2;
            assert_eq!(setup.on_wire(&dummy).sequence, sequence, "I2 broken: {setup:?}");
        }
    }
}

/// CBC's IVs must not be foreseen (RFC 3602 section 3). What an attacker would try: the number that they are made
/// from, a difference that repeats, bits that do not change, and what was sent last.
#[test]
fn i1_nothing_foretells_the_ivs_of_cbc() {
    let is_cbc = |suite: &Suite| suite.encryption() == Encryption::AesCbc;
    for suite in Suite::ALL.into_iter().filter(is_cbc) {
        let setup = Setup { suite, ..Setup::default() };
        let mut a = Gateway::new(0, &setup);
        let mut seen = vec![];
        let mut last_blocks = HashSet::<[u8; 16]>::new();
        for _ in 0..8 {
            let sealed = a.pass(Side::Inner, &vec![setup.packet(0, 68).frame(); 256]);
            for packet in sealed.iter().map(|frame| setup.on_wire(frame)) {
                let iv: [u8; 16] = packet.iv.try_into().unwrap();
                assert!(!last_blocks.contains(&iv), "{suite}: chained to an earlier packet");
                let text = packet.rest.len() - suite.icv_length();
                last_blocks.insert(packet.rest[text - 16..text].try_into().unwrap());
                seen.push(u128::from_be_bytes(iv));
            }
        }
        assert_looks_random(&seen, suite);
    }
}

fn assert_looks_random(seen: &[u128], suite: Suite) {
    let distinct = seen.iter().collect::<HashSet<_>>().len();
    assert_eq!(distinct, seen.len(), "I1 broken: {suite}");
    for bit in 0..128 {
        let is_set = |number: u128| number >> bit & 1 == 1;
        let ones = seen.iter().filter(|iv| is_set(**iv)).count();
        assert!(is_a_coins(ones, seen.len()), "{suite}: bit {bit} is set in {ones} of {}", seen.len());
        let turns = seen.windows(2).filter(|pair| is_set(pair[0] ^ pair[1])).count();
        assert!(is_a_coins(turns, seen.len()), "{suite}: bit {bit} changes {turns} times in {}", seen.len());
    }
    let differences: HashSet<u128> = seen.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])).collect();
    assert_eq!(differences.len(), seen.len() - 1, "{suite}: a difference repeats");
}

/// Within six standard deviations of what a fair coin does: a chance of 2 in 10^9 to be wrong.
fn is_a_coins(ones: usize, tosses: usize) -> bool {
    (ones as f64 - tosses as f64 / 2.0).abs() <= 6.0 * (tosses as f64).sqrt() / 2.0
}
