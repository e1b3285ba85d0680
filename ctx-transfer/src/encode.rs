//! Context to CBOR. docs/context.cddl is the description of what is written here.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use baton_sad::{
    AddressRange, Counters, DfPolicy, Direction, DscpPolicy, Lifetime, Mode, Selector, Sender, TfcPadding,
    UdpEncapsulation,
};
use zeroize::Zeroizing;

use crate::CONTEXT_VERSION;
use crate::cbor::{Unknown, Writer};
use crate::context::{Context, ContextSa, IkePart, Kind, Policy, PolicyAction};

/// Keys of the maps.
pub(crate) mod keys {
    /// Keys of a context. 17 and 18 are reserved for the PAD entry and NAT state.
    pub(crate) mod context {
        pub(crate) const VERSION: u64 = 0;
        pub(crate) const KIND: u64 = 1;
        pub(crate) const NAME: u64 = 2;
        pub(crate) const ORIGIN: u64 = 3;
        pub(crate) const TAKEN_AT: u64 = 4;
        pub(crate) const SAS: u64 = 5;
        pub(crate) const POLICIES: u64 = 6;
        /// Absent from tunnels that were not negotiated.
        pub(crate) const IKE: u64 = 16;
        pub(crate) const ALL: [u64; 8] = [VERSION, KIND, NAME, ORIGIN, TAKEN_AT, SAS, POLICIES, IKE];
    }
    /// Keys of an SA.
    pub(crate) mod sa {
        pub(crate) const DIRECTION: u64 = 0;
        pub(crate) const SPI: u64 = 1;
        pub(crate) const PEER_SPI: u64 = 2;
        pub(crate) const REQID: u64 = 3;
        pub(crate) const SEGMENT: u64 = 4;
        pub(crate) const SUITE: u64 = 5;
        pub(crate) const KEY: u64 = 6;
        pub(crate) const SOURCE: u64 = 7;
        pub(crate) const DESTINATION: u64 = 8;
        pub(crate) const SELECTORS: u64 = 9;
        pub(crate) const EXTENDED_SEQUENCE: u64 = 10;
        pub(crate) const REPLAY_WINDOW: u64 = 11;
        pub(crate) const DSCP: u64 = 12;
        pub(crate) const DF: u64 = 13;
        pub(crate) const PATH_MTU: u64 = 14;
        pub(crate) const SENDERS: u64 = 15;
        pub(crate) const COUNTERS: u64 = 16;
        pub(crate) const MODE: u64 = 17;
        pub(crate) const LIFETIME: u64 = 18;
        pub(crate) const ENCAPSULATION: u64 = 19;
        pub(crate) const TFC_PADDING: u64 = 20;
        pub(crate) const CLAMP_MSS: u64 = 21;
        pub(crate) const COUNT: u64 = 22;
    }
    /// Keys of counters.
    pub(crate) mod counters {
        pub(crate) const SEQUENCE: u64 = 0;
        pub(crate) const WINDOW_TOP: u64 = 1;
        pub(crate) const WINDOW: u64 = 2;
        pub(crate) const PACKETS: u64 = 3;
        pub(crate) const OCTETS: u64 = 4;
        pub(crate) const REPLAY_DROPS: u64 = 5;
        pub(crate) const INTEGRITY_FAILURES: u64 = 6;
        pub(crate) const COUNT: u64 = 7;
    }
    /// Keys of a selector; absent protocol and ports are any.
    pub(crate) mod selector {
        pub(crate) const LOCAL: u64 = 0;
        pub(crate) const REMOTE: u64 = 1;
        pub(crate) const PROTOCOL: u64 = 2;
        pub(crate) const LOCAL_PORTS: u64 = 3;
        pub(crate) const REMOTE_PORTS: u64 = 4;
    }
    /// Keys of a policy.
    pub(crate) mod policy {
        pub(crate) const ACTION: u64 = 0;
        pub(crate) const REQID: u64 = 1;
        pub(crate) const SEGMENT: u64 = 2;
        pub(crate) const SELECTORS: u64 = 3;
        pub(crate) const COUNT: u64 = 4;
    }
}

