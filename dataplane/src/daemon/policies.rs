//! Policies that came through the control socket: which there are, that they go together with the configuration's,
//! and that a restart finds them again.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::journal::{Change, Journal, read};
use crate::config::{Config, DynamicPolicy, Policy, PolicySpec, PolicySpecError};
use crate::control::{Code, Refusal};
use crate::prefix::Prefix;

/// Policies at most.
const MAX_POLICIES: usize = 100_000;
/// Policies of one request: as many as its line has room for.
const MAX_AT_ONCE: usize = 1000;
/// Selectors and networks of all: what the filter's map has room for, less the configuration's.
const MAX_PREFIXES: usize = crate::xdp::shared::MAX_PREFIXES as usize;

/// Why policies that were installed before cannot be taken up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PoliciesError {
    /// The file cannot be read or written.
    #[error(
        "the policies in {path} cannot be taken up: {source}; repair it, or remove it to start without the policies \
         that were installed through the control socket"
    )]
    File {
        /// The file.
        path: PathBuf,
        /// What is the matter.
        source: io::Error,
    },
    /// The configuration has changed meanwhile.
    #[error("{problem}, which is in {path}; change the configuration, or remove the file")]
    Conflict {
        /// The file.
        path: PathBuf,
        /// A sentence.
        problem: String,
    },
}

/// The policies that came through the control socket.
#[derive(Debug)]
pub(super) struct DynamicPolicies {
    /// Among equal priorities they are tried by name, after the configuration's.
    policies: BTreeMap<String, DynamicPolicy>,
    journal: Journal,
}

impl DynamicPolicies {
    /// Takes up what the file says.
    pub(super) fn load(path: &Path, config: &Config) -> Result<Self, PoliciesError> {
        let failed = |source| PoliciesError::File { path: path.to_owned(), source };
        let mut policies = BTreeMap::new();
        for change in read(path).map_err(failed)? {
            apply(&mut policies, change).map_err(|error| failed(io::Error::other(error)))?;
        }
        let specs = policies.values().map(|policy: &DynamicPolicy| policy.spec.clone()).collect();
        let loaded = Self { journal: Journal::begin(path, specs).map_err(failed)?, policies };
        let conflict = |problem| PoliciesError::Conflict { path: path.to_owned(), problem };
        loaded.conflict(config).map_or(Ok(()), |problem| Err(conflict(problem)))?;
        Ok(loaded)
    }

    /// All of them, in the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &DynamicPolicy> {
        self.policies.values()
    }

    /// What they mean to the SPD.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.iter().map(|dynamic| &dynamic.policy)
    }

    /// Networks to which nothing may leave in clear (I7).
    pub(super) fn protected_prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.iter().flat_map(DynamicPolicy::protected).copied()
    }

    /// Those of these policies that are not in force already, if all can be.
    pub(super) fn admit(&self, config: &Config, specs: &[PolicySpec]) -> Result<Vec<DynamicPolicy>, Refusal> {
        if !(1..=MAX_AT_ONCE).contains(&specs.len()) {
            let message = format!("{} policies at once; 1 to {MAX_AT_ONCE} are possible", specs.len());
            return Err(Refusal::new(Code::Refused, message, "send several requests"));
        }
        let mut names = HashSet::new();
        if let Some(twice) = specs.iter().find(|spec| !names.insert(&spec.name)) {
            let message = format!("the policy {} is there twice", twice.name);
            return Err(Refusal::new(Code::Refused, message, "name each once"));
        }
        let news =
            specs.iter().filter(|spec| self.policies.get(&spec.name).is_none_or(|old| old.spec != **spec));
        let news: Result<Vec<_>, _> = news.cloned().map(DynamicPolicy::new).collect();
        let news = news.map_err(|error| Refusal::new(Code::Refused, &error, error.remedy()))?;
        self.check_together(config, &news)?;
        Ok(news)
    }

    fn check_together(&self, config: &Config, news: &[DynamicPolicy]) -> Result<(), Refusal> {
        let replaced: HashSet<&str> = news.iter().map(|policy| policy.policy.name.as_str()).collect();
        let others = self.iter().filter(|old| !replaced.contains(old.policy.name.as_str()));
        let all: Vec<&DynamicPolicy> = others.chain(news).collect();
        let prefixes: usize = all.iter().map(|policy| policy.prefixes.len()).sum();
        let selectors: usize = all.iter().map(|policy| policy.policy.selectors.len()).sum();
        if all.len() > MAX_POLICIES || prefixes.max(selectors) > MAX_PREFIXES {
            let message =
                format!("with these there are more than {MAX_POLICIES} policies or {MAX_PREFIXES} selectors");
            return Err(Refusal::new(Code::Refused, message, "remove others first"));
        }
        let problem = conflict(config, &all);
        problem.map_or(Ok(()), |problem| {
            Err(Refusal::new(
                Code::Refused,
                problem,
                "choose another name or segment, or remove the other policy first",
            ))
        })
    }

    /// Why these policies cannot be together with a configuration.
    pub(super) fn conflict(&self, config: &Config) -> Option<String> {
        conflict(config, &self.iter().collect::<Vec<_>>())
    }

    /// Takes policies in that were [admitted](Self::admit). When it returns, a restart finds them.
    pub(super) fn add(&mut self, news: Vec<DynamicPolicy>) -> io::Result<()> {
        self.journal.append(&Change::Add(news.iter().map(|policy| policy.spec.clone()).collect()))?;
        self.policies.extend(news.into_iter().map(|policy| (policy.policy.name.clone(), policy)));
        self.shorten();
        Ok(())
    }

    /// Takes policies out; gives those that were there. When it returns, a restart does not find them.
    pub(super) fn remove(&mut self, names: &[String]) -> io::Result<Vec<DynamicPolicy>> {
        self.journal.append(&Change::Remove(names.to_vec()))?;
        let removed = names.iter().filter_map(|name| self.policies.remove(name)).collect();
        self.shorten();
        Ok(removed)
    }

    /// Whether a policy here has this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.policies.contains_key(name)
    }

    /// A journal that cannot be replaced now goes on as it is.
    fn shorten(&mut self) {
        if self.journal.is_long() {
            let specs = self.iter().map(|policy| policy.spec.clone()).collect();
            match Journal::begin(self.journal.path(), specs) {
                Ok(journal) => self.journal = journal,
                Err(error) => tracing::warn!(%error, "the file of dynamic policies cannot be shortened"),
            }
        }
    }
}

