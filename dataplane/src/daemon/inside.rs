//! Who this host is inside, where the inner side is a TUN device: addresses and DNS servers that the peers of tunnels
//! have given it.
//!
//! The IKE daemon, which learns of them, may change neither: it is fenced in, because it reads what strangers send. The
//! data plane has the privilege already, owns the device, and leads the tunnels' networks into it; what it takes here is
//! addresses and nothing else.
//!
//! The file has what is to be, and all that may be there: it is written before an address comes and after one is gone, so
//! that who dies in between leaves nothing behind.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::error::DaemonError;
use super::{media, private_file};
use crate::config::InnerInterface;
use crate::control::{Code, InsideEntry, InsideReport, Refusal};
use crate::own_address;
use crate::resolv_conf;

/// Addresses, and DNS servers, of one tunnel.
const MAX_EACH: usize = 16;
/// Tunnels that have any: those that this host has set up.
const MAX_TUNNELS: usize = 256;
/// The longest name of a tunnel.
const MAX_NAME: usize = 32;

/// What is in the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// In the order in which they came.
    tunnels: Vec<InsideEntry>,
    /// Addresses that may be there because of us.
    placed: BTreeSet<IpAddr>,
    /// On which device.
    device: String,
}

impl State {
    /// Addresses that are to be there.
    fn wanted(&self) -> BTreeSet<IpAddr> {
        self.tunnels.iter().flat_map(|entry| &entry.addresses).copied().collect()
    }

    /// The newest tunnel's first: what went before it may be on its way out.
    fn servers(&self) -> Vec<IpAddr> {
        let mut servers = Vec::new();
        for server in self.tunnels.iter().rev().flat_map(|entry| &entry.dns) {
            if !servers.contains(server) {
                servers.push(*server);
            }
        }
        servers
    }
}

/// Who this host is inside.
#[derive(Debug)]
pub(super) struct Inside {
    file: PathBuf,
    state: State,
    /// Of a TUN device.
    device: Option<String>,
    resolv_conf: Option<PathBuf>,
    problems: Vec<String>,
}

/// Where the file is.
pub(super) fn path(runtime_directory: &Path) -> PathBuf {
    runtime_directory.join("inside")
}

impl Inside {
    /// Takes up what the file says, and brings it about.
    pub(super) fn take_up(
        runtime_directory: &Path,
        inner: &InnerInterface,
        resolv_conf: Option<PathBuf>,
    ) -> Result<Self, DaemonError> {
        let file = path(runtime_directory);
        let mut state = read(&file).map_err(super::error::io_error("read", &file))?;
        let device = match inner {
            InnerInterface::Tun(name) => Some(name.clone()),
            InnerInterface::Device(_) => None,
        };
        if device.as_ref() != Some(&state.device) {
            leave(&state);
            // Without a device nobody is anybody inside.
            let tunnels = if device.is_some() { std::mem::take(&mut state.tunnels) } else { Vec::new() };
            state = State { tunnels, placed: BTreeSet::new(), device: device.clone().unwrap_or_default() };
        }
        let mut inside = Self { file, state, device, resolv_conf, problems: Vec::new() };
        inside.bring_about();
        Ok(inside)
    }

    /// What tunnels have, and what of it is not there.
    pub(super) fn report(&self) -> InsideReport {
        InsideReport { tunnels: self.state.tunnels.clone(), problems: self.problems.clone() }
    }

    /// Gives a tunnel this, in the place of what it had.
    pub(super) fn set(&mut self, entry: InsideEntry) -> Result<(), Refusal> {
        self.check(&entry)?;
        let mut next = self.state.clone();
        match next.tunnels.iter_mut().find(|other| other.tunnel == entry.tunnel) {
            Some(there) => *there = entry,
            None => next.tunnels.push(entry),
        }
        self.change(next)
    }

    /// Takes from tunnels what they have.
    pub(super) fn remove(&mut self, names: &[String]) -> Result<(), Refusal> {
        let mut next = self.state.clone();
        next.tunnels.retain(|entry| !names.contains(&entry.tunnel));
        if next == self.state { Ok(()) } else { self.change(next) }
    }

