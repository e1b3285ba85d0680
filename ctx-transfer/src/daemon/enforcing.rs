//! Where reservations begin to be kept, and where that ends (I2, I3). The thread of contexts does it, in the order of what
//! the core wants, because of what a standby believes: a context says how far its SAs may go, and a standby that takes
//! over goes on above that.
//!
//! So nothing may raise a reservation after the context was read, unless the standby is asked. Here they are raised
//! without a question, for workers to have something to use when they are bound all at once: a context read a moment
//! before would say less than its owner uses, and its standby would send the same numbers again. A context read before
//! every worker has seen that it is bound would say less as well. Only then are contexts read; whatever raises
//! reservations later comes from the core, which knows it and has asked.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use baton_sad::{Edge, Reserve, Table};
use tracing::{error, warn};

use crate::cluster::{Reserving, Segments};

/// How long SAs are looked at to see how fast they go.
const LOOK: Duration = Duration::from_millis(10);
/// How long workers may take to finish their batches, before somebody is told that they do not.
const BATCH: Duration = Duration::from_millis(500);

/// Binds the workers to the reservations of segments. Each SA has something to use first, so that none stands still: as
/// much as it uses, by what it did just now.
pub(super) fn begin(table: &Table, segments: Segments, reserving: &Reserving) {
    let words = segments.words();
    let before: HashMap<_, _> = table.edges(&words).into_iter().map(|edge| (edge.sa, edge.packets)).collect();
    let since = Instant::now();
    thread::sleep(LOOK);
    let elapsed = since.elapsed();
    let some = |edge: Edge| {
        let was = before.get(&edge.sa).copied().unwrap_or(edge.packets);
        let ahead = reserving.ahead(rate(edge.packets.saturating_sub(was), elapsed));
        let mark = edge.edge.saturating_add(ahead / 2);
        Reserve { sa: edge.sa, reserved: edge.edge.saturating_add(ahead), mark }
    };
    let items: Vec<Reserve> = table.edges(&words).into_iter().map(some).collect();
    if let Err(error) = table.reserve(&items) {
        // They stand still until the core has answered each of them, which is safe.
        warn!(%error, "reservations cannot be raised");
    }
    table.enforce_reservations(&words, true);
    wait_for_workers(table);
}

/// Frees the workers: nobody stands by, or the segments are not ours any more. A batch that began with a lease is kept to
/// its reservations to its end.
pub(super) fn end(table: &Table, segments: Segments) {
    wait_for_workers(table);
    table.enforce_reservations(&segments.words(), false);
}

/// However long it takes: what follows would not hold. A data plane that is gone is not waited for.
fn wait_for_workers(table: &Table) {
    while let Err(error) = table.wait_until_quiescent(BATCH) {
        error!(%error, "contexts wait for the data plane");
        thread::sleep(LOOK);
    }
}

