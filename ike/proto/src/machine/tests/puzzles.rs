//! Client puzzles (RFC 8019).

use std::time::Duration;

use super::pair::{Packet, Pair, configuration, connection, secrets};
use crate::configuration::{Configuration, Connection, Limits, PuzzleEffort};
use crate::host::{Command, Event, Path, Target};
use crate::wire::{self, Datagram, Flags, Header, Notify, NotifyType, Payload, PuzzleRequest};

/// Right asks everybody for a puzzle of so many bits.
fn asking(difficulty: u8) -> Configuration {
    let limits = Limits { puzzle_threshold: 0, puzzle_difficulty: difficulty, ..Limits::default() };
    Configuration { limits, ..configuration(connection(false)) }
}

fn pair(effort: PuzzleEffort, difficulty: u8) -> Pair {
    let left = Connection { keying_tries: 0, ..connection(true) };
    let left = Configuration { puzzles: effort, ..configuration(left) };
    Pair::with(left, asking(difficulty), secrets("secret"), secrets("secret"))
}

fn payloads(octets: &[u8]) -> Option<(Header, Vec<Payload>)> {
    match wire::parse(octets).unwrap() {
        Datagram::Plain(header, payloads) => Some((header, payloads)),
        _ => None,
    }
}

fn has(payloads: &[Payload], kind: NotifyType) -> bool {
    payloads.iter().any(|payload| matches!(payload, Payload::Notify(notify) if notify.kind == kind))
}

#[test]
fn who_solves_the_puzzle_is_served() {
    for difficulty in [8, 12, 0] {
        let mut pair = pair(PuzzleEffort::default(), difficulty);
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        let mut seen = Vec::new();
        pair.run_through(|packet: &Packet| {
            seen.extend(payloads(&packet.octets));
            true
        });
        pair.assert_up(1);
        // N(COOKIE), N(PUZZLE); then N(COOKIE), PS, SA and the rest (RFC 8019 figures 2 and 3).
        let asked = &seen[1].1;
        assert!(asked.len() == 2 && has(asked, NotifyType::COOKIE) && has(asked, NotifyType::PUZZLE));
        let Payload::Notify(puzzle) = &asked[1] else { panic!("{asked:?}") };
        assert_eq!(PuzzleRequest::parse(&puzzle.data).unwrap(), PuzzleRequest { prf: 5, difficulty });
        let answer = &seen[2].1;
        assert!(matches!(&answer[0], Payload::Notify(notify) if notify.kind == NotifyType::COOKIE));
        assert!(matches!(&answer[1], Payload::PuzzleSolution(keys) if keys.len() == 16));
        assert!(matches!(&answer[2], Payload::SecurityAssociation(_)));
        assert_eq!(
            (pair.left.ike.counters().puzzles_worked, pair.right.ike.counters().puzzles_solved),
            (1, 1)
        );
        assert_eq!((pair.right.ike.counters().puzzles_sent, pair.right.ike.half_open()), (1, 0));
    }
}

#[test]
fn who_knows_no_puzzles_is_served_by_lot() {
    let mut pair = pair(PuzzleEffort { most: 0, ..PuzzleEffort::default() }, 8);
    pair.initiate();
    pair.pass(Duration::from_mins(20));
    pair.assert_up(1);
    assert_eq!((pair.left.ike.counters().puzzles_worked, pair.right.ike.counters().puzzles_solved), (0, 0));
    assert!(pair.right.ike.counters().puzzles_sent > 0);
}

#[test]
fn a_puzzle_that_is_too_hard_is_told_of_and_left() {
    let mut pair = pair(PuzzleEffort { most: 20, ..PuzzleEffort::default() }, 30);
    pair.initiate();
    assert!(pair.left.problems()[0].contains("puzzle_limit is 20"), "{:?}", pair.left.problems());
    assert!(pair.left.puzzles.is_empty());
    pair.pass(Duration::from_mins(20));
    pair.assert_up(1);
    assert_eq!(pair.left.ike.counters().puzzles_worked, 0);
}

