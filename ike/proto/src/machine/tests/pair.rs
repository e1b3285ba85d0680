//! Two ends, the network between them, and a clock that runs when it is told.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::side::Side;
use crate::auth::{Credentials, CredentialsBuilder};
use crate::configuration::{
    AddressMatch, Child, Childless, Configuration, Connection, EndAction, Fragmentation, Handling,
    LocalAuthentication, LocalMethod, Mode, Moving, PostquantumKey, RemoteAuthentication, RemoteMethod,
    Revocation, SendCertificate, StartAction, Unique,
};
use crate::host::{Command, Now, Path};
use crate::identity::Identity;
use crate::machine::Restoring;

pub(super) const LEFT: &str = "192.0.2.1";
pub(super) const RIGHT: &str = "192.0.2.2";

/// A datagram on its way.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) to_right: bool,
    pub(super) path: Path,
    pub(super) octets: Vec<u8>,
}

/// Two ends.
pub(super) struct Pair {
    pub(super) now: Duration,
    pub(super) left: Side,
    pub(super) right: Side,
    /// What left is seen as by right, if a NAT stands before it.
    pub(super) nat: Option<SocketAddr>,
}

impl Pair {
    pub(super) fn new(left: Connection, right: Connection) -> Self {
        Self::with(configuration(left), configuration(right), secrets("secret"), secrets("secret"))
    }

    /// Another process, or gateway, in the place of one end: its table and addresses stay, its contexts are restored.
    pub(super) fn replace(
        &mut self,
        is_left: bool,
        how: Restoring,
        configuration: Configuration,
        credentials: Arc<Credentials>,
    ) {
        let now = self.now();
        let side = if is_left { &mut self.left } else { &mut self.right };
        let address = if is_left { LEFT } else { RIGHT };
        let mut new = Side::new(side.host.segment.into(), address, configuration, credentials);
        (new.host.source, new.host.addresses) = (side.host.source, side.host.addresses.clone());
        new.host.advance(1 << 20);
        for context in side.contexts.values() {
            new.ike.restore(now, context, how, &mut new.host).unwrap();
        }
        (new.inbound, new.outbound) = (std::mem::take(&mut side.inbound), std::mem::take(&mut side.outbound));
        new.drain();
        *side = new;
    }

    pub(super) fn with(
        left: Configuration,
        right: Configuration,
        left_credentials: Arc<Credentials>,
        right_credentials: Arc<Credentials>,
    ) -> Self {
        let left = Side::new(1, LEFT, left, left_credentials);
        let right = Side::new(2, RIGHT, right, right_credentials);
        Self { now: Duration::from_secs(1000), left, right, nat: None }
    }

    /// Two ends with one connection each that fit each other.
    pub(super) fn plain() -> Self {
        Self::new(connection(true), connection(false))
    }

    /// The same with a tunnel.
    pub(super) fn up() -> Self {
        let mut pair = Self::plain();
        pair.initiate();
        pair.assert_up(1);
        pair
    }

    pub(super) fn now(&self) -> Now {
        Now { monotonic: self.now, unix: Duration::from_secs(2_000_000_000) + self.now }
    }

    pub(super) fn initiate(&mut self) {
        let command = Command::Initiate { connection: "net".to_owned(), child: None };
        self.left.command(self.now(), command).unwrap();
        self.run();
    }

    /// Delivers everything until nothing is on its way.
    pub(super) fn run(&mut self) {
        self.run_through(|_| true);
    }

    /// Delivers what `lets` lets through, until nothing is on its way.
    pub(super) fn run_through(&mut self, mut lets: impl FnMut(&Packet) -> bool) {
        for _ in 0..1000 {
            let packets = self.take_packets();
            if packets.is_empty() {
                return;
            }
            for packet in packets {
                if lets(&packet) {
                    self.deliver(&packet);
                }
            }
        }
        panic!("the ends do not come to rest");
    }

    /// Delivers one datagram; whether there was one.
    pub(super) fn take_one(&mut self) -> bool {
        let packets = self.take_packets();
        let Some((first, rest)) = packets.split_first() else { return false };
        self.deliver(first);
        let new = self.take_packets();
        for packet in rest.iter().chain(&new) {
            let side = if packet.to_right { &mut self.left } else { &mut self.right };
            let back = Path { local: packet.path.remote, remote: packet.path.local, ..packet.path };
            side.sent.push_back((back, packet.octets.clone()));
        }
        true
    }

    /// What was sent, as it arrives.
    pub(super) fn take_packets(&mut self) -> Vec<Packet> {
        let nat = self.nat;
        let from_left = self.left.sent.drain(..).map(|(path, octets)| {
            let remote = nat.map_or(path.local, |nat| {
                SocketAddr::new(nat.ip(), if path.marked { nat.port() } else { 500 })
            });
            Packet { to_right: true, path: Path { local: path.remote, remote, marked: path.marked }, octets }
        });
        let addresses = self.left.host.addresses.clone();
        let from_right = self.right.sent.drain(..).filter_map(|(path, octets)| {
            let ours = |ip| addresses.is_empty() || addresses.contains(&ip);
            let is_right_place = nat.map_or(ours(path.remote.ip()), |nat| nat.ip() == path.remote.ip());
            let port = if path.marked { 4500 } else { 500 };
            let behind = addresses.first().copied().unwrap_or(LEFT.parse().unwrap());
            let is_told = nat.is_none() && !addresses.is_empty();
            let local = if is_told { path.remote } else { SocketAddr::new(behind, port) };
            let path = Path { local, remote: path.local, marked: path.marked };
            is_right_place.then_some(Packet { to_right: false, path, octets })
        });
        from_left.collect::<Vec<_>>().into_iter().chain(from_right).collect()
    }

