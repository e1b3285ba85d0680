use super::*;

/// Name of the certificate, its identity, and what the first octets of the AUTH data are: the length of the
/// AlgorithmIdentifier and itself, as RFC 7427 appendix A and RFC 8420 appendix A print them.
const KINDS: [(&str, &str, &str); 5] = [
    ("moon", "moon.example.org", "0c300a06082a8648ce3d040302"),
    ("p384", "p384.example.org", "0c300a06082a8648ce3d040303"),
    ("p521", "p521.example.org", "0c300a06082a8648ce3d040304"),
    ("ed", "ed.example.org", "07300506032b6570"),
    ("rsa", "rsa.example.org", "0f300d06092a864886f70d01010b0500"),
];
/// RFC 7427 appendix A.4.3.
const PSS_SHA256: &str = "43304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f7\
                          0d010108300d06096086480165030402010500a203020120";

#[test]
fn every_kind_of_key_proves_who_it_is() {
    let judge = trusting(&["root", "root-rsa"], &[], &[]);
    for (name, identity, identifier) in KINDS {
        let proof = signed(name, identity);
        assert_eq!(proof.method, AuthenticationMethod::DIGITAL_SIGNATURE);
        assert!(hex::encode(&proof.data).starts_with(identifier), "{name}: {}", hex::encode(&proof.data));
        let verified = verify(&judge, &anybody(), identity, &proof).unwrap();
        assert!(verified.by.contains(name) && verified.by.contains("of authority \"root"), "{verified:?}");
    }
}

#[test]
fn rsa_signs_with_pss_if_told_and_the_peer_accepts_it_untold() {
    let mut builder = owning(&["rsa"]);
    builder.set_rsa_pss(true);
    let proof = builder.build().sign(&by_certificate(), &id("rsa.example.org"), HASHES, OCTETS).unwrap();
    assert!(hex::encode(&proof.data).starts_with(PSS_SHA256), "{}", hex::encode(&proof.data));
    verify(&trusting(&["root-rsa"], &[], &[]), &anybody(), "rsa.example.org", &proof).unwrap();
}

#[test]
fn the_first_hash_that_the_peer_knows_is_taken() {
    let rsa = owning(&["rsa"]).build();
    let sign = |hashes: &[u16]| rsa.sign(&by_certificate(), &id("rsa.example.org"), hashes, OCTETS);
    let judge = trusting(&["root-rsa"], &[], &[]);
    for (hashes, scheme) in [(&[4, 3][..], "0c"), (&[4], "0d"), (&[1, 2], "0b")] {
        let proof = sign(hashes).unwrap();
        assert!(hex::encode(&proof.data).starts_with(&format!("0f300d06092a864886f70d0101{scheme}")));
        verify(&judge, &anybody(), "rsa.example.org", &proof).unwrap();
    }
    // SHA-1 only, or no RFC 7427 at all: RFC 8247 section 3 forbids what is left.
    for hashes in [&[1][..], &[]] {
        assert!(matches!(sign(hashes), Err(AuthError::NoCommonSignature(kind)) if kind == "RSA-2048"));
    }
}

#[test]
fn without_rfc_7427_ecdsa_has_methods_of_its_own() {
    let judge = trusting(&["root"], &[], &[]);
    for (name, method, length) in [("moon", 9, 64), ("p384", 10, 96), ("p521", 11, 132)] {
        let identity = format!("{name}.example.org");
        let own = owning(&[name]).build();
        let proof = own.sign(&by_certificate(), &id(&identity), &[], OCTETS).unwrap();
        assert_eq!((proof.method.0, proof.data.len()), (method, length));
        verify(&judge, &anybody(), &identity, &proof).unwrap();
        // The method names the curve.
        let other = AuthenticationMethod(if method == 9 { 10 } else { 9 });
        let wrong = Signed { method: other, ..proof };
        assert_eq!(verify(&judge, &anybody(), &identity, &wrong), Err(AuthError::Method(other)));
    }
    let ed = owning(&["ed"]).build();
    let refused = ed.sign(&by_certificate(), &id("ed.example.org"), &[2, 3, 4], OCTETS);
    assert!(matches!(refused, Err(AuthError::NoCommonSignature(_))));
}