#[test]
fn nobody_waits_longer_than_is_allowed() {
    let mut pair = pair(PuzzleEffort::default(), 8);
    pair.left.solves = false;
    pair.initiate();
    assert_eq!(pair.left.puzzles.len(), 1);
    let (spi, _) = pair.left.puzzles[0];
    pair.pass(Duration::from_secs(9));
    assert_eq!(pair.left.puzzles.len(), 1, "it is not asked again meanwhile");
    pair.pass(Duration::from_secs(2));
    assert_eq!(pair.left.ike.counters().puzzles_given_up, 1);
    // Too late.
    let late = Command::Solved { spi, solution: Some(vec![0; 16]) };
    let now = pair.now();
    assert_eq!(pair.left.command(now, late), Ok(0));
    assert_eq!(pair.left.command(now, Command::Solved { spi: 7, solution: None }), Ok(0));
    pair.pass(Duration::from_mins(20));
    pair.assert_up(1);
}

#[test]
fn a_host_that_lies_or_gives_up_costs_the_solution_alone() {
    for solution in [None, Some(Vec::new()), Some(vec![1; 16]), Some((0..16).collect())] {
        let mut pair = pair(PuzzleEffort::default(), 8);
        pair.left.solves = false;
        pair.initiate();
        let (spi, _) = pair.left.puzzles[0];
        let now = pair.now();
        assert_eq!(pair.left.command(now, Command::Solved { spi, solution }), Ok(1));
        pair.run();
        assert_eq!(pair.left.ike.counters().puzzles_worked, 0);
        assert_eq!(pair.right.ike.counters().puzzles_solved, 0);
    }
}

#[test]
fn what_is_ended_is_not_solved() {
    let mut pair = pair(PuzzleEffort::default(), 8);
    pair.left.solves = false;
    pair.initiate();
    assert_eq!(pair.left.puzzles.len(), 1);
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::Terminate(target)).unwrap();
    assert!(pair.left.tunnels(pair.now()).is_empty(), "{:?}", pair.left.tunnels(pair.now()));
}

/// The packet with a solution, of which nothing but the first answer comes back.
fn solved(pair: &mut Pair) -> Packet {
    let mut found = None;
    pair.left.command(pair.now(), Command::Initiate { connection: "net".to_owned(), child: None }).unwrap();
    pair.run_through(|packet| {
        let plain = payloads(&packet.octets);
        let is_it = |(_, payloads): &(Header, Vec<Payload>)| {
            payloads.iter().any(|payload| matches!(payload, Payload::PuzzleSolution(_)))
        };
        if plain.as_ref().is_some_and(is_it) {
            found = Some(packet.clone());
        }
        found.is_none()
    });
    found.expect("a solution")
}

#[test]
fn a_solution_serves_once_and_for_its_cookie_alone() {
    let mut pair = pair(PuzzleEffort::default(), 12);
    let packet = solved(&mut pair);
    pair.deliver(&packet);
    assert_eq!((pair.right.ike.counters().puzzles_solved, pair.right.ike.half_open()), (1, 1));
    pair.right.sent.clear();
    pair.left.sent.clear();
    // The half-open IKE SA is gone, the cookie is good still.
    pair.now += Duration::from_secs(31);
    let now = pair.now();
    pair.right.timeout(now);
    assert_eq!(pair.right.ike.half_open(), 0);
    for _ in 0..20 {
        pair.deliver(&packet);
    }
    assert_eq!(pair.right.ike.counters().puzzles_solved, 1, "it is worth nothing any more");
    // From elsewhere.
    let mut elsewhere = packet.clone();
    elsewhere.path = Path { remote: "198.51.100.7:500".parse().unwrap(), ..packet.path };
    pair.deliver(&elsewhere);
    assert_eq!(pair.right.ike.counters().cookies_wrong, 1);
}

#[test]
fn keys_that_solve_nothing_are_worth_as_much_as_none() {
    let mut pair = pair(PuzzleEffort::default(), 12);
    let packet = solved(&mut pair);
    let (header, all) = payloads(&packet.octets).unwrap();
    for keys in [vec![1], (0..16).collect(), vec![9; 4], (0..=255).collect(), vec![7; 132]] {
        let replaced = all.iter().map(|payload| match payload {
            Payload::PuzzleSolution(_) => Payload::PuzzleSolution(keys.clone()),
            other => other.clone(),
        });
        let octets = wire::emit(&header, &replaced.collect::<Vec<_>>());
        pair.deliver(&Packet { octets, ..packet.clone() });
    }
    assert_eq!(pair.right.ike.counters().puzzles_solved, 0);
}

