//! Messages of others, with the keys that they were sealed with.

use std::collections::HashMap;

use super::super::{
    AdditionalMethods, ChildKeys, Encryption, Group, IkeKeys, IkeSuite, Integrity, KeyMaterial, Prf, Role,
    Shared,
};
use super::{lines, octets};
use crate::proposal::{EspProposal, EspSuite, IkeProposal, accept_esp, accept_ike};
use crate::wire::{
    self, Datagram, Encrypted, ExchangeType, Header, Payload, PayloadType, Proposal, ProtocolId,
};

const SECRET: &[u8] = b"a secret of both";

/// Octets, of which "-" has none.
fn maybe(text: &str) -> Vec<u8> {
    if text == "-" { Vec::new() } else { octets(text) }
}

fn sender(header: &Header) -> Role {
    if header.flags.initiator { Role::Initiator } else { Role::Responder }
}

/// Who sent the request that this message is or answers.
fn is_from_asker(header: &Header) -> bool {
    !header.flags.response
}

fn nonce(payloads: &[Payload]) -> Vec<u8> {
    let find = |payload: &Payload| match payload {
        Payload::Nonce(nonce) => Some(nonce.clone()),
        _ => None,
    };
    payloads.iter().find_map(find).unwrap_or_default()
}

fn proposals(payloads: &[Payload]) -> Option<Vec<Proposal>> {
    payloads.iter().find_map(|payload| match payload {
        Payload::SecurityAssociation(proposals) => Some(proposals.clone()),
        _ => None,
    })
}

/// One session of strongSwan with itself, followed as a third who knows the shared secrets.
struct Session {
    ike: Vec<IkeProposal>,
    esp: Vec<EspProposal>,
    /// By SPIs.
    keys: HashMap<(u64, u64), IkeKeys>,
    /// The logged keys that are still to be met.
    ike_keys: Vec<Vec<Vec<u8>>>,
    child_keys: Vec<Vec<Vec<u8>>>,
    /// The first messages, the requester's and then the other's, and their nonces.
    first: Vec<Vec<u8>>,
    first_nonces: Vec<Vec<u8>>,
    /// The last request that was open.
    asked: Vec<Payload>,
    fragments: Vec<u8>,
    /// The type of the first payload of the fragments.
    fragmented: PayloadType,
    counts: Counts,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    plain: usize,
    sealed: usize,
    fragments: usize,
    proofs: usize,
    ike_sas: usize,
    child_sas: usize,
}

impl Session {
    fn new(lines: &[Vec<&str>]) -> Self {
        let logged = |kind: &str| -> Vec<Vec<Vec<u8>>> {
            let mut all: Vec<_> = lines.iter().filter(|line| line[0] == kind).collect();
            all.reverse();
            all.iter().map(|line| line[1..].iter().map(|text| maybe(text)).collect()).collect()
        };
        Self {
            ike: IkeProposal::parse_list(lines[0][2]).unwrap(),
            esp: EspProposal::parse_list(lines[0][3]).unwrap(),
            ike_keys: logged("ike"),
            child_keys: logged("child"),
            keys: HashMap::new(),
            first: Vec::new(),
            first_nonces: Vec::new(),
            asked: Vec::new(),
            fragments: Vec::new(),
            fragmented: PayloadType::NO_NEXT_PAYLOAD,
            counts: Counts::default(),
        }
    }

    fn follow(mut self, messages: &[Vec<&str>]) -> Counts {
        for message in messages {
            let datagram = octets(message[1]);
            match wire::parse(&datagram).unwrap() {
                Datagram::Plain(header, payloads) => self.plain(&header, &payloads, &datagram),
                Datagram::Encrypted(sealed) => {
                    let chain = self.open(&sealed);
                    self.sealed(&sealed.header, sealed.first, &chain);
                }
                Datagram::Fragment(part) => self.fragment(&part),
            }
        }
        assert!(self.ike_keys.is_empty() && self.child_keys.is_empty(), "all logged keys were met");
        self.counts
    }

    fn open(&self, sealed: &Encrypted) -> Vec<u8> {
        let header = &sealed.header;
        let keys = &self.keys[&(header.initiator_spi, header.responder_spi)];
        assert!(keys.open(sender(header).peer(), sealed).is_err(), "not with the other direction's keys");
        keys.open(sender(header), sealed).expect("authentic").to_vec()
    }

