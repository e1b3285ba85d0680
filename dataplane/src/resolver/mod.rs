//! Where a gateway is that is known by name.
//!
//! A host whose traffic is all protected finds its gateway by asking DNS servers that are reached in clear, as the gateway
//! itself is: the questions have the mark that passes by our routes ([`crate::prohibit::MARK`]), and go to the servers that
//! this host has without any tunnel, whoever is named in their place now ([`crate::resolv_conf`]). The C library's
//! resolver can do neither.

mod message;

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use message::{Answer, Kind};
use socket2::SockRef;
use thiserror::Error;

pub use message::is_name;

use crate::prohibit::MARK;
use crate::resolv_conf;

/// How long one server may take for one question.
const PATIENCE: Duration = Duration::from_millis(1500);
/// Servers that are asked, as resolv.conf(5) has it.
const MAX_SERVERS: usize = 3;
const PORT: u16 = 53;
/// Of a datagram without extensions (RFC 1035 section 4.2.1), and more than that.
const DATAGRAM: usize = 4096;

/// Why nobody knows.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Not a name.
    #[error("\"{0}\" is not a host's name")]
    Name(String),
    /// No server answers.
    #[error("no DNS server tells where {name} is: {reason}; look at {}", file.display())]
    Silence {
        /// The name.
        name: String,
        /// What came of the last question.
        reason: io::Error,
        /// Where the servers stand.
        file: PathBuf,
    },
}

/// Where servers and hosts stand.
#[derive(Clone, Debug)]
pub struct Files {
    /// As hosts(5).
    pub hosts: PathBuf,
    /// As resolv.conf(5).
    pub resolv_conf: PathBuf,
}

impl Default for Files {
    fn default() -> Self {
        Self { hosts: "/etc/hosts".into(), resolv_conf: "/etc/resolv.conf".into() }
    }
}

/// The addresses of a name, IPv4's first; none if there is no such name. It takes some seconds at most.
///
/// # Errors
/// [`ResolveError`].
pub fn resolve(name: &str, files: &Files) -> Result<Vec<IpAddr>, ResolveError> {
    if !is_name(name) {
        return Err(ResolveError::Name(name.chars().take(64).collect()));
    }
    let hosts = fs::read_to_string(&files.hosts).unwrap_or_default();
    let known = listed(&hosts, name);
    if !known.is_empty() {
        return Ok(known);
    }
    let settings = fs::read_to_string(&files.resolv_conf).unwrap_or_default();
    ask(name, &servers(&settings)).map_err(|reason| ResolveError::Silence {
        name: name.to_owned(),
        reason,
        file: files.resolv_conf.clone(),
    })
}

/// As hosts(5).
fn listed(hosts: &str, name: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
        if words.any(|word| word.eq_ignore_ascii_case(name)) {
            found.extend(address);
        }
    }
    found
}

fn servers(settings: &str) -> Vec<SocketAddr> {
    let own = resolv_conf::own_servers(settings);
    // resolv.conf(5): without any, this host is one.
    let servers = if own.is_empty() { vec![Ipv4Addr::LOCALHOST.into()] } else { own };
    servers.into_iter().take(MAX_SERVERS).map(|server| SocketAddr::new(server, PORT)).collect()
}

/// The first server that can tell.
fn ask(name: &str, servers: &[SocketAddr]) -> io::Result<Vec<IpAddr>> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for server in servers {
        let both = ask_one(name, Kind::A, *server).and_then(|mut found| {
            found.extend(ask_one(name, Kind::Aaaa, *server)?);
            Ok(found)
        });
        match both {
            Ok(found) => return Ok(found),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn ask_one(name: &str, kind: Kind, server: SocketAddr) -> io::Result<Vec<IpAddr>> {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // A port of its own, and an answer from nobody else: whoever forges one has to guess both numbers.
    let socket = UdpSocket::bind(any)?;
    // Without the capability the question goes as everything does.
    let _ = SockRef::from(&socket).set_mark(MARK);
    socket.connect(server)?;
    let mut id = [0; 2];
    aws_lc_rs::rand::fill(&mut id).map_err(|_| io::Error::other("the system gives no randomness"))?;
    let id = u16::from_be_bytes(id);
    socket.send(&message::query(id, name, kind))?;
    let (deadline, mut buffer) = (Instant::now() + PATIENCE, vec![0; DATAGRAM]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(&mut buffer)?;
        match message::answer(&buffer[..length], id, name, kind) {
            Answer::Addresses(found) => return Ok(found),
            Answer::Failed => return Err(io::Error::other("the server cannot tell")),
            Answer::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_known_without_servers() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let files = Files {
            hosts: directory.path().join("hosts"),
            resolv_conf: directory.path().join("resolv.conf"),
        };
        fs::write(
            &files.hosts,
            "# vpn\n192.0.2.1 gate VPN.example.org # a comment\n2001:db8::1\tvpn.example.org\n",
        )
        .expect("written");
        let found = resolve("vpn.example.org", &files).expect("known");
        assert_eq!(found, [IpAddr::from([192, 0, 2, 1]), "2001:db8::1".parse().expect("an address")]);
        assert!(matches!(resolve("192.0.2.1", &files), Err(ResolveError::Name(_))));
        assert!(listed("192.0.2.1\n\nbad vpn\n", "vpn").is_empty());
    }

    #[test]
    fn servers_are_those_of_this_host_and_not_of_tunnels() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let path = directory.path().join("resolv.conf");
        fs::write(&path, "nameserver 192.0.2.53\nnameserver 2001:db8::53\n").expect("written");
        resolv_conf::set(&path, &[[10, 2, 0, 53].into()]).expect("set");
        let own = servers(&fs::read_to_string(&path).expect("readable"));
        assert_eq!(
            own.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.53:53", "[2001:db8::53]:53"]
        );
        assert_eq!(servers("search lan\n"), ["127.0.0.1:53".parse().expect("an address")]);
    }

    /// A server that answers with noise first.
    #[test]
    fn a_server_is_asked_and_noise_is_passed_over() {
        let server = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let at = server.local_addr().expect("an address");
        let playing = std::thread::spawn(move || {
            for last in [7, 8] {
                let mut buffer = [0; 512];
                let (length, from) = server.recv_from(&mut buffer).expect("a question");
                let mut answer = buffer[..length].to_vec();
                server.send_to(&answer, from).expect("sent");
                (answer[2], answer[3], answer[7]) = (0x81, 0x80, 1);
                if last == 7 {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, last]);
                }
                server.send_to(&answer, from).expect("sent");
            }
        });
        assert_eq!(ask("vpn.example.org", &[at]).expect("an answer"), [IpAddr::from([192, 0, 2, 7])]);
        playing.join().expect("played");
    }
}