/// Octets that an SA takes at most, its unknown entries aside; a policy takes less.
const MAX_SA_OCTETS: usize = 2048;

impl Context {
    /// The deterministic encoding. It holds keys in clear: seal it.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let mut writer = Writer::new(self.capacity());
        let known = &keys::context::ALL[..keys::context::ALL.len() - usize::from(self.ike.is_none())];
        writer.map(known, &self.unknown, |w, key| match key {
            keys::context::VERSION => w.unsigned(CONTEXT_VERSION),
            keys::context::KIND => w.unsigned(u64::from(self.kind == Kind::Move)),
            keys::context::NAME => w.text(self.name.as_str()),
            keys::context::ORIGIN => {
                sender(w, &Sender { cluster: self.origin.cluster, node: self.origin.node });
            }
            keys::context::TAKEN_AT => w.unsigned(self.taken_at),
            keys::context::SAS => w.array(&self.sas, sa),
            keys::context::POLICIES => w.array(&self.policies, policy),
            _ => w.bytes(self.ike_octets()),
        });
        writer.into_octets()
    }

    fn ike_octets(&self) -> &[u8] {
        self.ike.as_ref().map_or(&[], IkePart::octets)
    }

    fn capacity(&self) -> usize {
        let sas: usize = self.sas.iter().map(|s| s.unknown.octets() + s.unknown_counters.octets()).sum();
        let policies: usize = self.policies.iter().map(|p| p.unknown.octets()).sum();
        let known = (1 + self.sas.len() + self.policies.len()) * MAX_SA_OCTETS;
        known + sas + policies + self.ike_octets().len() + self.unknown.octets()
    }
}

fn range(count: u64) -> Vec<u64> {
    (0..count).collect()
}

fn sender(w: &mut Writer, sender: &Sender) {
    w.array(&[sender.cluster.get(), u64::from(sender.node.get())], |w, n| w.unsigned(*n));
}

fn sa(w: &mut Writer, context: &ContextSa) {
    let sa = &context.sa;
    w.map(&range(keys::sa::COUNT), &context.unknown, |w, key| match key {
        keys::sa::DIRECTION => w.unsigned(u64::from(sa.direction == Direction::Outbound)),
        keys::sa::SPI => w.unsigned(sa.spi.into()),
        keys::sa::PEER_SPI => w.unsigned(sa.peer_spi.into()),
        keys::sa::REQID => w.unsigned(sa.reqid.into()),
        keys::sa::SEGMENT => w.unsigned(sa.segment.into()),
        keys::sa::SUITE => w.unsigned(sa.suite.number().into()),
        keys::sa::KEY => w.bytes(sa.key.expose()),
        keys::sa::SOURCE => address(w, sa.source),
        keys::sa::DESTINATION => address(w, sa.destination),
        keys::sa::SELECTORS => w.array(&sa.selectors, selector),
        keys::sa::EXTENDED_SEQUENCE => w.boolean(sa.extended_sequence),
        keys::sa::REPLAY_WINDOW => w.unsigned(sa.replay_window.into()),
        keys::sa::DSCP => w.optional(match sa.dscp {
            DscpPolicy::Copy => None,
            DscpPolicy::Set(value) => Some(value.into()),
        }),
        keys::sa::DF => w.unsigned(match sa.df {
            DfPolicy::Copy => 0,
            DfPolicy::Set => 1,
            DfPolicy::Clear => 2,
        }),
        keys::sa::PATH_MTU => w.unsigned(sa.path_mtu.into()),
        keys::sa::SENDERS => w.array(&sa.senders, sender),
        keys::sa::COUNTERS => counters(w, &context.counters, &context.unknown_counters),
        keys::sa::MODE => w.unsigned(u64::from(sa.mode == Mode::Transport)),
        keys::sa::LIFETIME => lifetime(w, &sa.lifetime),
        keys::sa::ENCAPSULATION => encapsulation(w, sa.encapsulation),
        keys::sa::CLAMP_MSS => w.boolean(sa.clamp_mss),
        _ => w.unsigned(match sa.tfc_padding {
            TfcPadding::Off => 0,
            TfcPadding::To(octets) => octets.into(),
            TfcPadding::PathMtu => u16::MAX.into(),
        }),
    });
}

