//! `[connections.NAME.local]` and `[connections.NAME.remote]`.

use baton_dataplane::config::reader::Section;
use baton_ike_proto::configuration::{
    EapMethod, EapUser, LocalAuthentication, LocalMethod, RemoteAuthentication, RemoteMethod, Revocation,
};
use baton_ike_proto::identity::Identity;

use super::field::{file_name, identity, list, refuse_keys, word};

const METHODS: [(&str, RemoteMethod); 5] = [
    ("pubkey", RemoteMethod::Signature),
    ("psk", RemoteMethod::PreSharedKey),
    ("eap-mschapv2", RemoteMethod::Eap(EapMethod::MsChapV2)),
    ("eap-tls", RemoteMethod::Eap(EapMethod::Tls)),
    ("eap-radius", RemoteMethod::Radius),
];
const NO_CERTIFICATES: &str = "with auth = \"psk\" there are no certificates";
const NO_CERTIFICATES_OF_USERS: &str = "with this auth there are no certificates for us to judge";
const NO_EAP: &str = "an EAP identity is only with auth = \"eap-...\"";

pub(super) fn local(section: &Section<'_, '_>) -> Option<LocalAuthentication> {
    let method = word(section, "auth", RemoteMethod::Signature, &METHODS);
    let identity = read_identity(section, "id", false);
    let user = eap_identity(section, "eap_id", false);
    let server = eap_identity(section, "aaa_id", false);
    let certificates = list(section, "certs", file_name);
    refuse_senseless(section, method, &["certs"]);
    section.finish();
    let method = match method? {
        RemoteMethod::Radius => {
            let remedy = "name the method: eap-mschapv2 or eap-tls";
            section.get("auth")?.report("RADIUS judges peers, and never us", remedy);
            return None;
        }
        RemoteMethod::PreSharedKey => LocalMethod::PreSharedKey,
        RemoteMethod::Signature => LocalMethod::Signature(certificates?),
        RemoteMethod::Eap(method) => {
            let (identity, certificates) = (user.ok()?.filter(|user| *user != Identity::Any), certificates?);
            let server = server.ok()?.filter(|server| *server != Identity::Any);
            LocalMethod::Eap(EapUser { method, identity, certificates, server })
        }
    };
    Some(LocalAuthentication { method, identity: identity? })
}

pub(super) fn remote(section: &Section<'_, '_>) -> Option<RemoteAuthentication> {
    let method = word(section, "auth", RemoteMethod::Signature, &METHODS);
    let identity = read_identity(section, "id", true);
    let user = eap_identity(section, "eap_id", true);
    let certificates = list(section, "certs", file_name);
    let authorities = list(section, "cacerts", file_name);
    let words = [("relaxed", Revocation::Relaxed), ("strict", Revocation::Strict)];
    let revocation = word(section, "revocation", Revocation::Relaxed, &words);
    refuse_senseless(section, method, &["certs", "cacerts", "revocation"]);
    section.finish();
    Some(RemoteAuthentication {
        method: method?,
        identity: identity?,
        authorities: authorities?,
        certificates: certificates?,
        revocation: revocation?,
        eap_identity: user.ok()?,
    })
}

/// What means nothing with that method is refused.
fn refuse_senseless(
    section: &Section<'_, '_>,
    method: Option<RemoteMethod>,
    of_certificates: &[&'static str],
) {
    match method {
        Some(RemoteMethod::PreSharedKey) => refuse_keys(section, of_certificates, NO_CERTIFICATES),
        Some(RemoteMethod::Eap(EapMethod::MsChapV2) | RemoteMethod::Radius) => {
            refuse_keys(section, of_certificates, NO_CERTIFICATES_OF_USERS);
            refuse_keys(section, &["aaa_id"], NO_CERTIFICATES_OF_USERS);
        }
        Some(RemoteMethod::Signature | RemoteMethod::Eap(EapMethod::Tls)) | None => {}
    }
    if let Some(RemoteMethod::PreSharedKey | RemoteMethod::Signature) = method {
        refuse_keys(section, &["eap_id", "aaa_id"], NO_EAP);
    }
}

/// What was said is wrong; it was reported.
struct Wrong;

/// `None` is: as in IKE.
fn eap_identity(
    section: &Section<'_, '_>,
    key: &'static str,
    pattern: bool,
) -> Result<Option<Identity>, Wrong> {
    let is_said = section.get(key).is_some();
    is_said.then(|| read_identity(section, key, pattern).ok_or(Wrong)).transpose()
}

fn read_identity(section: &Section<'_, '_>, key: &'static str, pattern: bool) -> Option<Identity> {
    let Some(item) = section.get(key) else { return Some(Identity::Any) };
    let identity = identity(&item.text()?)?;
    if !pattern && identity.is_pattern() && identity != Identity::Any {
        item.report("many have this identity; we are one of them", "write it without wildcards");
        return None;
    }
    Some(identity)
}
