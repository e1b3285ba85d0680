//! Two machines back to back, without sockets, files or other processes: what the protocol itself costs.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use baton_ike_proto::host::{Command, Event, Output, Path};
use baton_ike_proto::machine::Ike;

use crate::report::{Report, Series};
use crate::tunnel::{self, BenchHost, CONNECTION, now};

const SIZES: [u32; 4] = [10, 100, 1_000, 10_000];
/// Set-ups that are timed at each size.
const TIMED: u32 = 500;
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// A machine with its host, and the time that it has used.
struct End {
    ike: Ike,
    host: BenchHost,
    used: Duration,
    is_up: bool,
}

impl End {
    fn new(ike: Ike, seed: u64, address: Ipv4Addr) -> Self {
        Self { ike, host: BenchHost::new(seed, address), used: Duration::ZERO, is_up: false }
    }

    /// What it sends while it is handled.
    fn handle(&mut self, run: impl FnOnce(&mut Ike, &mut BenchHost)) -> Vec<(Path, Vec<u8>)> {
        let mut sent = Vec::new();
        let start = Instant::now();
        run(&mut self.ike, &mut self.host);
        while let Some(output) = self.ike.poll() {
            match output {
                Output::Transmit { path, datagram, .. } => sent.push((path, datagram)),
                Output::Event(Event::IkeUp { .. }) => self.is_up = true,
                Output::Event(Event::Failed { problem, .. }) => panic!("{problem}"),
                _ => {}
            }
        }
        self.used += start.elapsed();
        sent
    }

    fn receive(&mut self, path: Path, datagram: &[u8]) -> Vec<(Path, Vec<u8>)> {
        let path = Path { local: path.remote, remote: path.local, marked: path.marked };
        self.handle(|ike, host| ike.handle_datagram(now(), path, datagram, host))
    }
}

/// Sets up client `number`, and returns what the client and the server have used for it.
fn set_up(server: &mut End, number: u32) -> (Duration, Duration) {
    let mut client = End::new(tunnel::client(number, CLIENT, SERVER), u64::from(number) + 2, CLIENT);
    (server.used, server.is_up) = (Duration::ZERO, false);
    let command = Command::Initiate { connection: CONNECTION.to_owned(), child: None };
    let mut sent = client.handle(|ike, host| drop(ike.command(now(), command, host)));
    while !sent.is_empty() {
        let answers: Vec<_> =
            sent.iter().flat_map(|(path, datagram)| server.receive(*path, datagram)).collect();
        sent = answers.iter().flat_map(|(path, datagram)| client.receive(*path, datagram)).collect();
    }
    assert!(client.is_up && server.is_up, "client {number} is set up");
    (client.used, server.used)
}

/// Measures set-ups with more and more tunnels at the server.
pub fn run(report: &mut Report) {
    let mut server = End::new(tunnel::server(SERVER), 1, SERVER);
    let mut number = 0;
    for size in SIZES {
        while number < size {
            set_up(&mut server, number);
            number += 1;
        }
        let timed: Vec<_> = (0..TIMED).map(|extra| set_up(&mut server, size + extra)).collect();
        number += TIMED;
        let (initiator, responder): (Vec<Duration>, Vec<Duration>) = timed.into_iter().unzip();
        for (system, used) in [("initiator", initiator), ("responder", responder)] {
            let samples = used.iter().map(|used| used.as_secs_f64() * 1e6).collect();
            report.add(Series {
                part: "machine-set-up",
                system: system.to_owned(),
                tunnels: size as usize,
                unit: "us",
                samples,
            });
        }
    }
}