#[test]
fn a_puzzle_without_a_cookie_is_noise() {
    let mut pair = pair(PuzzleEffort::default(), 8);
    let now = pair.now();
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(now, command).unwrap();
    let request = pair.take_packets().remove(0);
    let (header, _) = payloads(&request.octets).unwrap();
    let flags = Flags { initiator: false, response: true };
    let path = Path { local: request.path.remote, remote: request.path.local, ..request.path };
    let puzzle = |data: &[u8]| Payload::Notify(Notify::new(NotifyType::PUZZLE, data.to_vec()));
    for noise in [vec![puzzle(&[0, 5, 8])], vec![puzzle(&[])]] {
        pair.left.datagram(now, path, &wire::emit(&Header { flags, ..header }, &noise));
    }
    assert!(pair.left.sent.is_empty() && pair.left.puzzles.is_empty());
    // One that makes no sense leaves the cookie (RFC 8019 section 7.1.2).
    for (at, data) in [&[0, 5][..], &[0, 99, 8], &[0, 5, 8, 0]].into_iter().enumerate() {
        let cookie = Payload::Notify(Notify::new(NotifyType::COOKIE, vec![at as u8; 20]));
        pair.left.datagram(now, path, &wire::emit(&Header { flags, ..header }, &[cookie, puzzle(data)]));
        assert!(pair.left.puzzles.is_empty() && pair.left.sent.len() == 1 + at);
    }
    pair.left.sent.clear();
    // Another cookie ends the work on the one before.
    pair.left.solves = false;
    for octet in [10, 11] {
        let cookie = Payload::Notify(Notify::new(NotifyType::COOKIE, vec![octet; 20]));
        let answer = wire::emit(&Header { flags, ..header }, &[cookie, puzzle(&[0, 5, 8])]);
        pair.left.datagram(now, path, &answer);
    }
    assert!(pair.left.puzzles.len() <= 1);
}

#[test]
fn who_comes_back_by_a_ticket_has_no_puzzle_to_solve() {
    let mut left = connection(true);
    left.moving.session_resumption = true;
    let mut right = connection(false);
    right.moving.session_resumption = true;
    let limits =
        Limits { puzzle_threshold: 0, puzzle_difficulty: 12, cookie_threshold: 0, ..Limits::default() };
    let strict = Configuration { limits, ..configuration(right) };
    let mut pair = Pair::with(configuration(left), strict, secrets("secret"), secrets("secret"));
    pair.initiate();
    pair.assert_up(1);
    assert_eq!(pair.right.ike.counters().puzzles_sent, 1);
    let target = Target::Connection("net".to_owned());
    pair.left.command(pair.now(), Command::RekeyChild(target)).unwrap();
    pair.pass_through(Duration::from_mins(5), |_| false);
    let command = Command::Initiate { connection: "net".to_owned(), child: None };
    pair.left.command(pair.now(), command).unwrap();
    pair.run();
    assert!(pair.left.events.iter().any(|event| matches!(event, Event::Resumed { .. })));
    assert_eq!(pair.right.ike.counters().puzzles_sent, 1);
}

