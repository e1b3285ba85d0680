//! Samples in, views and screens out.

use std::time::Duration;

use baton_dataplane::control::{Counter, Status, WorkerStatus};
use baton_ike::control::{IkeEntry, Status as IkeStatus};
use baton_sad::Direction;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};

use super::choice::Choice;
use super::draw::draw;
use super::model::{History, View};
use super::sample::{DataPlane, IkeDaemon, SaSample, Sample};
use super::screen::{Next, Screen};
use crate::dpctl::cli::Order;

fn sa(tunnel: &str, direction: Direction, spi: u32, packets: u64) -> SaSample {
    SaSample {
        tunnel: tunnel.to_owned(),
        direction,
        spi,
        segment: 42,
        remote: "198.51.100.7".to_owned(),
        frozen: false,
        packets,
        octets: 1000 * packets,
        refused: packets / 10,
    }
}

fn data_plane(pid: u32, packets: u64, drops: u64) -> DataPlane {
    let worker = |index| WorkerStatus {
        index,
        core: index.into(),
        inbound_packets: packets * u64::from(index),
        outbound_packets: 0,
        drops: 0,
    };
    let status = Status {
        release: "0.1.0".to_owned(),
        pid,
        node: 2,
        cluster: "demo".to_owned(),
        uptime_seconds: 3700,
        workers: vec![worker(1), worker(3)],
        alarms: vec!["the epoch has no spare".to_owned()],
        ..Status::default()
    };
    let counter = |name: &str, value| Counter {
        group: "drop".to_owned(),
        name: name.to_owned(),
        value,
        meaning: String::new(),
    };
    DataPlane {
        status,
        drops: vec![counter("never", 0), counter("replayed", drops)],
        owned: (0..=127).collect(),
    }
}

fn ike(pid: u32, names: &[&str]) -> IkeDaemon {
    let entry = |name: &&str| IkeEntry {
        name: (*name).to_owned(),
        state: "established".to_owned(),
        remote_identity: "carol@example.org".to_owned(),
        established_seconds: Some(75),
        segment: 42,
        ..IkeEntry::default()
    };
    let status = IkeStatus { pid, ..IkeStatus::default() };
    IkeDaemon { status, tunnels: names.iter().map(entry).collect() }
}

fn sample(seconds: u64, packets: u64) -> Sample {
    let sas = vec![
        sa("road-2a000001", Direction::Inbound, 1, packets),
        sa("road-2a000001", Direction::Outbound, 2, 2 * packets),
        sa("site-a", Direction::Inbound, 3, 7),
    ];
    Sample {
        at: Duration::from_secs(seconds),
        sas: Ok(sas),
        data_plane: Ok(data_plane(1, packets, packets)),
        ike: Some(Ok(ike(2, &["road-2a000001", "idle-2a000002"]))),
    }
}

#[test]
fn rates_are_differences_over_time() {
    let mut history = History::default();
    let first = history.view(&sample(1, 1000));
    assert_eq!(first.total, super::model::Traffic::default(), "nothing is known of before");
    let view = history.view(&sample(3, 2000));
    let road = view.tunnels.iter().find(|tunnel| tunnel.name == "road-2a000001").expect("there");
    assert_eq!((road.traffic.inbound_packets, road.traffic.outbound_packets), (500.0, 1000.0));
    assert_eq!((road.traffic.inbound_bits, road.traffic.refused), (4_000_000.0, 150.0));
    assert_eq!((road.peer.as_str(), road.age, road.sas), ("carol@example.org", Some(75), 2));
    let names: Vec<_> = view.tunnels.iter().map(|tunnel| tunnel.name.as_str()).collect();
    assert_eq!(names, ["idle-2a000002", "road-2a000001", "site-a"]);
    assert_eq!((view.drops.len(), view.drops[0].rate, view.drops[0].total), (1, 500.0, 2000));
    assert_eq!((view.workers[0].opened, view.workers[0].share), (500.0, 25.0));
    assert_eq!((view.segments_owned.as_str(), view.segments_elsewhere.as_str()), ("0-127", "128-255"));
}

#[test]
fn a_rekeyed_sa_counts_from_its_beginning_and_no_rate_is_negative() {
    let mut history = History::default();
    history.view(&sample(1, 1000));
    let mut next = sample(2, 10);
    next.sas =
        Ok(vec![sa("road-2a000001", Direction::Inbound, 9, 300), sa("site-a", Direction::Inbound, 3, 2)]);
    let view = history.view(&next);
    assert_eq!((view.total.inbound_packets, view.total.outbound_packets), (300.0, 0.0));
    assert!(view.workers.iter().all(|worker| worker.opened == 0.0), "it was started afresh");
    let same = history.view(&Sample { at: Duration::from_secs(2), ..sample(2, 5000) });
    assert_eq!(same.total, super::model::Traffic::default(), "no time has passed");
}