    /// Looks whether all is as it is to be: somebody may have changed addresses, or the file of servers.
    pub(super) fn look(&mut self) {
        if !(self.state.tunnels.is_empty() && self.problems.is_empty()) {
            self.bring_about();
        }
    }

    fn check(&self, entry: &InsideEntry) -> Result<(), Refusal> {
        let refused = |message: String, remedy: &str| Err(Refusal::new(Code::Refused, message, remedy));
        if self.device.is_none() {
            let message =
                "the inner side is no TUN device, which alone can have addresses from a peer".to_owned();
            return refused(message, "configure [inner] interface = \"tun:NAME\"");
        }
        let is_new = self.state.tunnels.iter().all(|other| other.tunnel != entry.tunnel);
        if is_new && self.state.tunnels.len() >= MAX_TUNNELS {
            return refused(format!("{MAX_TUNNELS} tunnels have addresses here"), "remove some");
        }
        let is_named = (1..=MAX_NAME).contains(&entry.tunnel.len());
        let is_small = entry.addresses.len() <= MAX_EACH && entry.dns.len() <= MAX_EACH;
        let is_host =
            |address: &IpAddr| !(address.is_unspecified() || address.is_multicast() || address.is_loopback());
        if is_named && is_small && entry.addresses.iter().chain(&entry.dns).all(is_host) {
            return Ok(());
        }
        let message = "a tunnel has a name, and addresses and DNS servers that are single hosts'".to_owned();
        refused(message, &format!("give up to {MAX_EACH} of each"))
    }

    fn change(&mut self, mut next: State) -> Result<(), Refusal> {
        next.placed.extend(next.wanted());
        if let Err(error) = write(&self.file, &next) {
            let message = format!("it cannot be written where a restart would find it: {error}");
            let remedy = "nothing was changed; make room in the runtime directory and try again";
            return Err(Refusal::new(Code::Internal, message, remedy));
        }
        self.state = next;
        self.bring_about();
        Ok(())
    }

    /// Brings addresses and servers in line with what is to be. What cannot be is told by [`Self::problems`], and tried
    /// again at the next look.
    fn bring_about(&mut self) {
        let mut problems = self.place_addresses();
        problems.extend(self.name_servers());
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            warn!("{problem}");
        }
        self.problems = problems;
    }

    fn place_addresses(&mut self) -> Vec<String> {
        let Some(device) = self.device.clone().filter(|_| !self.state.placed.is_empty()) else {
            return Vec::new();
        };
        let index = match media::index_of(&device) {
            Ok(index) => index,
            Err(error) => return vec![error.to_string()],
        };
        let (mut problems, wanted) = (Vec::new(), self.state.wanted());
        for address in &wanted {
            if let Err(error) = place(*address, &device, index) {
                problems.push(error.to_string());
            }
        }
        let gone: Vec<_> = self.state.placed.difference(&wanted).copied().collect();
        for address in &gone {
            match own_address::remove(*address, index) {
                Ok(()) => drop(self.state.placed.remove(address)),
                Err(error) => problems.push(error.to_string()),
            }
        }
        if !gone.is_empty()
            && let Err(error) = write(&self.file, &self.state)
        {
            problems.push(format!("{} cannot be written: {error}", self.file.display()));
        }
        problems
    }

    fn name_servers(&self) -> Option<String> {
        let path = self.resolv_conf.as_ref()?;
        match resolv_conf::set(path, &self.state.servers()) {
            Ok(true) => {
                info!(file = %path.display(), servers = ?self.state.servers(), "DNS servers have changed");
            }
            Ok(false) => {}
            Err(error) => {
                return Some(format!("{} cannot name the DNS servers of tunnels: {error}", path.display()));
            }
        }
        None
    }
}

/// An IPv6 address comes on a device that has IPv6: ours has it when it is needed, whatever new devices have.
fn place(address: IpAddr, device: &str, index: u32) -> Result<(), own_address::OwnAddressError> {
    let first = own_address::add(address, index);
    if address.is_ipv4() || first.is_ok() {
        return first;
    }
    let setting = format!("/proc/sys/net/ipv6/conf/{device}/disable_ipv6");
    if fs::write(setting, "0").is_err() {
        return first;
    }
    own_address::add(address, index)
}

