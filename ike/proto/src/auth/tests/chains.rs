use super::*;

/// What `judge` says of `name`, which claims its domain name and sends its certificate and these others.
fn judged(
    judge: &Credentials,
    remote: &RemoteAuthentication,
    name: &str,
    others: &[&str],
) -> Result<Verified, AuthError> {
    let identity = match name {
        "outside" => "outside.example.net".to_owned(),
        name => format!("{name}.example.org"),
    };
    let mut proof = signed(name, &identity);
    proof.certificates.extend(others.iter().map(|name| der(name)));
    verify(judge, remote, &identity, &proof)
}

#[track_caller]
fn refused(result: Result<Verified, AuthError>, because: &str) {
    match result {
        Err(AuthError::Certificate(problem)) => assert!(problem.contains(because), "{problem}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn intermediate_certificates_come_from_the_peer_or_from_us() {
    let root = trusting(&["root"], &[], &[]);
    refused(judged(&root, &anybody(), "leaf", &[]), "no chain leads");
    judged(&root, &anybody(), "leaf", &["sub"]).unwrap();
    judged(&root, &anybody(), "leaf", &["stranger", "moon", "sub"]).unwrap();
    judged(&trusting(&["root"], &["sub"], &[]), &anybody(), "leaf", &[]).unwrap();
    // One that is trusted by itself needs no root.
    judged(&trusting(&["sub"], &[], &[]), &anybody(), "leaf", &[]).unwrap();
}

#[test]
fn path_lengths_are_kept() {
    let root = trusting(&["root"], &[], &[]);
    refused(judged(&root, &anybody(), "deep", &["sub", "subsub"]), "more certificates lie between");
    // Also that of the authority itself.
    let shallow = trusting(&["shallow"], &[], &[]);
    refused(judged(&shallow, &anybody(), "low", &["shallowsub"]), "more certificates lie between");
}

#[test]
fn authorities_certify_only_the_names_that_they_may() {
    let root = trusting(&["root"], &["constrained"], &[]);
    judged(&root, &anybody(), "inside", &[]).unwrap();
    refused(judged(&root, &anybody(), "outside", &[]), "outside of what its authority may certify");
}

#[test]
fn nobody_else_signs_certificates() {
    let root = trusting(&["root"], &[], &[]);
    refused(judged(&root, &anybody(), "forged", &["stranger"]), "not signed by the authority");
    refused(judged(&root, &anybody(), "below", &["moon"]), "may not sign others");
    refused(judged(&root, &anybody(), "unsigned", &["nosign"]), "may not sign others");
    refused(judged(&root, &anybody(), "sha1", &[]), "does not verify");
    refused(judged(&trusting(&[], &[], &[]), &anybody(), "moon", &[]), "no authority is configured");
}

#[test]
fn only_the_authorities_of_the_connection_count() {
    let judge = trusting(&["root", "root-rsa"], &[], &[]);
    let remote = |name: &str| RemoteAuthentication { authorities: vec![name.to_owned()], ..anybody() };
    judged(&judge, &remote("root"), "moon", &[]).unwrap();
    judged(&judge, &remote("root-rsa"), "rsa", &[]).unwrap();
    refused(judged(&judge, &remote("root-rsa"), "moon", &[]), "no chain leads");
    refused(judged(&judge, &remote("other"), "moon", &[]), "no authority is configured");
}

#[test]
fn what_has_expired_is_refused() {
    refused(judged(&trusting(&["root"], &[], &[]), &anybody(), "expired", &[]), "has expired");
    refused(
        judged(&trusting(&["oldroot"], &[], &[]), &anybody(), "orphan", &[]),
        "\"CN=Old Root\" has expired",
    );
    let judge = trusting(&["root"], &[], &[]);
    let proof = signed("moon", "moon.example.org");
    let early = Duration::from_secs(1_700_000_000);
    let moon = id("moon.example.org");
    let judged =
        judge.verify(&anybody(), &moon, &proof.certificates, proof.method, &proof.data, OCTETS, early);
    refused(judged, "is the clock right?");
}

#[test]
fn usages_that_forbid_authentication_are_kept() {
    let root = trusting(&["root"], &[], &[]);
    refused(judged(&root, &anybody(), "encipher", &[]), "key usage forbids");
    refused(judged(&root, &anybody(), "ocsp", &[]), "neither IKE nor TLS");
    judged(&root, &anybody(), "ipsec", &[]).unwrap();
}

#[test]
fn revocation_is_relaxed_or_strict() {
    let strict = RemoteAuthentication { revocation: Revocation::Strict, ..anybody() };
    let without = trusting(&["root"], &[], &[]);
    judged(&without, &anybody(), "revoked", &[]).unwrap();
    refused(judged(&without, &strict, "moon", &[]), "no revocation list tells of it");

    let with = trusting(&["root"], &[], &["root"]);
    for remote in [anybody(), strict.clone()] {
        refused(judged(&with, &remote, "revoked", &[]), "is revoked");
        judged(&with, &remote, "moon", &[]).unwrap();
    }
    // Every certificate of the chain needs a list.
    refused(judged(&with, &strict, "leaf", &["sub"]), "no revocation list tells of it");
    judged(&with, &anybody(), "leaf", &["sub"]).unwrap();
    judged(&trusting(&["root"], &[], &["sub", "root"]), &strict, "leaf", &["sub"]).unwrap();
}

#[test]
fn a_list_that_is_out_of_date_still_revokes_and_never_clears() {
    let strict = RemoteAuthentication { revocation: Revocation::Strict, ..anybody() };
    let old = trusting(&["root"], &[], &["root-old-revoked"]);
    refused(judged(&old, &anybody(), "revoked", &[]), "is revoked");
    judged(&old, &anybody(), "moon", &[]).unwrap();
    refused(judged(&old, &strict, "moon", &[]), "out of date");
    // The newest list is asked, in whatever order they came.
    for lists in [["root-old", "root"], ["root", "root-old"]] {
        let both = trusting(&["root"], &[], &lists);
        refused(judged(&both, &strict, "revoked", &[]), "is revoked");
        judged(&both, &strict, "moon", &[]).unwrap();
    }
}

#[test]
fn a_list_by_somebody_else_of_the_same_name_refuses() {
    let judge = trusting(&["root"], &[], &["stranger"]);
    refused(judged(&judge, &anybody(), "moon", &[]), "list is not signed by its authority");
}

#[test]
fn pinned_certificates_need_no_authority() {
    let remote = |name: &str| RemoteAuthentication { certificates: vec![name.to_owned()], ..anybody() };
    let judge = trusting(&["root"], &["alone", "moon", "bygone"], &[]);
    let verified = judged(&judge, &remote("alone"), "alone", &[]).unwrap();
    assert!(verified.by.contains("pinned as \"alone\""), "{verified:?}");
    refused(judged(&judge, &remote("alone"), "moon", &[]), "none of the pinned ones");
    refused(judged(&judge, &remote("bygone"), "bygone", &[]), "has expired");
    refused(judged(&judge, &remote("missing"), "moon", &[]), "none of the pinned ones");
    // Without the pin it is nobody's.
    refused(judged(&judge, &anybody(), "alone", &[]), "no chain leads");
    // With authorities it needs both.
    let both = |name: &str| RemoteAuthentication { authorities: vec!["root".to_owned()], ..remote(name) };
    judged(&judge, &both("moon"), "moon", &[]).unwrap();
    refused(judged(&judge, &both("alone"), "alone", &[]), "no chain leads");
}

#[test]
fn a_peer_without_certificates_is_known_by_ours() {
    let mut proof = signed("moon", "moon.example.org");
    proof.certificates.clear();
    let judge = trusting(&["root"], &["alone", "moon"], &[]);
    verify(&judge, &anybody(), "moon.example.org", &proof).unwrap();
    let pinned = |name: &str| RemoteAuthentication { certificates: vec![name.to_owned()], ..anybody() };
    verify(&judge, &pinned("moon"), "moon.example.org", &proof).unwrap();
    let nobody = Err(AuthError::NoCertificate(id("moon.example.org")));
    assert_eq!(verify(&judge, &pinned("alone"), "moon.example.org", &proof), nobody);
    assert_eq!(verify(&trusting(&["root"], &[], &[]), &anybody(), "moon.example.org", &proof), nobody);
}

#[test]
fn the_identity_stands_in_the_certificate() {
    let judge = trusting(&["root"], &[], &[]);
    let proof = signed("moon", "moon.example.org");
    let key_id = owning(&["moon"]).build().own[0].named.certificate.key_hash;
    let key_id = Identity::KeyId(key_id.to_vec()).to_string();
    let names = [
        "moon.example.org",
        "MOON.example.org",
        "moon@example.org",
        "192.0.2.1",
        "2001:db8::1",
        "C=CH, O=Baton, CN=moon",
        &key_id,
    ];
    for name in names {
        verify(&judge, &anybody(), name, &proof).unwrap();
    }
    for name in ["sun.example.org", "carol@example.org", "192.0.2.2", "C=CH, O=Baton, CN=sun", "@#00", "moon"]
    {
        let result = verify(&judge, &anybody(), name, &proof);
        assert!(matches!(result, Err(AuthError::NotInCertificate { .. })), "{name}: {result:?}");
    }
}

#[test]
fn the_identity_fits_the_connections_pattern() {
    let judge = trusting(&["root"], &[], &[]);
    let proof = signed("moon", "moon.example.org");
    let as_whom = |pattern: &str| RemoteAuthentication { identity: id(pattern), ..anybody() };
    for (pattern, identity) in [
        ("*.example.org", "moon.example.org"),
        ("*@example.org", "moon@example.org"),
        ("192.0.2.0/24", "192.0.2.1"),
        ("C=CH, O=Baton, CN=*", "C=CH, O=Baton, CN=moon"),
    ] {
        verify(&judge, &as_whom(pattern), identity, &proof).unwrap();
    }
    for (pattern, identity) in [
        ("sun.example.org", "moon.example.org"),
        ("*.example.net", "moon.example.org"),
        ("C=CH, O=Other, CN=*", "C=CH, O=Baton, CN=moon"),
        ("*.example.org", "192.0.2.1"),
    ] {
        let result = verify(&judge, &as_whom(pattern), identity, &proof);
        assert!(matches!(result, Err(AuthError::Identity { .. })), "{pattern}: {result:?}");
    }
}

#[test]
fn wildcards_of_a_certificate_or_a_claim_mean_nothing() {
    let judge = trusting(&["root"], &[], &[]);
    let proof = signed("wild", "CN=wild");
    verify(&judge, &anybody(), "CN=wild", &proof).unwrap();
    let moon = verify(&judge, &anybody(), "moon.example.org", &proof);
    assert!(matches!(moon, Err(AuthError::NotInCertificate { .. })), "{moon:?}");
    let claim = verify(&judge, &anybody(), "*.example.org", &proof);
    assert!(matches!(claim, Err(AuthError::Identity { .. })), "{claim:?}");
}

#[test]
fn strangers_cannot_make_us_work_for_long() {
    let judge = trusting(&["root"], &[], &[]);
    let mut proof = signed("moon", "moon.example.org");
    proof.certificates.resize(MAX_PEER_CERTIFICATES, der("sub"));
    verify(&judge, &anybody(), "moon.example.org", &proof).unwrap();
    proof.certificates.push(der("sub"));
    refused(verify(&judge, &anybody(), "moon.example.org", &proof), "17 certificates were sent");
    proof.certificates = vec![vec![0x30; 20_000]];
    refused(verify(&judge, &anybody(), "moon.example.org", &proof), "it has 20000 octets");
    proof.certificates = vec![vec![]];
    refused(verify(&judge, &anybody(), "moon.example.org", &proof), "no X.509 certificate");
    // Intermediate ones that are none do not matter.
    let mut proof = signed("moon", "moon.example.org");
    proof.certificates.extend([vec![], vec![1; 20_000], b"junk".to_vec()]);
    verify(&judge, &anybody(), "moon.example.org", &proof).unwrap();
}