/// Per second.
fn rate(packets: u64, elapsed: Duration) -> u64 {
    let micros = elapsed.as_micros().max(1);
    u64::try_from(u128::from(packets) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::net::{IpAddr, Ipv4Addr};
    use std::path::Path;
    use std::sync::Arc;

    use baton_sad::{
        AddressRange, ClusterId, Counters, Direction, Key, Name, NodeId, Sa, Selector, Selectors, Sender,
        Senders, Suite, TableOptions,
    };
    use tokio::sync::mpsc::Receiver;

    use super::*;
    use crate::cluster::{Content, Event, Output};
    use crate::config::Config;
    use crate::daemon::hands::{self, Hands, Work};
    use crate::daemon::input::{Input, Inputs};

    pub(in crate::daemon) const SEGMENT: u8 = 70;
    const REQID: u32 = 7;
    pub(in crate::daemon) const EDGE: u64 = 10;

    pub(in crate::daemon) fn sa() -> Sa {
        let ours = Sender { cluster: ClusterId::new(1), node: NodeId::new(1).expect("not 0") };
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Sa {
            name: Name::new("site-a").expect("short"),
            direction: Direction::Outbound,
            spi: 0x4600_0001,
            peer_spi: 0x4600_0002,
            reqid: REQID,
            mode: baton_sad::Mode::Tunnel,
            segment: SEGMENT,
            suite: Suite::ALL[0],
            key: Key::new(&[7; 100][..Suite::ALL[0].key_length()]).expect("fits"),
            source: address,
            destination: address,
            selectors: Selectors::new(vec![Selector::addresses(
                AddressRange::single(address),
                AddressRange::single(address),
            )])
            .expect("one"),
            encapsulation: None,
            extended_sequence: true,
            replay_window: 64,
            dscp: baton_sad::DscpPolicy::Copy,
            df: baton_sad::DfPolicy::Copy,
            path_mtu: 0,
            clamp_mss: false,
            tfc_padding: baton_sad::TfcPadding::Off,
            lifetime: baton_sad::Lifetime::default(),
            senders: Senders::new(vec![ours]).expect("one"),
        }
    }

    /// The thread of contexts, over a table with an SA at its edge.
    struct Node {
        _directory: tempfile::TempDir,
        table: Arc<Table>,
        hands: Hands,
        inputs: Receiver<Input>,
    }

    fn config(directory: &Path) -> Config {
        let key = directory.join("key");
        fs::write(&key, format!("{}\n", "5a".repeat(32))).expect("written");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&key, mode).expect("private");
        let text = format!(
            "[node]\nid = 1\ncluster = \"demo\"\n[outer]\ninterface = \"wan0\"\naddresses = [\"203.0.113.2\"]\n\
             [inner]\ninterface = \"lan0\"\n[snapshot]\nkey_file = \"{}\"\n\
             [[cluster.member]]\nid = 1\naddress = \"192.0.2.1\"\n[[cluster.member]]\nid = 2\naddress = \"192.0.2.2\"\n",
            key.display()
        );
        Config::parse_as(&text, &directory.join("baton.toml"), true).expect("good").expect("a cluster")
    }

    fn node() -> Node {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory on tmpfs");
        let options =
            TableOptions { capacity: 8, node: NodeId::new(1).expect("not 0"), cluster: ClusterId::new(1) };
        let table = Arc::new(Table::create(&directory.path().join("table"), &options).expect("created"));
        let counters = Counters { sequence: EDGE, ..Counters::default() };
        table.put(&[(sa(), counters)]).expect("put");
        let (inputs, received) = Inputs::new();
        let (replies, _) = std::sync::mpsc::channel();
        let hands = hands::start(&config(directory.path()), &inputs, &replies).expect("started");
        hands.work(Work::Table(Arc::clone(&table)));
        Node { _directory: directory, table, hands, inputs: received }
    }

    impl Node {
        fn want(&self, output: Output) {
            self.hands.work(Work::Output(Box::new(output), None));
        }

        fn enforce(&self, enforced: bool) {
            self.want(Output::Enforce { segments: Segments::one(SEGMENT), enforced });
        }

        /// What a standby is told that the SA may use.
        fn told(&mut self) -> u64 {
            self.want(Output::ReadContext { tunnel: Name::new("site-a").expect("short") });
            match self.inputs.blocking_recv() {
                Some(Input::Core(Event::Content(Content { reserved, .. }))) => reserved[0].number,
                other => panic!("{other:?}"),
            }
        }

        /// What its worker may use.
        fn granted(&self) -> u64 {
            let handle = self.table.lookup(Direction::Outbound, REQID).expect("found");
            let granted = self.table.grant(handle, SEGMENT, EDGE + 1);
            // From the mark on, all of it.
            self.table.grant(handle, SEGMENT, granted.saturating_add(1)).max(granted)
        }
    }

    /// I2: whoever takes over goes on above what the context said.
    #[test]
    fn i2_a_context_says_all_that_is_reserved_when_enforcement_begins() {
        let mut node = node();
        assert_eq!(node.granted(), u64::MAX);
        node.enforce(true);
        let told = node.told();
        assert!(told > EDGE, "there is something to use");
        assert_eq!(node.granted(), told, "and its worker may use no more than what is told");
        node.enforce(false);
        assert_eq!(node.told(), told);
        assert_eq!(node.granted(), u64::MAX);
    }

    /// I2: a worker in the middle of a batch does not know yet that it is bound.
    #[test]
    fn i2_a_context_is_not_read_before_every_worker_is_bound() {
        let mut node = node();
        let _attached = node.table.attach().expect("attached");
        let worker = node.table.register_worker(0);
        worker.online();
        let table = Arc::clone(&node.table);
        let batch = thread::spawn(move || {
            while !table.enforces_reservations(SEGMENT) {
                thread::sleep(Duration::from_millis(1));
            }
            thread::sleep(Duration::from_millis(50));
            let slot = table.lookup(Direction::Outbound, REQID).and_then(|handle| table.slot(handle));
            let first = slot.expect("there").next_sequence(1 << 20, u64::MAX).expect("numbers");
            worker.quiescent();
            first + (1 << 20) - 1
        });
        node.enforce(true);
        let told = node.told();
        assert!(told >= batch.join().expect("a batch"), "{told} is less than what was used");
    }
}
