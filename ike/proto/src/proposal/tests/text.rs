use proptest::prelude::*;

use super::super::{EspEncryption, EspIntegrity, EspProposal, IkeProposal, ProposalError};

fn ike(text: &str) -> Result<String, String> {
    text.parse::<IkeProposal>().map(|proposal| proposal.to_string()).map_err(|error| error.to_string())
}

fn esp(text: &str) -> Result<String, String> {
    text.parse::<EspProposal>().map(|proposal| proposal.to_string()).map_err(|error| error.to_string())
}

#[test]
fn ike_proposals_are_read_as_strongswan_reads_them() {
    let read = [
        ("aes128gcm16-prfsha256-x25519", "aes128gcm16-prfsha256-x25519"),
        ("aes128-sha256-modp2048", "aes128-sha256-prfsha256-modp2048"),
        ("aes-sha-curve25519", "aes128-sha1-prfsha1-x25519"),
        // An integrity algorithm next to an AEAD names the PRF.
        ("aes256gcm128-sha384-ecp384", "aes256gcm16-prfsha384-ecp384"),
        ("aes256-sha2_512-prfsha256-modp4096", "aes256-sha512-prfsha256-modp4096"),
        (
            "aes128-aes256-sha256-sha384-x25519-modp3072",
            "aes128-aes256-sha256-sha384-prfsha256-prfsha384-x25519-modp3072",
        ),
        // In any order, and twice is once.
        ("x25519-prfsha256-aes128gcm-aes128gcm16", "aes128gcm16-prfsha256-x25519"),
        (" chacha20poly1305 - prfsha512 - ecp521 ", "chacha20poly1305-prfsha512-ecp521"),
    ];
    for (text, expected) in read {
        assert_eq!(ike(text).as_deref(), Ok(expected), "{text}");
        assert_eq!(ike(expected).as_deref(), Ok(expected));
    }
}

#[test]
fn esp_proposals_are_read_as_strongswan_reads_them() {
    let read = [
        ("aes128gcm16", "aes128gcm16"),
        ("aes128gcm16-noesn", "aes128gcm16"),
        ("aes128gcm128-curve25519-esn", "aes128gcm16-x25519-esn"),
        ("aes128-sha256-none-modp2048-esn-noesn", "aes128-sha256-none-modp2048-esn-noesn"),
        ("null-aescmac", "null-aescmac"),
        ("aes192ctr-sha1", "aes192ctr-sha1"),
        ("aes256ccm-ecp256", "aes256ccm16-ecp256"),
        ("aes128gmac", "aes128gmac"),
        ("aes128-none-sha1", "aes128-sha1"),
    ];
    for (text, expected) in read {
        assert_eq!(esp(text).as_deref(), Ok(expected), "{text}");
        assert_eq!(esp(expected).as_deref(), Ok(expected));
    }
}