    fn fragment(&mut self, part: &wire::Fragment) {
        self.counts.fragments += 1;
        let opened = self.open(&part.sealed);
        if part.number == 1 {
            self.fragmented = part.sealed.first;
        }
        self.fragments.extend_from_slice(&opened);
        if part.number == part.total {
            let chain = std::mem::take(&mut self.fragments);
            self.sealed(&part.sealed.header, self.fragmented, &chain);
        }
    }

    /// IKE_SA_INIT.
    fn plain(&mut self, header: &Header, payloads: &[Payload], datagram: &[u8]) {
        self.counts.plain += 1;
        self.first.push(datagram.to_vec());
        self.first_nonces.push(nonce(payloads));
        if header.flags.response {
            let suite = accept_ike(&self.ike, &proposals(payloads).unwrap()).unwrap();
            let logged = self.ike_keys.pop().unwrap();
            let [ours, theirs] = &self.first_nonces[..] else { panic!("two nonces") };
            let (spi_i, spi_r) = (header.initiator_spi, header.responder_spi);
            let keys = IkeKeys::derive(suite, ours, theirs, &Shared::for_test(&logged[0]), spi_i, spi_r);
            self.stands((spi_i, spi_r), keys, &logged);
        }
    }

    fn stands(&mut self, spis: (u64, u64), keys: IkeKeys, logged: &[Vec<u8>]) {
        assert_eq!(keys.material(), logged[2..].concat(), "{}", keys.suite());
        self.keys.insert(spis, keys);
        self.counts.ike_sas += 1;
    }

    fn sealed(&mut self, header: &Header, first: PayloadType, chain: &[u8]) {
        self.counts.sealed += 1;
        let payloads = wire::parse_chain(first, chain).expect("a chain");
        assert_eq!(wire::emit_chain(&payloads), (first, chain.to_vec()), "written as strongSwan wrote it");
        if header.exchange == ExchangeType::IKE_AUTH {
            self.check_proof(header, &payloads);
        }
        if is_from_asker(header) {
            self.asked = payloads;
        } else if let Some(answer) = proposals(&payloads) {
            self.created(header, &answer, &payloads);
        }
    }

    fn check_proof(&mut self, header: &Header, payloads: &[Payload]) {
        let side = sender(header);
        let (own, other) = if side == Role::Initiator { (0, 1) } else { (1, 0) };
        let id = payloads.iter().find_map(|payload| match (payload, side) {
            (Payload::IdentificationInitiator(id), Role::Initiator)
            | (Payload::IdentificationResponder(id), Role::Responder) => Some(id.body()),
            _ => None,
        });
        let proof = payloads.iter().find_map(|payload| match payload {
            Payload::Authentication { data, .. } => Some(data),
            _ => None,
        });
        let keys = &self.keys[&(header.initiator_spi, header.responder_spi)];
        let octets = keys.auth_octets(side, &self.first[own], &self.first_nonces[other], &id.unwrap());
        assert!(keys.verify_psk_auth(&octets, SECRET, proof.unwrap()));
        self.counts.proofs += 1;
    }

    /// The answer to IKE_AUTH or CREATE_CHILD_SA.
    fn created(&mut self, header: &Header, answer: &[Proposal], payloads: &[Payload]) {
        let nonces = if header.exchange == ExchangeType::IKE_AUTH {
            self.first_nonces.clone()
        } else {
            vec![nonce(&self.asked), nonce(payloads)]
        };
        let old = (header.initiator_spi, header.responder_spi);
        if answer[0].protocol == ProtocolId::IKE {
            self.rekeyed(old, answer, &nonces);
        } else {
            let with_group = header.exchange == ExchangeType::CREATE_CHILD_SA;
            let suite = accept_esp(&self.esp, answer, with_group).unwrap();
            self.child(old, suite, &nonces);
        }
    }

