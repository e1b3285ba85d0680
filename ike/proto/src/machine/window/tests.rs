use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use super::*;
use crate::configuration::Retransmission;
use proptest::prelude::*;

fn retransmission() -> Retransmission {
    let (first, limit) = (Duration::from_secs(4), Duration::from_mins(1));
    Retransmission { first, base: 2.0, tries: 2, limit }
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A message of two fragments that no other one equals.
fn octets(text: &str, message_id: u32) -> Vec<Vec<u8>> {
    vec![format!("{text} {message_id}/1").into_bytes(), format!("{text} {message_id}/2").into_bytes()]
}

fn send(window: &mut Window, now: u64) -> Option<u32> {
    let id = window.requests.sendable().ok()?;
    window.requests.sent(at(now), &retransmission(), octets("request", id));
    Some(id)
}

fn answer(window: &mut Window, id: u32) {
    window.responses.begin(id);
    window.responses.answered(id, octets("response", id));
}

#[test]
fn one_request_at_a_time_until_the_peer_says_more() {
    let mut window = Window::new(2, 0);
    assert_eq!((send(&mut window, 0), send(&mut window, 0)), (Some(2), None));
    assert_eq!(window.requests.sendable(), Err(Unsendable::WindowFull));
    assert!(window.requests.answered(2) && !window.requests.answered(2));
    window.requests.set_limit(3);
    assert_eq!([0; 4].map(|_| send(&mut window, 0)), [Some(3), Some(4), Some(5), None]);
    // The window moves with the oldest request, not with their number.
    assert!(window.requests.answered(4));
    assert_eq!(send(&mut window, 0), None);
    assert!(window.requests.answered(3));
    assert_eq!([0; 3].map(|_| send(&mut window, 0)), [Some(6), Some(7), None]);
}

#[test]
fn a_request_is_repeated_with_back_off_and_then_given_up() {
    let (mut window, retransmission) = (Window::new(0, 0), retransmission());
    send(&mut window, 10);
    assert_eq!(window.requests.due(at(13), &retransmission), None);
    for (now, repetition, next) in [(14, 1, 22), (22, 2, 38)] {
        assert_eq!(window.requests.next_due(), Some(at(now)));
        let same = octets("request", 0);
        let due = Due::Repeat { message_id: 0, repetition, datagrams: &same };
        assert_eq!(window.requests.due(at(now), &retransmission), Some(due));
        assert_eq!(window.requests.due(at(now), &retransmission), None);
        assert_eq!(window.requests.next_due(), Some(at(next)));
    }
    assert_eq!(window.requests.due(at(38), &retransmission), Some(Due::GiveUp { message_id: 0 }));
    assert!(window.requests.answered(0));
    assert_eq!(window.requests.next_due(), None);
}

#[test]
fn an_answered_request_is_answered_again_with_the_same_octets() {
    let mut window = Window::new(0, 0);
    assert_eq!(window.responses.receive(0, None), Received::New);
    window.responses.begin(0);
    assert_eq!(window.responses.receive(0, None), Received::Ignored);
    window.responses.answered(0, octets("response", 0));
    assert_eq!(window.responses.receive(0, None), Received::Repeated(&octets("response", 0)));
    assert_eq!(window.responses.receive(2, None), Received::OutOfWindow);
    answer(&mut window, 1);
    assert_eq!(window.responses.receive(0, None), Received::OutOfWindow);
}

#[test]
fn of_the_fragments_of_an_answered_request_the_first_one_has_it_answered_again() {
    let mut window = Window::new(0, 0);
    assert_eq!(window.responses.receive(0, Some(2)), Received::New);
    answer(&mut window, 0);
    assert_eq!(window.responses.receive(0, Some(1)), Received::Repeated(&octets("response", 0)));
    assert_eq!(window.responses.receive(0, Some(2)), Received::Ignored);
}

#[test]
fn requests_within_the_window_are_taken_in_any_order() {
    let mut window = Window::new(0, 5);
    window.responses.set_limit(3);
    answer(&mut window, 7);
    assert_eq!(window.responses.receive(8, None), Received::OutOfWindow);
    answer(&mut window, 5);
    answer(&mut window, 8);
    assert_eq!(window.responses.receive(5, None), Received::OutOfWindow);
    assert_eq!(window.responses.receive(6, None), Received::New);
    assert_eq!(window.responses.receive(7, None), Received::Repeated(&octets("response", 7)));
    window.responses.set_limit(1);
    assert_eq!(window.responses.limit(), 3);
}

#[test]
fn what_was_begun_and_not_answered_is_new_after_a_restart() {
    let mut window = Window::new(0, 0);
    window.responses.set_limit(4);
    window.responses.begin(0);
    answer(&mut window, 1);
    let copy: Window = minicbor::decode(&minicbor::to_vec(&window).unwrap()).unwrap();
    assert_eq!(copy.responses.receive(0, None), Received::New);
    assert_eq!(copy.responses.receive(1, None), Received::Repeated(&octets("response", 1)));
    window.responses.forget(0);
    window.responses.forget(1);
    assert_eq!(copy, window);
}

#[test]
fn message_ids_run_out_after_a_warning() {
    let mut window = Window::new(u32::MAX - 1, u32::MAX - 1);
    assert!(window.is_nearly_exhausted() && !Window::new(1 << 31, 1 << 31).is_nearly_exhausted());
    assert_eq!(send(&mut window, 0), Some(u32::MAX - 1));
    assert_eq!(window.requests.sendable(), Err(Unsendable::Exhausted));
    answer(&mut window, u32::MAX - 1);
    assert_eq!(window.responses.receive(u32::MAX, None), Received::OutOfWindow);
    window.responses.begin(u32::MAX);
    assert_eq!(window.responses.expected(), u32::MAX);
}

#[test]
fn a_restart_sends_everything_again_at_once_with_fresh_patience() {
    let (mut window, retransmission) = (Window::new(0, 0), retransmission());
    window.requests.set_limit(2);
    assert_eq!((send(&mut window, 0), send(&mut window, 0)), (Some(0), Some(1)));
    window.requests.due(at(90), &retransmission);
    let mut copy: Window = minicbor::decode(&minicbor::to_vec(&window).unwrap()).unwrap();
    copy.requests.resume(at(5));
    for id in 0..2 {
        let same = octets("request", id);
        let due = Due::Repeat { message_id: id, repetition: 1, datagrams: &same };
        assert_eq!(copy.requests.due(at(5), &retransmission), Some(due));
    }
    assert_eq!(copy.requests.due(at(5), &retransmission), None);
}

#[test]
fn contexts_that_no_window_wrote_are_refused() {
    let mut window = Window::new(0, 10);
    window.responses.set_limit(4);
    window.requests.set_limit(4);
    assert_eq!((send(&mut window, 0), send(&mut window, 0)), (Some(0), Some(1)));
    answer(&mut window, 12);
    let good = minicbor::to_vec(&window).unwrap();
    assert!(minicbor::decode::<Window>(&good).is_ok());
    let decode = |edit: &dyn Fn(&mut Window)| {
        let mut bad = window.clone();
        edit(&mut bad);
        minicbor::decode::<Window>(&minicbor::to_vec(&bad).unwrap())
    };
    assert!(decode(&|w| w.requests.outstanding.swap(0, 1)).is_err());
    assert!(decode(&|w| w.requests.outstanding[1].message_id = 2).is_err());
    assert!(decode(&|w| w.requests.outstanding[1].datagrams[0] = vec![0; 65_536]).is_err());
    assert!(decode(&|w| drop(w.responses.kept.insert(14, Some(vec![])))).is_err());
    assert!(decode(&|w| drop(w.responses.kept.insert(5, Some(vec![])))).is_err());
    assert!(decode(&|w| drop(w.responses.kept.insert(10, Some(vec![])))).is_err());
    assert!(decode(&|w| w.responses = Responses::restored(0, 33, BTreeMap::new())).is_err());
    assert!((0..good.len()).all(|length| minicbor::decode::<Window>(&good[..length]).is_err()));
}

/// What the network does with what two windows send each other.
#[derive(Debug, Clone)]
enum Step {
    /// The client sends a request, if it may.
    Send,
    /// A request that was sent reaches the server, first or again; its answer is under way.
    Request(prop::sample::Index),
    /// An answer that was sent reaches the client, first or again.
    Response(prop::sample::Index),
    /// The server dies and is restored from its context.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Send),
        5 => any::<prop::sample::Index>().prop_map(Step::Request),
        5 => any::<prop::sample::Index>().prop_map(Step::Response),
        1 => Just(Step::Restart),
    ]
}

