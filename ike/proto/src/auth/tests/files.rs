use std::net::Ipv4Addr;

use super::*;

#[track_caller]
fn remedy<T: std::fmt::Debug>(result: Result<T, CredentialError>, name: &str, problem: &str) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.name, name);
    assert!(error.problem.contains(problem), "{error}");
    error.remedy
}

#[test]
fn private_keys_are_read_in_every_form() {
    for (name, identity, forms) in [
        ("moon", "moon.example.org", &["key.pem", "pkcs8.pem", "sec1.pem", "sec1.der", "ecparam.pem"][..]),
        ("rsa", "rsa.example.org", &["key.pem", "pkcs8.der", "pkcs1.pem"]),
        ("ed", "ed.example.org", &["key.pem", "pkcs8.pem"]),
    ] {
        for form in forms {
            let mut builder = CredentialsBuilder::default();
            builder.add_certificate(name, &file(&format!("{name}.pem"))).unwrap();
            builder.add_private_key(form, &file(&format!("{name}.{form}"))).unwrap();
            let proof = builder.build().sign(&by_certificate(), &id(identity), HASHES, OCTETS).unwrap();
            verify(&trusting(&["root", "root-rsa"], &[], &[]), &anybody(), identity, &proof).unwrap();
        }
    }
}

#[test]
fn encrypted_keys_are_refused_with_what_to_do() {
    for name in ["moon.encrypted.pem", "moon.encrypted.der", "moon.legacy.pem"] {
        let result = CredentialsBuilder::default().add_private_key(name, &file(name));
        assert!(remedy(result, name, "is encrypted").contains("openssl pkey"));
    }
}

#[test]
fn weak_keys_are_refused_ours_and_the_peers() {
    let result = CredentialsBuilder::default().add_private_key("weak", &file("rsa1024.key.pem"));
    remedy(result, "weak", "shorter than 2048 bits");
    let result = CredentialsBuilder::default().add_certificate("weak", &file("rsa1024.pem"));
    remedy(result, "weak", "1024 bits");
    let weak = [der("rsa1024")];
    let method = AuthenticationMethod::DIGITAL_SIGNATURE;
    let judge = trusting(&["root"], &[], &[]);
    let result = judge.verify(&anybody(), &id("CN=rsa1024"), &weak, method, &[], OCTETS, NOW);
    assert!(matches!(result, Err(AuthError::Certificate(problem)) if problem.contains("1024 bits")));
}

#[test]
fn files_that_are_something_else_are_refused_by_name() {
    let builder = CredentialsBuilder::default;
    remedy(builder().add_certificate("a.pem", b""), "a.pem", "no X.509 certificate");
    remedy(builder().add_certificate("a.pem", &file("moon.key.pem")), "a.pem", "it has no certificate");
    remedy(builder().add_private_key("a.pem", &file("moon.pem")), "a.pem", "it has no private key");
    remedy(builder().add_private_key("a.der", b"junk"), "a.der", "it is no private key");
    remedy(builder().add_crl("a.pem", &file("moon.pem")), "a.pem", "it has no revocation list");
    remedy(builder().add_crl("a.der", b"junk"), "a.der", "");
    remedy(builder().add_authority("moon", &file("moon.pem")), "moon", "no authority's");
    remedy(builder().add_authority("nosign", &file("nosign.pem")), "nosign", "no authority's");
    let damaged = String::from_utf8(file("moon.pem")).unwrap().replace("-----END", "-----AND");
    remedy(builder().add_certificate("a.pem", damaged.as_bytes()), "a.pem", "damaged PEM");
    let text = String::from_utf8(file("moon.pem")).unwrap();
    let damaged = format!("{}!{}", &text[..100], &text[101..]);
    remedy(builder().add_certificate("a.pem", damaged.as_bytes()), "a.pem", "damaged PEM");
}

#[test]
fn der_and_several_certificates_in_a_file_are_read() {
    let mut builder = CredentialsBuilder::default();
    builder.add_certificate("moon", &file("moon.der")).unwrap();
    builder.add_private_key("moon", &file("moon.key.pem")).unwrap();
    assert_eq!(builder.build().own.len(), 1);

    let mut builder = CredentialsBuilder::default();
    builder.add_certificate("leaf", &file("leaf-chain.pem")).unwrap();
    builder.add_private_key("leaf", &file("leaf.key.pem")).unwrap();
    let proof = builder.build().sign(&by_certificate(), &id("leaf.example.org"), HASHES, OCTETS).unwrap();
    assert_eq!(proof.certificates, [der("leaf"), der("sub")]);
    verify(&trusting(&["root"], &[], &[]), &anybody(), "leaf.example.org", &proof).unwrap();
}

