//! What the SPD says about clear traffic to this host itself: the filter decides about it before the kernel has it.

use baton_sad::Selector;

use super::reader::Source;
use super::sections::Read;
use super::{Config, Exception, Policy, PolicyAction, PolicyDirection, Tunnel};
use crate::spd;
use crate::steering::{LocalRule, may_meet, needed};
use crate::xdp::shared;

/// Rules that the filter has room for.
const MAX_RULES: usize = shared::MAX_RULES as usize;

impl Config {
    /// What these policies and `others` of the SPD say about clear traffic to this host itself.
    pub(crate) fn local_rules(&self, others: &[&Policy]) -> Vec<LocalRule> {
        let entries = ranked(&self.exceptions, &self.tunnels, others);
        entries.into_iter().map(|entry| entry.rule).collect()
    }

    /// What these policies permit of clear traffic towards us: only together with that do others say anything about it
    /// that is not so anyway.
    pub(crate) fn permitted(&self) -> Vec<Permitted> {
        self.exceptions.iter().flat_map(|exception| exception.policy().permitted()).collect()
    }
}

/// A priority and a selector of clear traffic towards us that a policy permits.
pub(crate) type Permitted = (u32, Selector);

impl Policy {
    /// What it permits of clear traffic towards us.
    pub(crate) fn permitted(&self) -> Vec<Permitted> {
        permitted(self).map(|(priority, selector)| (priority, selector.clone())).collect()
    }

    /// Whether it refuses any clear traffic towards us that a policy behind it permits.
    pub(crate) fn refuses<'p>(&self, mut permits: impl Iterator<Item = &'p Permitted>) -> bool {
        let refuses = |(behind, permitted): &Permitted| {
            self.priority <= *behind && self.selectors.iter().any(|selector| may_meet(permitted, selector))
        };
        arrives(self) && self.action != PolicyAction::Bypass && permits.any(refuses)
    }
}

/// An entry of the SPD for clear traffic towards us.
struct Entry {
    priority: u32,
    /// Index among the exceptions, if it is one's.
    exception: Option<usize>,
    rule: LocalRule,
}

/// The policies that permit what arrives, and those that refuse some of it before, in the order in which [`spd::Spd`]
/// tries them. All others refuse what is refused anyway.
fn ranked(exceptions: &[Exception], tunnels: &[Tunnel], others: &[&Policy]) -> Vec<Entry> {
    let exceptions: Vec<Policy> = exceptions.iter().map(Exception::policy).collect();
    let candidates = exceptions.iter().chain(others.iter().copied());
    let permits: Vec<(u32, &Selector)> = candidates.flat_map(permitted).collect();
    let Some(last) = permits.iter().map(|(priority, _)| *priority).max() else { return Vec::new() };
    let decides = |priority: u32, selector: &Selector| {
        permits.iter().any(|(behind, permitted)| priority <= *behind && may_meet(permitted, selector))
    };
    let configured = (0..).zip(&exceptions).map(|(index, policy)| (Some(index), policy.clone()));
    let tunnels = tunnels.iter().filter(|tunnel| tunnel.priority <= last);
    let all = configured.chain(tunnels.map(|tunnel| (None, tunnel.policy()))).chain(
        others.iter().filter(|policy| policy.priority <= last).map(|policy| (None, (*policy).clone())),
    );
    let mut entries = Vec::new();
    for (exception, Policy { action, priority, selectors, .. }) in all.filter(|(_, policy)| arrives(policy)) {
        let permits = action == PolicyAction::Bypass;
        let deciding = selectors.into_iter().filter(|selector| permits || decides(priority, selector));
        let entry = |selector| Entry { priority, exception, rule: LocalRule { selector, permits } };
        entries.extend(deciding.map(entry));
    }
    entries.sort_by_key(|entry| (entry.priority, spd::width(&entry.rule.selector.remote)));
    entries
}

/// Whether the policy is about what arrives.
fn arrives(policy: &Policy) -> bool {
    policy.direction != PolicyDirection::Out
}

fn permitted(policy: &Policy) -> impl Iterator<Item = (u32, &Selector)> {
    let permits = policy.action == PolicyAction::Bypass && arrives(policy);
    policy.selectors.iter().filter(move |_| permits).map(|selector| (policy.priority, selector))
}

