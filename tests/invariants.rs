//! A test per invariant of the design: each tries to break it with crashes, moves and captures, in several shapes of
//! SA ([`support::shapes`]). `dataplane/tests/invariants` tries every suite in every shape in one process.

mod support;

use std::collections::HashSet;
use std::time::Duration;

use baton_lab::gateway::random;
use baton_lab::shape::Shape;
use baton_lab::site::{self, Progress, SPI_TO_A, SPI_TO_B, Site, TUNNEL};
use baton_lab::{Captured, Direction, Gateway, GatewaySpec, esp, inject};
use support::{OuterTaps, Tap, Traffic, assert_no_iv_repeats, counter, sequences};

/// Shapes that each test tries unless it is a soak.
const SHARE: usize = 2;
const FAST: Duration = Duration::from_millis(1);
/// Sequence numbers that a worker may have taken ahead in one batch, twice over: the bound of I2 for a move.
const TWICE_AHEAD: u32 = 2 * 32;
/// By how far a restore without `--move` advances.
const ADVANCE: u64 = 1 << 20;
/// An advance that the peer, whose packets before it are refused, has soon passed.
const FEW_AHEAD: [&str; 2] = ["--advance", "200"];

/// Runs a test in its share of shapes.
fn in_shapes(number: usize, test: &str, run: impl Fn(Shape)) {
    if support::can_run(test) {
        support::shapes(number, SHARE).into_iter().for_each(run);
    }
}

