//! Clients of a daemon: machines in this process behind two sockets in namespace A, all with one address.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use baton_ike_proto::host::{Command, Event, Output, Path};
use baton_ike_proto::machine::Ike;
use baton_lab::topology::{A_OUTER, B_OUTER};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::stage::{Result, Stage};
use crate::tunnel::{self, BenchHost, CONNECTION, now};

const MARKER: [u8; 4] = [0; 4];
const PATIENCE: Duration = Duration::from_secs(20);
/// How often requests that were lost are looked for.
const TICK: Duration = Duration::from_millis(100);

type Sent = (Path, Vec<u8>);

/// A client that is being set up.
struct Client {
    ike: Ike,
    host: BenchHost,
    began: Instant,
}

/// Clients, of which each is forgotten here once its tunnel stands.
pub struct Clients {
    plain: UdpSocket,
    marked: UdpSocket,
    /// By initiator's SPI.
    under_way: HashMap<u64, Client>,
    buffer: Vec<u8>,
}

impl Clients {
    pub fn new(stage: &Stage) -> Result<Self> {
        let bind = |port: u16| move || UdpSocket::bind((A_OUTER, port));
        let (plain, marked) = (stage.topology.a.run(bind(500))??, stage.topology.a.run(bind(4500))??);
        plain.set_nonblocking(true)?;
        marked.set_nonblocking(true)?;
        Ok(Self { plain, marked, under_way: HashMap::new(), buffer: vec![0; 65_536] })
    }

    /// Sets up the clients with these numbers, so many at a time, and returns how long each took.
    pub fn set_up(&mut self, numbers: std::ops::Range<u32>, at_a_time: usize) -> Result<Vec<Duration>> {
        let mut numbers = numbers.into_iter().peekable();
        let (mut took, mut progress) = (Vec::new(), Instant::now());
        while numbers.peek().is_some() || !self.under_way.is_empty() {
            while self.under_way.len() < at_a_time {
                let Some(number) = numbers.next() else { break };
                self.begin(number)?;
            }
            let done = self.turn()?;
            if !done.is_empty() {
                progress = Instant::now();
            }
            took.extend(done);
            if progress.elapsed() > PATIENCE {
                return Err(format!("{} clients are not set up in time", self.under_way.len()).into());
            }
        }
        Ok(took)
    }

    fn begin(&mut self, number: u32) -> Result<()> {
        let host = BenchHost::new(u64::from(number) + 1_000_000, A_OUTER);
        let ike = tunnel::client(number, A_OUTER, B_OUTER);
        let mut client = Client { ike, host, began: Instant::now() };
        let command = Command::Initiate { connection: CONNECTION.to_owned(), child: None };
        client.ike.command(now(), command, &mut client.host)?;
        let (sent, _) = client.outputs()?;
        let (_, first) = sent.first().ok_or("a client sends nothing")?;
        let spi = spi_of(first).ok_or("a client sends no IKE message")?;
        sent.iter().try_for_each(|(path, datagram)| self.send(*path, datagram))?;
        self.under_way.insert(spi, client);
        Ok(())
    }

    fn send(&self, path: Path, datagram: &[u8]) -> Result<()> {
        let sent = if path.marked {
            self.marked.send_to(&[&MARKER, datagram].concat(), path.remote)
        } else {
            self.plain.send_to(datagram, path.remote)
        };
        sent.map(drop).map_err(Into::into)
    }

    /// Waits for datagrams and handles them; returns how long those took that are up now.
    fn turn(&mut self) -> Result<Vec<Duration>> {
        let tick = Timespec::try_from(TICK)?;
        let ready = {
            let mut sockets =
                [PollFd::new(&self.plain, PollFlags::IN), PollFd::new(&self.marked, PollFlags::IN)];
            poll(&mut sockets, Some(&tick))?
        };
        let mut done = Vec::new();
        if ready == 0 {
            self.repeat()?;
        }
        for marked in [false, true] {
            while let Some((from, length)) = self.receive(marked) {
                done.extend(self.handle(from, marked, length)?);
            }
        }
        Ok(done)
    }

    fn receive(&mut self, marked: bool) -> Option<(SocketAddr, usize)> {
        let socket = if marked { &self.marked } else { &self.plain };
        socket.recv_from(&mut self.buffer).ok().map(|(length, from)| (from, length))
    }

    fn handle(&mut self, from: SocketAddr, marked: bool, length: usize) -> Result<Option<Duration>> {
        let datagram = &self.buffer[..length];
        let Some(datagram) = (if marked { datagram.strip_prefix(&MARKER) } else { Some(datagram) }) else {
            return Ok(None);
        };
        let Some((spi, client)) = spi_of(datagram).and_then(|spi| Some((spi, self.under_way.get_mut(&spi)?)))
        else {
            return Ok(None);
        };
        let local: (Ipv4Addr, u16) = (A_OUTER, if marked { 4500 } else { 500 });
        let path = Path { local: local.into(), remote: from, marked };
        client.ike.handle_datagram(now(), path, datagram, &mut client.host);
        let (sent, is_up) = client.outputs()?;
        sent.iter().try_for_each(|(path, datagram)| self.send(*path, datagram))?;
        let up = if is_up { self.under_way.remove(&spi) } else { None };
        Ok(up.map(|client| client.began.elapsed()))
    }

    /// Sends again what is due.
    fn repeat(&mut self) -> Result<()> {
        let mut all = Vec::new();
        for client in self.under_way.values_mut() {
            client.ike.handle_timeout(now(), &mut client.host);
            all.extend(client.outputs()?.0);
        }
        all.iter().try_for_each(|(path, datagram)| self.send(*path, datagram))
    }
}

impl Client {
    /// What it sends, and whether its Child SA stands.
    fn outputs(&mut self) -> Result<(Vec<Sent>, bool)> {
        let (mut sent, mut is_up) = (Vec::new(), false);
        while let Some(output) = self.ike.poll() {
            match output {
                Output::Transmit { path, datagram, .. } => sent.push((path, datagram)),
                Output::Event(Event::ChildUp { .. }) => is_up = true,
                Output::Event(Event::Failed { problem, .. }) => return Err(problem.into()),
                _ => {}
            }
        }
        Ok((sent, is_up))
    }
}

fn spi_of(message: &[u8]) -> Option<u64> {
    message.first_chunk().map(|spi| u64::from_be_bytes(*spi))
}