#[test]
fn daemons_that_go_and_come_back_are_told_of() {
    let mut history = History::default();
    history.view(&sample(1, 10));
    let gone = Sample {
        data_plane: Err("no data plane answers".to_owned()),
        ike: Some(Err("no IKE daemon answers".to_owned())),
        ..sample(2, 20)
    };
    let view = history.view(&gone);
    assert_eq!(view.notes, ["no data plane answers", "no IKE daemon answers"]);
    assert!((view.total.inbound_packets - 10.0).abs() < 1e-9, "the table goes on");
    let back = Sample { data_plane: Ok(data_plane(77, 5, 5)), ..sample(3, 30) };
    assert_eq!(history.view(&back).notes, ["the data plane was started afresh, as process 77"]);
    assert!(history.view(&Sample { data_plane: Ok(data_plane(77, 9, 9)), ..sample(4, 40) }).notes.is_empty());
}

fn view() -> View {
    let mut history = History::default();
    history.view(&sample(1, 1000));
    history.view(&sample(3, 2000))
}

fn press(screen: &mut Screen, code: KeyCode) -> Next {
    screen.event(&Event::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

fn text_of(screen: &mut Screen, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
    terminal.draw(|frame| draw(screen, frame)).expect("drawn");
    terminal.backend().to_string()
}

#[test]
fn the_screen_shows_all_of_it() {
    let mut screen = Screen::new(Choice::default());
    screen.show(view());
    insta::assert_snapshot!("screen", text_of(&mut screen, 150, 14));
    press(&mut screen, KeyCode::Char('?'));
    insta::assert_snapshot!("help", text_of(&mut screen, 150, 22));
}

#[test]
fn no_size_of_a_terminal_is_too_small() {
    let mut screen = Screen::new(Choice::default());
    screen.show(view());
    screen.help = true;
    for (width, height) in [(1, 1), (3, 2), (20, 5), (500, 3)] {
        text_of(&mut screen, width, height);
    }
}

#[test]
fn many_tunnels_are_scrolled_within_their_ends() {
    let mut many = view();
    let one = many.tunnels[0].clone();
    let named = |n| super::model::Tunnel { name: format!("tunnel-{n:05}"), ..one.clone() };
    many.tunnels = (0..10_000).map(named).collect();
    let mut screen = Screen::new(Choice { order: Order::Name, ..Choice::default() });
    screen.show(many);
    assert!(text_of(&mut screen, 120, 20).contains("tunnel-00000"));
    press(&mut screen, KeyCode::PageDown);
    assert!(!text_of(&mut screen, 120, 20).contains("tunnel-00000"));
    press(&mut screen, KeyCode::End);
    let end = text_of(&mut screen, 120, 20);
    assert!(end.contains("tunnel-09999") && end.contains("-10000 of 10000"), "{end}");
    press(&mut screen, KeyCode::Down);
    assert!(text_of(&mut screen, 120, 20).contains("tunnel-09999"));
    press(&mut screen, KeyCode::Home);
    press(&mut screen, KeyCode::Char('r'));
    assert!(text_of(&mut screen, 120, 20).contains("tunnel-09999"), "the other way round");
}

#[test]
fn keys_sort_filter_hold_and_quit() {
    let mut screen = Screen::new(Choice::default());
    screen.show(view());
    for order in
        [Order::Packets, Order::Drops, Order::Name, Order::Peer, Order::Age, Order::State, Order::Rate]
    {
        press(&mut screen, KeyCode::Char('s'));
        assert_eq!(screen.choice.order, order);
    }
    press(&mut screen, KeyCode::Char('/'));
    "ROADq".chars().for_each(|c| assert_eq!(press(&mut screen, KeyCode::Char(c)), Next::Go));
    press(&mut screen, KeyCode::Backspace);
    press(&mut screen, KeyCode::Enter);
    let text = text_of(&mut screen, 120, 20);
    assert!(text.contains("road-2a000001") && !text.contains("site-a"), "{text}");
    press(&mut screen, KeyCode::Esc);
    assert!(text_of(&mut screen, 120, 20).contains("site-a"));
    press(&mut screen, KeyCode::Char('p'));
    screen.show(View::default());
    assert!(text_of(&mut screen, 120, 20).contains("site-a"), "it is held");
    assert_eq!(press(&mut screen, KeyCode::Char('q')), Next::End);
    let interrupt = Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    assert_eq!(screen.event(&interrupt), Next::End);
}

#[test]
fn a_peer_cannot_command_the_terminal() {
    let mut evil = view();
    evil.tunnels[0].peer = "\u{1b}[2Jx\u{7}".to_owned();
    evil.alarms[0] = "\u{1b}]0;owned\u{7}".to_owned();
    let mut screen = Screen::new(Choice::default());
    screen.show(evil);
    assert!(text_of(&mut screen, 120, 20).chars().all(|c| c == '\n' || !c.is_control()));
}
