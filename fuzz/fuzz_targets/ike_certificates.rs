//! What proves who a peer is: identities, credential files, and a peer's certificates with its signature.
//!
//! The first octet chooses: 0, an identity as text; 1, as a payload; 2 to 5, a file with certificates, authorities, a
//! private key, or revocation lists; 6, a peer.
#![no_main]

use std::time::Duration;

use baton_ike_proto::auth::{AuthError, Credentials, CredentialsBuilder, Verified};
use baton_ike_proto::configuration::{RemoteAuthentication, RemoteMethod, Revocation};
use baton_ike_proto::identity::Identity;
use baton_ike_proto::wire::{AuthenticationMethod, Identification, IdentificationType};
use libfuzzer_sys::fuzz_target;

const ROOT: &[u8] = include_bytes!("../../ike/proto/testdata/pki/root.pem");
const ROOT_LIST: &[u8] = include_bytes!("../../ike/proto/testdata/pki/root.crl");
const SUB: &[u8] = include_bytes!("../../ike/proto/testdata/pki/sub.pem");
const MOON: &[u8] = include_bytes!("../../ike/proto/testdata/pki/moon.der");
const LEAF: &[u8] = include_bytes!("../../ike/proto/testdata/pki/leaf.der");
/// What the seeds have signed.
const OCTETS: &[u8] = b"baton";
const NOW: Duration = Duration::from_secs(2_000_000_000);

fuzz_target!(|input: &[u8]| {
    let Some((choice, rest)) = input.split_first() else { return };
    match choice {
        0 => text(&String::from_utf8_lossy(rest)),
        1 => payload(rest),
        2 => file(rest, CredentialsBuilder::add_certificate),
        3 => file(rest, CredentialsBuilder::add_authority),
        4 => file(rest, CredentialsBuilder::add_private_key),
        5 => file(rest, CredentialsBuilder::add_crl),
        _ => {
            let _ = peer(rest);
        }
    }
});

fn text(text: &str) {
    match Identity::parse(text) {
        Ok(identity) => check(&identity),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn payload(octets: &[u8]) {
    let Some((kind, data)) = octets.split_first() else { return };
    let payload = Identification::new(IdentificationType(*kind), data.to_vec());
    match Identity::from_wire(&payload) {
        Ok(identity) => {
            assert!(identity.is_pattern() || identity.to_wire() == Some(payload));
            check(&identity);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn check(identity: &Identity) {
    let written = identity.to_string();
    assert!(!written.chars().any(char::is_control), "a log could be forged");
    assert_eq!(Identity::parse(&written).as_ref(), Ok(identity), "{written}");
    assert!(identity.matches(identity).is_some());
}

type Add = fn(&mut CredentialsBuilder, &str, &[u8]) -> Result<(), baton_ike_proto::auth::CredentialError>;

fn file(octets: &[u8], add: Add) {
    let mut builder = CredentialsBuilder::default();
    match add(&mut builder, "file", octets) {
        Ok(()) => judge(builder, octets),
        Err(error) => assert!(!error.problem.is_empty() && !error.remedy.is_empty()),
    }
}

/// Whatever the file holds, an honest peer is judged to the end.
fn judge(mut builder: CredentialsBuilder, octets: &[u8]) {
    builder.add_authority("root", ROOT).expect("an authority");
    let credentials = builder.build();
    assert_eq!(credentials.certificate_request(&anybody()).len() % 20, 0);
    let certificates = [octets.to_vec(), MOON.to_vec()];
    let _ = verify(&credentials, "CN=moon", &certificates, AuthenticationMethod::DIGITAL_SIGNATURE, &[]);
}

fn anybody() -> RemoteAuthentication {
    RemoteAuthentication {
        method: RemoteMethod::Signature,
        identity: Identity::Any,
        authorities: vec![],
        certificates: vec![],
        revocation: Revocation::Relaxed,
        eap_identity: None,
    }
}

fn verify(
    credentials: &Credentials,
    identity: &str,
    certificates: &[Vec<u8>],
    method: AuthenticationMethod,
    data: &[u8],
) -> Option<Result<Verified, AuthError>> {
    let identity = Identity::parse(identity).ok()?;
    Some(credentials.verify(&anybody(), &identity, certificates, method, data, OCTETS, NOW))
}

/// Its method, its identity and its certificates, each after its length, a length of 0, and its AUTH data.
fn peer(octets: &[u8]) -> Option<()> {
    let (method, rest) = octets.split_first()?;
    let (identity, mut rest) = prefixed(rest)?;
    let mut certificates = Vec::new();
    loop {
        let (certificate, after) = prefixed(rest)?;
        rest = after;
        if certificate.is_empty() {
            break;
        }
        certificates.push(certificate.to_vec());
    }
    let mut builder = CredentialsBuilder::default();
    builder.add_authority("root", ROOT).expect("an authority");
    builder.add_certificate("sub", SUB).expect("a certificate");
    builder.add_crl("root", ROOT_LIST).expect("a list");
    let identity = String::from_utf8_lossy(identity);
    match verify(&builder.build(), &identity, &certificates, AuthenticationMethod(*method), rest)? {
        Ok(_) => assert!([MOON, LEAF].contains(&certificates[0].as_slice()), "a certificate was forged"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Some(())
}

fn prefixed(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = octets.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*length) as usize)
}