/// The filter has room for so many rules about our own addresses, and the first policy beyond is told. Those that this
/// host has besides `[outer] addresses` are not known here.
pub(super) fn across_local_rules(source: &Source<'_>, read: &Read) {
    let entries = ranked(&read.exceptions, &read.tunnels, &[]);
    let rules: Vec<LocalRule> = entries.iter().map(|entry| entry.rule.clone()).collect();
    let rules = needed(&rules, &read.outer.addresses);
    let Some(first) = rules.get(MAX_RULES) else { return };
    let beyond = entries.iter().find(|entry| entry.rule == *first).and_then(|entry| entry.exception);
    // A tunnel counts because of a policy behind it; the last one is as good as any.
    let place = &read.exception_places[beyond.unwrap_or(read.exception_places.len() - 1)].name;
    let message = format!(
        "{} pairs of selectors cover clear traffic to this gateway itself; the filter holds {MAX_RULES}",
        rules.len()
    );
    let remedy =
        "join networks or ports, or let local_selectors be without our own addresses and multicast ones";
    place.report(source, message, remedy);
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{ExceptionAction, TrafficSelector};
    use crate::packet::transport::Flow;
    use crate::spd::Action;
    use crate::steering::permit;

    const HEAD: &str = r#"
[node]
id = 2
cluster = "demo"
[outer]
interface = "wan0"
addresses = ["203.0.113.2"]
[inner]
interface = "lan0"
[[tunnel]]
name = "all"
local = "203.0.113.2"
remote = "203.0.113.1"
local_selectors = ["10.2.0.0/16"]
remote_selectors = ["0.0.0.0/0"]
suite = "aes128gcm16"
segment = 5
"#;

    fn parse(policies: &str) -> Result<Config, String> {
        let text = HEAD.to_owned() + policies;
        Config::parse_as(&text, Path::new("baton.toml"), true).map_err(|errors| errors.to_string())
    }

    fn policy(name: &str, local: &str, remotes: usize) -> String {
        let remotes: Vec<_> = (0..remotes).map(|n| format!("\"192.0.2.{n}\"")).collect();
        let remotes = remotes.join(", ");
        format!(
            "[[policy]]\nname = \"{name}\"\naction = \"bypass\"\nlocal_selectors = [\"{local}\"]\n\
             remote_selectors = [{remotes}]\n"
        )
    }

    #[test]
    fn the_filter_is_told_all_networks_and_the_rules_for_what_arrives() {
        let ssh = policy("ssh", "203.0.113.2[tcp/22]", 1);
        let out =
            policy("out", "203.0.113.2[udp]", 2).replace("remote_sel", "direction = \"out\"\nremote_sel");
        let config = parse(&(ssh + &out)).unwrap();
        assert_eq!(config.inner_prefixes(), [("0.0.0.0/0".parse().unwrap(), 5)]);
        let bypassed = [("192.0.2.0/32".parse().unwrap(), 5), ("192.0.2.1/32".parse().unwrap(), 5)];
        assert_eq!(config.bypass_prefixes(), bypassed);
        let local = config.local_rules(&[]);
        assert_eq!(local.len(), 1);
        assert!(local[0].permits && local[0].selector.local_ports == (22..=22));
    }

    #[test]
    fn tunnels_are_rules_where_they_come_before_a_bypass_policy_of_the_same_traffic() {
        let late =
            |local: &str| policy("late", local, 1).replace("remote_sel", "priority = 4000\nremote_sel");
        let permits = |text: &str| -> Vec<bool> {
            parse(text).unwrap().local_rules(&[]).iter().map(|rule| rule.permits).collect()
        };
        assert_eq!(permits(&late("203.0.113.2")), [true]);
        assert_eq!(permits(&policy("early", "10.2.0.1", 1)), [true]);
        assert_eq!(permits(&late("10.0.0.0/8")), [false, true]);
    }

    #[test]
    fn more_rules_than_the_filter_holds_are_refused_with_line_and_remedy() {
        assert!(parse(&policy("ssh", "203.0.113.2[tcp/22]", 64)).is_ok());
        let error = parse(&policy("ssh", "203.0.113.2[tcp/22]", 65)).unwrap_err();
        for part in ["baton.toml:19", "65 pairs of selectors", "holds 64", "join networks or ports"] {
            assert!(error.contains(part), "{error}");
        }
        // The policy that is too much is told, not the first one.
        let both = policy("ssh", "203.0.113.2[tcp/22]", 64) + &policy("web", "203.0.113.2[tcp/443]", 1);
        let error = parse(&both).unwrap_err();
        assert!(error.contains("baton.toml:24") && !error.contains("baton.toml:19"), "{error}");
        // What is forwarded needs no rule.
        assert!(parse(&policy("transit", "10.2.0.0/16", 200)).is_ok());
    }

    fn selector(texts: &'static [&'static str]) -> impl Strategy<Value = Vec<TrafficSelector>> {
        let one =
            proptest::sample::select(texts).prop_map(|text| TrafficSelector::parse(text, None).unwrap());
        proptest::collection::vec(one, 1..3)
    }

    const LOCALS: &[&str] = &[
        "203.0.113.2",
        "203.0.113.0/24[tcp/22]",
        "0.0.0.0/0",
        "10.2.0.0/16",
        "224.0.0.0/4",
        "0.0.0.0/0[udp/53-67]",
    ];
    const REMOTES: &[&str] = &[
        "0.0.0.0/0",
        "192.0.2.0/24",
        "192.0.2.7",
        "192.0.2.0/24[tcp/opaque]",
        "0.0.0.0/0[icmp/8]",
        "198.51.100.0/24[udp]",
    ];

    fn exception() -> impl Strategy<Value = Exception> {
        use PolicyDirection::{Both, In, Out};
        let direction = proptest::sample::select(&[Both, Both, In, Out][..]);
        (any::<bool>(), direction, 0..4_u32, selector(LOCALS), selector(REMOTES)).prop_map(
            |(permits, direction, priority, local_selectors, remote_selectors)| Exception {
                name: "exception".to_owned(),
                action: if permits {
                    ExceptionAction::Bypass { segment: 0 }
                } else {
                    ExceptionAction::Discard
                },
                direction,
                priority,
                local_selectors,
                remote_selectors,
            },
        )
    }

    fn flow() -> impl Strategy<Value = Flow> {
        let source = proptest::sample::select(&["192.0.2.7", "192.0.2.8", "198.51.100.1", "9.9.9.9"][..]);
        let destination = proptest::sample::select(&["203.0.113.2", "10.2.0.1", "224.0.0.5"][..]);
        let protocol = proptest::sample::select(&[1_u8, 6, 17, 89][..]);
        let ports = proptest::option::of(proptest::sample::select(&[22_u16, 53, 67, 0x0800][..]));
        (source, destination, protocol, ports).prop_map(|(source, destination, protocol, ports)| {
            let address = |text: &str| text.parse::<IpAddr>().unwrap();
            let ports = ports.map(|port| if protocol == 1 { (port, port) } else { (40_000, port) });
            Flow::new(address(source), address(destination), protocol, ports)
        })
    }

    proptest! {
        /// What the filter lets the kernel have is what SPD-I lets pass, nothing more and nothing less.
        #[test]
        fn rules_for_ourselves_say_what_the_spd_says(
            exceptions in proptest::collection::vec(exception(), 0..6),
            tunnel in (0..4_u32, selector(LOCALS), selector(REMOTES)),
            flows in proptest::collection::vec(flow(), 20),
        ) {
            let mut config = parse("").unwrap();
            config.exceptions = exceptions;
            let all = &mut config.tunnels[0];
            (all.priority, all.local_selectors, all.remote_selectors) = tunnel;
            let spd = config.spd(std::iter::empty());
            let own = ["203.0.113.2", "10.2.0.1"].map(|text| text.parse().unwrap());
            let rules = needed(&config.local_rules(&[]), &own);
            for flow in flows {
                let passes = spd.inbound(&flow).is_some_and(|policy| matches!(policy.action, Action::Bypass(_)));
                prop_assert_eq!(permit(&rules, &flow), passes, "{:?} {:?}", flow, rules);
            }
        }
    }
}
