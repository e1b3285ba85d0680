//! Strangers who send IKE_SA_INIT requests: many, forged, with cookies that they were not given.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use baton_ike_proto::machine::Ike;
use baton_ike_proto::proposal::{IkeProposal, offer_ike};
use baton_ike_proto::wire::{
    self, Datagram, ExchangeType, Flags, Header, Notify, NotifyType, Payload, PayloadType,
};
use baton_ike_proto::{Command, Output, Path};

use crate::network::Faults;
use crate::node::Node;
use crate::random::Random;
use crate::setting::{Setting, connection_name, stranger};
use crate::world::World;
use crate::{agreement, script};

/// An IKE_SA_INIT request as anybody can make it.
struct Request {
    spi: u64,
    nonce: Vec<u8>,
    public: Vec<u8>,
}

impl Request {
    fn random(random: &mut Random) -> Self {
        let mut octets = |length| {
            let mut octets = vec![0; length];
            random.fill(&mut octets);
            octets
        };
        let (nonce, public) = (octets(32), octets(32));
        Self { spi: random.next() | 1, nonce, public }
    }

    fn write(&self, cookie: Option<&[u8]>) -> Vec<u8> {
        let proposals = IkeProposal::parse_list("aes128gcm16-prfsha256-x25519").unwrap();
        let cookie = cookie.map(|cookie| Payload::Notify(Notify::new(NotifyType::COOKIE, cookie.to_vec())));
        let payloads = [
            Payload::SecurityAssociation(offer_ike(&proposals, &[])),
            Payload::KeyExchange { group: 31, data: self.public.clone() },
            Payload::Nonce(self.nonce.clone()),
        ];
        let payloads: Vec<_> = cookie.into_iter().chain(payloads).collect();
        let flags = Flags { initiator: true, response: false };
        let exchange = ExchangeType::IKE_SA_INIT;
        wire::emit(
            &Header { initiator_spi: self.spi, responder_spi: 0, exchange, flags, message_id: 0 },
            &payloads,
        )
    }
}

/// What a responder made of a request.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// A real one.
    Response,
    /// One that is not for us.
    Sealed,
    Cookie(Vec<u8>),
    Silence,
}

/// A responder to which strangers speak.
struct Responder {
    world: World,
}

impl Responder {
    /// With a peer of its own, whose tunnel stands.
    fn new() -> Self {
        // Whose peers may be anywhere.
        let setting = Setting { nodes: 3, behind_nat: vec![false, true, true], ..Setting::plain() };
        let mut world = World::new(setting, Faults::NONE, Random::new(7));
        world.command(1, Command::Initiate { connection: connection_name(0), child: None }).unwrap();
        world.run_for(Duration::from_secs(1)).unwrap();
        assert_eq!(world.standing(0).len(), 1);
        Self { world }
    }

    fn ask(&mut self, from: IpAddr, request: &[u8]) -> Answer {
        let (local, remote) = (self.world.setting.address(0), SocketAddr::new(from, 500));
        let path = Path { local: SocketAddr::new(local, 500), remote, marked: false };
        let clock = self.world.nodes[0].clock(self.world.now);
        let Node { ike, host, .. } = &mut self.world.nodes[0];
        let ike = ike.as_mut().expect("nobody crashes here");
        ike.handle_datagram(clock, path, request, host);
        answer(ike)
    }

    fn half_open(&self) -> usize {
        self.world.nodes[0].ike.as_ref().map_or(0, Ike::half_open)
    }
}

fn answer(ike: &mut Ike) -> Answer {
    let mut answer = Answer::Silence;
    while let Some(output) = ike.poll() {
        if let Output::Transmit { datagram, .. } = output {
            answer = read(&datagram);
        }
    }
    answer
}

fn read(datagram: &[u8]) -> Answer {
    let payloads = match wire::parse(datagram) {
        Ok(Datagram::Plain(_, payloads)) => payloads,
        Ok(_) => return Answer::Sealed,
        Err(error) => panic!("an answer that nobody can read: {error}"),
    };
    let cookie = payloads.iter().find_map(|payload| match payload {
        Payload::Notify(notify) if notify.kind == NotifyType::COOKIE => Some(notify.data.clone()),
        _ => None,
    });
    let is_real = payloads.iter().any(|payload| matches!(payload, Payload::KeyExchange { .. }));
    assert!(is_real || cookie.is_some(), "refused: {payloads:?}");
    cookie.map_or(Answer::Response, Answer::Cookie)
}

/// Octets of memory that this process has in use.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4096
}

