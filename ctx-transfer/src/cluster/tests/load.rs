//! Segments go away from a node that has too much to do.

use super::*;

const BATCH: usize = 8;

fn cluster(trigger: Trigger) -> Net {
    let mut net = Net::new(2, true);
    for member in net.members.values_mut() {
        member.config.trigger = trigger;
    }
    net.run(1_500);
    net
}

/// Both nodes measure once a second.
fn measure(net: &mut Net, cpu: [u16; 2], seconds: usize) {
    for _ in 0..seconds {
        for (node, cpu_per_mille) in (1..).zip(cpu) {
            let (now, member) = (net.now, net.members.get_mut(&id(node)).unwrap());
            member.handle(now, Event::Load(Load { cpu_per_mille, drops_per_second: 0 }));
        }
        net.run(1_000);
    }
}

fn at(cpu_per_mille: u16) -> Trigger {
    Trigger { cpu_per_mille: Some(cpu_per_mille), hold: Duration::from_secs(3), ..Trigger::default() }
}

#[test]
fn segments_leave_a_node_that_is_loaded_for_long_enough() {
    let mut net = cluster(at(800));
    measure(&mut net, [900, 100], 3);
    assert_eq!(net.owned(1), 128, "not yet");
    measure(&mut net, [100, 100], 1);
    measure(&mut net, [900, 100], 3);
    assert_eq!(net.owned(1), 128, "it was better in between");
    measure(&mut net, [900, 100], 1);
    assert_eq!((net.owned(1), net.owned(2)), (128 - BATCH, 128 + BATCH));
    measure(&mut net, [900, 100], 2);
    assert_eq!(net.owned(1), 128 - BATCH, "each move has its time");
    measure(&mut net, [900, 100], 1);
    assert_eq!(net.owned(1), 128 - 2 * BATCH);
    measure(&mut net, [100, 100], 5);
    assert_eq!(net.owned(1), 128 - 2 * BATCH, "nothing goes to and fro");
}

#[test]
fn nothing_goes_where_there_is_no_room_nor_without_thresholds() {
    for (trigger, cpu) in [(at(800), [900, 600]), (at(800), [790, 0]), (Trigger::default(), [1000, 0])] {
        let mut net = cluster(trigger);
        measure(&mut net, cpu, 8);
        assert_eq!((net.owned(1), net.owned(2)), (128, 128), "{trigger:?} {cpu:?}");
    }
}

#[test]
fn any_threshold_counts_and_all_decide_about_room() {
    let trigger = Trigger { drops_per_second: Some(100), tunnels: Some(8), ..at(800) };
    let report = |cpu_per_mille, drops_per_second, tunnels| LoadReport {
        load: Load { cpu_per_mille, drops_per_second },
        tunnels,
    };
    let mut net = cluster(trigger);
    for (other, moves) in [(report(0, 75, 0), false), (report(0, 0, 6), false), (report(599, 74, 5), true)] {
        for second in 0..5 {
            let now = net.now;
            let member = net.members.get_mut(&id(1)).unwrap();
            member.hear_load(id(2), other);
            let drops_per_second = if second == 0 { 5_000 } else { 100 };
            member.handle(now, Event::Load(Load { cpu_per_mille: 0, drops_per_second }));
            net.run(1_000);
        }
        assert_eq!(net.owned(1) < 128, moves, "{other:?}");
    }
}