/// Takes back all of it, for good.
pub(super) fn uninstall(runtime_directory: &Path, resolv_conf: Option<&Path>) -> Result<(), DaemonError> {
    let file = path(runtime_directory);
    leave(&read(&file).map_err(super::error::io_error("read", &file))?);
    if let Some(path) = resolv_conf {
        resolv_conf::set(path, &[]).map_err(super::error::io_error("restore", path))?;
    }
    Ok(())
}

/// Removes the addresses; those of a device that is gone went with it.
fn leave(state: &State) {
    let Ok(index) = media::index_of(&state.device) else { return };
    for address in &state.placed {
        if let Err(error) = own_address::remove(*address, index) {
            warn!(%error, "an address of a tunnel stays");
        }
    }
}

/// Nothing if there is no file; nor if it is none of ours: the IKE daemon says it all again.
fn read(path: &Path) -> io::Result<State> {
    match fs::read(path) {
        Ok(content) => Ok(serde_json::from_slice(&content).unwrap_or_else(|error| {
            warn!(%error, file = %path.display(), "is not usable, and begun anew");
            State::default()
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
        Err(error) => Err(error),
    }
}

fn write(path: &Path, state: &State) -> io::Result<()> {
    private_file::replace(path, &serde_json::to_vec(state)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tunnel: &str, addresses: &[&str], dns: &[&str]) -> InsideEntry {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("an address")).collect();
        InsideEntry { tunnel: tunnel.to_owned(), addresses: read(addresses), dns: read(dns) }
    }

    /// The device is not there: what cannot be brought about is told, and stays to be done.
    fn without_device(directory: &Path) -> Inside {
        let inner = InnerInterface::Tun("absent-0".to_owned());
        Inside::take_up(directory, &inner, Some(directory.join("resolv.conf"))).expect("taken up")
    }

    #[test]
    fn what_tunnels_have_survives_a_death_and_the_newest_servers_come_first() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let mut inside = without_device(directory.path());
        inside.set(entry("a", &["10.9.0.1"], &["10.2.0.53"])).expect("set");
        inside.set(entry("b", &["10.9.0.1", "2001:db8::1"], &["10.2.0.54", "10.2.0.53"])).expect("set");
        assert!(inside.problems[0].contains("absent-0"), "{:?}", inside.problems);
        let text = fs::read_to_string(directory.path().join("resolv.conf")).expect("a file");
        assert!(text.find("10.2.0.54") < text.find("10.2.0.53"), "{text}");
        drop(inside);
        let mut again = without_device(directory.path());
        assert_eq!(again.report().tunnels.len(), 2);
        again.remove(&["b".to_owned(), "c".to_owned()]).expect("removed");
        assert_eq!(again.report().tunnels, [entry("a", &["10.9.0.1"], &["10.2.0.53"])]);
        assert!(
            again.state.placed.contains(&"2001:db8::1".parse().expect("an address")),
            "not taken away yet"
        );
        again.remove(&["a".to_owned()]).expect("removed");
        assert!(!directory.path().join("resolv.conf").exists());
    }

    #[test]
    fn what_nobody_can_be_is_refused() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        let mut inside = without_device(directory.path());
        let many: Vec<String> = (0..17).map(|last| format!("10.9.0.{last}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (bad, words) in [
            (entry("", &["10.9.0.1"], &[]), "has a name"),
            (entry("a", &many, &[]), "up to 16"),
            (entry("a", &["127.0.0.1"], &[]), "single hosts'"),
            (entry("a", &["10.9.0.1"], &["224.0.0.1"]), "single hosts'"),
            (entry("a", &["0.0.0.0"], &[]), "single hosts'"),
        ] {
            assert!(inside.set(bad).expect_err("refused").to_string().contains(words), "{words}");
        }
        let no_tun = InnerInterface::Device("lan0".to_owned());
        let mut inside = Inside::take_up(directory.path(), &no_tun, None).expect("taken up");
        assert!(
            inside.set(entry("a", &["10.9.0.1"], &[])).expect_err("refused").to_string().contains("tun:NAME")
        );
    }

    #[test]
    fn a_file_that_is_none_is_begun_anew() {
        let directory = tempfile::tempdir_in("/dev/shm").expect("a directory");
        fs::write(path(directory.path()), "nonsense").expect("written");
        assert!(without_device(directory.path()).report().tunnels.is_empty());
    }
}