#[test]
fn what_cannot_be_is_refused_with_a_remedy() {
    let ike = [
        "aes128gcm16-x25519",
        "aes128-prfsha256-x25519",
        "aes128-sha256",
        "sha256-x25519",
        "aes128gcm16-aes128-sha256-x25519",
        "aes128gcm16-sha256-prfsha256-x25519",
        "aes128ctr-sha256-x25519",
        "aes128gcm8-prfsha256-x25519",
        "aes128-aescmac-prfsha256-x25519",
        "aes128-sha256-none",
        "aes128-sha256-x25519-esn",
        "aes128--sha256-x25519",
        "",
    ]
    .map(ike);
    let esp = [
        "aes128",
        "aes128gcm16-sha256",
        "aes128gcm16-prfsha256",
        "sha256",
        "aes128-aes128gcm16-sha256",
        "null",
    ]
    .map(esp);
    let refused: Vec<String> = ike.into_iter().chain(esp).map(Result::unwrap_err).collect();
    insta::assert_snapshot!(refused.join("\n"), @r#"
    "aes128gcm16-x25519" lacks a PRF; add for example "prfsha256"
    "aes128-prfsha256-x25519" lacks an integrity algorithm; add for example "sha256"
    "aes128-sha256" lacks a group; add for example "x25519"
    "sha256-x25519" lacks an encryption algorithm; add for example "aes128gcm16"
    "aes128gcm16-aes128-sha256-x25519" mixes ciphers that authenticate with ciphers that do not; write two proposals (RFC 7296 section 3.3)
    "sha256" has no place in an IKE proposal: leave it out, the cipher authenticates and the PRF is named
    "aes128ctr" has no place in an IKE proposal: take AES-CBC, AES-GCM with a 16-octet ICV, or ChaCha20
    "aes128gcm8" has no place in an IKE proposal: take AES-CBC, AES-GCM with a 16-octet ICV, or ChaCha20
    "aescmac" has no place in an IKE proposal: take sha256, sha384, sha512 or sha1
    "none" has no place in an IKE proposal: an IKE SA has a key exchange, take x25519
    "esn" has no place in an IKE proposal: leave it out, it belongs to ESP
    an algorithm is missing in "aes128--sha256-x25519"; write keywords with one dash between them
    an algorithm is missing in ""; write keywords with one dash between them
    "aes128" lacks an integrity algorithm; add for example "sha256"
    "sha256" has no place in an ESP proposal: leave it out, the cipher authenticates
    "prfsha256" has no place in an ESP proposal: leave it out, it belongs to IKE
    "sha256" lacks an encryption algorithm; add for example "aes128gcm16"
    "aes128-aes128gcm16-sha256" mixes ciphers that authenticate with ciphers that do not; write two proposals (RFC 7296 section 3.3)
    "null" lacks an integrity algorithm; add for example "sha256"
    "#);
}

#[test]
fn lists_may_have_the_defaults_in_them() {
    let list = IkeProposal::parse_list("aes256-sha256-modp2048, default").unwrap();
    assert_eq!(list.len(), 1 + IkeProposal::defaults().len());
    assert_eq!(list[1..], IkeProposal::defaults());
    assert_eq!(EspProposal::parse_list("default").unwrap(), EspProposal::defaults());
    for text in ["", "aes128-sha256-modp2048,", ",default"] {
        assert_eq!(IkeProposal::parse_list(text), Err(ProposalError::Empty(text.to_owned())));
    }
}

#[test]
fn the_defaults_are_two_of_each() {
    let ike = IkeProposal::defaults().into_iter().map(|proposal| proposal.to_string());
    let esp = EspProposal::defaults().into_iter().map(|proposal| proposal.to_string());
    insta::assert_snapshot!(ike.chain(esp).collect::<Vec<_>>().join("\n"), @r#"
    aes128gcm16-aes256gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048
    aes128-aes256-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048
    aes128gcm16-aes256gcm16-chacha20poly1305-none-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048-esn-noesn
    aes128-aes256-sha256-sha384-sha512-none-x25519-ecp256-ecp384-ecp521-modp3072-modp4096-modp2048-esn-noesn
    "#);
}

#[test]
fn all_suites_of_the_data_plane_can_be_written() {
    let ciphers: Vec<_> = EspEncryption::all().collect();
    let mut suites: Vec<String> = Vec::new();
    for cipher in ciphers {
        if cipher.cipher().is_aead() {
            suites.push(cipher.to_string());
        } else {
            suites.extend(EspIntegrity::ALL.map(|integrity| format!("{cipher}-{}", integrity.keyword())));
        }
    }
    assert_eq!(suites.len(), 57);
    for suite in suites {
        assert_eq!(esp(&suite).as_deref(), Ok(suite.as_str()));
    }
}

proptest! {
    #[test]
    fn no_text_is_too_much(text in "[a-z0-9_, -]{0,80}") {
        let _ = IkeProposal::parse_list(&text);
        let _ = EspProposal::parse_list(&text);
    }

    #[test]
    fn what_is_written_is_read_again(words in prop::sample::subsequence(
        vec!["aes128", "aes256", "sha256", "sha1", "prfsha384", "x25519", "modp2048", "ecp384"], 0..8,
    ).prop_shuffle()) {
        let text = words.join("-");
        if let Ok(written) = ike(&text) {
            prop_assert_eq!(ike(&written).unwrap(), written);
        }
    }
}

#[test]
fn additional_key_exchanges_are_written_as_strongswan_does() {
    for text in [
        "aes256-sha384-prfsha384-x25519-ke1_mlkem768",
        "aes128gcm16-prfsha256-x25519-ke1_mlkem768-ke1_mlkem1024-ke2_ecp384-ke2_none-ke7_mlkem512",
    ] {
        assert_eq!(text.parse::<IkeProposal>().unwrap().to_string(), text);
    }
    let alias: IkeProposal = "aes256-sha384-curve25519-ke1_curve25519".parse().unwrap();
    assert_eq!(alias.to_string(), "aes256-sha384-prfsha384-x25519-ke1_x25519");
    let esp: EspProposal = "aes128gcm16-x25519-ke1_mlkem768-esn".parse().unwrap();
    assert_eq!(esp.to_string(), "aes128gcm16-x25519-ke1_mlkem768-esn");
    let refused = |text: &str| text.parse::<EspProposal>().unwrap_err().to_string();
    for text in ["aes128gcm16-ke1_mlkem768", "aes128gcm16-none-x25519-ke1_mlkem768"] {
        assert!(
            refused(text).contains("lacks a group before its additional key exchanges"),
            "{}",
            refused(text)
        );
    }
}
