//! A tunnel that has every extension at once, as it goes on elsewhere.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use super::pair::{LEFT, Packet, Pair, RIGHT, configuration, connection};
use crate::auth::{Credentials, CredentialsBuilder};
use crate::configuration::{
    AddressMatch, AllowedGateway, Connection, EapMethod, EapUser, LocalMethod, Mobike, Moving,
    PostquantumKey, RemoteMethod,
};
use crate::host::{Command, Event, Target};
use crate::identity::Identity;
use crate::machine::{Restoring, TunnelView};

const MOVED: &str = "198.51.100.9";
const OTHER: &str = "192.0.2.3";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

fn target() -> Target {
    Target::Connection("net".to_owned())
}

/// Left is a user with a postquantum key and two addresses, who goes where it is sent; right asks for all that.
fn ends(is_left: bool) -> Connection {
    let mut own = connection(is_left);
    own.mobike = Some(Mobike::default());
    own.local_addresses = if is_left { vec![ip(LEFT), ip(MOVED)] } else { Vec::new() };
    own.ppk = PostquantumKey { identity: is_left.then(|| id("key.example")), is_required: true };
    if is_left {
        let addresses = AddressMatch { first: ip(OTHER), last: ip(OTHER) };
        own.moving =
            Moving { follow_redirects: vec![AllowedGateway { name: None, addresses }], ..Moving::default() };
        own.local.method = LocalMethod::Eap(EapUser {
            method: EapMethod::MsChapV2,
            identity: Some(id("carol")),
            certificates: vec![],
            server: None,
        });
    } else {
        own.remote_addresses = Vec::new();
        own.remote.method = RemoteMethod::Eap(EapMethod::MsChapV2);
        own.remote.identity = Identity::Any;
        own.remote.eap_identity = Some(Identity::Any);
        own.moving.redirect_timeout = Duration::from_hours(1);
    }
    own
}

fn credentials() -> Arc<Credentials> {
    let mut builder = CredentialsBuilder::default();
    let secret = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
    builder.add_shared_secret("ike", Vec::new(), secret("secret")).unwrap();
    builder.add_password("eap", vec![id("carol")], secret("carol's")).unwrap();
    builder
        .add_postquantum_key("ppk", vec![id("key.example")], secret("thirty-two octets of no meaning."))
        .unwrap();
    Arc::new(builder.build())
}

fn up() -> Pair {
    let mut pair =
        Pair::with(configuration(ends(true)), configuration(ends(false)), credentials(), credentials());
    pair.left.host.addresses = vec![ip(LEFT), ip(MOVED)];
    pair.right.host.addresses = vec![ip(RIGHT)];
    pair.initiate();
    pair.assert_up(1);
    pair
}

/// Another process, or gateway, in the place of one end.
fn replace(pair: &mut Pair, is_left: bool, how: Restoring) {
    pair.replace(is_left, how, configuration(ends(is_left)), credentials());
}

fn view(pair: &Pair, is_left: bool) -> TunnelView {
    let side = if is_left { &pair.left } else { &pair.right };
    side.established(pair.now()).remove(0)
}

/// What was agreed.
fn nature(pair: &Pair, is_left: bool) -> impl PartialEq + std::fmt::Debug + use<> {
    let view = view(pair, is_left);
    let mobility = view.mobility.expect("RFC 4555");
    (view.user, view.ppk, view.extensions, mobility.leads, mobility.additional, view.virtual_addresses)
}

fn is_towards_other(packet: &Packet) -> bool {
    packet.to_right && packet.path.local.ip() == ip(OTHER)
}

#[test]
fn it_goes_on_elsewhere_with_all_of_it() {
    for how in [Restoring::Restart, Restoring::Move] {
        for is_left in [true, false] {
            let mut pair = up();
            let agreed = (nature(&pair, true), nature(&pair, false));
            let seen = view(&pair, false);
            assert_eq!((seen.user, seen.ppk), (Some(id("carol")), Some(id("key.example"))));
            assert_eq!(seen.mobility.unwrap().additional, [ip(MOVED)]);
            replace(&mut pair, is_left, how);
            assert_eq!((nature(&pair, true), nature(&pair, false)), agreed);
            for by_left in [true, false] {
                for command in [Command::RekeyIke(target()), Command::RekeyChild(target())] {
                    let now = pair.now();
                    let side = if by_left { &mut pair.left } else { &mut pair.right };
                    side.command(now, command).unwrap();
                    pair.run();
                    pair.pass(Duration::from_secs(20));
                }
            }
            assert_eq!((nature(&pair, true), nature(&pair, false)), agreed);
            // The other address is one at which the peer was told to look.
            (pair.left.host.source, pair.left.host.addresses) = (ip(MOVED), vec![ip(MOVED)]);
            pair.left.command(pair.now(), Command::AddressesChanged).unwrap();
            pair.run();
            assert_eq!(view(&pair, false).path.remote.ip(), ip(MOVED));
            pair.assert_up(1);
        }
    }
}

/// The gateway that was to send its peer elsewhere is replaced before the peer has heard of it, and the peer while it
/// follows.
#[test]
fn a_pending_redirect_goes_on_elsewhere() {
    for how in [Restoring::Restart, Restoring::Move] {
        let mut pair = up();
        let agreed = (nature(&pair, true), nature(&pair, false));
        let (now, gateway) = (pair.now(), OTHER.parse().unwrap());
        assert_eq!(pair.right.command(now, Command::Redirect { target: None, gateway }), Ok(1));
        let lost = pair.take_packets();
        replace(&mut pair, false, how);
        pair.right.timeout(pair.now());
        let again = pair.take_packets();
        assert_eq!(again[0].octets, lost[0].octets, "octet for octet");
        pair.deliver(&again[0]);
        assert_eq!(pair.left.ike.counters().redirects_followed, 1);
        let towards = |packets: &[Packet]| packets.iter().filter(|packet| is_towards_other(packet)).count();
        pair.run_through(|packet| !is_towards_other(packet));
        replace(&mut pair, true, how);
        assert!(towards(&pair.take_packets()) > 0, "it goes there still");
        // Nobody is there: the tunnel stays, with all of it.
        pair.pass_through(Duration::from_mins(5), |packet| !is_towards_other(packet));
        assert_eq!(pair.left.established(pair.now()).len(), 1);
        assert_eq!((nature(&pair, true), nature(&pair, false)), agreed);
        let name = view(&pair, true).name;
        let ended = |event: &Event| matches!(event, Event::IkeDown { tunnel, .. } if *tunnel == name);
        assert!(!pair.left.events.iter().any(ended));
    }
}