/// Two ends of one direction of requests, and everything that is or was on its way.
struct Ends {
    client: Window,
    server: Window,
    requests: Vec<u32>,
    responses: Vec<u32>,
    worked: HashMap<u32, u32>,
}

impl Ends {
    fn new(window: u32) -> Self {
        let mut ends = Self {
            client: Window::new(0, 0),
            server: Window::new(0, 0),
            requests: vec![],
            responses: vec![],
            worked: HashMap::new(),
        };
        ends.server.responses.set_limit(window);
        ends.client.requests.set_limit(window);
        ends
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Send => self.requests.extend(send(&mut self.client, 0)),
            Step::Request(index) if !self.requests.is_empty() => self.serve(*index.get(&self.requests)),
            Step::Response(index) if !self.responses.is_empty() => {
                self.client.requests.answered(*index.get(&self.responses));
            }
            Step::Restart => {
                self.server = minicbor::decode(&minicbor::to_vec(&self.server).unwrap()).unwrap();
            }
            _ => {}
        }
    }

    fn serve(&mut self, id: u32) {
        match self.server.responses.receive(id, None) {
            Received::New => {
                *self.worked.entry(id).or_default() += 1;
                answer(&mut self.server, id);
                self.responses.push(id);
            }
            Received::Repeated(datagrams) => {
                assert_eq!(datagrams, octets("response", id));
                self.responses.push(id);
            }
            Received::Ignored => panic!("answers are immediate here"),
            Received::OutOfWindow => {
                assert!(!self.client.requests.is_outstanding(id), "{id} would never be answered");
            }
        }
    }
}

proptest! {
    #[test]
    fn each_request_is_worked_on_once_and_answered_for_as_long_as_it_is_outstanding(
        window in 1_u32..6, steps in prop::collection::vec(step(), 0..200),
    ) {
        let mut ends = Ends::new(window);
        for step in &steps {
            ends.step(step);
            prop_assert!(ends.server.responses.kept.len() <= window as usize);
            let outstanding: Vec<_> = ends.client.requests.outstanding().collect();
            prop_assert!(outstanding.iter().all(|id| ends.client.requests.next_id() - id <= window));
        }
        prop_assert!(ends.worked.values().all(|times| *times == 1));
        // The network heals: all that is outstanding arrives, and so does each answer.
        for id in ends.client.requests.outstanding().collect::<Vec<_>>() {
            ends.serve(id);
            prop_assert!(ends.client.requests.answered(id));
        }
        prop_assert!(send(&mut ends.client, 0).is_some());
    }

    #[test]
    fn no_context_panics(octets in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = minicbor::decode::<Window>(&octets);
    }
}