fn apply(policies: &mut BTreeMap<String, DynamicPolicy>, change: Change) -> Result<(), PolicySpecError> {
    match change {
        Change::Add(specs) => {
            for spec in specs {
                let policy = DynamicPolicy::new(spec)?;
                policies.insert(policy.policy.name.clone(), policy);
            }
        }
        Change::Remove(names) => {
            for name in names {
                policies.remove(&name);
            }
        }
    }
    Ok(())
}

/// What the filter is to know: every network that is protected, or that a policy lets traffic past to, with the
/// segment whose owner forwards.
pub(super) fn forwarded_prefixes(config: &Config, dynamic: &DynamicPolicies) -> Vec<(Prefix, u8)> {
    let mut all: BTreeMap<Prefix, u8> = dynamic.iter().flat_map(DynamicPolicy::forwarded).collect();
    all.extend(config.bypass_prefixes());
    // Where a bypass names another owner than the tunnel to the same network, the tunnel's counts.
    all.extend(config.inner_prefixes());
    all.into_iter().collect()
}

/// Every network that a kernel route is to keep closed (I7).
pub(super) fn protected_prefixes(config: &Config, dynamic: &DynamicPolicies) -> Vec<Prefix> {
    let all: BTreeSet<Prefix> =
        config.protected_prefixes().into_iter().chain(dynamic.protected_prefixes()).collect();
    all.into_iter().collect()
}

fn conflict(config: &Config, dynamic: &[&DynamicPolicy]) -> Option<String> {
    let tunnels = config.tunnels.iter().map(|tunnel| tunnel.name.as_str());
    let taken: HashSet<&str> =
        tunnels.chain(config.exceptions.iter().map(|policy| policy.name.as_str())).collect();
    if let Some(policy) = dynamic.iter().find(|policy| taken.contains(policy.policy.name.as_str())) {
        return Some(format!(
            "the name {} is the configuration's and a dynamic policy's",
            policy.policy.name
        ));
    }
    let configured = "the configuration";
    let mut protected: Vec<Network<'_>> = Vec::new();
    let mut bypassed: Vec<Network<'_>> = Vec::new();
    for policy in dynamic {
        let name = policy.policy.name.as_str();
        let into = if policy.protected().is_empty() { &mut bypassed } else { &mut protected };
        into.extend(policy.forwarded().map(|(prefix, segment)| (prefix, segment, name)));
    }
    let of_config = |prefixes: Vec<(Prefix, u8)>| {
        prefixes.into_iter().map(|(prefix, segment)| (prefix, segment, configured))
    };
    protected.extend(of_config(config.inner_prefixes()));
    bypassed.extend(of_config(config.bypass_prefixes()));
    two_owners(protected).or_else(|| two_forwarders(bypassed))
}

/// A network, its segment, and whose it is.
type Network<'n> = (Prefix, u8, &'n str);

/// One network that is bypassed has one owner. It may lie within another one, or around, whoever owns that.
fn two_forwarders(mut networks: Vec<Network<'_>>) -> Option<String> {
    networks.sort_unstable();
    let pairs = networks.windows(2).map(|pair| (&pair[0], &pair[1]));
    let mut differing = pairs.filter(|(a, b)| a.0 == b.0 && a.1 != b.1);
    differing.next().map(|(a, b)| disagreement(a, b, "is also"))
}

fn disagreement(a: &Network<'_>, b: &Network<'_>, verb: &str) -> String {
    format!("{} (segment {}, of {}) {verb} {} (segment {}, of {})", a.0, a.1, a.2, b.0, b.1, b.2)
}

/// The filter knows a packet's owner by its destination alone, so networks that overlap share a segment. Prefixes lie
/// within each other or apart, so in this order those that hold the present one are on the stack.
fn two_owners(mut networks: Vec<Network<'_>>) -> Option<String> {
    networks.sort_unstable_by_key(|(prefix, ..)| (prefix.first(), Reverse(prefix.last())));
    let mut around: Vec<&Network<'_>> = Vec::new();
    for network in &networks {
        while around.last().is_some_and(|(outer, ..)| !outer.contains(network.0.first())) {
            around.pop();
        }
        if let Some(other) = around.last().filter(|other| other.1 != network.1) {
            return Some(disagreement(network, other, "overlaps"));
        }
        around.push(network);
    }
    None
}

#[cfg(test)]
mod tests;