    pub(super) fn deliver(&mut self, packet: &Packet) {
        let now = self.now();
        let side = if packet.to_right { &mut self.right } else { &mut self.left };
        side.datagram(now, packet.path, &packet.octets);
    }

    /// Lets time pass, with all that is due in it.
    pub(super) fn pass(&mut self, time: Duration) {
        self.pass_through(time, |_| true);
    }

    /// The same with a network that loses some.
    pub(super) fn pass_through(&mut self, time: Duration, mut lets: impl FnMut(&Packet) -> bool) {
        let end = self.now + time;
        for _ in 0..100_000 {
            let due = [self.left.next_timeout(), self.right.next_timeout()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            let now = self.now();
            self.left.timeout(now);
            self.right.timeout(now);
            self.run_through(&mut lets);
        }
        panic!("timers never come to rest");
    }

    /// One tunnel with so many Child SAs at both ends, which agree about everything.
    #[track_caller]
    pub(super) fn assert_up(&self, children: usize) {
        let (left, right) = (self.left.established(self.now()), self.right.established(self.now()));
        assert_eq!((left.len(), right.len()), (1, 1), "{:?} {:?}", self.left.events, self.right.events);
        assert_eq!(left[0].spis, right[0].spis);
        assert_eq!(
            (left[0].children.len(), right[0].children.len()),
            (children, children),
            "{:?} {:?}",
            self.left.events,
            self.right.events
        );
        self.assert_same_sas();
    }

    /// What one end sends with the other receives with.
    #[track_caller]
    pub(super) fn assert_same_sas(&self) {
        for (from, to) in [(&self.left, &self.right), (&self.right, &self.left)] {
            for (spi, sa) in from.outbound.values() {
                let other = to.inbound.get(spi).unwrap_or_else(|| panic!("nobody receives {spi:#x}"));
                assert_eq!(other.key, sa.key);
            }
        }
    }
}

/// Configured so that all usual things are on.
pub(super) fn configuration(connection: Connection) -> Configuration {
    Configuration { connections: vec![Arc::new(connection)], ..Configuration::default() }
}

pub(super) fn secrets(secret: &str) -> Arc<Credentials> {
    let mut builder = CredentialsBuilder::default();
    builder.add_shared_secret("test", Vec::new(), Zeroizing::new(secret.as_bytes().to_vec())).unwrap();
    Arc::new(builder.build())
}

/// A child between 10.1.0.0/16 on the left and 10.2.0.0/16 on the right.
pub(super) fn child(is_left: bool) -> Child {
    let (left, right) = ("10.1.0.0/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap());
    let (local, remote) = if is_left { (left, right) } else { (right, left) };
    Child {
        name: "net".to_owned(),
        esp_proposals: vec!["aes128gcm16-x25519".parse().unwrap()],
        local: vec![local],
        remote: vec![remote],
        mode: Mode::Tunnel,
        rekey_time: Duration::from_hours(1),
        life_time: Duration::from_mins(66),
        rand_time: Duration::from_mins(6),
        rekey_bytes: 0,
        life_bytes: 0,
        rekey_packets: 0,
        life_packets: 0,
        start_action: StartAction::None,
        close_action: EndAction::None,
        dpd_action: EndAction::None,
        replay_window: 64,
        priority: None,
        handling: Handling::default(),
    }
}

/// The connection between both, as one end has it.
pub(super) fn connection(is_left: bool) -> Connection {
    let (ours, theirs) = if is_left { (LEFT, RIGHT) } else { (RIGHT, LEFT) };
    let (our_name, their_name) =
        if is_left { ("left.test", "right.test") } else { ("right.test", "left.test") };
    let address = theirs.parse().unwrap();
    Connection {
        name: "net".to_owned(),
        local_addresses: vec![ours.parse().unwrap()],
        remote_addresses: if is_left {
            vec![AddressMatch { first: address, last: address }]
        } else {
            Vec::new()
        },
        local_port: 500,
        remote_port: 500,
        ike_proposals: vec!["aes128gcm16-prfsha256-x25519".parse().unwrap()],
        local: LocalAuthentication {
            method: LocalMethod::PreSharedKey,
            identity: Identity::Fqdn(our_name.to_owned()),
        },
        remote: RemoteAuthentication {
            method: RemoteMethod::PreSharedKey,
            identity: Identity::Fqdn(their_name.to_owned()),
            authorities: Vec::new(),
            certificates: Vec::new(),
            revocation: Revocation::Relaxed,
            eap_identity: None,
        },
        children: vec![Arc::new(child(is_left))],
        pools: Vec::new(),
        virtual_addresses: Vec::new(),
        fragmentation: Fragmentation::Yes,
        fragment_size: 1280,
        force_encapsulation: false,
        send_certificate: SendCertificate::IfAsked,
        send_certificate_request: true,
        unique: Unique::No,
        dpd_delay: Duration::ZERO,
        rekey_time: Duration::from_hours(4),
        rand_time: Duration::from_mins(24),
        over_time: Duration::from_mins(24),
        keying_tries: 1,
        fails_closed: true,
        ppk: PostquantumKey::default(),
        childless: Childless::Allow,
        mobike: None,
        window: 1,
        moving: Moving::default(),
    }
}