#[test]
fn the_chain_that_is_sent_ends_below_the_root() {
    let mut builder = owning(&["deep"]);
    for name in ["sub", "subsub", "root"] {
        builder.add_certificate(name, &file(&format!("{name}.pem"))).unwrap();
    }
    let proof = builder.build().sign(&by_certificate(), &id("deep.example.org"), HASHES, OCTETS).unwrap();
    assert_eq!(proof.certificates, [der("deep"), der("subsub"), der("sub")]);
}

#[test]
fn a_key_signs_only_with_its_certificate() {
    let mut builder = CredentialsBuilder::default();
    builder.add_certificate("moon", &file("moon.pem")).unwrap();
    builder.add_private_key("ed", &file("ed.key.pem")).unwrap();
    let result = builder.build().sign(&by_certificate(), &id("moon.example.org"), HASHES, OCTETS);
    assert!(matches!(result, Err(AuthError::NoPrivateKey(identity)) if identity == id("moon.example.org")));
}

#[test]
fn named_certificates_come_in_their_order() {
    let own = owning(&["moon", "ed"]).build();
    let local = |names: &[&str], identity: &str| LocalAuthentication {
        method: LocalMethod::Signature(names.iter().map(|name| (*name).to_owned()).collect()),
        identity: id(identity),
    };
    let address = Ipv4Addr::new(198, 51, 100, 1).into();
    let identity = |names: &[&str], text: &str| own.local_identity(&local(names, text), address);
    assert_eq!(identity(&["ed"], "%any"), id("CN=ed"));
    assert_eq!(identity(&["ed", "moon"], "moon@example.org"), id("moon@example.org"));
    assert_eq!(identity(&["ed"], "moon@example.org"), id("CN=ed"), "it does not stand in the certificate");
    assert_eq!(identity(&[], "moon@example.org"), id("moon@example.org"));
    assert_eq!(identity(&[], "sun.example.org"), id("sun.example.org"));
    assert_eq!(identity(&["missing"], "%any"), Identity::from(address));

    let sign = |names: &[&str], text| own.sign(&local(names, "%any").method, &id(text), HASHES, OCTETS);
    assert_eq!(sign(&["ed"], "CN=ed").unwrap().certificates, [der("ed")]);
    assert!(matches!(sign(&["ed"], "CN=moon"), Err(AuthError::NoPrivateKey(_))));
}

/// RFC 8247 section 3 leaves RSA nothing for a peer without RFC 7427, which ECDSA does not need.
#[test]
fn the_first_certificate_that_the_peer_can_make_use_of_is_taken() {
    let mut builder = owning(&["moon"]);
    // Another key for the same name, first in the order.
    builder.add_certificate("rsa-moon", &file("rsa-moon.pem")).unwrap();
    builder.add_private_key("rsa-moon", &file("rsa-moon.key.pem")).unwrap();
    let own = builder.build();
    let method = LocalMethod::Signature(vec!["rsa-moon".to_owned(), "moon".to_owned()]);
    let sign = |hashes: &[u16]| own.sign(&method, &id("moon.example.org"), hashes, OCTETS).unwrap();
    assert_eq!(sign(HASHES).certificates, [der("rsa-moon")]);
    assert_eq!(sign(&[]).certificates, [der("moon")]);
}

#[test]
fn requests_name_the_authorities_keys() {
    let judge = trusting(&["root", "root-rsa", "stranger"], &["sub"], &[]);
    assert_eq!(judge.certificate_request(&anybody()).len(), 60);
    let remote = RemoteAuthentication { authorities: vec!["root".to_owned()], ..anybody() };
    let root = rustls_pki_types::CertificateDer::from(der("root"));
    let info = webpki::EndEntityCert::try_from(&root).unwrap().subject_public_key_info();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, &info);
    assert_eq!(judge.certificate_request(&remote), hash.as_ref());
    assert_eq!(trusting(&[], &[], &[]).certificate_request(&anybody()), Vec::<u8>::new());
}

#[test]
fn secrets_and_keys_are_never_shown() {
    let mut builder = owning(&["ed"]);
    let secret = zeroize::Zeroizing::new(b"open sesame".to_vec());
    builder.add_shared_secret("moon", vec![id("moon")], secret).unwrap();
    let shown = format!("{:?}", builder.build());
    assert!(shown.contains("Ed25519 key") && shown.contains("moon"));
    let key = pem::blocks(&file("ed.pkcs8.pem")).unwrap()[0].der[16..].to_vec();
    assert!(!shown.contains("sesame") && !shown.contains(&format!("{key:?}")[1..20]), "{shown}");
}
