//! Who this host is inside, because of tunnels that it has set up. The data plane makes it so: this daemon may change
//! neither addresses nor files.

use std::collections::BTreeMap;

use baton_dataplane::control::{ClientError, InsideEntry, InsideReport, Request};
use baton_ike_proto::host::Inside;
use tracing::{info, warn};

/// What tunnels have.
#[derive(Debug, Default)]
pub(super) struct Insides {
    wanted: BTreeMap<String, InsideEntry>,
    /// All tunnels that there were are known: others have nothing.
    pub(super) is_settled: bool,
}

/// As the data plane takes it.
pub(super) fn entry(inside: &Inside) -> InsideEntry {
    let Inside { tunnel, addresses, dns } = inside;
    InsideEntry { tunnel: tunnel.to_string(), addresses: addresses.clone(), dns: dns.clone() }
}

impl Insides {
    /// Takes note of what a tunnel has from now on.
    pub(super) fn note(&mut self, entry: &InsideEntry) {
        if is_nothing(entry) {
            self.wanted.remove(&entry.tunnel);
        } else {
            self.wanted.insert(entry.tunnel.clone(), entry.clone());
        }
    }

    /// Whether nothing was ever said of it, as on a host without a TUN device.
    pub(super) fn is_unused(&self) -> bool {
        self.wanted.is_empty() && !self.is_settled
    }

    /// What has to be asked to bring all in line with what there is.
    pub(super) fn differences(&self, there: &InsideReport) -> Vec<Request> {
        let nobodys = there.tunnels.iter().filter(|_| self.is_settled);
        let nobodys = nobodys.filter(|entry| !self.wanted.contains_key(&entry.tunnel));
        let tunnels: Vec<String> = nobodys.map(|entry| entry.tunnel.clone()).collect();
        if !tunnels.is_empty() {
            info!(?tunnels, "removing inner addresses of tunnels that are no more");
        }
        let removal = (!tunnels.is_empty()).then_some(Request::InsideRemove { tunnels });
        let missing = self.wanted.values().filter(|entry| !there.tunnels.contains(entry));
        removal.into_iter().chain(missing.cloned().map(Request::InsideSet)).collect()
    }
}

/// What has to be asked because a tunnel has this from now on.
pub(super) fn request(entry: InsideEntry) -> Request {
    if is_nothing(&entry) {
        Request::InsideRemove { tunnels: vec![entry.tunnel] }
    } else {
        Request::InsideSet(entry)
    }
}

/// Tells of what the data plane could not do: it has an alarm about it, and tries again.
pub(super) fn heed(answer: Result<InsideReport, ClientError>) -> Result<InsideReport, ClientError> {
    match answer {
        Ok(report) => {
            report.problems.iter().for_each(|problem| warn!("{problem}"));
            Ok(report)
        }
        Err(ClientError::Refused(refusal)) => {
            warn!(%refusal, "the data plane does not take inner addresses");
            Ok(InsideReport::default())
        }
        Err(error) => Err(error),
    }
}

fn is_nothing(entry: &InsideEntry) -> bool {
    entry.addresses.is_empty() && entry.dns.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tunnel: &str, addresses: &[&str]) -> InsideEntry {
        let addresses = addresses.iter().map(|text| text.parse().expect("an address")).collect();
        InsideEntry { tunnel: tunnel.to_owned(), addresses, dns: Vec::new() }
    }

    #[test]
    fn what_differs_is_asked_for_and_nobodys_goes_when_all_are_known() {
        let mut insides = Insides::default();
        insides.note(&entry("a", &["10.9.0.1"]));
        insides.note(&entry("b", &["10.9.0.2"]));
        let tunnels = vec![entry("a", &["10.9.0.1"]), entry("b", &["10.9.0.9"]), entry("c", &["10.9.0.3"])];
        let there = InsideReport { tunnels, problems: Vec::new() };
        let set = Request::InsideSet(entry("b", &["10.9.0.2"]));
        assert_eq!(insides.differences(&there), std::slice::from_ref(&set));
        insides.is_settled = true;
        let remove = Request::InsideRemove { tunnels: vec!["c".to_owned()] };
        assert_eq!(insides.differences(&there), [remove, set]);
        insides.note(&entry("a", &[]));
        insides.note(&entry("b", &[]));
        assert_eq!(insides.differences(&InsideReport::default()), []);
        assert_eq!(request(entry("a", &[])), Request::InsideRemove { tunnels: vec!["a".to_owned()] });
    }
}
