//! Policies that come while the data plane runs, in the words of the configuration.

use baton_sad::Name;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::policy::covers;
use super::reader::shortened;
use super::selector::SelectorError;
use super::selectors::pairs;
use super::{Policy, PolicyAction, PolicyDirection, TrafficSelector};
use crate::prefix::Prefix;

/// Selectors of one side.
const MAX_LIST: usize = 64;

/// A policy as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// Unique among all policies and tunnels: 1 to 32 of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// What happens to its packets.
    pub action: ActionWord,
    /// Which packets; a policy that protects is always about both.
    #[serde(default)]
    pub direction: PolicyDirection,
    /// The lowest is tried first: 2000 if absent where it protects, 1000 otherwise, as in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The inner side's addresses, as in the configuration: `10.2.0.0/16[tcp/443]`.
    pub local_selectors: Vec<String>,
    /// The outer side's.
    pub remote_selectors: Vec<String>,
    /// Links it with its SAs; where it protects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reqid: Option<u32>,
    /// The segment whose owner forwards; required where it protects, 0 if absent where it bypasses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<u8>,
}

/// What a policy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ActionWord {
    /// ESP.
    Protect,
    /// Forwards in clear.
    Bypass,
    /// Drops.
    Discard,
}

/// A policy that was asked for and can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DynamicPolicy {
    /// As it was asked for.
    pub spec: PolicySpec,
    /// What it means.
    pub policy: Policy,
    /// Its remote networks.
    pub prefixes: Vec<Prefix>,
}

/// Why a policy cannot be.
#[derive(Debug, Error)]
#[error("policy \"{name}\": {problem}")]
pub struct PolicySpecError {
    name: String,
    problem: Problem,
}

#[derive(Debug, Error)]
enum Problem {
    #[error("this is not a usable name")]
    Name,
    #[error("a policy that protects needs a reqid other than 0 and a segment")]
    Unlinked,
    #[error("a policy that protects is about both directions")]
    OneWay,
    #[error("only a policy that protects has a reqid")]
    Reqid,
    #[error("what is dropped has no segment")]
    Segment,
    #[error("it has {0} {1} selectors; 1 to {MAX_LIST} are possible")]
    Count(usize, &'static str),
    #[error("{0}")]
    Selector(#[from] SelectorError),
    #[error("{0} goes with no selector of the other side")]
    Alone(TrafficSelector),
}

impl PolicySpecError {
    /// What to do.
    pub fn remedy(&self) -> String {
        match &self.problem {
            Problem::Name => format!("use 1 to {} of the characters A-Z a-z 0-9 . _ -", Name::MAX),
            Problem::Unlinked => "give the numbers of its SAs".to_owned(),
            Problem::OneWay => "leave the direction out".to_owned(),
            Problem::Reqid => "leave the reqid out".to_owned(),
            Problem::Segment => "leave the segment out".to_owned(),
            Problem::Count(..) => "join neighbouring networks, or split it into several policies".to_owned(),
            Problem::Selector(error) => error.remedy(),
            Problem::Alone(_) => "give both sides the same IP version and the same protocol".to_owned(),
        }
    }
}

impl DynamicPolicy {
    /// Reads what was asked for.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn new(spec: PolicySpec) -> Result<Self, PolicySpecError> {
        match read(&spec) {
            Ok((policy, prefixes)) => Ok(Self { spec, policy, prefixes }),
            Err(problem) => Err(PolicySpecError { name: shortened(&spec.name), problem }),
        }
    }

    /// The segment whose owner forwards, with each remote network; nothing where it drops.
    pub fn forwarded(&self) -> impl Iterator<Item = (Prefix, u8)> + '_ {
        let is_forwarding = self.spec.action != ActionWord::Discard;
        let segment = is_forwarding.then(|| self.spec.segment.unwrap_or(0));
        segment.into_iter().flat_map(|segment| self.prefixes.iter().map(move |prefix| (*prefix, segment)))
    }

    /// The remote networks to which nothing may leave in clear because of it (I7).
    pub fn protected(&self) -> &[Prefix] {
        if self.spec.action == ActionWord::Protect { &self.prefixes } else { &[] }
    }
}

fn read(spec: &PolicySpec) -> Result<(Policy, Vec<Prefix>), Problem> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !(1..=Name::MAX).contains(&spec.name.len()) || !spec.name.chars().all(plain) {
        return Err(Problem::Name);
    }
    let action = action(spec)?;
    let local = list(&spec.local_selectors, "local")?;
    let remote = list(&spec.remote_selectors, "remote")?;
    refuse_lonely(&local, &remote)?;
    let default = if spec.action == ActionWord::Protect { 2000 } else { 1000 };
    let mut prefixes: Vec<Prefix> = covers(&remote).collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    let policy = Policy {
        name: spec.name.clone(),
        action,
        direction: spec.direction,
        priority: spec.priority.unwrap_or(default),
        selectors: pairs(&local, &remote),
    };
    Ok((policy, prefixes))
}

