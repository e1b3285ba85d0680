//! `[connections.NAME.local]` and `[connections.NAME.remote]`.

use baton_dataplane::config::reader::Section;
use baton_ike_proto::configuration::{
    LocalAuthentication, LocalMethod, RemoteAuthentication, RemoteMethod, Revocation,
};
use baton_ike_proto::identity::Identity;

use super::field::{file_name, identity, list, refuse_keys, word};

const METHODS: [(&str, RemoteMethod); 2] =
    [("pubkey", RemoteMethod::Signature), ("psk", RemoteMethod::PreSharedKey)];
const NO_CERTIFICATES: &str = "with auth = \"psk\" there are no certificates";

pub(super) fn local(section: &Section<'_, '_>) -> Option<LocalAuthentication> {
    let method = word(section, "auth", RemoteMethod::Signature, &METHODS);
    let identity = read_identity(section, false);
    let certificates = list(section, "certs", file_name);
    if method == Some(RemoteMethod::PreSharedKey) {
        refuse_keys(section, &["certs"], NO_CERTIFICATES);
    }
    section.finish();
    let method = match method? {
        RemoteMethod::PreSharedKey => LocalMethod::PreSharedKey,
        RemoteMethod::Signature => LocalMethod::Signature(certificates?),
    };
    Some(LocalAuthentication { method, identity: identity? })
}

pub(super) fn remote(section: &Section<'_, '_>) -> Option<RemoteAuthentication> {
    let method = word(section, "auth", RemoteMethod::Signature, &METHODS);
    let identity = read_identity(section, true);
    let certificates = list(section, "certs", file_name);
    let authorities = list(section, "cacerts", file_name);
    let words = [("relaxed", Revocation::Relaxed), ("strict", Revocation::Strict)];
    let revocation = word(section, "revocation", Revocation::Relaxed, &words);
    if method == Some(RemoteMethod::PreSharedKey) {
        refuse_keys(section, &["certs", "cacerts", "revocation"], NO_CERTIFICATES);
    }
    section.finish();
    Some(RemoteAuthentication {
        method: method?,
        identity: identity?,
        authorities: authorities?,
        certificates: certificates?,
        revocation: revocation?,
    })
}

fn read_identity(section: &Section<'_, '_>, pattern: bool) -> Option<Identity> {
    let Some(item) = section.get("id") else { return Some(Identity::Any) };
    let identity = identity(&item.text()?)?;
    if !pattern && identity.is_pattern() && identity != Identity::Any {
        item.report("many have this identity; we are one of them", "write it without wildcards");
        return None;
    }
    Some(identity)
}
