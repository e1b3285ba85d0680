use zeroize::Zeroizing;

use super::*;

fn with(secrets: &[(&[&str], &str)]) -> Credentials {
    let mut builder = CredentialsBuilder::default();
    for (owners, secret) in secrets {
        let owners = owners.iter().map(|owner| id(owner)).collect();
        builder.add_shared_secret("test", owners, Zeroizing::new(secret.as_bytes().to_vec())).unwrap();
    }
    builder.build()
}

fn secret(credentials: &Credentials, local: &str, remote: &str) -> Option<String> {
    let found = credentials.shared_secret(&id(local), &id(remote))?;
    Some(String::from_utf8(found.octets().to_vec()).unwrap())
}

#[test]
fn the_best_match_of_the_peer_decides_then_ours() {
    let credentials = with(&[
        (&[], "anybody"),
        (&["moon.example.org", "carol@example.org"], "carol"),
        (&["moon.example.org", "*@example.org"], "example"),
        (&["moon.example.org"], "moon"),
        (&["192.0.2.0/24"], "network"),
        (&["sun.example.org", "carol@example.org"], "carol at the sun"),
    ]);
    let of = |local, remote| secret(&credentials, local, remote).unwrap();
    assert_eq!(of("moon.example.org", "carol@example.org"), "carol");
    assert_eq!(of("sun.example.org", "carol@example.org"), "carol at the sun");
    assert_eq!(of("moon.example.org", "dave@example.org"), "example");
    assert_eq!(of("moon.example.org", "192.0.2.7"), "network");
    // Nobody names the peer: "anybody" does, by a pattern, which is better than not at all.
    assert_eq!(of("moon.example.org", "dave@example.net"), "anybody");
    assert_eq!(of("mars.example.org", "dave@example.net"), "anybody");
}

#[test]
fn postquantum_keys_are_found_by_the_best_match_of_their_names() {
    let mut builder = CredentialsBuilder::default();
    for (name, key) in [
        ("*", "everybody's key of octets"),
        ("*.example.org", "a key of a domain"),
        ("a.example.org", "a key of one peer"),
    ] {
        let name = if name == "*" { Vec::new() } else { vec![id(name)] };
        builder.add_postquantum_key("test", name, Zeroizing::new(key.as_bytes().to_vec())).unwrap();
    }
    let short = builder.add_postquantum_key("short", Vec::new(), Zeroizing::new(vec![1; 15]));
    assert!(short.unwrap_err().to_string().contains("16 octets at least"));
    let credentials = builder.build();
    assert!(credentials.has_postquantum_keys());
    let key = |name| credentials.postquantum_key(&id(name)).map(|key| key.octets().to_vec());
    assert_eq!(key("a.example.org").unwrap(), b"a key of one peer");
    assert_eq!(key("b.example.org").unwrap(), b"a key of a domain");
    assert_eq!(key("b@example.net").unwrap(), b"everybody's key of octets");
    assert!(credentials.shared_secret(&id("a.example.org"), &id("b.example.org")).is_none());
}

#[test]
fn one_side_is_enough_and_none_is_nothing() {
    let credentials = with(&[(&["moon"], "ours"), (&["carol"], "theirs")]);
    assert_eq!(secret(&credentials, "moon", "dave").as_deref(), Some("ours"));
    assert_eq!(secret(&credentials, "moon", "carol").as_deref(), Some("theirs"));
    assert_eq!(secret(&credentials, "mars", "dave"), None);
}

#[test]
fn the_first_of_equal_ones_is_taken_and_empty_ones_are_refused() {
    let credentials = with(&[(&["carol"], "first"), (&["carol"], "second")]);
    assert_eq!(secret(&credentials, "moon", "carol").as_deref(), Some("first"));
    let empty = CredentialsBuilder::default().add_shared_secret("psk", vec![], Zeroizing::new(vec![]));
    assert_eq!(
        empty.unwrap_err().to_string(),
        "psk: the secret is empty; take 32 random octets, as hexadecimal"
    );
}