    fn rekeyed(&mut self, old: (u64, u64), answer: &[Proposal], nonces: &[Vec<u8>]) {
        let suite = accept_ike(&self.ike, answer).unwrap();
        let logged = self.ike_keys.pop().unwrap();
        let spi =
            |proposals: &[Proposal]| u64::from_be_bytes(proposals[0].spi.as_slice().try_into().unwrap());
        let spis = (spi(&proposals(&self.asked).unwrap()), spi(answer));
        let shared = Shared::for_test(&logged[0]);
        let keys = self.keys[&old].rekey(suite, &shared, &nonces[0], &nonces[1], spis.0, spis.1);
        self.stands(spis, keys, &logged);
    }

    fn child(&mut self, spis: (u64, u64), suite: EspSuite, nonces: &[Vec<u8>]) {
        let logged = self.child_keys.pop().unwrap();
        let shared = suite.group.map(|_| Shared::for_test(&logged[0]));
        assert_eq!(shared.is_none(), logged[0].is_empty());
        let keys = self.keys[&spis].child_keys(&suite, &nonces[0], &nonces[1], shared.as_ref());
        let ChildKeys { initiator_to_responder, responder_to_initiator } = &keys;
        let is =
            |keys: &KeyMaterial, logged: &[Vec<u8>]| assert_eq!(keys.expose(), logged.concat(), "{suite}");
        is(initiator_to_responder, &logged[1..3]);
        is(responder_to_initiator, &logged[3..5]);
        self.counts.child_sas += 1;
    }
}

/// The lines of each session.
fn sessions(file: &'static str) -> Vec<Vec<Vec<&'static str>>> {
    let mut sessions: Vec<Vec<Vec<&str>>> = Vec::new();
    for line in lines(file) {
        if line[0] == "session" {
            sessions.push(Vec::new());
        }
        sessions.last_mut().unwrap().push(line);
    }
    sessions
}

#[test]
fn strongswans_sessions_can_be_followed() {
    let mut sum = Counts::default();
    for lines in sessions(include_str!("../../../tests/data/strongswan-sessions.txt")) {
        let messages: Vec<_> = lines.iter().filter(|line| line[0] == "message").cloned().collect();
        let counts = Session::new(&lines).follow(&messages);
        assert_eq!(
            (counts.plain, counts.proofs, counts.ike_sas, counts.child_sas),
            (2, 2, 2, 2),
            "{}",
            lines[0][1]
        );
        sum.sealed += counts.sealed;
        sum.fragments += counts.fragments;
        sum.child_sas += counts.child_sas;
    }
    assert_eq!(sum, Counts { sealed: 74, fragments: 12, child_sas: 12, ..Counts::default() });
}

/// Keys of which only those of messages are known.
fn message_keys(line: &[&str]) -> IkeKeys {
    let words: Vec<&str> = line[1].split('-').collect();
    let encryption = Encryption::ALL.into_iter().find(|a| a.keyword() == words[0]).unwrap();
    let integrity =
        words.get(1).map(|word| Integrity::ALL.into_iter().find(|a| a.keyword() == *word).unwrap());
    let suite = IkeSuite {
        encryption,
        integrity,
        prf: Prf::HmacSha2_256,
        group: Group::Modp2048,
        additional: AdditionalMethods::default(),
    };
    let [ei, er, ai, ar] = [2, 3, 4, 5].map(|place: usize| maybe(line[place]));
    let material = [vec![0; 32], ai, ar, ei, er, vec![0; 64]].concat();
    IkeKeys::from_material(suite, material.into()).unwrap()
}

#[test]
fn wiresharks_captures_are_opened() {
    let (mut opened, mut found) = (0, 0);
    for lines in sessions(include_str!("../../../tests/data/wireshark-ikev2.txt")) {
        let (keys, wanted) = (message_keys(&lines[0]), octets(lines[0][6]));
        for line in &lines[1..] {
            let datagram = octets(line[1]);
            let Ok(Datagram::Encrypted(sealed)) = wire::parse(&datagram) else {
                panic!("an Encrypted payload")
            };
            let chain = keys.open(sender(&sealed.header), &sealed).expect("authentic");
            let payloads = wire::parse_chain(sealed.first, &chain).unwrap();
            assert_eq!(wire::emit_chain(&payloads).1, *chain);
            found += usize::from(chain.windows(wanted.len()).any(|window| window == wanted));
            opened += 1;
        }
    }
    assert_eq!((opened, found), (6, 2));
}
