//! Policies that came through the control socket: which there are, that they go together with the configuration's,
//! and that a restart finds them again.

mod beside;
mod change;
mod networks;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use thiserror::Error;

use super::journal::{Change as Line, Journal, read};
use crate::config::{Config, DynamicPolicy, Policy, PolicySpec, PolicySpecError};
use crate::control::{Code, Refusal};
use crate::prefix::Prefix;
use crate::spd::Placed;
use crate::steering::LocalRule;
use crate::xdp::{FilterPolicies, NetworkChange};
pub(super) use beside::Beside;
pub(super) use change::Change;
use change::Installed;

/// Policies at most.
const MAX_POLICIES: usize = 250_000;
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
    /// Among equal priorities they are tried after the configuration's, the newest first: so that of a client that came
    /// back before it was missed the present SAs are used, and those before again if these go first.
    policies: BTreeMap<Arc<str>, Installed>,
    age: u64,
    /// Selectors and networks of all.
    selectors: usize,
    prefixes: usize,
    /// What they have in common with the configuration.
    beside: Beside,
    journal: Journal,
}

impl DynamicPolicies {
    /// Takes up what the file says.
    pub(super) fn load(path: &Path, config: &Config) -> Result<Self, PoliciesError> {
        let failed = |source| PoliciesError::File { path: path.to_owned(), source };
        let mut specs = BTreeMap::new();
        for (line, change) in (0_u64..).zip(read(path).map_err(failed)?) {
            replay(&mut specs, line, change);
        }
        let mut specs: Vec<_> = specs.into_values().collect();
        specs.sort_by_key(|(place, _)| *place);
        let specs: Vec<PolicySpec> = specs.into_iter().map(|(_, spec)| spec).collect();
        let parsed: Result<Vec<_>, _> = specs.iter().cloned().map(DynamicPolicy::new).collect();
        let parsed = parsed.map_err(|error: PolicySpecError| failed(io::Error::other(error)))?;
        let mut loaded = Self {
            policies: BTreeMap::new(),
            age: 0,
            selectors: 0,
            prefixes: 0,
            beside: Beside::new(config),
            journal: Journal::begin(path, specs).map_err(failed)?,
        };
        let conflict = |problem| PoliciesError::Conflict { path: path.to_owned(), problem };
        loaded.exchange(Vec::new(), parsed).map_err(conflict)?;
        Ok(loaded)
    }

    /// What they mean, the newest first.
    pub(super) fn policies(&self) -> impl Iterator<Item = &Policy> {
        self.by_age().into_iter().rev().map(|installed| &installed.policy.policy)
    }