#[test]
fn a_flood_of_forged_requests_leaves_memory_flat_and_clients_served() {
    let (mut responder, mut random) = (Responder::new(), Random::new(1));
    let mut flood = |responder: &mut Responder, from: u32, to: u32| {
        for number in from..to {
            let request = Request::random(&mut random).write(None);
            responder.ask(stranger(number), &request);
        }
    };
    flood(&mut responder, 0, 10_000);
    let before = resident();
    flood(&mut responder, 10_000, 60_000);
    assert_eq!(responder.half_open(), 100);
    // In the midst of it a client comes, and the one that is there already rekeys.
    let peer = responder.world.standing(1)[0].name.as_str().to_owned();
    let target = baton_ike_proto::host::Target::Tunnel(peer);
    responder.world.command(1, Command::RekeyIke(target)).unwrap();
    responder.world.command(2, Command::Initiate { connection: connection_name(0), child: None }).unwrap();
    responder.world.run_for(Duration::from_secs(2)).unwrap();
    assert_eq!(responder.world.standing(0).len(), 2);
    assert_eq!(responder.world.nodes[0].ike.as_ref().unwrap().counters().ike_rekeyed, 1);
    flood(&mut responder, 60_000, 100_000);
    let grown = resident().saturating_sub(before);
    assert!(grown < 8 << 20, "memory grew by {grown} octets");
    script::settle(&mut responder.world).unwrap();
    agreement::check(&responder.world).unwrap();
    assert_eq!(responder.half_open(), 0);
}

#[test]
fn a_cookie_is_good_for_whoever_was_asked_for_it() {
    let (mut responder, mut random) = (Responder::new(), Random::new(2));
    for number in 0..100 {
        let request = Request::random(&mut random);
        assert_eq!(responder.ask(stranger(number), &request.write(None)), Answer::Response);
    }
    let request = Request::random(&mut random);
    let Answer::Cookie(cookie) = responder.ask(stranger(1000), &request.write(None)) else {
        panic!("no cookie")
    };
    let with_cookie = request.write(Some(&cookie));
    assert!(matches!(responder.ask(stranger(1001), &with_cookie), Answer::Cookie(_)));
    let other = Request { spi: 7, ..Request::random(&mut random) }.write(Some(&cookie));
    assert!(matches!(responder.ask(stranger(1000), &other), Answer::Cookie(_)));
    assert_eq!(responder.half_open(), 100);
    assert_eq!(responder.ask(stranger(1000), &with_cookie), Answer::Response);
    assert_eq!(responder.half_open(), 101);
    // The same again is a repetition, and is answered as one.
    assert_eq!(responder.ask(stranger(1000), &with_cookie), Answer::Response);
    assert_eq!(responder.half_open(), 101);
}

#[test]
fn one_source_takes_its_share_and_no_more() {
    let (mut responder, mut random) = (Responder::new(), Random::new(3));
    let mut opened = 0;
    for _ in 0..1000 {
        let request = Request::random(&mut random);
        let mut answer = responder.ask(stranger(1), &request.write(None));
        if let Answer::Cookie(cookie) = &answer {
            answer = responder.ask(stranger(1), &request.write(Some(cookie)));
        }
        opened += usize::from(answer == Answer::Response);
    }
    // Fifty without and fifty with a cookie.
    assert_eq!((opened, responder.half_open()), (100, 100));
    responder.world.command(2, Command::Initiate { connection: connection_name(0), child: None }).unwrap();
    responder.world.run_for(Duration::from_secs(2)).unwrap();
    assert_eq!(responder.world.standing(0).len(), 2);
    responder.world.run_for(Duration::from_mins(1)).unwrap();
    assert_eq!(responder.half_open(), 0);
}

#[test]
fn an_answer_is_repeated_for_the_peer_and_for_nobody_else() {
    let mut responder = Responder::new();
    let view = responder.world.standing(0).remove(0);
    let (initiator_spi, responder_spi) = view.spis;
    let flags = Flags { initiator: true, response: false };
    let exchange = ExchangeType::IKE_AUTH;
    let header = Header { initiator_spi, responder_spi, exchange, flags, message_id: 1 };
    let mut forged = wire::emit_encrypted_head(&header, PayloadType(35), 64);
    forged.extend_from_slice(&[7; 64]);
    assert_eq!(responder.ask(stranger(1), &forged), Answer::Silence);
    // What the peer itself sent is answered again, from wherever it comes (RFC 7296 section 2.11).
    let recorded = responder.world.network.recorded();
    let is_request = |octets: &&Vec<u8>| match wire::parse(octets) {
        Ok(Datagram::Encrypted(sealed)) => sealed.header == header,
        _ => false,
    };
    let request = recorded.iter().find(is_request).expect("the peer's IKE_AUTH request").clone();
    assert_eq!(responder.ask(stranger(1), &request), Answer::Sealed);
}