fn snapshot(gateway: &Gateway, options: &[&str]) -> Vec<u8> {
    let arguments = [&["snapshot", TUNNEL], options].concat();
    let output = gateway.dpctl_output(&arguments, &[]).expect("dpctl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn restore(gateway: &Gateway, snapshot: &[u8], options: &[&str]) {
    let arguments = [&["restore", "-"], options].concat();
    let output = gateway.dpctl_output(&arguments, snapshot).expect("dpctl starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// How many packets of the download's direction are in a capture.
fn sent_to_a(frames: &[Captured]) -> usize {
    sequences(frames, SPI_TO_A).len()
}

/// One snapshot, restored on two gateways that then both own the segment and both send with the same key.
#[test]
fn i1_one_snapshot_restored_on_two_gateways_that_both_send_repeats_no_iv() {
    in_shapes(
        0,
        "i1_one_snapshot_restored_on_two_gateways_that_both_send_repeats_no_iv",
        one_snapshot_restored_on_two_gateways_that_both_send_repeats_no_iv,
    );
}

fn one_snapshot_restored_on_two_gateways_that_both_send_repeats_no_iv(shape: Shape) {
    let mut site = support::stopped_site_as(shape);
    // The tunnel begins on a third node, in B's place, so that the snapshot is foreign to both who restore it.
    let origin = GatewaySpec { name: "origin".into(), node: 9, ..site.b.spec().clone() };
    let mut origin = Gateway::new(&site.lab, &site.topology.b, origin).expect("origin");
    let waiting = vec![site.b.spec().tunnels[0].without_keys()];
    let b = GatewaySpec { name: "b-waiting".into(), tunnels: waiting, ..site.b.spec().clone() };
    site.b = Gateway::new(&site.lab, &site.topology.b, b).expect("b");
    origin.start(&site.lab).expect("origin starts");
    site.a.start(&site.lab).expect("a starts");
    let taps = OuterTaps::start(&site);
    let traffic = Traffic::start(&site, FAST);
    traffic.flows(100);
    let file = snapshot(&origin, &[]);
    traffic.flows(50);
    origin.stop().expect("origin stops");
    origin.uninstall().expect("origin uninstalled");
    let sent_by_origin = sent_to_a(&taps.frames()[1]);

    site.b.start(&site.lab).expect("b starts");
    site.b2.start(&site.lab).expect("b2 starts");
    restore(&site.b, &file, &FEW_AHEAD);
    restore(&site.b2, &file, &FEW_AHEAD);
    site.b2.dpctl(&["segment", "take", "42"]).expect("b2 owns the segment as well");
    traffic.flows(200);
    support::eventually("both gateways sending", || {
        let [_, b, b2] = taps.frames();
        sent_to_a(&b) > sent_by_origin + 200 && sent_to_a(&b2) > 200
    });
    drop(traffic);
    assert!(assert_no_iv_repeats(shape, &taps.finish()) > 600);
}

/// A gateway whose table is lost with its machine's memory restores the same snapshot again and again.
#[test]
fn i1_a_node_that_lost_its_table_and_restores_an_old_snapshot_repeats_no_iv() {
    in_shapes(
        1,
        "i1_a_node_that_lost_its_table_and_restores_an_old_snapshot_repeats_no_iv",
        a_node_that_lost_its_table_and_restores_an_old_snapshot_repeats_no_iv,
    );
}

fn a_node_that_lost_its_table_and_restores_an_old_snapshot_repeats_no_iv(shape: Shape) {
    let mut site = support::stopped_site_as(shape);
    site.b2.start(&site.lab).expect("b2 starts");
    site.b.start(&site.lab).expect("b starts");
    site.a.start(&site.lab).expect("a starts");
    let taps = OuterTaps::start(&site);
    let traffic = Traffic::start(&site, FAST);
    traffic.flows(50);
    let file = snapshot(&site.b, &[]);
    site.b.dpctl(&["segment", "drop", "42"]).expect("b gives up");
    // Each new table takes two epochs, and a node gets only eight ahead of the clock: a fourth would have to wait.
    for round in 1..=3 {
        restore(&site.b2, &file, &FEW_AHEAD);
        site.b2.dpctl(&["segment", "take", "42"]).expect("b2 takes over");
        support::eventually("B2 sending", || sent_to_a(&taps.frames()[2]) > 50 * round);
        site.b2.kill();
        std::fs::remove_dir_all(site.b2.runtime_directory()).expect("table removed");
        std::fs::create_dir(site.b2.runtime_directory()).expect("empty folder made");
        site.b2.start(&site.lab).expect("b2 starts with an empty table");
    }
    drop(traffic);
    assert_no_iv_repeats(shape, &taps.finish());
}

/// Moves the tunnel to and fro under traffic: what the new owner sends is above all that the old one sent.
#[test]
fn i2_after_a_move_sequence_numbers_continue_above_all_before() {
    in_shapes(
        2,
        "i2_after_a_move_sequence_numbers_continue_above_all_before",
        after_a_move_sequence_numbers_continue_above_all_before,
    );
}

fn after_a_move_sequence_numbers_continue_above_all_before(shape: Shape) {
    let site = support::running_site_as(shape);
    let taps = OuterTaps::start(&site);
    let traffic = Traffic::start(&site, FAST);
    traffic.flows(50);
    for round in 0..support::count(3, 100) {
        let (from, to) = if round % 2 == 0 { (&site.b, &site.b2) } else { (&site.b2, &site.b) };
        site::move_tunnel(from, to).expect("moved");
        traffic.flows(50);
    }
    drop(traffic);
    let captures = taps.finish();
    assert_no_iv_repeats(shape, &captures);
    let [_, b, b2] = &captures;
    let mut both: Vec<(Duration, u32)> =
        [b, b2].into_iter().flat_map(|frames| stamped(frames, SPI_TO_A)).collect();
    both.sort_unstable();
    for pair in both.windows(2) {
        let ahead = i64::from(pair[1].1) - i64::from(pair[0].1);
        assert!(
            (1..=i64::from(TWICE_AHEAD)).contains(&ahead),
            "I2 broken: {} came after {}",
            pair[1].1,
            pair[0].1
        );
    }
}

fn stamped(frames: &[Captured], spi: u32) -> impl Iterator<Item = (Duration, u32)> {
    let headers = frames.iter().filter_map(|captured| Some((captured.at, esp::esp(&captured.frame)?)));
    headers.filter(move |(_, header)| header.spi == spi).map(|(at, header)| (at, header.sequence))
}

/// Everything that A sent to B is sent again to B2, which the tunnel has moved to.
#[test]
fn i3_packets_accepted_before_a_move_are_not_accepted_again_after_it() {
    in_shapes(
        3,
        "i3_packets_accepted_before_a_move_are_not_accepted_again_after_it",
        packets_accepted_before_a_move_are_not_accepted_again_after_it,
    );
}

fn packets_accepted_before_a_move_are_not_accepted_again_after_it(shape: Shape) {
    let site = support::running_site_as(shape);
    let tap = Tap::start(&site.topology.wan, "a", Direction::In);
    let traffic = Traffic::start(&site, FAST);
    traffic.flows(300);
    site::move_tunnel(&site.b, &site.b2).expect("moved");
    traffic.flows(100);
    let Traffic { echo, prober } = &traffic;
    prober.pause();
    std::thread::sleep(Duration::from_millis(200));
    let captured: Vec<_> = tap.finish();
    let old: Vec<&[u8]> = captured
        .iter()
        .map(|captured| captured.frame.as_slice())
        .filter(|frame| esp::esp(frame).is_some_and(|header| header.spi == SPI_TO_B))
        .collect();
    assert!(old.len() > 400);

    let (delivered, before) = (echo.received(), accepted_by(&site.b2));
    let lost = old.len() as u64 - before;
    assert!(lost < 100, "{lost} packets were lost in the move");
    // The first time fills in what was lost in the move; each packet is accepted once at most, whoever was first.
    for _ in 0..2 {
        send_again(&site, &old);
        assert_eq!(accepted_by(&site.b2), before + lost, "I3 broken: accepted again");
        assert_eq!(echo.received(), delivered + lost, "I3 broken: delivered again");
    }
}

fn accepted_by(gateway: &Gateway) -> u64 {
    Progress::of(gateway, "inbound").expect("inbound SA").packets
}

/// Sends frames out of A's outer interface and waits until B2 has had all of them.
fn send_again(site: &Site, frames: &[&[u8]]) {
    let had = || accepted_by(&site.b2) + counter(&site.b2, "replayed") + counter(&site.b2, "too-old");
    let before = had();
    inject::frames(&site.topology.a, "wan0", frames.iter().copied()).expect("sent again");
    support::eventually("every packet's arrival", || had() >= before + frames.len() as u64);
    std::thread::sleep(Duration::from_millis(100));
}

/// A restore of a snapshot that was not taken for a move advances both edges, so that what the old owner did
/// after the snapshot is behind them.
#[test]
fn i2_i3_a_restore_without_move_advances_both_edges() {
    in_shapes(
        4,
        "i2_i3_a_restore_without_move_advances_both_edges",
        a_restore_without_move_advances_both_edges,
    );
}

fn a_restore_without_move_advances_both_edges(shape: Shape) {
    let site = support::running_site_as(shape);
    let traffic = Traffic::start(&site, FAST);
    traffic.flows(100);
    let file = snapshot(&site.b, &[]);
    traffic.flows(100);
    site.b.dpctl(&["segment", "drop", "42"]).expect("b gives up");
    restore(&site.b2, &file, &[]);
    for direction in ["inbound", "outbound"] {
        let old = Progress::of(&site.b, direction).expect("old SA").sequence;
        let new = Progress::of(&site.b2, direction).expect("new SA").sequence;
        assert!(new >= old && new <= old + 2 * ADVANCE, "{direction}: {old}, then {new}");
    }
}

/// GETs and PUTs of the tunnel all the time while it carries traffic.
#[test]
fn i5_snapshots_under_traffic_are_whole_and_restores_are_never_seen_in_half() {
    in_shapes(
        5,
        "i5_snapshots_under_traffic_are_whole_and_restores_are_never_seen_in_half",
        snapshots_under_traffic_are_whole_and_restores_are_never_seen_in_half,
    );
}

fn snapshots_under_traffic_are_whole_and_restores_are_never_seen_in_half(shape: Shape) {
    let site = support::running_site_as(shape);
    let traffic = Traffic::start(&site, FAST);
    traffic.flows(20);
    for _ in 0..support::count(10, 1000) {
        let file = snapshot(&site.b, &[]);
        std::thread::scope(|scope| {
            let put = scope.spawn(|| restore(&site.b2, &file, &["--advance", "0"]));
            while !put.is_finished() {
                assert_whole(&site.b2);
            }
        });
        assert_whole(&site.b2);
        traffic.flows(3);
    }
}

/// The gateway has both SAs of the tunnel, or neither.
fn assert_whole(gateway: &Gateway) {
    let output = gateway.dpctl_output(&["--json", "sa", "show", TUNNEL], &[]).expect("dpctl starts");
    let text = String::from_utf8_lossy(&output.stdout);
    let has = |direction: &str| text.contains(&format!("\"{direction}\""));
    let nothing_yet = output.status.code() == Some(3);
    assert!(nothing_yet || has("inbound") && has("outbound"), "I5 broken: {output:?}");
}

/// kill -9 of the data plane at random moments under traffic.
#[test]
fn i6_killed_data_planes_lose_no_sa_and_repeat_no_sequence_number() {
    in_shapes(
        6,
        "i6_killed_data_planes_lose_no_sa_and_repeat_no_sequence_number",
        killed_data_planes_lose_no_sa_and_repeat_no_sequence_number,
    );
}

fn killed_data_planes_lose_no_sa_and_repeat_no_sequence_number(shape: Shape) {
    let mut site = support::running_site_as(shape);
    let taps = OuterTaps::start(&site);
    let traffic = Traffic::start(&site, FAST);
    for _ in 0..support::count(3, 200) {
        traffic.flows(20);
        let moment = u64::from(random(1).expect("random")[0]);
        std::thread::sleep(Duration::from_micros(moment * 200));
        let Site { a, b, lab, .. } = &mut site;
        let victim = if moment % 2 == 0 { a } else { b };
        victim.kill();
        // Its SAs are in the table, whoever runs.
        Progress::of(victim, "outbound").expect("the SA survives its data plane");
        victim.start(lab).expect("starts again");
    }
    traffic.flows(20);
    drop(traffic);
    let captures = taps.finish();
    assert_no_iv_repeats(shape, &captures);
    for (frames, spi) in [(&captures[0], SPI_TO_B), (&captures[1], SPI_TO_A)] {
        let sent = sequences(frames, spi);
        let different: HashSet<u32> = sent.iter().copied().collect();
        assert_eq!(different.len(), sent.len(), "I6 broken: a sequence number of {spi:#x} was used twice");
    }
}
