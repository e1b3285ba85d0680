//! What a user does to its authenticator, and an authenticator to its user: EAP packets, and what methods carry.
//!
//! The first octet chooses: its lowest bit who is attacked, the next one the method, the one after that whether a
//! packet is sealed by the attacker, or its type and identifier are made right and the rest is the method's, and the
//! fourth whether a user is asked who it is. Then come the packets, each after its length in two octets.
#![no_main]

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use baton_ike_proto::auth::{Credentials, CredentialsBuilder};
use baton_ike_proto::configuration::{EapMethod, EapUser, RemoteAuthentication, RemoteMethod, Revocation};
use baton_ike_proto::eap::{Code, Means, Packet, Peer, Reply, Server, Turn, Type};
use baton_ike_proto::identity::Identity;
use libfuzzer_sys::fuzz_target;

const ROOT: &[u8] = include_bytes!("../../ike/proto/testdata/pki/root.pem");
const MOON: &[u8] = include_bytes!("../../ike/proto/testdata/pki/moon.pem");
const MOON_KEY: &[u8] = include_bytes!("../../ike/proto/testdata/pki/moon.key.pem");
const NAME: &str = "moon.example.org";
/// More than a conversation in IKE has.
const MAX_PACKETS: usize = 80;

static CREDENTIALS: LazyLock<Arc<Credentials>> = LazyLock::new(|| {
    let mut builder = CredentialsBuilder::default();
    builder.add_authority("root", ROOT).expect("an authority");
    builder.add_certificate("moon", MOON).expect("a certificate");
    builder.add_private_key("moon", MOON_KEY).expect("a key");
    builder.add_password("eap", vec![moon()], b"secret".to_vec().into()).expect("a password");
    Arc::new(builder.build())
});

fn moon() -> Identity {
    Identity::Fqdn(NAME.to_owned())
}

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    let method = if choice & 2 == 0 { EapMethod::MsChapV2 } else { EapMethod::Tls };
    let packets = packets(rest);
    let random = &mut |octets: &mut [u8]| octets.fill(9);
    let unix = Duration::from_secs(2_000_000_000);
    let mut means = Means { credentials: &CREDENTIALS, random, unix };
    let is_helped = choice & 4 != 0;
    let user = (choice & 8 != 0).then_some(Identity::Any);
    if choice & 1 == 0 {
        attack_server(&mut means, (method, user), &packets, is_helped);
    } else {
        attack_peer(&mut means, method, &packets, is_helped);
    }
});

fn packets(mut octets: &[u8]) -> Vec<&[u8]> {
    let mut packets = Vec::new();
    while let Some((length, rest)) = octets.split_first_chunk::<2>() {
        let (packet, rest) = rest.split_at(rest.len().min(usize::from(u16::from_be_bytes(*length))));
        packets.push(packet);
        octets = rest;
        if packets.len() == MAX_PACKETS {
            break;
        }
    }
    packets
}

fn remote(method: EapMethod) -> RemoteAuthentication {
    RemoteAuthentication {
        method: RemoteMethod::Eap(method),
        identity: Identity::Any,
        authorities: vec![],
        certificates: vec![],
        revocation: Revocation::Relaxed,
        eap_identity: None,
    }
}

fn kind(method: EapMethod) -> Type {
    match method {
        EapMethod::MsChapV2 => Type::MSCHAPV2,
        EapMethod::Tls => Type::TLS,
    }
}

/// Nobody comes in without the password or the key.
fn attack_server(
    means: &mut Means,
    (method, user): (EapMethod, Option<Identity>),
    packets: &[&[u8]],
    is_helped: bool,
) {
    let local = (moon(), &[][..]);
    let remote = RemoteAuthentication { eap_identity: user, ..remote(method) };
    let (mut server, mut request) =
        Server::begin(means, method, local, remote, moon()).expect("a certificate");
    for data in packets {
        let identifier = Packet::parse(&request).expect("ours").identifier;
        let content = Some((kind(method), *data));
        let made = Packet { code: Code::Response, identifier, content }.emit();
        let turn = server.handle(means, if is_helped { &made } else { data });
        assert!(!server.given_up().is_empty());
        match turn {
            Turn::Ask(next) | Turn::AskLater(next) => request = next,
            Turn::Success { .. } => panic!("somebody came in"),
            Turn::Failure { packet, problem } => {
                assert_eq!(Packet::parse(&packet).expect("ours").code, Code::Failure);
                assert!(!problem.is_empty());
                return;
            }
        }
    }
}

/// Nobody is believed without having proved itself.
fn attack_peer(means: &mut Means, method: EapMethod, packets: &[&[u8]], is_helped: bool) {
    let user = EapUser { method, identity: None, certificates: vec![], server: None };
    let mut peer = Peer::new(user, &moon(), moon(), remote(method));
    for (identifier, data) in packets.iter().enumerate() {
        let (identifier, content) = (identifier as u8, Some((kind(method), *data)));
        let made = Packet { code: Code::Request, identifier, content }.emit();
        match peer.handle(means, if is_helped { &made } else { data }) {
            Reply::Answer(answer) => {
                assert_eq!(Packet::parse(&answer).expect("ours").code, Code::Response);
            }
            Reply::Success(_) => panic!("somebody was believed"),
            Reply::Failure(problem) | Reply::Refusal(problem) => {
                assert!(!problem.is_empty());
                return;
            }
        }
    }
}
