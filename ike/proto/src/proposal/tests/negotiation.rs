use proptest::prelude::*;

use super::super::{
    AnswerError, EspProposal, IkeProposal, accept_esp, accept_ike, offer_esp, offer_ike, select_esp,
    select_ike,
};
use crate::wire::{Proposal, ProtocolId, Transform, TransformType};

fn ike(text: &str) -> Vec<IkeProposal> {
    IkeProposal::parse_list(text).unwrap()
}

fn esp(text: &str) -> Vec<EspProposal> {
    EspProposal::parse_list(text).unwrap()
}

/// What the two agree on, checked by the initiator.
fn negotiate_ike(initiator: &str, responder: &str) -> Option<String> {
    let offer = offer_ike(&ike(initiator), &[]);
    let selected = select_ike(&ike(responder), &offer)?;
    assert_eq!(accept_ike(&ike(initiator), &[selected.proposal]), Ok(selected.suite));
    Some(selected.suite.to_string())
}

fn negotiate_esp(initiator: &str, responder: &str, with_group: bool) -> Option<String> {
    let offer = offer_esp(&esp(initiator), &[1, 2, 3, 4], with_group);
    let selected = select_esp(&esp(responder), &offer, with_group)?;
    assert_eq!(accept_esp(&esp(initiator), &[selected.proposal], with_group), Ok(selected.suite));
    Some(selected.suite.to_string())
}

#[test]
fn the_responders_preference_decides() {
    let agreed = [
        ("aes128-sha256-modp2048", "aes128-sha256-modp2048", "aes128-sha256-prfsha256-modp2048"),
        (
            "aes128-aes256-sha256-x25519-ecp256",
            "aes256-aes128-sha256-ecp256-x25519",
            "aes256-sha256-prfsha256-ecp256",
        ),
        (
            "aes128-sha256-x25519,aes128gcm16-prfsha256-x25519",
            "aes128gcm16-prfsha256-x25519,aes128-sha256-x25519",
            "aes128gcm16-prfsha256-x25519",
        ),
        ("default", "default", "aes128gcm16-prfsha256-x25519"),
        ("default", "aes256-sha384-ecp521", "aes256-sha384-prfsha384-ecp521"),
        (
            "chacha20poly1305-prfsha1-modp4096",
            "default,chacha20poly1305-prfsha1-modp4096",
            "chacha20poly1305-prfsha1-modp4096",
        ),
    ];
    for (initiator, responder, suite) in agreed {
        assert_eq!(negotiate_ike(initiator, responder).as_deref(), Some(suite), "{initiator} {responder}");
    }
}

#[test]
fn every_kind_has_to_match() {
    for responder in [
        "aes256-sha256-prfsha256-modp2048",
        "aes128-sha1-prfsha256-modp2048",
        "aes128-sha256-prfsha384-modp2048",
        "aes128-sha256-prfsha256-modp3072",
        "aes128gcm16-prfsha256-modp2048",
    ] {
        assert_eq!(negotiate_ike("aes128-sha256-modp2048", responder), None, "{responder}");
    }
}

#[test]
fn groups_of_child_sas_may_be_left_out_where_both_allow_it() {
    let agreed = [
        ("aes128gcm16", "aes128gcm16", Some("aes128gcm16")),
        ("aes128gcm16-x25519", "aes128gcm16-x25519", Some("aes128gcm16-x25519")),
        ("aes128gcm16-x25519", "aes128gcm16", None),
        ("aes128gcm16", "aes128gcm16-x25519", None),
        ("aes128gcm16-none-x25519", "aes128gcm16", Some("aes128gcm16")),
        ("aes128gcm16", "aes128gcm16-x25519-none", Some("aes128gcm16")),
        ("aes128gcm16-none-x25519", "aes128gcm16-x25519-none", Some("aes128gcm16-x25519")),
        ("aes128gcm16-none-x25519", "aes128gcm16-none-x25519", Some("aes128gcm16")),
        ("aes128gcm16-esn-noesn", "aes128gcm16", Some("aes128gcm16")),
        ("aes128gcm16-esn", "aes128gcm16", None),
        ("aes128gcm16-noesn-esn", "aes128gcm16-esn-noesn", Some("aes128gcm16-esn")),
        ("default", "default", Some("aes128gcm16-esn")),
        ("aes128gcm16-modp2048", "default", Some("aes128gcm16-modp2048")),
        ("default", "aes256-sha512", Some("aes256-sha512")),
    ];
    for (initiator, responder, suite) in agreed {
        assert_eq!(negotiate_esp(initiator, responder, true).as_deref(), suite, "{initiator} {responder}");
    }
}