fn action(spec: &PolicySpec) -> Result<PolicyAction, Problem> {
    match spec.action {
        ActionWord::Protect => match (spec.reqid, spec.segment) {
            _ if spec.direction != PolicyDirection::Both => Err(Problem::OneWay),
            (Some(reqid @ 1..), Some(segment)) => Ok(PolicyAction::Protect { reqid, segment }),
            _ => Err(Problem::Unlinked),
        },
        _ if spec.reqid.is_some() => Err(Problem::Reqid),
        ActionWord::Bypass => Ok(PolicyAction::Bypass),
        ActionWord::Discard if spec.segment.is_some() => Err(Problem::Segment),
        ActionWord::Discard => Ok(PolicyAction::Discard),
    }
}

fn list(texts: &[String], side: &'static str) -> Result<Vec<TrafficSelector>, Problem> {
    if !(1..=MAX_LIST).contains(&texts.len()) {
        return Err(Problem::Count(texts.len(), side));
    }
    texts.iter().map(|text| Ok(TrafficSelector::parse(text, None)?)).collect()
}

fn refuse_lonely(local: &[TrafficSelector], remote: &[TrafficSelector]) -> Result<(), Problem> {
    let joins = |a: &TrafficSelector, others: &[TrafficSelector]| {
        others.iter().any(|b| TrafficSelector::pair(a, b).is_some())
    };
    let lonely = local.iter().find(|selector| !joins(selector, remote));
    let lonely = lonely.or_else(|| remote.iter().find(|selector| !joins(selector, local)));
    lonely.map_or(Ok(()), |selector| Err(Problem::Alone(selector.clone())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(text: &str) -> PolicySpec {
        let common = r#""local_selectors":["10.2.0.0/16"],"remote_selectors":["10.1.0.0/16","10.3.0.0/16"]"#;
        serde_json::from_str(&format!("{{{text},{common}}}")).expect("the shape of a policy")
    }

    fn refused(spec: PolicySpec) -> String {
        let error = DynamicPolicy::new(spec).expect_err("refused");
        format!("{error}: {}", error.remedy())
    }

    #[test]
    fn a_policy_reads_as_in_the_configuration() {
        let protect = spec(r#""name":"a","action":"protect","reqid":7,"segment":42"#);
        let read = DynamicPolicy::new(protect).expect("good");
        assert_eq!((read.policy.priority, read.policy.selectors.len()), (2000, 2));
        assert_eq!(read.policy.action, PolicyAction::Protect { reqid: 7, segment: 42 });
        assert_eq!(read.protected().len(), 2);
        let bypass =
            DynamicPolicy::new(spec(r#""name":"b","action":"bypass","direction":"out""#)).expect("good");
        assert_eq!((bypass.policy.priority, bypass.policy.direction), (1000, PolicyDirection::Out));
        assert_eq!((bypass.protected().len(), bypass.forwarded().count()), (0, 2));
        let discard = DynamicPolicy::new(spec(r#""name":"c","action":"discard""#)).expect("good");
        assert_eq!(discard.forwarded().count(), 0);
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_remedy() {
        for (text, words) in [
            (r#""name":"","action":"discard""#, "usable name"),
            (r#""name":"a b","action":"discard""#, "usable name"),
            (r#""name":"a","action":"protect","segment":1"#, "needs a reqid"),
            (r#""name":"a","action":"protect","reqid":0,"segment":1"#, "needs a reqid"),
            (r#""name":"a","action":"protect","reqid":1"#, "and a segment"),
            (r#""name":"a","action":"protect","reqid":1,"segment":1,"direction":"in""#, "both directions"),
            (r#""name":"a","action":"bypass","reqid":1"#, "leave the reqid out"),
            (r#""name":"a","action":"discard","segment":1"#, "leave the segment out"),
        ] {
            assert!(refused(spec(text)).contains(words), "{text}");
        }
        let good = spec(r#""name":"a","action":"discard""#);
        let with = |remote: &[&str]| {
            let remote_selectors = remote.iter().map(|text| (*text).to_owned()).collect();
            refused(PolicySpec { remote_selectors, ..good.clone() })
        };
        assert!(with(&[]).contains("0 remote selectors"));
        assert!(with(&["10.0.0.0/8"; 65]).contains("65 remote selectors"));
        assert!(with(&["10.1.0.1/16"]).contains("host bits"));
        assert!(with(&["dynamic"]).contains("write the address"));
        assert!(with(&["10.1.0.0/16", "2001:db8::/32"]).contains("goes with no selector"));
    }

    #[test]
    fn a_misspelt_field_is_no_policy() {
        let text = r#"{"name":"a","action":"discard","local_selectors":[],"remote_selectors":[],"prio":1}"#;
        assert!(serde_json::from_str::<PolicySpec>(text).is_err());
    }
}