/// RFC 8019 section 7.2: the responder wants another one solved before IKE_AUTH. Ours asks for none, so that the notify is
/// put into its answer on the way: it takes the initiator's proof, which covers nothing of that, and the initiator does not
/// take its own.
#[test]
fn the_solution_for_ike_auth_stands_in_the_clear_before_what_is_sealed() {
    for fragmented in [false, true] {
        let mut left = connection(true);
        let mut right = connection(false);
        if fragmented {
            (left.fragment_size, right.fragment_size) = (256, 256);
            left.fragmentation = crate::configuration::Fragmentation::Force;
        }
        let mut pair = Pair::new(left, right);
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        let request = pair.take_packets().remove(0);
        pair.deliver(&request);
        let mut answer = pair.take_packets().remove(0);
        let (header, mut all) = payloads(&answer.octets).unwrap();
        let Some(nonce) = all.iter().find_map(|payload| match payload {
            Payload::Nonce(nonce) => Some(nonce.clone()),
            _ => None,
        }) else {
            panic!("no nonce")
        };
        let asked = PuzzleRequest { prf: 5, difficulty: 10 };
        all.push(Payload::Notify(Notify::new(NotifyType::PUZZLE, asked.emit())));
        answer.octets = wire::emit(&header, &all);
        pair.deliver(&answer);
        let sent = pair.take_packets();
        assert_eq!(sent.len() > 1, fragmented);
        let octets = [&nonce[..], &header.responder_spi.to_be_bytes()].concat();
        let puzzle = crate::crypto::Puzzle { prf: crate::crypto::Prf::HmacSha2_256, octets };
        for (at, packet) in sent.iter().enumerate() {
            let clear = match wire::parse(&packet.octets).unwrap() {
                Datagram::Encrypted(sealed) => sealed.unprotected,
                Datagram::Fragment(fragment) => fragment.sealed.unprotected,
                Datagram::Plain(..) => panic!("in the clear"),
            };
            match &clear[..] {
                [Payload::PuzzleSolution(keys)] if at == 0 => {
                    assert!(puzzle.judge(keys).is_some_and(|zeros| zeros >= 10));
                }
                [] if at > 0 => {}
                other => panic!("{other:?} before fragment {at}"),
            }
            pair.deliver(packet);
        }
        assert_eq!(pair.right.established(pair.now()).len(), 1, "{:?}", pair.right.problems());
        assert_eq!(pair.left.ike.counters().puzzles_worked, 1);
        // The integrity check covers the solution.
        let mut forged = sent[0].clone();
        forged.octets[40] ^= 1;
        let before = pair.right.ike.counters().not_authentic;
        pair.deliver(&forged);
        assert!(pair.right.ike.counters().not_authentic > before);
    }
}

#[test]
fn a_puzzle_for_ike_auth_that_is_not_solved_ends_the_attempt() {
    for (difficulty, asks_host) in [(10, true), (30, false)] {
        let mut pair = Pair::new(connection(true), connection(false));
        pair.left.solves = false;
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        pair.left.command(pair.now(), command).unwrap();
        let request = pair.take_packets().remove(0);
        pair.deliver(&request);
        let mut answer = pair.take_packets().remove(0);
        let (header, mut all) = payloads(&answer.octets).unwrap();
        let asked = PuzzleRequest { prf: 5, difficulty };
        all.push(Payload::Notify(Notify::new(NotifyType::PUZZLE, asked.emit())));
        answer.octets = wire::emit(&header, &all);
        pair.deliver(&answer);
        assert_eq!(pair.left.puzzles.len(), usize::from(asks_host));
        pair.pass(Duration::from_secs(11));
        assert!(pair.left.tunnels(pair.now()).is_empty(), "{:?}", pair.left.tunnels(pair.now()));
        assert!(pair.left.problems()[0].contains("before IKE_AUTH"), "{:?}", pair.left.problems());
    }
}

/// Each of them costs us more than it costs who asks.
#[test]
fn a_gateway_that_has_ever_more_puzzles_is_left() {
    let mut pair = pair(PuzzleEffort::default(), 8);
    let left = Connection { keying_tries: 1, ..connection(true) };
    let left = Configuration { puzzles: PuzzleEffort::default(), ..configuration(left) };
    pair.left = super::side::Side::new(1, super::pair::LEFT, left, secrets("secret"));
    pair.left.command(pair.now(), Command::Initiate { connection: "net".to_owned(), child: None }).unwrap();
    for number in 0..50 {
        let Some(request) = pair.take_packets().into_iter().find(|packet| packet.to_right) else { break };
        let (header, _) = payloads(&request.octets).unwrap();
        let header = Header { flags: Flags { initiator: false, response: true }, ..header };
        let puzzle = PuzzleRequest { prf: 5, difficulty: 8 }.emit();
        let asks = [(NotifyType::COOKIE, vec![number; 32]), (NotifyType::PUZZLE, puzzle)];
        let asks = asks.map(|(kind, data)| Payload::Notify(Notify::new(kind, data)));
        let Path { local, remote, marked } = request.path;
        let path = Path { local: remote, remote: local, marked };
        let now = pair.now();
        pair.left.datagram(now, path, &wire::emit(&header, &asks));
    }
    assert!(pair.left.problems()[0].contains("keeps asking"), "{:?}", pair.left.problems());
    assert_eq!(pair.left.ike.counters().puzzles_worked, 5);
    assert!(pair.left.tunnels(pair.now()).is_empty(), "{:?}", pair.left.tunnels(pair.now()));
}