#[test]
fn every_bit_of_a_signature_counts() {
    let judge = trusting(&["root", "root-rsa"], &[], &[]);
    for (name, identity, identifier) in KINDS {
        let proof = signed(name, identity);
        let start = identifier.len() / 2;
        for index in [start + 4, start + 20, proof.data.len() - 1] {
            let mut data = proof.data.clone();
            data[index] ^= 1;
            let forged = Signed { data, certificates: proof.certificates.clone(), ..proof };
            assert_eq!(
                verify(&judge, &anybody(), identity, &forged),
                Err(AuthError::Signature),
                "{name} {index}"
            );
        }
        let forged = judge.verify(
            &anybody(),
            &id(identity),
            &proof.certificates,
            proof.method,
            &proof.data,
            b"other octets",
            NOW,
        );
        assert_eq!(forged, Err(AuthError::Signature), "{name}");
    }
}

#[test]
fn what_is_no_signature_is_refused_by_its_name() {
    let judge = trusting(&["root"], &[], &[]);
    let proof = signed("moon", "moon.example.org");
    let with = |data: &[u8]| {
        let forged = Signed { data: data.to_vec(), certificates: proof.certificates.clone(), ..proof };
        verify(&judge, &anybody(), "moon.example.org", &forged).unwrap_err()
    };
    assert!(matches!(with(&[]), AuthError::Algorithm(_)));
    assert!(matches!(with(&[200, 1, 2]), AuthError::Algorithm(_)));
    assert!(matches!(with(&[0]), AuthError::Algorithm(_)));
    // sha1WithRSAEncryption and ecdsa-with-SHA1.
    for identifier in ["300d06092a864886f70d0101050500", "300906072a8648ce3d0401"] {
        let mut data = hex::decode(identifier).unwrap();
        data.insert(0, data.len() as u8);
        assert_eq!(with(&data), AuthError::Algorithm(identifier.to_owned()));
    }
    // An algorithm of another kind of key.
    let rsa = hex::decode("0f300d06092a864886f70d01010b0500").unwrap();
    assert_eq!(with(&rsa), AuthError::OtherKey("ECDSA P-256".to_owned()));
    assert_eq!(with(&hex::decode(KINDS[0].2).unwrap()), AuthError::Signature);
}

#[test]
fn parameters_that_are_null_may_be_absent() {
    let judge = trusting(&["root-rsa"], &[], &[]);
    let proof = signed("rsa", "rsa.example.org");
    let mut data = hex::decode("0d300b06092a864886f70d01010b").unwrap();
    data.extend(&proof.data[16..]);
    let other = Signed { data, certificates: proof.certificates.clone(), ..proof };
    verify(&judge, &anybody(), "rsa.example.org", &other).unwrap();
}

#[test]
fn only_the_configured_method_is_accepted() {
    let judge = trusting(&["root"], &[], &[]);
    let proof = signed("moon", "moon.example.org");
    let secret = RemoteAuthentication { method: RemoteMethod::PreSharedKey, ..anybody() };
    assert_eq!(verify(&judge, &secret, "moon.example.org", &proof), Err(AuthError::Method(proof.method)));
    for method in [1, 2, 3, 13, 200].map(AuthenticationMethod) {
        let other = Signed { method, data: proof.data.clone(), certificates: proof.certificates.clone() };
        assert_eq!(verify(&judge, &anybody(), "moon.example.org", &other), Err(AuthError::Method(method)));
    }
}

#[test]
fn we_announce_what_we_accept() {
    assert_eq!(signature_hash_algorithms(), HASHES);
}