fn lifetime(w: &mut Writer, lifetime: &Lifetime) {
    w.array(&[lifetime.soft, lifetime.hard], |w, bounds| {
        let fields = [bounds.octets, bounds.packets, bounds.sequence, bounds.expires_at];
        w.array(&fields, |w, field| w.unsigned(*field));
    });
}

fn encapsulation(w: &mut Writer, encapsulation: Option<UdpEncapsulation>) {
    let fields = encapsulation
        .map(|udp| [udp.source_port, udp.destination_port, udp.follows_peer.into(), udp.keepalive_seconds])
        .map_or(Vec::new(), Vec::from);
    w.array(&fields, |w, field| w.unsigned((*field).into()));
}

fn counters(w: &mut Writer, counters: &Counters, unknown: &Unknown) {
    w.map(&range(keys::counters::COUNT), unknown, |w, key| match key {
        keys::counters::SEQUENCE => w.unsigned(counters.sequence),
        keys::counters::WINDOW_TOP => w.unsigned(counters.window.top),
        keys::counters::WINDOW => {
            let words = counters.window.words.iter();
            w.bytes(&words.flat_map(|word| word.to_be_bytes()).collect::<Vec<_>>());
        }
        keys::counters::PACKETS => w.unsigned(counters.packets),
        keys::counters::OCTETS => w.unsigned(counters.octets),
        keys::counters::REPLAY_DROPS => w.unsigned(counters.replay_drops),
        _ => w.unsigned(counters.integrity_failures),
    });
}

fn address(w: &mut Writer, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => w.bytes(&v4.octets()),
        IpAddr::V6(v6) => w.bytes(&v6.octets()),
    }
}

fn address_range(w: &mut Writer, range: &AddressRange) {
    w.array(&[range.start(), range.end()], |w, end| address(w, *end));
}

fn ports(w: &mut Writer, ports: &RangeInclusive<u16>) {
    w.array(&[*ports.start(), *ports.end()], |w, port| w.unsigned((*port).into()));
}

fn selector(w: &mut Writer, selector: &Selector) {
    let any_port = 0..=u16::MAX;
    let mut present = vec![keys::selector::LOCAL, keys::selector::REMOTE];
    present.extend(selector.protocol.map(|_| keys::selector::PROTOCOL));
    present.extend((selector.local_ports != any_port).then_some(keys::selector::LOCAL_PORTS));
    present.extend((selector.remote_ports != any_port).then_some(keys::selector::REMOTE_PORTS));
    w.map(&present, &Unknown::default(), |w, key| match key {
        keys::selector::LOCAL => address_range(w, &selector.local),
        keys::selector::REMOTE => address_range(w, &selector.remote),
        keys::selector::PROTOCOL => w.unsigned(selector.protocol.unwrap_or_default().into()),
        keys::selector::LOCAL_PORTS => ports(w, &selector.local_ports),
        _ => ports(w, &selector.remote_ports),
    });
}

fn policy(w: &mut Writer, policy: &Policy) {
    w.map(&range(keys::policy::COUNT), &policy.unknown, |w, key| match key {
        keys::policy::ACTION => w.unsigned(match policy.action {
            PolicyAction::Protect => 0,
            PolicyAction::Bypass => 1,
            PolicyAction::Discard => 2,
        }),
        keys::policy::REQID => w.unsigned(policy.reqid.into()),
        keys::policy::SEGMENT => w.unsigned(policy.segment.into()),
        _ => w.array(&policy.selectors, selector),
    });
}