    /// Their entries in the SPD.
    pub(super) fn placed(&self) -> impl Iterator<Item = Placed> + '_ {
        self.policies.values().flat_map(Installed::placed)
    }

    /// The oldest first.
    fn by_age(&self) -> Vec<&Installed> {
        let mut all: Vec<_> = self.policies.values().collect();
        all.sort_unstable_by_key(|installed| installed.age);
        all
    }

    /// Takes in those of these policies that are not in force already, if all can be. No restart finds them until they
    /// are [written](Self::write).
    pub(super) fn add(&mut self, specs: &[PolicySpec]) -> Result<Change, Refusal> {
        refuse_count(specs)?;
        let is_new =
            |spec: &&PolicySpec| self.policies.get(&*spec.name).is_none_or(|old| old.policy.spec != **spec);
        let news: Result<Vec<_>, _> = specs.iter().filter(is_new).cloned().map(DynamicPolicy::new).collect();
        let news = news.map_err(|error| Refusal::new(Code::Refused, &error, error.remedy()))?;
        let replaced = news.iter().filter_map(|new| self.policies.get(&*new.policy.name));
        let replaced: Vec<Installed> = replaced.cloned().collect();
        self.refuse_size(&replaced, &news)?;
        self.exchange(replaced, news).map_err(|problem| {
            let remedy = "choose another name or segment, or remove the other policy first";
            Refusal::new(Code::Refused, problem, remedy)
        })
    }

    /// Takes policies out. A restart finds them until that is [written](Self::write).
    pub(super) fn remove(&mut self, names: &[String]) -> Result<Change, Refusal> {
        let names: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let gone: Result<Vec<_>, _> =
            names.into_iter().map(|name| self.policies.get(name).cloned().ok_or(name)).collect();
        let gone = gone.map_err(|unknown| {
            let remedy = "`dpctl policy list` shows them; those of the configuration are removed there";
            Refusal::new(Code::NotFound, format!("there is no dynamic policy {unknown}"), remedy)
        })?;
        self.exchange(gone, Vec::new()).map_err(|problem| Refusal::new(Code::Internal, problem, "try again"))
    }

    fn refuse_size(&self, replaced: &[Installed], news: &[DynamicPolicy]) -> Result<(), Refusal> {
        let old = replaced.iter().map(|old| &old.policy);
        let (old_selectors, old_prefixes) = sizes(old);
        let (new_selectors, new_prefixes) = sizes(news);
        let prefixes = self.prefixes + new_prefixes - old_prefixes;
        let selectors = self.selectors + new_selectors - old_selectors;
        let policies = self.policies.len() + news.len() - replaced.len();
        if policies <= MAX_POLICIES && prefixes.max(selectors) <= MAX_PREFIXES {
            return Ok(());
        }
        let message =
            format!("with these there are more than {MAX_POLICIES} policies or {MAX_PREFIXES} selectors");
        Err(Refusal::new(Code::Refused, message, "remove others first"))
    }

    /// Puts some in the place of others; if that cannot be, nothing changes.
    fn exchange(&mut self, gone: Vec<Installed>, news: Vec<DynamicPolicy>) -> Result<Change, String> {
        let mut change = Change::default();
        for old in gone {
            self.take_out(old, &mut change);
        }
        for policy in news {
            self.age += policy.policy.selectors.len().max(1) as u64;
            let new = Installed { policy, age: self.age };
            if let Some(problem) = self.conflict(&new) {
                self.undo(change);
                return Err(problem);
            }
            self.take_in(new, &mut change);
        }
        Ok(change)
    }

    fn conflict(&self, new: &Installed) -> Option<String> {
        let is_kin = |name: &str| self.policies.get(name).is_some_and(|other| other.is_kin(new));
        self.beside.conflict(new, is_kin)
    }

    fn take_in(&mut self, new: Installed, change: &mut Change) {
        let name: Arc<str> = new.name().into();
        self.selectors += new.policy.policy.selectors.len();
        self.prefixes += new.policy.prefixes.len();
        change.is_local |= self.beside.add(&new, &name, &mut change.touched);
        change.new.push(new.clone());
        self.policies.insert(name, new);
    }

    fn take_out(&mut self, old: Installed, change: &mut Change) {
        let Some((name, _)) = self.policies.remove_entry(old.name()) else { return };
        self.selectors -= old.policy.policy.selectors.len();
        self.prefixes -= old.policy.prefixes.len();
        change.is_local |= self.beside.remove(&old, &name, &mut change.touched);
        change.gone.push(old);
    }

    /// Takes a change back that has no effect yet.
    pub(super) fn undo(&mut self, change: Change) {
        let mut back = Change::default();
        for new in change.new {
            self.take_out(new, &mut back);
        }
        for old in change.gone {
            self.take_in(old, &mut back);
        }
    }

    /// Writes a change down. When it returns, a restart knows it.
    pub(super) fn write(&mut self, change: &Change) -> io::Result<()> {
        if !self.journal.is_in_place() {
            // What is added to a file without a name, no restart finds.
            self.journal = Journal::begin(self.journal.path(), self.specs())?;
            return Ok(());
        }
        if change.new.is_empty() {
            self.journal.append(&Line::Remove(change.removed()))?;
        } else {
            let specs = change.new.iter().map(|new| new.policy.spec.clone());
            self.journal.append(&Line::Add(specs.collect()))?;
        }
        self.shorten();
        Ok(())
    }

    fn specs(&self) -> Vec<PolicySpec> {
        self.by_age().into_iter().map(|installed| installed.policy.spec.clone()).collect()
    }

    /// A journal that cannot be replaced now goes on as it is.
    fn shorten(&mut self) {
        if self.journal.is_long() {
            match Journal::begin(self.journal.path(), self.specs()) {
                Ok(journal) => self.journal = journal,
                Err(error) => tracing::warn!(%error, "the file of dynamic policies cannot be shortened"),
            }
        }
    }

    /// What they have in common with another configuration, or why they cannot be beside it.
    pub(super) fn beside(&self, config: &Config) -> Result<Beside, String> {
        let mut beside = Beside::new(config);
        let mut touched = BTreeSet::new();
        for installed in self.by_age() {
            let is_kin = |name: &str| self.policies.get(name).is_some_and(|other| other.is_kin(installed));
            if let Some(problem) = beside.conflict(installed, is_kin) {
                return Err(problem);
            }
            beside.add(installed, &installed.name().into(), &mut touched);
        }
        Ok(beside)
    }

    /// Goes on beside another configuration.
    pub(super) fn adopt(&mut self, beside: Beside) {
        self.beside = beside;
    }

    /// Every network that a kernel route is to keep closed (I7).
    pub(super) fn protected(&self) -> Vec<Prefix> {
        self.beside.protected()
    }

    /// Those of these networks that a kernel route is to keep closed, and the others.
    pub(super) fn split(&self, networks: impl IntoIterator<Item = Prefix>) -> (Vec<Prefix>, Vec<Prefix>) {
        networks.into_iter().partition(|network| self.beside.is_protected(*network))
    }

    /// What the filter is to know: networks that are protected, or that a policy lets traffic past to, with the segments
    /// whose owners forward, and what all of them say about clear traffic to this host itself.
    pub(super) fn filter_policies(&self, config: &Config) -> FilterPolicies {
        self.beside.filter_policies(self.local_rules(config))
    }

    /// What all policies say about clear traffic to this host itself.
    pub(super) fn local_rules(&self, config: &Config) -> Vec<LocalRule> {
        config.local_rules(&self.policies().collect::<Vec<_>>())
    }

    /// What the filter is to know of the networks that a change is about.
    pub(super) fn network_changes(&self, change: &Change) -> Vec<NetworkChange> {
        change.touched.iter().map(|prefix| (*prefix, self.beside.network(*prefix))).collect()
    }

    /// The networks of a change that are protected now, and those that are not.
    pub(super) fn diverted(&self, change: &Change) -> (Vec<Prefix>, Vec<Prefix>) {
        let policies = change.gone.iter().chain(&change.new);
        let networks: BTreeSet<Prefix> =
            policies.flat_map(|installed| installed.policy.protected()).copied().collect();
        self.split(networks)
    }
}