#[test]
fn in_ike_auth_there_are_no_groups() {
    assert_eq!(
        negotiate_esp("aes128gcm16-x25519", "aes128gcm16-modp2048", false).as_deref(),
        Some("aes128gcm16")
    );
    let offer = offer_esp(&esp("aes128gcm16-x25519"), &[0; 4], false);
    assert!(offer[0].transforms.iter().all(|transform| transform.kind != TransformType::KE));
    let others = offer_esp(&esp("aes128gcm16-x25519"), &[0; 4], true);
    let selected = select_esp(&esp("aes128gcm16"), &others, false).unwrap();
    assert!(selected.proposal.transforms.iter().all(|transform| transform.kind != TransformType::KE));
}

#[test]
fn an_offer_is_what_was_configured() {
    let offer = offer_ike(&ike("aes256-sha384-modp3072,chacha20poly1305-prfsha512-ecp521"), &[9; 8]);
    let written: Vec<String> = offer.iter().map(|proposal| format!("{proposal:?}")).collect();
    insta::assert_snapshot!(written.join("\n"), @r#"
    1 IKE 0909090909090909 [ENCR 12/256, INTEG 13, PRF 6, KE 15]
    2 IKE 0909090909090909 [ENCR 28, PRF 7, KE 21]
    "#);
    let only_none = offer_esp(&esp("aes128-sha1"), &[9; 4], true);
    insta::assert_snapshot!(format!("{only_none:?}"), @r#"
    [1 ESP 09090909 [ENCR 12/128, INTEG 2, ESN 0]]
    "#);
}

fn transform(kind: TransformType, id: u16, key_length: Option<u16>) -> Transform {
    Transform::new(kind, id, key_length)
}

/// `aes128gcm16-prfsha256-x25519` as a peer may offer it.
fn offered(more: &[Transform]) -> Proposal {
    let mut transforms = vec![
        transform(TransformType::ENCR, 20, Some(128)),
        transform(TransformType::PRF, 5, None),
        transform(TransformType::KE, 31, None),
    ];
    transforms.extend_from_slice(more);
    Proposal { number: 7, protocol: ProtocolId::IKE, spi: Vec::new(), transforms }
}

#[test]
fn an_aead_needs_no_integrity_whatever_is_offered_with_it() {
    let configured = ike("aes128gcm16-prfsha256-x25519");
    for more in [vec![], vec![0], vec![12], vec![0, 12]] {
        let more: Vec<_> = more.iter().map(|id| transform(TransformType::INTEG, *id, None)).collect();
        let selected = select_ike(&configured, &[offered(&more)]).unwrap();
        assert_eq!(selected.proposal, offered(&[]), "the answer has the number, and no integrity algorithm");
    }
}

#[test]
fn what_we_do_not_know_is_not_chosen() {
    let configured = ike("aes128gcm16-prfsha256-x25519");
    let unknown_type = transform(TransformType(6), 35, None);
    assert!(select_ike(&configured, &[offered(&[unknown_type])]).is_none());
    let unknown_algorithm = transform(TransformType::PRF, 1024, None);
    assert!(select_ike(&configured, &[offered(&[unknown_algorithm])]).is_some());
    let mut attributes = offered(&[]);
    attributes.transforms[0].unknown_attributes = true;
    assert!(select_ike(&configured, &[attributes.clone()]).is_none());
    attributes.transforms.push(transform(TransformType::ENCR, 20, Some(128)));
    assert!(select_ike(&configured, &[attributes]).is_some(), "only the one transform is passed over");
    let mut esp = offered(&[]);
    esp.protocol = ProtocolId::ESP;
    assert!(select_ike(&configured, &[esp]).is_none());
    assert!(select_ike(&configured, &[]).is_none());
}

#[test]
fn answers_that_were_not_offered_are_refused() {
    let configured = ike("aes128gcm16-aes256gcm16-prfsha256-x25519-ecp256,aes128-sha256-x25519");
    let mut answer = offered(&[]);
    answer.number = 1;
    assert!(accept_ike(&configured, &[answer.clone()]).is_ok());
    assert_eq!(accept_ike(&configured, &[]), Err(AnswerError::Count(0)));
    assert_eq!(accept_ike(&configured, &[answer.clone(), answer.clone()]), Err(AnswerError::Count(2)));
    let refused = |change: &dyn Fn(&mut Proposal)| {
        let mut answer = answer.clone();
        change(&mut answer);
        assert_eq!(accept_ike(&configured, &[answer.clone()]), Err(AnswerError::NotOffered), "{answer:?}");
    };
    for number in [0, 2, 3, 255] {
        refused(&|answer| answer.number = number);
    }
    refused(&|answer| answer.protocol = ProtocolId::ESP);
    refused(&|answer| answer.transforms[0].key_length = Some(192));
    refused(&|answer| answer.transforms[0].key_length = None);
    refused(&|answer| answer.transforms[0].unknown_attributes = true);
    refused(&|answer| answer.transforms[2].id = 20);
    refused(&|answer| answer.transforms.push(transform(TransformType::KE, 19, None)));
    refused(&|answer| answer.transforms.push(transform(TransformType::INTEG, 12, None)));
    refused(&|answer| answer.transforms.push(transform(TransformType::ESN, 0, None)));
    for place in 0..3 {
        refused(&|answer| answer.transforms.truncate(place));
    }
    answer.transforms.push(transform(TransformType::INTEG, 0, None));
    assert!(accept_ike(&configured, &[answer]).is_ok(), "no integrity, said aloud");
}

#[test]
fn an_answer_in_ike_auth_has_no_group() {
    let configured = esp("aes128gcm16-x25519");
    let offer = offer_esp(&configured, &[0; 4], true);
    assert!(accept_esp(&configured, &offer, true).is_ok());
    assert_eq!(accept_esp(&configured, &offer, false), Err(AnswerError::NotOffered));
}

fn any_transform() -> impl Strategy<Value = Transform> {
    let ids = prop::sample::select(vec![0, 1, 2, 5, 7, 12, 14, 18, 20, 28, 31, 1024]);
    let lengths = prop::sample::select(vec![None, Some(0), Some(128), Some(256)]);
    (0..7_u8, ids, lengths, prop::bool::weighted(0.1)).prop_map(|(kind, id, key_length, unknown)| Transform {
        kind: TransformType(kind),
        id,
        key_length,
        unknown_attributes: unknown,
    })
}

proptest! {
    #[test]
    fn whatever_is_chosen_was_offered(transforms in prop::collection::vec(any_transform(), 0..24), number: u8) {
        let configured = ike("default");
        let offer = Proposal { number, protocol: ProtocolId::IKE, spi: Vec::new(), transforms };
        if let Some(selected) = select_ike(&configured, std::slice::from_ref(&offer)) {
            prop_assert!(selected.proposal.transforms.iter().all(|chosen| offer.transforms.contains(chosen)));
            prop_assert_eq!(selected.proposal.number, number);
        }
        let _ = accept_ike(&configured, &[offer]);
    }
}

#[test]
fn additional_key_exchanges_are_transforms_6_to_12() {
    let parse = |text: &str| IkeProposal::parse_list(text).unwrap();
    let offer =
        offer_ike(&parse("aes128gcm16-prfsha256-x25519-ke1_mlkem768-ke2_none-ke7_mlkem1024-ke7_none"), &[]);
    let additional = offer[0].transforms.iter().filter(|transform| transform.kind.0 > 5);
    let numbers: Vec<_> = additional.map(|transform| (transform.kind.0, transform.id)).collect();
    assert_eq!(numbers, [(6, 36), (12, 37), (12, 0)]);
}

#[test]
fn an_additional_key_exchange_is_agreed_on_or_there_is_none() {
    let parse = |text: &str| IkeProposal::parse_list(&format!("aes128gcm16-prfsha256-x25519{text}")).unwrap();
    let agreed = |ours: &str, theirs: &str| {
        let (ours, theirs) = (parse(ours), parse(theirs));
        let selected = select_ike(&ours, &offer_ike(&theirs, &[]))?;
        assert_eq!(accept_ike(&theirs, std::slice::from_ref(&selected.proposal)), Ok(selected.suite));
        Some(selected.suite.additional.to_string())
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(agreed("-ke1_mlkem768", "-ke1_mlkem768"), some("-ke1_mlkem768"));
    assert_eq!(agreed("-ke1_mlkem768", "-ke1_mlkem1024-ke1_mlkem768"), some("-ke1_mlkem768"));
    assert_eq!(agreed("-ke1_mlkem768", "-ke1_mlkem1024"), None);
    assert_eq!(agreed("-ke1_mlkem768", "-ke2_mlkem768"), None);
    assert_eq!(agreed("-ke1_mlkem768", ""), None);
    assert_eq!(agreed("", "-ke1_mlkem768"), None);
    assert_eq!(agreed("-ke1_mlkem768-ke1_none", ""), some(""));
    assert_eq!(agreed("", "-ke1_mlkem768-ke1_none"), some(""));
    // No method serves twice, if there is another.
    assert_eq!(agreed("-ke1_x25519", "-ke1_x25519"), None);
    let two = "-ke1_mlkem768-ke1_mlkem1024-ke2_mlkem768-ke2_mlkem1024";
    assert_eq!(agreed(two, two), some("-ke1_mlkem768-ke2_mlkem1024"));
}

#[test]
fn answers_with_one_method_twice_or_without_one_are_refused() {
    let ours = IkeProposal::parse_list(
        "aes128gcm16-prfsha256-x25519-ke1_mlkem768-ke1_mlkem1024-ke2_mlkem768-ke2_mlkem1024",
    )
    .unwrap();
    let mut answer = select_ike(&ours, &offer_ike(&ours, &[])).unwrap().proposal;
    let last = answer.transforms.len() - 1;
    answer.transforms[last].id = 36;
    assert_eq!(accept_ike(&ours, std::slice::from_ref(&answer)), Err(AnswerError::NotOffered));
    answer.transforms.truncate(last);
    assert_eq!(accept_ike(&ours, &[answer]), Err(AnswerError::NotOffered));
}
