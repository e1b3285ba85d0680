use std::os::unix::fs::PermissionsExt as _;

use baton_ike_proto::configuration::{
    LocalAuthentication, LocalMethod, RemoteAuthentication, RemoteMethod, Revocation,
};
use baton_ike_proto::identity::Identity;
use tempfile::TempDir;

use super::*;

/// Certificates of the protocol's tests.
fn certificate(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/testdata/pki").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A directory as swanctl has it: our certificate and key, an authority and its list.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (kind, name, mode) in [
        ("x509", "moon.pem", 0o644),
        ("x509ca", "root.pem", 0o644),
        ("x509crl", "root.crl", 0o644),
        ("private", "moon.key.pem", 0o600),
    ] {
        write(directory.path(), kind, name, &certificate(name), mode);
    }
    write(directory.path(), "x509", ".hidden", b"no certificate", 0o644);
    directory
}

fn write(directory: &Path, kind: &str, name: &str, octets: &[u8], mode: u32) -> PathBuf {
    let path = directory.join(kind);
    fs::create_dir_all(&path).unwrap();
    let path = path.join(name);
    fs::write(&path, octets).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    path
}

fn sources(directory: &Path) -> CredentialSources {
    CredentialSources {
        directory: directory.to_owned(),
        directory_is_named: true,
        certificates: vec![],
        authorities: vec![],
        revocation_lists: vec![],
        rsa_pss: false,
        secrets: vec![],
    }
}

fn secret(owner: &str, path: PathBuf) -> SharedSecret {
    let owners = vec![Identity::parse(owner).unwrap()];
    SharedSecret {
        name: "ike".to_owned(),
        kind: crate::config::SecretKind::Ike,
        owners,
        source: SecretSource::File(path),
    }
}

fn problems(sources: &CredentialSources) -> Vec<String> {
    load(sources).expect_err("something is wrong").0
}

#[test]
fn a_directory_of_swanctls_is_used_as_it_is() {
    let directory = directory();
    let mut sources = sources(directory.path());
    sources.certificates = vec!["moon.pem".to_owned()];
    sources.authorities = vec!["root.pem".to_owned()];
    let credentials = load(&sources).unwrap();
    let method = LocalMethod::Signature(sources.certificates);
    let local = LocalAuthentication { method, identity: Identity::Any };
    let us = credentials.local_identity(&local, [203, 0, 113, 2].into());
    assert!(matches!(us, Identity::DistinguishedName(_)), "{us}");
    let signed = credentials.sign(&local.method, &us, &[2], b"octets").unwrap();
    assert!(!signed.certificates.is_empty());
    let remote = RemoteAuthentication {
        method: RemoteMethod::Signature,
        identity: Identity::Any,
        authorities: sources.authorities,
        certificates: vec![],
        revocation: Revocation::Relaxed,
        eap_identity: None,
    };
    assert_eq!(credentials.certificate_request(&remote).len(), 20, "one authority");
}

#[test]
fn without_a_directory_there_are_no_credentials() {
    let directory = tempfile::tempdir().unwrap();
    let mut sources = sources(&directory.path().join("none"));
    assert!(problems(&sources)[0].contains("correct credential_directory"));
    sources.directory_is_named = false;
    assert!(load(&sources).is_ok());
}

#[test]
fn files_that_the_configuration_names_have_to_be_there() {
    let directory = directory();
    let mut sources = sources(directory.path());
    sources.certificates = vec!["sun.pem".to_owned()];
    sources.authorities = vec!["/nowhere/ca.pem".to_owned()];
    sources.revocation_lists = vec![PathBuf::from("/nowhere/ca.crl")];
    sources.secrets = vec![secret("a", PathBuf::from("/nowhere/a.secret"))];
    let problems = problems(&sources);
    assert_eq!(problems.len(), 4, "{problems:?}");
    let missing = format!("{}/x509/sun.pem: cannot be read", directory.path().display());
    assert!(problems[0].starts_with(&missing), "{problems:?}");
    assert!(problems[1].starts_with("/nowhere/ca.pem: cannot be read"), "{problems:?}");
}

#[test]
fn keys_and_secrets_are_private() {
    let directory = directory();
    let key = write(directory.path(), "ecdsa", "moon.key.pem", &certificate("moon.key.pem"), 0o640);
    let mut sources = sources(directory.path());
    let file = write(directory.path(), "", "a.secret", b"correct horse", 0o604);
    sources.secrets = vec![secret("a", file.clone())];
    let expected = [&key, &file]
        .map(|path| format!("{0}: others than its owner can use it; chmod 0600 {0}", path.display()));
    assert_eq!(problems(&sources), expected);
}

#[test]
fn bad_files_are_named_with_their_path() {
    let directory = directory();
    let bad = write(directory.path(), "x509ca", "zzz.pem", b"-----BEGIN RUBBISH-----", 0o644);
    let encrypted = write(directory.path(), "private", "zzz", &certificate("moon.encrypted.pem"), 0o600);
    let problems = problems(&sources(directory.path()));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with(&bad.display().to_string()), "{problems:?}");
    assert!(problems[1].starts_with(&encrypted.display().to_string()), "{problems:?}");
    assert!(problems[1].contains("encrypted"), "{problems:?}");
}

#[test]
fn a_pipe_is_no_file_and_does_not_hold_us_up() {
    let directory = directory();
    let pipe = directory.path().join("x509/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(load(&sources(directory.path())).is_ok(), "what is no file is not listed");
    let mut sources = sources(directory.path());
    sources.certificates = vec!["pipe".to_owned()];
    assert!(problems(&sources)[0].contains("is no file"));
}

#[test]
fn secrets_in_files_end_before_the_end_of_the_line() {
    let directory = directory();
    let mut sources = sources(directory.path());
    for (text, octets) in [("correct horse\n", b"correct horse".as_slice()), ("0x00ff\r\n", &[0, 255])] {
        let path = write(directory.path(), "", "a.secret", text.as_bytes(), 0o600);
        sources.secrets = vec![secret("carol@example.org", path)];
        let credentials = load(&sources).unwrap();
        let carol = Identity::parse("carol@example.org").unwrap();
        let secret = credentials.shared_secret(&Identity::Any, &carol).expect("hers");
        assert_eq!(secret.octets(), octets);
    }
    let path = write(directory.path(), "", "a.secret", b"\n", 0o600);
    sources.secrets = vec![secret("a", path)];
    assert!(problems(&sources)[0].contains("the secret is empty"));
}

#[test]
fn all_paths_are_told_to_the_fence() {
    let mut sources = sources(Path::new("/etc/baton/credentials"));
    sources.certificates = vec!["/srv/a.pem".to_owned(), "b.pem".to_owned()];
    sources.revocation_lists = vec![PathBuf::from("/srv/a.crl")];
    sources.secrets = vec![secret("a", PathBuf::from("/srv/a.secret"))];
    let paths = sources.paths();
    for path in ["/etc/baton/credentials", "/srv/a.pem", "/srv/a.crl", "/srv/a.secret"] {
        assert!(paths.contains(&PathBuf::from(path)), "{path}");
    }
}