/// Selectors and networks.
fn sizes<'p>(policies: impl IntoIterator<Item = &'p DynamicPolicy>) -> (usize, usize) {
    let sizes = policies.into_iter().map(|policy| (policy.policy.selectors.len(), policy.prefixes.len()));
    sizes.fold((0, 0), |(a, b), (selectors, prefixes)| (a + selectors, b + prefixes))
}

fn refuse_count(specs: &[PolicySpec]) -> Result<(), Refusal> {
    if !(1..=MAX_AT_ONCE).contains(&specs.len()) {
        let message = format!("{} policies at once; 1 to {MAX_AT_ONCE} are possible", specs.len());
        return Err(Refusal::new(Code::Refused, message, "send several requests"));
    }
    let mut names = HashSet::new();
    if let Some(twice) = specs.iter().find(|spec| !names.insert(&spec.name)) {
        let message = format!("the policy {} is there twice", twice.name);
        return Err(Refusal::new(Code::Refused, message, "name each once"));
    }
    Ok(())
}

/// Specs by name, each with its place: line, and place within the line.
type Written = BTreeMap<String, ((u64, usize), PolicySpec)>;

fn replay(specs: &mut Written, line: u64, change: Line) {
    match change {
        Line::Add(added) => {
            for (index, spec) in added.into_iter().enumerate() {
                specs.insert(spec.name.clone(), ((line, index), spec));
            }
        }
        Line::Remove(names) => names.iter().for_each(|name| drop(specs.remove(name))),
    }
}

#[cfg(test)]
mod tests;
