//! Gateways that are known by name: where they are, asked of the data plane by a thread of its own.
//!
//! This daemon asks no DNS server itself: behind its fence it reads no files of the system's and opens no sockets. The
//! protocol knows addresses alone; that they have changed is a change of its configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use baton_dataplane::control::{Client, ClientError, Request, Resolved};
use baton_ike_proto::configuration::{AddressMatch, Configuration, Connection};
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::reports::{Report, Reports};

/// How long the data plane may take: it asks several servers.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often names are asked for that nobody has told yet, and those that were told.
const UNKNOWN: Duration = Duration::from_secs(5);
const KNOWN: Duration = Duration::from_mins(1);

/// Where names are, as far as it is known.
#[derive(Debug)]
pub(crate) struct Names {
    known: BTreeMap<String, Vec<IpAddr>>,
    wanted: Sender<BTreeSet<String>>,
}

impl Names {
    /// Begins to ask for the names of a configuration.
    pub(crate) fn start(config: &Config, control_socket: PathBuf, reports: Reports) -> std::io::Result<Self> {
        let (wanted, received) = channel();
        let asking = Asking { control_socket, reports, wanted: names_of(config), known: BTreeMap::new() };
        thread::Builder::new().name("names".to_owned()).spawn(move || asking.run(&received))?;
        Ok(Self { known: BTreeMap::new(), wanted })
    }

    /// Another configuration, with names of its own.
    pub(crate) fn follow(&mut self, config: &Config) {
        let names = names_of(config);
        self.known.retain(|name, _| names.contains(name));
        // The thread ends only with the process.
        let _ = self.wanted.send(names);
    }

    /// Takes note of where a name is; whether that is news.
    pub(crate) fn note(&mut self, name: String, addresses: Vec<IpAddr>) -> bool {
        let is_news = self.known.get(&name) != Some(&addresses);
        if is_news {
            info!(name, ?addresses, "a gateway is found");
            self.known.insert(name, addresses);
        }
        is_news
    }

    /// The configuration with what is known in the place of names.
    pub(crate) fn resolved(&self, config: &Config) -> Arc<Configuration> {
        if config.names.is_empty() {
            return Arc::clone(&config.protocol);
        }
        let mut protocol = Configuration::clone(&config.protocol);
        for connection in &mut protocol.connections {
            if let Some(names) = config.names.get(&connection.name) {
                *connection = Arc::new(self.with_addresses(connection, names));
            }
        }
        Arc::new(protocol)
    }

    /// What is not known stays nowhere.
    fn with_addresses(&self, connection: &Connection, names: &[String]) -> Connection {
        let mut names = names.iter();
        let mut matches = Vec::new();
        for one in &connection.remote_addresses {
            let name = one.is_nowhere().then(|| names.next()).flatten();
            match name.and_then(|name| self.known.get(name)) {
                Some(addresses) => matches.extend(addresses.iter().copied().map(AddressMatch::single)),
                None => matches.push(*one),
            }
        }
        Connection { remote_addresses: matches, ..connection.clone() }
    }
}

fn names_of(config: &Config) -> BTreeSet<String> {
    config.names.values().flatten().cloned().collect()
}

/// The thread's own.
struct Asking {
    control_socket: PathBuf,
    reports: Reports,
    wanted: BTreeSet<String>,
    known: BTreeMap<String, Vec<IpAddr>>,
}

impl Asking {
    fn run(mut self, received: &Receiver<BTreeSet<String>>) {
        loop {
            self.ask_all();
            let is_known = self.wanted.iter().all(|name| self.known.contains_key(name));
            let pause = match (self.wanted.is_empty(), is_known) {
                (true, _) => Duration::MAX,
                (_, true) => KNOWN,
                (_, false) => UNKNOWN,
            };
            match received.recv_timeout(pause) {
                Ok(names) => self.wanted = names,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// A name that cannot be told now is where it was last.
    fn ask_all(&mut self) {
        for name in self.wanted.clone() {
            match self.ask(&name) {
                Ok(addresses) if addresses.is_empty() => warn!(name, "there is no such host"),
                Ok(mut addresses) => {
                    // Servers that spread load give them in another order each time.
                    addresses.sort_unstable();
                    addresses.dedup();
                    self.known.insert(name.clone(), addresses.clone());
                    self.reports.send(Report::Found { name, addresses });
                }
                Err(error) if self.known.contains_key(&name) => {
                    debug!(name, %error, "a gateway is not found again");
                }
                Err(error) => warn!(name, %error, "a gateway is not found"),
            }
        }
    }

    fn ask(&self, name: &str) -> Result<Vec<IpAddr>, ClientError> {
        let request = Request::Resolve { name: name.to_owned() };
        let resolved: Resolved = Client::connect(&self.control_socket, PATIENCE)?.request(&request)?;
        Ok(resolved.addresses)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const CONFIGURATION: &str = r#"
[node]
id = 1
cluster = "test"
[outer]
interface = "wan0"
addresses = ["203.0.113.2"]
[inner]
interface = "lan0"
[connections.a]
remote_addrs = ["one.example.org", "192.0.2.7", "two.example.org"]
[connections.a.local]
auth = "psk"
id = "me"
[connections.a.remote]
auth = "psk"
[connections.a.children.net]
remote_ts = ["10.1.0.0/16"]
[secrets.ike]
secret = "thirty-two octets of no meaning."
"#;

    fn peers(configuration: &Configuration) -> Vec<String> {
        configuration.connections[0].peers().map(|peer| peer.to_string()).collect()
    }

    #[test]
    fn names_become_addresses_in_their_places() {
        let config = Config::parse_as(CONFIGURATION, Path::new("baton.toml"), true).expect("good");
        let mut names = Names { known: BTreeMap::new(), wanted: channel().0 };
        assert_eq!(peers(&names.resolved(&config)), ["192.0.2.7"], "what is not known is nowhere");
        assert!(!names.resolved(&config).connections[0].remote_addresses.is_empty(), "and not anywhere");
        let two = vec![[192, 0, 2, 8].into(), [192, 0, 2, 9].into()];
        assert!(names.note("two.example.org".to_owned(), two.clone()));
        assert!(!names.note("two.example.org".to_owned(), two));
        assert_eq!(peers(&names.resolved(&config)), ["192.0.2.7", "192.0.2.8", "192.0.2.9"]);
        names.note("one.example.org".to_owned(), vec![[192, 0, 2, 1].into()]);
        assert_eq!(peers(&names.resolved(&config)), ["192.0.2.1", "192.0.2.7", "192.0.2.8", "192.0.2.9"]);
    }
}
